"""How a publisher prepares a picture before the network sees it: size, crop, interpolation, mean and deviation.

Sources: Google's `vit_jax/input_pipeline.py`; timm 1.0.31, the pretrained configurations; Microsoft's `data/build.py`
and the configurations of the 384 px networks; MAE's `util/datasets.py`; sail-sg's configurations.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from metablocks.core.errors import Fault, InputError
from metablocks.core.settings import Positive, Settings

Triple = tuple[float, float, float]
IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: tuple[Triple, Triple] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Recipe(Settings):
    """The shorter side is brought to the network's over `crop`, then the middle is cut out; or `whole` is squeezed."""

    mean: Triple = IMAGENET[0]
    std: tuple[Positive, Positive, Positive] = IMAGENET[1]
    crop: Annotated[float, Field(gt=0, le=1)] = 0.875
    whole: bool = False
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    antialias: bool = True

    def __str__(self) -> str:
        cut = "squeezed" if self.whole else f"{self.crop:.4g} of it cut out"
        plain = "" if self.antialias else " without antialias"
        mean, std = (", ".join(f"{value:g}" for value in row) for row in (self.mean, self.std))
        return f"{self.interpolation}{plain}, {cut}, mean {mean}, deviation {std}"


@dataclass(frozen=True)
class Row:
    """`publisher` and `network` are patterns; the row is for images of at least so many pixels."""

    publisher: str
    network: str
    pixels: int
    recipe: Recipe


def _recipe(stats: tuple[Triple, Triple], crop: float) -> Recipe:
    return Recipe(mean=stats[0], std=stats[1], crop=crop)


SQUEEZED = Recipe(mean=HALF[0], std=HALF[1], crop=1.0, whole=True, interpolation="bilinear", antialias=False)
# The first row that fits.
ROWS = (
    Row("*Google*", "*", 0, SQUEEZED),
    Row("*Microsoft*", "*", 384, Recipe(crop=1.0, whole=True)),
    Row("*Microsoft*", "*", 0, Recipe()),
    Row("*norm after pooling*", "*", 225, _recipe(IMAGENET, 1.0)),
    Row("*norm after pooling*", "*", 0, Recipe()),
    Row("*MAE's head*", "*", 225, _recipe(IMAGENET, 1.0)),
    Row("*MAE's head*", "*", 0, Recipe()),
    Row("*MAE's pretraining*", "*", 0, Recipe()),
    Row("*Mixer*timm*", "*", 0, _recipe(HALF, 0.875)),
    Row("*ViT*timm*", "*", 384, _recipe(HALF, 1.0)),
    Row("*ViT*timm*", "*", 0, _recipe(HALF, 0.9)),
    Row("*Swin*timm*", "*", 384, _recipe(IMAGENET, 1.0)),
    Row("*Swin*timm*", "*", 0, _recipe(IMAGENET, 0.9)),
    Row("*MetaFormer baseline*", "*", 0, _recipe(IMAGENET, 1.0)),
    Row("MetaFormer*timm*", "*", 0, _recipe(IMAGENET, 1.0)),
    Row("*", "poolformer_m*", 0, _recipe(IMAGENET, 0.95)),
    Row("*", "poolformer_*", 0, _recipe(IMAGENET, 0.9)),
    Row("*", "metaformer_pp[ap]a_*", 0, _recipe(IMAGENET, 0.95)),
    Row("*", "metaformer_*", 0, _recipe(IMAGENET, 0.9)),
    Row("*", "poolformerv2_*", 0, _recipe(IMAGENET, 1.0)),
    Row("*", "*former_*", 0, _recipe(IMAGENET, 1.0)),
    # ours, or anybody's under a shipped name
    Row("*", "vit_*_mae", 0, Recipe()),
    Row("*", "vit_*", 0, _recipe(HALF, 0.9)),
    Row("*", "mixer_*", 0, _recipe(HALF, 0.875)),
    Row("*", "*", 0, Recipe()),
)


def recipe_for(publisher: str, network: str, size: tuple[int, int]) -> Recipe:
    """How pictures of `size` (H, W) are prepared for a network with weights of `publisher`."""
    fitting = (
        row.recipe
        for row in ROWS
        if fnmatchcase(publisher, row.publisher) and fnmatchcase(network, row.network) and max(size) >= row.pixels
    )
    return next(fitting)


def recipe_from(text: str) -> Recipe:
    """The recipe in the metadata of a file; raises `InputError`."""
    try:
        return Recipe.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        wrong = f"the file says of its pictures what cannot be: {where}: {first['msg'].lower()}"
        raise InputError(Fault(wrong, help="save it again, or give the spec beside the weights")) from error
