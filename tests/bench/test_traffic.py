"""What is counted: elements that can be told by hand, weights apart, every call of a graph, what autograd keeps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metablocks.bench.subject import Subject
from metablocks.bench.traffic import BATCH, traffic
from metablocks.bench.traffic.count import Moved, moved
from metablocks.core.errors import MetablocksError

from .conftest import SPEC, case

N, C = 16, 24
PASS = N * C
Function = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """A function of (B, 16, 24), and weights for it."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.wide, self.narrow, self.norm = nn.Linear(C, 4 * C), nn.Linear(4 * C, C), nn.LayerNorm(C)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def count(function: Function, mode: str = "infer", compiled: bool = True) -> Moved:
    net = Net(function)

    def prepare(backend) -> None:
        if compiled:
            net.compile(backend=backend, fullgraph=True, dynamic=False)

    return moved(net, [torch.empty(BATCH, N, C)], mode, prepare)


def passes(function: Function, **how) -> float:
    return count(function, **how).elements / PASS


def mlp(net: Net, x: Tensor) -> Tensor:
    return x + net.narrow(F.gelu(net.wide(net.norm(x))))


def test_a_compiled_mlp_moves_what_can_be_told_by_hand() -> None:
    # norm 1 + 1, product 1 + 4, activation 4 + 4, product 4 + 1, residual 1 + 1 + 1
    found = count(mlp)
    assert found.elements == 23 * PASS
    assert found.bytes == 4 * found.elements
    assert (found.fused, found.extern, found.eager) == (3, 2, 0)
    assert sum(row.elements for row in found.rows) == found.elements


def test_every_operation_of_an_eager_mlp_is_a_kernel() -> None:
    found = count(mlp, compiled=False)
    assert (found.fused, found.extern, found.eager) == (0, 0, 5)
    assert found.elements == pytest.approx(
        (2 + 5 + 8 + 5 + 3) * PASS, rel=0.01
    )  # and a mean and a scale for each token


def test_weights_are_counted_once_a_batch() -> None:
    weights = 2 * 4 * C * C + 4 * C + C + 2 * C
    assert count(mlp).fixed == weights


def test_a_slice_is_read_as_far_as_it_reaches_and_a_repetition_once() -> None:
    assert passes(lambda net, x: (x[:, :4] * 2).contiguous()) == 2 * 4 / N  # noqa: ARG005
    assert passes(lambda net, x: x[:, :1].expand(-1, N, -1) * 2) == 1 + 1 / N  # noqa: ARG005
    assert passes(lambda net, x: x.roll(3, 1) * 2) == 2  # noqa: ARG005


def test_what_only_the_kernel_itself_reads_is_not_moved() -> None:
    assert passes(lambda net, x: (x.exp() + 1).log() * x.sin()) == 2  # noqa: ARG005


