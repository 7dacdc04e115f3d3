"""What MAE's pretraining leaves goes into classifiers: the encoder alone, a fresh head, the batch norm of the probe."""

from __future__ import annotations

import pytest
import torch
from weights.originals import spec_text

import metablocks as mb
from metablocks.core.errors import InputError
from metablocks.weights import contradictions, meta_mae, recognise, timm

PROBE = "head={norm: {layer_norm: {eps: 1e-6}}, pool: class, pool_norm: {batch_norm: {affine: false, eps: 1e-6}}}"


def encoder_of(state):
    return {name: tensor for name, tensor in state.items() if not name.startswith(("decoder", "mask"))}


@pytest.fixture
def pretrained(cases):
    """A pretraining model and the edits of `vit_b16_mae` that make a classifier of its size."""
    case = cases["mae_norm_pix"]
    a = case.entry["constructor"]
    sizes = {
        "image.size": a["img_size"],
        "stem.patch_embed.patch": a["patch_size"],
        "stages.0.dim": a["embed_dim"],
        "stages.0.depth": a["depth"],
        "block.mixer.attention.head_dim": a["embed_dim"] // a["num_heads"],
        "block.mlp.ratio": a.get("mlp_ratio", 4.0),
    }
    return case.state(), [f"{path}={value}" for path, value in sizes.items()]


@pytest.mark.parametrize("whole", [True, False], ids=["with its decoder", "encoder alone"])
def test_a_pretrained_encoder_goes_into_the_fine_tuning_classifier_with_a_fresh_head(pretrained, whole, caplog):
    state, edits = pretrained
    model = mb.build("vit_b16_mae", weights=state if whole else encoder_of(state), set=edits, classes=7)
    made = model.state_dict()
    assert torch.equal(made["encoder.stages.0.blocks.0.mixer.op.qkv.weight"], state["blocks.0.attn.qkv.weight"])
    assert torch.equal(made["encoder.embedding.position.table"], state["pos_embed"])
    assert (made["head.pool_norm.weight"] == 1).all()
    assert made["head.fc.weight"].abs().max() < 1e-4, "the classifier starts at 2e-5, as in the released code"
    fresh = "head.fc.weight, head.fc.bias, head.pool_norm.weight and head.pool_norm.bias start fresh"
    assert f"{fresh}: a head for 7 classes" in caplog.messages
    left = [message for message in caplog.messages if "left out" in message]
    names = set(state) - set(encoder_of(state)) if whole else set()
    assert left[0].startswith(f"{len(names) + 2} tensors left out, for which this network has no use")


def test_the_linear_probe_keeps_the_norm_and_starts_its_batch_norm_at_rest(pretrained):
    state, edits = pretrained
    made = mb.build("vit_b16_mae", weights=state, set=[*edits, PROBE], classes=7).state_dict()
    assert torch.equal(made["head.norm.weight"], state["norm.weight"])
    assert not made["head.pool_norm.running_mean"].any()
    assert (made["head.pool_norm.running_var"] == 1).all()
    assert "head.pool_norm.weight" not in made


def test_a_pretrained_encoder_without_classes_asks_for_them(pretrained):
    state, edits = pretrained
    with pytest.raises(InputError, match="the file has no classifier: give `classes` to"):
        mb.build("vit_b16_mae", weights=state, set=edits)


def test_a_checkpoint_of_the_linear_probe_gives_the_output_of_its_original(cases):
    case = cases["mae_finetune_cls"]
    state = case.state()
    running = {"running_mean": torch.randn(32), "running_var": torch.rand(32) + 0.5}
    probe = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    probe |= {f"head.0.{name}": tensor for name, tensor in running.items()}
    probe |= {"head.0.num_batches_tracked": torch.tensor(3)}
    probe |= {"head.1.weight": state["head.weight"], "head.1.bias": state["head.bias"]}
    assert recognise(probe) == timm.VIT_LINEAR_PROBE.settled(probe)
    edits = contradictions(recognise(probe), case.spec.resolved())
    assert edits == ["head.pool_norm={batch_norm: {affine: false, eps: 1e-6}}"]
    model = mb.build(spec_text(case.entry), weights=probe, set=edits)
    normed = (case.tensors["pre_head"] - running["running_mean"]) / (running["running_var"] + 1e-6).sqrt()
    expected = normed @ state["head.weight"].T + state["head.bias"]
    with torch.no_grad():
        torch.testing.assert_close(model(case.tensors["input"]), expected, rtol=1e-5, atol=2e-5)


def test_the_whole_pretraining_file_is_of_one_publisher_for_both_nets(cases):
    found = recognise(cases["mae_pixels"].state())
    assert found.into("masked_autoencoder").name == meta_mae.MAE.name
    assert found.into("classifier").name == meta_mae.ENCODER.name
