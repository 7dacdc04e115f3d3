"""What a trial came to: its processes put together as figures, the warnings that belong to them, the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from metablocks.bench import statistics
from metablocks.bench.case import Case
from metablocks.bench.record import Figures, Process, Record, bare
from metablocks.bench.trial import Trial
from metablocks.core import units

Data = dict[str, Any]

FOREIGN = 0.1  # share of the processors that other programs may take without a warning
ROOM = 1.02  # times the measured peak
SPREAD = 0.1  # rounds that differ by more than this share of their median are warned about
DRIFT = 0.05  # change over a process that is warned about
STEP = 3  # FLOPs of a step over those of its forward pass: the backward pass has two products for each one
CALM = "close other programs, or raise --seconds"


def outcome(trial: Trial) -> Record:
    """The record of a trial, of one that failed too."""
    record = _with_facts(bare(trial.case, trial.time), trial.facts)
    if trial.failure is not None:
        failure, reason = trial.failure.failure, trial.failure.reason
        return replace(record, failure=failure, reason=reason, processes=tuple(trial.processes))
    figures, peaks = _figures(trial, record), _peaks(trial.facts)
    wrong, doubts = _impossible(trial.case, figures, peaks), _doubts(trial, figures)
    return replace(
        record,
        status="ok",
        failure=None,
        reason=None,
        verdict="invalid" if wrong else "unstable" if doubts else "valid",
        warnings=(*wrong, *doubts, *_notes(trial.facts, figures)),
        peaks=peaks,
        tried=trial.facts[0].get("tried", {}),
        figures=figures,
        processes=tuple(trial.processes),
        parts=tuple(trial.facts[0].get("parts", ())),
    )


def _with_facts(record: Record, facts: Sequence[Data]) -> Record:
    """What a worker tells before anything is timed. A worker that died at once told nothing."""
    if not facts or "environment" not in facts[0]:
        return record
    fact = facts[0]
    costs, image = fact["costs"], fact["image"]
    return replace(
        record,
        environment=fact["environment"],
        image=tuple(image) if image else None,
        params=costs.get("params"),
        macs=costs.get("macs"),
        flops=costs.get("flops"),
        activations=costs.get("activations"),
        unknown_ops=tuple(costs.get("unknown", ())),
        convention=costs.get("convention"),
    )


def _figures(trial: Trial, record: Record) -> Figures:
    case, processes, last = trial.case, trial.processes, trial.facts[-1]
    rates = [speeds(process, case.batch) for process in processes]
    q1, _, q3 = statistics.quartiles([rate for process in rates for rate in process])
    bounds = statistics.interval(rates)
    middle = median(median(process) for process in rates)
    made = trial.facts[0].get("compiled", {})
    known = ("compiled_graphs", "graph_breaks", "recompiles", "eager_difference", "eager_difference_limit")
    work = None if record.flops is None else record.flops * (1 if case.mode == "infer" else STEP)
    figures = Figures(
        images_per_s=middle,
        images_per_s_q1=q1,
        images_per_s_q3=q3,
        images_per_s_low=bounds.low if bounds else None,
        images_per_s_high=bounds.high if bounds else None,
        build_s=median(process.build_s for process in processes),
        first_call_s=processes[0].first_call_s,
        compile_cold_s=_compile_s(processes, "cold"),
        compile_warm_s=_compile_s(processes, "warm"),
        flops_per_s=None if work is None else work * middle,
        **{key: made[key] for key in known if key in made},
        **_memory(last),
    )
    return replace(figures, **_latency(processes), **_parts(processes))


def speeds(process: Process, batch: int) -> list[float]:
    """Images a second of each round."""
    return [batch * process.calls_per_round / spent for spent in process.rounds_s]


def _latency(processes: Sequence[Process]) -> Data:
    """Percentiles of the calls of all processes together."""
    calls = [spent for process in processes for spent in process.latency_rounds_s]
    shares = {"latency_p50_s": 0.5, "latency_p90_s": 0.9, "latency_p99_s": 0.99}
    return {key: statistics.quantile(calls, share) for key, share in shares.items()} if calls else {}


def _parts(processes: Sequence[Process]) -> Data:
    names = processes[0].parts_s
    return {f"{name}_s": median(spent for process in processes for spent in process.parts_s[name]) for name in names}


def _compile_s(processes: Sequence[Process], cache: str) -> float | None:
    found = [process.compile_s for process in processes if process.compile_cache == cache and process.compile_s]
    return median(found) if found else None


def _memory(fact: Data) -> Data:
    """The memory of the last process, and how far a prediction is off it."""
    told = fact["memory"]
    peak, predicted = told.pop("peak_bytes"), fact.get("predicted_bytes")
    found = {"peak_memory_bytes": peak, "peak_memory_method": told.pop("method"), **told}
    if predicted is not None:
        found["predicted_peak_memory_bytes"] = predicted
        found["predicted_peak_memory_error"] = predicted / peak - 1 if peak else None
    return found


def _peaks(facts: Sequence[Data]) -> dict[str, float]:
    """The best of what any process saw."""
    return {key: max(fact["peaks"][key] for fact in facts if key in fact["peaks"]) for key in facts[0]["peaks"]}


def _impossible(case: Case, figures: Figures, peaks: dict[str, float]) -> list[str]:
    """Faster than the device: a missing synchronisation, work that was not done, or a count that is wrong."""
    peak = peaks.get(f"peak_flops_per_s_{case.dtype.removeprefix('amp_')}")
    if peak is None or figures.flops_per_s is None or figures.flops_per_s <= ROOM * peak:
        return []
    seen, most = units.short(figures.flops_per_s, "FLOP/s"), units.short(peak, "FLOP/s")
    return [f"faster than the device: {seen}, where a product reaches {most}; believe neither, measure again"]


def _doubts(trial: Trial, figures: Figures) -> list[str]:
    """Why the times may not be what they seem, each with the next step."""
    processes, case = trial.processes, trial.case
    told = []
    wobbly = [process for process in processes if not process.steady]
    if wobbly:
        told.append(f"not steady after the warm-up in {_of(wobbly, processes)}; {CALM}")
    drifting = [drift for process in processes if (drift := statistics.drift(process.rounds_s)) and abs(drift) > DRIFT]
    if drifting:
        worst = max(drifting, key=abs)
        told.append(f"drift of {units.percent(worst)} over the rounds in {_of(drifting, processes)}; {CALM}")
    foreign = max((process.foreign_cpu_share or 0.0 for process in processes), default=0.0)
    if foreign > FOREIGN:
        told.append(f"other programs took {units.percent(foreign)} of the processors; close them")
    spread = (figures.images_per_s_q3 - figures.images_per_s_q1) / figures.images_per_s
    if spread > SPREAD:
        told.append(f"the middle half of the rounds spreads by {units.percent(spread)}; {CALM}")
    for fact in trial.facts:
        told += fact["environment_warnings"] + fact["sensor_warnings"]
        if fact["slept_s"]:
            told.append(f"the machine slept for {units.seconds(fact['slept_s'])} while it was timed; measure again")
        if fact["held_back_s"]:
            told.append(
                f"a CPU quota held it back for {units.seconds(fact['held_back_s'])}; raise the container's quota"
            )
    told += _suspects(case, figures)
    return list(dict.fromkeys(told))


def _suspects(case: Case, figures: Figures) -> list[str]:
    breaks, again = figures.graph_breaks, figures.recompiles
    told = [f"{breaks} graph breaks: parts of it ran eager; see TORCH_LOGS=graph_breaks"] if breaks else []
    if again:
        told.append(f"{again} recompiles at one input shape; see TORCH_LOGS=recompiles")
    return told if case.compile != "none" else []


def _notes(facts: Sequence[Data], figures: Figures) -> list[str]:
    """What the reader must know that does not put the times in doubt."""
    costs = facts[0]["costs"]
    told = [costs["warning"]] if "warning" in costs else []
    if costs.get("unknown"):
        told.append(f"MACs are unknown: no count for {', '.join(costs['unknown'])}")
    told += facts[0].get("parts_warnings", [])
    if figures.peak_memory_bytes is None:
        told.append("peak memory is not measured here; run on Linux, or on CUDA")
    return told


def _of(some: Sequence[object], all_of_them: Sequence[object]) -> str:
    return f"{len(some)} of {len(all_of_them)} processes"
