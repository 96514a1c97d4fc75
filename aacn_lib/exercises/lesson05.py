"""Checks of lesson 05, attention-augmented convolution: depths, parameters, merged heads, the whole layer."""

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from aacn_lib.exercises.aa_layer import check_layer
from aacn_lib.exercises.grading import REGISTRY, Wrong, free_exercise, function_exercise, primes, value_exercise
from aacn_lib.layers import merge_heads


def _want_whole_numbers(name: str, cases: Callable[[torch.Generator], list[tuple]]) -> None:
    """Let the check of a registered function refuse 12.0 where 12 is right: channels and parameters are counted."""
    exercise = REGISTRY[name]

    def judge(answer: object, generator: torch.Generator) -> None:
        exercise.judge(answer, generator)
        for case in cases(generator):
            result = answer(*case)
            if any(isinstance(part, float) for part in (result if isinstance(result, tuple | list) else [result])):
                raise Wrong(f"the value is right, but {result} is no whole number to Python: divide with //, or round")

    REGISTRY[name] = dataclasses.replace(exercise, judge=judge)


# --- 05.paper_depths: F_out = 512, 8 heads, "κ = 2υ = 0.2", at least 20 key channels a head

value_exercise(
    "05.paper_depths",
    (160, 48),
    mistakes={
        "κ was read as 2: in κ = 2υ = 0.2 both ends of the chain say what κ is, so κ = 0.2 and υ = 0.1": (1024, 48),
        "κ was read as 2 and υ as 0.2, as in public code: κ = 2υ = 0.2 means κ = 0.2 and υ = 0.1": (1024, 104),
        "υ was read as 0.2: 2υ = 0.2, so υ is half of that": (160, 104),
        "d_k is below the floor: 104 channels are 13 a head, and a head has at least 20 key channels": (104, 48),
        "the floor of 20 a head is for keys; values have none, so d_v stays at the nearest multiple of 8": (160, 160),
        "d_v is not a multiple of 8: it is divided among the heads, so round to the nearest multiple": (160, 51),
        "51.2 channels are 6.4 a head, and the nearest whole number of those is 6, not 7": (160, 56),
        "these are the plain shares, rounded down: make each a multiple of 8, and then see to the floor of the keys": (
            (102, 51)
        ),
        "these are bare products: channels are whole numbers, multiples of 8, and keys have a floor": (102.4, 51.2),
        "the order is (d_k, d_v), keys first": (48, 160),
        "that is the number of channels of one head: d_k and d_v count all heads together": (20, 6),
    },
)


# --- 05.depths


def depths(out_channels: int, key_ratio: float, value_ratio: float, num_heads: int) -> tuple[int, int]:
    per_head = [round(ratio * out_channels / num_heads) for ratio in (key_ratio, value_ratio)]
    return num_heads * max(20, per_head[0]), num_heads * max(1, per_head[1])


def _draw_ratios(generator: torch.Generator) -> list[tuple]:
    """Channels and ratios whose share of a head lies clearly between two whole numbers; both sides of the floor."""
    cases = []
    # Key channels a head: three above the floor, two below it, one of them below 20 for all heads together.
    for key, value in ((31.3, 7.7), (27.7, 13.3), (12.7, 5.3), (2.3, 1.7), (25.3, 0.3)):
        num_heads = primes(generator, 1, low=3, high=7)[0]
        out_channels = num_heads * int(torch.randint(41, 71, (), generator=generator))
        cases.append((out_channels, key * num_heads / out_channels, value * num_heads / out_channels, num_heads))
    return cases


def _one(share: float) -> int:
    return max(1, round(share))