def test_attention_is_one_kernel_and_its_scores_do_not_move() -> None:
    def attend(net: Net, x: Tensor) -> Tensor:
        query, key, value = net.wide(x)[..., : 3 * C].unflatten(-1, (3, 3, C // 3)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)

    found = count(attend)
    assert (found.fused, found.extern) == (0, 2)
    assert found.elements == (1 + 4 + 3 + 1) * PASS


def test_training_moves_the_backward_pass_too_and_keeps_what_it_needs() -> None:
    forward, eager, step = count(mlp), count(mlp, "train", compiled=False), count(mlp, "train")
    assert step.elements > 2 * forward.elements
    assert forward.saved_elements is None
    # input of the norm, its output, input and output of the activation; with a mean and a scale for each token
    assert eager.saved_elements == (1 + 1 + 4 + 4) * PASS + 2 * N
    assert step.saved_elements is not None
    assert step.saved_elements <= eager.saved_elements


def test_a_loss_is_not_part_of_what_is_kept() -> None:
    assert count(lambda net, x: net.wide(x), "train", compiled=False).saved_elements == PASS


@pytest.fixture
def operation() -> Iterator[str]:
    library = torch.library.Library("traffics", "DEF")
    library.define("mix(Tensor x, Tensor weight) -> (Tensor, Tensor)")
    library.impl("mix", lambda x, weight: (torch.empty_like(x), x.new_empty(x.shape[:2])), "Meta")  # noqa: ARG005
    yield "mix"
    library._destroy()


@pytest.mark.parametrize("compiled", [True, False])
def test_a_registered_operation_reads_its_operands_and_writes_its_results(operation: str, compiled: bool) -> None:
    mix = getattr(torch.ops.traffics, operation)
    found = count(lambda net, x: mix(x, net.norm.weight)[0] * 2, compiled=compiled)
    assert found.kernels == 2
    written = 0 if compiled else N  # a result that nobody reads is seen where a graph is
    assert found.elements == 2 * PASS + written + 2 * PASS


def test_each_call_of_a_graph_counts() -> None:
    one, two, three = (kernels(depth) for depth in (1, 2, 3))
    assert one < two
    assert three - two == two - one


def kernels(depth: int) -> int:
    """Of a network whose blocks share one graph."""
    made = {**SPEC, "stages": [{"dim": 8, "depth": depth}]}
    found = traffic(replace(case(compile="block"), subject=Subject("spec", "tiny", "", json.dumps(made))))
    assert found.moved is not None, found.failed
    assert found.blocks == depth
    return found.moved.kernels


def test_a_drop_path_of_someone_else_draws_its_numbers_on_the_gpu() -> None:
    def drop(net: Net, x: Tensor) -> Tensor:
        return x + net.narrow(net.wide(x)) * x.new_empty((BATCH, 1, 1)).bernoulli_(0.9)

    found = count(drop, "train")
    assert "bernoulli" not in " ".join(row.name for row in found.rows)
    assert found.elements > 0


def test_a_weight_that_looks_like_an_activation_is_told() -> None:
    net = nn.Linear(BATCH, 2)
    with pytest.raises(MetablocksError, match=f"`weight` has 502 elements, a multiple of {BATCH}"):
        moved(net, [torch.empty(BATCH, BATCH)], "infer", lambda backend: None)  # noqa: ARG005


def test_afterwards_torch_is_as_it_was() -> None:
    before = (torch.cuda.device_count(), F.scaled_dot_product_attention, Tensor.copy_)
    count(mlp)
    assert before == (torch.cuda.device_count(), F.scaled_dot_product_attention, Tensor.copy_)
    net = Net(mlp)
    compiled = torch.compile(net, backend="aot_eager")
    x = torch.randn(2, N, C)
    torch.testing.assert_close(compiled(x), net(x))
    torch._dynamo.reset()


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["infer", "train"])
def test_a_gpu_that_is_there_gets_as_many_kernels(mode: str) -> None:
    from torch._inductor import metrics

    counted = count(mlp, mode)
    torch._dynamo.reset()
    metrics.reset()
    net = Net(mlp).cuda()
    x = torch.randn(BATCH, N, C, device="cuda")
    with torch.set_grad_enabled(mode == "train"), torch._inductor.config.patch(force_disable_caches=True):
        output = torch.compile(net, fullgraph=True, dynamic=False)(x)
        if mode == "train":
            output.square().mean().backward()
    assert metrics.generated_kernel_count == counted.fused


def test_a_subject_that_fails_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    found = traffic(case("raise", compile="none"))
    assert found.moved is None
    assert found.failed is not None
    assert "this subject" in found.failed
    assert capsys.readouterr().err == ""


WINDOWED = """
net: classifier
image: {size: [32, 64]}
classes: 10
stem: {patch_embed: {patch: 4, norm: layer_norm}}
block: {norm: layer_norm, mlp: {ratio: 2}}
stages: [{dim: 16, depth: 2, mixer: [{window_attention: {window: 4, heads: 2, shift: half}}]}]
head: {norm: layer_norm}
"""


@pytest.mark.parametrize("kernels", ["fused", "reference"])
def test_fused_window_attention_moves_what_its_kernels_say(kernels: str, tmp_path) -> None:
    from metablocks.bench.conditions import Conditions
    from metablocks.bench.suite import Wanted, subjects
    from metablocks.kernels.window_layout import Windows, elements

    path = tmp_path / "windowed.yaml"
    path.write_text(WINDOWED)
    (subject,) = subjects([Wanted(str(path))], Conditions(), (), ())
    found = traffic(replace(case(), subject=subject, compile="block", kernels=kernels))
    assert found.failed is None
    rows = [row for row in found.moved.rows if "window_attention" in row.name]
    said = elements(Windows(2, (8, 16), (4, 4), (2, 2), (4, 4)), 1, 16)[0]
    assert [(row.kind, row.times, row.elements) for row in rows] == (
        [("extern", 2, 2 * said)] if kernels == "fused" else []
    )
