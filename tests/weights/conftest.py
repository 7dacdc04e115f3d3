"""Reference cases: small networks run in their original code; see tests/reference/README.md."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from weights import originals, originals_google

from metablocks import weights as checkpoints
from metablocks.build import build
from metablocks.nets import Network, assemble
from metablocks.plan import Plan, plan
from metablocks.spec import Spec, read

REFERENCE = Path(__file__).parents[1] / "reference"


originals.SYSTEMS.update(originals_google.SYSTEMS)


@dataclass(frozen=True)
class Case:
    entry: dict[str, Any]

    @property
    def name(self) -> str:
        return self.entry["name"]

    @property
    def path(self) -> Path:
        npz = REFERENCE / f"{self.name}.npz"
        return npz if npz.exists() else REFERENCE / f"{self.name}.safetensors"

    @cached_property
    def spec(self) -> Spec:
        return self.edited()

    def edited(self, *edits: str) -> Spec:
        """The spec of the case, with edits as after `--set`."""
        return read(originals.spec_text(self.entry), edits)

    @cached_property
    def plan(self) -> Plan:
        return plan(self.spec)

    @cached_property
    def tensors(self) -> dict[str, torch.Tensor]:
        return load_file(REFERENCE / f"{self.name}.io.safetensors")

    def tolerance(self, tensor: str) -> float:
        """The absolute tolerance of a stored tensor."""
        given = self.entry["tolerance"]
        if tensor == "output":
            return given["output_atol_fp32"]
        if tensor.endswith("_f64"):
            return given["output_f64_atol"]
        return given["any_tensor_atol_fp32_relative_to_its_max_abs"] * float(self.tensors[tensor].abs().max())

    def state(self) -> dict[str, torch.Tensor]:
        """The weights by the publisher's names."""
        if self.path.suffix == ".npz":
            return {name: torch.from_numpy(array) for name, array in np.load(self.path).items()}
        return load_file(self.path)

    def convert(self, **options: Any) -> checkpoints.Converted:
        checkpoint = checkpoints.load_file(self.path)
        publisher = checkpoints.recognise(checkpoint.tensors)
        return checkpoints.convert(checkpoint, publisher, self.plan, wanted(self.plan), **options)

    def build(self, **options: Any) -> Network:
        return build(self.plan, self.convert().tensors, **options)

    def run(self, model: Network, suffix: str = "") -> dict[str, torch.Tensor]:
        """What the model makes of the stored input: the output, for a masked autoencoder all that was recorded."""
        dtype = next(model.parameters()).dtype
        images = self.tensors["input"].to(dtype)
        if self.entry["system"] in ("vit_jax", "mixer_jax"):
            images = images.permute(0, 3, 1, 2)
        with torch.no_grad():
            if "noise" not in self.tensors:
                return {f"output{suffix}": model(images)}
            made = model(images, self.tensors["noise"].to(dtype))
        if suffix:
            return {"output_f64": made.pred, "loss_f64": made.loss}
        found = {"output": made.pred, "loss": made.loss, "mask": made.mask, "latent": made.latent}
        return {**found, "ids_restore": made.ids_restore, "ids_shuffle": made.ids_restore.argsort(1)}


def wanted(planned: Plan) -> dict[str, torch.Tensor]:
    """The state dict of the network, without values."""
    with torch.device("meta"):
        return assemble(planned).state_dict()


CASES = {entry["name"]: Case(entry) for entry in json.loads((REFERENCE / "cases.json").read_text())["cases"]}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames and "case_name" not in metafunc.fixturenames:
        metafunc.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture
def cases() -> dict[str, Case]:
    return CASES
