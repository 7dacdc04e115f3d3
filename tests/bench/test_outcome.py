"""What the processes of a trial come to: figures, the warnings that belong to them with a next step, the verdict."""

from __future__ import annotations

from dataclasses import replace
from statistics import median
from typing import Any

import pytest

from metablocks.bench.hand import WorkerFailedError
from metablocks.bench.outcome import outcome, speeds
from metablocks.bench.record import Figures, Process, Record
from metablocks.bench.trial import Trial

from .conftest import case, process

COSTS = {"params": 10, "macs": 1000, "flops": 2000, "activations": 30, "unknown": [], "convention": "MACs of products"}
MEMORY = {"peak_bytes": 1000, "method": "growth", "parameters_bytes": 400, "gradients_bytes": 0, "optimiser_bytes": 0,
          "activations_bytes": 600}  # fmt: skip


def fact(**changes: Any) -> dict[str, Any]:
    """What a process told when it was prepared and when it finished."""
    told = {
        "environment": {"torch": "2.13.0", "threads": 2},
        "environment_warnings": [],
        "image": [16, 16],
        "costs": dict(COSTS),
        "memory": dict(MEMORY),
        "peaks": {"peak_flops_per_s_float32": 1e9, "peak_copy_bytes_per_s": 1e9},
        "sensor_warnings": [],
        "slept_s": 0.0,
        "held_back_s": 0.0,
    }
    return told | changes


def made(*processes: Process, facts: list[dict[str, Any]] | None = None, **conditions: Any) -> Record:
    """The record of a trial with these processes; three good ones where none are given."""
    trial = Trial(case(**conditions))
    trial.processes = list(processes or (process(17.1), process(17.2), process(17.3)))
    trial.facts = [fact() for _ in trial.processes] if facts is None else facts
    return outcome(trial)


def figures_of(record: Record) -> Figures:
    assert record.figures is not None
    return record.figures


def test_what_went_well_is_valid_and_says_what_was_asked_and_where() -> None:
    record = made()
    assert (record.status, record.verdict, record.failure, record.reason) == ("ok", "valid", None, None)
    assert record.warnings == ()
    assert (record.params, record.macs, record.flops, record.activations) == (10, 1000, 2000, 30)
    assert record.convention == "MACs of products"
    assert record.image == (16, 16)
    assert record.environment == {"torch": "2.13.0", "threads": 2}
    assert record.peaks["peak_flops_per_s_float32"] == 1e9
    assert len(record.processes) == 3


def test_the_speed_is_the_median_of_the_process_medians_between_bounds_that_hold_it() -> None:
    figures = figures_of(made())
    assert figures.images_per_s == pytest.approx(17.2)
    assert figures.images_per_s_q1 <= figures.images_per_s <= figures.images_per_s_q3
    assert figures.images_per_s_low is not None
    assert figures.images_per_s_high is not None
    assert figures.images_per_s_low < 17.1 < 17.3 < figures.images_per_s_high


def test_a_process_with_many_rounds_counts_no_more_than_the_others() -> None:
    slow = process(10.0)
    many = replace(slow, rounds_s=slow.rounds_s * 50)
    assert figures_of(made(many, process(20.0), process(21.0))).images_per_s == pytest.approx(20.0)


def test_one_process_gives_no_interval() -> None:
    figures = figures_of(made(process(), processes=1))
    assert (figures.images_per_s_low, figures.images_per_s_high) == (None, None)


def test_the_speed_of_a_round_counts_its_calls_and_their_images() -> None:
    one = replace(process(), rounds_s=(0.5, 0.25), calls_per_round=5)
    assert speeds(one, batch=4) == [40, 80]


def test_latency_is_of_the_calls_of_all_processes() -> None:
    calls = [tuple(0.01 * (1 + index + 10 * number) for index in range(10)) for number in range(3)]
    figures = figures_of(made(*(replace(process(), latency_rounds_s=one) for one in calls)))
    assert figures.latency_p50_s == pytest.approx(median(spent for one in calls for spent in one))
    assert figures.latency_p90_s == pytest.approx(0.271)
    assert figures.latency_p99_s == pytest.approx(0.2971)
    assert figures_of(made(replace(process(), latency_rounds_s=()))).latency_p50_s is None


