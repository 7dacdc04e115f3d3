"""`explain` and `check`: what a spec comes to, before anything is allocated."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metablocks.cli.common import (
    Folders,
    Json,
    Sets,
    SpecName,
    load_mixers,
    planned,
    print_json,
    print_table,
    progress,
)
from metablocks.core import units
from metablocks.core.errors import Fault, InputError, MetablocksError
from metablocks.core.text import printable

if TYPE_CHECKING:
    from metablocks.bench.conditions import Conditions
    from metablocks.bench.memory import Memory
    from metablocks.plan import BlockPlan, Plan, StagePlan

Predict = Annotated[bool, typer.Option("--memory", help="also predict the peak memory of a call, without the device")]
Batch = Annotated[int | None, typer.Option("--batch", metavar="N", help="of --memory: images in a call (8)")]
Dtype = Annotated[
    str | None, typer.Option("--dtype", help="of --memory: float32, bfloat16, amp_bfloat16, ... (float32)")
]
Mode = Annotated[str | None, typer.Option("--mode", help="of --memory: infer, train or pretrain (all it has)")]

BATCH = 8


def check(
    sources: Annotated[list[str], typer.Argument(metavar="SPEC...", help="paths or names of shipped specs")],
    sets: Sets = [],  # noqa: B006
    folders: Folders = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Read and plan specs; tell every fault. Exit code 2 if there is one."""
    found: dict[str, list[str]] = {}
    code = 0
    for source in sources:
        try:
            planned(source, sets, folders)
            found[source] = []
        except MetablocksError as error:
            found[source] = [str(fault) for fault in error.faults]
            code = max(code, error.exit_code)
    if as_json:
        print_json(found)
    for source, faults in found.items():
        if not faults and not as_json:
            print(f"{printable(source, limit=0)}: ok")
        for fault in faults:
            print(f"{fault}\n", file=sys.stderr)
    raise typer.Exit(code)


def explain(  # noqa: PLR0913  (each is an option of the command)
    source: SpecName,
    sets: Sets = [],  # noqa: B006
    folders: Folders = [],  # noqa: B006
    memory: Predict = False,
    batch: Batch = None,
    dtype: Dtype = None,
    mode: Mode = None,
    as_json: Json = False,
) -> None:
    """One line per block, with every derived number; with --memory also the peak memory of a call."""
    conditions = _asked(memory, batch, dtype, mode)
    load_mixers(folders)
    spec, plan = planned(source, sets, ())
    predictions = _predictions(plan, conditions) if conditions else {}
    lines, total = list(_lines(plan)), plan.costs.total
    if as_json:
        told = {"params": total.params, "frozen": total.frozen, "macs": total.macs, "convention": plan.costs.convention}
        told |= {"memory": list(map(_memory_data, predictions.items()))} if memory else {}
        blocks = [_data(line, plan) for line in lines]
        print_json({"name": plan.name, "digest": spec.digest, "blocks": blocks, **told})
        return
    print(headline(plan))
    columns = ("part", "what", "tokens", "width", "drop path", "parameters", "MACs")
    rows = [(line.part, line.what, line.grid, str(line.dim), _rate(line.drop), *_cost(line, plan)) for line in lines]
    rows.append(("total", "", "", "", "", units.count(total.params), units.count(total.macs)))
    print_table(columns, rows, "llrrrrr", last=True)
    print(plan.costs.convention)
    if total.frozen:
        print(f"{units.count(total.frozen)} of the parameters are frozen")
    tell_unknown(plan)
    if predictions:
        _print_memory(predictions)


def _asked(memory: bool, batch: int | None, dtype: str | None, mode: str | None) -> Conditions | None:
    """The conditions of a prediction; no mode: all that the network has. Raises `InputError` where there are none."""
    from metablocks.bench.conditions import Conditions, faults

    if not memory:
        if any(one is not None for one in (batch, dtype, mode)):
            raise InputError(Fault("--batch, --dtype and --mode are about memory", help="add --memory"))
        return None
    modes = () if mode is None else (mode,)
    asked = Conditions(modes, (BATCH if batch is None else batch,), dtypes=(dtype or Conditions.dtypes[0],))
    found = list(faults(asked if modes else dataclasses.replace(asked, modes=Conditions.modes)))
    if found:
        raise InputError(*found)
    return asked


def _predictions(plan: Plan, conditions: Conditions) -> dict[tuple[str, int, str], Memory]:
    """What is predicted, by mode, batch and dtype."""
    trains = "pretrain" if plan.decoder else "train"
    modes, (batch,), (dtype,) = conditions.modes or ("infer", trains), conditions.batches, conditions.dtypes
    for mode in modes:
        if mode not in ("infer", trains):
            raise InputError(Fault(f"{printable(plan.name)} has no mode `{mode}`", help=f"infer or {trains}"))
    with progress("predicting memory"):
        from metablocks.bench.predict import predicted

        return {(mode, batch, dtype): predicted(plan, mode, batch, dtype) for mode in modes}


def _print_memory(predictions: dict[tuple[str, int, str], Memory]) -> None:
    columns = ("mode", "batch", "dtype", "parameters", "gradients", "optimiser", "activations", "peak memory")
    rows = [
        (
            mode,
            units.count(batch),
            dtype,
            *(units.mebibytes(size) if size else "none" for size in _sizes(found).values()),
        )
        for (mode, batch, dtype), found in predictions.items()
    ]
    print()
    print_table(columns, rows, "lrlrrrrr")
    print("memory predicted for eager calls on a CPU, without the images; a step of training updates with AdamW")


