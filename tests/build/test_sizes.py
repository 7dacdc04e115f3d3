"""A network that was built for one size of image takes others where its mixers can, and says why not."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import metablocks as mb

HIERARCHY = """
net: classifier
image: {size: 32}
classes: 10
stem: {conv_embed: {kernel: 7, stride: 4, padding: 2}}
downsample: {conv: {kernel: 3, stride: 2, padding: 1}}
block: {norm: layer_norm, mixer: [pooling, {attention: {heads: 2}}], mlp: {ratio: 2}}
stages: [{dim: 16, depth: 2}, {dim: 32, depth: 2}]
head: {pool: mean}
"""
PLAIN = """
net: classifier
image: {size: 32}
classes: 10
stem: {patch_embed: {patch: 4}}
prefix: [class]
position: learned
block: {norm: layer_norm, mixer: {attention: {heads: 2}}, mlp: {ratio: 2}}
stages: [{dim: 16, depth: 2}]
head: {pool: class}
"""
WINDOWS = """
net: classifier
image: {size: 32}
classes: 10
stem: {patch_embed: {patch: 2}}
downsample: {patch_merging: {pad: true}}
block: {norm: layer_norm, mixer: [MIXER, SHIFTED], mlp: {ratio: 2}}
stages: [{dim: 16, depth: 2}, {dim: 32, depth: 2}]
head: {pool: mean}
"""


def windows(name: str, keys: str = "window: 3, heads: 2, pad: true") -> str:
    plain, shifted = f"{{{name}: {{{keys}}}}}", f"{{{name}: {{{keys}, shift: half}}}}"
    return WINDOWS.replace("MIXER", plain).replace("SHIFTED", shifted)


SIZES = [(40, 64), (64, 36), (48, 48), (128, 96)]
# torch 2.11 makes another graph where the height alone is that of the plan, and where neither side is in training
MANY_SIZES = [(32, 32), (52, 32), (32, 52), *SIZES, (36, 100), (44, 68), (24, 24), (68, 72), (72, 80), (96, 40)]
WINDOWED = [windows(name) for name in ("window_attention", "cosine_window_attention", "window_mlp")]
UNCUT = [HIERARCHY, PLAIN, PLAIN.replace("learned", "sincos_2d")]
every_net = pytest.mark.parametrize("text", [*UNCUT, *WINDOWED])


class Counting:
    """A compiler that counts the graphs that it is given."""

    graphs = 0

    def __call__(self, graph, _):
        self.graphs += 1
        return graph


def fresh(text: str, **how):
    torch.manual_seed(0)
    return mb.build(text, **how)


@every_net
def test_another_size_is_as_built_for_it(text):
    model = fresh(text)
    for height, width in SIZES:
        images = torch.randn(2, 3, height, width)
        other = mb.build(text, set={"image.size": [height, width]})
        own = {name: value for name, value in model.state_dict().items() if "position" not in name}
        other.load_state_dict(own, strict=False)
        if "learned" in text:
            position = model.encoder.embedding.position
            rows = position.at(position.table[:, 1:], (height // 4, width // 4))
            table = torch.cat([position.table[:, :1], rows], 1)
            other.load_state_dict({"encoder.embedding.position.table": table}, strict=False)
        with torch.no_grad():
            assert torch.allclose(model(images), other(images), atol=1e-6)
            assert torch.allclose(model.features(images), other.features(images), atol=1e-5)


@pytest.mark.parametrize(
    ("text", "compile"),  # windows by block are trained below
    [(text, compile) for compile in ("block", "model") for text in [*UNCUT, *(WINDOWED if compile == "model" else ())]],
)
def test_dynamic_graphs_are_not_compiled_again_for_each_size(text, compile):
    torch._dynamo.reset()
    counting = Counting()
    eager, model = fresh(text), fresh(text, compile=compile, backend=counting, dynamic=True)
    graphs = []
    with torch.inference_mode():
        for height, width in MANY_SIZES:
            images = torch.randn(2, 3, height, width)
            assert torch.allclose(model(images), eager(images), atol=1e-5)
            graphs.append(counting.graphs)
    assert (
        graphs[2] == graphs[-1]
    )  # sizes that are not square and of which one side is planned are the last to cost one


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("window_attention", "reference"),
        ("window_attention", "fused"),
        ("cosine_window_attention", "reference"),
        ("cosine_window_attention", "fused"),
        ("window_mlp", "reference"),
    ],
)
def test_dynamic_graphs_of_windows_train_on_many_sizes(name, kernels):
    torch._dynamo.reset()
    compiler = CompileCounterWithBackend("aot_eager")
    text = windows(name).replace(", {dim: 32, depth: 2}", "")
    eager, model = fresh(text), fresh(text, compile="block", backend=compiler, dynamic=True, kernels=kernels)
    graphs = []
    for height, width in MANY_SIZES:
        images = torch.randn(2, 3, height, width)
        for network in (eager, model):
            network.zero_grad()
            network(images).square().sum().backward()
        for (parameter, own), other in zip(model.named_parameters(), eager.parameters(), strict=True):
            torch.testing.assert_close(own.grad, other.grad, msg=lambda told, at=parameter: f"{at}: {told}")
        graphs.append(compiler.frame_count)
    last = 2 if torch.__version__ >= "2.13" else 3
    assert graphs[0] < graphs[last] == graphs[-1]


def test_a_grid_that_cuts_the_window_has_graphs_of_its_own_and_no_size_of_it_another():
    torch._dynamo.reset()
    counting = Counting()
    text = windows("window_attention", "window: 5, heads: 2, pad: true").replace(", {dim: 32, depth: 2}", "")
    eager, model = fresh(text), fresh(text, compile="block", backend=counting, dynamic=True)
    graphs = []
    with torch.inference_mode():
        for height, width in [(32, 32), (40, 64), (4, 8), (6, 4), (8, 6), (8, 8), (40, 8), (60, 4), (64, 36)]:
            images = torch.randn(2, 3, height, width)
            assert torch.allclose(model(images), eager(images), atol=1e-5)
            graphs.append(counting.graphs)
    assert graphs[1] < graphs[2] == graphs[5] < graphs[6] == graphs[8]


def test_what_has_weights_for_its_tokens_says_so():
    model = mb.build(PLAIN, set={"stages.0.mixer": "spatial_mlp"})
    with pytest.raises(mb.InputError) as caught:
        model(torch.randn(1, 3, 64, 32))
    told = "stages.0: spatial_mlp has weights for 65 tokens and cannot mix 129"
    assert f"images of 64 x 32 px, where this network was built for 32: {told}" in str(caught.value)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("compile", ["none", "block", "model"])
@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((1, 3, 33, 32), ("a patch of 4 does not tile an image of 33 x 32 px", "build it with image.size set")),
        ((1, 1, 32, 32), ("images of 1 channels, where this network takes 3", "set image.channels")),
        (
            (3, 32, 32),
            ("images of 3 x 32 x 32, where this network takes B x 3 x H x W", "images[None] is a batch of one"),
        ),
    ],
)
def test_images_that_do_not_fit_are_refused_in_words_whether_compiled_or_not(shape, told, compile, dynamic):
    torch._dynamo.reset()
    model = mb.build(PLAIN, compile=compile, backend="eager", dynamic=dynamic)
    with pytest.raises(mb.InputError) as caught:
        model(torch.randn(shape))
    where = "images of 33 x 32 px, where this network was built for 32: stem: " if "patch" in told[0] else ""
    assert str(caught.value) == f"error: {where}{told[0]}\nhelp: {told[1]}"


def test_a_pyramid_is_made_of_the_nearest_maps():
    images = torch.randn(2, 3, 64, 96)
    plain = mb.build(PLAIN, set={"stem.patch_embed.patch": 16, "image.size": [64, 96]})
    assert [tuple(found.shape) for found in plain.feature_maps(images, strides=(4, 8, 16, 32))] == [
        (2, 16, 16, 24),
        (2, 16, 8, 12),
        (2, 16, 4, 6),
        (2, 16, 2, 3),
    ]
    hierarchy = fresh(HIERARCHY)
    own, asked = hierarchy.feature_maps(images), hierarchy.feature_maps(images, strides=(4, 8, 16))
    assert torch.equal(own[0], asked[0])
    assert torch.equal(own[1], asked[1])
    assert torch.allclose(asked[2], torch.nn.functional.avg_pool2d(own[1], 2), atol=1e-6)


@pytest.mark.parametrize("name", ["window_attention", "cosine_window_attention"])
def test_a_window_is_cut_by_a_smaller_grid_as_if_built_for_it(name):
    text = windows(name, "window: 4, heads: 2")
    model = fresh(text)
    other = mb.build(text, set={"image.size": [16, 8], **trained(name)})  # windows of 4 x 4 and 4 x 2
    tables = {"bias_table", "offsets"}
    own = {key: value for key, value in model.state_dict().items() if key.rpartition(".")[2] not in tables}
    other.load_state_dict(own, strict=False)
    for ours, theirs in zip(model.encoder.stages[1].blocks, other.encoder.stages[1].blocks, strict=True):
        if name == "window_attention":  # of a 4 x 2 window, whose offsets are 7 x 3 of 7 x 7
            cut = ours.mixer.op.bias_table.detach().view(7, 7, 2)[:, 2:5].reshape(21, 2)
            theirs.mixer.op.bias_table.data.copy_(cut)
    for ours, theirs in zip(model.encoder.stages[0].blocks, other.encoder.stages[0].blocks, strict=True):
        if name == "window_attention":
            theirs.mixer.op.bias_table.data.copy_(ours.mixer.op.bias_table.data)
    images = torch.randn(2, 3, 16, 8)
    with torch.no_grad():
        assert torch.allclose(model(images), other(images), atol=1e-5)


def trained(name: str) -> dict[str, object]:
    """What keeps the offsets of Swin V2 those of the window that was planned."""
    keys = {"window": 4, "heads": 2, "pretrained_window": 4}
    return {"block.mixer": [{name: keys}, {name: keys | {"shift": "half"}}]} if name.startswith("cosine") else {}


@pytest.mark.parametrize(
    ("text", "size", "told"),
    [
        (windows("window_attention", "window: 4, heads: 2"), (40, 36), "a window of 4 does not tile a 20 x 18 grid"),
        (
            windows("window_mlp", "window: 4, heads: 2"),
            (4, 4),
            "window_mlp has weights for a window of 4, which is cut",
        ),
        (windows("window_attention", "window: 20, heads: 2"), (40, 40), "there are weights for a window of 16, and on"),
    ],
)
@pytest.mark.parametrize("compile", ["none", "model"])
def test_windows_that_do_not_fit_are_told(text, size, told, compile):
    with pytest.raises(mb.InputError, match=told):
        mb.build(text, compile=compile, backend="eager", dynamic=True)(torch.randn(1, 3, *size))
