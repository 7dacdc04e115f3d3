"""timm's names (huggingface/pytorch-image-models, 1.0): ViT, MLP-Mixer, Swin, Swin V2, PoolFormer and MetaFormer."""

from __future__ import annotations

from dataclasses import replace

from metablocks.core import resample
from metablocks.plan import Plan
from metablocks.weights import hybrid
from metablocks.weights.rules import Publisher, Rule, Rules, Value, linear
from metablocks.weights.tables import geometric_offsets, offset_rows

LAYER_NORM = {"layer_norm": {"eps": 1e-6}}
GELU = ("block.mlp.activation", "gelu")


def transformer_blocks(theirs: str, ours: str) -> Rules:
    """The rules of pre-norm blocks with attention."""
    return (
        Rule(f"{theirs}.norm1.*", f"{ours}.mixer.norm.*"),
        Rule(f"{theirs}.attn.qkv.*", f"{ours}.mixer.op.qkv.*"),
        Rule(f"{theirs}.attn.proj.*", f"{ours}.mixer.op.proj.*"),
        Rule(f"{theirs}.ls1.gamma", f"{ours}.mixer.layer_scale"),
        Rule(f"{theirs}.norm2.*", f"{ours}.mlp.norm.*"),
        Rule(f"{theirs}.mlp.fc1.*", f"{ours}.mlp.op.fc1.*"),
        Rule(f"{theirs}.mlp.fc2.*", f"{ours}.mlp.op.fc2.*"),
        Rule(f"{theirs}.ls2.gamma", f"{ours}.mlp.layer_scale"),
    )


VIT_EMBEDDING = (
    Rule("patch_embed.proj.*", "encoder.stem.proj.*"),
    Rule("patch_embed.norm.*", "encoder.stem.norm.*"),
    Rule("cls_token", "encoder.embedding.prefix.class_token"),
    Rule("reg_token", "encoder.embedding.prefix.registers"),
    Rule("pos_embed", "encoder.embedding.position.table"),
    *hybrid.TIMM,
)

VIT_RULES = (
    *VIT_EMBEDDING,
    *transformer_blocks("blocks.{i}", "encoder.stages.0.blocks.{i}"),
    Rule("norm.*", "head.norm.*"),
    Rule("head.*", "head.fc.*"),
)

# Meta's MAE fine-tunes a network with these names too.
VIT = Publisher(
    name="ViT with the names of timm",
    needs=("patch_embed.proj.weight", "blocks.{i}.attn.qkv.weight"),
    lacks=("mask_token", "decoder_blocks.{i}.*", "fc_norm.*", "blocks.{i}.attn.relative_position_bias_table"),
    rules=VIT_RULES,
    net="classifier",
    mixers=("attention",),
    settings=(("block.norm", LAYER_NORM), GELU, ("head.norm", LAYER_NORM)),
    # the order of the prefix tokens shows in no tensor
    where=(("cls_token", ("prefix.0", "class")), *hybrid.TIMM_SETTINGS),
    positions=(("", resample.TIMM), ("mae", resample.MAE)),
)

VIT_HEADLESS = replace(
    VIT,
    name="ViT without a classifier, with the names of timm (such as MAE's encoder alone)",
    lacks=(*VIT.lacks, "head.*"),
    # where the norm stands, before or after pooling, is a choice of the fine-tuning
    settings=(("block.norm", LAYER_NORM), GELU, ("head.norm.layer_norm.eps", 1e-6)),
    with_head=("norm.*",),
)

# MAE's linear probe: a batch norm over the class token stands before the last layer.
VIT_LINEAR_PROBE = replace(
    VIT,
    name="ViT with the names of timm and MAE's head for linear probing",
    needs=(*VIT.needs, "head.0.running_mean", "head.1.weight"),
    rules=(Rule("head.0.*", "head.pool_norm.*"), Rule("head.1.*", "head.fc.*"), *VIT_RULES),
    settings=(
        *VIT.settings,
        ("head.pool", "class"),
        ("head.pool_norm", {"batch_norm": {"affine": False, "eps": 1e-6}}),
    ),
    recomputed=("num_batches_tracked",),
)