function_exercise(
    "05.depths",
    depths,
    _draw_ratios,
    mistakes={
        "the ratios were not rounded to the heads: each depth must be a multiple of num_heads, or the channels cannot "
        "be divided": lambda c, k, v, n: (max(20 * n, round(k * c)), max(n, round(v * c))),
        "the floor is missing: a head has at least 20 key channels, so depth_k is at least 20 · num_heads": (
            lambda c, k, v, n: (n * _one(k * c / n), n * _one(v * c / n))
        ),
        "the floor was applied to the values as well: it is for keys only": (
            lambda c, k, v, n: (n * max(20, round(k * c / n)), n * max(20, round(v * c / n)))
        ),
        "the floor was applied to all heads together: 20 is the least for each head": (
            lambda c, k, v, n: (max(20, n * _one(k * c / n)), n * _one(v * c / n))
        ),
        "rounded down: the nearest multiple of num_heads is wanted, which may lie above": (
            lambda c, k, v, n: (n * max(20, int(k * c / n)), n * max(1, int(v * c / n)))
        ),
        "rounded up: the nearest multiple of num_heads is wanted, which may lie below": (
            lambda c, k, v, n: (n * max(20, math.ceil(k * c / n)), n * math.ceil(v * c / n))
        ),
        "a head may be left without a value channel: depth_v is at least one channel a head": (
            lambda c, k, v, n: (n * max(20, round(k * c / n)), n * round(v * c / n))
        ),
        "these are the channels of one head: multiply by num_heads": (
            lambda c, k, v, n: (max(20, round(k * c / n)), _one(v * c / n))
        ),
        "the order is (depth_k, depth_v), keys first": lambda c, k, v, n: depths(c, k, v, n)[::-1],
        "depth_k was computed from 2 · value_ratio: κ = 2υ is the paper's choice of numbers, not a rule": (
            lambda c, k, v, n: (n * max(20, round(2 * v * c / n)), depths(c, k, v, n)[1])
        ),
        "the value ratio was taken as a share of depth_k: both ratios are shares of out_channels": (
            lambda c, k, v, n: (depths(c, k, v, n)[0], n * _one(v * depths(c, k, v, n)[0] / n))
        ),
    },
)
_want_whole_numbers("05.depths", _draw_ratios)


# --- 05.parameters


