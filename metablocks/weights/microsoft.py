"""Microsoft's names (microsoft/Swin-Transformer): Swin, Swin V2 and SwinMLP.

The downsampling stands at the end of a stage, so `layers.0.downsample` is before our second. Buffers are saved too.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from metablocks.core import resample
from metablocks.plan import Plan
from metablocks.weights.rules import Publisher, Rule, Rules
from metablocks.weights.tables import bicubic_offsets
from metablocks.weights.timm import (
    GELU,
    PATCH_NORM,
    SWIN_BLOCK,
    SWIN_BUFFERS,
    SWIN_NORM,
    SWIN_V2_ATTENTION,
    SWIN_V2_SETTINGS,
    transformer_blocks,
)

LAYER = "layers.{s}.blocks.{i}"


def _by_head(tensor: Tensor) -> Tensor:
    """A grouped convolution (heads L, L, 1) as one matrix a head, (heads, L, L)."""
    if tensor.ndim != 3 or tensor.shape[2] != 1 or tensor.shape[0] % tensor.shape[1]:
        return tensor
    return tensor.squeeze(2).unflatten(0, (-1, tensor.shape[1]))


def _rules(merging: str, mixer: Rules, plan: Plan) -> Rules:
    """`merging` is our name of the norm in patch merging."""
    after = range(1, len(plan.stages))
    ours = "encoder.stages.{}.downsample"
    return (
        Rule("patch_embed.proj.*", "encoder.stem.proj.*"),
        Rule("patch_embed.norm.*", "encoder.stem.norm.*"),
        Rule("absolute_pos_embed", "encoder.embedding.position.table"),
        *(Rule(f"layers.{s - 1}.downsample.reduction.*", f"{ours.format(s)}.reduction.*") for s in after),
        *(Rule(f"layers.{s - 1}.downsample.norm.*", f"{ours.format(s)}.{merging}.*") for s in after),
        *mixer,
        *transformer_blocks(LAYER, SWIN_BLOCK),
        Rule("norm.*", "head.norm.*"),
        Rule("head.*", "head.fc.*"),
    )


BIAS_TABLE = Rule(
    f"{LAYER}.attn.relative_position_bias_table", f"{SWIN_BLOCK}.mixer.op.bias_table", resample=bicubic_offsets
)
PLAIN = (("block.order", "pre"), ("downsample.patch_merging.norm", SWIN_NORM))
COMMON = (("block.norm", SWIN_NORM), GELU, ("head.norm", SWIN_NORM), ("head.pool", "mean"))
WHERE = (*PATCH_NORM, ("absolute_pos_embed", ("position", "learned")), ("!absolute_pos_embed", ("position", "none")))
POSITIONS = (("", resample.MICROSOFT),)

SWIN = Publisher(
    name="Swin with Microsoft's names",
    needs=("patch_embed.proj.weight", f"{LAYER}.attn.relative_position_bias_table"),
    lacks=(f"{LAYER}.attn.logit_scale", "head.fc.*"),
    rules=partial(_rules, "norm", (BIAS_TABLE,)),
    net="classifier",
    mixers=("window_attention",),
    settings=(*COMMON, *PLAIN),
    where=WHERE,
    positions=POSITIONS,
    oblong=(("block.mixer.window_attention.cut?", "square"),),
    recomputed=SWIN_BUFFERS,
)

SWIN_V2 = Publisher(
    name="Swin V2 with Microsoft's names",
    needs=("patch_embed.proj.weight", f"{LAYER}.attn.logit_scale", f"{LAYER}.attn.cpb_mlp.0.weight"),
    lacks=("head.fc.*",),
    rules=partial(_rules, "norm_after", SWIN_V2_ATTENTION),
    net="classifier",
    mixers=("cosine_window_attention",),
    settings=(*COMMON, *SWIN_V2_SETTINGS),
    where=WHERE,
    positions=POSITIONS,
    oblong=(("block.mixer.cosine_window_attention.cut?", "square"),),
    recomputed=SWIN_BUFFERS,
)

SWIN_MLP = Publisher(
    name="SwinMLP with Microsoft's names",
    needs=("patch_embed.proj.weight", f"{LAYER}.spatial_mlp.weight"),
    lacks=("head.fc.*",),
    rules=partial(_rules, "norm", (Rule(f"{LAYER}.spatial_mlp.*", f"{SWIN_BLOCK}.mixer.op.*", _by_head),)),
    net="classifier",
    mixers=("window_mlp",),
    settings=(*COMMON, *PLAIN),
    where=WHERE,
    positions=POSITIONS,
    oblong=(("block.mixer.window_mlp.cut?", "square"),),
)
