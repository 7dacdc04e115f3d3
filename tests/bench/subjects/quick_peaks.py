"""What a worker imports first in tests: peaks that no tiny network reaches, without the seconds that they take."""

from metablocks.bench import peaks


def _peaks(device: str, dtypes: tuple[str, ...]) -> dict[str, float]:  # noqa: ARG001
    found = {f"peak_flops_per_s_{dtype.removeprefix('amp_')}": 1e15 for dtype in dtypes}
    return found | {"peak_copy_bytes_per_s": 1e12}


peaks.peaks = _peaks  # type: ignore[assignment]
