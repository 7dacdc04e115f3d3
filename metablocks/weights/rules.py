"""Rules as data: how a publisher's tensor names become ours, and which settings the publisher implies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from torch import Tensor

from metablocks.core.resample import Resampling
from metablocks.plan import Plan

Value = str | float | Mapping[str, object] | list[str]
"""A value in the spec's language: `gelu`, 1e-6, `{"layer_norm": {"eps": 1e-6}}`, `["class"]`."""

INTEGER = r"(?P<{}>0|[1-9]\d*)"


@dataclass(frozen=True)
class Rule:
    """Names that fit `theirs` become `ours`. `{i}` stands for an integer, `*` for the rest of the name.

    `transform` turns their tensor into our shape; what it does not know it returns as it is. So does `resample`, which
    comes after it and knows (rows, columns) of the window that our tensor is a table of.
    """

    theirs: str
    ours: str
    transform: Callable[[Tensor], Tensor] | None = None
    piece: tuple[int, int] | None = None
    """Where several of theirs stand one after the other in ours, along its first axis: (which one, of how many)."""
    resample: Callable[[Tensor, tuple[int, int]], Tensor] | None = None

    def forward(self, name: str) -> str | None:
        """Their name to ours, or None where the rule does not fit."""
        return _rewrite(name, self.theirs, self.ours)

    def backward(self, name: str) -> str | None:
        """Our name to theirs, or None where the rule does not fit."""
        return _rewrite(name, self.ours, self.theirs)


Rules = tuple[Rule, ...]


@dataclass(frozen=True)
class Publisher:
    """Whose names a checkpoint has. Nothing here is code but `rules`, where names depend on the plan."""

    name: str
    """As in `these are weights of {name}`."""
    needs: tuple[str, ...]
    """Recognised where each of these patterns fits a name ..."""
    lacks: tuple[str, ...]
    """... and none of these fits any."""
    rules: Rules | Callable[[Plan], Rules]
    net: str = ""
    """The net of the language that the weights are for; empty: any."""
    mixers: tuple[str, ...] = ()
    """The mixers that the rules know; empty: all."""
    settings: tuple[tuple[str, Value], ...] = ()
    """What the publisher's code fixes and no tensor shows, as (path, value) in the spec's language. A path into
    `block` is meant for every block; `*` stands for the name of any choice."""
    where: tuple[tuple[str, tuple[str, Value]], ...] = ()
    """Settings that are implied only where a pattern fits a name of the checkpoint: (pattern, (path, value)). With `!`
    before the pattern: only where it fits none."""
    oblong: tuple[tuple[str, Value], ...] = ()
    """Settings that are implied only where the image is not square. With `?` behind the path: by a key that need not
    be written as well."""
    recomputed: tuple[str, ...] = ()
    """Last parts of the names of buffers that follow from the sizes; they are not read."""
    unused: tuple[str, ...] = ()
    """Patterns of names that this net has no use for; that they are left out is said."""
    with_head: tuple[str, ...] = ()
    """Patterns of names that belong to the classifier: left out with it where it starts fresh."""
    positions: tuple[tuple[str, Resampling], ...] = ()
    """How position tables of another resolution are resampled, by the `init` of the network; that of "" is the rest."""
    nets: tuple[Publisher, ...] = ()
    """What the same file is to other nets."""

    def fits(self, names: Iterable[str]) -> bool:
        """Whether these are names of this publisher."""
        names = list(names)
        return all(_any(pattern, names) for pattern in self.needs) and not any(
            _any(pattern, names) for pattern in self.lacks
        )

    def settled(self, names: Iterable[str]) -> Publisher:
        """This publisher with what the names of one checkpoint imply among its settings."""
        names = list(names)
        more = tuple(
            setting
            for pattern, setting in self.where
            if _any(pattern.removeprefix("!"), names) != pattern.startswith("!")
        )
        others = tuple(other.settled(names) for other in self.nets)
        return replace(self, settings=self.settings + more, where=(), nets=others)

    def into(self, net: str) -> Publisher:
        """What a file of this publisher is to a net of the language."""
        return next((other for other in self.nets if other.net == net), self)

    def resampling(self, plan: Plan) -> Resampling | None:
        """How this publisher resamples the position tables of such a network; None where it does not."""
        ways = dict(self.positions)
        return ways.get(plan.init, ways.get(""))

    def rules_for(self, plan: Plan) -> Rules:
        """The rules for a network of this plan."""
        return self.rules(plan) if callable(self.rules) else self.rules


def linear(tensor: Tensor) -> Tensor:
    """A 1 x 1 convolution (O, I, 1, 1) as the linear layer (O, I)."""
    return tensor.flatten(1) if tensor.ndim == 4 and tensor.shape[2:] == (1, 1) else tensor


def map_to_tokens(tensor: Tensor) -> Tensor:
    """A map (1, C, H, W) as tokens (1, H W, C)."""
    return tensor.flatten(2).transpose(1, 2) if tensor.ndim == 4 else tensor


def fits_any(patterns: Iterable[str], name: str) -> bool:
    """Whether one of the patterns fits a name."""
    return any(_compiled(pattern).fullmatch(name) for pattern in patterns)


def _any(pattern: str, names: list[str]) -> bool:
    return any(_compiled(pattern).fullmatch(name) for name in names)


def _rewrite(name: str, source: str, target: str) -> str | None:
    found = _compiled(source).fullmatch(name)
    if found is None:
        return None
    parts = found.groupdict()
    return re.sub(r"\{(\w+)\}|\*", lambda slot: parts[slot[1] or "rest"], target)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", pattern.replace("*", "{rest}"))
    for index, piece in enumerate(pieces):
        if index % 2 == 0:
            pieces[index] = re.escape(piece)
        else:
            pieces[index] = "(?P<rest>.+)" if piece == "rest" else INTEGER.format(piece)
    return re.compile("".join(pieces))
