"""All checks of the bench, one after the other. A check that does not end has failed, and the others still run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median

from metablocks.bench import clock
from metablocks.bench.hand import Watch
from metablocks.bench.selfcheck import cells, clocks, counting, networks, verdicts
from metablocks.bench.selfcheck.check import Check, Proof
from metablocks.bench.selfcheck.lab import Lab, NotMeasuredError
from metablocks.core.text import printable


@dataclass(frozen=True)
class Question:
    """A check by its name. `noisy`: other programs may make it fail, so that it is tried a second time."""

    key: str
    ask: Callable[[Lab], Check]
    noisy: bool = True


# In the order in which they run: what a quiet machine is needed for first, the roofline when all records are there.
QUESTIONS = (
    Question("S1 known delay", clocks.known_delay),
    Question("S1 known product", clocks.known_product),
    Question("S1 known spins", clocks.linear),
    Question("S2 chain", clocks.chain),
    Question("S2 hasty clock", clocks.trap),
    Question("S15 known samples", verdicts.frozen, noisy=False),
    Question("S16 properties", verdicts.properties, noisy=False),
    Question("S5 A/A simulated", verdicts.equals_synthetic, noisy=False),
    Question("S6 A/B simulated", verdicts.power_synthetic, noisy=False),
    Question("S5 A/A", verdicts.equals),
    Question("S6 A/B", verdicts.power),
    Question("S4 known matmul", cells.known_matmul),
    Question("S7 zero depth", networks.zero_depth, noisy=False),
    Question("S7 unused output", networks.unused_output),
    Question("S7 dead code", cells.dead_code, noisy=False),
    Question("S8 same input", networks.same_input),
    Question("S9 zeros", networks.zeros),
    Question("S10 compiler", cells.compile_accounts),
    Question("S10 miscompiled", cells.miscompiled, noisy=False),
    Question("S11 memory", cells.memory),
    Question("S12 larger batch", networks.larger_batch),
    Question("S12 deeper", networks.deeper),
    Question("S13 order", networks.order),
    Question("S14 noise", cells.disturbed),
    Question("S17 formula", counting.formula, noisy=False),
    Question("S17 fvcore", counting.second_counter, noisy=False),
    Question("S17 published", counting.published, noisy=False),
    Question("S3 roofline", cells.roofline),
)


def prove(lab: Lab, questions: Sequence[Question]) -> Proof:
    """These checks in this lab, sorted by number."""
    time, start = clock.stamp(), clock.now()
    told = lab.watch
    checks = []
    with _one_thread():
        for number, question in enumerate(questions, 1):
            place = f"{number} of {len(questions)}, {question.key}"
            told(place)
            lab.watch = _named(told, place)
            checks.append(_checked(lab, question))
    lab.watch = told
    shares = [one.foreign_cpu_share for record in lab.records for one in record.processes]
    known = [share for share in shares if share is not None]
    return Proof(
        tuple(sorted(checks, key=lambda check: int(check.key.split()[0].removeprefix("S")))),
        lab.device,
        time,
        clock.now() - start,
        next((record.environment for record in lab.records if record.environment), {}),
        median(known) if known else None,
    )


def _checked(lab: Lab, question: Question) -> Check:
    start = clock.now()
    found, first = _asked(lab, question), None
    if found.passed is False and question.noisy:
        first, found = found, _asked(lab, question)
    return replace(found, key=question.key, seconds=clock.now() - start, first_try=first.measured if first else None)


def _asked(lab: Lab, question: Question) -> Check:
    try:
        return question.ask(lab)
    except NotMeasuredError as error:
        return Check("not measured", _rule(question), None if error.missing else False, str(error))
    except Exception as error:  # a check that does not end is one that fails, and the others still tell
        first = next(iter(str(error).strip().splitlines()), "no message")
        wrong = f"{type(error).__name__}: {printable(first, limit=200)}"
        return Check("no result", _rule(question), False, f"it ended with {wrong}; report it")


def _rule(question: Question) -> str:
    """What a check is about, where it did not come to tell its rule."""
    return (question.ask.__doc__ or "").partition("\n")[0]


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for what runs in this process: threads that wait for one another multiply what others disturb."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _named(told: Watch, place: str) -> Watch:
    return lambda phase: told(f"{place}: {phase}")
