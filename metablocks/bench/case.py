"""One cell of a bench: a subject under one set of conditions. Plain data, so that it travels to a worker as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from metablocks.bench.subject import Subject

KERNELS = ("fused", "reference")
MODES = ("infer", "train", "pretrain")
COMPILES = ("none", "block", "model")
DTYPES = ("float32", "bfloat16", "float16", "float64", "amp_bfloat16", "amp_float16")
"""`amp_...`: weights in float32, autocast to the other; else weights and images are of the dtype."""


@dataclass(frozen=True)
class Case:
    """`seconds` of timed rounds in each of `processes` workers, and as many for latency; each may take `limit_s`.

    `checkpoint`: activation checkpointing of every block, or the share of activations that compiled graphs keep for
    the backward pass. `kernels`: the path of a spec, see `metablocks.kernels`; None for networks of someone else.
    `modules` are imported by the worker before the subject.
    """

    subject: Subject
    mode: str = "infer"
    batch: int = 8
    dtype: str = "float32"
    device: str = "cpu"
    compile: str = "none"
    channels_last: bool = False
    checkpoint: bool | float = False
    kernels: str | None = None
    seconds: float = 3.0
    processes: int = 3
    limit_s: float = 900.0
    memory_limit_bytes: int | None = None
    modules: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.subject.name}, {self.compile}"

    @property
    def weights_dtype(self) -> str:
        """The dtype of the weights and of the images."""
        return "float32" if self.amp else self.dtype

    @property
    def amp(self) -> str | None:
        """The dtype that autocast casts to, or None."""
        return self.dtype.removeprefix("amp_") if self.dtype.startswith("amp_") else None


def dump(case: Case) -> str:
    """The case as one line of JSON."""
    return json.dumps(asdict(case))


def load(text: str) -> Case:
    """The case that `dump` wrote."""
    data = _frozen(json.loads(text))
    subject = Subject(**_frozen(data.pop("subject")))
    return Case(subject, **data)


def _frozen(data: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
