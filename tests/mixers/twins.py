"""Slow, readable twins of the mixers: loops over what the paper's formula names. Tokens (B, N, C) to (B, N, C)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def identity(mixer, x: Tensor, grid) -> Tensor:
    return x


def pooling(mixer, x: Tensor, grid) -> Tensor:
    """The mean over the tokens of the window that lie on the grid, minus the token."""
    image, reach = x.unflatten(1, (grid.height, grid.width)), mixer.sizes.window // 2
    out = torch.empty_like(image)
    for row in range(grid.height):
        for column in range(grid.width):
            rows = slice(max(0, row - reach), row + reach + 1)
            columns = slice(max(0, column - reach), column + reach + 1)
            out[:, row, column] = image[:, rows, columns].mean((1, 2)) - image[:, row, column]
    return out.flatten(1, 2)


def spatial_mlp(mixer, x: Tensor, grid) -> Tensor:
    """Transpose, an MLP over the last axis, transpose back."""
    y = x.transpose(1, 2)
    if mixer.sizes.hidden is None:
        return F.linear(y, mixer.fc.weight, mixer.fc.bias).transpose(1, 2)
    y = mixer.activation(F.linear(y, mixer.fc1.weight, mixer.fc1.bias))
    return F.linear(y, mixer.fc2.weight, mixer.fc2.bias).transpose(1, 2)


def separable_conv(mixer, x: Tensor, grid) -> Tensor:
    """Widen, activate, sum what the kernel reaches channel by channel, narrow."""
    wide = mixer.activation(mixer.fc1(x)).unflatten(1, (grid.height, grid.width))
    reach, kernel = mixer.sizes.kernel // 2, mixer.depthwise.weight[:, 0]
    out = torch.zeros_like(wide)
    for row in range(grid.height):
        for column in range(grid.width):
            for down in range(max(-reach, -row), min(reach + 1, grid.height - row)):
                for right in range(max(-reach, -column), min(reach + 1, grid.width - column)):
                    out[:, row, column] += wide[:, row + down, column + right] * kernel[:, reach + down, reach + right]
    if mixer.depthwise.bias is not None:
        out = out + mixer.depthwise.bias
    return mixer.fc2(out.flatten(1, 2))


def random_mixing(mixer, x: Tensor, grid) -> Tensor:
    """Each token the sum of all, by its row of the matrix."""
    rows = [(mixer.matrix[token, :, None] * x).sum(1) for token in range(grid.tokens)]
    return torch.stack(rows, 1)


def attention(mixer, x: Tensor, grid) -> Tensor:
    """softmax(q k^T scale) v, one head after another."""
    query, key, value = mixer.qkv(x).chunk(3, -1)
    heads = []
    for head in range(mixer.sizes.heads):
        own = slice(head * mixer.sizes.head_dim, (head + 1) * mixer.sizes.head_dim)
        scores = query[..., own] @ key[..., own].transpose(1, 2) * mixer.sizes.scale
        heads.append(scores.softmax(-1) @ value[..., own])
    return mixer.proj(torch.cat(heads, -1))


def window_attention(mixer, x: Tensor, grid) -> Tensor:
    """Every window by itself: which tokens it holds after the shift, and which of them were neighbours before."""
    return _in_windows(mixer, x, _attend)


def _in_windows(mixer, x: Tensor, attend) -> Tensor:
    sizes = mixer.sizes
    (height, width), (down, right) = sizes.window, sizes.shift
    image = x.unflatten(1, sizes.grid)
    out = torch.empty_like(image)
    for top in range(0, math.ceil(sizes.grid[0] / height) * height, height):
        for left in range(0, math.ceil(sizes.grid[1] / width) * width, width):
            places = [(top + row, left + column) for row in range(height) for column in range(width)]
            tokens = torch.stack([_token(image, place, sizes) for place in places], 1)
            mixed = attend(mixer, tokens, places)
            for index, (row, column) in enumerate(places):
                if row < sizes.grid[0] and column < sizes.grid[1]:
                    out[:, (row + down) % sizes.grid[0], (column + right) % sizes.grid[1]] = mixed[:, index]
    return mixer.proj(out.flatten(1, 2))


def _token(image: Tensor, place: tuple[int, int], sizes) -> Tensor:
    """The token at a place of the shifted map; zeros where the map is padded."""
    if place[0] >= sizes.grid[0] or place[1] >= sizes.grid[1]:
        return torch.zeros_like(image[:, 0, 0])
    return image[:, (place[0] + sizes.shift[0]) % sizes.grid[0], (place[1] + sizes.shift[1]) % sizes.grid[1]]


def _attend(mixer, tokens: Tensor, places: list[tuple[int, int]]) -> Tensor:
    sizes = mixer.sizes
    query, key, value = (part.unflatten(-1, (sizes.heads, -1)) for part in mixer.qkv(tokens).chunk(3, -1))
    out = torch.zeros_like(query)
    for head in range(sizes.heads):
        scores = query[:, :, head] @ key[:, :, head].transpose(1, 2) * sizes.scale
        bias = torch.stack([torch.stack([_bias(mixer, a, b, head) for b in places]) for a in places])
        out[:, :, head] = (scores + bias).softmax(-1) @ value[:, :, head]
    return out.flatten(2)


def _bias(mixer, query: tuple[int, int], key: tuple[int, int], head: int) -> Tensor:
    """The table's entry for the offset query minus key, and -100 for two regions that the shift brought together."""
    height, width = mixer.sizes.window
    row = (query[0] - key[0] + height - 1) * (2 * width - 1) + query[1] - key[1] + width - 1
    return mixer.bias_table[row, head] - (100.0 if _apart(mixer.sizes, query, key) else 0.0)


