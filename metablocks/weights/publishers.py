"""The table of publishers, and who of them wrote a checkpoint."""

from __future__ import annotations

from collections.abc import Collection

from metablocks.core import resample
from metablocks.core.errors import Fault, InputError
from metablocks.core.text import printable
from metablocks.weights import google, meta_mae, microsoft, sail_sg, timm
from metablocks.weights.rules import Publisher, Rule

OWN = Publisher(
    name="metablocks",
    needs=("encoder.stem.*", "encoder.stages.{s}.blocks.{i}.*"),
    lacks=(),
    rules=(Rule("*", "*"),),
    positions=(("", resample.TIMM), ("mae", resample.MAE), ("vit_jax", resample.GOOGLE)),
)

# The first that fits wins: the narrower before the wider.
PUBLISHERS: tuple[Publisher, ...] = (
    OWN,
    meta_mae.MAE,
    timm.VIT_HEADLESS,
    timm.VIT_LINEAR_PROBE,
    timm.VIT,
    timm.VIT_FC_NORM,
    timm.MIXER,
    timm.SWIN,
    timm.SWIN_V2,
    microsoft.SWIN,
    microsoft.SWIN_V2,
    microsoft.SWIN_MLP,
    timm.POOLFORMER,
    timm.METAFORMER,
    sail_sg.POOLFORMER,
    sail_sg.BASELINES,
    google.VIT,
    google.VIT_LINEN,
    google.MIXER,
)

# Prefixes that wrappers put before every name: DataParallel, torch.compile, Lightning, detection code, Flax.
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "opt/target/", "params/")


def recognise(names: Collection[str]) -> Publisher:
    """Whose names these are; raises `InputError` where nobody's rules fit."""
    for publisher in PUBLISHERS:
        if publisher.fits(names):
            return publisher.settled(names)
    first = ", ".join(f"`{printable(name)}`" for name in list(names)[:5])
    wrong = f"no publisher has these {len(names)} names: {first}{', ...' if len(names) > 5 else ''}"
    raise InputError(Fault(wrong, help=_guess(names)))


def _guess(names: Collection[str]) -> str:
    for prefix in PREFIXES:
        having = [name for name in names if name.startswith(prefix)]
        rest = {name.removeprefix(prefix) for name in names}
        if having and any(publisher.fits(rest) for publisher in PUBLISHERS):
            return f"{len(having)} of the names begin with `{prefix}`; take it off, and they are known"
    return f"known are: {'; '.join(publisher.name for publisher in PUBLISHERS)}"
