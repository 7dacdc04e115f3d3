"""The JSON Schema that editors check with: it takes what the reader takes, and refuses what the reader refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator
from strategies import classifiers, masked_autoencoders

import metablocks as mb
from metablocks.core.shipped import shipped_names, shipped_path
from metablocks.mixers import names
from metablocks.spec.reader import read_net
from metablocks.spec.schema import schema
from metablocks.spec.source import read_source
from metablocks.spec.syntax import parse
from metablocks.spec.tree import plain

BAD = Path(__file__).parent / "bad"
SCHEMA = schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def data_of(path):
    return plain(parse(read_source(path)))


def refusals():
    """Bad specs that parse and that the reader refuses, with its error."""
    for path in sorted(BAD.glob("*.yaml")):
        try:
            root = parse(read_source(path))
        except mb.SpecError:
            continue
        try:
            read_net(root)
        except mb.SpecError as error:
            yield pytest.param(plain(root), error, id=path.stem)


# Faults of several keys at once, which are the business of validators and not of types, and the difference of 7 and
# 7.0, which JSON Schema does not know.
BEYOND = (
    "found `384.0`",
    "found `1e3`",
    "needs `head_dim` or `heads`",
    "takes `head_dim` or `heads`, not both",
    "mlp takes `ratio` or `hidden`, not both",
    "mlp needs `ratio` or `hidden`",
    "is not smaller than the window",
    "means nothing with `layers: 1`",
    "a head needs `classes`",
    "`head: none` has no `classes`",
)


def test_it_is_a_schema():
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_spec_fits(name):
    VALIDATOR.validate(data_of(shipped_path(name)))
    VALIDATOR.validate(mb.read(name).resolved())


@given(classifiers() | masked_autoencoders())
def test_any_spec_that_reads_fits(data):
    VALIDATOR.validate(data)
    VALIDATOR.validate(mb.read(json.dumps(data)).resolved())


@pytest.mark.parametrize(("data", "error"), list(refusals()))
def test_what_the_reader_refuses_does_not_fit(data, error):
    beyond = [fault for fault in error.faults if any(told in fault.message for told in BEYOND)]
    if len(beyond) < len(error.faults):
        assert not VALIDATOR.is_valid(data)


def test_every_key_says_what_it_means():
    def walk(node, path):
        if isinstance(node, dict):
            for key, value in node.get("properties", {}).items() if isinstance(node.get("properties"), dict) else ():
                one_name = node.get("required") == [key] and len(node["properties"]) == 1
                if key != "net" and not one_name:
                    assert value.get("description"), f"{path}.{key}"
            for key, value in node.items():
                walk(value, f"{path}.{key}")
        elif isinstance(node, list):
            for index, value in enumerate(node):
                walk(value, f"{path}.{index}")

    walk(SCHEMA, "")


def test_every_mixer_can_be_completed():
    text = json.dumps(SCHEMA["$defs"]["mixer"])
    assert all(f'"{name}"' in text for name in names())


def test_the_command_prints_it_with_the_mixers_of_a_folder(tmp_path):
    source = (Path(mb.__file__).parent / "mixers" / "identity.py").read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "metablocks", "schema", "--mixers", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert '"mine"' in json.dumps(json.loads(done.stdout)["$defs"]["mixer"])