VIT_FC_NORM = replace(
    VIT,
    name="ViT with the names of timm and a norm after pooling",
    needs=(*VIT.needs, "fc_norm.*"),
    lacks=("mask_token", "decoder_blocks.{i}.*", "norm.*", "blocks.{i}.attn.relative_position_bias_table"),
    rules=(
        *VIT_EMBEDDING,
        *transformer_blocks("blocks.{i}", "encoder.stages.0.blocks.{i}"),
        Rule("fc_norm.*", "head.pool_norm.*"),
        Rule("head.*", "head.fc.*"),
    ),
    settings=(
        ("block.norm", LAYER_NORM),
        GELU,
        ("head.norm", "none"),
        ("head.pool", "mean"),
        ("head.pool_norm", LAYER_NORM),
    ),
)

MIXER_BLOCK = "encoder.stages.0.blocks.{i}"
MIXER = Publisher(
    name="MLP-Mixer with the names of timm",
    needs=("stem.proj.weight", "blocks.{i}.mlp_tokens.fc1.weight", "blocks.{i}.mlp_channels.fc1.weight"),
    lacks=(),
    rules=(
        Rule("stem.proj.*", "encoder.stem.proj.*"),
        Rule("blocks.{i}.norm1.*", f"{MIXER_BLOCK}.mixer.norm.*"),
        Rule("blocks.{i}.mlp_tokens.fc1.*", f"{MIXER_BLOCK}.mixer.op.fc1.*"),
        Rule("blocks.{i}.mlp_tokens.fc2.*", f"{MIXER_BLOCK}.mixer.op.fc2.*"),
        Rule("blocks.{i}.norm2.*", f"{MIXER_BLOCK}.mlp.norm.*"),
        Rule("blocks.{i}.mlp_channels.fc1.*", f"{MIXER_BLOCK}.mlp.op.fc1.*"),
        Rule("blocks.{i}.mlp_channels.fc2.*", f"{MIXER_BLOCK}.mlp.op.fc2.*"),
        Rule("norm.*", "head.norm.*"),
        Rule("head.*", "head.fc.*"),
    ),
    net="classifier",
    mixers=("spatial_mlp",),
    settings=(
        ("block.norm", LAYER_NORM),
        GELU,
        ("block.mixer.spatial_mlp.activation", "gelu"),
        ("head.norm", LAYER_NORM),
        ("head.pool", "mean"),
    ),
)

SWIN_NORM = {"layer_norm": {"eps": 1e-5}}
SWIN_BLOCK = "encoder.stages.{s}.blocks.{i}"
SWIN_BUFFERS = ("relative_position_index", "relative_coords_table", "attn_mask")
PATCH_NORM = (
    ("patch_embed.norm.*", ("stem.patch_embed.norm", SWIN_NORM)),
    ("!patch_embed.norm.*", ("stem.patch_embed.norm", "none")),
)
SWIN = Publisher(
    name="Swin with the names of timm",
    needs=("patch_embed.proj.weight", "layers.{s}.blocks.{i}.attn.relative_position_bias_table"),
    # timm downsamples at the start of a stage, Microsoft at the end
    lacks=("layers.0.downsample.*", "head.weight", "layers.{s}.blocks.{i}.attn.logit_scale", "absolute_pos_embed"),
    rules=(
        Rule("patch_embed.proj.*", "encoder.stem.proj.*"),
        Rule("patch_embed.norm.*", "encoder.stem.norm.*"),
        Rule("layers.{s}.downsample.norm.*", "encoder.stages.{s}.downsample.norm.*"),
        Rule("layers.{s}.downsample.reduction.*", "encoder.stages.{s}.downsample.reduction.*"),
        Rule(
            "layers.{s}.blocks.{i}.attn.relative_position_bias_table",
            f"{SWIN_BLOCK}.mixer.op.bias_table",
            resample=geometric_offsets,
        ),
        *transformer_blocks("layers.{s}.blocks.{i}", SWIN_BLOCK),
        Rule("norm.*", "head.norm.*"),
        Rule("head.fc.*", "head.fc.*"),
    ),
    net="classifier",
    mixers=("window_attention",),
    settings=(
        ("downsample.patch_merging.norm", SWIN_NORM),
        ("block.norm", SWIN_NORM),
        ("block.order", "pre"),
        ("block.mixer.window_attention.cut", "axis"),
        GELU,
        ("head.norm", SWIN_NORM),
        ("head.pool", "mean"),
    ),
    where=PATCH_NORM,
    recomputed=SWIN_BUFFERS,
)


