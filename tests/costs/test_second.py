"""The second counter: equal to the first to the integer, and as honest about what it does not know."""

from __future__ import annotations

import builtins
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metablocks.core.errors import MissingError
from metablocks.costs.run import count_module
from metablocks.costs.second import count_again


class Function(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def both(module, *shapes):
    """The first count on the meta device and the second on the CPU."""
    net = (module if isinstance(module, nn.Module) else Function(module)).eval()
    second = count_again(net, [torch.randn(shape) for shape in shapes])
    return count_module(net.to("meta"), [torch.empty(shape, device="meta") for shape in shapes]), second


def test_the_two_counters_agree_on_one_network_of_each_family(family, network, inputs_of):
    assert count_again(network, inputs_of(family)) == family.costs.total


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (F.scaled_dot_product_attention, [(1, 4, 6, 8), (1, 4, 7, 8), (1, 4, 7, 9)]),
        (lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True), [(1, 4, 6, 8), (1, 2, 7, 8)]),
        (torch.baddbmm, [(4, 2, 5), (4, 2, 3), (4, 3, 5)]),
        (torch.addmv, [(2,), (2, 3), (3,)]),
        (torch.mv, [(2, 3), (3,)]),
        (torch.matmul, [(2, 3), (6, 3, 4)]),
        (torch.matmul, [(6, 2, 3), (3,)]),
        (torch.matmul, [(3,), (3, 7)]),
        (torch.matmul, [(3,), (3,)]),
        (lambda a, b: torch.einsum("bhid,bhjd->bhij", a, b), [(1, 2, 300, 41), (1, 2, 517, 41)]),
        (lambda a, b: torch.einsum("bik,kjl->ij", a, b), [(2, 3, 4), (4, 5, 6)]),
        (lambda a, b: torch.einsum("bi, bj -> bij", a, b), [(2, 3), (2, 4)]),
        (lambda a: torch.einsum("bij->bji", a), [(2, 3, 4)]),
        (nn.Conv2d(4, 6, 3, groups=2, dilation=2), [(1, 4, 9, 9)]),
        (nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), [(1, 4, 5, 5)]),
        (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), [(1, 8, 16)]),
        (nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(2), nn.Upsample(scale_factor=2)), [(1, 3, 8, 8)]),
    ],
)
def test_the_two_counters_agree_on_what_fvcore_misses_or_counts_otherwise(function, shapes):
    first, second = both(function, *shapes)
    assert first == second
    assert first.unknown == ()


@pytest.mark.parametrize(
    ("function", "shapes", "name"),
    [
        (lambda x: torch.fft.fft(x).real, [(1, 8)], "aten::fft_fft"),
        (nn.LSTM(4, 5), [(3, 1, 4)], "aten::lstm"),
        (torch.cdist, [(1, 3, 4), (1, 5, 4)], "aten::cdist"),
        (lambda a, b, c: torch.einsum("ij,jk,kl->il", a, b, c), [(2, 3), (3, 4), (4, 5)], "aten::einsum"),
        (lambda a, b: torch.einsum("...ij,...jk->...ik", a, b), [(2, 3, 4), (2, 4, 5)], "aten::einsum"),
    ],
)
def test_what_the_second_counter_does_not_know_is_named_and_never_zero(function, shapes, name):
    second = both(function, *shapes)[1]
    assert second.unknown == (name,)
    assert second.macs is None
    assert second.activations is None


def test_an_operation_of_another_author_is_named_by_the_second_counter_too():
    with torch.library._scoped_library("metablocks_test", "DEF") as library:
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: 2 * x, "CompositeExplicitAutograd")
        assert both(torch.ops.metablocks_test.twice, (1, 8))[1].unknown == ("metablocks_test::twice",)


def test_without_fvcore_the_help_is_the_command_that_installs_it(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "fvcore":
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    for name in [name for name in sys.modules if name.partition(".")[0] == "fvcore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingError) as told:
        count_again(nn.Linear(2, 2), [torch.randn(1, 2)])
    assert told.value.help == "pip install fvcore"
