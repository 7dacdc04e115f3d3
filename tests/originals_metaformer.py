"""The arguments of the MetaFormer baselines' classes, sail-sg's and timm's, to the spec of the same network."""

from __future__ import annotations

import ast
from typing import Any

Arguments = dict[str, Any]
Spec = dict[str, Any]
RES_SCALES = [None, None, 1.0, 1.0]


def layer_norm(eps: float, bias: bool = True) -> Spec:
    return {"layer_norm": {"eps": eps, "bias": bias}}


def sail_sg(a: Arguments, size: list[int]) -> Spec:
    count = len(a["depths"])
    norms = [_sail_norm(text) for text in each(a.get("norm_layers", "@partial(LayerNormWithoutBias, eps=1e-6)"), count)]
    mixers = [called(text) for text in each(a.get("token_mixers", "@nn.Identity"), count)]
    mlp = {"ratio": 4, "activation": "star_relu", "bias": False}
    downs = ["none"] + [down(layer_norm(1e-6, bias=False))] * (count - 1)
    hidden = {"ratio": 4, "activation": "squared_relu", "norm": layer_norm(1e-5)}
    return network(
        a,
        size,
        down(layer_norm(1e-6, bias=False), stem=True),
        stages(a, mixers, norms, downs, mlp),
        {"mlp": hidden} if a.get("head_fn") == "@MlpHead" else {},
    )


def timm(a: Arguments, size: list[int]) -> Spec:
    count, dims = len(a["depths"]), a["dims"]
    names = {"GroupNorm1NoBias": "group_norm", "LayerNorm2dNoBias": "layer_norm", "LayerNormNoBias": "layer_norm"}
    norms = [
        {names[text.lstrip("@")]: {"eps": 1e-6, "bias": False}}
        for text in each(a.get("norm_layers", "@LayerNorm2dNoBias"), count)
    ]
    # what the class does not know goes to every mixer that takes it
    keys = {key: a[key] for key in ("pool_size", "expansion_ratio", "kernel_size", "head_dim", "num_heads") if key in a}
    mixers = [(name, keys | own) for name, own in map(called, each(a.get("token_mixers", "@Pooling"), count))]
    act = {"StarReLU": "star_relu", "nn.GELU": "gelu"}[a.get("mlp_act", "StarReLU").lstrip("@")]
    mlp = {"ratio": 4, "activation": act, "bias": a.get("mlp_bias", False)}
    kept = [dims[index - 1] == dims[index] for index in range(1, count)]
    downs = ["none"] + ["none" if same else down(layer_norm(1e-6, bias=False)) for same in kept]
    hidden = {"ratio": 4, "activation": "squared_relu", "norm": layer_norm(1e-6)}
    return network(
        a,
        size,
        down(layer_norm(1e-6, bias=False), stem=True),
        stages(a, mixers, norms, downs, mlp),
        {"mlp": hidden} if a.get("use_mlp_head", True) else {},
    )


def network(a: Arguments, size: list[int], stem: Spec, rows: list[Spec], head: Spec) -> Spec:
    return {
        "net": "classifier",
        "image": {"size": size, "channels": a.get("in_chans", 3)},
        "classes": a["num_classes"],
        "stem": stem,
        "stages": rows,
        "head": {"pool": "mean", "pool_norm": layer_norm(1e-6), **head},
        "init": "metaformer_baselines",
    }


def stages(a: Arguments, mixers: list[Any], norms: list[Spec], downs: list[Any], mlp: Spec) -> list[Spec]:
    count = len(a["depths"])
    layer_scales = each(a.get("layer_scale_init_values"), count)
    res_scales = each(a.get("res_scale_init_values", RES_SCALES), count)
    return [
        {
            "dim": dim,
            "depth": a["depths"][index],
            "downsample": downs[index],
            "norm": norms[index],
            "mixer": mixer(*mixers[index], dim),
            "mlp": mlp,
            "layer_scale": layer_scales[index] or "none",
            "res_scale": res_scales[index] or "none",
        }
        for index, dim in enumerate(a["dims"])
    ]


def mixer(name: str, keys: Arguments, dim: int) -> Any:
    """A mixer of the originals in our words; the heads of an attention need not fill the width."""
    if name == "Attention":
        size = keys.get("head_dim", 32)
        heads = keys.get("num_heads") or max(1, dim // size)
        biases = {key: keys.get(key, False) for key in ("qkv_bias", "proj_bias")}
        return {"attention": {"head_dim": size, "width": heads * size, **biases}}
    if name == "SepConv":
        ratio, kernel = keys.get("expansion_ratio", 2), keys.get("kernel_size", 7)
        return {"separable_conv": {"hidden": int(ratio * dim), "kernel": kernel, "bias": keys.get("bias", False)}}
    if name == "Pooling":
        return {"pooling": {"window": keys.get("pool_size", 3)}}
    return {"nn.Identity": "identity", "RandomMixing": "random_mixing"}[name]


def down(norm: Spec, stem: bool = False) -> Spec:
    """The convolution before a stage; its norm stands after it in the stem, and before it elsewhere."""
    if stem:
        return {"conv_embed": {"kernel": 7, "stride": 4, "padding": 2, "norm": norm}}
    return {"conv": {"kernel": 3, "stride": 2, "padding": 1, "norm": norm}}


def each(value: Any, count: int) -> list[Any]:
    """One value a stage."""
    return list(value) if isinstance(value, list | tuple) else [value] * count


def called(text: str) -> tuple[str, Arguments]:
    """`@partial(Attention, head_dim=8)` as its name and its arguments."""
    call = ast.parse(text.lstrip("@"), mode="eval").body
    if not isinstance(call, ast.Call):
        return ast.unparse(call), {}
    return ast.unparse(call.args[0]), {item.arg or "": ast.literal_eval(item.value) for item in call.keywords}


def _sail_norm(text: str) -> Spec:
    name, keys = called(text)
    whole = keys.get("normalized_dim", (-1,)) == (1, 2, 3)
    bias = keys.get("bias", name == "LayerNormGeneral")
    return {"group_norm" if whole else "layer_norm": {"eps": keys.get("eps", 1e-5), "bias": bias}}
