"""Why a paper's figure is another than ours: a sentence each, and where it can be, the count by the paper's way.

Ours: every parameter, frozen ones too; multiply-accumulates of matrix products, convolutions and attention, one image.
The first convention that fits a name, and whose count is what the paper prints, explains a figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from metablocks.roster import recount
from metablocks.roster.recount import Counted, Recount

Which = Literal["params", "macs"]
UNITS = {"params": 1e6, "macs": 1e9}


@dataclass(frozen=True)
class Convention:
    """`names` are patterns of the names in the table, apart by spaces. Without a recount the sentence stands alone."""

    which: Which
    names: str
    sentence: str
    count: Recount | None = None

    def explains(self, which: Which, name: str, printed: str, found: Counted) -> bool:
        """Whether this is the reason that the paper prints another figure."""
        if which != self.which or not any(fnmatchcase(name, pattern) for pattern in self.names.split()):
            return False
        return self.count is None or agrees(printed, self.count(found), UNITS[which])


FROZEN = "parameters that are never trained are counted too: MAE's sin-cos tables, RandFormer's matrices"
FVCORE = "fvcore without more handles leaves fused attention out: 16.87 G for vit_b16"
CONVENTIONS = (
    Convention("params", "mixer_*", "the Mixer paper counts no head", recount.params_without_head),
    Convention(
        "params",
        "randformer_*",
        "the MetaFormer paper prints trained + frozen: the random mixing matrices are frozen",
        recount.trained_and_frozen,
    ),
    Convention(
        "params",
        "vit_ti16 vit_s16 vit_r_ti16",
        "the AugReg paper counts the positions of 384 px",
        recount.params_at(384),
    ),
    Convention(
        "params",
        "vit_*_mae",
        "mmpretrain's figure is of a network with one norm fewer",
        recount.params_without_a_norm,
    ),
    Convention("params", "vit_b16*", "the ViT paper's 86 M is B/16 without its head", recount.params_without_head),
    Convention("params", "vit_b8", "the ViT paper gives one figure for a width, that of B/16"),
    Convention("params", "vit_s32* vit_s8* vit_b32*", "the paper gives one figure for a width, that of patch 16"),
    Convention("params", "vit_l16* vit_l14*", "the ViT paper gives one figure for a width, which is that of L/32"),
    Convention(
        "params",
        "vit_r26_s32* vit_r50_l32*",
        "the AugReg paper prints up to 0.5 % more than its released code has; it does not say what it counts",
    ),
    Convention(
        "macs",
        "swinv2_*",
        "Swin's figure leaves out the network of the position bias, which runs once for any number of images",
        recount.macs_per_further_image,
    ),
    Convention(
        "macs",
        "poolformer_* mae_*",
        "the figure is fvcore's, which adds five operations for each element of a norm",
        recount.macs_with_norms,
    ),
    Convention(
        "macs", "mixer_b16", "Swin's table prints 12.7 G for Mixer-B/16; it does not say how that network was counted"
    ),
)


def sentence_for(which: Which, name: str, printed: str, found: Counted) -> str | None:
    """Why the printed figure is not ours, or None where nothing explains it."""
    fitting = (item.sentence for item in CONVENTIONS if item.explains(which, name, printed, found))
    return next(fitting, None)


def agrees(printed: str, counted: Sequence[float], unit: float) -> bool:
    """Whether each printed number, of several that stand as a sum, is the counted one as far as its digits go."""
    terms = printed.split("+")
    return len(terms) == len(counted) and all(
        abs(number / unit - float(term)) <= 0.5 * 10.0 ** -len(term.partition(".")[2]) * (1 + 1e-9)
        for term, number in zip(terms, counted, strict=True)
    )
