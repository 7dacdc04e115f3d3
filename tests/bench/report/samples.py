"""Records that look like those of a real run, without running anything."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from metablocks.bench.record import SCHEMA, Figures, Process, Record

HOSTILE = (
    "<script>document.title = 'taken'</script>",
    '"><img src=x onerror="document.title = \'taken\'">',
    "javascript:alert(1)",
    "\u202egnp.exe\u2066",
    "\x1b[31mred\x07",
    "a|b`c`\n# heading",
    "</style><style>body { display: none }",
    "{{constructor}}${7*7}",
    "=HYPERLINK(1)",
    "\ud800 alone",
)

NETWORKS = {  # millions of parameters, GMACs
    "vit_t16": (5.7, 1.26), "vit_s16": (22.1, 4.61), "vit_b16": (86.6, 17.6), "mixer_s16": (18.5, 3.79),
    "mixer_b16": (59.9, 12.6), "swin_t": (28.3, 4.49), "swin_s": (49.6, 8.74), "swin_b": (87.8, 15.5),
    "poolformer_s12": (11.9, 1.82), "poolformer_s24": (21.4, 3.41), "poolformer_m36": (56.2, 8.8),
    "timm:swin_tiny_patch4_window7_224": (28.3, 4.51),
}  # fmt: skip
PLACE = {"device_name": "AMD EPYC", "threads": 2, "torch": "2.13.0+cpu", "python": "3.11.7", "metablocks": "0.1.0"}
SHARES = (("stem", 0.05), ("norm", 0.09), ("mixer", 0.41), ("mlp", 0.36), ("downsample", 0.06), ("head", 0.03))


def record(name: str = "swin_t", speed: float = 17.2, **changes: Any) -> Record:
    """A row that went well, of 3 processes of 10 rounds, about `speed` images a second."""
    params, macs = NETWORKS.get(name, (25.0, 4.0))
    noise = random.Random(ascii((name, changes)))
    batch = changes.get("batch", 8)
    found = Record(
        schema=SCHEMA,
        time="2026-01-01T00:00:00+00:00",
        status="ok",
        name=name,
        subject=name,
        kind=name.partition(":")[0] if ":" in name else "spec",
        digest=f"digest of {name}",
        mode="infer",
        batch=8,
        dtype="float32",
        device="cpu",
        compile="none",
        seconds=3.0,
        verdict="valid",
        image=(224, 224),
        params=round(params * 1e6),
        macs=round(macs * 1e9),
        flops=2 * round(macs * 1e9),
        activations=round(macs * 3e6),
        convention="MACs of matrix products, convolutions and attention for one image; FLOPs = 2 x MACs",
        environment=PLACE,
        figures=figures(speed, batch),
        processes=tuple(process(batch / speed, noise) for _ in range(3)),
    )
    return replace(found, **changes)


def figures(speed: float = 17.2, batch: int = 8) -> Figures:
    return Figures(
        images_per_s=speed,
        images_per_s_q1=speed * 0.985,
        images_per_s_q3=speed * 1.01,
        images_per_s_low=speed * 0.97,
        images_per_s_high=speed * 1.02,
        latency_p50_s=1.1 / speed,
        latency_p90_s=1.2 / speed,
        latency_p99_s=1.4 / speed,
        first_call_s=2.1,
        peak_memory_bytes=(90 << 20) + batch * (11 << 20),
        peak_memory_method="peak of the worker over its baseline",
    )


def process(round_s: float, noise: random.Random, rounds: int = 10) -> Process:
    wobble = noise.gauss(1, 0.004)
    return Process(
        rounds_s=tuple(round_s * wobble * noise.gauss(1, 0.01) for _ in range(rounds)),
        calls_per_round=1,
        wall_s=round_s * rounds * 1.05,
        steady=True,
        warm_up_calls=5,
        warm_up_s=1.0,
        build_s=0.4,
        first_call_s=2.1,
        compile_cache="cold",
    )


def failed(name: str = "swin_t", reason: str = "the worker was killed by SIGKILL", **changes: Any) -> Record:
    lost = {"status": "failed", "verdict": None, "figures": None, "processes": (), "failure": "crash"}
    return record(name, **{**lost, "environment": {}, "params": None, "macs": None, "reason": reason, **changes})


def pair(number: int, base: Record, other: Record) -> list[Record]:
    run = {"run": "a run", "pair": f"pair {number}"}
    return [replace(base, role="base", **run), replace(other, role="other", **run)]


def with_parts(one: Record) -> Record:
    assert one.figures
    whole = 8 / one.figures.images_per_s
    rows = [
        {"part": f"stages.{stage}", "what": what, "seconds": whole * share / 4, "share": share / 4,
         "macs": round((one.macs or 0) * share / 4), "bytes": 40_000_000 + stage,
         "intensity_macs_per_byte": 31.4, "share_of_peak": 0.42}
        for stage in range(4) for what, share in SHARES
    ]  # fmt: skip
    return replace(one, parts=tuple(rows))


def run() -> list[Record]:
    """A varied run: pairs of each verdict, failures, warnings, several batches, parts, a network of hostile name."""
    found: list[Record] = []
    for number, (name, (_, macs)) in enumerate(NETWORKS.items()):
        speed = 75 / macs**0.85 * (1.1 if "mixer" in name else 1.0)
        gain = (1.31, 1.004, 0.93, 1.12)[number % 4]
        eager = record(name, speed)
        found += pair(number, eager, record(name, speed * gain, compile="block"))
    found[3] = replace(found[3], verdict="unstable", warnings=(
        "batches of 8: not steady after 6 calls in 3.0 s; close other programs, or raise --seconds",))  # fmt: skip
    found[7] = replace(found[7], verdict="invalid", warnings=(
        "faster than the peak of this device: the clock was not synchronised",))  # fmt: skip
    found.append(failed("vit_h14", "out of memory at batch 8: the worker wanted 14.2 GiB of 7.9 GiB", compile="model"))
    found.append(failed("swin_b", "no answer for 900 s, so the worker was stopped"))
    for batch in (1, 2, 4, 8, 16, 32):
        for name in ("swin_t", "vit_s16", "poolformer_s12"):
            scale = {"swin_t": 1.5, "vit_s16": 1.0, "poolformer_s12": 0.8}[name]
            peak = replace(figures(17 * scale, batch), peak_memory_bytes=int(scale * ((90 << 20) + batch * (11 << 20))))
            found.append(record(name, 17 * scale, batch=batch, figures=peak))
    return [with_parts(one) if one.compile == "none" and one.batch == 8 and one.figures else one for one in found]
