"""What the headline networks move on the path that a build for CUDA takes: near the floor, in few kernels."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import pytest

from metablocks.bench.case import Case
from metablocks.bench.subject import subject
from metablocks.bench.traffic import count, traffic

SPECS = Path(__file__).parents[2] / "specs"
# million elements an image, and kernels of a graph: of a block, of what stands between stages, of stem and head
MOVED = {
    "vit_b16": (52, 7),
    "mixer_b16": (44, 7),
    "swin_t": (36, 7),
    "swinv2_t_w8": (56, 7),
    "caformer_s18": (36, 7),
    "poolformer_s12": (11, 4),
}
# the floor has a read and a write at each product: a kernel for all of a narrow channel MLP spans two
BELOW = {"swin_t", "caformer_s18", "poolformer_s12"}
KEPT = {"vit_b16": 19, "swin_t": 12, "swinv2_t_w8": 20, "poolformer_s12": 5}


@pytest.fixture
def graphs(monkeypatch):
    """How many kernels each graph has that is run."""
    seen = []

    class Seen(count.Tally):
        @contextmanager
        def call(self, kernels):
            seen.append(len(kernels))
            with super().call(kernels):
                yield

    monkeypatch.setattr(count, "Tally", Seen)
    return seen


def counted(name: str, mode: str):
    found = traffic(Case(subject(str(SPECS / f"{name}.yaml")), mode=mode, compile="block", dtype="bfloat16"))
    assert found.moved is not None, found.failed
    return found


@pytest.mark.parametrize("name", MOVED)
def test_a_headline_network_moves_little_more_than_its_floor_in_few_kernels(name, graphs):
    found = counted(name, "infer")
    elements, kernels = MOVED[name]
    assert found.moved.elements <= elements * 1e6
    low, high = (0.6, 1) if name in BELOW else (1, 1.1)
    assert low <= found.ratio < high
    assert len(graphs) >= 2 * found.blocks  # compiled, and counted
    assert max(graphs) <= kernels


@pytest.mark.parametrize("name", KEPT)
def test_training_keeps_few_activations(name):
    assert counted(name, "train").moved.saved_elements <= KEPT[name] * 1e6
