"""The public function."""

from __future__ import annotations

import metablocks
from metablocks.spec import read

from .conftest import TINY


def test_measure_takes_a_path_or_a_spec_and_returns_a_record() -> None:
    record = metablocks.measure(read(TINY, {"classes": 7}), mode="infer", batch=1)
    assert record.status == "ok", record.reason
    assert (record.name, record.spec["classes"], record.edits) == ("tiny", 7, ("classes=7",))
    assert record.figures is not None
