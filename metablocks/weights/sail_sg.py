"""sail-sg's names: PoolFormer and the MetaFormers of the same paper (sail-sg/poolformer, arXiv:2111.11418), and the
MetaFormer baselines (sail-sg/metaformer, arXiv:2210.13452).
"""

from __future__ import annotations

from collections.abc import Iterator

from metablocks.plan import Plan
from metablocks.weights.rules import Publisher, Rule, Rules, linear, map_to_tokens
from metablocks.weights.timm import GELU, baseline_blocks, baseline_head


def _rules(plan: Plan) -> Rules:
    return (
        Rule("patch_embed.proj.*", "encoder.stem.conv.*"),
        *_network(plan),
        Rule("norm.*", "head.norm.*"),
        Rule("head.*", "head.fc.*"),
    )


def _network(plan: Plan) -> Iterator[Rule]:
    """`network.N` numbers downsamplings, positions and stages in one row, each only where there is one."""
    place = 0
    for index, stage in enumerate(plan.stages):
        ours = f"encoder.stages.{index}"
        if stage.downsample is not None:
            yield Rule(f"network.{place}.proj.*", f"{ours}.downsample.conv.*")
            place += 1
        # before the first stage a position may be written at the top of the spec as well
        tables = {"encoder.embedding": plan.encoder.embedding} if index == 0 else {}
        tables[f"{ours}.embedding"] = stage.embedding
        named = [path for path, embedding in tables.items() if embedding.position.name != "none"]
        for path in named:
            yield Rule(f"network.{place}.pos_embed", f"{path}.position.table", map_to_tokens)
            place += 1
        yield from _blocks(f"network.{place}.{{i}}", f"{ours}.blocks.{{i}}")
        place += 1


def _blocks(theirs: str, ours: str) -> Rules:
    return (
        Rule(f"{theirs}.norm1.*", f"{ours}.mixer.norm.*"),
        Rule(f"{theirs}.token_mixer.*", f"{ours}.mixer.op.*"),
        Rule(f"{theirs}.layer_scale_1", f"{ours}.mixer.layer_scale"),
        Rule(f"{theirs}.norm2.*", f"{ours}.mlp.norm.*"),
        Rule(f"{theirs}.mlp.fc1.*", f"{ours}.mlp.op.fc1.*", linear),
        Rule(f"{theirs}.mlp.fc2.*", f"{ours}.mlp.op.fc2.*", linear),
        Rule(f"{theirs}.layer_scale_2", f"{ours}.mlp.layer_scale"),
    )


POOLFORMER = Publisher(
    name="PoolFormer or MetaFormer with sail-sg's names",
    needs=("patch_embed.proj.weight", "network.{n}.{i}.mlp.fc1.weight"),
    lacks=(),
    rules=_rules,
    net="classifier",
    mixers=("pooling", "identity", "attention", "spatial_mlp"),
    # group norm and layer norm have the same names, so their kind is left to the spec
    settings=(
        ("block.norm.*.eps", 1e-5),
        GELU,
        ("head.norm.*.eps", 1e-5),
        ("head.pool", "mean"),
        ("head.pool_norm", "none"),
    ),
)


def _baseline_rules(plan: Plan) -> Rules:
    return (
        # the stem counts as the first downsampling, and its norm stands after the convolution
        Rule("downsample_layers.0.conv.*", "encoder.stem.conv.*"),
        Rule("downsample_layers.0.post_norm.*", "encoder.stem.norm.*"),
        Rule("downsample_layers.{s}.conv.*", "encoder.stages.{s}.downsample.conv.*"),
        Rule("downsample_layers.{s}.pre_norm.*", "encoder.stages.{s}.downsample.norm.*"),
        *baseline_blocks("stages.{s}.{i}", "encoder.stages.{s}.blocks.{i}"),
        Rule("norm.*", "head.pool_norm.*"),
        *baseline_head("head", plan),
    )


BASELINE_NORM = {"layer_norm": {"eps": 1e-6}}
BASELINES = Publisher(
    name="a MetaFormer baseline with sail-sg's names",
    needs=("downsample_layers.0.conv.weight", "stages.{s}.{i}.mlp.fc1.weight"),
    lacks=(),
    rules=_baseline_rules,
    net="classifier",
    mixers=("identity", "random_mixing", "pooling", "separable_conv", "attention"),
    # which of the two block norms it is, and whether a mixer without weights pools, shows in no tensor
    settings=(
        ("block.norm.*.eps", 1e-6),
        ("head.norm", "none"),
        ("head.pool", "mean"),
        ("head.pool_norm", BASELINE_NORM),
        ("head.mlp.activation", "squared_relu"),
        ("head.mlp.norm", {"layer_norm": {"eps": 1e-5}}),
    ),
    where=(
        ("downsample_layers.0.post_norm.*", ("stem.conv_embed.norm", BASELINE_NORM)),
        ("downsample_layers.{s}.pre_norm.*", ("downsample.conv.norm", BASELINE_NORM)),
    ),
)
