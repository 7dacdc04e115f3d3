"""Counting: what is counted equals the assembled network, nothing unknown is silently zero, counts are remembered."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import metablocks as mb
from metablocks import mixers
from metablocks.core import cache
from metablocks.costs import count, store
from metablocks.costs.run import count_module
from metablocks.nets import assemble

SMALL = """
net: classifier
image: {size: [32, 64]}
classes: 10
stem: {patch_embed: {patch: 4, norm: layer_norm}}
downsample: patch_merging
block: {norm: layer_norm, mlp: {ratio: 2}}
stages:
  - dim: 16
    depth: 4
    mixer: [{window_attention: {window: 4, heads: 2}}, {window_attention: {window: 4, heads: 2, shift: half}}]
  - {dim: 32, depth: 2, mixer: spatial_mlp}
head: {norm: layer_norm, pool: mean}
"""


def test_the_sum_over_parts_is_the_count_of_the_whole_network(family, inputs_of):
    with torch.device("meta"):
        model, inputs = assemble(family).to("meta").eval(), inputs_of(family)
    assert count_module(model, inputs) == family.costs.total
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs)
    assert family.macs == counter.get_total_flops() // 2


def test_flops_are_two_for_each_multiply_accumulate():
    total = count(mb.plan(SMALL)).total
    assert total.flops == 2 * total.macs


def test_a_second_count_reads_what_the_first_remembered(monkeypatch):
    plan = mb.plan(SMALL)
    first = count(plan)
    monkeypatch.setattr("metablocks.costs.run.count_part", lambda part: pytest.fail(f"{part} was counted again"))
    assert count(plan) == first


def test_each_distinct_block_is_counted_once(monkeypatch):
    from metablocks.costs import run

    counted = []
    real = run.count_part
    monkeypatch.setattr(run, "count_part", lambda part: counted.append(part) or real(part))
    count(mb.plan(SMALL))
    assert len(counted) == len(set(counted))
    assert sum(type(part).__name__ == "BlockKind" for part in counted) == 3


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": 1}', '{"KEY": {"params": "many"}}'])
def test_a_damaged_memory_is_no_memory(text):
    plan = mb.plan(SMALL)
    first = count(plan)
    path = cache.folder() / store._file()
    keys = list(json.loads(path.read_text()))
    path.write_text(text.replace("KEY", keys[0]))
    assert count(plan) == first


def test_a_memory_that_cannot_be_written_is_done_without(monkeypatch):
    monkeypatch.setenv("METABLOCKS_CACHE", "/dev/null/nowhere")
    assert count(mb.plan(SMALL)).macs


STRANGE = '''
"""A mixer with an operation that no counter knows."""
from dataclasses import dataclass
import torch
from metablocks.core.mixer import Mixer, MixerSettings

@dataclass(frozen=True)
class Sizes:
    pass

class Settings(MixerSettings):
    def resolve(self, dim, grid):
        return Sizes()

class Strange(Mixer):
    def forward(self, x, grid):
        return torch.fft.fft(x, dim=1).real.contiguous()
'''


def test_an_operation_that_no_counter_knows_makes_the_count_unknown_and_is_named(tmp_path):
    (tmp_path / "strange_fft.py").write_text(STRANGE)
    mixers.add_folder(tmp_path)
    costs = count(mb.plan(SMALL, set=["stages.1.mixer=strange_fft"]))
    assert costs.macs is None
    assert costs.total.activations is None
    assert any("fft" in name for name in costs.total.unknown)
    assert costs.rows["stages.0"].macs is not None
    assert store._read() != {}
    assert not any("strange" in repr(entry) or "fft" in repr(entry) for entry in store._read().values())
