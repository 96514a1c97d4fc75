"""Exercises of lesson 03: self-attention over the pixels of an image, written by hand."""

import math

import torch
from torch import Tensor

from aacn_lib.exercises.attention_by_hand import (
    merge_by_column,
    merge_by_reshape,
    merge_head_minor,
    merge_heads,
    merge_pixels_first,
    merge_swapped_sizes,
    multi_head_attention,
    split_by_column,
    split_by_reshape,
    split_head_minor,
    split_heads,
    split_no_transpose,
    split_pixels_first,
    variant,
)
from aacn_lib.exercises.grading import free_exercise, function_exercise, primes
from aacn_lib.exercises.place_blindness import check_ignores_places

# --- 03.attention_weights ---


def attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """(B, heads, N, d) twice → (B, heads, N, N): softmax over the keys of q · k / √d."""
    return (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)


def _weights(q: Tensor, k: Tensor, scale: float, dim: int = -1) -> Tensor:
    return (q @ k.transpose(-1, -2) * scale).softmax(dim=dim)


def _draw_queries_and_keys(generator: torch.Generator) -> list[tuple]:
    cases = []
    for _ in range(4):
        B, heads, N, d = primes(generator, 4, 2, 11)
        q, k = (1.5 * torch.randn(B, heads, N, d, generator=generator) for _ in "qk")
        cases.append((q, k))
    return cases


function_exercise(
    "03.attention_weights",
    attention_weights,
    _draw_queries_and_keys,
    mistakes={
        "the scale is missing: divide by the square root of the depth of one head, before the softmax": (
            lambda q, k: _weights(q, k, 1)
        ),
        "the softmax runs over the queries: each *query* shares out a weight of 1 among the keys, so it is the rows "
        "that sum to 1": lambda q, k: _weights(q, k, q.shape[-1] ** -0.5, dim=-2),
        "it divides by the depth itself, not by its square root": lambda q, k: _weights(q, k, 1 / q.shape[-1]),
        "the scale uses the depth of all heads together: each head is scaled by its own depth": lambda q, k: _weights(
            q, k, (q.shape[1] * q.shape[-1]) ** -0.5
        ),
        "it multiplies by the square root of the depth instead of dividing": lambda q, k: _weights(
            q, k, q.shape[-1] ** 0.5
        ),
        "the scale comes after the softmax: the rows no longer sum to 1": lambda q, k: (
            _weights(q, k, 1) / q.shape[-1] ** 0.5
        ),
        "queries and keys are swapped: rows belong to queries, columns to keys": lambda q, k: attention_weights(k, q),
        "these are the logits: the softmax is missing": lambda q, k: q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]),
        "the scale uses the number of pixels, not the depth of a head": lambda q, k: _weights(q, k, q.shape[2] ** -0.5),
        "the softmax runs over the heads: it belongs on the last axis, the keys": lambda q, k: _weights(
            q, k, q.shape[-1] ** -0.5, dim=1
        ),
    },
    gradients=True,
)


# --- 03.split_heads and 03.merge_heads ---


def _draw_maps(generator: torch.Generator) -> list[tuple]:
    cases = []
    for _ in range(4):
        B, heads, d, H, W = primes(generator, 5, 2, 11)
        cases.append((torch.randn(B, heads * d, H, W, generator=generator), heads))
    return cases


function_exercise(
    "03.split_heads",
    split_heads,
    _draw_maps,
    mistakes={
        "a reshape without a transpose: the shape is right, but pixels and channels are scrambled. The channels must "
        "move to the last axis": split_by_reshape,
        "the channels were moved to the end, but then reshaped straight to heads: that cuts the picture into pieces, "
        "not the channels. Split the channel axis first": split_pixels_first,
        "it looks as if rows and columns were swapped: pixel (y, x) belongs at y · W + x": split_by_column,
        "head and component are swapped within the channels: channel h · d + i is component i of head h, so the heads "
        "are the slow axis": split_head_minor,
        "the last two axes are (d, H · W): the transpose is missing": split_no_transpose,
    },
    gradients=True,
)


def _draw_heads(generator: torch.Generator) -> list[tuple]:
    cases = []
    for _ in range(4):
        B, heads, d, H, W = primes(generator, 5, 2, 11)
        cases.append((torch.randn(B, heads, H * W, d, generator=generator), H, W))
    return cases


function_exercise(
    "03.merge_heads",
    merge_heads,
    _draw_heads,
    mistakes={
        "a reshape without a transpose: the shape is right, but pixels and channels are scrambled. The components must "
        "move in front of the pixels": merge_by_reshape,
        "it looks as if rows and columns were swapped: position p is the pixel in row p // W, column p % W": (
            merge_by_column
        ),
        "the output is W pixels high and H wide: H is the number of rows and comes first": merge_swapped_sizes,
        "head and component are swapped within the channels: channel h · d + i is component i of head h": (
            merge_head_minor
        ),
        "that is the merge for text, (B, pixels, heads · d), reshaped to an image: in an image the channels come "
        "before the pixels": merge_pixels_first,
    },
    gradients=True,
)


# --- 03.multi_head_attention ---


def _draw_layers(generator: torch.Generator) -> list[tuple]:
    cases = []
    for _ in range(4):
        heads, d_k, d_v = primes(generator, 3, 2, 5)
        B, H, W = primes(generator, 3, 2, 7)
        C = 11
        depth_k, depth_v = heads * d_k, heads * d_v
        x = torch.randn(B, C, H, W, generator=generator)
        qkv_weight = torch.randn(2 * depth_k + depth_v, C, generator=generator) / 2
        output_weight = torch.randn(depth_v, depth_v, generator=generator) / 2
        cases.append((x, qkv_weight, output_weight, heads, depth_k, depth_v))
    return cases


function_exercise(
    "03.multi_head_attention",
    multi_head_attention,
    _draw_layers,
    mistakes={
        "the scale is missing: divide the logits by √(depth_k / num_heads)": variant(scale=lambda d, heads: 1.0),
        "the scale uses depth_k, the depth of all heads together: each head has depth_k / num_heads": variant(
            scale=lambda d, heads: (d * heads) ** -0.5
        ),
        "the logits are divided by the depth of a head, not by its square root": variant(
            scale=lambda d, heads: 1.0 / d
        ),
        "the softmax runs over the queries, not over the keys": variant(dim=-2),
        "the heads are merged by a reshape without a transpose: pixels and channels are scrambled": variant(
            merge=merge_by_reshape
        ),
        "the heads are split and merged by a reshape without a transpose: pixels and channels are scrambled": variant(
            split=split_by_reshape, merge=merge_by_reshape
        ),
        "the heads are split by a reshape without a transpose: pixels and channels are scrambled": variant(
            split=split_by_reshape
        ),
        "head and component are swapped within the channels: channel h · d + i is component i of head h": variant(
            split=split_head_minor, merge=merge_head_minor
        ),
        "queries and keys are swapped: the first depth_k channels are the queries": variant(order="kqv"),
        "the values are taken from the front: the order of the channels is queries, keys, values": variant(order="vqk"),
        "the output projection is missing": variant(project=lambda weight, channels: channels),
        "the output weight is transposed: its rows are the output channels": variant(
            project=lambda weight, channels: torch.einsum("co,bchw->bohw", weight, channels)
        ),
        "rows and columns are swapped when the heads are merged": variant(merge=merge_by_column),
    },
    tolerance=1e-4,
    gradients=True,
)


@free_exercise("03.ignores_places")
def _(answer: object, _: torch.Generator) -> None:
    check_ignores_places(answer)
