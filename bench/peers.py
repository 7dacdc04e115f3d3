"""Full-size networks beside timm's: timm's own state dict, at random weights, through the rules; largest difference.

    python bench/peers.py            # needs timm; 4 networks, eager, fp32, on the CPU

Exit code 1 where a difference is above 1e-4 of the largest value of the output.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from importlib import import_module

import torch

from metablocks import weights
from metablocks.build import build
from metablocks.nets import assemble
from metablocks.plan import plan
from metablocks.spec import read

TOLERANCE = 1e-4
"""Of the largest absolute value of timm's output."""


@dataclass(frozen=True)
class Peer:
    spec: str
    timm: str


PEERS = (
    Peer("vit_b16", "vit_base_patch16_224"),
    Peer("mixer_b16", "mixer_b16_224"),
    Peer("swin_t", "swin_tiny_patch4_window7_224"),
    Peer("poolformer_s12", "poolformer_s12"),
)


@dataclass(frozen=True)
class Agreement:
    peer: Peer
    edits: tuple[str, ...]
    """What timm's settings change in the spec, as `--set`s."""
    difference: float
    largest: float

    @property
    def relative(self) -> float:
        return self.difference / self.largest


def randomise(model: torch.nn.Module) -> None:
    """Random values everywhere, none left at 0 or 1: a scale or a token that is swapped or forgotten shows."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and not name.endswith(("token", "pos_embed", "bias_table")):
                fan_in = parameter[0].numel()
                parameter.normal_(std=fan_in**-0.5)
            else:
                parameter.normal_(std=0.1).add_(1.0 if name.endswith(("weight", "scale", "gamma")) else 0.0)


def compare(peer: Peer, batch: int, seed: int) -> Agreement:
    import timm

    torch.manual_seed(seed)
    theirs = timm.create_model(peer.timm, pretrained=False).eval()
    randomise(theirs)
    checkpoint = weights.checkpoint_of(theirs.state_dict(), peer.timm)
    publisher = weights.recognise(checkpoint.tensors)
    edits = weights.contradictions(publisher, read(peer.spec).resolved())
    planned = plan(read(peer.spec, set=edits))
    with torch.device("meta"):
        wanted = assemble(planned).state_dict()
    ours = build(planned, weights.convert(checkpoint, publisher, planned, wanted).tensors)
    images = torch.randn(batch, 3, 224, 224)
    with torch.inference_mode():
        expected, found = theirs(images), ours(images)
    return Agreement(peer, tuple(edits), float((found - expected).abs().max()), float(expected.abs().max()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--import", dest="modules", action="append", default=[], help="import a module before timm")
    options = parser.parse_args()
    for name in options.modules:
        import_module(name)
    import timm

    print(f"timm {timm.__version__}, torch {torch.__version__}, fp32, eager, CPU, batch {options.batch}")
    print(f"{'spec':16} {'timm':30} {'largest output':>14} {'difference':>11} {'relative':>9}")
    worst = 0.0
    for peer in PEERS:
        made = compare(peer, options.batch, options.seed)
        worst = max(worst, made.relative)
        numbers = f"{made.largest:14.4f} {made.difference:11.2e} {made.relative:9.1e}"
        print(f"{peer.spec:16} {peer.timm:30} {numbers}")
        for edit in made.edits:
            print(f"{'':16} --set '{edit}'")
    verdict = "agree" if worst <= TOLERANCE else "DIFFER"
    print(f"{verdict}: at most {worst:.1e} of the largest output, tolerance {TOLERANCE:.0e}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