SWIN_V2_ATTENTION = (
    Rule("layers.{s}.blocks.{i}.attn.logit_scale", f"{SWIN_BLOCK}.mixer.op.logit_scale"),
    Rule("layers.{s}.blocks.{i}.attn.q_bias", f"{SWIN_BLOCK}.mixer.op.q_bias"),
    Rule("layers.{s}.blocks.{i}.attn.v_bias", f"{SWIN_BLOCK}.mixer.op.v_bias"),
    Rule("layers.{s}.blocks.{i}.attn.cpb_mlp.{n}.*", f"{SWIN_BLOCK}.mixer.op.bias_net.{{n}}.*"),
    # not read, but it alone shows the window, and that of the pretraining
    Rule("layers.{s}.blocks.{i}.attn.relative_coords_table", f"{SWIN_BLOCK}.mixer.op.offsets", offset_rows),
)
SWIN_V2_SETTINGS = (
    ("block.order", "post"),
    ("downsample.patch_merging.norm", "none"),
    ("downsample.patch_merging.norm_after", SWIN_NORM),
)
SWIN_V2 = replace(
    SWIN,
    name="Swin V2 with the names of timm",
    needs=("patch_embed.proj.weight", "layers.{s}.blocks.{i}.attn.logit_scale"),
    lacks=("layers.0.downsample.*", "head.weight", "absolute_pos_embed"),
    rules=(
        Rule("patch_embed.proj.*", "encoder.stem.proj.*"),
        Rule("patch_embed.norm.*", "encoder.stem.norm.*"),
        Rule("layers.{s}.downsample.norm.*", "encoder.stages.{s}.downsample.norm_after.*"),
        Rule("layers.{s}.downsample.reduction.*", "encoder.stages.{s}.downsample.reduction.*"),
        *SWIN_V2_ATTENTION,
        *transformer_blocks("layers.{s}.blocks.{i}", SWIN_BLOCK),
        Rule("norm.*", "head.norm.*"),
        Rule("head.fc.*", "head.fc.*"),
    ),
    mixers=("cosine_window_attention",),
    settings=(
        ("block.norm", SWIN_NORM),
        ("block.mixer.cosine_window_attention.cut", "axis"),
        GELU,
        *SWIN_V2_SETTINGS,
        ("head.norm", SWIN_NORM),
        ("head.pool", "mean"),
    ),
)


