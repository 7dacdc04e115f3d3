"""The page on records tells of every key that there is, and of none that there is not."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from metablocks.bench.record import SCHEMA, Figures, Process, Record

TEXT = (Path(__file__).parents[3] / "docs" / "records.md").read_text(encoding="utf-8")


def keys(section: str) -> set[str]:
    """What stands in the first column of the table of a section."""
    body = TEXT.split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in body.splitlines() if line.startswith("| `")]
    return {key for row in rows for key in re.findall(r"`([a-z0-9_]+)`", row)}


@pytest.mark.parametrize(
    ("section", "kind", "inside"),
    [("The record", Record, {"figures"}), ("Figures", Figures, set()), ("A process", Process, set())],
)
def test_every_key_is_told_and_no_other(section: str, kind: type, inside: set[str]) -> None:
    assert keys(section) == {item.name for item in fields(kind)} - inside


def test_the_version_is_that_of_the_code() -> None:
    assert f"version of the format, now {SCHEMA}." in TEXT
