"""`bench --traffic`: what networks move, as one table. Nothing is measured: no GPU is needed, no record is written."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from metablocks.cli.choices import Given, conditions_over
from metablocks.cli.common import following, print_json, print_table
from metablocks.core import units
from metablocks.core.errors import Fault, InputError
from metablocks.core.text import printable

if TYPE_CHECKING:
    from metablocks.bench.case import Case
    from metablocks.bench.traffic import Traffic

HEADLINE = ("vit_b16", "mixer_b16", "swin_t", "poolformer_s12", "mae_vit_b16")
MODES = ("infer", "train")
COLUMNS = ("network", "mode", "compile", "moved", "floor", "ratio", "kernels", "a block", "kept")
KERNELS = ("kernel", "kind", "times", "moved", "share")
WIDTH, NAME, ROWS = 100, 33, 15
FAILED, SOME_FAILED = 1, 4


def count_traffic(
    sources: Sequence[str], given: Given, checkpoint: bool | float, sets: Sequence[str], folders: Sequence[Path]
) -> Iterator[Traffic]:
    """The traffic of each subject in each mode, one after the other."""
    from metablocks.bench.traffic import traffic

    asked = list(planned_cases(sources or HEADLINE, given, checkpoint, sets, folders))
    for number, case in enumerate(asked, 1):
        with following(f"{number} of {len(asked)}: {printable(case.label)}, {case.mode}"):
            yield traffic(case)


def planned_cases(
    sources: Sequence[str], given: Given, checkpoint: bool | float, sets: Sequence[str], folders: Sequence[Path]
) -> Iterator[Case]:
    """Cases of the subjects, in this order. `train` is what trains a network: `pretrain` for a masked autoencoder."""
    from metablocks.bench.cells import cases
    from metablocks.bench.conditions import Conditions
    from metablocks.bench.suite import Wanted, is_suite, read_suite, subjects
    from metablocks.bench.traffic import BATCH

    if given.batch is not None:
        wrong = f"--traffic counts at a batch of {BATCH}, and the numbers are for one image"
        raise InputError(Fault(wrong, help="leave out --batch"))
    base = Conditions(modes=MODES, batches=(BATCH,), dtypes=("bfloat16",), compiles=("block",), kernels="fused")
    conditions = conditions_over(base, given, {"checkpoint": checkpoint})
    mixed = [dtype for dtype in conditions.dtypes if dtype.startswith("amp_")]
    if mixed:
        raise InputError(Fault(f"--traffic counts no {printable(mixed[0])}", help="float32, bfloat16 or float16"))
    wanted: list[Wanted] = []
    for source in sources:
        groups = read_suite(source).groups if is_suite(source) else ((Wanted(source),),)
        wanted += [one for group in groups for one in group]
    for one in subjects(wanted, conditions, sets, folders):
        trains = "pretrain" if (one.spec or {}).get("net") == "masked_autoencoder" else "train"
        modes = (trains if mode in ("train", "pretrain") else mode for mode in conditions.modes)
        fitting = replace(conditions, modes=tuple(dict.fromkeys(modes)))
        yield from (replace(case, modules=given.modules) for case in cases([one], fitting))


def print_traffic(found: Sequence[Traffic], as_json: bool, per_kernel: bool) -> None:
    """Prints the traffic that was counted. Exit code 4 where some failed, 1 where all did."""
    if as_json:
        print_json({"conventions": list(_notes(found)), "networks": [_data(one) for one in found]})
    else:
        print_table(COLUMNS, [_row(one) for one in found], "lllrrrrrr")
        for one in found:
            if one.moved is not None and per_kernel:
                _print_kernels(one)
        print()
        failures = (
            f"failed: {printable(one.case.label)}, {one.case.mode}: {one.failed}" for one in found if one.failed
        )
        for note in (*_notes(found), *failures):
            print(textwrap.fill(note, WIDTH, subsequent_indent="  "))
    failed = [one for one in found if one.failed]
    if failed:
        raise typer.Exit(SOME_FAILED if len(failed) < len(found) else FAILED)


def _row(one: Traffic) -> tuple[str, ...]:
    case, moved = one.case, one.moved
    head = (printable(case.subject.name, limit=NAME), case.mode, case.compile)
    if moved is None:
        return (*head, "failed", "", "", "", "", "")
    parts = [moved.fused, moved.extern, *([moved.eager] if moved.eager else [])]
    return (
        *head,
        _millions(moved.elements),
        _millions(one.floor),
        "" if one.ratio is None else f"{one.ratio:.2f}",
        "+".join(map(str, parts)),
        "" if one.kernels_a_block is None else f"{one.kernels_a_block:.1f}",
        _millions(moved.saved_elements),
    )


def _print_kernels(one: Traffic) -> None:
    """The kernels of a network that move the most, those made of the same operations together."""
    moved = one.moved
    assert moved is not None
    print(f"\n{printable(one.case.label)}, {one.case.mode}")
    rows = [
        (
            printable(row.name, limit=60),
            row.kind,
            str(row.times),
            _millions(row.elements),
            units.percent(row.elements / moved.elements),
        )
        for row in moved.rows[:ROWS]
    ]
    print_table(KERNELS, rows, "llrrr")
    if len(moved.rows) > ROWS:
        print(f"and {len(moved.rows) - ROWS} other kernels that move less")


def _notes(found: Sequence[Traffic]) -> Iterator[str]:
    """What the columns say, and what of it is estimated, and how."""
    import torch

    from metablocks.bench.traffic import BATCH

    dtypes = ", ".join(dict.fromkeys(one.case.dtype for one in found))
    yield (
        f"estimated, not measured: inductor of torch {torch.__version__} lowers and schedules each graph for an H100 "
        f"that is not there, on tensors without values ({dtypes}, batch {BATCH}), up to where it would write Triton; "
        "attention is the one that CUDA would choose"
    )
    yield (
        "products: of a spec in templates of inductor, with what follows fused in, and narrow channel MLPs in one "
        "kernel, as a build for CUDA has them where they are timed no slower than the library and the compiled "
        "modules; of others in the library, as torch.compile has them by itself"
    )
    yield (
        "moved: millions of elements of activations that kernels read and write for one image, each kernel every "
        "element that it reaches once; weights, and gradients of weights, are not among them; train: forward and "
        "backward, without the optimiser"
    )
    yield (
        "kernels: fused ones that inductor writes + those of a library or registered with torch (operands "
        "read, results written) + operations outside of compiled graphs; a block: all kernels over all blocks"
    )
    if any(one.floor for one in found):
        yield (
            "floor: one read and one write at each product with weights, convolution, pooling, layer norm and "
            "attention, all else fused into these; only a kernel that spans two of them goes below"
        )
    if any(one.moved and one.moved.saved_elements is not None for one in found):
        yield "kept: millions of elements of activations for one image that autograd keeps for the backward pass"


def _data(one: Traffic) -> dict[str, Any]:
    case = one.case
    own: dict[str, Any] = {
        "subject": case.subject.name,
        "mode": case.mode,
        "compile": case.compile,
        "kernels": case.kernels,
        "dtype": case.dtype,
    }
    own |= {"image": case.subject.image, "checkpoint": case.checkpoint, "failed": one.failed}
    if one.moved is None:
        return own
    derived = {"floor_elements": one.floor, "ratio": one.ratio, "blocks": one.blocks}
    return own | derived | {"kernels_a_block": one.kernels_a_block} | asdict(one.moved)


def _millions(elements: float | None) -> str:
    return "" if elements is None else f"{elements / 1e6:.1f}"
