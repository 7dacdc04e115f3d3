"""Google's names (google-research/vision_transformer, `.npz`): ViT in both of its namings, hybrid ViT, MLP-Mixer.

Kernels are (in, out) of a linear layer, (rows, columns, in, out) of a convolution, (C, heads, head_dim) of query, key
and value, and (heads, head_dim, C) of the output projection. Released files number all parts of a block in one row;
the current code numbers those of a kind.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from metablocks.core import resample
from metablocks.plan import Plan
from metablocks.weights import hybrid
from metablocks.weights.rules import Publisher, Rule, Rules

LAYER_NORM = {"layer_norm": {"eps": 1e-6}}
BLOCK = "encoder.stages.0.blocks.{i}"


def kernel(tensor: Tensor) -> Tensor:
    """(in, out) or (rows, columns, in, out) with the outputs first."""
    if tensor.ndim == 4:
        return tensor.permute(3, 2, 0, 1)
    return tensor.T if tensor.ndim == 2 else tensor


def heads_out(tensor: Tensor) -> Tensor:
    """(C, heads, head_dim) to (heads head_dim, C)."""
    return tensor.flatten(1).T if tensor.ndim == 3 else tensor


def heads_in(tensor: Tensor) -> Tensor:
    """(heads, head_dim, C) to (C, heads head_dim)."""
    return tensor.flatten(0, 1).T if tensor.ndim == 3 else tensor


def vector(tensor: Tensor) -> Tensor:
    """(heads, head_dim), or (1, 1, 1, C) as in released files, to (C)."""
    return tensor.flatten()


def linear(theirs: str, ours: str) -> Rules:
    """A layer with kernel and bias."""
    return Rule(f"{theirs}/kernel", f"{ours}.weight", kernel), Rule(f"{theirs}/bias", f"{ours}.bias")


def norm(theirs: str, ours: str) -> Rules:
    """A norm with scale and bias."""
    return Rule(f"{theirs}/scale", f"{ours}.weight"), Rule(f"{theirs}/bias", f"{ours}.bias")


def attention(theirs: str, ours: str) -> Rules:
    """Query, key and value one after the other make our packed projection."""
    packed = [
        rule
        for place, name in enumerate(("query", "key", "value"))
        for rule in (
            Rule(f"{theirs}/{name}/kernel", f"{ours}.qkv.weight", heads_out, (place, 3)),
            Rule(f"{theirs}/{name}/bias", f"{ours}.qkv.bias", vector, (place, 3)),
        )
    ]
    return (
        *packed,
        Rule(f"{theirs}/out/kernel", f"{ours}.proj.weight", heads_in),
        Rule(f"{theirs}/out/bias", f"{ours}.proj.bias"),
    )


def _vit(plan: Plan, mha: int, second: int, mlp: int) -> Rules:
    """The numbers are those of the attention, the second norm and the MLP in the names of a block."""
    block = "Transformer/encoderblock_{i}"
    return (
        *linear("embedding", "encoder.stem.proj"),
        *hybrid.google(plan, kernel, vector),
        Rule("cls", "encoder.embedding.prefix.class_token"),
        Rule("Transformer/posembed_input/pos_embedding", "encoder.embedding.position.table"),
        *norm(f"{block}/LayerNorm_0", f"{BLOCK}.mixer.norm"),
        *attention(f"{block}/MultiHeadDotProductAttention_{mha}", f"{BLOCK}.mixer.op"),
        *norm(f"{block}/LayerNorm_{second}", f"{BLOCK}.mlp.norm"),
        *linear(f"{block}/MlpBlock_{mlp}/Dense_0", f"{BLOCK}.mlp.op.fc1"),
        *linear(f"{block}/MlpBlock_{mlp}/Dense_1", f"{BLOCK}.mlp.op.fc2"),
        *norm("Transformer/encoder_norm", "head.norm"),
        *linear("pre_logits", "head.representation"),
        *linear("head", "head.fc"),
    )


VIT = Publisher(
    name="ViT with the names of Google's released files",
    needs=("embedding/kernel", "Transformer/encoderblock_{i}/MultiHeadDotProductAttention_1/query/kernel"),
    lacks=(),
    rules=lambda plan: _vit(plan, mha=1, second=2, mlp=3),
    net="classifier",
    mixers=("attention",),
    settings=(
        ("block.norm", LAYER_NORM),
        ("block.mlp.activation", "gelu_tanh"),
        ("head.norm", LAYER_NORM),
        ("head.pool_norm", "none"),
    ),
    # without a class token all tokens are normed, then averaged
    where=(
        ("cls", ("prefix", ["class"])),
        ("cls", ("head.pool", "class")),
        ("!cls", ("prefix", [])),
        ("!cls", ("head.pool", "mean")),
        *hybrid.GOOGLE_SETTINGS,
    ),
    with_head=("pre_logits/*",),
    positions=(("", resample.GOOGLE),),
)

VIT_LINEN = replace(
    VIT,
    name="ViT with the names of Google's current code",
    needs=("embedding/kernel", "Transformer/encoderblock_{i}/MultiHeadDotProductAttention_0/query/kernel"),
    rules=lambda plan: _vit(plan, mha=0, second=1, mlp=0),
)

MIXER = Publisher(
    name="MLP-Mixer with Google's names",
    needs=("stem/kernel", "MixerBlock_{i}/token_mixing/Dense_0/kernel"),
    lacks=(),
    rules=(
        *linear("stem", "encoder.stem.proj"),
        *norm("MixerBlock_{i}/LayerNorm_0", f"{BLOCK}.mixer.norm"),
        *linear("MixerBlock_{i}/token_mixing/Dense_0", f"{BLOCK}.mixer.op.fc1"),
        *linear("MixerBlock_{i}/token_mixing/Dense_1", f"{BLOCK}.mixer.op.fc2"),
        *norm("MixerBlock_{i}/LayerNorm_1", f"{BLOCK}.mlp.norm"),
        *linear("MixerBlock_{i}/channel_mixing/Dense_0", f"{BLOCK}.mlp.op.fc1"),
        *linear("MixerBlock_{i}/channel_mixing/Dense_1", f"{BLOCK}.mlp.op.fc2"),
        *norm("pre_head_layer_norm", "head.norm"),
        *linear("head", "head.fc"),
    ),
    net="classifier",
    mixers=("spatial_mlp",),
    settings=(
        ("block.norm", LAYER_NORM),
        ("block.mlp.activation", "gelu_tanh"),
        ("block.mixer.spatial_mlp.activation", "gelu_tanh"),
        ("head.norm", LAYER_NORM),
        ("head.pool", "mean"),
        ("head.pool_norm", "none"),
    ),
)
