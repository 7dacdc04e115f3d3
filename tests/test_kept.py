"""Values made of weights alone: made in every pass with gradients, once without, and again when a weight changes."""

from __future__ import annotations

import copy

import pytest
import torch

import metablocks as mb
from metablocks.core.kept import Keeping, keep

SWIN_V2 = """
net: classifier
image: {size: 16}
classes: 4
stem: {patch_embed: {patch: 4}}
block: {norm: layer_norm, order: post, mixer: {cosine_window_attention: {heads: 2, window: 2}}, mlp: {ratio: 2}}
stages: [{dim: 8, depth: 2}]
head: {pool: mean}
"""


class Doubled(Keeping):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.times = 0

    def made(self):
        self.times += 1
        return (2 * self.weight,)


@pytest.fixture
def part():
    part = Doubled().eval()
    with torch.no_grad():
        keep(part)
    return part


def values(part):
    """What a graph would take after a look at the weights."""
    with torch.no_grad():
        keep(part)
        return (part.kept or part.made())[0]


def test_without_gradients_values_are_made_once(part):
    assert values(part).tolist() == values(part).tolist() == [2, 2, 2]
    assert part.times == 1


def test_with_gradients_they_are_made_in_every_pass(part):
    keep(part)
    assert part.kept is None
    part.of_weights()[0].sum().backward()
    assert part.weight.grad.tolist() == [2, 2, 2]
    part.of_weights()
    assert part.times == 3


def test_outside_of_graphs_they_are_made_in_every_pass(part):
    with torch.no_grad():
        part.of_weights()
    assert part.times == 2


def change_in_place(part):
    with torch.no_grad():
        part.weight.mul_(3)


def step(part):
    part.weight.grad = torch.full((3,), -2.0)
    torch.optim.SGD([part.weight], 1.0).step()


def fused_step(part):
    """Which no version counter tells."""
    keep(part)
    (-part.of_weights()[0]).sum().backward()
    values(part)
    torch.optim.AdamW([part.weight], 2.0, weight_decay=0.0, fused=True).step()
    values(part)
    part.weight.grad = None


def load(part):
    part.load_state_dict({"weight": torch.full((3,), 3.0)})


def replace(part):
    part.weight = torch.nn.Parameter(torch.full((3,), 3.0))


def swap_data(part):
    part.weight.data = torch.full((3,), 3.0)


def write_to_data(part):
    part.weight.data.fill_(3)
    part.eval()


@pytest.mark.parametrize("change", [change_in_place, step, fused_step, load, replace, swap_data, write_to_data])
def test_a_changed_weight_is_seen(part, change):
    change(part)
    torch.testing.assert_close(values(part), torch.full((3,), 6.0))


def test_a_copy_has_values_of_its_own(part):
    other = copy.deepcopy(part)
    change_in_place(other)
    assert values(other).tolist() == [6, 6, 6]
    assert values(part).tolist() == [2, 2, 2]


def test_values_follow_to_another_dtype(part):
    assert values(part.double()).dtype == torch.float64


def test_values_that_autocast_has_a_say_in_are_not_kept(part):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values(part)
    assert part.kept is None


def test_they_are_no_part_of_the_state(part):
    assert set(part.state_dict()) == {"weight"}


@pytest.mark.parametrize("how", ["block", "model"])
def test_features_of_a_compiled_network_follow_its_weights(how):
    torch._dynamo.reset()
    eager, compiled = (mb.build(SWIN_V2, compile=each, backend="aot_eager") for each in ("none", how))
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        compiled(images)
        compiled.load_state_dict(eager.state_dict())
        torch.testing.assert_close(compiled.features(images), eager.features(images))


@pytest.mark.parametrize("how", ["block", "model"])
def test_a_compiled_network_follows_its_weights_without_another_graph(how):
    torch._dynamo.reset()
    eager, compiled = (mb.build(SWIN_V2, compile=each, backend="aot_eager") for each in ("none", how))
    images = torch.randn(2, 3, 16, 16)
    compiled.load_state_dict(eager.state_dict())
    with torch.no_grad():
        compiled(images)
        graphs = dict(torch._dynamo.utils.counters["stats"])
        for model in (eager, compiled):
            for weight in model.parameters():
                weight.mul_(0.9)
        torch.testing.assert_close(compiled(images), eager(images))
    assert dict(torch._dynamo.utils.counters["stats"]) == graphs
    assert any(isinstance(module, Keeping) and module.kept for module in compiled.modules())
