"""One network on a device: do its ways to run agree, and is half precision as close to float64 as a peer's.

    python bench/gpu_check.py SPEC [--against timm:NAME] [--device cuda] [--set KEY=VALUE]

In float32 the default path, eager and compiled by block, against the reference path; in bfloat16 both against float64,
beside the peer with the same weights, or the reference path where there is no peer. Prints one line: distances,
and, where there are any, sentences about what is wrong: then the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import torch
from peers import randomise
from torch import Tensor, nn

import metablocks as mb

BATCH = 8
EXACT = 1e-5
"""In float32, relative to the largest value: the order of sums is all that may differ."""
LIMIT = 1.25
"""In bfloat16, times the distance of the other to float64."""
SAME = 1e-6
"""In float64, between us and a peer: the same weights in the same network."""


def distances(spec: str, against: str | None, device: str, edits: Sequence[str] = ()) -> dict[str, float]:
    """Of outputs from what they should be, by dtype and by who gave them."""
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False  # else float32 is not what it says
    peer = _peer(against, device) if against else None
    plain = mb.build(spec, peer.state_dict() if peer else None, set=edits, device=device, kernels="reference")
    if peer is None:
        randomise(plain)
    inputs = _inputs(plain, device)
    exact = _run(_alike(plain, dtype="float64", kernels="reference"), inputs)
    reference = _run(plain, inputs)
    found = {"float32, reference": _off(reference, exact)}
    ways = {"default": {}, "default, compiled": {"compile": "block"}}
    for name, choices in ways.items():
        found[f"float32, {name}"] = _off(_run(_alike(plain, **choices), inputs), reference)
        half = _run(_alike(plain, dtype="bfloat16", **choices), inputs)
        found[f"bfloat16, {name}"] = _norm(half, exact)
    other = peer if peer is not None else _alike(plain, kernels="reference")
    if peer is not None:
        found["float64, peer"] = _off(_run(peer.double(), inputs), exact)
    found["bfloat16, other"] = _norm(_run(other.bfloat16(), inputs), exact)
    return found


def wrong(found: dict[str, float]) -> list[str]:
    """Sentences about distances that are too large; one that is no number is."""
    told = []
    for name, off in found.items():
        kind, _, who = name.partition(", ")
        if kind == "float32" and who != "reference" and not off <= EXACT:
            told.append(f"{name}: {off:.1e} from the reference path, where {EXACT:g} is allowed")
        if kind == "float64" and not off <= SAME:
            told.append(f"{name}: {off:.1e} from ours, so the networks or their weights are not the same")
        if kind == "bfloat16" and who != "other" and not off <= LIMIT * found["bfloat16, other"]:
            told.append(f"{name}: {off:.1e} from float64, the other is {found['bfloat16, other']:.1e} from it")
    return told


def _peer(name: str, device: str) -> nn.Module:
    import timm

    made: nn.Module = timm.create_model(name.removeprefix("timm:"), pretrained=False)
    randomise(made)
    return made.to(device).eval()


def _alike(plain: nn.Module, **choices: Any) -> nn.Module:
    """The network of `plain` with its weights, built otherwise."""
    device = next(plain.parameters()).device
    made = mb.build(plain.spec, device=device, **choices)
    made.load_state_dict(plain.state_dict())
    return made


def _inputs(model: Any, device: str) -> list[Tensor]:
    """Images that bfloat16 can hold, and for a masked autoencoder the noise that picks what is masked."""
    stem, decoder = model.plan.encoder.stem, model.plan.decoder
    drawn = [torch.randn(BATCH, stem.channels, *stem.image).bfloat16().float()]
    if decoder:
        drawn.append(torch.rand(BATCH, decoder.mask.units[0] * decoder.mask.units[1]))
    return [one.to(device) for one in drawn]


def _run(model: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """Logits, or the predictions of a masked autoencoder. Noise stays float32, so that all mask the same."""
    dtype = next(model.parameters()).dtype
    with torch.inference_mode():
        output = model(inputs[0].to(dtype), *inputs[1:])
    return (output if isinstance(output, Tensor) else output.pred).double()


def _off(one: Tensor, goal: Tensor) -> float:
    return float((one - goal).abs().max() / goal.abs().max())


def _norm(one: Tensor, goal: Tensor) -> float:
    return float((one - goal).norm() / goal.norm())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spec")
    parser.add_argument("--against", metavar="timm:NAME")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    found = distances(given.spec, given.against, given.device, given.set)
    told = wrong(found)
    print("; ".join(told or (f"{name}: {off:.1e}" for name, off in found.items())))
    return int(bool(told))


if __name__ == "__main__":
    sys.exit(main())
