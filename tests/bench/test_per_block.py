"""Where the time goes: the shares add up to the call, the MACs to the network's, and the bytes are those by hand."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from metablocks.bench import models, work
from metablocks.bench import per_block as module
from metablocks.bench.case import Case
from metablocks.bench.per_block import per_block, seen, warnings
from metablocks.bench.subject import Subject, planned, subject
from metablocks.build import build, compile_network, skeleton
from metablocks.costs import count
from metablocks.costs.traffic import macs

TINY = """
net: classifier
image: {size: 16}
classes: 4
stem: {patch_embed: {patch: 8}}
block: {norm: layer_norm, mlp: {ratio: 2}}
downsample: patch_merging
stages: [{dim: 8, depth: 2, mixer: [pooling, {attention: {heads: 2}}]}, {dim: 16, depth: 1, mixer: identity}]
head: {norm: layer_norm, pool: mean}
"""
MASKED = """
net: masked_autoencoder
image: {size: 32}
mask: {ratio: 0.75, tokens: TOKENS}
block: {norm: layer_norm, mlp: {ratio: 2}, mixer: {attention: {heads: 2}}}
encoder: {stem: {patch_embed: {patch: 8}}, position: sincos_2d, stages: [{dim: 16, depth: 2}], norm: layer_norm}
decoder: {position: sincos_2d, stages: [{dim: 8, depth: 1}], norm: layer_norm}
"""
FAMILIES = ["vit_ti16", "mixer_s32", "swin_t", "poolformer_s12", "metaformer_pppa_s12", "mae_vit_b16"]
MASKS = [MASKED.replace("TOKENS", tokens) for tokens in ("drop", "replace")]
PEAKS = {"peak_flops_per_s_float32": 1e9, "peak_copy_bytes_per_s": 1e9}
BATCH = 2


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path))


def case_of(source: str = TINY, **conditions: Any) -> Case:
    return Case(subject(source), batch=BATCH, seconds=0.02, **conditions)


def measured(case: Case, found: models.Subject | None = None) -> tuple[dict[str, Any], ...]:
    found = found or models.load(case)
    return per_block(case, found, work.work(case, found.model, found.shapes, case.batch), PEAKS)


def peer(model: nn.Module, *sizes: int) -> tuple[dict[str, Any], ...]:
    case = Case(Subject("file", "a peer", "peer.py:make", ""), batch=BATCH, seconds=0.02)
    return measured(case, models.Subject(model, (models.Shape(sizes),)))


def named(rows: tuple[dict[str, Any], ...]) -> list[tuple[str, str, str, int]]:
    return [(row["part"], row["what"], row["name"], row["calls"]) for row in rows]


@pytest.mark.parametrize("how", ["none", "block", "model"])
@pytest.mark.parametrize("source", FAMILIES + MASKS, ids=[*FAMILIES, "mae", "simmim"])
def test_the_macs_of_the_parts_add_up_to_those_of_the_network(source: str, how: str) -> None:
    case = case_of(source, compile=how)
    plan = planned(case.subject)
    net = skeleton(plan).to("meta").eval()
    inputs = [torch.empty(BATCH, *shape, device="meta") for shape in _shapes(plan)]
    counted = macs(net, inputs, seen(case, net, plan))
    assert None not in counted.values()
    assert sum(counted.values()) == BATCH * count(plan).macs


def _shapes(plan: Any) -> list[tuple[int, ...]]:
    stem = plan.encoder.stem
    units = [(plan.decoder.mask.units[0] * plan.decoder.mask.units[1],)] if plan.decoder else []
    return [(stem.channels, *stem.image), *units]


def test_an_eager_network_is_seen_by_norm_mixer_mlp_and_residual() -> None:
    rows = measured(case_of())
    assert named(rows) == [
        ("stem", "stem", "patch_embed", 1),
        ("stages.0", "norm", "layer_norm", 4),
        ("stages.0", "mixer", "pooling", 1),
        ("stages.0", "residual", "", 4),
        ("stages.0", "mlp", "", 2),
        ("stages.0", "mixer", "attention", 1),
        ("stages.1.downsample", "downsample", "patch_merging", 1),
        ("stages.1", "norm", "layer_norm", 2),
        ("stages.1", "mixer", "identity", 1),
        ("stages.1", "residual", "", 2),
        ("stages.1", "mlp", "", 1),
        ("head", "head", "", 1),
        ("other", "other", "", 1),
    ]
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert all(row["seconds"] > 0 for row in rows)


def test_both_halves_of_a_masked_autoencoder_are_seen() -> None:
    rows = measured(case_of(MASKS[0]))
    parts = list(dict.fromkeys(row["part"] for row in rows))
    halves = ["stem", "stages.0", "norm", "decoder.embed", "decoder.stages.0", "decoder.norm", "predict", "other"]
    assert parts == halves


def test_graphs_of_a_masked_autoencoder_are_seen_whole_and_as_they_train() -> None:
    rows = {how: measured(case_of(MASKS[0], compile=how, mode="pretrain")) for how in ("none", "block")}
    parts = list(dict.fromkeys(row["part"] for row in rows["block"]))
    assert parts == ["stem", "stages.0", "decoder.embed", "decoder.stages.0", "predict", "other"]
    macs = {how: {row["part"]: row["macs"] for row in found if row["macs"]} for how, found in rows.items()}
    assert macs["block"] == {
        part: sum(row["macs"] for row in rows["none"] if row["part"] == part) for part in macs["none"]
    }
    assert sum(macs["block"].values()) < BATCH * count(planned(case_of(MASKS[0]).subject)).macs


def test_a_norm_that_is_none_has_no_row() -> None:
    rows = measured(case_of(TINY.replace("block: {norm: layer_norm", "block: {norm: none")))
    assert "norm" not in {row["what"] for row in rows}


def test_bytes_are_inputs_parameters_and_outputs_once() -> None:
    rows = {(row["part"], row["what"], row["name"]): row for row in measured(case_of())}
    tokens = BATCH * 4 * 8 * 4  # 2 x 2 patches of width 8 in float32
    assert rows["stem", "stem", "patch_embed"]["bytes"] == BATCH * 3 * 16 * 16 * 4 + (3 * 64 * 8 + 8) * 4 + tokens
    assert rows["stages.0", "norm", "layer_norm"]["bytes"] == 4 * (2 * tokens + 2 * 8 * 4)
    assert rows["stages.0", "mixer", "pooling"]["bytes"] == 2 * tokens
    assert rows["stages.0", "residual", ""]["bytes"] == 4 * 3 * tokens
    assert rows["stages.0", "mlp", ""]["bytes"] == 2 * (2 * tokens + (2 * 8 * 16 + 16 + 8) * 4)
    assert rows["other", "other", ""]["bytes"] is None


def test_the_scales_of_a_residual_are_read_too() -> None:
    scaled = TINY.replace("block: {norm: layer_norm", "block: {layer_scale: 1e-5, norm: layer_norm")
    rows = {(row["part"], row["what"]): row for row in measured(case_of(scaled))}
    assert rows["stages.1", "residual"]["bytes"] == 2 * (3 * BATCH * 1 * 16 * 4 + 16 * 4)


def test_the_share_of_the_peak_is_the_least_time_over_the_time() -> None:
    rows = {(row["part"], row["what"], row["name"]): row for row in measured(case_of())}
    mlp, norm = rows["stages.0", "mlp", ""], rows["stages.0", "norm", "layer_norm"]
    assert mlp["macs"] == BATCH * 4 * 2 * 8 * 16 * 2
    assert mlp["intensity_macs_per_byte"] == mlp["macs"] / mlp["bytes"]
    assert mlp["flops_per_s"] == 2 * mlp["macs"] / mlp["seconds"]
    assert mlp["share_of_peak"] == pytest.approx(max(2 * mlp["macs"], mlp["bytes"]) / 1e9 / mlp["seconds"])
    assert norm["macs"] == 0
    assert norm["share_of_peak"] == pytest.approx(norm["bytes"] / 1e9 / norm["seconds"])


def test_without_a_peak_there_is_no_share_of_it() -> None:
    case = case_of()
    found = models.load(case)
    rows = per_block(case, found, work.work(case, found.model, found.shapes, BATCH), {})
    assert {row["share_of_peak"] for row in rows} == {None}
    assert all(row["macs"] is not None for row in rows)


def test_compiled_blocks_are_seen_whole_and_not_compiled_again() -> None:
    case = case_of(compile="block")
    found = models.load(case)
    compile_network(found.model, "block", backend="eager")
    job = work.work(case, found.model, found.shapes, BATCH)
    job.call()
    graphs = counters["stats"]["unique_graphs"]
    rows = per_block(case, found, job, PEAKS)
    assert counters["stats"]["unique_graphs"] == graphs > 0
    assert [row["name"] for row in rows if row["what"] == "block"] == ["pooling", "attention", "identity"]
    assert not {"mixer", "mlp", "norm", "residual"} & {row["what"] for row in rows}


def test_a_network_that_is_one_graph_is_one_row() -> None:
    case = case_of(compile="model")
    found = models.load(case)
    compile_network(found.model, "model", backend="eager")
    (row,) = measured(case, found)
    plan = planned(case.subject)
    assert (row["part"], row["share"], row["macs"]) == ("network", 1, BATCH * count(plan).macs)
    assert row["bytes"] == 4 * (BATCH * 3 * 16 * 16 + count(plan).params + BATCH * 4)
    assert row["overhead_share"] is None
    assert warnings([row]) == ()


def test_of_a_step_of_training_the_forward_pass_is_seen() -> None:
    case = case_of(mode="train")
    found = models.load(case)
    rows = measured(case, found)
    assert rows[0]["macs"] == BATCH * 4 * 3 * 64 * 8
    assert all(parameter.grad is None for parameter in found.model.parameters())


def test_no_clock_stays_in_the_network() -> None:
    case = case_of()
    found = models.load(case)
    measured(case, found)
    hooks = [hook for module in found.model.modules() for hook in (module._forward_hooks, module._forward_pre_hooks)]
    assert not any(hooks)


class Waiting(nn.Module):
    """Takes its time, and hands on what it got."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return x


