"""Every family leaves Python: as an exported program, and as ONNX, with the same outputs."""

from __future__ import annotations

import warnings

import pytest
import torch
from families import FAMILIES

import metablocks as mb

every_family = pytest.mark.parametrize("text", FAMILIES.values(), ids=FAMILIES.keys())


def network(text: str):
    """A network and inputs of a batch of 2; a masked autoencoder gets its noise too, so that nothing is random."""
    torch.manual_seed(0)
    model = mb.build(text)
    stem = model.plan.encoder.stem
    images = torch.randn(2, stem.channels, *stem.image)
    if model.plan.decoder is None:
        return model, (images,)
    height, width = model.plan.decoder.mask.units
    return model, (images, torch.rand(2, height * width))


def close(found, expected):
    flat = torch.utils._pytree.tree_leaves(expected)
    for one, other in zip(found, flat, strict=True):
        torch.testing.assert_close(torch.as_tensor(one), other, atol=1e-4, rtol=1e-4)


@every_family
def test_an_exported_program_gives_the_same_outputs(text):
    model, inputs = network(text)
    with torch.no_grad():
        program = torch.export.export(model, inputs)
        close(torch.utils._pytree.tree_leaves(program.module()(*inputs)), model(*inputs))


@every_family
def test_onnx_gives_the_same_outputs(text, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    model, inputs = network(text)
    path = tmp_path / "model.onnx"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter
        torch.onnx.export(model, inputs, path, dynamo=True, verbose=False)
        expected = model(*inputs)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    found = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
    close(found, expected)
