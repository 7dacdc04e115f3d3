"""A norm of one group before a mixer that takes its statistics: in a graph the mixer runs on the map as it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from metablocks import mixers
from metablocks.core.grid import Grid
from metablocks.parts.block import Branch, Residual
from metablocks.parts.norm import GroupNorm, TokenGroupNorm

GRID = Grid(5, 7)


def branch(**norm) -> Branch:
    found = mixers.find("pooling")
    sizes = found.settings.model_validate({"window": 3}).resolve(8, GRID)
    residual = Residual(8, GroupNorm.model_validate(norm), "pre", 0.5, None, 0.0, False)
    made = Branch(residual, found.module(sizes))
    made.reset_parameters()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return made


def tokens(dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return (3 + torch.randn(2, GRID.tokens, 8, generator=generator, dtype=torch.float64)).to(dtype)


def compiled(module: nn.Module):
    torch._dynamo.reset()
    return torch.compile(module, fullgraph=True, backend="aot_eager")


@pytest.mark.parametrize("norm", [{}, {"bias": False}, {"eps": 0.1}, {"groups": 2}], ids=str)
def test_output_and_gradients_are_those_of_the_normed_map(norm):
    module, found = branch(**norm).double(), []
    for run in (module, compiled(module)):
        x = tokens().requires_grad_()
        made = run(x, GRID)
        gradients = torch.autograd.grad(made, [x, *module.parameters()], torch.linspace(-1, 1, 8).double().expand_as(x))
        found.append([made, *gradients])
    torch.testing.assert_close(found[1], found[0], atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_as_exact_as_with_the_normed_map(dtype):
    module = branch()
    goal = module.double()(tokens(), GRID)
    module = module.to(dtype)
    usual, found = ((run(tokens(dtype), GRID) - goal).abs().max() for run in (module, compiled(module)))
    assert found <= 1.5 * usual
    assert compiled(module)(tokens(dtype), GRID).dtype == dtype


def test_no_map_is_normed_in_a_graph(monkeypatch):
    module, normed = branch(), []
    monkeypatch.setattr(TokenGroupNorm, "forward", lambda self, x: normed.append(self) or x)
    compiled(module)(tokens(torch.float32), GRID)
    assert not normed
    module(tokens(torch.float32), GRID)
    assert normed


@pytest.mark.parametrize("part", ["norm", "op"])
def test_a_hook_sees_its_module_run(part):
    module, seen = branch(), []
    getattr(module, part).register_forward_hook(lambda *_: seen.append(part))
    torch._dynamo.reset()
    torch.compile(module, backend="eager")(tokens(torch.float32), GRID)
    assert seen == [part]


def test_statistics_are_those_of_an_image():
    norm = TokenGroupNorm(8, GroupNorm.model_validate({"eps": 0.1}))
    mean, inverse = norm.statistics(tokens())
    torch.testing.assert_close(mean, tokens().mean((1, 2)))
    torch.testing.assert_close(inverse, (tokens().var((1, 2), correction=0) + 0.1).rsqrt())
    assert norm.statistics(tokens(torch.bfloat16))[0].dtype == torch.float32
