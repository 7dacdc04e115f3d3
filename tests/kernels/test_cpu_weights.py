"""Copies of weights for products on a CPU: found where the weight is the same, never where it is another."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._inductor.decomposition import select_decomp_table
from torch.fx.experimental.proxy_tensor import make_fx

import metablocks as mb
from metablocks.kernels import cpu_products, cpu_weights
from metablocks.kernels.cpu_products import Exchange, product
from metablocks.kernels.cpu_weights import LONG, Copies

pytestmark = pytest.mark.skipif(not cpu_products.runs(), reason="torch has no oneDNN here")

NET = """
net: classifier
image: {size: 32}
classes: 10
stem: {patch_embed: {patch: 4}}
block: {norm: {group_norm: {groups: 1}}, mixer: [{attention: {heads: 2}}, pooling, spatial_mlp], mlp: {ratio: 2}}
stages: [{dim: 16, depth: 3}]
head: {pool: mean}
"""


@pytest.fixture
def copies(monkeypatch) -> Copies:
    """Those of products, empty before and after."""
    monkeypatch.setattr(cpu_weights, "copies", Copies())
    return cpu_weights.copies


def marked(weight: Tensor) -> Tensor:
    """The mark of a weight (N, K), as a graph is to work it out."""
    rows, columns = (torch.ops.metablocks.factors(weight, dim) for dim in (0, 1))
    return (weight.contiguous().view(torch.int32).long() * columns * rows[:, None]).sum()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kept(copies: Copies) -> int:
    return sum(met.copy is not None for met in copies.met.values())


LAYOUTS = {
    "rows": random(96, 64),
    "columns": random(64, 96).t(),
    "steps": random(96, 128)[:, ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_copy_gives_what_its_weight_gives(layout, copies):
    weight = LAYOUTS[layout]
    x, bias = random(1024, 64), random(96)
    found = [product(x, weight, bias, "gelu", marked(weight)) for _ in range(3)]
    assert kept(copies) == 1
    assert copies.nbytes() >= 4 * 96 * 64
    assert copies.taken(since=2) == copies.nbytes()
    assert copies.taken(since=1) == copies.taken(since=3) == 0
    assert torch.equal(found[2], found[1])
    torch.testing.assert_close(found[1], product(x, weight, bias, "gelu", None), atol=1e-5, rtol=1e-5)


def test_a_copy_serves_every_number_of_rows(copies):
    weight = random(96, 64)
    for rows in (2048, 2048, 7, 1, 5000):
        x = random(rows, 64)
        torch.testing.assert_close(product(x, weight, None, "none", marked(weight)), x @ weight.t())
    assert kept(copies) == 1


def test_what_changes_from_call_to_call_is_not_copied(copies):
    for seed in range(5):
        weight = random(96, 64, seed=seed)
        product(random(1024, 64), weight, None, "none", marked(weight))
    assert len(copies.met) == 5
    assert kept(copies) == 0


@given(data=st.data(), rows=st.integers(1, 48), columns=st.integers(1, 48), seed=st.integers(0, 999))
def test_the_last_bit_of_any_element_shows_in_the_mark(data, rows, columns, seed):
    weight = random(rows, columns, seed=seed)
    weight[0] *= 1e-30
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    other = weight.clone()
    other[row, column] = torch.nextafter(weight[row, column], torch.tensor(math.inf))
    assert marked(other) != marked(weight)


@pytest.mark.parametrize(
    "order", [lambda w: w.flip(0), lambda w: w.flip(1), lambda w: w.roll(1, 1), lambda w: -w, lambda w: w.t()]
)
def test_the_order_of_elements_shows_in_the_mark(order):
    for weight in (random(48, 48), random(48, 48).sign()):
        assert marked(order(weight)) != marked(weight)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_changes_show_beside_what_is_not_finite(value, copies):
    weight = random(96, 64)
    weight[3, 5] = value
    for turn in range(3):
        weight[3, 6] = turn // 2
        found = product(random(1024, 64), weight, None, "none", marked(weight))
    torch.testing.assert_close(found, random(1024, 64) @ weight.t(), equal_nan=True)
    assert kept(copies) == 1


def test_a_graph_works_the_mark_out_and_leaves_the_factors(copies, monkeypatch):
    monkeypatch.setattr(cpu_products, "ROWS", 0)
    weights = random(64, 64), random(128, 64), random(64, 128).t()

    def both(x: Tensor, *weights: Tensor) -> list[Tensor]:
        return [x @ weight.t() for weight in weights] + [x @ weights[0]]

    compiled = torch.compile(both, options={"post_grad_custom_pre_pass": Exchange()})
    with torch.no_grad(), torch._inductor.config.patch(fx_graph_cache=False):
        for _ in range(3):
            torch.testing.assert_close(compiled(random(512, 64), *weights), both(random(512, 64), *weights))
    marks = {key[2] for key in copies.met}
    assert marks == {int(marked(weight)) for weight in (*weights, weights[0].t())}
    assert kept(copies) == 4


def test_copies_of_weights_that_are_not_met_any_more_go(copies):
    old, used = random(96, 64, seed=1), random(96, 64, seed=2)
    for weight in (old, old, used, used):
        copies.of(weight, marked(weight))
    gone = weakref.ref(next(iter(copies.met.values())))
    for _ in range(LONG):
        copies.of(used, marked(used))
    gc.collect()
    assert gone() is None
    assert kept(copies) == 1


def test_copies_take_the_room_that_there_is(copies, monkeypatch):
    monkeypatch.setattr(cpu_weights, "ROOM", 3 * 4 * 96 * 64)
    weights = [random(96, 64, seed=seed) for seed in range(5)]
    for _ in range(4):
        for weight in weights:
            copies.of(weight, marked(weight))
    assert 1 <= kept(copies) <= 3
    assert copies.nbytes() <= 2 * cpu_weights.ROOM


def exchanged(rows: int, *names: str) -> list[object]:
    """What the products of a graph are given as marks; inputs of the graph are called so."""

    def linear(x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight.t()

    graph = make_fx(linear, decomposition_table=select_decomp_table(), tracing_mode="fake")(
        random(rows, 64), random(256, 64)
    ).graph
    for node, name in zip(graph.find_nodes(op="placeholder"), names, strict=False):
        node.name = name
    Exchange()(graph)
    found = graph.find_nodes(op="call_function", target=torch.ops.metablocks.product.default)
    return [node.args[4] for node in found]


def test_graphs_that_train_and_products_of_few_rows_go_without_marks():
    assert exchanged(2048)[0] is not None
    assert exchanged(2048, "primals_1", "primals_2") == [None]
    assert exchanged(2048, "primals_1", "tangents_1") == [None]
    assert exchanged(512) == [None]


def by_data(weight: nn.Parameter) -> None:
    weight.data.mul_(1.5)


def one_element(weight: nn.Parameter) -> None:
    weight.data.view(-1)[3] += 0.5


def without_gradients(weight: nn.Parameter) -> None:
    with torch.no_grad():
        weight.add_(0.1)


def another_storage(weight: nn.Parameter) -> None:
    weight.data = weight.data * 0.5


def by_numpy(weight: nn.Parameter) -> None:
    weight.detach().numpy()[:] *= -1


def by_optimiser(weight: nn.Parameter) -> None:
    weight.grad = torch.ones_like(weight)
    torch.optim.AdamW([weight], lr=0.1, fused=True).step()
    weight.grad = None


CHANGES = [by_data, one_element, without_gradients, another_storage, by_numpy, by_optimiser]


@pytest.fixture
def network(monkeypatch):
    """The same network eager and compiled, with every product of it exchanged."""
    for name, value in {"pays": lambda: True, "SMALL": 0, "ROWS": 0, "BLOCK": 1}.items():
        monkeypatch.setattr(cpu_products, name, value)
    torch.manual_seed(0)
    eager, compiled = mb.build(NET, device="cpu").eval(), mb.build(NET, device="cpu", compile="block").eval()
    compiled.load_state_dict(eager.state_dict())
    with torch._functorch.config.patch(enable_autograd_cache=False), torch._inductor.config.patch(fx_graph_cache=False):
        yield eager, compiled


def test_a_network_follows_every_change_of_its_weights(network, copies):
    images = random(2, 3, 32, 32)
    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(network[1](images), network[0](images), atol=1e-5, rtol=1e-5)
    assert kept(copies) >= 10
    names = [name for name, weight in network[0].named_parameters() if weight.ndim == 2 and "blocks" in name]
    names += [name for name, weight in network[0].named_parameters() if "norm" in name and "weight" in name]
    for turn, name in enumerate(names):
        for model in network:
            CHANGES[turn % len(CHANGES)](model.get_parameter(name))
        with torch.no_grad():
            found = [model(images) for model in network]
        torch.testing.assert_close(found[1], found[0], atol=2e-5, rtol=1e-5, msg=f"{name}: {CHANGES[turn % 6]}")


def test_training_copies_nothing_and_inference_follows_it(network, copies):
    images = random(2, 3, 32, 32)
    optimisers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in network]
    for _ in range(2):
        before = copies.meetings
        for model, optimiser in zip(network, optimisers, strict=True):
            model.train()(images).square().mean().backward()
            optimiser.step()
            optimiser.zero_grad()
        assert copies.meetings == before
        for _ in range(2):
            with torch.no_grad():
                found = [model.eval()(images) for model in network]
            torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-5)
    assert kept(copies)
