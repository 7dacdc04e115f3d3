"""One cell of a bench: a subject under one set of conditions. Plain data, so that it travels to a worker as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from metablocks.bench.subject import Subject


@dataclass(frozen=True)
class Case:
    """`seconds` of timed rounds for throughput and again for latency; after `limit_s` the worker is stopped."""

    subject: Subject
    mode: str = "infer"
    batch: int = 8
    dtype: str = "float32"
    device: str = "cpu"
    compile: str = "none"
    seconds: float = 3.0
    limit_s: float = 900.0

    @property
    def label(self) -> str:
        return f"{self.subject.name}, compile {self.compile}"


def dump(case: Case) -> str:
    """The case as one line of JSON."""
    return json.dumps(asdict(case))


def load(text: str) -> Case:
    """The case that `dump` wrote."""
    data = json.loads(text)
    subject = data.pop("subject")
    lists = {key: tuple(subject[key]) for key in ("edits", "mixers")}
    return Case(Subject(**(subject | lists)), **data)
