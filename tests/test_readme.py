"""What the README says is so."""

from __future__ import annotations

import re
from pathlib import Path

import torch

import metablocks as mb
from metablocks import mixers

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_it_has_under_200_lines():
    assert len(README.splitlines()) < 200


def test_its_17_line_spec_is_swin_t():
    (text,) = blocks("yaml")
    assert len(text.splitlines()) == 17
    assert mb.plan(text).params == mb.plan("swin_t").params == 28_288_354


def test_its_mixer_is_a_mixer(tmp_path):
    source = blocks("python")[1]
    (tmp_path / "mean_of_readme.py").write_text(source)
    mixers.add_folder(tmp_path)
    model = mb.build("swin_t", set=["image.size=64", "block.mixer={mean_of_readme: {share: 0.5}}"])
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 1000)
    assert model.plan.macs


def test_its_python_runs():
    names = {"state_dict": mb.build("swin_t").state_dict(), "images": torch.randn(1, 3, 224, 224)}
    source = blocks("python")[0]
    setup, rest = source.split("tokens = ")
    exec(setup, names)
    names["model"] = mb.build("swin_t", classes=10)  # eager: what is compiled is tested elsewhere
    exec("tokens = " + rest, names)
    assert names["tokens"].shape == (1, 49, 768)
    assert [tuple(item.shape[2:]) for item in names["maps"]] == [(56, 56), (28, 28), (14, 14), (7, 7)]


def test_its_map_is_what_is_there():
    section = README.partition("## Map of the files")[2]
    first = "\n".join(line.split("|")[1] for line in section.splitlines() if "|" in line)
    told = set(re.findall(r"`([\w./]+)`", first))
    there = {f"{path.relative_to(ROOT)}{'/' * path.is_dir()}" for path in (ROOT / "metablocks").iterdir()}
    there = {name for name in there if not re.search(r"__\w+__|py\.typed|_specs", name)}
    assert there | {"specs/", "bench/", "docs/", "tests/"} == told
    for line in section.splitlines():
        if "one file a mixer" in line:
            assert set(re.findall(r"\b\w+\b", line.partition(":")[2])) == {
                path.stem for path in (ROOT / "metablocks" / "mixers").glob("[a-z]*.py")
            }
