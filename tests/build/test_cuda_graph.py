"""A forward pass as one CUDA graph: one capture for each shape, nothing where gradients are kept, refused on a CPU."""

from __future__ import annotations

import copy

import pytest
import torch

import metablocks as mb
from metablocks.core.kept import Keeping
from metablocks.cuda_graph import Capture, replay_forward
from tests.build.test_build import DROP, TINY


class Doubled(Keeping):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def made(self):
        return (2 * self.weight,)


@pytest.fixture
def replayed():
    """An ordinary network whose captures are eager calls into kept outputs, as a graph writes them; and the captures"""
    made = []

    def capture(forward, inputs):
        static = tuple(one.clone() for one in inputs)
        outputs = forward(*static)

        def replay():
            outputs.copy_(forward(*static))

        made.append(Capture(replay, static, outputs))
        return made[-1]

    torch.manual_seed(0)
    plain, graphed = mb.build(TINY), mb.build(TINY)
    graphed.load_state_dict(plain.state_dict())
    graphed.head.besides = Doubled()  # as Swin V2 has in each block
    replay_forward(graphed, capture)
    return plain, graphed, made


def images(batch: int) -> torch.Tensor:
    return torch.randn(batch, 3, 32, 32)


def test_a_replay_gives_what_the_network_gives_for_each_shape_of_inputs(replayed):
    plain, graphed, made = replayed
    given = [images(1), images(1), images(2)]
    with torch.no_grad():
        outputs = [graphed(x) for x in given]
        for x, output in zip(given, outputs, strict=True):
            torch.testing.assert_close(output, plain(x))
    assert len(made) == 2


def test_nothing_is_captured_where_gradients_are_kept(replayed):
    plain, graphed, made = replayed
    x = images(2)
    graphed(x).sum().backward()
    plain(x).sum().backward()
    for name, weight in plain.named_parameters():
        torch.testing.assert_close(graphed.get_parameter(name).grad, weight.grad)
    assert not made


def test_what_is_made_of_weights_that_changed_is_captured_again(replayed):
    _, graphed, made = replayed
    with torch.no_grad():
        for factor in (1, None, 2):
            if factor:
                graphed.head.besides.weight.mul_(factor)
            graphed(images(1))
    assert len(made) == 2


def test_weights_that_are_replaced_are_captured_again(replayed):
    _, graphed, made = replayed
    plain = mb.build(TINY)
    x = images(1)
    with torch.no_grad():
        graphed(x)
        graphed.load_state_dict({**graphed.state_dict(), **plain.state_dict()}, assign=True)
        torch.testing.assert_close(graphed(x), plain(x))
    assert len(made) == 2


def test_a_copy_replays_its_own_weights(replayed):
    plain, graphed, made = replayed
    x = images(1)
    with torch.no_grad():
        graphed(x)
        other = copy.deepcopy(graphed)
        for weight in other.parameters():
            weight.mul_(0.5)
        torch.testing.assert_close(graphed(x), plain(x))
        assert not torch.allclose(other(x), graphed(x))
    assert len(made) == 2


def test_a_call_with_named_arguments_is_not_captured(replayed):
    plain, graphed, made = replayed
    x = images(2)
    with torch.no_grad():
        torch.testing.assert_close(graphed(images=x), plain(x))
    assert not made


def test_a_cpu_has_no_cuda_graphs():
    with pytest.raises(mb.InputError, match="a CUDA graph on the device `cpu`"):
        mb.build(TINY, cuda_graph=True)


@pytest.mark.gpu
@pytest.mark.parametrize("how", ["none", "block"])
@pytest.mark.parametrize("text", [TINY, DROP], ids=["classifier", "masked autoencoder"])
def test_a_graph_gives_what_its_network_gives(text, how):
    torch.manual_seed(0)
    plain = mb.build(text, device="cuda")
    graphed = mb.build(text, plain.state_dict(), device="cuda", compile=how, cuda_graph=True)
    stem = plain.plan.encoder.stem
    for batch in (1, 1, 3):
        x = [torch.randn(batch, stem.channels, *stem.image, device="cuda")]
        x += [torch.rand(batch, 32, device="cuda")] if text == DROP else []
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                torch.testing.assert_close(graphed(*x), plain(*x), atol=1e-5, rtol=1e-5)