def _memory_data(prediction: tuple[tuple[str, int, str], Memory]) -> dict[str, Any]:
    (mode, batch, dtype), found = prediction
    return {"mode": mode, "batch": batch, "dtype": dtype, **_sizes(found), "method": found.method}


def _sizes(found: Memory) -> dict[str, int | None]:
    return {
        "parameters_bytes": found.parameters_bytes,
        "gradients_bytes": found.gradients_bytes,
        "optimiser_bytes": found.optimiser_bytes,
        "activations_bytes": found.activations_bytes,
        "peak_memory_bytes": found.peak_bytes,
    }


@dataclasses.dataclass(frozen=True)
class Line:
    """One row: a part of the plan, or several that belong together."""

    part: str
    what: str
    grid: str
    dim: int
    drop: float | None
    parts: tuple[Any, ...]


def headline(plan: Plan) -> str:
    """Name, net and input of a network."""
    stem = plan.encoder.stem
    return f"{printable(plan.name)}: {plan.net}, image {stem.image[0]} x {stem.image[1]} x {stem.channels}\n"


def tell_unknown(plan: Plan) -> None:
    """Names the operations that kept MACs from being counted."""
    unknown = plan.costs.total.unknown
    if unknown:
        print(f"MACs are unknown: no count for {', '.join(unknown)}", file=sys.stderr)


def _rate(drop: float | None) -> str:
    return "" if drop is None else f"{drop:.3f}"


def _cost(line: Line, plan: Plan) -> tuple[str, str]:
    from metablocks.costs import total

    cost = total(plan.costs.parts[part] for part in line.parts)
    return units.count(cost.params), units.count(cost.macs)


def _data(line: Line, plan: Plan) -> dict[str, Any]:
    from metablocks.costs import total

    cost = total(plan.costs.parts[part] for part in line.parts)
    own = {"part": line.part, "what": line.what, "tokens": line.grid, "width": line.dim}
    return own | {"drop_path": line.drop, "params": cost.params, "macs": cost.macs}


def _lines(plan: Plan) -> Iterator[Line]:
    encoder = plan.encoder
    what = ", ".join([describe(encoder.stem.stem), *_embedded(encoder.embedding)])
    grid = encoder.embedding.grid
    yield Line("stem", what, str(grid), encoder.stem.dim, None, (encoder.stem, encoder.embedding))
    yield from _stages("", plan.stages)
    if plan.norm:
        yield Line("norm", describe(plan.norm.norm), str(plan.norm.grid), plan.norm.dim, None, (plan.norm,))
    if plan.head:
        head = plan.head
        names = [describe(head.head.norm), f"pool {head.head.pool}", describe(head.head.pool_norm)]
        names += [f"linear {head.head.representation} tanh"] if head.head.representation else []
        names += [f"mlp {head.head.mlp.resolve(head.head.width(head.dim)).hidden}"] if head.head.mlp else []
        what = ", ".join([*(name for name in names if name != "none"), f"linear {head.classes}"])
        yield Line("head", what, str(head.grid), head.dim, None, (head,))
    if plan.decoder:
        decoder = plan.decoder
        what = ", ".join([f"linear {decoder.embed.dims[1]}", "mask token", *_embedded(decoder.embedding)])
        embedded = (decoder.embed, decoder.mask, decoder.embedding)
        yield Line("decoder", what, str(decoder.embedding.grid), decoder.embed.dims[1], None, embedded)
        yield from _stages("decoder.", decoder.stages)
        what = f"{describe(decoder.norm.norm)}, linear {decoder.predict.dims[1]}"
        predict = (decoder.norm, decoder.predict)
        yield Line("predict", what, str(decoder.predict.grid), decoder.predict.dims[1], None, predict)


def _embedded(embedding: Any) -> list[str]:
    return [describe(item) for item in (*embedding.prefix, embedding.position) if item.name != "none"]


def _stages(prefix: str, stages: tuple[StagePlan, ...]) -> Iterator[Line]:
    for index, stage in enumerate(stages):
        row = f"{prefix}stages.{index}"
        if stage.downsample:
            what = describe(stage.downsample.downsample)
            yield Line(f"{row}.downsample", what, str(stage.grid), stage.dim, None, (stage.downsample,))
        if stage.embedding.position.name != "none":
            what = describe(stage.embedding.position)
            yield Line(f"{row}.position", what, str(stage.grid), stage.dim, None, (stage.embedding,))
        for place, block in enumerate(stage.blocks):
            what = _block(block)
            yield Line(f"{row}.{place}", what, str(stage.grid), stage.dim, block.drop_path, (block.kind,))


def _block(block: BlockPlan) -> str:
    """The numbers of the mixer and the mlp; what only repeats the block's own width and grid stays out."""
    kind = block.kind
    numbers = {
        name: value
        for name, value in kind.mixer.numbers().items()
        if name not in ("dim", "grid") and value is not None and value is not True and value != (0, 0)
    }
    words = [kind.mixer.name, *(f"{name}={_number(value)}" for name, value in numbers.items())]
    return " ".join(words) + (f" | mlp {kind.mlp.hidden}" if kind.mlp else "")


def describe(settings: Any) -> str:
    """A choice with the settings that are not at their defaults: `patch_embed patch=4x4`."""
    shown = {
        key: value
        for key, value in settings
        if key in settings.model_fields_set and value != type(settings).model_fields[key].default
    }
    parts = [settings.name, *(f"{key}={_number(value)}" for key, value in shown.items())]
    return " ".join(parts)


def _number(value: Any) -> str:
    if isinstance(value, tuple):
        return ("x" if len(value) == 2 else ",").join(map(str, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return describe(value) if hasattr(value, "model_fields_set") else str(value).lower()
