"""Window attention as an operation of torch: its contract, its twin, its cost. Needs no Triton and no GPU."""

from __future__ import annotations

import pytest
import torch
from interpreter import INTERPRETS
from kernels.window_cases import CASES, NAMES, Case, errors
from torch.utils.flop_counter import FlopCounterMode

import metablocks as mb
from metablocks import mixers
from metablocks.core.grid import Grid
from metablocks.costs.run import count_module
from metablocks.kernels import choice
from metablocks.kernels.window_attention import window_attention
from metablocks.kernels.window_layout import Windows, elements, fits

SMALL = Case(Windows(2, (5, 6), (3, 2), (1, 1), (3, 2)), head_dim=4, fill=True)
GRIDS = [
    ("window_attention", {"window": 3, "heads": 2}, Grid(6, 9)),
    ("window_attention", {"window": [3, 2], "heads": 2, "shift": "half"}, Grid(6, 4)),
    ("window_attention", {"window": 4, "heads": 2, "shift": "half", "pad": True}, Grid(6, 9)),
    ("window_attention", {"window": 4, "heads": 2, "shift": "half", "pad": True, "qkv_bias": False}, Grid(6, 5)),
    ("cosine_window_attention", {"window": 4, "heads": 2, "shift": "half", "pretrained_window": 8}, Grid(8, 8)),
    ("cosine_window_attention", {"window": 4, "heads": 2, "shift": "half", "pad": True}, Grid(6, 9)),
    ("cosine_window_attention", {"window": 3, "heads": 2, "pad": True, "qkv_bias": False}, Grid(4, 5)),
]
every_grid = pytest.mark.parametrize(("name", "settings", "grid"), GRIDS, ids=[str(i) for i in range(len(GRIDS))])


def build(name, settings, grid, dtype=torch.float64, dim=16):
    found = mixers.find(name)
    torch.manual_seed(0)
    mixer = found.module(found.settings.model_validate(settings).resolve(dim, grid))
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return mixer.to(dtype)


def both(mixer, grid, x, monkeypatch):
    """Output, and gradients of the input and of every parameter, by the readable path and by the operation."""
    monkeypatch.setattr("metablocks.parts.windowed.fits", lambda *_: True)  # float64 too, for the twin
    found = []
    for fused in (False, True):
        mixer.fused = fused
        out = mixer(x, grid)
        found.append([out, *torch.autograd.grad((out * x).sum(), [x, *mixer.parameters()])])
    return found


@every_grid
def test_a_mixer_gives_the_same_numbers_and_gradients_by_both_paths(name, settings, grid, monkeypatch):
    x = torch.randn(2, grid.tokens, 16, dtype=torch.float64, requires_grad=True)
    reference, fused = both(build(name, settings, grid), grid, x, monkeypatch)
    torch.testing.assert_close(fused, reference, atol=1e-10, rtol=1e-8)


