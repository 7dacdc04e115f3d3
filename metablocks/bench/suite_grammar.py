"""The keys of a suite: what is measured, under which conditions, and what another device measures instead.

The same language as a spec's, read by the same reader. A list may be given as its one item; a device replaces a key
whole; what is not written has the default of a bench that is given nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from metablocks.bench.case import Case
from metablocks.bench.conditions import MOST_BATCH, MOST_CASES, MOST_PROCESSES
from metablocks.bench.subject import PEERS
from metablocks.core.settings import Pair, Positive, Settings, fault
from metablocks.core.text import printable, side
from metablocks.spec.grammar import OneOrMany

Mode = Literal["infer", "train", "pretrain"]
Dtype = Literal["float32", "bfloat16", "float16", "float64", "amp_bfloat16", "amp_float16"]
Compile = Literal["none", "block", "model"]
Item = TypeVar("Item")


def _listed(value: object) -> tuple[object, ...]:
    items = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not items:
        raise fault("must have at least one item", "leave the key out, or name one")
    if len(items) > MOST_CASES:
        raise fault(f"must have at most {MOST_CASES:,} items")
    return items


def _once(items: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = next((item for index, item in enumerate(items) if item in items[:index]), None)
    if twice is not None:
        shown = twice.name if isinstance(twice, Named) else side(twice) if isinstance(twice, tuple) else twice
        raise fault("must have each item once", f"`{printable(str(shown))}` stands there twice; delete one")
    return items


Many = Annotated[tuple[Item, ...], BeforeValidator(_listed), AfterValidator(_once)]
"""A list of plain values, which may be given as its one item."""


def _source(value: object) -> object:
    if isinstance(value, str) and (not value.strip() or "\n" in value):
        raise fault("must name a network, on one line")
    return value


def _paths(value: object) -> object:
    form = "write `set: {stages.2.mixer: pooling}`"
    if not isinstance(value, dict) or not value:
        raise fault("must be paths with their values", form)
    if odd := next((path for path in value if "=" in path), None):
        raise fault(f"has the path `{printable(odd)}`, and no path has a `=`", form)
    return value


class Named(Settings):
    """What a subject is called, and what is edited in it."""

    label: ClassVar[str] = "subject of `against`"
    shorthand: ClassVar[str | None] = "name"

    name: Annotated[str, BeforeValidator(_source)] = Field(
        description="path or name of a spec, timm:NAME, torchvision:NAME, or FILE.py:FUNCTION"
    )
    set: Annotated[dict[str, Any], BeforeValidator(_paths)] = Field(
        default={}, description="edits of a spec, as of --set: {stages.2.mixer: pooling}"
    )

    @model_validator(mode="after")
    def _only_specs_are_edited(self) -> Named:
        file = self.name.rpartition(":")[0]
        if self.set and (file in PEERS or file.endswith(".py")):
            raise fault(f"`{printable(self.name)}` is no spec, so nothing in it can be set", "leave out `set`", "set")
        return self


class Measured(Named):
    label: ClassVar[str] = "subject"

    against: Annotated[tuple[Named, ...], OneOrMany()] = Field(
        default=(), description="what is measured in turns with it, instead of the other subjects"
    )


class Keys(Settings):
    """What a device may replace, whole key by whole key."""

    label: ClassVar[str] = "device"

    subjects: Annotated[tuple[Measured, ...], OneOrMany(), Field(max_length=MOST_CASES), AfterValidator(_once)] = Field(
        default=(), description="networks; they are compared with the first"
    )
    mode: Many[Mode] = Field(default=("infer",), description="infer, train, pretrain")
    batch: Many[Annotated[int, Field(ge=1, le=MOST_BATCH)]] = Field(
        default=(Case.batch,), description="images in a batch"
    )
    image: Many[Pair] = Field(
        default=(), description="pixels: N, or a list of N and [H, W]; default each subject's own"
    )
    dtype: Many[Dtype] = Field(
        default=("float32",), description="of weights and images; amp_: float32 weights, autocast to the other"
    )
    compile: Many[Compile] = Field(
        default=("none",), description="none, or one graph for each distinct block, or for the model"
    )
    channels_last: bool = Field(default=Case.channels_last, description="layout of the images")
    checkpoint: bool = Field(default=False, description="activation checkpointing of every block")
    seconds: Positive = Field(default=Case.seconds, description="seconds of timed rounds in each process")
    processes: Annotated[int, Field(ge=1, le=MOST_PROCESSES)] = Field(
        default=Case.processes, description="worker processes of each case"
    )
    limit: Positive = Field(default=Case.limit_s, description="seconds after which a worker is stopped")


class Devices(Settings):
    label: ClassVar[str] = "on"

    cpu: Keys | None = Field(default=None, description="what a CPU measures instead")
    cuda: Keys | None = Field(default=None, description="what a CUDA device measures instead")
    mps: Keys | None = Field(default=None, description="what an Apple GPU measures instead")


class SuiteKeys(Keys):
    label: ClassVar[str] = "suite"

    subjects: Annotated[tuple[Measured, ...], OneOrMany(), Field(max_length=MOST_CASES), AfterValidator(_once)] = Field(
        examples=["[swin_t, poolformer_s12]"], description="networks; they are compared with the first"
    )
    on: Devices = Field(default=Devices(), description="what a device replaces: {cuda: {batch: 256}}")
