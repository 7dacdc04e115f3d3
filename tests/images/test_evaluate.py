"""`evaluate`: accuracy over a folder of pictures."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from torch import nn

import metablocks as mb
from metablocks.cli import main
from metablocks.images import Recipe
from metablocks.images.evaluate import Pictures, samples, score

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
SPEC = """net: classifier
image: {size: 8}
classes: 3
stem: {patch_embed: {patch: 8}}
block: {norm: layer_norm, mixer: identity, mlp: {ratio: 1}}
stages: [{dim: 8, depth: 1}]
head: {norm: layer_norm}
"""


@pytest.fixture
def folder(tmp_path):
    """Three classes of four pictures, each of one colour; one of the third is wrong."""
    root = tmp_path / "data"
    for index, colour in enumerate(COLOURS):
        (root / f"class_{index}").mkdir(parents=True)
        for number in range(4):
            shown = COLOURS[0] if (index, number) == (2, 3) else colour
            Image.new("RGB", (10, 12), shown).save(root / f"class_{index}" / f"{number}.png")
    return root


class Colour(nn.Module):
    """Logits are the means of the channels."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.shapes = set()

    def forward(self, images):
        self.shapes.add(tuple(images.shape))
        return images.mean((2, 3)) * self.scale


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["metablocks", "evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return call


@pytest.mark.parametrize(("batch", "workers"), [(1, 0), (5, 0), (100, 0), (4, 2)])
def test_right_answers_are_counted_and_every_batch_has_one_shape(folder, batch, workers):
    model, heard = Colour(), []
    pictures = Pictures(samples(folder, 3), Recipe(), (8, 8))
    total = score(model, pictures, batch, workers, heard.append)
    assert (total.images, total.top1, total.top5, total.broken) == (12, 11, 12, ())
    assert model.shapes == {(batch, 3, 8, 8)}
    assert heard[-1] == total


def test_a_broken_picture_is_left_out_and_named(folder):
    (folder / "class_0" / "0.png").write_bytes(b"\x89PNG")
    total = score(Colour(), Pictures(samples(folder, 3), Recipe(), (8, 8)), 4)
    assert (total.images, total.top1) == (11, 10)
    assert "0.png" in total.broken[0]


@pytest.mark.parametrize(
    ("names", "classes", "indices"),
    [
        (["b", "a"], 2, [0, 1]),
        (["n02113023", "n01440764"], 1000, [0, 263]),
        (["7", "12"], 20, [12, 7]),
    ],
)
def test_folders_are_classes_by_order_by_synset_or_by_number(names, classes, indices, tmp_path):
    for name in names:
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "a.JPG", "jpeg")
        (tmp_path / name / "notes.txt").write_text("not a picture")
    (tmp_path / ".hidden").mkdir()
    assert [index for _, index in samples(tmp_path, classes)] == indices


def test_folders_that_are_not_the_classes_are_refused(folder, tmp_path):
    with pytest.raises(mb.InputError, match="has 3 folders, and the network 1000 classes"):
        samples(folder, 1000)
    with pytest.raises(mb.InputError, match="there is no folder"):
        samples(tmp_path / "none", 3)
    (tmp_path / "empty" / "a").mkdir(parents=True)
    with pytest.raises(mb.InputError, match="holds no pictures"):
        samples(tmp_path / "empty", 1)
    with pytest.raises(mb.InputError, match="holds no folders"):
        samples(tmp_path / "empty" / "a", 1)


def test_the_command_tells_accuracy_and_how_pictures_were_prepared(run, folder, tmp_path):
    (tmp_path / "net.yaml").write_text(SPEC, encoding="utf-8")
    model = mb.build(SPEC)
    mb.save(model, tmp_path / "net.safetensors")
    code, out, err = run(tmp_path / "net.safetensors", "--data", folder, "--batch", 5, "--json")
    assert code == 0, err
    data = json.loads(out)
    assert data["images"] == 12
    assert data["top5"] == 1
    pictures = Pictures(samples(folder, 3), Recipe(), (8, 8))
    assert data["top1"] == score(model, pictures, 12).top1 / 12
    weights = ["--weights", tmp_path / "net.safetensors"]
    code, out, _ = run(tmp_path / "net.yaml", *weights, "--data", folder)
    assert code == 0
    assert "top-5    100.00 % (12 of 12)" in out
    assert "0.875 of it cut out" in out


def test_the_command_ends_with_four_where_a_picture_is_broken(run, folder, tmp_path):
    (folder / "class_1" / "1.png").write_bytes(b"no")
    (tmp_path / "net.yaml").write_text(SPEC, encoding="utf-8")
    code, out, err = run(tmp_path / "net.yaml", "--data", folder)
    assert code == 4
    assert "of 11)" in out
    assert "left out: " in err


def test_a_network_without_classes_is_refused_before_it_is_built(run, folder):
    code, _, err = run("mae_vit_h14", "--data", folder)
    assert (code, "no classes" in err) == (2, True)
