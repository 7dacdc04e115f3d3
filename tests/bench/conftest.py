"""Subjects for benches: a tiny network, and one whose mixer misbehaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from metablocks.bench.case import Case
from metablocks.bench.record import Figures, Record, failed
from metablocks.bench.subject import Subject

HERE = Path(__file__).parent
TINY = HERE / "tiny.yaml"
MIXERS = HERE / "mixers"

SPEC = {
    "net": "classifier",
    "image": {"size": [16, 16], "channels": 3},
    "classes": 4,
    "stem": {"patch_embed": {"patch": [8, 8]}},
    "block": {"norm": "layer_norm", "mixer": "pooling", "mlp": {"ratio": 1.0}},
    "stages": [{"dim": 8, "depth": 1}],
    "head": {"norm": "layer_norm", "pool": "mean"},
}


def case(fault: str = "", **conditions: object) -> Case:
    """A quick case. Its mixers are let in by the worker alone, so that no other test sees them."""
    block = {**SPEC["block"], "mixer": {"faulty": {"fault": fault}}} if fault else SPEC["block"]
    text = json.dumps({**SPEC, "block": block}, sort_keys=True)
    subject = Subject("tiny", "tiny.yaml", text, (), (str(MIXERS),) if fault else ())
    return replace(Case(subject, batch=2, seconds=0.05, limit_s=240.0), **conditions)


def figures(images_per_s: float = 17.2, latency_s: float = 0.0649) -> Figures:
    return Figures(
        images_per_s=images_per_s,
        images_per_s_q1=images_per_s * 0.985,
        images_per_s_q3=images_per_s * 1.01,
        rounds_s=(0.46, 0.47, 0.465),
        calls_per_round=1,
        latency_p50_s=latency_s,
        latency_p90_s=latency_s * 1.1,
        latency_rounds_s=(latency_s,) * 3,
        build_s=0.2,
        first_call_s=40.2,
        latency_first_call_s=26.1,
        peak_memory_bytes=250 << 20,
        peak_memory_method="weights + growth",
    )


@pytest.fixture
def record() -> Record:
    """A record of a case that went well."""
    bare = failed(case(), "2026-01-01T00:00:00+00:00", "error", "not measured")
    place = {"device_name": "a processor", "threads": 2, "torch": "2.13.0"}
    costs = {"params": 28_288_354, "macs": 4_490_566_656, "flops": 8_981_133_312, "convention": "MACs of products"}
    return replace(bare, status="ok", failure=None, reason=None, figures=figures(), environment=place, **costs)
