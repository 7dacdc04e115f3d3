"""What the outputs of a classifier mean: the names of ImageNet's classes, or numbers where it has others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

CLASSES = 1000


@dataclass(frozen=True)
class Guess:
    """One class of those that a network finds most likely."""

    index: int
    name: str
    probability: float


def top(logits: Tensor, count: int = 5) -> list[Guess]:
    """The most likely classes of one image by logits (classes)."""
    values, indices = torch.softmax(logits.double().cpu(), -1).topk(min(count, logits.shape[0]))
    return [
        Guess(index, name_of(index, logits.shape[0]), value)
        for value, index in zip(values.tolist(), indices.tolist(), strict=True)
    ]


def name_of(index: int, classes: int) -> str:
    """The name of a class, of ImageNet-1k where there are as many."""
    return _table()[index][1] if classes == CLASSES else f"class {index}"


def index_of(synset: str) -> int | None:
    """The class of ImageNet-1k by the name of its folder, `n01440764`."""
    return _indices().get(synset)


@cache
def _table() -> tuple[tuple[str, str], ...]:
    """Synset and name of every class."""
    lines = Path(__file__).with_name("imagenet.txt").read_text(encoding="utf-8").splitlines()
    parts = (line.partition(" ") for line in lines if not line.startswith("#"))
    return tuple((synset, name) for synset, _, name in parts)


@cache
def _indices() -> dict[str, int]:
    return {synset: index for index, (synset, _) in enumerate(_table())}
