"""What every mixer must do, over all names there are. A new mixer file is tested by being there."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from metablocks import mixers
from metablocks.core.grid import Grid
from metablocks.core.mixer import Misfit

DIM = 16
GRID = Grid(6, 4)
OTHER = Grid(12, 8)
GUESSES = ({}, {"head_dim": 8}, {"window": 3}, {"window": 2, "head_dim": 8})
MORE = [
    ("attention", {"heads": 4, "qkv_bias": False, "scale": 0.3}),
    ("window_attention", {"window": [3, 2], "heads": 2, "shift": "half"}),
    ("window_attention", {"window": 2, "heads": 2, "shift": [1, 1]}),
    ("window_attention", {"window": 4, "heads": 2, "shift": "half", "pad": True, "proj_bias": False}),
    ("window_attention", {"window": 12, "heads": 2, "shift": "half"}),
    ("window_attention", {"window": 5, "heads": 2, "shift": "half", "cut": "square", "pad": True}),
    ("cosine_window_attention", {"window": [3, 2], "heads": 2, "shift": "half", "pretrained_window": 5}),
    ("cosine_window_attention", {"window": 4, "heads": 2, "shift": "half", "pad": True, "qkv_bias": False}),
    ("cosine_window_attention", {"window": [3, 1], "head_dim": 8, "shift": [1, 0], "proj_bias": False}),
    ("cosine_window_attention", {"window": 12, "heads": 2, "shift": "half"}),
    ("window_mlp", {"window": [3, 2], "heads": 2, "shift": "half"}),
    ("window_mlp", {"window": 4, "heads": 4, "shift": [1, 3], "pad": True, "bias": False}),
    ("window_mlp", {"window": [6, 2], "heads": 2, "shift": "half", "cut": "axis"}),
    ("pooling", {"window": 5}),
    ("spatial_mlp", {"layers": 1, "bias": False}),
    ("spatial_mlp", {"hidden": 5, "activation": "gelu_tanh"}),
    ("attention", {"head_dim": 8, "width": 24}),
    ("separable_conv", {"kernel": 3, "hidden": 5, "bias": True, "activation": "gelu"}),
]


def _twins():
    spec = importlib.util.spec_from_file_location("twins", Path(__file__).with_name("twins.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TWINS = _twins()


def _guess(name: str) -> dict[str, object]:
    """The first of a few usual settings that a mixer takes."""
    for guess in GUESSES:
        try:
            mixers.find(name).settings.model_validate(guess).resolve(DIM, GRID)
        except (ValidationError, Misfit):
            continue
        return guess
    raise AssertionError(f"no usual settings fit mixer {name}: add some to GUESSES")


CASES = [(name, _guess(name)) for name in mixers.names()] + MORE
every_mixer = pytest.mark.parametrize(("name", "settings"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])


def build(name, settings, grid=GRID, dtype=torch.float32):
    found = mixers.find(name)
    torch.manual_seed(0)
    mixer = found.module(found.settings.model_validate(settings).resolve(DIM, grid))
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return mixer.to(dtype)


def tokens(grid=GRID, batch=2, dtype=torch.float32):
    return torch.randn(batch, grid.tokens, DIM, generator=torch.Generator().manual_seed(1)).to(dtype)


@every_mixer
def test_tokens_keep_their_shape(name, settings):
    assert build(name, settings)(tokens(), GRID).shape == (2, GRID.tokens, DIM)


@every_mixer
def test_images_of_a_batch_do_not_see_each_other(name, settings):
    mixer, x = build(name, settings), tokens()
    torch.testing.assert_close(mixer(x, GRID)[1:], mixer(x[1:], GRID), atol=1e-5, rtol=1e-5)


@every_mixer
def test_every_parameter_gets_a_gradient(name, settings):
    mixer = build(name, settings)
    (mixer(tokens().requires_grad_(), GRID) * tokens(batch=1).flip(1)).sum().backward()
    trained = [(n, p.grad) for n, p in mixer.named_parameters() if p.requires_grad]
    assert [n for n, grad in trained if grad is None or not grad.abs().sum() > 0] == []


@every_mixer
def test_it_compiles_to_one_graph_without_breaks(name, settings):
    mixer, x = build(name, settings), tokens()
    compiled = torch.compile(mixer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, GRID), mixer(x, GRID), atol=1e-5, rtol=1e-5)
    torch._dynamo.reset()


class _OnGrid(torch.nn.Module):
    def __init__(self, mixer):
        super().__init__()
        self.mixer = mixer

    def forward(self, x):
        return self.mixer(x, GRID)


@every_mixer
def test_it_exports(name, settings):
    module, x = _OnGrid(build(name, settings).eval()), tokens()
    with torch.no_grad():
        torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), module(x), atol=1e-5, rtol=1e-5)


@every_mixer
def test_another_resolution_is_another_grid(name, settings):
    assert build(name, settings, OTHER)(tokens(OTHER), OTHER).shape == (2, OTHER.tokens, DIM)


@every_mixer
def test_bfloat16_stays_close_to_float32(name, settings):
    exact, x = build(name, settings)(tokens(), GRID), tokens(dtype=torch.bfloat16)
    rough = build(name, settings, dtype=torch.bfloat16)(x, GRID).float()
    assert (rough - exact).abs().max() <= 0.05 * exact.abs().max()


@every_mixer
def test_it_equals_its_readable_twin(name, settings):
    mixer, x = build(name, settings, dtype=torch.float64), tokens(dtype=torch.float64)
    torch.testing.assert_close(mixer(x, GRID), getattr(TWINS, name)(mixer, x, GRID), atol=1e-12, rtol=1e-9)
