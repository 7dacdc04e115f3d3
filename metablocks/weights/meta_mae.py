"""Meta's names (facebookresearch/mae): the pretraining model with its decoder.

The networks that MAE fine-tunes are ViTs with the names of timm, on which its code is built: see `timm.py`.
"""

from __future__ import annotations

from dataclasses import replace

from metablocks.core import resample
from metablocks.weights.rules import Publisher, Rule
from metablocks.weights.timm import GELU, LAYER_NORM, VIT_EMBEDDING, VIT_HEADLESS, transformer_blocks

# Fine-tuning takes the encoder out of the file that was saved with its decoder.
ENCODER = replace(
    VIT_HEADLESS,
    name="the encoder of MAE's pretraining model with Meta's names",
    needs=("mask_token", "blocks.{i}.attn.qkv.weight", "decoder_blocks.{i}.attn.qkv.weight"),
    lacks=(),
    unused=("mask_token", "decoder_*"),
    positions=(("", resample.MAE),),
)

MAE = Publisher(
    name="MAE's pretraining model with Meta's names",
    needs=("mask_token", "patch_embed.proj.weight", "decoder_blocks.{i}.attn.qkv.weight"),
    lacks=(),
    rules=(
        *VIT_EMBEDDING,
        *transformer_blocks("blocks.{i}", "encoder.stages.0.blocks.{i}"),
        Rule("norm.*", "norm.*"),
        Rule("mask_token", "mask_token.token"),
        Rule("decoder_embed.*", "decoder.embed.*"),
        Rule("decoder_pos_embed", "decoder.embedding.position.table"),
        *transformer_blocks("decoder_blocks.{i}", "decoder.stages.0.blocks.{i}"),
        Rule("decoder_norm.*", "decoder.norm.*"),
        Rule("decoder_pred.*", "decoder.predict.*"),
    ),
    net="masked_autoencoder",
    mixers=("attention",),
    # the eps of Meta's factories; the default of the class is another
    settings=(
        ("block.norm", LAYER_NORM),
        GELU,
        ("mask.tokens", "drop"),
        ("encoder.norm", LAYER_NORM),
        ("decoder.norm", LAYER_NORM),
    ),
    positions=(("", resample.MAE),),
    nets=(ENCODER,),
)
