"""Full-size networks beside timm's: timm's own state dict, at random weights, through the rules; largest difference.

    python bench/peers.py [NAMES] [--most 100]        # every published network of at most 100 M parameters

Needs timm. Eager, fp32, on the CPU. A network that timm does not have is listed as such; `--import MODULE` imports what
registers it there, as the original code of PoolFormer and of the MetaFormer baselines does, and `originals` beside this
file for what nobody registers. Exit code 1 where a difference is above 1e-4 of the largest value of the output.
"""

from __future__ import annotations

import argparse
import sys
from ast import literal_eval
from dataclasses import dataclass
from importlib import import_module

import torch

from metablocks import weights
from metablocks.build import build
from metablocks.core import units
from metablocks.nets import assemble
from metablocks.plan import plan
from metablocks.roster.figures import Figure, figures
from metablocks.spec import read

TOLERANCE = 1e-4
"""Of the largest absolute value of timm's output."""


@dataclass(frozen=True)
class Agreement:
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


def compare(figure: Figure, batch: int, seed: int) -> Agreement | None:
    """The outputs of both for the same images; None where timm has no such network."""
    import timm

    name, *given = figure.official.split()  # `vit_base_patch16 global_pool=True`
    if not timm.is_model(name):
        return None
    settings = {key: literal_eval(value) for key, _, value in (one.partition("=") for one in given)}
    spec = read(figure.spec, figure.edits)
    torch.manual_seed(seed)
    theirs = timm.create_model(name, pretrained=False, num_classes=spec.net.classes, **settings).eval()
    randomise(theirs)
    checkpoint = weights.checkpoint_of(theirs.state_dict(), figure.official)
    publisher = weights.recognise(checkpoint.tensors)
    edits = weights.contradictions(publisher, spec.resolved())
    planned = plan(read(figure.spec, [*figure.edits, *edits]))
    with torch.device("meta"):
        wanted = assemble(planned).state_dict()
    ours = build(planned, weights.convert(checkpoint, publisher, planned, wanted).tensors)
    images = torch.randn(batch, 3, *planned.encoder.stem.image)
    with torch.inference_mode():
        expected, found = theirs(images), ours(images)
    return Agreement(tuple(edits), float((found - expected).abs().max()), float(expected.abs().max()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="networks; all by default")
    parser.add_argument("--most", type=float, default=100, help="million parameters of the largest network")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--import", dest="modules", action="append", default=[], help="import it after timm")
    parser.add_argument("--import-first", action="append", default=[], help="import a module before timm")
    options = parser.parse_args()
    for name in options.import_first:
        import_module(name)
    import timm

    for name in options.modules:
        import_module(name)
    found = [one for one in figures(options.names) if one.spec and not one.half and one.params]
    print(
        f"timm {timm.__version__}, torch {torch.__version__}, fp32, eager, CPU, batch {options.batch}, random weights"
    )
    print(f"{'network':20} {'of timm':36} {'params':>9} {'largest output':>14} {'difference':>10} {'relative':>8}")
    worst, count, without = 0.0, 0, []
    for figure in found:
        if figure.params is None or figure.params > options.most * 1e6:
            continue
        made = compare(figure, options.batch, options.seed)
        if made is None:
            without.append(figure.name)
            continue
        worst, count = max(worst, made.relative), count + 1
        numbers = f"{made.largest:14.4f} {made.difference:10.1e} {made.relative:8.1e}"
        print(f"{figure.name:20} {figure.official:36} {units.short(figure.params):>9} {numbers}", flush=True)
        for edit in made.edits:
            print(f"{'':20} --set '{edit}'")
    verdict = "agree" if worst <= TOLERANCE else "DIFFER"
    print(f"{count} {verdict}: at most {worst:.1e} of the largest output, tolerance {TOLERANCE:.0e}")
    if without:
        print(f"not in timm: {', '.join(without)}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
