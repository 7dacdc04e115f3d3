"""One small network of each family."""

FAMILIES = {
    "vit": """
net: classifier
image: {size: 32}
classes: 10
stem: {patch_embed: {patch: 8}}
prefix: [class, {registers: {count: 2}}]
position: learned
block: {norm: layer_norm, mlp: {ratio: 4}, mixer: {attention: {head_dim: 8}}}
stages: [{dim: 24, depth: 2}]
head: {norm: layer_norm, pool: class}
""",
    "mixer": """
net: classifier
image: {size: [32, 48]}
classes: 10
stem: {patch_embed: {patch: 8}}
block: {norm: layer_norm, mlp: {ratio: 4}, mixer: spatial_mlp}
stages: [{dim: 20, depth: 2}]
head: {norm: layer_norm, pool: mean}
""",
    "swin": """
net: classifier
image: {size: [32, 64]}
classes: 10
stem: {patch_embed: {patch: 4, norm: layer_norm}}
downsample: patch_merging
block:
  norm: layer_norm
  mlp: {ratio: 2}
  mixer: [{window_attention: {window: 4, heads: 2}}, {window_attention: {window: 4, heads: 2, shift: half}}]
stages: [{dim: 16, depth: 4}, {dim: 32, depth: 2}]
head: {norm: layer_norm, pool: mean}
""",
    "swin, padded": """
net: classifier
image: {size: 40}
classes: 10
stem: {patch_embed: {patch: 4}}
block: {norm: layer_norm, mlp: {ratio: 2}, mixer: {window_attention: {window: 7, heads: 2, shift: half, pad: true}}}
stages: [{dim: 16, depth: 2}]
head: {pool: mean}
""",
    "swin v2": """
net: classifier
image: {size: [32, 64]}
classes: 10
stem: {patch_embed: {patch: 4, norm: layer_norm}}
downsample: {patch_merging: {norm: none, norm_after: layer_norm}}
block:
  norm: layer_norm
  order: post
  mlp: {ratio: 2}
  mixer:
    - cosine_window_attention: {window: 4, heads: 2, pretrained_window: 6}
    - cosine_window_attention: {window: 4, heads: 2, shift: half}
stages: [{dim: 16, depth: 2}, {dim: 32, depth: 2}]
head: {norm: layer_norm, pool: mean}
""",
    "swin mlp": """
net: classifier
image: {size: [32, 64]}
classes: 10
stem: {patch_embed: {patch: 4, norm: layer_norm}}
downsample: patch_merging
block:
  norm: layer_norm
  mlp: {ratio: 2}
  mixer: [{window_mlp: {window: 4, heads: 2}}, {window_mlp: {window: 4, heads: 2, shift: half}}]
stages: [{dim: 16, depth: 2}, {dim: 32, depth: 2}]
head: {norm: layer_norm, pool: mean}
""",
    "poolformer": """
net: classifier
image: {size: 64}
classes: 10
stem: {conv_embed: {kernel: 7, stride: 4, padding: 2}}
downsample: {conv: {kernel: 3, stride: 2, padding: 1}}
block: {norm: group_norm, mlp: {ratio: 4}, mixer: {pooling: {window: 3}}, layer_scale: 1e-5}
stages: [{dim: 8, depth: 2}, {dim: 16, depth: 2}]
head: {norm: group_norm, pool: mean}
""",
    "metaformer hybrid": """
net: classifier
image: {size: 64}
classes: 10
stem: {conv_embed: {kernel: 7, stride: 4, padding: 2}}
downsample: {conv: {kernel: 3, stride: 2, padding: 1}}
block: {norm: layer_norm, mlp: {ratio: 4}}
stages:
  - {dim: 8, depth: 1, mixer: pooling}
  - {dim: 16, depth: 1, mixer: identity}
  - {dim: 24, depth: 2, mixer: spatial_mlp}
  - {dim: 32, depth: 2, mixer: {attention: {head_dim: 8, qkv_bias: false}}, position: learned}
head: {norm: layer_norm, pool: mean}
""",
    "convformer and caformer": """
net: classifier
image: {size: 64}
classes: 10
stem: {conv_embed: {kernel: 7, stride: 4, padding: 2, norm: {layer_norm: {bias: false}}}}
downsample: {conv: {kernel: 3, stride: 2, padding: 1, norm: {layer_norm: {bias: false}}}}
block:
  norm: {layer_norm: {bias: false}}
  mixer: {separable_conv: {kernel: 5}}
  mlp: {ratio: 4, activation: star_relu, bias: false}
stages:
  - {dim: 8, depth: 2}
  - {dim: 16, depth: 2, mixer: {attention: {head_dim: 8, qkv_bias: false, proj_bias: false}}, res_scale: 1}
head: {pool: mean, pool_norm: layer_norm, mlp: {ratio: 4, activation: squared_relu, norm: layer_norm}}
init: metaformer_baselines
""",
    "randformer": """
net: classifier
image: {size: 64}
classes: 10
stem: {conv_embed: {kernel: 7, stride: 4, padding: 2}}
downsample: {conv: {kernel: 3, stride: 2, padding: 1}}
block: {norm: {group_norm: {bias: false}}, mlp: {ratio: 4, activation: star_relu, bias: false}}
stages: [{dim: 8, depth: 2, mixer: identity}, {dim: 16, depth: 2, mixer: random_mixing, res_scale: 1}]
head: {pool: mean, pool_norm: layer_norm}
init: metaformer_baselines
""",
    "hybrid": """
net: classifier
image: {size: [40, 60]}
classes: 10
stem: {resnet_v2: {depths: [2, 1], width: 8, norm: {group_norm: {groups: 4}}}}
prefix: [class]
position: learned
block: {norm: batch_norm, mlp: {ratio: 2}, mixer: {attention: {heads: 2}}}
stages: [{dim: 16, depth: 2}]
head: {norm: layer_norm, pool: class, pool_norm: {batch_norm: {affine: false}}, representation: 12}
""",
    "masked autoencoder": """
net: masked_autoencoder
image: {size: 32}
mask: {ratio: 0.75}
block: {norm: layer_norm, mlp: {ratio: 2}, mixer: {attention: {heads: 2}}}
encoder: {stem: {patch_embed: {patch: 8}}, prefix: [class], position: sincos_2d, stages: [{dim: 16, depth: 2}]}
decoder: {position: sincos_2d, stages: [{dim: 8, depth: 1}], norm: layer_norm}
""",
}
