"""`metablocks weights FILE`: what a checkpoint is."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

import metablocks as mb
from metablocks.build import skeleton
from metablocks.cli import main
from metablocks.core import shipped
from metablocks.weights import microsoft, timm


def named_by(publisher, name, *edits, dtype=torch.float32):
    """Zeros for a shipped network, by a publisher's names."""
    planned = mb.plan(name, edits)
    state = skeleton(planned).state_dict()
    rules = publisher.rules_for(planned)
    theirs = {ours: next(found for rule in rules if (found := rule.backward(ours))) for ours in state}
    return {theirs[ours]: torch.zeros(value.shape, dtype=dtype) for ours, value in state.items()}


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["metablocks", "weights", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def tell(run, tmp_path):
    """What the command says of a state dict, row by row."""

    def call(state):
        path = tmp_path / "weights.safetensors"
        save_file(state, path)
        code, out, err = run(path)
        assert code == 0, err
        rows = {}
        for line in out.splitlines():
            rows.setdefault(line[:10].strip(), line[11:])
        return rows

    return call


def test_the_network_is_found_by_names_and_shapes(tell):
    rows = tell(named_by(timm.SWIN, "swin_t"))
    assert rows["publisher"] == "Swin with the names of timm"
    assert (rows["network"], rows["image"], rows["classes"]) == ("swin_t", "224 x 224 px, 3 channels", "1000")
    assert rows["fit"] == "all 173 tensors have their place"
    assert rows["use"].startswith("metablocks build swin_t --weights ")


def test_another_resolution_and_another_head_are_told_as_edits(tell):
    rows = tell(named_by(timm.VIT, "vit_ti16", "image.size=384", "classes=10"))
    assert rows["network"] == "vit_ti16 --set 'classes=10' --set 'image.size=384'" or rows["network"] == (
        "vit_ti16 --set 'image.size=384' --set 'classes=10'"
    )
    assert (rows["image"], rows["classes"]) == ("384 x 384 px, 3 channels", "10")


def test_settings_that_the_publisher_implies_are_told_apart(tell):
    rows = tell(named_by(timm.POOLFORMER, "poolformer_s12", "head={pool_norm: layer_norm}"))
    assert rows["network"] == "poolformer_s12"
    assert "head.pool_norm" in rows["implied"]


def test_an_encoder_alone_is_a_network_without_its_last_layer(tell):
    state = named_by(timm.VIT, "vit_ti16", dtype=torch.float16)
    rows = tell({name: value for name, value in state.items() if not name.startswith("head.")})
    assert rows["numbers"] == "float16"
    assert rows["classes"] == "none: the file has no classifier"
    assert rows["missing"] == "2: `head.fc.weight`, `head.fc.bias`"
    assert rows["use"].startswith("mb.build('vit_ti16', ")


def test_what_is_left_over_and_what_is_missing_is_named(tell):
    state = named_by(timm.VIT, "vit_ti16")
    del state["blocks.3.mlp.fc1.bias"]
    state["teacher.temperature"] = torch.ones(1)
    rows = tell(state)
    assert rows["fit"] == "151 tensors have their place"
    assert rows["left over"] == "1: `teacher.temperature`"
    assert rows["missing"] == "1: `encoder.stages.0.blocks.3.mlp.op.fc1.bias`"
    assert "use" not in rows


def test_values_that_are_not_finite_are_a_warning(tell):
    state = named_by(timm.VIT, "vit_ti16")
    state["norm.bias"][:3] = float("nan")
    assert tell(state)["warning"] == "3 values of `norm.bias` are NaN or infinite"


def test_a_known_publisher_of_a_network_that_is_not_shipped(tell):
    rows = tell(named_by(timm.VIT, "vit_ti16", "stages.0.depth=5"))
    assert rows["network"] == "no shipped one fits"


@pytest.mark.parametrize(
    ("file", "first"), [("b.safetensors", "vit_ti16"), ("my-vit_ti16-twin-v2.pth", "vit_ti16_twin")]
)
def test_networks_with_the_same_tensors_are_all_told_that_of_the_file_name_first(
    file, first, run, tmp_path, monkeypatch
):
    # as IdentityFormer and PoolFormerV2 are, whose token mixers have no parameters
    (tmp_path / "specs").mkdir()
    for name in ("vit_ti16", "vit_ti16_twin"):
        (tmp_path / "specs" / f"{name}.yaml").write_bytes(shipped.shipped_path("vit_ti16").read_bytes())
    state = named_by(timm.VIT, "vit_ti16")
    torch.save(state, tmp_path / file)
    monkeypatch.setattr(shipped, "shipped_dir", lambda: tmp_path / "specs")
    out = run(tmp_path / file)[1]
    other = "vit_ti16_twin" if first == "vit_ti16" else "vit_ti16"
    assert f"network    {first} or {other}\n" in out
    assert out.count("use        metablocks build") == 2
    assert "do not tell these networks apart" in out


@pytest.mark.parametrize("name", ["swinv2_t_w8", "swinv2_t_w16"])
def test_saved_offsets_tell_the_window_of_a_swin_v2_where_no_parameter_does(name, tell):
    state = named_by(microsoft.SWIN_V2, name)
    assert tell(state)["network"].startswith("swinv2_t_w16 or swinv2_t_w8")
    for place, block in enumerate(skeleton(mb.plan(name)).encoder.stages[0].blocks):
        window = block.mixer.op.sizes.window[0]
        table = block.mixer.op.offsets.view(1, 2 * window - 1, 2 * window - 1, 2)
        state[f"layers.0.blocks.{place}.attn.relative_coords_table"] = table.clone()
    rows = tell(state)
    assert rows["network"] == name
    assert "resampled" not in rows


def test_as_json_it_says_the_same(run, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"model": named_by(timm.MIXER, "mixer_s32", "classes=7")}, path)
    data = json.loads(run(path, "--json")[1])
    assert data["publisher"] == "MLP-Mixer with the names of timm"
    assert [(fit["spec"], fit["set"]) for fit in data["fits"]] == [("mixer_s32", ["classes=7"])]
    assert data["notes"] == ["the weights are those under `model`"]


def test_a_file_of_save_is_its_own_spec(run, tmp_path):
    mb.save(mb.build("vit_ti16", set=["stages.0.depth=1", "classes=3"]), tmp_path / "mine.safetensors")
    out = run(tmp_path / "mine.safetensors")[1]
    assert "publisher  metablocks" in out
    assert "network    mine\n" in out
    assert f"use        metablocks build {tmp_path}/mine.safetensors\n" in out
    state = load_file(tmp_path / "mine.safetensors")
    del state["head.fc.weight"]
    save_file(state, tmp_path / "bare.safetensors")
    assert "no shipped one fits" in run(tmp_path / "bare.safetensors")[1]


class Payload:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"<html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\nsize 9\n", "is a Git LFS pointer"),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00{", "is incomplete"),
        (pickle.dumps({"a": Payload()}), "contains code"),
    ],
)
def test_a_broken_or_hostile_file_has_its_own_sentence(data, words, run, tmp_path):
    (tmp_path / "a.pth").write_bytes(data)
    code, out, err = run(tmp_path / "a.pth")
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err


def test_names_of_nobody_are_refused(run, tmp_path):
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "resnet.safetensors")
    code, _, err = run(tmp_path / "resnet.safetensors")
    assert code == 2
    assert "no publisher has these 1 names" in err
