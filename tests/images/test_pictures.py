"""Pictures go into a network as its publisher prepares them, and classes come out by name."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import metablocks as mb
from metablocks.cli import main
from metablocks.core.shipped import shipped_names
from metablocks.images import Recipe, open_picture, prepare, recipe_for, top
from metablocks.images.classes import index_of, name_of
from metablocks.images.recipe import HALF, IMAGENET, recipe_from
from metablocks.weights import PUBLISHERS

SPEC = """net: classifier
image: {{size: {size}, channels: {channels}}}
classes: {classes}
stem: {{patch_embed: {{patch: 8}}}}
block: {{norm: layer_norm, mixer: identity, mlp: {{ratio: 1}}}}
stages: [{{dim: 8, depth: 1}}]
head: {{norm: layer_norm}}
"""


def text(size=16, channels=3, classes=1000):
    return SPEC.format(size=size, channels=channels, classes=classes)


def painted(height=60, width=90):
    """A picture with edges, slopes and noise, so that wrong places and wrong filters show."""
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 40, (height, width, 3))
    pixels = np.stack([rows * 2, columns * 2, (rows + columns) % 32 * 6], -1) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    painted().save(path)
    return path


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["metablocks", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return call


def test_the_shorter_side_is_brought_to_size_and_the_middle_is_cut_out():
    image = painted(60, 90)
    got = prepare(image, Recipe(mean=(0.0,) * 3, std=(1.0,) * 3, crop=0.8), (32, 32))
    resized = np.asarray(image.resize((60, 40), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    torch.testing.assert_close(got, torch.from_numpy(resized[4:36, 14:46]).permute(2, 0, 1))


@pytest.mark.parametrize("size", [(32, 32), (24, 48), (48, 24), (33, 17)])
@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (7, 200), (50, 50)])
@pytest.mark.parametrize("crop", [1.0, 0.9, 0.875])
def test_any_picture_fills_any_size(size, shape, crop):
    got = prepare(painted(*shape), Recipe(mean=(-1.0,) * 3, std=(1.0,) * 3, crop=crop), size)
    assert got.shape == (3, *size)
    assert got.min() >= 1  # no border of zeros was cut out beside the picture


def test_mean_and_deviation_are_taken_off_each_channel():
    grey = Image.new("RGB", (8, 8), (255, 0, 51))
    got = prepare(grey, Recipe(mean=(0.5, 0.25, 0.2), std=(0.5, 0.5, 2.0)), (4, 4))
    torch.testing.assert_close(got[:, 0, 0], torch.tensor([1.0, -0.5, 0.0]))


def test_google_squeezes_without_antialias():
    image = painted(60, 90)
    got = prepare(image, recipe_for("ViT with Google's names", "vit_b16", (32, 32)), (32, 32))
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32).copy()).permute(2, 0, 1)[None]
    wanted = F.interpolate(pixels, (32, 32), mode="bilinear", align_corners=False)[0] / 127.5 - 1
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(
    ("publisher", "network", "pixels", "crop", "stats"),
    [
        ("ViT with the names of timm", "vit_b16", 224, 0.9, HALF),
        ("ViT with the names of timm", "vit_b16", 384, 1.0, HALF),
        ("ViT with the names of timm and a norm after pooling", "vit_b16", 224, 0.875, IMAGENET),
        ("MLP-Mixer with the names of timm", "mixer_b16", 224, 0.875, HALF),
        ("Swin with the names of timm", "swin_t", 224, 0.9, IMAGENET),
        ("PoolFormer with the names of timm", "poolformer_m36", 224, 0.95, IMAGENET),
        ("PoolFormer or MetaFormer with sail-sg's names", "poolformer_s12", 224, 0.9, IMAGENET),
        ("Swin with Microsoft's names", "swin_b", 224, 0.875, IMAGENET),
        ("ViT with the names of timm and MAE's head for linear probing", "vit_l16", 224, 0.875, IMAGENET),
        ("MetaFormer with the names of timm", "my_net", 224, 1.0, IMAGENET),
        ("PoolFormer or MetaFormer with sail-sg's names", "metaformer_ppaa_s12", 224, 0.95, IMAGENET),
        ("metablocks", "vit_b16", 224, 0.9, HALF),
        ("metablocks", "my_net", 224, 0.875, IMAGENET),
    ],
)
def test_every_publisher_has_its_own_way(publisher, network, pixels, crop, stats):
    recipe = recipe_for(publisher, network, (pixels, pixels))
    assert (recipe.crop, (recipe.mean, recipe.std), recipe.interpolation) == (crop, stats, "bicubic")


def test_microsoft_squeezes_what_was_trained_on_at_384():
    recipe = recipe_for("Swin V2 with Microsoft's names", "swinv2_b_w24", (384, 384))
    assert (recipe.whole, recipe.antialias, recipe.interpolation) == (True, True, "bicubic")
    got = prepare(painted(60, 90), recipe, (32, 32))
    squeezed = np.asarray(painted(60, 90).resize((32, 32), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    mean, std = (np.array(row, dtype=np.float32) for row in IMAGENET)
    torch.testing.assert_close(got, torch.from_numpy((squeezed - mean) / std).permute(2, 0, 1))


def test_nobody_is_without_a_recipe():
    for publisher in PUBLISHERS:
        for network in shipped_names():
            recipe = recipe_for(publisher.name, network, (224, 224))
            assert recipe_from(recipe.model_dump_json()) == recipe


def test_a_recipe_in_a_file_is_checked():
    with pytest.raises(mb.InputError, match="crop: input should be less than or equal to 1"):
        recipe_from('{"crop": 7}')
    with pytest.raises(mb.InputError, match="what cannot be"):
        recipe_from('{"run": "rm"}')


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "I;16"])
def test_a_picture_of_any_mode_is_read_as_red_green_and_blue(mode, tmp_path):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    (Image.new(mode, (5, 4)) if mode == "I;16" else painted(4, 5).convert(mode)).save(path)
    assert (open_picture(path).mode, open_picture(path).size) == ("RGB", (5, 4))


def test_a_picture_that_was_taken_lying_is_set_upright_only_where_asked(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    painted(4, 5).save(tmp_path / "a.jpg", exif=exif)
    assert open_picture(tmp_path / "a.jpg").size == (5, 4)
    assert open_picture(tmp_path / "a.jpg", upright=True).size == (4, 5)


def test_what_is_no_picture_is_told_as_what_it_is(tmp_path, picture, monkeypatch):
    whole = picture.read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("hello")
    cases = {"text.jpg": "no picture", "none.jpg": "there is no file", "cut.png": "is broken", ".": "regular file"}
    for name, words in cases.items():
        with pytest.raises(mb.InputError, match=words):
            open_picture(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(mb.InputError, match="more than 100 pixels"):
        open_picture(picture)


def test_without_pillow_it_says_what_to_install(monkeypatch, picture):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(mb.MissingError, match="needs Pillow") as caught:
        open_picture(picture)
    assert "metablocks[images]" in str(caught.value)


def test_the_classes_of_imagenet_have_names():
    assert name_of(263, 1000) == "Pembroke, Pembroke Welsh corgi"
    assert (name_of(0, 1000).split(",")[0], name_of(999, 1000).split(",")[0]) == ("tench", "toilet tissue")
    assert name_of(7, 10) == "class 7"
    assert (index_of("n01440764"), index_of("n02113023"), index_of("n0")) == (0, 263, None)


def test_the_likeliest_classes_come_first():
    logits = torch.zeros(1000)
    logits[[3, 8]] = torch.tensor([9.0, 10.0])
    guesses = top(logits)
    assert [guess.index for guess in guesses[:2]] == [8, 3]
    assert len(guesses) == 5
    assert guesses[0].probability == pytest.approx(float(logits.softmax(-1)[8]))
    assert len(top(torch.zeros(2))) == 2


def test_build_names_what_is_in_a_picture(run, tmp_path, picture):
    model = mb.build(text())
    mb.save(model, tmp_path / "net.safetensors")
    code, out, err = run("build", tmp_path / "net.safetensors", "--image", picture, "--compile", "none", "--json")
    assert code == 0, err
    guesses = json.loads(out)["top"]
    wanted = top(mb.build(tmp_path / "net.safetensors")(mb.prepare(model, picture))[0])
    assert [guess["name"] for guess in guesses] == [guess.name for guess in wanted]
    out = run("build", tmp_path / "net.safetensors", "--image", picture, "--compile", "none")[1]
    assert f"%  {wanted[0].name} ({wanted[0].index})\n" in out


def test_the_recipe_of_a_publisher_travels_with_what_is_saved(tmp_path):
    model = mb.build("vit_ti16", set=["stages.0.depth=1"])
    model.recipe = recipe_for("ViT with Google's names", "vit_ti16", (224, 224))
    mb.save(model, tmp_path / "net.safetensors")
    assert mb.build(tmp_path / "net.safetensors").recipe == model.recipe


def test_a_network_that_cannot_name_a_picture_says_so(run, picture, tmp_path):
    (tmp_path / "four.yaml").write_text(text(channels=4), encoding="utf-8")
    code, _, err = run("build", tmp_path / "four.yaml", "--image", picture, "--compile", "none")
    assert (code, "4 channels" in err) == (2, True)
    edits = ["--set", "encoder.stages.0.depth=1", "--set", "decoder.stages.0.depth=1", "--compile", "none"]
    code, _, err = run("build", "mae_vit_b16", *edits, "--image", picture)
    assert (code, "no classes" in err) == (2, True)