def baseline_blocks(theirs: str, ours: str) -> Rules:
    """The rules of the blocks of PoolFormer and of the MetaFormer baselines."""
    return (
        Rule(f"{theirs}.norm1.*", f"{ours}.mixer.norm.*"),
        Rule(f"{theirs}.token_mixer.pwconv1.*", f"{ours}.mixer.op.fc1.*", linear),
        Rule(f"{theirs}.token_mixer.act1.*", f"{ours}.mixer.op.activation.*"),
        Rule(f"{theirs}.token_mixer.dwconv.*", f"{ours}.mixer.op.depthwise.*"),
        Rule(f"{theirs}.token_mixer.pwconv2.*", f"{ours}.mixer.op.fc2.*", linear),
        Rule(f"{theirs}.token_mixer.random_matrix", f"{ours}.mixer.op.matrix"),
        Rule(f"{theirs}.token_mixer.*", f"{ours}.mixer.op.*"),
        Rule(f"{theirs}.layer_scale1.scale", f"{ours}.mixer.layer_scale"),
        Rule(f"{theirs}.res_scale1.scale", f"{ours}.mixer.res_scale"),
        Rule(f"{theirs}.norm2.*", f"{ours}.mlp.norm.*"),
        Rule(f"{theirs}.mlp.fc1.*", f"{ours}.mlp.op.fc1.*", linear),
        Rule(f"{theirs}.mlp.act.*", f"{ours}.mlp.op.activation.*"),
        Rule(f"{theirs}.mlp.fc2.*", f"{ours}.mlp.op.fc2.*", linear),
        Rule(f"{theirs}.layer_scale2.scale", f"{ours}.mlp.layer_scale"),
        Rule(f"{theirs}.res_scale2.scale", f"{ours}.mlp.res_scale"),
    )


def baseline_head(theirs: str, plan: Plan) -> Rules:
    """The rules of a classifier that is a linear layer, or an MLP with a norm."""
    if plan.head is None or plan.head.head.mlp is None:
        return (Rule(f"{theirs}.*", "head.fc.*"),)
    return (
        Rule(f"{theirs}.fc1.*", "head.mlp.fc1.*"),
        Rule(f"{theirs}.norm.*", "head.mlp.norm.*"),
        Rule(f"{theirs}.fc2.*", "head.fc.*"),
    )


def _metaformer_rules(plan: Plan) -> Rules:
    return (
        Rule("stem.conv.*", "encoder.stem.conv.*"),
        Rule("stem.norm.*", "encoder.stem.norm.*"),
        Rule("stages.{s}.downsample.norm.*", "encoder.stages.{s}.downsample.norm.*"),
        Rule("stages.{s}.downsample.conv.*", "encoder.stages.{s}.downsample.conv.*"),
        *baseline_blocks("stages.{s}.blocks.{i}", "encoder.stages.{s}.blocks.{i}"),
        Rule("head.norm.*", "head.pool_norm.*"),
        *baseline_head("head.fc", plan),
    )


# pools first, then norms: the original of PoolFormer (sail_sg.py) does it the other way round
METAFORMER_HEAD: tuple[tuple[str, Value], ...] = (
    ("head.norm", "none"),
    ("head.pool", "mean"),
    ("head.pool_norm", LAYER_NORM),
)
METAFORMER = Publisher(
    name="MetaFormer with the names of timm",
    needs=("stem.conv.weight", "stages.{s}.blocks.{i}.mlp.fc1.weight"),
    lacks=(),
    rules=_metaformer_rules,
    net="classifier",
    mixers=("pooling", "identity", "separable_conv", "attention"),
    # the two kinds of block norm have the same names, so the kind is left to the spec
    settings=(
        ("block.norm.*.eps", 1e-6),
        *METAFORMER_HEAD,
        ("head.mlp.activation", "squared_relu"),
        ("head.mlp.norm", LAYER_NORM),
    ),
    where=(
        ("stem.norm.*", ("stem.conv_embed.norm", LAYER_NORM)),
        ("stages.{s}.downsample.norm.*", ("downsample.conv.norm", LAYER_NORM)),
    ),
)

# Of the family only PoolFormer has LayerScale in its first stage, and norms with a bias.
POOLFORMER = replace(
    METAFORMER,
    name="PoolFormer with the names of timm",
    needs=("stem.conv.weight", "stages.0.blocks.{i}.layer_scale1.scale", "stages.0.blocks.{i}.norm1.bias"),
    mixers=("pooling",),
    settings=(("block.norm", {"group_norm": {"groups": 1, "eps": 1e-5}}), GELU, *METAFORMER_HEAD),
    where=(),
)