def test_the_parts_of_a_step_are_medians_of_all_processes() -> None:
    parted = [replace(process(), latency_rounds_s=(), parts_s={"forward": (one, 3 * one), "backward": (2.0, 2.0),
              "optimiser": (3.0,)}) for one in (0.1, 0.2, 0.3)]  # fmt: skip
    figures = figures_of(made(*parted, mode="train"))
    assert [figures.forward_s, figures.backward_s, figures.optimiser_s] == pytest.approx([0.3, 2.0, 3.0])


def test_a_step_has_three_times_the_flops_of_its_forward_pass() -> None:
    assert figures_of(made()).flops_per_s == pytest.approx(2000 * 17.2)
    assert figures_of(made(mode="train")).flops_per_s == pytest.approx(3 * 2000 * 17.2)
    assert figures_of(made(facts=[fact(costs=COSTS | {"flops": None})] * 3)).flops_per_s is None


def test_compile_times_are_apart_by_what_the_cache_held() -> None:
    cold = replace(process(), compile_s=40.0, compile_cache="cold")
    warm = [replace(process(), compile_s=one, compile_cache="warm") for one in (2.0, 4.0)]
    compiled = {"compiled_graphs": 3, "graph_breaks": 0, "recompiles": 0, "eager_difference": 1e-6,
                "eager_difference_limit": 1e-3, "compile_cache": "cold"}  # fmt: skip
    record = made(cold, *warm, facts=[fact(compiled=compiled), fact(), fact()], compile="block")
    figures = figures_of(record)
    assert (figures.compile_cold_s, figures.compile_warm_s) == (40.0, 3.0)
    assert (figures.compiled_graphs, figures.graph_breaks, figures.eager_difference) == (3, 0, 1e-6)
    assert record.verdict == "valid"
    alone = figures_of(made())
    assert (alone.compile_cold_s, alone.compile_warm_s, alone.compiled_graphs) == (None, None, None)


def test_a_prediction_stands_beside_the_measured_peak_with_its_error() -> None:
    figures = figures_of(made(facts=[fact(), fact(), fact(predicted_bytes=900)]))
    assert (figures.peak_memory_bytes, figures.predicted_peak_memory_bytes) == (1000, 900)
    assert figures.predicted_peak_memory_error == pytest.approx(-0.1)
    assert (figures.parameters_bytes, figures.activations_bytes) == (400, 600)


def test_memory_that_could_not_be_measured_is_absent_and_told() -> None:
    blind = MEMORY | {"peak_bytes": None, "method": None, "activations_bytes": None}
    record = made(facts=[fact(memory=dict(blind), predicted_bytes=900) for _ in range(3)])
    figures = figures_of(record)
    assert (figures.peak_memory_bytes, figures.predicted_peak_memory_error) == (None, None)
    assert record.verdict == "valid"
    assert record.warnings == ("peak memory is not measured here; run on Linux, or on CUDA",)


@pytest.mark.parametrize(("peak", "verdict"), [(2000 * 17.2, "valid"), (2000 * 17.2 / 1.03, "invalid")])
def test_times_faster_than_the_device_are_invalid(peak: float, verdict: str) -> None:
    record = made(facts=[fact(peaks={"peak_flops_per_s_float32": peak})] * 3)
    assert record.verdict == verdict
    assert any("faster than the device" in text for text in record.warnings) == (verdict == "invalid")


def test_the_peak_of_any_process_counts_and_that_of_the_dtype() -> None:
    low, high = ({"peak_flops_per_s_bfloat16": peak} for peak in (1.0, 1e9))
    record = made(facts=[fact(peaks=low), fact(peaks=high), fact(peaks=low)], dtype="amp_bfloat16")
    assert record.peaks == high
    assert record.verdict == "valid"
    assert made(facts=[fact(peaks=low)] * 3, dtype="amp_bfloat16").verdict == "invalid"
    assert made(facts=[fact(peaks={})] * 3).verdict == "valid"


