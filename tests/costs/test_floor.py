"""The floor: passes over a block that anyone can count by hand, and what is free."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metablocks.costs.floor import floor, floor_of
from metablocks.plan import plan
from metablocks.spec import read

# millions of elements an image, worked out by hand from the shapes of each layer, rounded
BY_HAND = {
    "vit_b16": 47.8,
    "vit_s16": 24.0,
    "mixer_b16": 40.0,
    "swin_t": 40.1,
    "swinv2_t_w8": 51.0,
    "poolformer_s12": 14.3,
    "caformer_s18": 41.0,
}
VIT = """
net: classifier
image: {size: 32}
stem: {patch_embed: {patch: 8}}
block: {norm: layer_norm, mlp: {ratio: 4}, mixer: %s}
stages: [{dim: 24, depth: %d}]
head: none
"""
PASS = 16 * 24  # tokens x channels


class Net(nn.Module):
    """A function of (1, 16, 24) and two linear layers."""

    def __init__(self, function) -> None:
        super().__init__()
        self.first, self.second, self.function = nn.Linear(24, 24), nn.Linear(24, 24), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def passes(function) -> float:
    """Passes over tokens x channels that a function needs."""
    with torch.device("meta"):
        return floor_of(Net(function), [torch.empty(1, 16, 24)]) / PASS


@pytest.mark.parametrize("name", BY_HAND)
def test_the_floor_is_what_was_worked_out_by_hand(name: str) -> None:
    assert floor(plan(read(name))) / 1e6 == pytest.approx(BY_HAND[name], rel=0.03)


@pytest.mark.parametrize(
    ("mixer", "expected"),
    [
        ("{attention: {head_dim: 8}}", 26),  # norm 2, qkv 4, attention 4, projection 3, norm 2, MLP 5 + 6
        ("{window_attention: {window: 2, head_dim: 8}}", 26),
        ("{window_attention: {window: 2, head_dim: 8, shift: half}}", 26),
        ("identity", 15),  # the residual is added by the kernel of the norm, which has read it
        ("pooling", 18),  # norm 2, pooling 3 with the residual, norm 2, MLP 5 + 6
    ],
)
def test_a_block_needs_its_passes_and_no_more(mixer: str, expected: int) -> None:
    one, three = (floor(plan(read(VIT % (mixer, depth)))) for depth in (1, 3))
    assert (three - one) / PASS == 2 * expected


def test_a_pooling_block_with_group_norm_needs_two_passes_before_its_mlp() -> None:
    text = VIT.replace("layer_norm, mlp", "{group_norm: {groups: 1}}, mlp")
    one, three = (floor(plan(read(text % ("pooling", depth)))) for depth in (1, 3))
    assert (three - one) / PASS == 2 * 13


def test_what_moves_elements_or_changes_each_by_itself_is_free() -> None:
    plain = passes(lambda net, x: net.second(net.first(x)))
    assert plain == 4
    assert plain == passes(lambda net, x: net.second(F.gelu(net.first(x) * 2 + 1)))
    assert plain == passes(lambda net, x: net.second(net.first(x.roll(3, 1).flip(2)).reshape(4, 4, 24).unsqueeze(0)))
    assert plain == passes(lambda net, x: net.second(F.group_norm(net.first(x).transpose(1, 2), 1).transpose(1, 2)))


def test_a_residual_is_read_once_more_and_a_layer_norm_is_two_passes() -> None:
    assert passes(lambda net, x: net.second(net.first(x)) + x) == 5
    assert passes(lambda net, x: net.second(F.layer_norm(net.first(x), (24,)))) == 6


def test_the_scores_of_an_attention_that_is_written_out_do_not_move() -> None:
    def attend(net: Net, x: Tensor) -> Tensor:
        y = net.first(x)
        return net.second((y @ y.transpose(1, 2) * 0.5).softmax(-1) @ y)

    assert passes(attend) == 2 + 2 + 2


def test_a_part_of_a_value_is_read_alone() -> None:
    assert passes(lambda net, x: net.second(net.first(x)[:, :1])) == 1 + 1 / 16 + 2 / 16


@pytest.fixture
def operation() -> Iterator[str]:
    library = torch.library.Library("floors", "DEF")
    library.define("mix(Tensor x, Tensor weight) -> Tensor")
    library.impl("mix", lambda x, weight: torch.empty_like(x), "Meta")  # noqa: ARG005
    yield "mix"
    library._destroy()


def test_an_operation_that_is_not_of_torch_begins_a_kernel(operation: str) -> None:
    mix = getattr(torch.ops.floors, operation)
    assert passes(lambda net, x: net.second(mix(net.first(x), net.first.weight))) == 6
