"""The help of a fault: how the size came about, and other values that were tried and let the whole net fit."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from collections.abc import Sequence as List
from functools import cache
from itertools import islice
from typing import Any

from pydantic import ValidationError

from metablocks.core.grid import Grid
from metablocks.core.mixer import GridMisfit, Misfit
from metablocks.core.settings import MAX_SIZE, Settings
from metablocks.core.text import listed, side
from metablocks.parts.stem import PatchEmbed, Stem
from metablocks.plan.ledger import Complaint, Use, key_holder, stacks
from metablocks.spec.grammar import Classifier, MaskedAutoencoder, Net
from metablocks.spec.tree import Path

SHOWN = 3
OPTIONS = 16
REACH = 64  # sizes of the image that are tried in each direction, in tokens of the stem
BLOCKS = 20_000  # planned in all trials together, half a second


class Trials:
    """Other nets in place of `net`, planned to see which complaints are gone, and that no new one has come."""

    def __init__(self, net: Net, complaints: List[Complaint], causes: Callable[[Net], set[Hashable]]) -> None:
        self.net = net
        self._causes = cache(causes)  # several complaints try the same sizes of the image
        self._told = {complaint.cause for complaint in complaints}
        self._of_grid = {complaint.cause for complaint in complaints if isinstance(complaint.misfit, GridMisfit)}
        self._left = BLOCKS // sum(stage.depth for _, stack in stacks(net) for stage in stack.stages)

    def heals(self, complaint: Complaint, option: tuple[str, Any]) -> bool:
        """Whether an option makes up for one complaint."""
        use, key = complaint.use, complaint.misfit.key
        other = _with(self.net, use, key, option) if use and key else None
        return other is not None and self._leaves(other, self._told - {complaint.cause})

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Sizes of the image that make up for all complaints about grids, nearest first."""
        return (size for size in _sizes(self.net) if self._leaves(_sized(self.net, size), self._told - self._of_grid))

    def _leaves(self, other: Net, allowed: set[Hashable]) -> bool:
        self._left -= 1
        return self._left > 0 and self._causes(other) <= allowed


def help_for(complaint: Complaint, trials: Trials) -> str:
    """What to do about a complaint."""
    misfit, use, net = complaint.misfit, complaint.use, trials.net
    if use is None:
        return misfit.help
    key = misfit.key or ""
    options = [option for option in misfit.options[:OPTIONS] if trials.heals(complaint, option)]
    values = [f"{value:g}" for name, value in options if name == key][:SHOWN]
    ways = [f"{key} {listed(values, 'or')}{_everywhere(net, misfit, use)}"] if values else []
    how = ""
    if isinstance(misfit, GridMisfit):
        how = _arithmetic(net, use.grid) if use.grid else ""
        ways += [f"an image of {side(size)} px" for size in islice(trials.sizes(), 1)]
    ways += [f"`{name}: {str(value).lower()}`" for name, value in options if name != key]
    return "; ".join(filter(None, [how, misfit.help, f"use {_joined(ways)}" if ways else ""]))


def _everywhere(net: Net, misfit: Misfit, use: Use) -> str:
    """`, which tiles every stage`, where more than one is meant."""
    stages = sum(len(stack.stages) for _, stack in stacks(net))
    return f", which {misfit.so}" if stages > 1 and use.owner[: len(use.stage)] != use.stage else ""


def _joined(ways: list[str]) -> str:
    """`a, b, or c`: the ways hold commas themselves."""
    if len(ways) < 3 and not any("," in way for way in ways):
        return " or ".join(ways)
    return ", ".join([*ways[:-1], f"or {ways[-1]}"]) if len(ways) > 1 else ways[0]


def _stem(net: Net) -> Stem:
    assert isinstance(net, Classifier | MaskedAutoencoder)
    return net.stem if isinstance(net, Classifier) else net.encoder.stem


def _arithmetic(net: Net, grid: Grid) -> str:
    """`288 px / patch 4 = 72`."""
    image, stem = net.image.size, _stem(net)
    steps = image[0] // grid.height, image[1] // grid.width
    if (steps[0] * grid.height, steps[1] * grid.width) != image:
        return ""
    what = "patch " if isinstance(stem, PatchEmbed) and stem.patch == steps else ""
    return f"{side(image)} px / {what}{side(steps)} = {side((grid.height, grid.width))}"


def _sizes(net: Net) -> Iterator[tuple[int, int]]:
    """Other sizes of the image, nearest first, one axis at a time; last the nearest square."""
    image, step = net.image.size, _stem(net).step
    axes = [list(islice(_near(length, stride), 2 * REACH)) for length, stride in zip(image, step, strict=True)]
    if image[0] != image[1]:
        yield from (size for pair in zip(*axes, strict=False) for size in ((pair[0], image[1]), (image[0], pair[1])))
    yield from ((length, length) for length in axes[0])


def _near(length: int, step: int) -> Iterator[int]:
    """Multiples of `step`, nearest to `length` first."""
    below, above = length - length % step, length - length % step + step
    for _ in range(REACH):
        pair = [size for size in (below, above) if 0 < size <= MAX_SIZE and size != length]
        yield from sorted(pair, key=lambda size: (abs(size - length), size))
        below, above = below - step, above + step


def _sized(net: Net, size: tuple[int, int]) -> Net:
    return net.model_copy(update={"image": net.image.model_copy(update={"size": size})})


def _with(net: Net, use: Use, key: str, option: tuple[str, Any]) -> Net | None:
    """The net with an option in place of the value of `key`, in a list of mixers wherever that value stands."""
    spoilt = getattr(use.settings, key)

    def change(settings: Any) -> Any:
        if isinstance(settings, tuple):
            return tuple(map(change, settings))
        if type(settings) is not type(use.settings) or getattr(settings, key) != spoilt:
            return settings
        written = {name: getattr(settings, name) for name in settings.model_fields_set}
        return type(settings).model_validate({**written, option[0]: option[1]})

    try:
        return _changed(net, key_holder(use.owner), change)
    except ValidationError:
        return None


def _changed(settings: Any, path: Path, change: Callable[[Any], Any]) -> Any:
    """`settings` with what stands at `path` changed."""
    if not path:
        return change(settings)
    step, *rest = path
    if isinstance(step, int):
        return tuple(_changed(item, tuple(rest), change) if at == step else item for at, item in enumerate(settings))
    assert isinstance(settings, Settings)
    return settings.model_copy(update={step: _changed(getattr(settings, step), tuple(rest), change)})
