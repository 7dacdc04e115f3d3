"""The ResNet stem of hybrid ViTs: its names and its settings with Google and with timm."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from metablocks.plan import Plan
from metablocks.weights.rules import Rule, Rules, Value

STEM = "encoder.stem"
CONVS = ("reduce", "middle", "widen")


def settings(pattern: str, eps: float, weight_eps: float, on: str) -> tuple[tuple[str, tuple[str, Value]], ...]:
    """What the code of a publisher fixes for the stem, where `pattern` shows that there is one."""
    path = "stem.resnet_v2"
    return (
        (pattern, (f"{path}.norm", {"group_norm": {"groups": 32, "eps": eps}})),
        (pattern, (f"{path}.weight_eps", weight_eps)),
        (pattern, (f"{path}.weight_eps_on", on)),
    )


def _timm() -> Iterator[Rule]:
    """Units are numbered from 0; where there are no stages, the root is not called `stem`."""
    theirs = "patch_embed.backbone"
    for root in (f"{theirs}.stem", theirs):
        yield Rule(f"{root}.conv.*", f"{STEM}.root.conv.*")
        yield Rule(f"{root}.norm.*", f"{STEM}.root.norm.*")
    unit, ours = f"{theirs}.stages.{{s}}.blocks.{{i}}", f"{STEM}.stages.{{s}}.{{i}}"
    for number, name in enumerate(CONVS, 1):
        yield Rule(f"{unit}.conv{number}.*", f"{ours}.{name}.conv.*")
        yield Rule(f"{unit}.norm{number}.*", f"{ours}.{name}.norm.*")
    yield Rule(f"{unit}.downsample.conv.*", f"{ours}.shortcut.conv.*")
    yield Rule(f"{unit}.downsample.norm.*", f"{ours}.shortcut.norm.*")
    yield Rule("patch_embed.proj.*", f"{STEM}.projection.proj.*")


TIMM: Rules = tuple(_timm())
TIMM_SETTINGS = settings("patch_embed.backbone.*", 1e-5, 1e-8, "variance")
GOOGLE_SETTINGS = settings("conv_root/kernel", 1e-6, 1e-5, "deviation")


def google(plan: Plan, kernel: Callable[[Tensor], Tensor], vector: Callable[[Tensor], Tensor]) -> Iterator[Rule]:
    """Blocks and units are numbered from 1. `kernel` and `vector` turn a tensor of theirs into our shape."""
    stem = plan.encoder.stem.stem
    if stem.name != "resnet_v2":
        return
    yield from _normed("conv_root", "gn_root", f"{STEM}.root", kernel, vector)
    depths: tuple[int, ...] = stem.model_dump()["depths"]
    for stage, depth in enumerate(depths):
        for index in range(depth):
            theirs, ours = f"block{stage + 1}/unit{index + 1}", f"{STEM}.stages.{stage}.{index}"
            for number, name in enumerate(CONVS, 1):
                yield from _normed(f"{theirs}/conv{number}", f"{theirs}/gn{number}", f"{ours}.{name}", kernel, vector)
            yield from _normed(f"{theirs}/conv_proj", f"{theirs}/gn_proj", f"{ours}.shortcut", kernel, vector)
    yield Rule("embedding/kernel", f"{STEM}.projection.proj.weight", kernel)
    yield Rule("embedding/bias", f"{STEM}.projection.proj.bias")


def _normed(
    conv: str, norm: str, ours: str, kernel: Callable[[Tensor], Tensor], vector: Callable[[Tensor], Tensor]
) -> Rules:
    return (
        Rule(f"{conv}/kernel", f"{ours}.conv.weight", kernel),
        Rule(f"{norm}/scale", f"{ours}.norm.weight", vector),
        Rule(f"{norm}/bias", f"{ours}.norm.bias", vector),
    )