def parameters(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    depth_k: int,
    depth_v: int,
    num_heads: int,
    height: int,
    width: int,
) -> int:
    conv = (in_channels * kernel_size**2 + 1) * (out_channels - depth_v)
    qkv = (in_channels + 1) * (2 * depth_k + depth_v)
    output = (depth_v + 1) * depth_v
    tables = (2 * height - 1 + 2 * width - 1) * (depth_k // num_heads)
    return conv + qkv + output + tables


def _draw_layers(generator: torch.Generator) -> list[tuple]:
    cases = []
    for kernel_size in (3, 1, 5, 3):
        heads, height, width, key, value, in_channels = primes(generator, 6, high=17)
        depth_v = heads * value
        out_channels = depth_v + int(torch.randint(11, 40, (), generator=generator))
        cases.append((in_channels, out_channels, kernel_size, heads * key, depth_v, heads, height, width))
    return cases


def _off_by(change):
    """The mistake that misses the right count by `change`."""
    return lambda *sizes: parameters(*sizes) + change(*sizes)


function_exercise(
    "05.parameters",
    parameters,
    _draw_layers,
    mistakes={
        "the tables are missing: rel_h and rel_w are trained as well": (
            _off_by(lambda c, o, s, k, v, n, h, w: -(2 * h + 2 * w - 2) * (k // n))
        ),
        "the tables were counted once for every head: the heads of a layer share them, and a row is as long as one "
        "head's query": _off_by(lambda c, o, s, k, v, n, h, w: (2 * h + 2 * w - 2) * (k - k // n)),
        "the tables have 2·height - 1 and 2·width - 1 rows: distance 0 occurs once an axis": (
            _off_by(lambda c, o, s, k, v, n, h, w: 2 * (k // n))
        ),
        "one table for rows and columns together was counted, of (2·height - 1) · (2·width - 1) rows: there are two, "
        "so their rows are added": (
            _off_by(lambda c, o, s, k, v, n, h, w: ((2 * h - 1) * (2 * w - 1) - (2 * h + 2 * w - 2)) * (k // n))
        ),
        "a kernel has kernel_size² weights for each input channel: the square is missing": (
            _off_by(lambda c, o, s, k, v, n, h, w: c * (s - s * s) * (o - v))
        ),
        "a row of the tables holds depth_k / num_heads numbers; looks as if depth_v was divided instead": (
            _off_by(lambda c, o, s, k, v, n, h, w: (2 * h + 2 * w - 2) * (v // n - k // n))
        ),
        "the output projection is missing: a 1×1 convolution from depth_v to depth_v channels stands after the "
        "merged heads": _off_by(lambda c, o, s, k, v, n, h, w: -(v + 1) * v),
        "the output projection has a bias too: depth_v more numbers": _off_by(lambda c, o, s, k, v, n, h, w: -v),
        "all biases are missing: each of the three convolutions has one number for every channel it gives": (
            _off_by(lambda c, o, s, k, v, n, h, w: -(o - v) - (2 * k + v) - v)
        ),
        "the convolution was counted with all out_channels: it makes only out_channels - depth_v of them, attention "
        "makes the rest": _off_by(lambda c, o, s, k, v, n, h, w: (c * s * s + 1) * v),
        "q, k and v were counted with the k×k kernel: they come from a 1×1 convolution": (
            _off_by(lambda c, o, s, k, v, n, h, w: c * (s * s - 1) * (2 * k + v))
        ),
        "queries were counted, keys were not: qkv gives 2 · depth_k + depth_v channels": (
            _off_by(lambda c, o, s, k, v, n, h, w: -(c + 1) * k)
        ),
        "qkv was counted as 3 · depth_k channels: queries and keys have depth_k each, the values depth_v": (
            _off_by(lambda c, o, s, k, v, n, h, w: (c + 1) * (k - v))
        ),
        "the output projection was counted from depth_v to out_channels: it keeps depth_v channels": (
            _off_by(lambda c, o, s, k, v, n, h, w: (v + 1) * (o - v))
        ),
    },
)
_want_whole_numbers("05.parameters", _draw_layers)


# --- 05.merge_heads


def merged(x: Tensor, height: int, width: int) -> Tensor:
    return merge_heads(x.unflatten(2, (height, width)))


def _draw_heads(generator: torch.Generator) -> list[tuple]:
    cases = []
    for taller in (False, True, False, True):
        heads, d, *sides = primes(generator, 4, high=11)
        H, W = sorted(sides, reverse=taller)
        cases.append((torch.randn(2, heads, H * W, d, generator=generator), H, W))
    return cases


function_exercise(
    "05.merge_heads",
    merged,
    _draw_heads,
    mistakes={
        "that is a bare reshape: in memory the components of a pixel lie side by side, so pixels and channels were "
        "scrambled; bring the components before the pixels (transpose) first": (
            lambda x, h, w: x.reshape(len(x), -1, h, w)
        ),
        "heads and pixels were transposed, as for a sentence, (B, HW, heads·d), and then reshaped to an image: the "
        "channels must stand before the pixels": (
            lambda x, h, w: x.transpose(1, 2).flatten(2).reshape(len(x), -1, h, w)
        ),
        "the channels are in the wrong order: head 0 comes first with all its components, then head 1; here component "
        "0 of all heads comes first": lambda x, h, w: x.permute(0, 3, 1, 2).flatten(1, 2).unflatten(2, (h, w)),
        "height and width are swapped: pixel number y·width + x belongs to row y, column x": (
            lambda x, h, w: x.transpose(2, 3).flatten(1, 2).unflatten(2, (w, h))
        ),
        "the picture is transposed and then squeezed into height × width: pixels were read column by column": (
            lambda x, h, w: x.transpose(2, 3).flatten(1, 2).unflatten(2, (w, h)).mT
        ),
        "the pixels are still in one row: the last two axes must be height and width": (
            lambda x, h, w: x.transpose(2, 3).flatten(1, 2)
        ),
        "the heads are still apart: merged, they are heads · d channels on one axis": (
            lambda x, h, w: x.transpose(2, 3).unflatten(3, (h, w))
        ),
        "the heads were averaged: each keeps channels of its own": (
            lambda x, h, w: x.mean(1).transpose(1, 2).unflatten(2, (h, w))
        ),
        "the heads were added: each keeps channels of its own": (
            lambda x, h, w: x.sum(1).transpose(1, 2).unflatten(2, (h, w))
        ),
    },
    gradients=True,
)


# --- 05.aa_conv

free_exercise("05.aa_conv")(check_layer)
