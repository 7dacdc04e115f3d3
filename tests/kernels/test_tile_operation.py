"""Attention in one tile as an operation of torch: its contract, its twin, its cost. Needs no Triton and no GPU."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from interpreter import INTERPRETS
from kernels.tile_cases import CASES, inputs
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from metablocks import mixers
from metablocks.core.grid import Grid
from metablocks.costs.run import count_module
from metablocks.kernels import attention, tile_twin
from metablocks.kernels.tile_attention import tile_attention

HALVES = [torch.float16] if INTERPRETS else [torch.float16, torch.bfloat16]


def by_torch(packed: torch.Tensor, scale: float) -> torch.Tensor:
    query, key, value = packed.permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(query, key, value, scale=scale).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("name", CASES)
def test_the_twin_is_the_attention_of_torch_with_its_gradient(name: str) -> None:
    packed, grad, scale = inputs(CASES[name], torch.float64)
    found = []
    for attend in (tile_attention, tile_twin.attention, by_torch):
        out = attend(packed.requires_grad_(), scale)
        found.append([out, torch.autograd.grad(out, packed, grad)[0]])
    torch.testing.assert_close(found[0], found[2], atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(found[1], found[2], atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_is_as_close_to_double_as_it_can_be(dtype: torch.dtype) -> None:
    packed, grad, scale = inputs(CASES["CAFormer's last stage"], dtype)
    found = []
    for given, above in ((packed, grad), (packed.double(), grad.double())):
        out = tile_attention(given.requires_grad_(), scale)
        found.append([one.double() for one in (out, torch.autograd.grad(out, given, above)[0])])
    limit = 2 * torch.finfo(dtype).eps
    for one, exact in zip(*found, strict=True):
        assert (one - exact).norm() / exact.norm() <= limit


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(2, 5, 2, 4), (1, 3, 1, 1)], ids=str)
def test_it_is_an_operation_as_torch_wants_them(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    packed, _, scale = inputs(shape, dtype)
    torch.library.opcheck(torch.ops.metablocks.tile_attention, (packed.requires_grad_(), scale))


def test_its_gradient_is_that_of_small_steps() -> None:
    packed, _, scale = inputs((2, 5, 2, 3), torch.float64)
    assert torch.autograd.gradcheck(lambda given: tile_attention(given, scale), packed.requires_grad_())


def test_packed_tokens_may_lie_in_any_way() -> None:
    packed, grad, scale = inputs((2, 7, 2, 16), torch.float16)
    moved = packed.transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    out = tile_attention(moved, scale)
    torch.testing.assert_close(out, tile_attention(packed, scale))
    above = grad.transpose(0, 1).contiguous().transpose(0, 1)
    (made,) = torch.autograd.grad(out, moved, above)
    out = tile_attention(packed.requires_grad_(), scale)
    torch.testing.assert_close(made, torch.autograd.grad(out, packed, grad)[0])


def test_it_compiles_to_one_graph_with_one_operation_and_keeps_what_it_took() -> None:
    graphs, kept = [], []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    packed, _, scale = inputs((2, 9, 2, 8), torch.float32)
    compiled = torch.compile(tile_attention, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(packed, scale), tile_twin.attention(packed, scale))
    calls = [str(node.target) for node in graphs[0].graph.nodes if node.op.startswith("call")]
    assert len(calls) == 1
    assert "tile_attention" in calls[0]
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.shape) or one, lambda one: one):
        tile_attention(packed.requires_grad_(), scale)
    assert kept == [packed.shape]
    torch._dynamo.reset()


def test_it_costs_what_the_attention_of_torch_costs_in_both_passes() -> None:
    packed, grad, scale = inputs((2, 50, 3, 16), torch.float32)
    counted = []
    for attend in (tile_attention, by_torch):
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            out = attend(packed.requires_grad_(), scale)
            forward = counter.get_total_flops()
            out.backward(grad)
        counted.append((forward, counter.get_total_flops() - forward))
    (ours, ours_backward), (torchs, torchs_backward) = counted
    assert ours == torchs == 2 * 2 * 2 * 3 * 50 * 50 * 16
    # plain products keep the scores, which fused ones compute again: five where there were four
    assert (ours_backward, torchs_backward) == (ours * 5 // 2, ours * 2)


class _Alone(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        found = mixers.find("attention")
        self.grid = Grid(7, 7, prefix=1)
        with torch.device("meta"):
            self.mixer = found.module(found.settings(head_dim=64).resolve(768, self.grid))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mixer(x, self.grid)


def test_a_mixer_that_takes_it_costs_what_the_plan_counts(monkeypatch) -> None:
    x, shapes = torch.empty(1, 50, 768, device="meta"), []
    plan = count_module(_Alone(), [x])
    monkeypatch.setattr(attention, "DEVICES", ("meta",))
    monkeypatch.setattr(attention, "best", lambda shape, *_: shapes.append(shape) or attention.TILE)
    assert count_module(_Alone(), [x]) == plan
    assert shapes == [(1, 50, 3, 12, 64)]
    assert plan.macs == 4 * 50 * 768 * 768 + 2 * 50 * 50 * 768


@pytest.mark.parametrize(
    ("tokens", "width", "dtype", "there"),
    [
        (50, 64, torch.bfloat16, True),
        (1, 1, torch.float16, True),
        (128, 64, torch.bfloat16, True),
        (129, 16, torch.bfloat16, False),
        (64, 128, torch.bfloat16, True),
        (65, 80, torch.bfloat16, False),
        (16, 129, torch.bfloat16, False),
        (50, 64, torch.float32, False),
    ],
)
def test_there_are_kernels_for_short_sequences_in_half_precision(tokens, width, dtype, there) -> None:
    assert tile_twin.fits(tokens, width, dtype) == there


def test_the_backward_pass_moves_seven_maps_where_the_forward_pass_moves_four() -> None:
    assert tile_twin.elements(2, 50, 768) == (4 * 2 * 50 * 768, 7 * 2 * 50 * 768)
