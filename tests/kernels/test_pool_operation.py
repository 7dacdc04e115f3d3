"""A pooling branch as an operation of torch: its contract, its twin, where blocks take it. Needs no Triton, no GPU."""

from __future__ import annotations

import pytest
import torch
from interpreter import INTERPRETS
from kernels.pool_cases import CASES, Case, errors
from torch.utils.flop_counter import FlopCounterMode

import metablocks as mb
from metablocks.kernels.pool_residual import elements

SMALL = """
net: classifier
image: {{size: [32, 40]}}
classes: 10
stem: {{conv_embed: {{kernel: 7, stride: 4, padding: 2}}}}
downsample: {{conv: {{kernel: 3, stride: 2, padding: 1}}}}
block: {{norm: {norm}, mixer: {{pooling: {{window: 3}}}}, mlp: {{ratio: 2, bias: {bias}}}, {more}}}
stages:
  - {{dim: 16, depth: 2}}
  - {{dim: 24, depth: 1, mixer: {{pooling: {{window: 5}}}}}}
drop_path: {drop}
head: {{norm: group_norm, pool: mean}}
"""
SCALES = "layer_scale: 0.5, res_scale: 0.8"
GROUP = "group_norm"


def network(norm=GROUP, bias="true", more=SCALES, drop=0.0, **ways):
    torch.manual_seed(0)
    model = mb.build(SMALL.format(norm=norm, bias=bias, more=more, drop=drop), **ways)
    for name, parameter in model.named_parameters():
        if "norm" in name or "scale" in name:
            torch.nn.init.normal_(parameter, 1, 0.3)
    return model


def images(dtype=torch.float32):
    return torch.linspace(-1, 1, 3 * 3 * 32 * 40, dtype=dtype).view(3, 3, 32, 40).sin()


def operations(call) -> list[str]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
        call()
    return [event.key for event in profile.key_averages() if event.key.startswith("metablocks::pool")]


@pytest.mark.parametrize("name", CASES)
def test_the_twin_is_the_plain_formula(name: str) -> None:
    found = errors(CASES[name], torch.float64)
    assert {what: error for what, error in found.items() if error > 1e-11} == {}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.skipif(INTERPRETS, reason="the interpreter has no bfloat16")
def test_the_twin_takes_half_precision(dtype: torch.dtype) -> None:
    found = errors(CASES["3, tiles of all lengths"], dtype)
    assert max(found.values()) <= (1e-2 if dtype is torch.bfloat16 else 1e-3)


@pytest.mark.parametrize("name", ["3, one channel", "wider than the map"])
def test_its_gradient_is_that_of_small_steps(name: str) -> None:
    given = CASES[name].inputs(torch.float64)
    there = [key for key, one in given.items() if one is not None]

    def call(*tensors):
        return CASES[name].fused(given | dict(zip(there, tensors, strict=True)))

    assert torch.autograd.gradcheck(call, [given[key] for key in there], fast_mode=True)


@pytest.mark.parametrize("name", ["3", "3, tiles of all lengths"])
def test_it_is_an_operation_as_torch_wants_them(name: str) -> None:
    case = CASES[name]
    given = tuple(case.inputs(torch.float32).values())
    torch.library.opcheck(torch.ops.metablocks.pool_residual, (*given, [*case.grid, case.window], 1e-5))


def test_it_costs_nothing_by_convention_and_moves_each_map_once() -> None:
    case = Case((4, 4), 8)
    with FlopCounterMode(display=False) as counter:
        case.fused(case.inputs(torch.float32))[0].sum().backward()
    assert counter.get_total_flops() == 0
    assert elements(2, 16, 8) == (2 * 256, 3 * 256)


def test_nothing_of_the_size_of_a_map_is_kept_but_what_goes_in_and_comes_out() -> None:
    case, kept = Case((6, 6), 8), []
    given = case.inputs(torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        out = case.fused(given)[0]
    maps = {one.data_ptr() for one in kept if one.numel() >= out.numel()}
    assert maps == {given["x"].data_ptr(), out.data_ptr()}


@pytest.mark.parametrize("how", ["none", "block"])
@pytest.mark.parametrize(("bias", "more"), [("true", SCALES), ("false", "dropout: 0.1"), ("true", "layer_scale: 1e-5")])
@pytest.mark.parametrize("norm", [GROUP, "{group_norm: {bias: false}}"])
def test_a_network_gives_the_same_numbers_by_both_paths(how, norm, bias, more) -> None:
    found = []
    for kernels, compiled in (("reference", "none"), ("fused", how)):
        model = network(norm, bias, more, kernels=kernels, compile=compiled, backend="aot_eager")
        with torch.inference_mode():
            found.append(model(images()))
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)
    torch._dynamo.reset()


