"""The arguments of an original's class to the spec of the same network: one function a system."""

from __future__ import annotations

import ast
import json
from typing import Any

import originals_metaformer

Arguments = dict[str, Any]
Spec = dict[str, Any]
CONV_STEM = {"conv_embed": {"kernel": 7, "stride": 4, "padding": 2}}
CONV_DOWN = {"conv": {"kernel": 3, "stride": 2, "padding": 1}}


def layer_norm(eps: float) -> Spec:
    return {"layer_norm": {"eps": eps}}


def classifier(a: Arguments, size: list[int], **rest: Any) -> Spec:
    image = {"size": size, "channels": a.get("in_chans", 3)}
    return {"net": "classifier", "image": image, "classes": a["num_classes"], **rest}


def timm_vit(a: Arguments, size: list[int]) -> Spec:
    prefix: list[Any] = ["class"] if a.get("class_token", True) else []
    if a.get("reg_tokens", 0):
        prefix.append({"registers": {"count": a["reg_tokens"]}})
    mean = a.get("global_pool", "token") == "avg"
    after = mean if a.get("fc_norm") is None else a["fc_norm"]
    attention = {key: a.get(key, True) for key in ("qkv_bias", "proj_bias")}
    return classifier(
        a,
        size,
        stem={"patch_embed": {"patch": a["patch_size"]}},
        prefix=prefix,
        position={"learned": {"prefix": not a.get("no_embed_class", False)}},
        block={
            "norm": layer_norm(1e-6),
            "mixer": {"attention": {"heads": a["num_heads"], **attention}},
            "mlp": {"ratio": a.get("mlp_ratio", 4.0), "bias": attention["proj_bias"]},
            "layer_scale": a.get("init_values") or "none",
        },
        stages=[{"dim": a["embed_dim"], "depth": a["depth"]}],
        head={"pool_norm" if after else "norm": layer_norm(1e-6), "pool": "mean" if mean else "class"},
    )


def mae_vit(a: Arguments, size: list[int]) -> Spec:
    return timm_vit({**a, "global_pool": "avg" if a["global_pool"] else "token"}, size)


def timm_mixer(a: Arguments, size: list[int]) -> Spec:
    tokens, channels = a.get("mlp_ratio", (0.5, 4.0))
    return classifier(
        a,
        size,
        stem={"patch_embed": {"patch": a["patch_size"]}},
        block={
            "norm": layer_norm(1e-6),
            "mixer": {"spatial_mlp": {"hidden": int(tokens * a["embed_dim"])}},
            "mlp": {"hidden": int(channels * a["embed_dim"])},
        },
        stages=[{"dim": a["embed_dim"], "depth": a["num_blocks"]}],
        drop_path={"rate": 0, "ramp": "none"},
        head={"norm": layer_norm(1e-6), "pool": "mean"},
        init="mixer",
    )


def _in_windows(a: Arguments, size: list[int], mixers: list[Spec], **rest: Any) -> Spec:
    """`mixers` are the settings of each stage, without its window; the first of two is plain, whatever the depth."""
    stages = []
    for i, (depth, heads, (name, keys)) in enumerate(
        zip(a["depths"], a["num_heads"], (next(iter(mixer.items())) for mixer in mixers), strict=True)
    ):
        plain = {"window": a["window_size"], "heads": heads, **keys}
        pair = [{name: plain}, {name: {**plain, "shift": "half"}}]
        stages.append({"dim": a["embed_dim"] << i, "depth": depth, "mixer": (pair * depth)[:depth]})
    rest.setdefault("block", {"norm": layer_norm(1e-5), "mlp": {"ratio": a.get("mlp_ratio", 4.0)}})
    stem = {"patch": a["patch_size"], "norm": layer_norm(1e-5) if a.get("patch_norm", True) else "none"}
    return classifier(
        a,
        size,
        **{"stem": {"patch_embed": stem}, "downsample": "patch_merging", "stages": stages, "init": "swin"},
        **{"position": "learned" if a.get("ape") else "none", "head": {"norm": layer_norm(1e-5), "pool": "mean"}},
        **rest,
    )


def timm_swin(a: Arguments, size: list[int]) -> Spec:
    keys = {"pad": True, "qkv_bias": a.get("qkv_bias", True)}
    return _in_windows(a, size, [{"window_attention": keys}] * len(a["depths"]))


def swin(a: Arguments, size: list[int]) -> Spec:
    keys = {"cut": "square", "qkv_bias": a.get("qkv_bias", True), "scale": a.get("qk_scale") or "none"}
    return _in_windows(a, size, [{"window_attention": keys}] * len(a["depths"]))


def _swin_v2(a: Arguments, size: list[int], **keys: Any) -> Spec:
    trained = a.get("pretrained_window_sizes", [0] * len(a["depths"]))
    mixers = [
        {"cosine_window_attention": {**keys, "qkv_bias": a.get("qkv_bias", True), "pretrained_window": side or "none"}}
        for side in trained
    ]
    norm = layer_norm(1e-5)
    block = {"norm": norm, "order": "post", "mlp": {"ratio": a.get("mlp_ratio", 4.0)}}
    spec = _in_windows(a, size, mixers, block=block)
    return {**spec, "downsample": {"patch_merging": {"norm": "none", "norm_after": norm}}}


def timm_swin_v2(a: Arguments, size: list[int]) -> Spec:
    return _swin_v2(a, size, pad=True)


def swin_v2(a: Arguments, size: list[int]) -> Spec:
    return _swin_v2(a, size, cut="square")


