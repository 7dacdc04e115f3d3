"""What the compiler is told: by nothing global, for one network alone."""

from __future__ import annotations

import pytest
import torch
from torch._functorch import config as functorch
from torch._inductor import config as inductor

import metablocks as mb
from metablocks import compiler
from metablocks.kernels import cpu_products

TINY = """
net: classifier
image: {size: 16}
classes: 4
stem: {patch_embed: {patch: 8}}
block: {norm: layer_norm, mixer: [{attention: {heads: 2}}, identity, spatial_mlp], mlp: {ratio: 2}}
stages: [{dim: 8, depth: 3}]
head: {pool: mean}
"""
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def told(monkeypatch):
    """What inductor was told when it was called, graph by graph; it compiles nothing."""
    calls = []

    def compile(graph, inputs, options=None):  # noqa: ARG001  (called by name)
        calls.append((options, functorch.activation_memory_budget))
        return graph.forward

    monkeypatch.setattr(torch._inductor, "compile", compile)
    monkeypatch.setattr(cpu_products, "pays", lambda: False)
    return calls


def run(**choices) -> None:
    with torch.no_grad():
        mb.build(TINY, compile="block", **choices)(torch.randn(2, 3, 16, 16))


def test_a_network_is_compiled_with_what_inductor_does_by_itself(told):
    run()
    assert told == [({}, 1.0)] * 3


def test_autotune_is_told_to_every_graph_and_to_no_other_network(told):
    run(autotune=True)
    assert told == [(compiler.AUTOTUNE, 1.0)] * 3
    assert not inductor.max_autotune
    told.clear()
    run()
    assert told == [({}, 1.0)] * 3


@pytest.mark.parametrize("choices", [{"checkpoint": 0.5}, {"compile": "block", "checkpoint": 1.5}])
def test_a_share_of_activations_is_between_0_and_1_and_of_compiled_graphs(choices):
    with pytest.raises(mb.InputError, match="a share of activations"):
        mb.build(TINY, **choices)


def test_inductor_knows_every_option():
    known = inductor.get_config_copy()
    for options in (compiler.AUTOTUNE, *compiler.INDUCTOR.values()):
        assert set(options) <= set(known)
    for options in compiler.FUNCTORCH.values():
        assert set(options) <= set(functorch.get_config_copy())


def test_a_share_of_activations_holds_while_a_graph_is_compiled_and_not_after_it(told):
    model = mb.build(TINY)
    compiler.compile_network(model, "block", choices=compiler.Choices(checkpoint=0.5))
    model(torch.randn(2, 3, 16, 16))
    assert told == [({}, 0.5)] * 3
    assert functorch.activation_memory_budget == 1.0
