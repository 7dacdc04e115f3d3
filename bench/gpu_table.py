"""The rows that a GPU fills, what each is to reach, and the table of what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from metablocks.bench.compare import Row as Compared
from metablocks.bench.compare import compare_pair
from metablocks.bench.record import Record
from metablocks.bench.turns import pairs
from metablocks.cli.common import print_table as print_columns
from metablocks.core import units

TINY = """net: classifier
image: {size: 32}
classes: 10
stem: {patch_embed: {patch: 8}}
block: {norm: layer_norm, mixer: {attention: {heads: 2}}, mlp: {ratio: 2}}
stages: [{dim: 32, depth: 2}]
head: {pool: mean}
"""
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Goal:
    """Ratios to the base: `reach` is asked for, `aim` hoped for; `memory` is the most of the base's peak."""

    reach: float
    aim: float
    memory: float = 1.0


@dataclass(frozen=True)
class Row:
    """A network and what it is measured against, with its goals by mode and by how the base is compiled."""

    name: str
    spec: str
    against: str
    goals: Mapping[tuple[str, str], Goal]
    originals: tuple[str, ...] = ()
    """Functions in files, in the place of `against`."""

    @property
    def masked(self) -> bool:
        return any(mode == "pretrain" for mode, _ in self.goals)

    @property
    def steps(self) -> list[Step]:
        return [Step(self, mode) for mode in dict.fromkeys(mode for mode, _ in self.goals)]


@dataclass(frozen=True)
class Step:
    """A row in one mode: what one call measures."""

    row: Row
    mode: str

    @property
    def name(self) -> str:
        return f"{self.row.name}/{self.mode}"

    @property
    def bases(self) -> list[tuple[str, str]]:
        """Each base and how it is compiled; none where there is no original."""
        sources = self.row.originals or ((self.row.against,) if self.row.against else ())
        return [(source, how) for source in sources for mode, how in self.row.goals if mode == self.mode]


def _both(infer: tuple[float, float], train: tuple[float, float], memory: float = 1.0) -> dict[tuple[str, str], Goal]:
    """Reach and aim of inference and of training, against the compiled base."""
    return {("infer", "block"): Goal(*infer), ("train", "block"): Goal(*train, memory)}


NETWORKS = (
    Row("vit_b16", "vit_b16", "timm:vit_base_patch16_224", _both((1.08, 1.15), (1.05, 1.11))),
    Row("vit_s16", "vit_s16", "timm:vit_small_patch16_224", _both((1.15, 1.3), (1.1, 1.23))),
    Row("mixer_b16", "mixer_b16", "timm:mixer_b16_224", _both((1.25, 1.5), (1.15, 1.34))),
    Row("swin_t", "swin_t", "timm:swin_tiny_patch4_window7_224", _both((1.6, 2.2), (1.35, 1.7), 0.6)),
    Row("swin_b", "swin_b", "timm:swin_base_patch4_window7_224", _both((1.5, 1.85), (1.3, 1.54), 0.6)),
    Row("swinv2_t_w8", "swinv2_t_w8", "timm:swinv2_tiny_window8_256", _both((1.7, 2.3), (1.4, 1.8), 0.6)),
    Row("poolformer_s12", "poolformer_s12", "timm:poolformer_s12", _both((2.0, 3.2), (1.5, 2.1))),
    Row("caformer_s18", "caformer_s18", "timm:caformer_s18", _both((1.4, 1.9), (1.2, 1.45))),
    Row(
        "mae_vit_b16",
        "mae_vit_b16",
        "",
        {("pretrain", "block"): Goal(1.15, 1.31), ("pretrain", "none"): Goal(1.7, 2.1)},
    ),
)
SMALL = Row("small", TINY, TINY.replace("ratio: 2", "ratio: 4"), _both((1.0, 1.0), (1.0, 1.0)))

COLUMNS = (
    "network",
    "mode",
    "images/s",
    "base",
    "images/s",
    "ratio",
    "interval",
    "reach",
    "aim",
    "memory",
    "at most",
)
Cells = tuple[str, ...]


def print_table(rows: Sequence[Row], records: Sequence[Record], checks: Sequence[Mapping[str, object]]) -> None:
    """Every row with its goals beside what was measured last, and on what that was."""
    told = list(cells(rows, records))
    print_columns(COLUMNS, told, "llrlrrrrrrr")
    print()
    for line in notes(records, checks):
        print(line)


def cells(rows: Sequence[Row], records: Sequence[Record]) -> Iterator[Cells]:
    """The rows of the table."""
    measured = pairs(records)
    for row in rows:
        for (mode, how), goal in row.goals.items():
            found = [pair for pair in measured if _is(pair, row, mode, how)]
            goals = f"{goal.reach:g}", f"{goal.aim:g}"
            if not found:
                name = "compiled" if how == "block" else "eager"
                yield row.name, mode, "", name, "", NOT_MEASURED, "", *goals, "", f"{goal.memory:g}"
                continue
            yield _measured(row, mode, goal, compare_pair(*found[-1]))


def _is(pair: tuple[Record, Record], row: Row, mode: str, how: str) -> bool:
    """Whether a pair is of a row: by our spec and mode, and by how the base is compiled."""
    base, other = pair
    ours = (row.spec if "\n" not in row.spec else "text", mode, "block")
    return (other.name, other.mode, other.compile) == ours and (base.compile == "none") == (how == "none")


def _measured(row: Row, mode: str, goal: Goal, found: Compared) -> Cells:
    seen, base, ours = found.comparison, found.base, found.other
    assert base.figures is not None
    assert ours.figures is not None
    bounds = f"{seen.low:.2f} to {seen.high:.2f}" if seen and seen.low is not None and seen.high is not None else ""
    memory = "" if found.memory_ratio is None else f"{found.memory_ratio:.2f}"
    return (
        row.name,
        mode,
        units.rate(ours.figures.images_per_s),
        f"{base.name}, {base.compile}" if "\n" not in row.spec else base.compile,
        units.rate(base.figures.images_per_s),
        f"{seen.ratio:.2f}" if seen else "",
        bounds,
        f"{goal.reach:g}",
        f"{goal.aim:g}",
        memory,
        f"{goal.memory:g}",
    )


def notes(records: Sequence[Record], checks: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """On what the rows were measured, what the device reached beside them, and how the checks ended."""
    devices: dict[str, list[Record]] = {}
    for record in records:
        devices.setdefault(str(record.environment.get("device_name", record.device)), []).append(record)
    for name, own in devices.items():
        said = (f"{one.dtype}, batch {one.batch}, torch {one.environment.get('torch', '?')}" for one in own)
        yield f"{name}: {'; '.join(dict.fromkeys(said))}; intervals of 95 %"
        best = {key: max(one.peaks.get(key, 0.0) for one in own) for one in own for key in one.peaks}
        yield from (f"  {key.replace('_', ' ')}: {units.short(value)}" for key, value in best.items())
    last = {str(one["check"]): one for one in checks}
    for name, one in last.items():
        yield f"check of {name} on {one['device_name']}: {'passed' if one['passed'] else 'FAILED'}: {one['told']}"
    if "tests" not in last:
        yield "the tests for a GPU have not run"
