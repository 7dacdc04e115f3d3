"""The cells of a bench: subjects times conditions, and which of them are measured in turns."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

from metablocks.bench.case import COMPILES, Case
from metablocks.bench.conditions import Conditions, check_size, faults
from metablocks.bench.subject import Subject
from metablocks.core.errors import Fault, InputError
from metablocks.core.text import printable

NOBODY = Subject("", "", "", "")


def cases(subjects: Sequence[Subject], conditions: Conditions) -> list[Case]:
    """Every subject under every combination of the conditions, each once.

    Only specs have blocks: a network of someone else is compiled whole where blocks are asked for.
    Raises `InputError` with every fault of the conditions, and then `InputError` or `MissingError` for the device.
    """
    check_size(len(set(subjects)), replace(conditions, images=()))
    wrong = [*faults(conditions), *_unfit(subjects, conditions.modes)]
    if wrong:
        raise InputError(*wrong)
    from metablocks.build import device_of  # torch, only for what reads so far
    from metablocks.kernels.choice import chosen

    device = device_of(conditions.device)
    kernels = conditions.kernels or chosen(device)
    made = (
        Case(
            subject,
            mode,
            batch,
            dtype,
            conditions.device,
            _compile(subject, how),
            channels_last=conditions.channels_last,
            checkpoint=mode != "infer" and conditions.checkpoint,
            seconds=conditions.seconds,
            processes=conditions.processes,
            limit_s=conditions.limit_s,
            modules=conditions.modules,
            kernels=kernels if subject.kind == "spec" else None,
        )
        for subject in subjects
        for mode in conditions.modes
        for batch in conditions.batches
        for dtype in conditions.dtypes
        for how in conditions.compiles
    )
    return list(dict.fromkeys(made))


def pairs(cases: Sequence[Case]) -> list[tuple[Case, ...]]:
    """What is measured together, the base first: cases that share all but the subject, with those of the first subject.

    Of a subject that is alone under its conditions, the ways to compile are held against the first one. A case without
    a partner is alone; a base with several partners is measured with each of them.
    """
    groups: dict[Hashable, list[Case]] = {}
    for case in dict.fromkeys(cases):
        shared = replace(case, subject=NOBODY, compile="none", kernels=None)
        groups.setdefault((case.subject.image, shared), []).append(case)
    return [pair for group in groups.values() for pair in _paired(group)]


def _paired(group: Sequence[Case]) -> list[tuple[Case, ...]]:
    base = [case for case in group if case.subject == group[0].subject]
    others = [case for case in group if case.subject != group[0].subject]
    if not others:
        return [(base[0], case) for case in base[1:]] or [(base[0],)]
    found = [(mine, other) for other in others for mine in base if _alike(mine, other)]
    met = {case for pair in found for case in pair}
    return [*found, *((case,) for case in group if case not in met)]


def _alike(first: Case, second: Case) -> bool:
    """Whether one choice of how to compile, asked of both subjects, makes these two cases."""
    return any(all(_compile(case.subject, how) == case.compile for case in (first, second)) for how in COMPILES)


def _compile(subject: Subject, how: str) -> str:
    return "model" if how == "block" and subject.kind != "spec" else how


def _unfit(subjects: Sequence[Subject], modes: Sequence[str]) -> Iterator[Fault]:
    """Subjects that cannot run in a mode."""
    for one in dict.fromkeys(subjects):
        name, net = printable(one.name), (one.spec or {}).get("net")
        if "train" in modes and net == "masked_autoencoder":
            wrong = f"{name} is a masked autoencoder, and mode `train` is for classifiers"
            yield Fault(wrong, help="use mode `pretrain`")
        # what a function of a file makes may be one
        if "pretrain" in modes and net != "masked_autoencoder" and one.kind != "file":
            wrong = f"{name} is not a masked autoencoder, and mode `pretrain` is for those"
            yield Fault(wrong, help="use mode `train`, or a spec with `net: masked_autoencoder`, such as mae_vit_b16")
