"""What the options of a measuring command ask for, put over what a suite says: lists with commas, sizes, `max`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metablocks.core.errors import Fault, InputError
from metablocks.core.text import printable

if TYPE_CHECKING:
    from metablocks.bench.case import Case
    from metablocks.bench.conditions import Conditions

MAX = "max"
COMPILES = ("none", "block")
BATCH = {"cpu": 8, "cuda": 64}
GIB = 1 << 30


@dataclass(frozen=True)
class Given:
    """Options as they were typed; None: not given."""

    mode: str | None = None
    batch: str | None = None
    image: str | None = None
    dtype: str | None = None
    how: str | None = None
    seconds: float | None = None
    processes: int | None = None
    limit: float | None = None
    memory: float | None = None
    modules: tuple[str, ...] = ()
    kernels: str | None = None


def planned_pairs(
    sources: Sequence[str], given: Given, switches: dict[str, Any], sets: Sequence[str], folders: Sequence[Path]
) -> list[tuple[Case, ...]]:
    """What is to be measured, pair by pair: subjects that are named are a group of their own, beside named suites."""
    from metablocks.bench.cells import cases, pairs
    from metablocks.bench.conditions import Conditions
    from metablocks.bench.suite import Wanted, is_suite, read_suite, subjects

    device = switches["device"]
    base = Conditions(device=device, compiles=COMPILES, batches=(BATCH.get(device.partition(":")[0], BATCH["cpu"]),))
    named = tuple(Wanted(source) for source in sources if not is_suite(source))
    suites = [read_suite(source, device) for source in sources if is_suite(source)]
    asked = [(named, base)] if named else []
    asked += [(group, suite.conditions) for suite in suites for group in suite.groups]
    found: list[tuple[Case, ...]] = []
    for group, usual in asked:
        conditions = conditions_over(usual, given, switches)
        made = cases(subjects(group, conditions, sets, folders), conditions)
        found += pairs([_limited(case, given) for case in made])
    return found


def conditions_over(base: Conditions, given: Given, switches: dict[str, Any]) -> Conditions:
    """The conditions with what was given put over them."""
    whole = _each("--batch", "a number of images, or max", int)
    numbers = None if given.batch == MAX else given.batch
    lists = {
        "modes": _split(given.mode),
        "batches": (1,) if given.batch == MAX else whole(numbers),
        "images": _each("--image", "a number of pixels, or two as 224x192", _image)(given.image),
        "dtypes": _split(given.dtype),
        "compiles": _split(given.how),
        "seconds": given.seconds,
        "processes": given.processes,
        "limit_s": given.limit,
        "kernels": given.kernels,
    }
    chosen: dict[str, Any] = {key: value for key, value in lists.items() if value is not None}
    return replace(base, **chosen, **{key: value for key, value in switches.items() if value})


def checkpointing(text: str | None) -> bool | float:
    """What `--checkpoint` asks for: of every block its input, or a share of the activations."""
    if text in (None, "block"):
        return text is not None
    assert text is not None
    try:
        return float(text)
    except ValueError:
        wrong = f"--checkpoint {printable(text)}"
        raise InputError(Fault(wrong, help="block, or the share of the activations to keep: 0.5")) from None


def _split(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(word.strip() for word in text.split(","))


def _each(option: str, wanted: str, read: Callable[[str], Any]) -> Callable[[str | None], tuple[Any, ...] | None]:
    """Reads every word of a list with commas."""

    def values(text: str | None) -> tuple[Any, ...] | None:
        if text is None:
            return None
        try:
            return tuple(read(word) for word in text.split(","))
        except ValueError:
            raise InputError(Fault(f"{option} {printable(text)}", help=wanted)) from None

    return values


def _image(word: str) -> tuple[int, int]:
    height, by, width = word.partition("x")
    return int(height), int(width if by else height)


def _limited(case: Case, given: Given) -> Case:
    """The case with what a worker may take, and what it imports first."""
    if given.memory is not None and not 0 < given.memory < 1 << 20:
        raise InputError(Fault(f"--memory {given.memory:g}", help="a positive number of GiB"))
    limit = None if given.memory is None else int(given.memory * GIB)
    return replace(case, memory_limit_bytes=limit, modules=given.modules)
