"""Subjects for benches: a tiny network, one whose mixer misbehaves, functions of files; and what workers import."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from metablocks.bench import clock, hand
from metablocks.bench.case import Case
from metablocks.bench.record import Figures, Process, Record, bare
from metablocks.bench.subject import Subject, subject

HERE = Path(__file__).parent
TINY = HERE / "tiny.yaml"
MIXERS = HERE / "mixers"
SUBJECTS = HERE / "subjects"
# Measuring the peaks of the device takes longer than all the rest of these cases: `quick_peaks` has them beforehand.
QUICK: dict[str, Any] = {"batch": 2, "seconds": 0.05, "processes": 1, "limit_s": 240.0}

SPEC: dict[str, Any] = {
    "net": "classifier",
    "image": {"size": [16, 16], "channels": 3},
    "classes": 4,
    "stem": {"patch_embed": {"patch": [8, 8]}},
    "block": {"norm": "layer_norm", "mixer": "pooling", "mlp": {"ratio": 1.0}},
    "stages": [{"dim": 8, "depth": 1}],
    "head": {"norm": "layer_norm", "pool": "mean"},
}


def case(fault: str = "", **conditions: Any) -> Case:
    """A quick case. Its mixers are let in by the worker alone, so that no other test sees them."""
    block = {**SPEC["block"], "mixer": {"faulty": {"fault": fault}}} if fault else SPEC["block"]
    text = json.dumps({**SPEC, "block": block}, sort_keys=True)
    subject = Subject("spec", "tiny", "tiny.yaml", text, (), (str(MIXERS),) if fault else ())
    return replace(Case(subject, **QUICK), **conditions)


def sent(fault: str = "", **conditions: Any) -> Case:
    """The same for a worker, which gets through it the more quickly."""
    return case(fault, **{"modules": ("quick_peaks",), **conditions})


def of_file(function: str, file: Path = SUBJECTS / "hostile.py", **conditions: Any) -> Case:
    """A case of a function of a file, for a worker."""
    return replace(sent(), subject=subject(f"{file}:{function}"), **conditions)


def unheard(phase: str) -> None:
    """Nobody watches."""


FITTING = 20  # images, which fit into a canned worker

# A worker without torch: it answers each command with what a real session once answered. Where its network has a faulty
# mixer it dies of that at once.
CANNED = """
import json, os, random, sys
told = json.load(open({answers!r}))
pipe = int(sys.argv[2])
case = json.loads(sys.stdin.readline())
for line in sys.stdin:
    asked = json.loads(line)
    if '"faulty"' in case["subject"]["text"]:
        os._exit(7)
    done = dict(told[asked["do"]])
    if asked["do"] == "turn":
        done["rounds_s"] = [0.001 + 0.0001 * random.random() for _ in range(asked["rounds"])]
    answer = {{"done": done}}
    if case["batch"] > {fitting}:
        answer = {{"failed": ["out_of_memory", "too large"]}}
    os.write(pipe, json.dumps(answer).encode() + b"\\n")
"""


@pytest.fixture(scope="session")
def canned(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The code of such a worker, to be put in the place of `hand.BOOT`."""
    from metablocks.bench import peaks
    from metablocks.bench.session import Session

    session = Session(case(mode="train"), unheard)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peaks, "peaks", lambda device, dtypes: {f"peak_flops_per_s_{dtypes[0]}": 1e15})  # noqa: ARG005
        asked: tuple[tuple[str, dict[str, Any]], ...] = (
            ("look", {}),
            ("prepare", {}),
            ("warm_up", {"what": "batches", "limit_s": 0.01}),
            ("turn", {"what": "batches", "calls": 1}),
            ("parts", {"rounds": 2}),
            ("finish", {}),
        )
        answers = {do: session.do(do, **said) for do, said in asked}
    answers["warm_up"] |= {"call_s": 0.001, "overhead_s": 1e-6}
    path = tmp_path_factory.mktemp("canned") / "answers.json"
    path.write_text(json.dumps(answers))
    return CANNED.format(answers=str(path), fitting=FITTING)


@pytest.fixture
def workers_are_canned(canned: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker answers at once: for what is the parent's work alone."""
    monkeypatch.setattr(hand, "BOOT", canned)


@pytest.fixture(scope="module", autouse=True)
def _workers_import_from_here() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(SUBJECTS))
        yield


class Done(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Done]]:
    """Runs `metablocks` with these arguments, in this process and in an empty folder, with the results beside it."""
    from metablocks.cli import main

    monkeypatch.chdir(tmp_path)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def run(*arguments: str) -> Done:
        monkeypatch.setattr("sys.argv", ["metablocks", *arguments])
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        assert isinstance(code, int)
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return Done(code, told.out, told.err)

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int) -> bool:
    """Whether a process ends within a moment: what is killed is not gone at once."""
    end = clock.now() + 20
    while lives(pid) and clock.now() < end:
        time.sleep(0.02)
    return not lives(pid)


def figures(images_per_s: float = 17.2, latency_s: float = 0.0649) -> Figures:
    return Figures(
        images_per_s=images_per_s,
        images_per_s_q1=images_per_s * 0.985,
        images_per_s_q3=images_per_s * 1.01,
        images_per_s_low=images_per_s * 0.98,
        images_per_s_high=images_per_s * 1.02,
        latency_p50_s=latency_s,
        latency_p90_s=latency_s * 1.1,
        latency_p99_s=latency_s * 1.2,
        build_s=0.2,
        first_call_s=40.2,
        peak_memory_bytes=250 << 20,
        peak_memory_method="weights + growth",
    )


def process(images_per_s: float = 17.2, wobble: float = 0.01, batch: int = 2) -> Process:
    """A worker whose rounds wobble around a speed."""
    spent = batch / images_per_s
    return Process(
        rounds_s=tuple(spent * (1 + wobble * sign) for sign in (0, 1, -1, 0.5, -0.5)),
        calls_per_round=1,
        wall_s=5 * spent,
        steady=True,
        warm_up_calls=4,
        warm_up_s=1.0,
        build_s=0.2,
        first_call_s=40.2,
        latency_rounds_s=(0.0649,) * 3,
    )


@pytest.fixture
def record() -> Record:
    """A record of a case that went well."""
    place = {"device_name": "a processor", "threads": 2, "torch": "2.13.0"}
    costs: dict[str, Any] = {
        "params": 28_288_354,
        "macs": 4_490_566_656,
        "flops": 8_981_133_312,
        "convention": "MACs of products",
    }
    return replace(
        bare(case(), "2026-01-01T00:00:00+00:00"),
        status="ok",
        verdict="valid",
        failure=None,
        reason=None,
        figures=figures(),
        processes=tuple(process(speed) for speed in (17.1, 17.2, 17.3)),
        environment=place,
        **costs,
    )
