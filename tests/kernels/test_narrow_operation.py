"""A channel-MLP branch as an operation of torch: its contract, its twin, where blocks take it. No Triton, no GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from interpreter import INTERPRETS
from kernels.narrow_cases import CASES, STAR, Case, errors, run
from torch.utils.flop_counter import FlopCounterMode

import metablocks as mb
from metablocks.kernels.narrow_twin import elements, fits

SPEC = """
net: classifier
image: {{size: 32}}
classes: 10
stem: {{patch_embed: {{patch: 4}}}}
downsample: {{conv: {{kernel: 3, stride: 2, padding: 1}}}}
block: {{norm: {norm}, mixer: {mixer}, mlp: {{ratio: 4, {mlp}}}, {more}}}
stages:
  - {{dim: 16, depth: 2}}
  - {{dim: 136, depth: 1}}
drop_path: {drop}
head: {{norm: layer_norm, pool: mean}}
"""
SWIN = {"norm": "layer_norm", "mixer": "{window_attention: {window: 4, head_dim: 8}}"}
CAFORMER = {"norm": "{layer_norm: {bias: false}}", "mixer": "{attention: {head_dim: 8}}",
            "mlp": "activation: star_relu, bias: false", "more": "res_scale: 0.9"}  # fmt: skip
POOLFORMER = {"norm": "group_norm", "mixer": "pooling", "more": "layer_scale: 0.5"}
NETWORKS = {"swin": SWIN, "caformer": CAFORMER, "poolformer": POOLFORMER}


def network(norm="layer_norm", mixer="pooling", mlp="bias: true", more="order: pre", drop=0.0, **ways):
    torch.manual_seed(0)
    model = mb.build(SPEC.format(norm=norm, mixer=mixer, mlp=mlp, more=more, drop=drop), **ways)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1 and "bias" not in name:
            torch.nn.init.normal_(parameter, 1, 0.3)
    return model


def images(count=3, dtype=torch.float32):
    return torch.linspace(-1, 1, count * 3 * 32 * 32, dtype=dtype).view(count, 3, 32, 32).mul(7).sin()


def taken(model, x=None) -> int:
    """How often the operation runs, in a second call: in the first it may be tried."""
    x = images() if x is None else x
    model(x)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
        model(x)
    return sum(event.count for event in profile.key_averages() if event.key == "metablocks::narrow_mlp")


@pytest.mark.parametrize("name", CASES)
def test_the_twin_is_the_modules(name: str) -> None:
    found = errors(CASES[name], torch.float64)
    assert {what: error for what, error in found.items() if error > 1e-12} == {}


@pytest.mark.skipif(INTERPRETS, reason="the interpreter has no bfloat16")
@pytest.mark.parametrize("name", ["Swin-T", "CAFormer", "PoolFormer"])
def test_the_twin_takes_bfloat16(name: str) -> None:
    assert max(errors(CASES[name], torch.bfloat16).values()) <= 1e-2


@pytest.mark.parametrize("name", ["all scales", "squared ReLU, no bias", "one token"])
def test_its_gradient_is_that_of_small_steps(name: str) -> None:
    branch, given = CASES[name].branch(torch.float64).eval(), CASES[name].inputs(torch.float64)

    def call(x, *known):
        return branch.taken_in(x, known=known or None)[0]

    assert torch.autograd.gradcheck(call, given, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["all scales", "squared ReLU, no bias"])
def test_it_is_an_operation_as_torch_wants_them(name: str, dtype: torch.dtype, monkeypatch) -> None:
    branch, given = CASES[name].branch(dtype), CASES[name].inputs(dtype)
    seen = []
    monkeypatch.setattr("metablocks.kernels.narrow_mlp._branch", lambda *given: seen.append(given) or given[0])
    branch.taken_in(given[0], known=tuple(given[1:]) or None)
    made = [one.detach().requires_grad_(one.is_floating_point()) if torch.is_tensor(one) else one for one in seen[0]]
    if made[7] is not None:
        made[7].requires_grad_(False)  # drop path has no gradient
    torch.library.opcheck(torch.ops.metablocks.narrow_mlp, tuple(made), atol=2e-3, rtol=2e-3)


def test_it_costs_what_the_two_layers_cost_and_computes_the_hidden_one_twice_again() -> None:
    case, counted = CASES["Swin-T"], []
    for whole in (True, False):
        branch, (x,) = case.branch(torch.float32), case.inputs(torch.float32)
        with FlopCounterMode(display=False) as counter:
            out = branch.taken_in(x)[0] if whole else branch(x)
            forward = counter.get_total_flops()
            out.sum().backward()
        counted.append((forward, counter.get_total_flops() - forward))
    product = 2 * 2 * 9 * 96 * 384
    assert counted == [(2 * product, 7 * product), (2 * product, 4 * product)]


def test_it_moves_tokens_once_forwards_and_five_maps_backwards() -> None:
    assert elements(2, 9, 96) == (2 * 2 * 9 * 96, 5 * 2 * 9 * 96)


@pytest.mark.parametrize(
    ("width", "hidden", "there"),
    [(96, 384, True), (128, 512, True), (136, 544, False), (64, 200, False), (20, 64, False)],
)
def test_there_are_kernels_for_narrow_tokens(width: int, hidden: int, there: bool) -> None:
    assert fits(width, hidden) == there


@pytest.mark.parametrize("name", ["Swin-T", "PoolFormer"])
def test_of_the_size_of_a_map_only_the_tokens_are_kept(name: str) -> None:
    case, kept = replace(CASES[name], tokens=200, images=3), []
    branch, given = case.branch(torch.float32), case.inputs(torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        branch.taken_in(given[0], known=tuple(given[1:]) or None)
    assert {one.data_ptr() for one in kept if one.numel() >= given[0].numel()} == {given[0].data_ptr()}


def test_layers_that_train_no_more_have_no_gradients_made() -> None:
    case = replace(CASES["Swin-T"], drops=False)
    branch, (x,) = case.branch(torch.float32), case.inputs(torch.float32)
    goal = run(branch, [x], whole=True)["x"]
    branch.requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        out = branch.taken_in(x)[0]
        forward = counter.get_total_flops()
        above = torch.randn(out.shape, generator=torch.Generator().manual_seed(5))
        torch.testing.assert_close(torch.autograd.grad(out, x, above)[0], goal)
    assert counter.get_total_flops() - forward == forward // 2 * 3


@pytest.mark.parametrize("how", ["none", "block", "model"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_gives_the_same_numbers_by_both_paths(name: str, how: str) -> None:
    found, states = [], []
    for kernels, compiled in (("reference", "none"), ("fused", how)):
        model = network(**NETWORKS[name], kernels=kernels, compile=compiled, backend="aot_eager").train()
        out = model(images())
        out.square().sum().backward()
        found.append([out.detach(), *(parameter.grad for parameter in model.parameters())])
        states.append(model.state_dict())
        with torch.inference_mode():
            found[-1].append(model.eval()(images()))
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(one, states[1][name]) for name, one in states[0].items())
    torch._dynamo.reset()


@pytest.mark.parametrize("how", ["none", "block"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_trains_alike_by_both_paths_drop_path_and_all(name: str, how: str) -> None:
    found = []
    for kernels, compiled in (("reference", "none"), ("fused", how)):
        ways = {"kernels": kernels, "compile": compiled, "backend": "aot_eager", "dtype": "float64"}
        model = network(**NETWORKS[name], drop=0.5, **ways).train()
        torch.manual_seed(1)
        out = model(images(dtype=torch.float64))
        out.square().sum().backward()
        found.append([out.detach(), *(parameter.grad for parameter in model.parameters())])
    torch.testing.assert_close(*found, atol=1e-9, rtol=1e-7)
    torch._dynamo.reset()


def test_a_block_is_one_graph_with_one_operation_and_stores_no_hidden_layer() -> None:
    graphs = []

    def backend(graph, inputs):
        from torch._functorch.aot_autograd import aot_module_simplified

        return aot_module_simplified(graph, inputs, fw_compiler=lambda made, _: graphs.append(made) or made.forward)

    block = network(**POOLFORMER, kernels="fused").encoder.stages[0].blocks[0]
    with torch.inference_mode():
        torch.compile(block, fullgraph=True, backend=backend)(torch.randn(2, 64, 16))
    called = [str(node.target) for node in graphs[0].graph.nodes if node.op == "call_function"]
    assert sum("narrow_mlp" in name for name in called) == 1
    assert not any("mm" in name or "gelu" in name or "erf" in name for name in called)
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("settings", "training", "there"),
    [
        (SWIN, True, True),
        (CAFORMER, False, True),
        (POOLFORMER, True, True),
        (SWIN | {"mlp": "dropout: 0.1"}, False, True),
        (SWIN | {"mlp": "dropout: 0.1"}, True, False),
        (SWIN | {"more": "dropout: 0.1"}, True, False),
        (SWIN | {"mlp": "activation: gelu_tanh"}, False, False),
        (SWIN | {"mlp": "activation: relu"}, False, False),
        (SWIN | {"more": "order: post"}, False, False),
        (SWIN | {"norm": "group_norm"}, False, False),  # nobody knows its statistics
        (SWIN | {"norm": "batch_norm"}, False, False),
        (SWIN | {"norm": "none"}, False, False),
        (SWIN | {"kernels": "reference"}, False, False),
        (SWIN | {"kernels": None}, False, False),  # the default of a CPU
    ],
)
def test_a_branch_takes_it_where_it_is_narrow_and_as_it_was_built(settings, training, there) -> None:
    model = network(**{"kernels": "fused"} | settings).train(training)
    assert taken(model) == (2 if there else 0)  # of both blocks of the first stage, not of the wide one


class Adapted(torch.nn.Linear):
    """A layer with an adapter, which adds to what its weight gives."""

    def forward(self, x):
        return super().forward(x) + 1


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_and_hooks_that_someone_has_put_into_a_block_run(name: str) -> None:
    seen, outputs = [], []
    for kernels in ("reference", "fused"):
        model = network(**NETWORKS[name], kernels=kernels)
        first, second = model.encoder.stages[0].blocks
        first.mlp.op.fc2.__class__ = Adapted
        for part in (second.mlp, second.mlp.norm, second.mlp.op, second.mlp.op.fc1, second.mlp.op.activation):
            part.register_forward_hook(lambda *_: seen.append(kernels))  # noqa: B023  (called in this turn)
        outputs.append(model(images()))
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)
    assert (seen.count("reference"), seen.count("fused")) == (5, 5)
    assert taken(model) == 0


def test_what_is_traced_for_elsewhere_has_plain_modules() -> None:
    model = network(**SWIN, kernels="fused")
    with torch.no_grad():
        assert "narrow_mlp" not in str(torch.export.export(model, (images(),)).graph)
        with torch.autocast("cpu", torch.bfloat16):
            assert taken(model) == 0
        dynamic = network(**SWIN, kernels="fused", compile="block", backend="aot_eager", dynamic=True)
        assert taken(dynamic, images(5)) == 0
    torch._dynamo.reset()


def test_it_takes_a_batch_of_none_and_tokens_that_lie_in_any_way() -> None:
    case = Case(16, 64, activation=STAR)
    branch, (x,) = case.branch(torch.float32), case.inputs(torch.float32)
    assert branch.taken_in(x[:0])[0].shape == (0, 9, 16)
    moved = x.detach().transpose(0, 1).contiguous().transpose(0, 1)
    torch.testing.assert_close(branch.taken_in(moved)[0], branch.taken_in(x)[0])
