"""Fused window attention against the readable path on this GPU: first whether it is right, then how fast it is.

    python bench/kernels.py [--batch 256] [--rounds 20] [--only swin_t] [--json FILE]

Each row is one mixer of a network, both paths compiled, in bf16, forward and forward with backward. It is checked
against float64 before it is timed, interleaved: fused, reference, reference, fused. Exit code 1 where one is wrong.
Kernels run here though a trial (`metablocks.kernels.window_trial`) may have found that their twin is to run.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import metablocks as mb
from metablocks.kernels.choice import why_not

NETWORKS = ("swin_t", "swin_b", "swinv2_t_w8", "swinv2_t_w16", "swin_b_384")
LIMIT = 1.25  # of the readable path's own distance to float64


class Layer(nn.Module):
    """One mixer on its grid."""

    def __init__(self, mixer: nn.Module, grid: object, fused: bool) -> None:
        super().__init__()
        self.mixer, self.grid = copy.deepcopy(mixer), grid
        self.mixer.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        return self.mixer(x, self.grid)


def layers(network: str) -> dict[str, tuple[nn.Module, object, int]]:
    """One mixer of each kind: its place, itself, its grid and width."""
    model = mb.build(network, device="cuda", kernels="reference")
    found = {}
    for index, stage in enumerate(model.encoder.stages):
        for kind, block in stage.kinds():
            shifted = "shifted" if any(kind.mixer.sizes.shift) else "plain"
            mixer = block.mixer.op
            found.setdefault(f"stage {index}, {shifted}", (mixer, kind.grid, mixer.qkv.in_features))
    return found


def outcome(layer: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor, parameters: list[Tensor]) -> list[Tensor]:
    """Output and gradients, of the input and of every parameter."""
    x = x.detach().requires_grad_()
    out = layer(x)
    return [one.detach().double() for one in (out, *torch.autograd.grad(out, [x, *parameters], grad))]


def wrong(fused: Layer, reference: Layer, x: Tensor) -> list[str]:
    """What is further from float64 than the readable path is, in bf16, on a batch of two."""
    exact = copy.deepcopy(reference).double()
    x, grad = x[:2], torch.randn_like(x[:2])
    found = [outcome(layer, x, grad, list(layer.parameters())) for layer in (fused, reference)]
    goal = outcome(exact, x.double(), grad.double(), list(exact.parameters()))
    names = ["output", "input", *(name for name, _ in exact.named_parameters())]
    told = []
    for name, ours, theirs, true in zip(names, *found, goal, strict=True):
        off, usual = (float((one - true).norm() / true.norm().clamp_min(1e-6)) for one in (ours, theirs))
        if not off <= max(LIMIT * usual, 1e-3):
            told.append(f"{name}: {off:.1e} from float64, the readable path {usual:.1e}")
    return told


def seconds(call: Callable[[], object]) -> float:
    """Of one call on the GPU, the mean of a few."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(5):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 5e3


def timed(fused: Layer, reference: Layer, x: Tensor, rounds: int, train: bool) -> list[tuple[float, float]]:
    """Seconds of both, fused first, in each round."""
    calls = []
    for layer in (fused, reference):
        torch._dynamo.reset()
        compiled = torch.compile(layer, fullgraph=True, dynamic=False)
        given, grad = x.detach().requires_grad_(train), torch.randn_like(x)
        calls.append(_step(compiled, layer, given, grad) if train else _inference(compiled, given))
        calls[-1]()
        calls[-1]()
    times = []
    for index in range(rounds):
        order = (0, 1) if index % 2 == 0 else (1, 0)
        both = {which: seconds(calls[which]) for which in order}
        times.append((both[0], both[1]))
    return times


def _inference(compiled: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], object]:
    def call() -> Tensor:
        with torch.no_grad():
            return compiled(x)

    return call


def _step(compiled: Callable[[Tensor], Tensor], layer: Layer, x: Tensor, grad: Tensor) -> Callable[[], object]:
    wanted = [x, *layer.parameters()]
    return lambda: torch.autograd.grad(compiled(x), wanted, grad)


def row(network: str, place: str, found: tuple[nn.Module, object, int], batch: int, rounds: int) -> dict:
    """Checks one mixer, and times it where it is right."""
    mixer, grid, width = found
    fused, reference = (Layer(mixer, grid, which).to(torch.bfloat16) for which in (True, False))
    x = torch.randn(batch, grid.tokens, width, device="cuda", dtype=torch.bfloat16)
    made = {"network": network, "layer": place, "batch": batch, "wrong": wrong(fused, reference, x)}
    for mode in () if made["wrong"] else ("infer", "train"):
        times = timed(fused, reference, x, rounds, mode == "train")
        ratios = sorted(other / ours for ours, other in times)
        made[mode] = {
            "fused_ms": 1e3 * statistics.median(ours for ours, _ in times),
            "reference_ms": 1e3 * statistics.median(other for _, other in times),
            "ratio": statistics.median(ratios),
            "ratio_range": [ratios[0], ratios[-1]],
        }
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", choices=NETWORKS)
    parser.add_argument("--json", type=Path, help="file that a line is added to for each row")
    args = parser.parse_args()
    os.environ["METABLOCKS_TRIAL"] = "off"
    reason = why_not(torch.device("cuda")) if torch.cuda.is_available() else "there is no GPU"
    if reason:
        print(f"nothing is measured: {reason}", file=sys.stderr)
        return 6
    rows = []
    for network in [args.only] if args.only else NETWORKS:
        for place, found in layers(network).items():
            rows.append(row(network, place, found, args.batch, args.rounds) | {"gpu": torch.cuda.get_device_name()})
            told = [f"{mode} {rows[-1][mode]['ratio']:.2f}x" for mode in ("infer", "train") if mode in rows[-1]]
            print(f"{network}, {place}: {', '.join(rows[-1]['wrong'] or told)}", flush=True)
            if args.json:
                with args.json.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    return int(any(one["wrong"] for one in rows))


if __name__ == "__main__":
    sys.exit(main())