def _apart(sizes, query: tuple[int, int], key: tuple[int, int]) -> bool:
    return any(_region(sizes, query, axis) != _region(sizes, key, axis) for axis in (0, 1))


def _region(sizes, place: tuple[int, int], axis: int) -> bool:
    """Whether a place lies past the seam: in the last `shift` rows or columns of the padded map."""
    padded = sizes.grid[axis] + sizes.padding[axis]
    return sizes.shift[axis] > 0 and place[axis] >= padded - sizes.shift[axis]


def cosine_window_attention(mixer, x: Tensor, grid) -> Tensor:
    """As plain windows, with the score of Swin V2's equation 3 for each pair of tokens."""
    return _in_windows(mixer, x, _attend_by_cosine)


def _attend_by_cosine(mixer, tokens: Tensor, places: list[tuple[int, int]]) -> Tensor:
    sizes = mixer.sizes
    query, key, value = (tokens @ weight.T for weight in mixer.qkv.weight.chunk(3))
    if sizes.qkv_bias:
        query, value = query + mixer.q_bias, value + mixer.v_bias
    query, key, value = (part.unflatten(-1, (sizes.heads, -1)) for part in (query, key, value))
    out = torch.zeros_like(query)
    for head in range(sizes.heads):
        cosine = F.cosine_similarity(query[:, :, None, head], key[:, None, :, head], dim=-1)
        temperature = max(1 / math.exp(mixer.logit_scale[head].item()), 0.01)
        bias = torch.stack([torch.stack([_continuous(mixer, a, b, head) for b in places]) for a in places])
        out[:, :, head] = (cosine / temperature + bias).softmax(-1) @ value[:, :, head]
    return out.flatten(2)


def _continuous(mixer, query: tuple[int, int], key: tuple[int, int], head: int) -> Tensor:
    """16 sigmoid of the network on the log-spaced offset, and -100 for regions that the shift brought together."""
    far = []
    for axis in (0, 1):
        # the original has these in fp32 in a float64 run, too
        offset = torch.tensor(float(query[axis] - key[axis])) / max(mixer.sizes.pretrained_window[axis] - 1, 1) * 8
        far.append(offset.sign() * torch.log2(offset.abs() + 1) / math.log2(8))
    made = mixer.bias_net(torch.stack(far).to(mixer.qkv.weight.dtype))[head]
    return 16 * made.sigmoid() - (100.0 if _apart(mixer.sizes, query, key) else 0.0)


def window_mlp(mixer, x: Tensor, grid) -> Tensor:
    """The map in a frame of zeros, cut into windows; each head of a window is multiplied by its matrix."""
    sizes = mixer.sizes
    (height, width), (rows, columns) = sizes.window, sizes.grid
    top, left = (side - step if step else 0 for side, step in zip(sizes.window, sizes.shift, strict=True))
    framed = F.pad(x.unflatten(1, sizes.grid), (0, 0, left, width, top, height))
    out = torch.zeros_like(framed)
    for row in range(0, top + rows, height):
        for column in range(0, left + columns, width):
            window = framed[:, row : row + height, column : column + width].flatten(1, 2)
            heads = window.unflatten(-1, (sizes.heads, -1)).unbind(2)
            mixed = torch.stack([mixer.weight[index] @ head for index, head in enumerate(heads)], 2)
            if sizes.bias:
                mixed = mixed + mixer.bias.unflatten(0, (sizes.heads, -1)).T[None, :, :, None]
            out[:, row : row + height, column : column + width] = mixed.flatten(2).unflatten(1, (height, width))
    return out[:, top : top + rows, left : left + columns].flatten(1, 2)