class Listed(nn.Module):
    """A list, whose modules are called one by one, and something that belongs to no child."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList([Waiting(0.02), Waiting(0.02)])
        self.last = Waiting(0.03)
        self.idle = Waiting(0.5)  # never called

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        time.sleep(0.03)
        return self.last(x)


def test_time_goes_to_the_part_that_takes_it() -> None:
    rows = peer(Listed(), 4)
    assert [row["part"] for row in rows] == ["steps.0", "steps.1", "last", "other"]
    for row, seconds in zip(rows, (0.02, 0.02, 0.03, 0.03), strict=True):
        assert seconds <= row["seconds"] < 3 * seconds  # a busy machine wakes a sleeper late


class Spectrum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(x).real


def test_an_operation_that_nobody_counts_makes_its_own_row_unknown() -> None:
    rows = peer(nn.Sequential(nn.Linear(8, 8), Spectrum(), nn.Linear(8, 8)), 8)
    assert [row["name"] for row in rows] == ["Linear", "Spectrum", "Linear", ""]
    assert [row["macs"] for row in rows] == [BATCH * 64, None, BATCH * 64, 0]
    assert not any("unknown" in told for told in warnings(rows))


class Printing(nn.Module):
    """Cannot run on meta: it looks at a value."""

    def forward(self, x: Tensor) -> Tensor:
        return x * float(x.sum())


def test_a_network_that_does_not_run_on_meta_has_times_and_says_what_is_missing() -> None:
    rows = peer(nn.Sequential(Printing()), 8)
    assert rows[0]["seconds"] > 0
    assert rows[0]["bytes"] == 2 * BATCH * 8 * 4
    assert "MACs by part are unknown" in warnings(rows)[-1]


def test_a_clock_that_costs_more_than_5_percent_is_warned_about() -> None:
    rows = [{"macs": 1, "overhead_share": 0.2}]
    assert warnings(rows) == (
        "the clock inside the network made a call 20 % longer, so small parts look too large; "
        "raise --batch or --seconds",
    )
    assert warnings([{"macs": 1, "overhead_share": 0.04}]) == ()


def test_what_the_clock_adds_is_told_only_where_it_is_beyond_the_spread() -> None:
    assert module._overhead([1.0, 1.1, 1.2], [1.3, 1.5]) == pytest.approx(0.3)
    assert module._overhead([1.0, 1.1, 1.2], [1.2, 1.5]) is None


@pytest.mark.gpu
def test_on_a_gpu_the_parts_add_up_to_the_call() -> None:
    case = case_of("vit_ti16", device="cuda")
    rows = measured(case)
    assert sum(row["seconds"] for row in rows) == pytest.approx(rows[-1]["plain_call_s"], rel=0.5)


def test_a_network_built_elsewhere_is_seen_alike() -> None:
    plan = planned(subject(TINY))
    assert [one.key for one in seen(case_of(), build(plan), plan)] == [
        one.key for one in seen(case_of(), skeleton(plan), plan)
    ]
