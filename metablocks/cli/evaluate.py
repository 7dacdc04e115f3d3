"""`evaluate`: top-1 and top-5 over a folder of pictures."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metablocks.cli.build import Device, Dtype, How, Weights
from metablocks.cli.common import Folders, Json, Sets, SpecName, load_mixers, print_json, progress
from metablocks.core import units
from metablocks.core.errors import Fault, InputError
from metablocks.core.text import printable

if TYPE_CHECKING:
    from metablocks.images.evaluate import Score
    from metablocks.images.recipe import Recipe
    from metablocks.nets import Network

SOME_FAILED = 4
SHOWN = 10
Data = Annotated[Path, typer.Option("--data", metavar="FOLDER", help="pictures in one folder a class")]
Batch = Annotated[int, typer.Option("--batch", min=1, max=1 << 16, help="images of one call")]
Workers = Annotated[int, typer.Option("--workers", min=0, max=256, help="processes that read pictures")]


def evaluate(  # noqa: PLR0913  (each is an option of the command)
    source: SpecName,
    data: Data,
    weights: Weights = None,
    sets: Sets = [],  # noqa: B006
    batch: Batch = 32,
    workers: Workers = 0,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    how: How = "none",
    folders: Folders = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Tell the accuracy of a network over a folder of pictures. Exit code 4 if some could not be read."""
    from metablocks import api
    from metablocks.build import compiling
    from metablocks.images import recipe_for
    from metablocks.images.evaluate import Pictures, samples, score

    load_mixers(folders)
    plan = api.plan(source, sets)
    classes = _classes(plan)
    found = samples(data, classes)
    with progress("building"):
        model = api.build(source, weights, set=sets, device=device, dtype=dtype, compile=how)
    stem = model.plan.encoder.stem
    recipe = model.recipe or recipe_for("", model.spec.name, stem.image)
    start = time.monotonic()
    with compiling(), _bar(len(found)) as tell:
        total = score(model, Pictures(found, recipe, stem.image), batch, workers, tell)
    seconds = time.monotonic() - start
    if as_json:
        print_json(_data(model, recipe, total, seconds))
    else:
        _print(model, recipe, total, seconds)
    raise typer.Exit(SOME_FAILED if total.broken else 0)


def _classes(plan: Any) -> int:
    """How many classes the network tells apart; raises `InputError` where it cannot take pictures and name them."""
    if plan.head is None:
        raise InputError(Fault("the network has no classes to be right about", help="give a classifier with a head"))
    if plan.encoder.stem.channels != 3:
        raise InputError(f"the network takes images of {plan.encoder.stem.channels} channels, and pictures have 3")
    return int(plan.head.classes)


@contextmanager
def _bar(count: int) -> Iterator[Callable[[Score], None]]:
    """A bar on stderr with the accuracy so far; without a terminal nothing."""
    if not sys.stderr.isatty():
        yield lambda score: None  # noqa: ARG005
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as shown:
        task = shown.add_task("evaluating", total=count)

        def tell(score: Score) -> None:
            done = score.images + len(score.broken)
            shown.update(task, completed=done, description=f"top-1 {_share(score.top1, score.images)}")

        yield tell


def _share(right: int, images: int) -> str:
    return f"{100 * right / images:.2f} %" if images else "-"


def _print(model: Network, recipe: Recipe, total: Score, seconds: float) -> None:
    print(f"top-1    {_share(total.top1, total.images)} ({units.count(total.top1)} of {units.count(total.images)})")
    print(f"top-5    {_share(total.top5, total.images)} ({units.count(total.top5)} of {units.count(total.images)})")
    height, width = model.plan.encoder.stem.image
    print(f"network  {model.spec.name}, pictures of {height} x {width}: {recipe}")
    rate = f", {total.images / seconds:.1f} images/s with reading" if seconds > 0 else ""
    print(f"time     {units.seconds(seconds)}{rate}")
    for wrong in total.broken[:SHOWN]:
        print(f"left out: {wrong}", file=sys.stderr)
    if len(total.broken) > SHOWN:
        print(f"left out: {printable(str(len(total.broken) - SHOWN))} more", file=sys.stderr)


def _data(model: Network, recipe: Recipe, total: Score, seconds: float) -> dict[str, Any]:
    shares = {
        name: right / total.images if total.images else None
        for name, right in (("top1", total.top1), ("top5", total.top5))
    }
    return {
        "network": model.spec.name,
        "image": list(model.plan.encoder.stem.image),
        "recipe": recipe.model_dump(mode="json"),
        "images": total.images,
        **shares,
        "broken": list(total.broken),
        "seconds": seconds,
    }
