"""The shipped specs: costs equal to the published ones, and families whose members differ in a few cells."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from metablocks.core.shipped import shipped_names, shipped_path
from metablocks.costs import count
from metablocks.nets import assemble
from metablocks.plan import Plan, plan
from metablocks.spec import read
from metablocks.spec.source import read_source
from metablocks.spec.syntax import parse
from metablocks.spec.tree import plain

PUBLISHED = Path(__file__).parents[1] / "data" / "published.csv"

# Prefix of the names in a family, and patterns of the paths in which its members differ; `n` stands for a number.
FAMILIES = {
    "vit_": (
        "stem.patch_embed.patch",
        "stages.0.dim",
        "stages.0.depth",
        "block.mixer.attention.head_dim",
    ),
    "mixer_": ("stem.patch_embed.patch", "stages.0.dim", "stages.0.depth"),
    "swin_": ("stages.n.dim", "stages.n.depth", "drop_path"),
    "poolformer_": ("stages.n.dim", "stages.n.depth", "block.layer_scale", "drop_path"),
    "metaformer_": ("block.norm", "head.norm", "stages.n.mixer", "stages.n.position"),
    "mae_vit_": (
        "encoder.stem.patch_embed.patch",
        "encoder.stages.0.dim",
        "encoder.stages.0.depth",
        "encoder.stages.0.mixer.attention.head_dim",
    ),
}


@cache
def published() -> dict[str, dict[str, str]]:
    """Rows by the spec's name; a row of a part by the publisher's name of the part and the size."""
    with PUBLISHED.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["spec"] or f"{row['timm_name_or_official']} {row['size']}": row for row in rows}


@cache
def planned(name: str) -> Plan:
    return plan(read(name))


@cache
def data(name: str) -> dict[str, Any]:
    path = shipped_path(name)
    assert path is not None
    return plain(parse(read_source(path)))


def members(family: str) -> list[str]:
    return [name for name in shipped_names() if name.startswith(family)]


def family_of(name: str) -> str:
    return next(family for family in FAMILIES if name.startswith(family))


def lines(name: str) -> list[str]:
    path = shipped_path(name)
    assert path is not None
    return path.read_text().splitlines()


@pytest.mark.parametrize("name", shipped_names())
def test_parameters_equal_the_published_number(name: str) -> None:
    with torch.device("meta"):
        net = assemble(planned(name))
    assert sum(parameter.numel() for parameter in net.parameters()) == int(published()[name]["params_exact"])


@pytest.mark.parametrize("name", shipped_names())
def test_counted_costs_equal_the_published_ones(name: str) -> None:
    costs = count(planned(name))
    row = published()[name]
    assert (costs.params, costs.macs) == (int(row["params_exact"]), int(row["macs_counter"]))


@pytest.mark.parametrize(
    ("name", "official"),
    [
        ("mae_vit_b16", "mae_vit_base_patch16"),
        ("mae_vit_l16", "mae_vit_large_patch16"),
        ("mae_vit_h14", "mae_vit_huge_patch14"),
    ],
)
def test_encoder_and_decoder_of_mae_cost_what_is_published_for_each(name: str, official: str) -> None:
    rows = count(planned(name)).rows
    for part, decodes in (("encoder", False), ("decoder", True)):
        own = [cost for row, cost in rows.items() if row.startswith(("decoder", "predict")) == decodes]
        keys = [key for key in published() if key.startswith(f"{official}.forward_{part} ") and "mask 0" != key[-6:]]
        assert len(keys) == 1
        row = published()[keys[0]]
        costs = sum(cost.params for cost in own), sum(cost.macs or 0 for cost in own)
        assert costs == (int(row["params_exact"]), int(row["macs_counter"])), keys[0]
