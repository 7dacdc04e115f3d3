"""Random small networks: what is planned is what runs, on the meta device."""

import json

import torch
from hypothesis import given, settings
from strategies import classifiers, masked_autoencoders, networks

import metablocks as mb
from metablocks.nets import assemble, blocks


def planned(data):
    return mb.plan(json.dumps(data))


def on_meta(plan):
    with torch.device("meta"):
        return assemble(plan).eval().to("meta")  # fixed tables are made on the CPU


def images(plan, batch=2):
    stem = plan.encoder.stem
    return torch.empty(batch, stem.channels, *stem.image, device="meta")


@settings(max_examples=50)
@given(classifiers())
def test_a_classifier_runs_with_the_planned_shapes(data):
    plan = planned(data)
    model = on_meta(plan)
    last = plan.stages[-1]
    tokens = model.features(images(plan))
    assert tokens.shape == (2, last.grid.tokens, last.dim)
    out = model(images(plan))
    assert out.shape == ((2, 5) if plan.head else tokens.shape)
    maps = model.feature_maps(images(plan))
    assert [tuple(image.shape[1:]) for image in maps] == [(s.dim, s.grid.height, s.grid.width) for s in plan.stages]


@settings(max_examples=50)
@given(masked_autoencoders())
def test_a_masked_autoencoder_runs_with_the_planned_shapes(data):
    plan = planned(data)
    last, mask = plan.stages[-1].grid, plan.decoder.mask
    out = on_meta(plan)(images(plan))
    count = last.height * last.width
    values = mask.patch[0] * mask.patch[1] * plan.encoder.stem.channels
    assert out.pred.shape == (2, count, values)
    assert out.mask.shape == (2, count)
    assert out.latent.shape == (2, last.tokens, plan.stages[-1].dim)
    assert out.loss.shape == ()
    assert (mask.patch[0] * last.height, mask.patch[1] * last.width) == plan.encoder.stem.image


@settings(max_examples=50)
@given(networks)
def test_every_block_stands_in_the_network_as_planned(data):
    plan = planned(data)
    stages = [*plan.stages, *(plan.decoder.stages if plan.decoder else ())]
    assert [kind for kind, _ in blocks(on_meta(plan))] == [block.kind for stage in stages for block in stage.blocks]
    for stage, row in zip(stages, _rows(data), strict=True):
        mixers = row["mixer"] if isinstance(row["mixer"], list) else [row["mixer"]]
        names = [mixer if isinstance(mixer, str) else next(iter(mixer)) for mixer in mixers]
        assert [block.kind.mixer.name for block in stage.blocks] == names * (row["depth"] // len(names))
        assert all((block.kind.dim, block.kind.grid) == (row["dim"], stage.grid) for block in stage.blocks)


@settings(max_examples=50)
@given(networks)
def test_a_plan_is_plain_data_that_can_be_a_key(data):
    plan = planned(data)
    assert plan == planned(data)
    assert len({kind for _, kind in plan.parts()} | {plan}) > 1


def _rows(data):
    stacks = [data] if data["net"] == "classifier" else [data["encoder"], data["decoder"]]
    return [row for stack in stacks for row in stack["stages"]]
