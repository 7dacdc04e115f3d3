"""What was published about the networks: one row of `published.csv` a network, or a half of a masked autoencoder.

Exact counts were taken from the publishers' code on the meta device, the papers' figures from the source that a row
names. A row may be another size of a shipped spec: `vit_b16_384` is `vit_b16` with `image.size=384`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metablocks.core.errors import Fault, InputError
from metablocks.core.shipped import shipped_names
from metablocks.core.text import did_you_mean, printable

PUBLISHED = Path(__file__).with_name("published.csv")
CLASSES_21K = 21841  # of ImageNet-22k as Swin's code counts them

Half = Literal["", "encoder", "decoder"]


@dataclass(frozen=True)
class Figure:
    """`spec` is empty where nothing shipped is this network. Exact numbers are None where nobody counted."""

    name: str
    spec: str
    edits: tuple[str, ...]
    half: Half
    size: str
    """The publisher's name of the size: `B/16`."""
    official: str
    """What the publisher or timm calls the network."""
    params: int | None
    macs: int | None
    paper_params: str
    """In millions, as it is printed: `86`, `11.9+0.2`; empty where there is none."""
    paper_macs: str
    """In billions."""
    source: str


def figures(names: Iterable[str] = (), path: Path = PUBLISHED) -> list[Figure]:
    """The figures of the networks called `names`, or all. Raises `InputError` for a name without any."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    official = {row["timm_name_or_official"]: row["spec"] for row in rows if row["spec"]}
    found = [_figure(row, official) for row in rows]
    wanted = list(dict.fromkeys(names))
    known = {name for figure in found for name in (figure.name, figure.spec)} | set(shipped_names())
    for name in wanted:
        if name not in known:
            hint = did_you_mean(name, known) or "`metablocks specs` lists the shipped networks"
            raise InputError(Fault(f"no published figures of `{printable(name)}`", help=hint))
    return [figure for figure in found if not wanted or figure.name in wanted or figure.spec in wanted]


def _figure(row: Mapping[str, str], official: Mapping[str, str]) -> Figure:
    name, half, edits = row["spec"], "", []
    whole, _, part = row["timm_name_or_official"].rpartition(".forward_")
    if not name and part in ("encoder", "decoder"):
        base, half, name = official.get(whole, ""), part, f"{official.get(whole, whole)} {part}"
        if row["size"].endswith("mask 0"):
            # a mask token in place of a masked patch: the encoder then runs over all of them
            edits, name = ["mask.tokens=replace"], f"{name}, all patches"
    else:
        base, edits = _variant(name, row["img_size"])
    return Figure(
        name,
        base,
        tuple(edits),
        half,  # type: ignore[arg-type]
        row["size"],
        row["timm_name_or_official"],
        _integer(row["params_exact"]),
        _integer(row["macs_counter"]),
        row["params_paper_M"],
        row["macs_paper_G"],
        row["source"],
    )


def _variant(name: str, size: str) -> tuple[str, list[str]]:
    """The shipped spec behind a name, and what has to be set."""
    shipped = shipped_names()
    base, _, ending = name.rpartition("_")
    if name in shipped or base not in shipped:
        return (name if name in shipped else ""), []
    if ending == size:
        return base, [f"image.size={size}"]
    return (base, [f"classes={CLASSES_21K}"]) if ending == "21k" else ("", [])


def _integer(text: str) -> int | None:
    return int(text) if text else None
