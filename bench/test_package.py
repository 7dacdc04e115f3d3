"""What the package itself costs: reading, planning, building, counting, its records, one block of each mixer.

pytest bench/ --benchmark-autosave --benchmark-compare
"""

from __future__ import annotations

import pytest
import torch

from metablocks import mixers
from metablocks.bench import store
from metablocks.build import build
from metablocks.costs import count
from metablocks.plan import plan
from metablocks.spec import read

SPECS = ("swin_t", "vit_b16", "mae_vit_b16")
RESULTS = "bench/results/headline_cpu.jsonl"
WINDOW = "{window: 7, head_dim: 32, shift: half}"
SETTINGS = {
    "attention": "{head_dim: 32}",
    "window_attention": WINDOW,
    "cosine_window_attention": WINDOW,
    "window_mlp": WINDOW,
}
BATCH = 8

every_spec = pytest.mark.parametrize("name", SPECS)


@every_spec
def test_read(benchmark, name):
    benchmark(read, name)


@every_spec
def test_plan(benchmark, name):
    spec = read(name)
    benchmark(plan, spec)


@every_spec
def test_build(synchronised, name, device):
    planned = plan(read(name))
    synchronised(lambda: build(planned, device=device))


@every_spec
@pytest.mark.parametrize("known", [False, True], ids=["first", "remembered"])
def test_count(benchmark, name, known, monkeypatch, tmp_path):
    planned = plan(read(name))
    monkeypatch.setenv("METABLOCKS_CACHE", str(tmp_path / "cache") if known else "/dev/null")
    count(planned)
    benchmark(count, planned)


def test_read_results(benchmark, pytestconfig):
    path = pytestconfig.rootpath / RESULTS
    benchmark(store.read, path)


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "with_backward"])
@pytest.mark.parametrize("mixer", mixers.names())
def test_block(synchronised, mixer, backward, device):
    """Swin-T's third stage, 196 tokens of 384 channels, with that mixer in it."""
    edits = [f"stages.2.mixer={{{mixer}: {SETTINGS.get(mixer, '{}')}}}"]
    model = build(plan(read("swin_t", edits)), device=device)
    block = model.encoder.stages[2].blocks[0].train(backward)
    tokens = torch.randn(BATCH, 196, 384, device=device, requires_grad=backward)

    def step():
        with torch.set_grad_enabled(backward):
            out = block(tokens)
            if backward:
                out.sum().backward()

    synchronised(step)
