"""A network goes into a file with its spec, and comes back from it alone."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import metablocks as mb
from metablocks.cli import main
from metablocks.core.saved import SPEC, saved_metadata, saved_spec

TINY = """net: classifier
image: {size: 16}
classes: 5
stem: {patch_embed: {patch: 4}}
block: {norm: layer_norm, mixer: {attention: {heads: 2}}, mlp: {ratio: 2}}
stages: [{dim: 8, depth: 2}]
head: {norm: layer_norm}
"""


@pytest.fixture
def tiny():
    return mb.build(TINY)


@pytest.fixture
def saved(tiny, tmp_path):
    path = tmp_path / "tiny.safetensors"
    mb.save(tiny, path)
    return path


def test_it_builds_from_the_file_alone_to_the_same_outputs(tiny, saved):
    image = torch.randn(2, 3, 16, 16)
    again = mb.build(saved)
    assert again.spec.name == "tiny"
    assert again.spec.digest == tiny.spec.digest
    assert torch.equal(again(image), tiny(image))


def test_edits_change_what_is_in_the_file(saved):
    model = mb.build(str(saved), set={"drop_path": 0.1}, classes=7)
    assert model.head.fc.out_features == 7


def test_the_file_is_read_and_planned_like_a_spec(saved, tiny):
    assert mb.read(saved).net == tiny.spec.net
    assert mb.plan(str(saved)).params == sum(item.numel() for item in tiny.parameters())


def test_other_weights_may_be_given_with_it(saved, tiny):
    other = {name: torch.zeros_like(value) for name, value in tiny.state_dict().items()}
    assert mb.build(saved, weights=other)(torch.ones(1, 3, 16, 16)).abs().max() == 0


@pytest.mark.parametrize("command", [["check"], ["explain"], ["build", "--compile", "none"], ["weights"]])
def test_every_command_takes_it(command, saved, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["metablocks", command[0], str(saved), *command[1:]])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code, capsys.readouterr()


def test_build_saves_what_it_built(tmp_path, monkeypatch, capsys):
    spec, path = tmp_path / "mine.yaml", tmp_path / "out.safetensors"
    spec.write_text(TINY, encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["metablocks", "build", str(spec), "--compile", "none", "--save", str(path)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert str(path) in capsys.readouterr().out
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()[SPEC])["stages"][0]["dim"] == 8
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("out.pth", mb.InputError, "no name of a safetensors file"),
        ("missing/out.safetensors", mb.StoreError, "there is no folder"),
        ("folder.safetensors", mb.StoreError, "it is a folder"),
    ],
)
def test_a_file_that_cannot_be_written_is_told(name, error, words, tiny, tmp_path):
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(error, match=words):
        mb.save(tiny, tmp_path / name)


def test_build_tells_so_before_it_builds(tmp_path, monkeypatch, capsys):
    target = tmp_path / "no" / "out.safetensors"
    monkeypatch.setattr("sys.argv", ["metablocks", "build", "vit_h14", "--save", str(target)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 3
    assert "there is no folder" in capsys.readouterr().err


def test_half_precision_stays_half_in_the_file(tmp_path):
    path = tmp_path / "half.safetensors"
    mb.save(mb.build(TINY, dtype="bfloat16"), path)
    with safe_open(path, "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118


def test_tied_weights_are_written_twice(tiny, tmp_path):
    first, second = tiny.encoder.stages[0].blocks
    second.mlp.op.fc1.weight = first.mlp.op.fc1.weight
    mb.save(tiny, tmp_path / "tied.safetensors")
    image = torch.randn(1, 3, 16, 16)
    assert torch.equal(mb.build(tmp_path / "tied.safetensors")(image), tiny(image))


def test_a_network_without_a_spec_is_not_saved(tiny, tmp_path):
    tiny.spec = None
    with pytest.raises(mb.InputError, match="not built from a spec"):
        mb.save(tiny, tmp_path / "a.safetensors")


def test_a_safetensors_file_without_a_spec_is_no_spec(tmp_path):
    path = tmp_path / "plain.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(mb.InputError, match="holds weights, but no spec"):
        mb.read(path)


def test_a_spec_inside_is_checked_like_any_other(tmp_path):
    path = tmp_path / "bad.safetensors"
    save_file({"a": torch.zeros(1)}, path, {SPEC: '{"net": "classifier", "_target_": "os.system"}'})
    with pytest.raises(mb.SpecError, match="unknown key `_target_`"):
        mb.read(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"12345678",
        struct.pack("<Q", 1 << 62) + b"{",
        struct.pack("<Q", 99) + b"{",
        struct.pack("<Q", 2) + b"{]",
        struct.pack("<Q", 70000) + b"{" + b'"a":{' * 60000,
    ],
)
def test_what_is_no_sound_file_has_no_metadata(data, tmp_path):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(data)
    assert saved_metadata(path) is None
    assert saved_spec(tmp_path) is None
    assert saved_spec(tmp_path / "none") is None
