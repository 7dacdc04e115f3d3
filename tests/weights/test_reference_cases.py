"""Networks with weights of their original code give its output, and what it recorded on the way."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from metablocks import weights
from metablocks.nets import assemble
from metablocks.plan import plan

# Recorded names to modules of ours; `>` marks what enters a module instead of what leaves it.
PLACES = [
    (r"patch_embed|stem", "encoder.stem"),
    (r"embedded|encoder_input", ">encoder.stages.0.blocks.0"),
    (r"resnet_stem", "encoder.stem.root"),
    (r"resnet_conv_root", "encoder.stem.root.conv"),
    (r"resnet_gn_root", "encoder.stem.root.norm"),
    (r"resnet_stage(\d+)", "encoder.stem.stages.{0}"),
    (r"block(\d+)_(?:qkv|key)", "encoder.stages.0.blocks.{0}.mixer.op.qkv"),
    (r"(?:encoder_)?block(\d+)", "encoder.stages.0.blocks.{0}"),
    (r"stage(\d+)_block(\d+)_norm1", "encoder.stages.{0}.blocks.{1}.mixer.norm"),
    (r"stage(\d+)_block(\d+)", "encoder.stages.{0}.blocks.{1}"),
    (r"stage(\d+)_downsample", "encoder.stages.{0}.downsample"),
    (r"final_norm", "head.norm"),
    (r"pooled", ">head.pool_norm"),
    (r"pre_logits", "head.representation"),
    (r"pre_head", ">head.fc"),
    (r"decoder_embed", "decoder.embed"),
    (r"decoder_input", ">decoder.stages.0.blocks.0"),
    (r"decoder_block(\d+)", "decoder.stages.0.blocks.{0}"),
    (r"decoder_norm", "decoder.norm"),
]

BFLOAT16 = 0.05  # of the largest value; a number of eight binary digits is off by up to 0.004 at every operation


def places(names: Iterator[str], model: nn.Module) -> dict[str, str]:
    """The module of every recorded tensor that our division of the work has."""
    found = {}
    for name in names:
        for pattern, place in PLACES:
            if match := re.fullmatch(pattern, name):
                found[name] = place.format(*match.groups())
        if name == "stage0_downsample" and hasattr(model.encoder.stem, "conv"):
            found[name] = "encoder.stem"  # sail-sg's baselines call it that
        if name == "pre_head" and model.head.mlp is not None:
            found[name] = ">head.mlp"
        if re.fullmatch(r"network\d+_(downsample|pos)", name):
            found[name] = _numbered(name, model)
    return found


def _at_the_end(found: dict[str, str]) -> dict[str, str]:
    """Microsoft downsamples at the end of a stage: what stands there is before our next one."""
    return {
        name: f"encoder.stages.{int(name[5:-11]) + 1}.downsample" if name.endswith("_downsample") else place
        for name, place in found.items()
    }


def resized(case) -> dict[str, Tensor]:
    """Tables that were recorded after loading them into another window or resolution, by their recorded names."""
    made = case.convert().tensors
    rules = weights.recognise(case.state()).rules_for(case.plan)
    names = {name: name.removeprefix("resized.") for name in case.tensors if name.startswith("resized.")}
    ours = {name: [rule.forward(theirs) for rule in rules] for name, theirs in names.items()}
    return {name: next(made[found] for found in founds if found in made) for name, founds in ours.items()}


def _numbered(name: str, model: nn.Module) -> str:
    """The module of `network.N` in sail-sg's numbering."""
    row: list[str] = []
    for index, stage in enumerate(model.encoder.stages):
        parts = {"downsample": stage.downsample, "embedding": stage.embedding.position, "blocks": stage.blocks}
        row += [f"encoder.stages.{index}.{part}" for part, there in parts.items() if there is not None]
    return row[int(re.findall(r"\d+", name)[0])]


def record(model: nn.Module, places: dict[str, str]) -> dict[str, Tensor]:
    """Hooks that note what leaves, or enters, each place."""
    seen: dict[str, Tensor] = {}
    for name, place in places.items():
        module = model.get_submodule(place.removeprefix(">"))
        if place.startswith(">"):
            module.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
        else:
            module.register_forward_hook(lambda *call, name=name: seen.update({name: call[2]}))
    return seen


