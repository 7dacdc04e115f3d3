"""The shipped specs: costs equal to the published ones, and families whose members differ in a few cells."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from itertools import combinations
from typing import Any

import pytest
import torch

from metablocks.core.shipped import shipped_names, shipped_path
from metablocks.costs import count, further_image
from metablocks.nets import assemble
from metablocks.plan import Plan, plan
from metablocks.roster.figures import PUBLISHED
from metablocks.spec import read
from metablocks.spec.source import read_source
from metablocks.spec.syntax import parse
from metablocks.spec.tree import plain

# Beginning of the names in a family (`*` stands for any text), and patterns of the paths in which its members differ;
# `n` stands for a number. A name belongs to the longest that fits.
FAMILIES = {
    "vit_*_mae": (
        "stem.patch_embed.patch",
        "stages.0.dim",
        "stages.0.depth",
        "block.mixer.attention.head_dim",
        "drop_path",
    ),
    "vit_r": (
        "stem.resnet_v2.depths",
        "stem.resnet_v2.patch",
        "stages.0.dim",
        "stages.0.depth",
    ),
    "vit_": (
        "stem.patch_embed.patch",
        "stages.0.dim",
        "stages.0.depth",
        "block.mixer.attention.head_dim",
        "block.mlp",
    ),
    "mixer_": ("stem.patch_embed.patch", "stages.0.dim", "stages.0.depth"),
    "swin_": (
        "image.size",
        "stages.n.dim",
        "stages.n.depth",
        "block.mixer.n.window_attention.window",
        "block.mixer.n.window_attention.head_dim",
        "drop_path",
    ),
    "swin_mlp_": (
        "image.size",
        "stages.n.dim",
        "stages.2.depth",
        "block.mixer.n.window_mlp.window",
        "block.mixer.n.window_mlp.head_dim",
        "drop_path",
    ),
    "swinv2_": (
        "classes",
        "image.size",
        "stages.n.dim",
        "stages.2.depth",
        "stages.3.mixer",
        "block.mixer.n.cosine_window_attention.window",
        "block.mixer.n.cosine_window_attention.pretrained_window",
        "drop_path",
    ),
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


def family_of(name: str) -> str:
    """The longest beginning that fits, or nothing."""
    return max((family for family in FAMILIES if fnmatchcase(name, f"{family}*")), key=len, default="")


def members(family: str) -> list[str]:
    return [name for name in shipped_names() if family_of(name) == family]


def resized(name: str) -> tuple[str, int] | None:
    """`vit_b16_384`, where no spec has that name, is `vit_b16` for images of 384 px."""
    base, _, size = name.rpartition("_")
    shipped = shipped_names()
    return (base, int(size)) if name not in shipped and base in shipped and size.isdecimal() else None


def lines(name: str) -> list[str]:
    path = shipped_path(name)
    assert path is not None
    return path.read_text().splitlines()


def rows(name: str) -> list[str]:
    """The lines, where the mixers of a stage stand below it in the line of the stage."""
    return re.sub(r"\n {6}\{", " {", "\n".join(lines(name))).splitlines()


@pytest.mark.parametrize("name", shipped_names())
def test_parameters_equal_the_published_number(name: str) -> None:
    with torch.device("meta"):
        net = assemble(planned(name))
    assert sum(parameter.numel() for parameter in net.parameters()) == int(published()[name]["params_exact"])


@pytest.mark.parametrize("name", shipped_names())
def test_counted_costs_equal_the_published_ones(name: str) -> None:
    costs = count(planned(name))
    row = published()[name]
    # the original of MAE's fine-tuning does not run any more, so nothing was counted
    macs = int(row["macs_counter"]) if row["macs_counter"] else costs.macs
    assert (costs.params, costs.macs) == (int(row["params_exact"]), macs)
    assert costs.macs is not None


@pytest.mark.parametrize("name", [name for name in shipped_names() if name.startswith("swinv2_")])
def test_a_further_image_costs_swin_v2_what_is_published_for_it(name: str) -> None:
    """Its bias network runs once a batch."""
    told = re.search(r"batch 2 minus batch 1\) = (\d+)", published()[name]["source"])
    counted = further_image(planned(name))
    assert counted is not None
    assert counted < int(published()[name]["macs_counter"])
    assert counted == (int(told[1]) if told else counted)


def test_where_nothing_is_shared_a_further_image_costs_what_the_first_does() -> None:
    assert further_image(planned("swin_t")) == count(planned("swin_t")).macs


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
    named = {row["spec"] for row in published().values() if row["spec"]}
    assert {name for name in named if resized(name) is None} == set(shipped_names())


@pytest.mark.parametrize("name", [name for name in published() if resized(name)])
def test_a_published_row_of_another_resolution_is_the_spec_with_its_image_size(name: str) -> None:
    base, size = resized(name) or ("", 0)
    costs = count(plan(read(base, [f"image.size={size}"])))
    row = published()[name]
    assert (costs.params, costs.macs) == (int(row["params_exact"]), int(row["macs_counter"]))


def test_every_shipped_spec_belongs_to_a_family() -> None:
    assert [name for name in shipped_names() if not family_of(name)] == []


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
    looks = {name: [layout(line) for line in rows(name)[1:]] for name in members(family)}
    first = looks[members(family)[0]]
    assert [name for name, look in looks.items() if look != first] == []


@pytest.mark.parametrize("name", shipped_names())
def test_a_spec_is_a_page_that_starts_with_what_it_is_the_paper_and_the_table(name: str) -> None:
    text = lines(name)
    assert re.fullmatch(
        r"# .+ at \d+ px\. .+ et al\. 20\d\d, arXiv:\d{4}\.\d{5}, "
        r"((table|figure) \d+|section [\d.]+)( \(.+\))?",
        text[0],
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
    line = re.sub(r"mlp: \{hidden", "mlp: {ratio", line)
    line = re.sub(r"\[[\d, ]*\]", "[0]", line)
    line = re.sub(r", pretrained_window: \d+", "", line)
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