def timm_poolformer(a: Arguments, size: list[int]) -> Spec:
    return classifier(
        a,
        size,
        stem=CONV_STEM,
        downsample=CONV_DOWN,
        block={
            "norm": "group_norm",
            "mixer": "pooling",
            "mlp": {"ratio": 4},
            "layer_scale": a["layer_scale_init_values"],
        },
        stages=[{"dim": dim, "depth": depth} for dim, depth in zip(a["dims"], a["depths"], strict=True)],
        head={"pool_norm": layer_norm(1e-6), "pool": "mean"},
        init="metaformer",
    )


def poolformer(a: Arguments, size: list[int]) -> Spec:
    count = len(a["layers"])
    mixers = a.get("token_mixers") or [f"@partial(Pooling, pool_size={a.get('pool_size', 3)})"] * count
    mixed = [_mixer(text) for text in mixers]
    positions = a.get("add_pos_embs") or [None] * count
    stem = {"conv_embed": _conv(a, "in", CONV_STEM["conv_embed"])}
    between = {"conv": _conv(a, "down", CONV_DOWN["conv"])}
    downs = ["none"] + [
        between if a["downsamples"][i] or a["embed_dims"][i] != a["embed_dims"][i + 1] else "none"
        for i in range(count - 1)
    ]
    stages = [
        {"dim": dim, "depth": depth, "mlp": {"ratio": ratio}, "mixer": mixer, "downsample": down}
        | ({"position": "learned"} if position else {})
        for dim, depth, ratio, mixer, down, position in zip(
            a["embed_dims"], a["layers"], a["mlp_ratios"], mixed, downs, positions, strict=True
        )
    ]
    norm = a.get("norm_layer", "LayerNormChannel" if "token_mixers" in a else "GroupNorm").lstrip("@")
    norm = {"GroupNorm": "group_norm", "LayerNormChannel": layer_norm(1e-5)}[norm]
    scale = a.get("layer_scale_init_value", 1e-5) if a.get("use_layer_scale", True) else "none"
    return classifier(
        a,
        size,
        stem=stem,
        block={"norm": norm, "layer_scale": scale},
        stages=stages,
        head={"norm": norm, "pool": "mean"},
        init="metaformer",
    )


def _conv(a: Arguments, place: str, default: Spec) -> Spec:
    names = {"kernel": "patch_size", "stride": "stride", "padding": "pad"}
    return {key: a.get(f"{place}_{name}", default[key]) for key, name in names.items()}


def _mixer(text: str) -> Any:
    """`@partial(Attention, head_dim=8)` in our words."""
    call = ast.parse(text.lstrip("@"), mode="eval").body
    name, keys = text.lstrip("@"), {}
    if isinstance(call, ast.Call):
        name = ast.unparse(call.args[0])
        keys = {item.arg: ast.literal_eval(item.value) for item in call.keywords}
    attention = {"head_dim": keys.get("head_dim", 32), "qkv_bias": keys.get("qkv_bias", False)}
    return {
        "Pooling": {"pooling": {"window": keys.get("pool_size", 3)}},
        "MFPooling": {"pooling": {"window": keys.get("pool_size", 3)}},
        "nn.Identity": "identity",
        "Attention": {"attention": attention},
        "SpatialFc": {"spatial_mlp": {"layers": 1, "bias": False}},
    }[name]


def mae(a: Arguments, size: list[int], ratio: float = 0.75) -> Spec:
    eps = float(a["norm_layer"].removeprefix("@LN(").removesuffix(")"))

    def stack(dim: int, depth: int, heads: int) -> Spec:
        stage = {"dim": dim, "depth": depth, "mixer": {"attention": {"heads": heads}}}
        return {"position": "sincos_2d", "stages": [stage], "norm": layer_norm(eps)}

    encoder = stack(a["embed_dim"], a["depth"], a["num_heads"])
    return {
        "net": "masked_autoencoder",
        "image": {"size": size, "channels": a.get("in_chans", 3)},
        "mask": {"ratio": ratio},
        "block": {"norm": layer_norm(eps), "mlp": {"ratio": a.get("mlp_ratio", 4.0)}},
        "encoder": {"stem": {"patch_embed": {"patch": a["patch_size"]}}, "prefix": ["class"], **encoder},
        "decoder": stack(a["decoder_embed_dim"], a["decoder_depth"], a["decoder_num_heads"]),
        "target": {"pixels": {"normalize": "patch" if a.get("norm_pix_loss") else "none"}},
        "init": "mae",
    }


SYSTEMS = {
    "timm_vit": timm_vit,
    "timm_mixer": timm_mixer,
    "timm_swin": timm_swin,
    "timm_swinv2": timm_swin_v2,
    "swin": swin,
    "swin_load_resized": swin,
    "swinv2": swin_v2,
    "swinv2_load_resized": swin_v2,
    "timm_poolformer": timm_poolformer,
    "poolformer": poolformer,
    "metaformer_v1": poolformer,
    **dict.fromkeys(
        ("identityformer", "randformer", "poolformerv2", "convformer", "caformer"), originals_metaformer.sail_sg
    ),
    **dict.fromkeys(("timm_poolformerv2", "timm_convformer", "timm_caformer"), originals_metaformer.timm),
    "mae": mae,
    "mae_vit": mae_vit,
}


def spec_text(case: dict[str, Any]) -> str:
    """The spec of a reference case, as text of the language (JSON is YAML)."""
    ratio = {"ratio": case["mask_ratio"]} if "mask_ratio" in case else {}
    return json.dumps(SYSTEMS[case["system"]](case["constructor"], case["image_size"], **ratio), indent=1)
