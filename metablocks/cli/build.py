"""`build`: the whole road once, and the table of stages at its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from metablocks.cli.common import Folders, Json, Sets, SpecName, load_mixers, print_json, print_table, progress
from metablocks.cli.explain import describe, headline, tell_unknown
from metablocks.core import units
from metablocks.core.errors import Fault, InputError, MetablocksError
from metablocks.core.text import printable

if TYPE_CHECKING:
    from torch import Tensor

    from metablocks.costs import Costs
    from metablocks.images import Guess
    from metablocks.nets import Network
    from metablocks.plan import Plan, StagePlan

Weights = Annotated[
    str | None,
    typer.Option("--weights", metavar="FILE", help="a publisher's checkpoint, its folder, or hf-hub:org/name"),
]
How = Annotated[
    Literal["none", "block", "model"], typer.Option("--compile", help="block: each distinct block; model: one graph")
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps")]
Autotune = Annotated[bool, typer.Option("--autotune", help="time every kernel in several ways while compiling")]
CudaGraph = Annotated[bool, typer.Option("--cuda-graph", help="launch the forward pass at once: for small batches")]
Kernels = Annotated[
    Literal["fused", "reference"] | None,
    typer.Option("--kernels", help="fused: ours; reference: what torch has; default: the device's"),
]
Picture = Annotated[
    Path | None, typer.Option("--image", metavar="PICTURE", help="name what is in a picture (needs Pillow)")
]
Save = Annotated[
    Path | None, typer.Option("--save", metavar="FILE", help="write weights and spec into one safetensors file")
]
CACHES = {"cold": "graphs compiled", "warm": "graphs from the cache", "mixed": "some graphs from the cache"}
Dtype = Annotated[str, typer.Option("--dtype", help="float32, bfloat16, float16, float64")]


def build(  # noqa: PLR0913  (each is an option of the command)
    source: SpecName,
    weights: Weights = None,
    sets: Sets = [],  # noqa: B006
    device: Device = "cpu",
    dtype: Dtype = "float32",
    how: How = "block",
    autotune: Autotune = False,
    cuda_graph: CudaGraph = False,
    kernels: Kernels = None,
    image: Picture = None,
    save: Save = None,
    folders: Folders = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Build a network, run one forward pass, and print its stages with what they cost."""
    from metablocks import api
    from metablocks.build import fused, out_of_memory
    from metablocks.compiler import from_cache
    from metablocks.weights.save import check_target

    load_mixers(folders)
    if save:
        check_target(save)
    times: dict[str, Any] = {}
    start = time.perf_counter()
    try:
        with progress("building"):
            model = api.build(
                source,
                weights,
                set=sets,
                device=device,
                dtype=dtype,
                compile=how,
                kernels=kernels,
                autotune=autotune,
                cuda_graph=cuda_graph,
            )
            times["build_s"] = time.perf_counter() - start
        picture = None if image is None else _picture(model, image)
        times |= _run(model, how, picture)
        cache = None if how == "none" else from_cache()
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise MetablocksError(Fault("out of memory", help="use a smaller network, image or dtype")) from error
    path = "fused" if fused(model) else "reference"
    guesses = [] if picture is None else _guesses(model, picture)
    if save:
        api.save(model, save)
    if as_json:
        times |= {"compile_cache": cache} if cache else {}
        print_json(_data(model.plan, times) | {"kernels": path} | _extras(save, guesses, model))
        return
    _print(model.plan, _spent(times, cache), f"{device}, {dtype}, compile {how}, {path} kernels")
    for guess in guesses:
        print(f"{100 * guess.probability:5.1f} %  {guess.name} ({guess.index})")
    if save:
        print(f"saved with its spec: {printable(str(save), limit=0)}")


def _picture(model: Network, path: Path) -> Tensor:
    """The picture as the network's input; raises `InputError` where it has no classes to tell."""
    from metablocks import api

    if model.plan.head is None:
        wrong = "the network has no classes, so it cannot say what is in a picture"
        raise InputError(Fault(wrong, help="`--image` takes a classifier with a head"))
    return api.prepare(model, path)


def _guesses(model: Network, picture: Tensor) -> list[Guess]:
    import torch

    from metablocks.images import top

    with torch.inference_mode():
        return top(model(picture)[0].float())


def _extras(save: Path | None, guesses: list[Guess], model: Network) -> dict[str, Any]:
    """What stands in the JSON only where it was asked for."""
    told: dict[str, Any] = {"saved": str(save)} if save else {}
    if guesses:
        recipe = None if model.recipe is None else model.recipe.model_dump(mode="json")
        told |= {"recipe": recipe, "top": [vars(guess) for guess in guesses]}
    return told


