"""The checks of the self-check: right is passed, and what is wrong on purpose fails. No wall time decides here."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from metablocks.bench.case import Case
from metablocks.bench.clock import Clock
from metablocks.bench.hand import Watch
from metablocks.bench.record import Figures, Process, Record, bare
from metablocks.bench.selfcheck import cells, clocks, counting, networks, verdicts
from metablocks.bench.selfcheck.check import Check
from metablocks.bench.selfcheck.checks import QUESTIONS, Question, prove
from metablocks.bench.selfcheck.lab import Lab, NotMeasuredError, Run
from metablocks.bench.selfcheck.simulated import MACHINES, Machine, Rounds, pair
from metablocks.bench.statistics import BETTER, CANNOT_TELL, Comparison

TIME = "2026-01-01T00:00:00+00:00"


def process(rounds: Sequence[float] = (0.01,) * 60, **what: object) -> Process:
    made = Process(tuple(rounds), 1, 10.0, True, 4, 0.2, 0.1, 0.5, foreign_cpu_share=0.01)
    return replace(made, **what)


def record(case: Case, processes: Sequence[Process], **figures: float | None) -> Record:
    told = Figures(**({"images_per_s": 100.0, "images_per_s_q1": 99.0, "images_per_s_q3": 101.0} | figures))
    return replace(
        bare(case, TIME),
        status="ok",
        failure=None,
        reason=None,
        verdict="valid",
        figures=told,
        processes=tuple(processes),
        peaks={"peak_flops_per_s_float32": 1e9, "peak_flops_per_s_bfloat16": 1e9},
    )


def simulated_run(slower: float, machine: Machine = MACHINES["drift"]) -> Run:
    """What stands in for workers: pairs of processes on a machine that is not there."""

    def run(cases: Sequence[Case], watch: Watch) -> list[Record]:  # noqa: ARG001
        draw = random.Random(1)
        made = [pair(draw, machine, slower) for _ in range(cases[0].processes)]
        sides: list[list[Process]] = [[], []]
        for one in made:  # three short processes as a long one
            for side, times in zip(sides, one, strict=True):
                side.append(process([value for rounds in times for value in rounds]))
        return [record(case, side) for case, side in zip(cases, sides, strict=True)]

    return run


def lab_of(*records: Record) -> Lab:
    """A lab whose every run comes to these records."""
    return Lab("cpu", run=lambda cases, watch: list(records))  # noqa: ARG005


CASE = Lab("cpu").case("pause")


def test_every_check_that_the_rules_name_is_there() -> None:
    assert {int(question.key.split()[0][1:]) for question in QUESTIONS} == set(range(1, 18))
    assert len({question.key for question in QUESTIONS}) == len(QUESTIONS)
    assert all(question.ask.__doc__ for question in QUESTIONS)


@pytest.mark.parametrize(
    "ask",
    [
        verdicts.equals_synthetic,
        verdicts.power_synthetic,
        verdicts.frozen,
        verdicts.properties,
        networks.zero_depth,
        counting.formula,
        counting.published,
    ],
)
def test_what_depends_on_no_machine_passes(ask: Callable[[Lab], Check]) -> None:
    found = ask(Lab("cpu"))
    assert found.passed, found.measured


def test_the_second_counter_agrees_or_is_not_there() -> None:
    found = counting.second_counter(Lab("cpu"))
    assert found.passed or (found.passed is None and found.advice == "pip install fvcore")


def test_statistics_that_see_differences_everywhere_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "paired", lambda *_, **__: Comparison(1.01, 1.0, 1.02, 0.01, verdict=BETTER))
    assert verdicts.equals_synthetic(Lab("cpu")).passed is False
    assert verdicts.power_synthetic(Lab("cpu")).passed is False
    assert verdicts.frozen(Lab("cpu")).passed is False


def test_statistics_that_see_none_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "paired", lambda *_, **__: Comparison(1.0, verdict=CANNOT_TELL))
    assert verdicts.equals_synthetic(Lab("cpu")).passed
    assert verdicts.power_synthetic(Lab("cpu")).passed is False


def test_twenty_repeats_use_no_round_twice() -> None:
    for processes in (4, 6):
        sides = []
        for side in range(2):
            values = iter(range(1 + 1000 * side, 1000 * (side + 1)))
            rounds = [[float(next(values)) for _ in range(70)] for _ in range(processes)]
            sides.append(record(CASE, [process(one) for one in rounds]))
        seen: list[float] = []

        def note(base: Rounds, other: Rounds, seen: list[float] = seen) -> None:
            seen += [value for one in (*base, *other) for value in one]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(verdicts, "paired", note)
            assert len(verdicts.repeats(*sides)) == 20
        assert len(seen) == len(set(seen)) == 2 * processes * 70


def test_too_few_rounds_for_twenty_repeats_are_no_check() -> None:
    short = record(CASE, [process([0.1] * 9)] * 6)
    with pytest.raises(NotMeasuredError, match="fewer than 10 rounds"):
        verdicts.repeats(short, short)


def test_workers_that_measure_equals_pass_and_others_do_not() -> None:
    assert verdicts.equals(Lab("cpu", run=simulated_run(0.0))).passed
    assert verdicts.equals(Lab("cpu", run=simulated_run(0.10))).passed is False


def test_workers_that_measure_five_percent_pass_and_others_do_not() -> None:
    found = verdicts.power(Lab("cpu", run=simulated_run(0.05)))
    assert found.passed, found.measured
    assert verdicts.power(Lab("cpu", run=simulated_run(0.0))).passed is False
    assert verdicts.power(Lab("cpu", run=simulated_run(-0.05))).passed is False


def test_a_clock_that_does_not_wait_shows_next_to_nothing() -> None:
    with clocks.Later() as later:
        call = later.put(lambda: time.sleep(0.001))
        waits, told = clocks._believable(clocks._Waiting(later), call, 0.001)
        assert waits, told
        # so much that no pause of a busy machine comes near it
        assert not clocks._believable(Clock("cpu"), call, 60.0)[0]
        later.wait()


def test_a_product_never_takes_less_than_it_says_itself() -> None:
    found = clocks.known_product(Lab("cpu"))
    assert found.values["measured_over_own_ratio"] >= 1


def test_networks_are_held_against_each_other_in_this_process() -> None:
    (found,) = prove(Lab("cpu"), [Question("S12 deeper", networks.deeper, noisy=False)]).checks
    assert set(found.values) == {"ratio", "ratio_low", "ratio_high"}
    assert found.measured.endswith(" times the speed")


@pytest.mark.parametrize(("flops_per_s", "passed"), [(1.01e9, True), (1.05e9, False)])
def test_faster_than_the_device_fails(flops_per_s: float, passed: bool) -> None:
    lab = Lab("cpu")
    lab.records = [record(CASE, [process()], flops_per_s=flops_per_s)]
    assert cells.roofline(lab).passed is passed


def test_without_peaks_there_is_no_roofline() -> None:
    with pytest.raises(NotMeasuredError):
        cells.roofline(Lab("cpu"))


@pytest.mark.parametrize(("flops_per_s", "passed"), [(0.6e9, True), (0.2e9, False)])
def test_products_far_below_the_peak_fail(flops_per_s: float, passed: bool) -> None:
    lab = Lab("cpu")
    # 512 images in each round of 10 ms
    made = record(lab.products(), [process()], images_per_s=51_200.0, flops_per_s=flops_per_s)
    found = cells.known_matmul(lab_of(made))
    assert found.passed is passed
    assert "busy or throttled" in found.advice


def test_a_worker_marks_work_that_is_claimed_and_not_done_as_invalid() -> None:
    lab = Lab("cpu")
    found = cells.dead_code(lab)
    assert found.passed, found
    assert not lab.records


def compiled(seconds: float, cache: str) -> Process:
    return process(compile_s=seconds, compile_cache=cache, first_call_s=seconds + 0.01)


@pytest.mark.parametrize(
    ("second", "passed"),
    [
        (compiled(1.0, "warm"), True),
        (compiled(9.0, "warm"), False),
        (compiled(1.0, "cold"), False),
        (replace(compiled(1.0, "warm"), rounds_s=(0.02,) * 9), False),
        (replace(compiled(1.0, "warm"), wall_s=0.1), False),
    ],
    ids=["right", "slower", "not cached", "other speed", "longer than the wall"],
)
def test_the_compilers_time_has_to_add_up(second: Process, passed: bool) -> None:
    found = cells.compile_accounts(lab_of(record(CASE, [compiled(8.0, "cold"), second])))
    assert found.passed is passed


def test_outputs_of_the_compiler_that_differ_must_not_be_timed() -> None:
    wrong = replace(bare(CASE, TIME), failure="mismatch", reason="they differ")
    assert cells.miscompiled(lab_of(wrong)).passed
    assert cells.miscompiled(lab_of(record(CASE, [process()]))).passed is False
    with pytest.raises(NotMeasuredError) as caught:
        cells.miscompiled(lab_of(replace(wrong, failure="missing", reason="no compiler")))
    assert caught.value.missing


@pytest.mark.parametrize(
    ("heavy", "light", "passed"),
    [(256 << 20, 1 << 20, True), (250 << 20, 0, False), (256 << 20, 256 << 20, False)],
)
def test_memory_has_to_be_all_there_and_in_its_own_worker(heavy: int, light: int, passed: bool) -> None:
    made = [record(CASE, [process()], peak_memory_bytes=peak) for peak in (heavy, light)]
    assert cells.memory(lab_of(*made)).passed is passed


def test_a_disturbance_has_to_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells.os, "cpu_count", lambda: 2)
    seen = replace(
        record(CASE, [process(foreign_cpu_share=0.5)]), verdict="unstable", warnings=("other programs took 50 %",)
    )
    assert cells.disturbed(lab_of(seen)).passed
    assert cells.disturbed(lab_of(record(CASE, [process()]))).passed is False
    with pytest.raises(NotMeasuredError) as caught:
        cells.disturbed(lab_of(record(CASE, [process(foreign_cpu_share=None)])))
    assert caught.value.missing


def interrupted(started: list[subprocess.Popen[bytes]]) -> None:
    with cells.hogs(2):
        assert [one.poll() for one in started] == [None, None]
        raise KeyboardInterrupt


def test_hogs_are_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    original = subprocess.Popen

    def kept(command: list[str], stdin: int) -> subprocess.Popen[bytes]:
        started.append(original(command, stdin=stdin))
        return started[-1]

    monkeypatch.setattr(cells.subprocess, "Popen", kept)
    with pytest.raises(KeyboardInterrupt):
        interrupted(started)
    assert len(started) == 2
    assert all(one.poll() is not None for one in started)
