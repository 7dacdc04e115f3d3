"""Modules of other authors, counted by hand: nothing is hidden in a fused operation, what is unknown is named."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metablocks.costs import Cost
from metablocks.costs.run import FREE, count_module


class Function(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def counted(module, *shapes):
    """The cost of a module, or of a function, for inputs of these shapes."""
    net = module if isinstance(module, nn.Module) else Function(module)
    return count_module(net.to("meta").eval(), [torch.empty(shape, device="meta") for shape in shapes])


def test_a_convolutional_network_is_counted_with_its_groups_and_without_its_norms():
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.ConvTranspose2d(8, 3, 2, stride=2),
        nn.Flatten(),
        nn.Linear(3 * 36, 5),
    )
    net[1].requires_grad_(False)
    convolved, transposed, linear = 8 * 36, 3 * 36, 5
    macs = convolved * 2 * 9 + 8 * 9 * 3 * 4 + 3 * 36 * 5
    params = (8 * 2 * 9 + 8) + 16 + (8 * 3 * 4 + 3) + (3 * 36 * 5 + 5)
    assert counted(net, (1, 4, 8, 8)) == Cost(params, 16, macs, convolved + transposed + linear)


@pytest.mark.parametrize("weights", [True, False], ids=["written out", "fused"])
def test_multi_head_attention_counts_its_scores_as_activations_only_where_they_are_written_out(weights):
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    cost = counted(
        lambda x: attention.to("meta").eval()(x, x, x, need_weights=weights),
        (1, 8, 16),
    )
    scores = 2 * 8 * 8
    assert cost.macs == 4 * 8 * 16 * 16 + 2 * scores * 8
    assert cost.activations == 5 * 8 * 16 + (scores if weights else 0)


def test_the_fast_path_of_a_transformer_layer_hides_nothing():
    attention, mlp = 4 * 8 * 16 * 16 + 2 * (2 * 8 * 8) * 8, 2 * 8 * 16 * 32
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    expected = Cost(sum(p.numel() for p in layer.parameters()), 0, attention + mlp, 8 * 16 * 5 + 8 * (32 + 16))
    assert count_module(layer, [torch.randn(1, 8, 16)]) == expected
    assert counted(layer, (1, 8, 16)) == expected
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_recurrent_layer_is_counted_step_by_step():
    steps, width, hidden = 3, 4, 5
    cost = counted(nn.LSTM(width, hidden, batch_first=True), (1, steps, width))
    assert cost.macs == steps * (4 * hidden * width + 4 * hidden * hidden)


@pytest.mark.parametrize(
    ("function", "shapes", "macs"),
    [
        (torch.matmul, [(2, 3), (3,)], 6),
        (torch.matmul, [(3,), (3,)], 3),
        (torch.matmul, [(2, 3), (6, 3, 4)], 6 * 2 * 3 * 4),
        (torch.addmv, [(2,), (2, 3), (3,)], 6),
        (torch.addbmm, [(2, 5), (4, 2, 3), (4, 3, 5)], 4 * 2 * 3 * 5),
        (torch.baddbmm, [(4, 2, 5), (4, 2, 3), (4, 3, 5)], 4 * 2 * 3 * 5),
        (lambda a, b: torch.einsum("bhid,bhjd->bhij", a, b), [(1, 2, 3, 4), (1, 2, 5, 4)], 2 * 3 * 5 * 4),
        (lambda a, b: torch.einsum("bi,bj->bij", a, b), [(2, 3), (2, 4)], 0),
    ],
)
def test_products_of_every_form_are_counted(function, shapes, macs):
    assert counted(function, *shapes).macs == macs


def test_grouped_queries_are_counted_for_every_head_of_the_queries():
    cost = counted(lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True), (1, 4, 6, 8), (1, 2, 7, 8))
    assert cost.macs == 4 * 6 * 7 * (8 + 8)
    assert cost.activations == 4 * 6 * 8


def test_outputs_may_be_tuples_and_mappings():
    layer = nn.Linear(3, 4)
    net = Function(lambda x: {"first": (layer.to("meta")(x), None), "second": [layer(x)]})
    assert counted(net, (1, 3)).macs == 2 * 12


def test_a_parameter_that_is_used_twice_is_one_parameter_and_two_products():
    layer = nn.Linear(4, 4)
    cost = counted(nn.Sequential(layer, nn.GELU(), layer), (1, 4))
    assert (cost.params, cost.macs, cost.activations) == (20, 32, 8)


@pytest.mark.parametrize(
    ("function", "shapes", "name"),
    [
        (lambda x: torch.fft.fft(x).real, [(1, 8)], "aten::_fft_r2c"),
        (torch.linalg.inv, [(4, 4)], "aten::linalg_inv_ex"),
        (torch.cdist, [(1, 3, 4), (1, 5, 4)], "aten::_cdist_forward"),
        (nn.Bilinear(3, 4, 5), [(1, 3), (1, 4)], "aten::_trilinear"),
        (lambda x, y: F.grid_sample(x, y, align_corners=False), [(1, 3, 4, 4), (1, 2, 2, 2)], "aten::grid_sampler_2d"),
    ],
)
def test_what_nobody_has_a_formula_for_is_named(function, shapes, name):
    cost = counted(function, *shapes)
    assert name in cost.unknown
    assert cost.macs is None
    assert cost.activations is None


def test_an_operation_of_another_author_is_named():
    with torch.library._scoped_library("metablocks_test", "DEF") as library:
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: 2 * x, "Meta")
        assert counted(torch.ops.metablocks_test.twice, (1, 8)).unknown == ("metablocks_test::twice",)


def test_what_is_free_is_an_operation_of_torch():
    assert [name for name in FREE if not (hasattr(torch.ops.aten, name) or hasattr(torch.ops.aten, f"{name}_"))] == []


def test_nothing_that_torch_counts_is_free():
    from torch.utils.flop_counter import flop_registry

    assert FREE.isdisjoint(operation.__name__ for operation in flop_registry)