def _run(model: Network, how: str, picture: Tensor | None) -> dict[str, float]:
    """One forward pass of one image, twice: the first call compiles."""
    import torch

    from metablocks.build import compiling

    stem = model.plan.encoder.stem
    parameter = next(model.parameters())
    size = (1, stem.channels, *stem.image)
    image = torch.randn(size, device=parameter.device, dtype=parameter.dtype) if picture is None else picture
    times: dict[str, float] = {}
    with torch.inference_mode(), compiling():
        for name in ("first_call_s", "forward_s"):
            with progress("compiling and running" if how != "none" and not times else "running"):
                start = time.perf_counter()
                model(image)
                if image.is_cuda:
                    torch.cuda.synchronize()
                times[name] = time.perf_counter() - start
    return times


@dataclass(frozen=True)
class Row:
    """One row of the table: a stage, or what stands around the stages."""

    name: str
    grid: str
    width: str
    depth: str
    what: str


def _rows(plan: Plan) -> Iterator[Row]:
    encoder = plan.encoder
    grid = encoder.embedding.grid
    yield Row("stem", str(grid), str(encoder.stem.dim), "", encoder.stem.stem.name)
    yield from (_stage(f"stages.{index}", stage) for index, stage in enumerate(plan.stages))
    if plan.norm:
        yield Row("norm", "", str(plan.norm.dim), "", plan.norm.norm.name)
    if plan.head:
        layers = "mlp, linear" if plan.head.head.mlp else "linear"
        yield Row("head", "", str(plan.head.classes), "", f"pool {plan.head.head.pool}, {layers}")
    if plan.decoder:
        decoder = plan.decoder
        yield Row("decoder", str(decoder.embedding.grid), str(decoder.embed.dims[1]), "", "linear, mask token")
        yield from (_stage(f"decoder.stages.{index}", stage) for index, stage in enumerate(decoder.stages))
        yield Row("predict", str(decoder.predict.grid), str(decoder.predict.dims[1]), "", "norm, linear")


def _stage(name: str, stage: StagePlan) -> Row:
    mixers = list(dict.fromkeys(block.kind.mixer.name for block in stage.blocks))
    return Row(name, str(stage.grid), str(stage.dim), str(len(stage.blocks)), ", ".join(mixers))


def _spent(times: dict[str, float], cache: str | None) -> str:
    """The times in words, and where the compiled graphs that the first call needs came from."""
    told = {name: f"{name.removesuffix('_s').replace('_', ' ')} {units.seconds(s)}" for name, s in times.items()}
    if cache:
        told["first_call_s"] += f" ({CACHES[cache]})"
    return ", ".join(told.values())


def _print(plan: Plan, spent: str, conditions: str) -> None:
    costs = plan.costs
    rows = []
    for row in _rows(plan):
        cost = costs.rows[row.name]
        numbers = units.count(cost.params), units.short(cost.macs), units.short(cost.flops)
        rows.append((row.name, row.grid, row.width, row.depth, row.what, *numbers))
    total = costs.total
    rows.append(("total", "", "", "", "", units.count(total.params), units.short(total.macs), units.short(total.flops)))
    print(headline(plan))
    columns = ("stage", "grid", "width", "depth", "mixers", "parameters", "MACs", "FLOPs")
    print_table(columns, rows, "llrrlrrr", last=True)
    frozen = f", {units.count(total.frozen)} of them frozen" if total.frozen else ""
    print(f"\n{units.count(total.params)} parameters{frozen}")
    print(f"{units.count(total.macs)} MACs, {units.count(total.flops)} FLOPs: {costs.convention}")
    if plan.decoder:
        print(_halves(costs))
    print(f"{conditions}, one image: {spent}")
    tell_unknown(plan)


def _halves(costs: Costs) -> str:
    """The MACs of a masked autoencoder, encoder and decoder apart."""
    from metablocks.costs import total

    decoder = total(cost for row, cost in costs.rows.items() if row.startswith(("decoder", "predict")))
    encoder = total(cost for row, cost in costs.rows.items() if not row.startswith(("decoder", "predict")))
    return f"encoder {units.count(encoder.macs)} MACs + decoder {units.count(decoder.macs)} MACs"


def _data(plan: Plan, times: dict[str, Any]) -> dict[str, Any]:
    costs = plan.costs
    stages = [
        {"name": row.name, "grid": row.grid, "width": row.width, "mixers": row.what}
        | {"params": costs.rows[row.name].params, "macs": costs.rows[row.name].macs}
        for row in _rows(plan)
    ]
    total = costs.total
    numbers = {"params": total.params, "frozen_params": total.frozen, "macs": total.macs, "flops": total.flops}
    own = {"name": plan.name, "net": plan.net, "stem": describe(plan.encoder.stem.stem), "stages": stages}
    return own | numbers | {"convention": costs.convention, "unknown_ops": total.unknown} | times
