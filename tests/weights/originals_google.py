"""As `originals.py`, for Google's networks and the hybrids of timm."""

from __future__ import annotations

from typing import Any

from weights.originals import Arguments, Spec, classifier, layer_norm, timm_vit

GELU = {"activation": "gelu_tanh"}


def vit_jax(a: Arguments, size: list[int]) -> Spec:
    token = a.get("classifier", "token") == "token"
    inner = a["transformer"]
    stem: Spec = {"patch_embed": {"patch": a["patches"]["size"]}}
    if a.get("resnet"):
        stem = {"resnet_v2": _google_stem(a)}
    head = {"norm": layer_norm(1e-6), "pool": "class" if token else "mean"}
    if a.get("representation_size"):
        head["representation"] = a["representation_size"]
    return classifier(
        a,
        size,
        stem=stem,
        prefix=["class"] if token else [],
        position="learned",
        block={
            "norm": layer_norm(1e-6),
            "mixer": {"attention": {"heads": inner["num_heads"]}},
            "mlp": {"hidden": inner["mlp_dim"], **GELU},
        },
        stages=[{"dim": a["hidden_size"], "depth": inner["num_layers"]}],
        head=head,
        init="vit_jax",
    )


def _google_stem(a: Arguments) -> dict[str, Any]:
    resnet = a["resnet"]
    return {
        "depths": resnet["num_layers"],
        "width": int(64 * resnet["width_factor"]),
        "patch": a["patches"]["size"],
        "norm": {"group_norm": {"groups": 32, "eps": 1e-6}},
        "weight_eps": 1e-5,
        "weight_eps_on": "deviation",
    }


def mixer_jax(a: Arguments, size: list[int]) -> Spec:
    return classifier(
        a,
        size,
        stem={"patch_embed": {"patch": a["patches"]["size"]}},
        block={
            "norm": layer_norm(1e-6),
            "mixer": {"spatial_mlp": {"hidden": a["tokens_mlp_dim"], **GELU}},
            "mlp": {"hidden": a["channels_mlp_dim"], **GELU},
        },
        stages=[{"dim": a["hidden_dim"], "depth": a["num_blocks"]}],
        head={"norm": layer_norm(1e-6), "pool": "mean"},
        init="mixer",
    )


def timm_vit_hybrid(a: Arguments, size: list[int]) -> Spec:
    stem = {"depths": a["resnet_layers"], "width": a["resnet_stem_chs"], "patch": a["patch_size"]}
    return {**timm_vit(a, size), "stem": {"resnet_v2": stem}}


SYSTEMS = {"vit_jax": vit_jax, "mixer_jax": mixer_jax, "timm_vit_hybrid": timm_vit_hybrid}
