"""The mappings of the language above the parts: nets, stacks of stages, blocks."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from metablocks import mixers
from metablocks.core.errors import InputError
from metablocks.core.mixer import MixerSettings
from metablocks.core.settings import Choice, Pair, Positive, Rate, Settings, Size, fault
from metablocks.parts.block import Order
from metablocks.parts.downsample import Downsample, NoDownsample
from metablocks.parts.head import Head
from metablocks.parts.init import InitName
from metablocks.parts.mlp import Mlp
from metablocks.parts.norm import NoNorm, Norm
from metablocks.parts.position import NoPosition, Position, Prefix
from metablocks.parts.resnet import ResNetV2  # noqa: F401  (enters the table of stems)
from metablocks.parts.stem import Stem


class OneOrMany:
    """Marks a list key that may be given as its one item."""


def find(kind: type[Choice], name: str) -> type[Choice] | None:
    """The settings class of a choice by its name, or None. Mixers are the open kind, found by file name."""
    if kind is not MixerSettings:
        return kind.find(name)
    mixer = mixers.find(name)
    return mixer.settings if mixer else None


def names(kind: type[Choice]) -> list[str]:
    """Every name of a kind."""
    return mixers.names() if kind is MixerSettings else kind.names()


def table(cls: type[Choice]) -> dict[str, type[Choice]]:
    """Name to settings class, for all choices of the kind of `cls`; a mixer file that cannot be used is left out."""
    kind = MixerSettings if issubclass(cls, MixerSettings) else cls
    found: dict[str, type[Choice]] = {}
    for name in names(kind):
        with suppress(InputError):
            choice = find(kind, name)
            found |= {name: choice} if choice else {}
    return found


class Block(Settings):
    """What every block is made of, unless its stage says otherwise. A stage replaces a key whole."""

    label: ClassVar[str] = "block"

    norm: Norm | None = Field(default=None, description="before (pre) or after (post) the mixer and the mlp")
    order: Order = Field(default="pre", description="pre is x + f(norm(x)), post is x + norm(f(x))")
    mixer: Annotated[tuple[MixerSettings, ...] | None, OneOrMany()] = Field(
        default=None, description="token mixer, or a list that is tiled over the depth"
    )
    mlp: Mlp | None = Field(default=None, description="channel MLP, or none")
    layer_scale: Positive | None = Field(default=None, description="initial LayerScale, or none")
    res_scale: Positive | None = Field(default=None, description="initial scale of the residual path, or none")
    dropout: Rate = Field(default=0.0, description="rate on the output of mixer and mlp")


class Stage(Block):
    """One row of the paper's table."""

    label: ClassVar[str] = "stage"
    inherits: ClassVar[bool] = True

    dim: Size = Field(examples=[384], description="width, channels")
    depth: Annotated[int, Field(ge=1, le=1000)] = Field(examples=[12], description="number of blocks")
    downsample: Downsample | None = Field(default=None, description="before this stage, instead of the stack's")
    position: Position = Field(default=NoPosition(), description="added before the blocks of this stage")

    def part(self, key: str, block: Block) -> Any:
        """The value of a block key for this stage."""
        return getattr(self if key in self.model_fields_set else block, key)


class DropPath(Settings):
    label: ClassVar[str] = "drop_path"
    shorthand: ClassVar[str | None] = "rate"

    rate: Rate = Field(examples=[0.1], description="chance that an image skips a branch, at the last block")
    ramp: Literal["linear", "none"] = Field(
        default="linear", description="linear rises from 0 over all blocks, none is the same in all"
    )


class Image(Settings):
    label: ClassVar[str] = "image"

    size: Pair = Field(examples=[224], description="pixels: N or [H, W]")
    channels: Annotated[int, Field(ge=1, le=4096)] = Field(default=3, description="channels of the image")


class Stack(Settings):
    """Stages, and the position of the tokens that enter them."""

    position: Position = Field(default=NoPosition(), description="added to the tokens before the first stage")
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=100)] = Field(
        examples=["[{dim: 384, depth: 12}]"], description="one row each"
    )


class ImageStack(Stack):
    """A stack that starts from images."""

    stem: Stem = Field(examples=["{patch_embed: {patch: 16}}"], description="image to tokens")
    prefix: tuple[Prefix, ...] = Field(default=(), description="tokens before the patches: class, registers")
    downsample: Downsample = Field(default=NoDownsample(), description="before every stage but the first")


class Encoder(ImageStack):
    label: ClassVar[str] = "encoder"

    norm: Norm = Field(default=NoNorm(), description="after the last stage")


class Decoder(Stack):
    label: ClassVar[str] = "decoder"

    norm: Norm = Field(default=NoNorm(), description="after the last stage")


class Net(Choice, kind="net"):
    image: Image = Field(examples=["{size: 224}"], description="what goes in")
    block: Block = Field(default=Block(), description="what every block is made of")
    drop_path: DropPath = Field(default=DropPath(rate=0.0), description="stochastic depth")
    init: InitName = Field(default="vit", description="the publisher's initialisation")


class Classifier(Net, ImageStack, name="classifier"):
    classes: Size | None = Field(default=None, description="outputs of the head")
    head: Head | None = Field(examples=["{norm: layer_norm}"], description="or none: the net then returns tokens")

    @model_validator(mode="after")
    def _classes_need_a_head(self) -> Classifier:
        if (self.head is None) != (self.classes is None):
            wrong = "`head: none` has no `classes`" if self.head is None else "a head needs `classes`"
            raise fault(wrong, "leave out `classes`" if self.head is None else "write `classes: 1000`", "classes")
        return self


class Mask(Settings):
    label: ClassVar[str] = "mask"

    ratio: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="share of the patches that are masked, above 0 and below 1"
    )
    tokens: Literal["drop", "replace"] = Field(
        default="drop", description="drop leaves masked patches out of the encoder, replace puts a token there"
    )
    unit: Size | None = Field(
        default=None, description="side of a masked square, pixels; default one token of the decoder"
    )


class Target(Choice, kind="target"):
    """What the decoder predicts."""


class Pixels(Target, name="pixels"):
    normalize: Literal["patch", "none"] = Field(
        default="none", description="patch brings each to mean 0 and variance 1"
    )


class MaskedAutoencoder(Net, name="masked_autoencoder"):
    mask: Mask = Field(examples=["{ratio: 0.75}"], description="what is hidden")
    encoder: Encoder = Field(description="stem and stages that see what is not hidden")
    decoder: Decoder = Field(description="stages that predict the rest")
    target: Pixels = Field(default=Pixels(), description="what is predicted")
