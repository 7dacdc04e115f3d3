"""Products by oneDNN: the operation, the pass that puts it into a graph, and networks that are compiled with it."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch._inductor.decomposition import select_decomp_table
from torch.fx.experimental.proxy_tensor import make_fx

import metablocks as mb
from metablocks import mixers
from metablocks.core.grid import Grid
from metablocks.kernels import cpu_products, trial
from metablocks.kernels.cpu_products import Exchange, product

pytestmark = pytest.mark.skipif(not cpu_products.runs(), reason="torch has no oneDNN here")

SMALL_NET = """
net: classifier
image: {size: 32}
classes: 10
stem: {patch_embed: {patch: 8}}
block: {norm: layer_norm, mixer: [{attention: {heads: 2}}, spatial_mlp], mlp: {ratio: 2}}
stages: [{dim: 16, depth: 2}]
head: {pool: mean}
"""


def mlp(x, weight, bias, back):
    return F.gelu(F.linear(x, weight, bias)) @ back


def operands(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 48, 64), (256, 64), (256,), (256, 192)
    return [torch.randn(*shape, generator=generator).to(dtype) for shape in shapes]


def exchanged(function, *given):
    """The graph of a function as inductor sees it, after the pass, and the operations that it calls."""
    graph = make_fx(function, decomposition_table=select_decomp_table(), tracing_mode="fake")(*given)
    Exchange()(graph.graph)
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()
    return graph, [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("activation", ["none", "gelu"])
@pytest.mark.parametrize("biased", [True, False])
def test_a_product_is_a_linear_layer_with_its_activation(biased, activation):
    x, weight, bias, _ = operands()
    x, bias = x.flatten(0, 1), bias if biased else None
    wanted = F.linear(x.double(), weight.double(), bias.double() if biased else None)
    wanted = F.gelu(wanted) if activation == "gelu" else wanted
    torch.testing.assert_close(product(x, weight, bias, activation, None), wanted.float(), atol=1e-5, rtol=1e-5)


def test_a_product_takes_transposed_operands():
    left, right = torch.randn(64, 96).t(), torch.randn(64, 32).t()
    torch.testing.assert_close(product(left, right, None, "none", None), left @ right.t(), atol=1e-4, rtol=1e-5)


def test_the_pass_exchanges_products_and_takes_the_gelu_in():
    given = operands()
    graph, called = exchanged(mlp, *given)
    assert called.count("metablocks.product.default") == 2
    assert not [name for name in called if "mm" in name or "erf" in name]
    torch.testing.assert_close(graph(*given), mlp(*given), atol=1e-4, rtol=1e-5)


def test_a_product_from_the_left_is_exchanged_with_its_gelu():
    def token_mlp(x, down, rows, up):
        hidden = torch.baddbmm(rows[:, None], down.expand(2, -1, -1), x)
        return torch.bmm(up.expand(2, -1, -1), F.gelu(hidden))

    given = [torch.randn(2, 96, 64), torch.randn(128, 96), torch.randn(128), torch.randn(96, 128)]
    graph, called = exchanged(token_mlp, *given)
    assert called.count("metablocks.product.default") == 2
    assert not [name for name in called if "mm" in name or "erf" in name]
    torch.testing.assert_close(graph(*given), token_mlp(*given), atol=1e-3, rtol=1e-5)


def test_every_product_of_a_token_mlp_is_exchanged():
    found = mixers.find("spatial_mlp")
    grid = Grid(8, 12)
    mixer = found.module(found.settings.model_validate({"hidden": 128}).resolve(64, grid))
    parameters = {name: parameter.detach() for name, parameter in mixer.named_parameters()}

    def mixed(parameters, x):
        return torch.func.functional_call(mixer, parameters, (x, grid))

    given = parameters, torch.randn(2, grid.tokens, 64)
    graph, called = exchanged(mixed, *given)
    assert called.count("metablocks.product.default") == 2
    assert not [name for name in called if "mm" in name or "erf" in name]
    torch.testing.assert_close(graph(*given), mixed(*given), atol=1e-5, rtol=1e-5)


def test_products_of_two_stacks_stay():
    given = torch.randn(4, 64, 128), torch.randn(4, 128, 64)
    assert "metablocks.product.default" not in exchanged(torch.bmm, *given)[1]


def test_a_gelu_of_a_matrix_is_taken_in():
    given = torch.randn(256, 128), torch.randn(128, 64)
    graph, called = exchanged(lambda x, weight: F.gelu(x @ weight), *given)
    assert "aten.erf.default" not in called
    torch.testing.assert_close(graph(*given), F.gelu(given[0] @ given[1]), atol=1e-4, rtol=1e-5)


def test_a_gelu_stays_where_what_goes_into_it_is_needed_as_well():
    def both(x, weight, bias, back):
        hidden = F.linear(x, weight, bias)
        return F.gelu(hidden) @ back, hidden

    given = operands()
    graph, called = exchanged(both, *given)
    assert called.count("metablocks.product.default") == 2
    assert "aten.erf.default" in called
    torch.testing.assert_close(graph(*given), both(*given), atol=1e-4, rtol=1e-5)


def other_factor(x):
    return x * 0.5 * (torch.erf(x * 0.7) + 1)


@pytest.mark.parametrize("curve", [lambda x: F.gelu(x, approximate="tanh"), other_factor], ids=["tanh", "factor"])
def test_a_curve_that_is_no_exact_gelu_stays(curve):
    def other(x, weight, bias, back):
        return curve(F.linear(x, weight, bias)) @ back

    given = operands()
    graph, called = exchanged(other, *given)
    assert called.count("metablocks.product.default") == 2
    torch.testing.assert_close(graph(*given), other(*given), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_products_in_other_dtypes_stay(dtype):
    assert "metablocks.product.default" not in exchanged(mlp, *operands(dtype))[1]


def test_small_products_stay():
    small = [torch.randn(2, 3, 4), torch.randn(5, 4), torch.randn(5), torch.randn(5, 6)]
    assert "metablocks.product.default" not in exchanged(mlp, *small)[1]


def test_a_network_compiled_with_it_trains_as_without(monkeypatch):
    monkeypatch.setattr(cpu_products, "pays", lambda: True)
    monkeypatch.setattr(cpu_products, "SMALL", 0)
    run = []
    monkeypatch.setattr(Exchange, "__call__", lambda self, graph, call=Exchange.__call__: run.append(call(self, graph)))
    torch.manual_seed(0)
    eager = mb.build(SMALL_NET).train()
    compiled = mb.build(SMALL_NET, compile="block").train()
    compiled.load_state_dict(eager.state_dict())
    images = torch.randn(2, 3, 32, 32)
    # a graph from a cache has been through the pass before
    functorch, inductor = torch._functorch.config, torch._inductor.config
    with functorch.patch(enable_autograd_cache=False), inductor.patch(fx_graph_cache=False):
        found = [F.mse_loss(model(images), torch.zeros(2, 10)) for model in (eager, compiled)]
        torch.testing.assert_close(found[1], found[0], atol=1e-6, rtol=1e-5)
        for loss in found:
            loss.backward()
    gradients = [[parameter.grad for parameter in model.parameters()] for model in (eager, compiled)]
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-4)
    assert run


@pytest.mark.parametrize(("seconds", "chosen"), [((2.0, 1.0), "oneDNN"), ((1.1, 1.0), "BLAS")])
def test_what_was_found_faster_stands_in_records(seconds, chosen, monkeypatch):
    times = itertools.cycle(seconds)
    monkeypatch.setattr(cpu_products, "_seconds", lambda _: next(times))
    assert cpu_products.pays.__wrapped__() == (chosen == "oneDNN")
    assert trial.choices()["products, torch.float32"] == chosen
    trial.forget()


def test_where_it_does_not_pay_nothing_is_exchanged(monkeypatch):
    monkeypatch.setattr(cpu_products, "pays", lambda: False)
    assert cpu_products.options() == {}
