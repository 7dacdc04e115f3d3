"""Hypothesis strategies for small networks, as plain data: `json.dumps` makes a spec of them.

Every network that is drawn is valid: grids are made from the last stage back to the image, so that all things tile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Data = dict[str, Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]

NORMS = [
    "layer_norm",
    {"layer_norm": {"eps": 1e-6, "bias": False}},
    "group_norm",
    {"group_norm": {"groups": 2}},
    {"batch_norm": {"affine": False, "eps": 1e-6}},
    "none",
]
norms = st.sampled_from(NORMS)
sides = st.integers(1, 3)
rates = st.sampled_from([0, 0.1, 0.5])


def _divisors(whole: int) -> list[int]:
    return [size for size in range(1, whole + 1) if whole % size == 0]


@st.composite
def attentions(draw: Draw, dim: int) -> Data:
    """Keys that all attention has."""
    size = draw(st.sampled_from(_divisors(dim)))
    return {
        **draw(st.sampled_from([{"head_dim": size}, {"heads": size}])),
        **draw(st.fixed_dictionaries({}, optional={"qkv_bias": st.booleans(), "proj_bias": st.booleans()})),
    }


@st.composite
def windows(draw: Draw, grid: tuple[int, int]) -> Data:
    """Windows that tile the grid, or are padded; any shift that is smaller than they are."""
    pad = draw(st.booleans())
    if pad:
        window = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    else:
        window = tuple(
            draw(st.sampled_from([side for side in range(1, size + 1) if size % side == 0])) for size in grid
        )
    shift = draw(st.sampled_from(["half", 0, [window[0] - 1, window[1] // 2]]))
    cut = {"cut": draw(st.sampled_from(["axis", "square"]))} if pad else {}  # a square need not tile the grid
    return {"window": list(window), "pad": pad, "shift": shift if shift != 0 else [0, 0], **cut}


@st.composite
def mixers(draw: Draw, dim: int, grid: tuple[int, int], plain: bool = False) -> Any:
    """A token mixer for a stage; a `plain` one can do with dropped patches and prefix tokens."""
    windowed = ["window_attention", "cosine_window_attention", "window_mlp"]
    whole = [*windowed, "pooling", "spatial_mlp", "random_mixing", "separable_conv"]
    names = ["attention", "identity"] + ([] if plain else whole)
    name = draw(st.sampled_from(names))
    if name == "attention":
        return {name: draw(attentions(dim))}
    if name == "separable_conv":
        return {
            name: draw(st.sampled_from([{}, {"kernel": 3, "hidden": 5}, {"ratio": 1, "activation": "squared_relu"}]))
        }
    if name == "window_attention":
        return {name: draw(attentions(dim)) | draw(windows(grid))}
    if name == "cosine_window_attention":
        trained = draw(st.sampled_from([{}, {"pretrained_window": 5}]))
        return {name: draw(attentions(dim)) | draw(windows(grid)) | trained}
    if name == "window_mlp":
        size = draw(st.sampled_from(_divisors(dim)))
        return {name: {"head_dim": size, "bias": draw(st.booleans())} | draw(windows(grid))}
    if name == "pooling":
        return {name: {"window": draw(st.sampled_from([1, 3]))}}
    if name == "spatial_mlp":
        return {name: draw(st.sampled_from([{"layers": 1}, {"hidden": 5}, {"ratio": 0.5, "activation": "relu"}]))}
    return name


@st.composite
def rows(draw: Draw, dim: int, grid: tuple[int, int], plain: bool = False) -> Data:
    """A stage with all of its keys written out; a list of mixers tiles its depth."""
    depth = draw(st.integers(1, 4))
    count = draw(st.sampled_from(_divisors(depth)))
    listed = [draw(mixers(dim, grid, plain)) for _ in range(count)]
    optional = {
        "order": st.sampled_from(["pre", "post"]),
        "layer_scale": st.sampled_from([1e-5, "none"]),
        "res_scale": st.sampled_from([1, "none"]),
        "dropout": rates,
    }
    return {
        "dim": dim,
        "depth": depth,
        "norm": draw(norms),
        "mixer": listed[0] if count == 1 else listed,
        "mlp": draw(
            st.sampled_from(
                [{"ratio": 2}, {"hidden": 7, "bias": False}, {"ratio": 1, "activation": "star_relu"}, "none"]
            )
        ),
        **draw(st.fixed_dictionaries({}, optional=optional)),
    }


def _step(stem: Data) -> tuple[int, int]:
    """Pixels from one token to the next, by the settings of a stem."""
    step = stem.get("patch") or stem["stride"]
    stride = 4 << max(0, len(stem["depths"]) - 1) if "depths" in stem else 1
    return step[0] * stride, step[1] * stride


@st.composite
def stems(draw: Draw) -> tuple[Data, tuple[int, int]]:
    """A stem and its step, pixels."""
    step = draw(st.tuples(sides, sides))
    kind = draw(st.sampled_from(["patch_embed", "conv_embed", "resnet_v2"]))
    if kind == "resnet_v2":
        depths = draw(st.sampled_from([[], [1], [2, 1]]))
        stem = {"depths": depths, "width": 4, "patch": [1, step[1]], "norm": draw(norms)}
        return {kind: stem}, _step(stem)
    if kind == "patch_embed":
        return {"patch_embed": {"patch": list(step), "norm": draw(norms)}}, step
    padding = [draw(st.integers(0, 1)) for _ in step]
    kernel = [size + 2 * pad for size, pad in zip(step, padding, strict=True)]  # one token a step
    return {"conv_embed": {"kernel": kernel, "stride": list(step), "padding": padding, "norm": draw(norms)}}, step


DOWNSAMPLES = [
    "patch_merging",
    {"conv": {"kernel": 3, "stride": 2, "padding": 1}},
    {"conv": {"kernel": 2, "stride": 2}},
]


@st.composite
def stacks(draw: Draw, plain: bool = False) -> tuple[Data, tuple[int, int]]:
    """A stem with stages, and the size of the image that they take."""
    count = 1 if plain else draw(st.integers(1, 3))
    last = draw(st.tuples(sides, sides))
    dims = [draw(st.sampled_from([4, 8, 12])) for _ in range(count)]
    grids = [(last[0] << power, last[1] << power) for power in reversed(range(count))]
    stem, step = draw(stems())
    prefix = draw(st.sampled_from([[], ["class"], ["class", {"registers": {"count": 2}}]])) if plain else []
    stack = {
        "stem": stem,
        "prefix": prefix,
        "position": draw(st.sampled_from(["none", "learned", "sincos_2d"])),
        "downsample": draw(st.sampled_from(DOWNSAMPLES)),
        "stages": [draw(rows(dim, grid, plain)) for dim, grid in zip(dims, grids, strict=True)],
    }
    return stack, (grids[0][0] * step[0], grids[0][1] * step[1])


@st.composite
def classifiers(draw: Draw) -> Data:
    """The data of a classifier."""
    stack, image = draw(stacks(plain=draw(st.booleans())))
    pools = ["mean", "class"] if "class" in stack["prefix"] else ["mean"]
    head = {"norm": draw(norms), "pool": draw(st.sampled_from(pools)), "pool_norm": draw(norms)}
    hidden = {"mlp": {"ratio": 2, "activation": "squared_relu", "norm": "layer_norm"}}
    head |= draw(st.sampled_from([{}, {"representation": 6}, hidden]))
    return {
        "net": "classifier",
        "image": {"size": list(image), "channels": draw(sides)},
        **stack,
        "drop_path": draw(st.sampled_from([0, 0.3, {"rate": 0.3, "ramp": "none"}])),
        **draw(st.sampled_from([{"classes": 5, "head": head}, {"head": "none"}])),
    }


@st.composite
def masked_autoencoders(draw: Draw) -> Data:
    """The data of a masked autoencoder: dropped patches with plain mixers, replaced ones with any."""
    drops = draw(st.booleans())
    stack, image = draw(stacks(plain=drops))
    steps = 2 ** (len(stack["stages"]) - 1)
    (stem,) = stack["stem"].values()
    step = _step(stem)
    patch = step[0] * steps, step[1] * steps
    grid = image[0] // patch[0], image[1] // patch[1]
    while grid[0] * grid[1] < 2:  # one patch cannot be masked and seen
        image = image[0] * 2, image[1]
        grid = grid[0] * 2, grid[1]
    decoder = draw(rows(8, grid, plain=bool(stack["prefix"])))
    mask = {"ratio": 0.5, "tokens": "drop" if drops else "replace"}
    squares = patch[0] == patch[1] and grid[0] % 2 == grid[1] % 2 == 0 and grid[0] * grid[1] > 4
    if squares and not drops and draw(st.booleans()):
        mask["unit"] = 2 * patch[0]
    return {
        "net": "masked_autoencoder",
        "image": {"size": list(image), "channels": draw(sides)},
        "mask": mask,
        "encoder": stack | {"norm": draw(norms)},
        "decoder": {"position": draw(st.sampled_from(["none", "sincos_2d", "learned"])), "stages": [decoder]},
        "target": {"pixels": {"normalize": draw(st.sampled_from(["patch", "none"]))}},
    }


networks = st.one_of(classifiers(), masked_autoencoders())
"""A whole spec, as the data that YAML holds."""
