"""A picture in a file to what a network takes. Pillow is an extra, and is imported when a picture is read."""

from __future__ import annotations

import os
import stat
import warnings
from math import floor
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metablocks.core.errors import Fault, InputError, MissingError, StoreError
from metablocks.core.text import printable
from metablocks.images.recipe import Recipe

if TYPE_CHECKING:
    from PIL.Image import Image

OTHER = "give a JPEG, PNG or WebP file"
Path = str | os.PathLike[str]


def open_picture(path: Path, upright: bool = False) -> Image:
    """The picture in a file, in red, green and blue; `upright` turns it as its camera says.

    Raises `InputError` where there is no picture, `StoreError` where it cannot be read, `MissingError` without Pillow.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise MissingError(Fault("reading pictures needs Pillow", help="pip install 'metablocks[images]'")) from error
    shown = printable(os.fspath(path), 200)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for its writer
            raise InputError(Fault(f"`{shown}` is not a regular file", help=OTHER))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return (ImageOps.exif_transpose(image) if upright else image).convert("RGB")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(Fault(f"there is no file `{shown}`", help="check the path of the picture")) from error
    except UnidentifiedImageError as error:
        raise InputError(Fault(f"`{shown}` is no picture that Pillow knows", help=OTHER)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        wrong = f"`{shown}` is a picture of more than {Image.MAX_IMAGE_PIXELS:,} pixels"
        raise InputError(Fault(wrong, help="make it smaller")) from error
    except PermissionError as error:
        raise StoreError(f"cannot read `{shown}`: {error.strerror}") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow raises on a broken file
        raise InputError(
            Fault(f"`{shown}` is broken: {printable(str(error), 100)}", help="download it again")
        ) from error


def prepare(image: Image, recipe: Recipe, size: tuple[int, int]) -> Tensor:
    """A picture as the network's input (3, H, W), `size` being (H, W)."""
    pixels = _whole(image, recipe, size) if recipe.whole else _cropped(image, recipe, size)
    mean, std = (torch.tensor(row).view(3, 1, 1) for row in (recipe.mean, recipe.std))
    return (pixels / 255 - mean) / std


def _whole(image: Image, recipe: Recipe, size: tuple[int, int]) -> Tensor:
    if recipe.antialias:
        return _tensor(_resized(image, recipe, size))
    mode = recipe.interpolation
    return F.interpolate(_tensor(image)[None], size, mode=mode, align_corners=False, antialias=False)[0]


def _cropped(image: Image, recipe: Recipe, size: tuple[int, int]) -> Tensor:
    """Resized so that what is cut out of the middle fits, proportions kept, as torchvision and timm do it."""
    height, width = (floor(side / recipe.crop) for side in size)
    if height * image.width < width * image.height:  # the width decides
        height = int(width * image.height / image.width)
    else:
        width = int(height * image.width / image.height)
    resized = _resized(image, recipe, (height, width))
    top, left = round((height - size[0]) / 2), round((width - size[1]) / 2)
    return _tensor(resized.crop((left, top, left + size[1], top + size[0])))


def _resized(image: Image, recipe: Recipe, size: tuple[int, int]) -> Image:
    from PIL.Image import Resampling

    return image.resize((size[1], size[0]), Resampling[recipe.interpolation.upper()])


def _tensor(image: Image) -> Tensor:
    """(3, H, W) of 0 to 255 in fp32."""
    return torch.from_numpy(np.asarray(image, dtype=np.float32).copy()).permute(2, 0, 1)