def drifting() -> Process:
    return replace(process(), rounds_s=tuple(0.1 * (1 + 0.01 * index) for index in range(20)))


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (replace(process(), steady=False), "not steady after the warm-up in 1 of 3 processes; close other programs"),
        (drifting(), "drift of 17 % over the rounds in 1 of 3 processes; close other programs"),
        (replace(process(), foreign_cpu_share=0.4), "other programs took 40 % of the processors; close them"),
        (process(wobble=0.5), "the middle half of the rounds spreads by"),
    ],
    ids=("not steady", "drift", "foreign", "spread"),
)
def test_what_puts_the_times_in_doubt_is_told_with_the_next_step(one: Process, words: str) -> None:
    others = (process(), process()) if "spreads" not in words else (one, one)
    record = made(one, *others)
    assert record.verdict == "unstable"
    assert any(words in text for text in record.warnings), record.warnings
    assert all(";" in text for text in record.warnings)
    assert record.figures is not None


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"slept_s": 3.0}, "the machine slept for 3 s while it was timed; measure again"),
        ({"held_back_s": 0.5}, "a CPU quota held it back for 500 ms; raise the container's quota"),
        ({"environment_warnings": ["CUDA_LAUNCH_BLOCKING is set; unset it"]}, "CUDA_LAUNCH_BLOCKING is set; unset it"),
        ({"sensor_warnings": ["throttled; cool it"]}, "throttled; cool it"),
    ],
    ids=("slept", "quota", "environment", "sensors"),
)
def test_what_stood_around_the_times_is_told_once(told: dict[str, Any], words: str) -> None:
    record = made(facts=[fact(**told), fact(), fact(**told)])
    assert record.verdict == "unstable"
    assert record.warnings == (words,)


@pytest.mark.parametrize(
    ("compiled", "words"),
    [
        ({"graph_breaks": 2}, "2 graph breaks: parts of it ran eager; see TORCH_LOGS=graph_breaks"),
        ({"recompiles": 1}, "1 recompiles at one input shape; see TORCH_LOGS=recompiles"),
    ],
)
def test_breaks_and_recompiles_of_what_is_compiled_are_told(compiled: dict[str, Any], words: str) -> None:
    facts = [fact(compiled={"compile_cache": "cold", **compiled})] * 3
    assert made(facts=facts, compile="model").warnings == (words,)


def test_costs_that_are_not_known_are_told_and_cast_no_doubt_on_the_times() -> None:
    unknown = COSTS | {"macs": None, "flops": None, "unknown": ["mine::op", "mine::other"]}
    record = made(facts=[fact(costs=unknown)] * 3)
    assert (record.verdict, record.macs, record.unknown_ops) == ("valid", None, ("mine::op", "mine::other"))
    assert record.warnings == ("MACs are unknown: no count for mine::op, mine::other",)
    record = made(facts=[fact(costs={"warning": "MACs are unknown: it does not run"})] * 3)
    assert (record.verdict, record.params, record.warnings) == ("valid", None, ("MACs are unknown: it does not run",))


def test_where_the_time_goes_is_in_the_record_with_what_is_doubtful_about_it() -> None:
    rows = [{"part": "stem", "share": 1.0}]
    record = made(facts=[fact(parts=rows, parts_warnings=["the clock inside adds 8 %"]), fact(), fact()])
    assert record.parts == ({"part": "stem", "share": 1.0},)
    assert record.warnings == ("the clock inside adds 8 %",)


def lost(facts: list[dict[str, Any]]) -> Record:
    trial = Trial(case())
    trial.failure = WorkerFailedError("killed", "the worker was killed by SIGKILL")
    trial.processes, trial.facts = [process()] * max(0, len(facts) - 1), facts
    return outcome(trial)


def test_what_failed_has_a_reason_and_no_figures_whatever_else_is_known() -> None:
    for record in (lost([]), lost([{}]), lost([fact(), {}])):
        assert (record.status, record.figures, record.verdict) == ("failed", None, None)
        assert (record.failure, record.reason) == ("killed", "the worker was killed by SIGKILL")
    late = lost([fact(), {}])
    assert (late.params, late.environment["threads"], len(late.processes)) == (10, 2, 1)
    assert lost([]).environment == {}