def test_a_mixer_gives_the_same_numbers_on_another_grid(monkeypatch):
    mixer, grid = (
        build("window_attention", {"window": 4, "heads": 2, "shift": "half", "pad": True}, Grid(8, 8)),
        Grid(3, 9),
    )
    x = torch.randn(2, grid.tokens, 16, dtype=torch.float64, requires_grad=True)
    reference, fused = both(mixer, grid, x, monkeypatch)
    torch.testing.assert_close(fused, reference, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("name", ["7, shifted, padded", "8, cosine, padded, qkv without bias"])
def test_it_is_an_operation_as_torch_wants_them(name: str) -> None:
    inputs, _ = CASES[name].inputs(torch.float32)
    given = [None if inputs[one] is None else inputs[one].requires_grad_() for one in NAMES]
    torch.library.opcheck(torch.ops.metablocks.window_attention, (*given, CASES[name].windows.packed(), 0.3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["7, shifted, padded", "8, shifted, cosine"])
@pytest.mark.skipif(INTERPRETS, reason="the interpreter has no bfloat16")
def test_the_twin_takes_half_precision(name: str, dtype: torch.dtype) -> None:
    found = errors(CASES[name], dtype)
    assert max(found.values()) <= (1e-2 if dtype is torch.bfloat16 else 1e-3)


def test_its_gradient_is_that_of_small_steps() -> None:
    inputs, _ = SMALL.inputs(torch.float64)
    given = [inputs[name].requires_grad_() for name in ("qkv", "table", "fill")]

    def call(qkv, table, fill):
        return window_attention(qkv, table, SMALL.windows, 0.5, fill)

    assert torch.autograd.gradcheck(call, given, fast_mode=True)


@every_grid
def test_a_fused_mixer_compiles_to_one_graph_with_one_operation(name, settings, grid):
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    mixer = build(name, settings, grid, torch.float32)
    mixer.fused = True
    x = torch.randn(2, grid.tokens, 16)
    torch.testing.assert_close(torch.compile(mixer, fullgraph=True, backend=backend)(x, grid), mixer(x, grid))
    operations = [str(node.target) for node in graphs[0].graph.nodes]
    assert sum("window_attention" in operation for operation in operations) == 1
    assert not any("roll" in operation or "index" in operation for operation in operations)
    torch._dynamo.reset()


class _OnGrid(torch.nn.Module):
    def __init__(self, mixer, grid):
        super().__init__()
        self.mixer, self.grid = mixer, grid

    def forward(self, x):
        return self.mixer(x, self.grid)


@every_grid
def test_a_fused_mixer_exports(name, settings, grid):
    module = _OnGrid(build(name, settings, grid, torch.float32), grid)
    module.mixer.fused = True
    x = torch.randn(2, grid.tokens, 16)
    with torch.no_grad():
        exported = torch.export.export(module, (x,))
        torch.testing.assert_close(exported.module()(x), module(x))
    assert "metablocks.window_attention" in str(exported.graph)


@pytest.mark.parametrize(("name", "settings", "grid"), [GRIDS[1], GRIDS[4]], ids=["plain", "cosine"])
def test_both_paths_cost_the_same(name, settings, grid):
    with torch.device("meta"):
        mixer, x = build(name, settings, grid).to("meta", torch.float32), torch.empty(1, grid.tokens, 16)
    counted, ours = [], []
    for fused in (False, True):
        mixer.fused = fused
        with FlopCounterMode(display=False) as counter:
            mixer(x, grid)
        counted.append(counter.get_total_flops())
        ours.append(count_module(_OnGrid(mixer, grid), [x]))
    assert counted[0] == counted[1] > 0
    assert ours[0].macs == ours[1].macs == counted[0] // 2
    assert ours[1].unknown == ()


def test_the_backward_pass_has_five_products_where_the_forward_pass_has_two() -> None:
    inputs, grad = SMALL.inputs(torch.float32)
    qkv = inputs["qkv"].requires_grad_()
    with FlopCounterMode(display=False) as counter:
        out = window_attention(qkv, inputs["table"], SMALL.windows)
        ahead = counter.get_total_flops()
        out.backward(grad)
    assert counter.get_total_flops() - ahead == ahead * 5 // 2


def test_only_what_the_operation_took_is_kept_for_the_backward_pass() -> None:
    kept = []
    inputs, _ = SMALL.inputs(torch.float32)
    qkv = inputs["qkv"].requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.shape) or one, lambda one: one):
        window_attention(qkv, inputs["table"], SMALL.windows)
    assert sorted(kept, key=len) == [inputs["table"].shape, qkv.shape]


def test_a_window_of_one_tile_is_read_and_written_once() -> None:
    windows = Windows(3, (56, 56), (7, 7), (3, 3), (7, 7))
    assert elements(windows, 2, 96) == (4 * 2 * 56 * 56 * 96, 7 * 2 * 56 * 56 * 96)


@pytest.mark.parametrize(
    ("window", "dtype", "head_dim", "there"),
    [
        ((7, 7), torch.bfloat16, 32, True),
        ((16, 16), torch.float16, 16, True),
        ((24, 24), torch.bfloat16, 32, True),
        ((25, 25), torch.bfloat16, 32, False),
        ((7, 7), torch.bfloat16, 64, False),
        ((7, 7), torch.float64, 32, False),
    ],
)
def test_there_are_kernels_for_windows_up_to_576_tokens_and_heads_up_to_32_channels(
    window, dtype, head_dim, there
) -> None:
    assert fits(Windows(3, (48, 48), window, (0, 0), window), dtype, head_dim) == there


def test_a_cpu_takes_what_torch_has_unless_told() -> None:
    assert choice.chosen(torch.device("cpu")) == "reference"


@pytest.mark.parametrize(("spec", "size"), [("swin_t", 224), ("swinv2_t_w8", 64)])
def test_a_network_gives_the_same_numbers_by_both_paths(spec: str, size: int) -> None:
    found = []
    for kernels in ("reference", "fused"):
        torch.manual_seed(0)
        model = mb.build(spec, set={"image.size": size}, kernels=kernels)
        assert {module.fused for module in model.modules() if hasattr(module, "fused")} == {kernels == "fused"}
        with torch.inference_mode():
            found.append(model(torch.ones(1, 3, size, size).cumsum(3) / size))
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)


PADDED = """
net: classifier
image: {size: [32, 40]}
classes: 10
stem: {patch_embed: {patch: 4}}
downsample: patch_merging
block: {norm: layer_norm, mlp: {ratio: 2}}
stages:
  - {dim: 16, depth: 2, mixer: {window_attention: {window: 4, head_dim: 8, shift: half, pad: true}}}
  - {dim: 32, depth: 2, mixer: {cosine_window_attention: {window: 4, head_dim: 8, shift: half, pad: true}}}
head: {norm: layer_norm}
"""


def test_a_compiled_network_trains_alike_by_both_paths() -> None:
    found = []
    for kernels, how in (("reference", "none"), ("fused", "block")):
        torch.manual_seed(0)
        model = mb.build(PADDED, kernels=kernels, compile=how, backend="aot_eager").train()
        out = model(torch.linspace(-1, 1, 2 * 3 * 32 * 40).view(2, 3, 32, 40))
        out.square().sum().backward()
        found.append([out.detach(), *(parameter.grad for parameter in model.parameters())])
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)
    torch._dynamo.reset()
