"""Accuracy over a folder of pictures, one folder a class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from metablocks.core.errors import Fault, InputError, MetablocksError, MissingError
from metablocks.core.text import listed, printable
from metablocks.images.classes import CLASSES, index_of
from metablocks.images.picture import open_picture, prepare
from metablocks.images.recipe import Recipe

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}
Sample = tuple[Path, int]
Item = tuple[Tensor | None, int, str]
"""A prepared picture (3, H, W), or None where it could not be read, its class, and what was wrong."""


@dataclass(frozen=True)
class Score:
    """Counts, not shares. `broken` tells of the pictures that could not be read; they are in no count."""

    images: int
    top1: int
    top5: int
    broken: tuple[str, ...]


def samples(folder: Path, classes: int) -> list[Sample]:
    """Every picture with its class: by ImageNet's synsets, or one folder a class in the order of their names.

    Raises `InputError` where the folders are not the classes of the network.
    """
    shown = printable(str(folder), 200)
    if not folder.is_dir():
        raise InputError(Fault(f"there is no folder `{shown}`", help="give a folder that holds one folder a class"))
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise InputError(Fault(f"`{shown}` holds no folders", help="pictures stand in one folder a class"))
    indices = _indices([path.name for path in folders], classes, shown)
    found = [
        (path, index)
        for each, index in zip(folders, indices, strict=True)
        for path in sorted(each.iterdir())
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    if not found:
        raise InputError(Fault(f"`{shown}` holds no pictures", help=f"known are {listed(sorted(SUFFIXES))}"))
    return found


def _indices(names: list[str], classes: int, shown: str) -> list[int]:
    if classes == CLASSES:
        known = [index_of(name) for name in names]
        if None not in known:
            return [index for index in known if index is not None]
    if all(name.isdecimal() and int(name) < classes for name in names):
        return [int(name) for name in names]
    if len(names) == classes:
        return list(range(classes))
    wrong = f"`{shown}` has {len(names)} folders, and the network {classes} classes"
    help = "name the folders by the numbers of their classes, or by ImageNet's synsets (n01440764)"
    raise InputError(Fault(wrong, help=help))


class Pictures(Dataset[Item]):
    """Samples, prepared one by one."""

    def __init__(self, samples: list[Sample], recipe: Recipe, size: tuple[int, int]) -> None:
        self.samples, self.recipe, self.size = samples, recipe, size

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        path, label = self.samples[index]
        try:
            return prepare(open_picture(path), self.recipe, self.size), label, ""
        except MissingError:
            raise
        except MetablocksError as error:
            return None, label, error.faults[0].message


def score(
    model: nn.Module, pictures: Pictures, batch: int, workers: int = 0, tell: Callable[[Score], None] = lambda _: None
) -> Score:
    """Top-1 and top-5 of a network over pictures; `tell` hears how it stands after every batch."""
    parameter = next(model.parameters())
    total = Score(0, 0, 0, ())
    with torch.inference_mode():
        for images, labels, broken in _batches(pictures, batch, workers):
            if labels:
                # every batch has the same shape: one of another would be compiled for itself
                filled = torch.zeros(batch, *images.shape[1:], dtype=images.dtype)
                filled[: len(labels)] = images
                logits = model(filled.to(parameter.device, parameter.dtype))[: len(labels)]
                best = logits.float().topk(min(5, logits.shape[1])).indices.cpu()
                hits = best == torch.tensor(labels)[:, None]
                total = Score(
                    total.images + len(labels),
                    total.top1 + int(hits[:, 0].sum()),
                    total.top5 + int(hits.any(1).sum()),
                    total.broken,
                )
            total = Score(total.images, total.top1, total.top5, (*total.broken, *broken))
            tell(total)
    return total


def _batches(pictures: Pictures, batch: int, workers: int) -> Iterator[tuple[Tensor, list[int], list[str]]]:
    """Images (n, 3, H, W), their labels, and what could not be read."""
    for items in DataLoader(pictures, batch, num_workers=workers, collate_fn=list):
        sound = [(image, label) for image, label, _ in items if image is not None]
        images = torch.stack([image for image, _ in sound]) if sound else torch.empty(0)
        yield images, [label for _, label in sound], [wrong for _, _, wrong in items if wrong]