@pytest.mark.parametrize("how", ["none", "block"])
def test_a_network_trains_alike_by_both_paths_drop_path_and_all(how) -> None:
    found = []
    for kernels, compiled in (("reference", "none"), ("fused", how)):
        model = network(drop=0.5, kernels=kernels, compile=compiled, backend="aot_eager", dtype="float64").train()
        torch.manual_seed(1)
        out = model(images(torch.float64))
        out.square().sum().backward()
        found.append([out.detach(), *(parameter.grad for parameter in model.parameters())])
    torch.testing.assert_close(*found, atol=1e-9, rtol=1e-7)
    torch._dynamo.reset()


@pytest.mark.parametrize("spec", ["poolformer_s12", "poolformerv2_s12"])
def test_a_shipped_network_gives_the_same_numbers_by_both_paths(spec: str) -> None:
    found = []
    for kernels in ("reference", "fused"):
        torch.manual_seed(0)
        model = mb.build(spec, set={"image.size": 64}, kernels=kernels)
        with torch.inference_mode():
            found.append(model(torch.ones(1, 3, 64, 64).cumsum(3) / 64))
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)


def test_a_block_is_one_graph_with_one_operation_and_stores_no_normed_map() -> None:
    graphs = []

    def backend(graph, inputs):
        from torch._functorch.aot_autograd import aot_module_simplified

        return aot_module_simplified(graph, inputs, fw_compiler=lambda made, _: graphs.append(made) or made.forward)

    model = network(kernels="fused")
    block = model.encoder.stages[0].blocks[0]
    with torch.inference_mode():
        torch.compile(block, fullgraph=True, backend=backend)(torch.randn(2, 80, 16))
    called = [str(node.target) for node in graphs[0].graph.nodes if node.op == "call_function"]
    assert sum("pool_residual" in name for name in called) == 1
    assert not any("layer_norm" in name or "avg_pool" in name or "var_mean" in name for name in called)
    torch._dynamo.reset()


def test_it_runs_on_images_of_other_sizes() -> None:
    found = []
    for kernels in ("reference", "fused"):
        with torch.inference_mode():
            found.append(network(kernels=kernels)(torch.ones(1, 3, 48, 36).cumsum(3) / 48))
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("drop", [0.0, 0.2])
def test_a_network_exports(drop) -> None:
    model = network(drop=drop, kernels="fused")
    with torch.no_grad():
        exported = torch.export.export(model, (images(),))
        torch.testing.assert_close(exported.module()(images()), model(images()), atol=1e-5, rtol=1e-5)
    assert "metablocks.pool_residual" in str(exported.graph)


@pytest.mark.parametrize(
    ("norm", "more", "training", "there"),
    [
        (GROUP, SCALES, True, True),
        (GROUP, "dropout: 0.1", False, True),
        (GROUP, "dropout: 0.1", True, False),
        (GROUP, "order: post", False, False),
        ("{group_norm: {groups: 2}}", SCALES, False, False),
        ("layer_norm", SCALES, False, False),
        ("none", SCALES, False, False),
    ],
)
def test_a_branch_takes_it_where_its_norm_is_one_number_an_image(norm, more, training, there) -> None:
    model = network(norm, more=more, kernels="fused").train(training)
    assert bool(operations(lambda: model(images()))) == there


def test_the_reference_path_does_not_take_it() -> None:
    model = network(kernels="reference")
    assert operations(lambda: model(images())) == []


class Adapted(torch.nn.Linear):
    """A layer with an adapter, which adds to what its weight gives."""

    def forward(self, x):
        return super().forward(x) + 1


@pytest.mark.parametrize("how", ["none", "block"])
def test_layers_and_hooks_that_someone_has_put_into_a_block_run(how) -> None:
    torch._dynamo.reset()
    seen, outputs = [], []
    for kernels, compiled in (("reference", "none"), ("fused", how)):
        torch.manual_seed(0)
        model = network(kernels=kernels, compile=compiled, backend="aot_eager")
        for stage in model.encoder.stages:
            for block in stage.blocks:
                block.mlp.op.fc1.__class__ = Adapted
        last = model.encoder.stages[-1].blocks[-1]
        for part in (last.mixer, last.mixer.norm, last.mlp.norm):
            part.register_forward_hook(lambda *_: seen.append(kernels))  # noqa: B023  (called in this turn)
        with torch.no_grad():
            outputs.append(model(images()))
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)
    assert seen.count("reference") == 3
    assert how == "block" or seen.count("fused") == 3
