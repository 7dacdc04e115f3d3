"""Fused, eager and compiled give the same number. What is compiled is counted in the graphs that the compiler is given.

torch compiles nothing under an observer, so a compiled network cannot be counted from outside. Nor is what inductor
makes of its graph: it writes a product of one short row as multiplications and a sum, which are free.
"""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from metablocks.build import build
from metablocks.costs.run import count_module


@pytest.mark.parametrize("attention", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH], ids=["fused", "written out"])
def test_eager_on_a_device_is_what_the_plan_says(family, network, inputs_of, attention):
    with sdpa_kernel(attention):
        assert count_module(network, inputs_of(family)) == family.costs.total


def test_a_counter_that_misses_fused_attention_does_not_move_ours(family, network, inputs_of):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*inputs_of(family))
    attends = any("attention" in block.kind.mixer.name for stage in family.stages for block in stage.blocks)
    assert counter.get_total_flops() // 2 <= family.macs
    if not attends:
        assert counter.get_total_flops() // 2 == family.macs


def test_the_graph_of_a_compiled_network_is_what_the_plan_says(family, inputs_of, monkeypatch):
    torch.compiler.reset()
    # what is made of weights alone is in the graph only where it is not kept
    monkeypatch.setattr("metablocks.compiler.keep", lambda *_: None)
    captured, lowered = [], []
    taken_apart = aot_autograd(fw_compiler=lambda graph, _: make_boxed_func(_counting(graph, graph, lowered)))

    def backend(graph, examples):
        return _counting(graph, taken_apart(graph, examples), captured)

    network = build(family, compile="model", backend=backend)
    with torch.no_grad():
        network(*inputs_of(family))
    assert captured == lowered == [family.costs.total.macs]


def _counting(graph, then, macs):
    """`then`, before which the graph is counted for its inputs."""

    def run(*inputs):
        macs.append(count_module(graph, inputs).macs)
        return then(*inputs)

    return run
