"""Compiling: each distinct block once, one graph, flat in depth; what differs between equal blocks is a tensor."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.utils import counters

import metablocks as mb
from metablocks.compiler import Choices, compile_network
from metablocks.nets import blocks
from metablocks.parts.stem import patchwise

FOUR_MIXERS = """
net: classifier
image: {size: [32, 64]}
classes: 10
stem: {conv_embed: {kernel: 7, stride: 4, padding: 2}}
downsample: {conv: {kernel: 3, stride: 2, padding: 1}}
block: {norm: group_norm, mlp: {ratio: 2}, layer_scale: 1e-5}
stages:
  - {dim: 8,  depth: 2, mixer: pooling}
  - {dim: 16, depth: 3, mixer: {window_attention: {window: 4, head_dim: 8, shift: half}}}
  - {dim: 24, depth: 2, mixer: spatial_mlp}
  - {dim: 32, depth: 2, mixer: {attention: {head_dim: 8}}, norm: layer_norm}
drop_path: 0.3
head: {norm: layer_norm}
"""
TILED = """
net: classifier
image: {size: 32}
classes: 10
stem: {patch_embed: {patch: 4}}
block:
  norm: layer_norm
  mixer: [pooling, {window_attention: {window: 4, heads: 2}}, {window_attention: {window: 4, heads: 2, shift: half}}]
  mlp: {ratio: 2}
stages: [{dim: 16, depth: 6}]
drop_path: 0.2
head: {pool: mean}
"""
DEEP = """
net: classifier
image: {size: 32}
classes: 10
stem: {patch_embed: {patch: 8}}
block: {norm: layer_norm, mixer: {attention: {heads: 2}}, mlp: {ratio: 2}}
stages: [{dim: 16, depth: DEPTH}]
drop_path: 0.1
head: {pool: mean}
"""
TEN_WIDTHS = DEEP.replace(
    "stages: [{dim: 16, depth: DEPTH}]",
    "downsample: {conv: {kernel: 1, stride: 1}}\nstages:\n"
    + "\n".join(f"  - {{dim: {dim}, depth: 2}}" for dim in range(4, 44, 4)),
)


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def step(model, batch=2):
    """One training step; returns the output."""
    stem = model.plan.encoder.stem
    model.train()
    out = model(torch.randn(batch, stem.channels, *stem.image))
    out.sum().backward()
    return out


def other_graphs(model) -> int:
    """Stem, downsampling and head are graphs of their own, but not on a CPU where they are few calls of a library."""
    return sum(not getattr(module, "few_calls", False) for module, _ in model.once())


@pytest.mark.parametrize("text", [FOUR_MIXERS, TILED], ids=["four mixers in four stages", "a list tiled in one stage"])
def test_there_are_as_many_block_graphs_as_distinct_blocks(text):
    model = mb.build(text, compile="block", backend="aot_eager")
    kinds = {kind for kind, _ in blocks(model)}
    step(model)
    assert graphs() - other_graphs(model) == len(kinds)
    assert not counters["graph_break"]
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("how", ["block", "model"])
@pytest.mark.parametrize("text", [FOUR_MIXERS, TILED], ids=["four mixers", "tiled"])
def test_compiled_and_eager_agree(text, how):
    torch.manual_seed(0)
    eager = mb.build(text)
    compiled = mb.build(text, eager.state_dict(), compile=how, backend="aot_eager")
    x = torch.randn(2, 3, *eager.plan.encoder.stem.image)
    torch.testing.assert_close(compiled(x), eager(x), atol=1e-5, rtol=1e-5)
    assert graphs() == 1 or how == "block"


@pytest.mark.parametrize("depth", [4, 24])
def test_the_number_of_graphs_does_not_grow_with_depth(depth):
    step(mb.build(DEEP.replace("DEPTH", str(depth)), compile="block", backend="aot_eager"))
    assert graphs() == 1


def test_ten_widths_in_one_network_compile():
    step(mb.build(TEN_WIDTHS, compile="block", backend="aot_eager"))
    assert graphs() == 10


@pytest.mark.parametrize(("device", "others"), [("cpu", 1), ("cuda", 3)])
def test_few_calls_of_a_library_are_graphs_of_their_own_on_a_gpu_alone(device, others):
    """Stem and head; patch merging, which has a product of matrices, is one anywhere."""
    stages = "downsample: patch_merging\nstages: [{dim: 8, depth: 1}, {dim: 16, depth: 1}]"
    model = mb.build(DEEP.replace("stages: [{dim: 16, depth: DEPTH}]", stages))
    compile_network(model, "block", "aot_eager", choices=Choices(device=torch.device(device)))
    step(model)
    assert graphs() == 2 + others


@pytest.mark.parametrize("how", ["none", "block", "model"])
def test_patches_are_embedded_alike_by_product_and_convolution(how):
    model = mb.build(TILED, compile=how, backend="aot_eager").double()
    images, encoder = torch.randn(2, 3, 32, 32).double(), model.encoder
    patches = patchwise(images, (4, 4)).flatten(1, 2).flatten(2)
    made = F.linear(patches, encoder.stem.proj.weight.flatten(1), encoder.stem.proj.bias)
    torch.testing.assert_close(encoder.stem(images), encoder.stem.norm(made))
    grid = encoder.plan.embedding.grid
    torch.testing.assert_close(encoder.embed(images, grid), encoder.embedding(encoder.stem.norm(made), grid))


def test_batch_sizes_up_to_the_recompile_limit_do_not_take_the_budget_of_other_blocks():
    model = mb.build(TILED, compile="block", backend="aot_eager")
    with torch.no_grad():
        for batch in range(1, 7):
            assert model(torch.randn(batch, 3, 32, 32)).shape == (batch, 10)


def test_inductor_runs_the_mixed_network_forward_and_backward():
    torch.manual_seed(0)
    eager = mb.build(FOUR_MIXERS)
    compiled = mb.build(FOUR_MIXERS, eager.state_dict(), compile="block")
    x = torch.randn(2, 3, 32, 64)
    torch.testing.assert_close(compiled(x), eager(x), atol=1e-4, rtol=1e-4)
    step(compiled)
    assert all(p.grad is not None for p in compiled.parameters())


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    from metablocks.parts.block import drop_path

    torch.manual_seed(0)
    x = torch.ones(20000, 2, 3)
    y = drop_path(x, torch.tensor(0.25))
    assert set(y.unique().tolist()) == {0.0, float(torch.tensor(1 / 0.75))}
    assert (y == y[:, :1, :1]).all()
    assert abs(y.mean() - 1) < 0.02
    assert (drop_path(x, torch.tensor(0.0)) == x).all()