def as_tokens(tensor: Tensor, like: Tensor) -> Tensor:
    """A recorded NCHW or NHWC map as tokens (B, N, C)."""
    if tensor.ndim < 4:
        return tensor
    if like.ndim == 4:  # a map of ours, (B, C, H, W)
        return tensor if tensor.shape == like.shape else tensor.permute(0, 3, 1, 2)
    channels_last = tensor.shape[-1] == like.shape[-1]
    tokens = tensor.flatten(1, 2) if channels_last else tensor.flatten(2).transpose(1, 2)
    return tokens if like.ndim == 3 else tokens.squeeze(1)


def check(made: dict[str, Tensor], case) -> None:
    for name, tensor in made.items():
        if name.endswith("_key"):  # ours is packed
            expected, tensor = case.tensors[name].flatten(2), tensor.chunk(3, -1)[1]  # noqa: PLW2901
        else:
            expected = as_tokens(case.tensors[name], tensor)
        # we pool to one token, the original to a vector
        ours = tensor.squeeze(1) if expected.ndim == 2 and tensor.ndim == 3 else tensor
        assert ours.shape == expected.shape, name
        far = float((ours - expected).abs().max())
        assert far <= case.tolerance(name), f"{name} is off by {far:.2g}"


def test_the_output_and_everything_recorded_on_the_way_equal_the_original(case):
    model = case.build()
    where = places(iter(case.tensors), model)
    if case.entry["source"]["repo"].endswith("microsoft/Swin-Transformer"):
        where = _at_the_end(where)
    seen = record(model, where)
    made = case.run(model) | resized(case)
    check(made | seen, case)
    assert set(seen) == set(where)
    left = set(case.tensors) - set(made) - set(seen) - {"input", "noise", "output_f64", "loss_f64", "patches"}
    assert not left, "recorded, and not compared"


def test_in_float64_the_output_equals_the_original_to_nine_digits(case):
    check(case.run(case.build(dtype="float64"), "_f64"), case)


def test_in_bfloat16_the_output_is_near_the_original(case):
    made = case.run(case.build(dtype="bfloat16"))["output"]
    expected = case.tensors["output"]
    assert made.dtype == torch.bfloat16
    assert float((made.float() - expected).abs().max()) <= BFLOAT16 * float(expected.abs().max())


@pytest.mark.parametrize(("dtype", "suffix"), [("float32", ""), ("float64", "_f64")], ids=["float32", "float64"])
@pytest.mark.parametrize("kernels", ["reference", "fused"])
def test_block_by_block_compiled_the_output_equals_the_original(case, dtype, suffix, kernels):
    torch._dynamo.reset()
    model = case.build(dtype=dtype, compile="block", backend="aot_eager", kernels=kernels)
    check(case.run(model, suffix), case)


@pytest.mark.parametrize(
    "name",
    ["timm_vit_token", "timm_mixer", "timm_swin", "timm_swinv2", "timm_poolformer", "caformer", "mae_norm_pix"],
)
def test_compiled_by_inductor_the_output_equals_the_original(name, cases):
    torch._dynamo.reset()
    check(cases[name].run(cases[name].build(compile="block")), cases[name])


def test_the_patches_of_an_image_are_rows_columns_channels_as_in_the_original(cases):
    for name in ("mae_pixels", "mae_norm_pix"):
        plain = plan(cases[name].edited("target.pixels.normalize=none"))
        check({"patches": assemble(plain).target(cases[name].tensors["input"])}, cases[name])


def test_drop_path_rates_equal_those_of_the_original(case):
    expected = case.entry.get("drop_path_rates")
    if expected is None:
        # the original has no drop path, or was run to load a checkpoint
        without = case.plan.net == "masked_autoencoder" or case.entry["system"] in ("vit_jax", "mixer_jax")
        assert without or case.name.endswith("_load_resized")
        return
    edit = "drop_path.rate=0.3" if case.entry["system"] == "timm_mixer" else "drop_path=0.3"
    rates = [block.drop_path for stage in plan(case.edited(edit)).stages for block in stage.blocks]
    assert rates == pytest.approx(list(expected.values()), abs=1e-6)
