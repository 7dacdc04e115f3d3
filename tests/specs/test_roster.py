"""The shipped specs: costs equal to the published ones, and families whose members differ in a few cells."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import cache
from itertools import combinations
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
    "identityformer_": ("stages.n.dim", "stages.n.depth", "drop_path"),
    "randformer_": ("stages.n.dim", "stages.n.depth", "drop_path"),
    "poolformerv2_": ("stages.n.dim", "stages.n.depth", "drop_path"),
    "convformer_": ("image.size", "stages.n.dim", "stages.n.depth", "drop_path", "head.mlp.dropout"),
    "caformer_": ("image.size", "stages.n.dim", "stages.n.depth", "drop_path", "head.mlp.dropout"),
    "mae_vit_": (
        "encoder.stem.patch_embed.patch",
        "encoder.stages.0.dim",
        "encoder.stages.0.depth",
        "encoder.stages.0.mixer.attention.head_dim",
    ),
}


@cache
def published() -> dict[str, dict[str, str]]:
    """Rows by the spec's name; a half of a masked autoencoder, at its mask ratio, by the publisher's name."""
    with PUBLISHED.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["size"].endswith("mask 0")]
    return {row["spec"] or row["timm_name_or_official"]: row for row in rows}


@cache
def planned(name: str) -> Plan:
    return plan(read(name))


@cache
def data(name: str) -> dict[str, Any]:
    path = shipped_path(name)
    assert path is not None
    return plain(parse(read_source(path)))


@pytest.fixture(scope="module", autouse=True)
def _costs_are_counted_and_not_remembered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METABLOCKS_CACHE", str(tmp_path_factory.mktemp("costs")))
        yield


def members(family: str) -> list[str]:
    return [name for name in shipped_names() if name.startswith(family)]


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


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize(
    ("name", "official"),
    [
        ("mae_vit_b16", "mae_vit_base_patch16"),
        ("mae_vit_l16", "mae_vit_large_patch16"),
        ("mae_vit_h14", "mae_vit_huge_patch14"),
    ],
)
def test_each_half_of_a_masked_autoencoder_costs_what_is_published_for_it(name: str, official: str, part: str) -> None:
    rows = count(planned(name)).rows
    own = [cost for row, cost in rows.items() if row.startswith(("decoder", "predict")) == (part == "decoder")]
    row = published()[f"{official}.forward_{part}"]
    assert sum(cost.params for cost in own) == int(row["params_exact"])
    assert [cost.macs for cost in own if cost.macs is None] == []
    assert sum(cost.macs or 0 for cost in own) == int(row["macs_counter"])


def test_every_published_row_of_a_network_has_its_spec() -> None:
    assert {row["spec"] for row in published().values() if row["spec"]} == set(shipped_names())


def test_every_shipped_spec_belongs_to_one_family() -> None:
    assert [name for name in shipped_names() if sum(name.startswith(family) for family in FAMILIES) != 1] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_specs_of_a_family_differ_in_the_cells_of_its_table_and_nothing_else(family: str) -> None:
    allowed = FAMILIES[family]
    seen: set[str] = set()
    for one, other in combinations(members(family), 2):
        found = set(differences(data(one), data(other)))
        assert {path for path in found if not any(within(path, cell) for cell in allowed)} == set(), f"{one}, {other}"
        seen |= found
    assert [cell for cell in allowed if not any(within(path, cell) for path in seen)] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_specs_of_a_family_are_laid_out_alike_line_by_line(family: str) -> None:
    looks = {name: [layout(line) for line in lines(name)[1:]] for name in members(family)}
    first = looks[members(family)[0]]
    assert [name for name, look in looks.items() if look != first] == []


@pytest.mark.parametrize("name", shipped_names())
def test_a_spec_is_a_page_that_starts_with_what_it_is_the_paper_and_the_table(name: str) -> None:
    text = lines(name)
    assert re.fullmatch(
        r"# .+ at \d+ px\. .+ et al\. 20\d\d, arXiv:\d{4}\.\d{5}, (table|figure) \d+( \(.+\))?", text[0]
    )
    assert len(text) < 40
    assert max(map(len, text)) <= 120


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Dotted paths of the smallest parts in which two trees differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from differences(one.get(key), other.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{path}.{index}")
    elif one != other or type(one) is not type(other):
        yield path


def within(path: str, cell: str) -> bool:
    """Whether a path is the cell or a part of it; `n` in a cell stands for any number."""
    pattern = re.escape(cell).replace(r"\.n\.", r"\.\d+\.")
    return re.fullmatch(rf"{pattern}(\..+)?", path) is not None


def layout(line: str) -> str:
    """A line without what a family's cells hold: numbers, padding, and what a stage adds after its depth."""
    line = re.sub(r"(- \{dim: \d+, +depth: \d+)(, +(mixer|position): .*)?\}$", r"\1}", line)
    line = re.sub(r"(layer|group)_norm", "norm", line)
    return re.sub(r" +", " ", re.sub(r"\d[\d.e-]*", "0", line))


@pytest.mark.parametrize("other", ["randformer_", "poolformerv2_"])
def test_the_basic_baselines_differ_in_their_mixers_and_nothing_else_but_a_drop_path_rate(other: str) -> None:
    for name in members("identityformer_"):
        found = set(differences(data(name), data(name.replace("identityformer_", other))))
        found.discard("drop_path")
        assert found
        assert {
            path for path in found if not within(path, "block.mixer") and not within(path, "stages.n.mixer")
        } == set()
