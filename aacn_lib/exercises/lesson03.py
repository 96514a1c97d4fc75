"""Exercises of lesson 03: self-attention over the pixels of an image, written by hand."""

import math
from contextlib import AbstractContextManager
from unittest.mock import patch

import torch
from torch import Tensor, nn

from aacn_lib.attention import attention
from aacn_lib.exercises.grading import Wrong, call, free_exercise, function_exercise, primes

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


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, heads · d, H, W) → (B, heads, H · W, d): channel h · d + i is component i of head h; pixels row by row."""
    return x.unflatten(1, (num_heads, -1)).flatten(3).transpose(2, 3)


def merge_heads(x: Tensor, H: int, W: int) -> Tensor:
    """(B, heads, H · W, d) → (B, heads · d, H, W), the inverse of `split_heads`."""
    return x.transpose(2, 3).flatten(1, 2).unflatten(2, (H, W))


def _split_by_reshape(x: Tensor, num_heads: int) -> Tensor:
    B, C, H, W = x.shape
    return x.reshape(B, num_heads, H * W, C // num_heads)


def _split_pixels_first(x: Tensor, num_heads: int) -> Tensor:
    B, C, H, W = x.shape
    return x.flatten(2).transpose(1, 2).reshape(B, num_heads, H * W, C // num_heads)


def _split_by_column(x: Tensor, num_heads: int) -> Tensor:
    return split_heads(x.transpose(2, 3), num_heads)


def _split_head_minor(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(1, (-1, num_heads)).flatten(3).permute(0, 2, 3, 1)


def _split_no_transpose(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(1, (num_heads, -1)).flatten(3)


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
        "move to the last axis": _split_by_reshape,
        "the channels were moved to the end, but then reshaped straight to heads: that cuts the picture into pieces, "
        "not the channels. Split the channel axis first": _split_pixels_first,
        "it looks as if rows and columns were swapped: pixel (y, x) belongs at y · W + x": _split_by_column,
        "head and component are swapped within the channels: channel h · d + i is component i of head h, so the heads "
        "are the slow axis": _split_head_minor,
        "the last two axes are (d, H · W): the transpose is missing": _split_no_transpose,
    },
    gradients=True,
)


def _merge_by_reshape(x: Tensor, H: int, W: int) -> Tensor:
    B, heads, _, d = x.shape
    return x.reshape(B, heads * d, H, W)


def _merge_by_column(x: Tensor, H: int, W: int) -> Tensor:
    return x.transpose(2, 3).flatten(1, 2).unflatten(2, (W, H)).transpose(2, 3)


def _merge_swapped_sizes(x: Tensor, H: int, W: int) -> Tensor:
    return merge_heads(x, W, H)


def _merge_head_minor(x: Tensor, H: int, W: int) -> Tensor:
    return x.permute(0, 3, 1, 2).flatten(1, 2).unflatten(2, (H, W))


def _merge_pixels_first(x: Tensor, H: int, W: int) -> Tensor:
    B, heads, _, d = x.shape
    return x.transpose(1, 2).reshape(B, heads * d, H, W)


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
        "move in front of the pixels": _merge_by_reshape,
        "it looks as if rows and columns were swapped: position p is the pixel in row p // W, column p % W": (
            _merge_by_column
        ),
        "the output is W pixels high and H wide: H is the number of rows and comes first": _merge_swapped_sizes,
        "head and component are swapped within the channels: channel h · d + i is component i of head h": (
            _merge_head_minor
        ),
        "that is the merge for text, (B, pixels, heads · d), reshaped to an image: in an image the channels come "
        "before the pixels": _merge_pixels_first,
    },
    gradients=True,
)


# --- 03.multi_head_attention ---


def multi_head_attention(
    x: Tensor, qkv_weight: Tensor, output_weight: Tensor, num_heads: int, depth_k: int, depth_v: int
) -> Tensor:
    """(B, C, H, W) → (B, depth_v, H, W); qkv_weight (2 · depth_k + depth_v, C), output_weight (depth_v, depth_v)."""
    return _attend(x, qkv_weight, output_weight, num_heads, depth_k, depth_v)


def _attend(
    x,
    qkv_weight,
    output_weight,
    num_heads,
    depth_k,
    depth_v,
    *,
    scale=lambda d, heads: d**-0.5,
    dim=-1,
    order="qkv",
    split=split_heads,
    merge=merge_heads,
    project=lambda weight, channels: torch.einsum("oc,bchw->bohw", weight, channels),
):
    H, W = x.shape[2:]
    channels = torch.einsum("oc,bchw->bohw", qkv_weight, x)
    sizes = {"q": depth_k, "k": depth_k, "v": depth_v}
    named = dict(zip(order, channels.split([sizes[name] for name in order], dim=1), strict=True))
    q, k, v = (split(named[name], num_heads) for name in "qkv")
    weights = (q @ k.transpose(-1, -2) * scale(q.shape[-1], num_heads)).softmax(dim=dim)
    return project(output_weight, merge(weights @ v, H, W))


def _variant(**changes: object):
    return lambda *args: _attend(*args, **changes)


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
        "the scale is missing: divide the logits by √(depth_k / num_heads)": _variant(scale=lambda d, heads: 1.0),
        "the scale uses depth_k, the depth of all heads together: each head has depth_k / num_heads": _variant(
            scale=lambda d, heads: (d * heads) ** -0.5
        ),
        "the logits are divided by the depth of a head, not by its square root": _variant(
            scale=lambda d, heads: 1.0 / d
        ),
        "the softmax runs over the queries, not over the keys": _variant(dim=-2),
        "the heads are merged by a reshape without a transpose: pixels and channels are scrambled": _variant(
            merge=_merge_by_reshape
        ),
        "the heads are split and merged by a reshape without a transpose: pixels and channels are scrambled": _variant(
            split=_split_by_reshape, merge=_merge_by_reshape
        ),
        "the heads are split by a reshape without a transpose: pixels and channels are scrambled": _variant(
            split=_split_by_reshape
        ),
        "head and component are swapped within the channels: channel h · d + i is component i of head h": _variant(
            split=_split_head_minor, merge=_merge_head_minor
        ),
        "queries and keys are swapped: the first depth_k channels are the queries": _variant(order="kqv"),
        "the values are taken from the front: the order of the channels is queries, keys, values": _variant(
            order="vqk"
        ),
        "the output projection is missing": _variant(project=lambda weight, channels: channels),
        "the output weight is transposed: its rows are the output channels": _variant(
            project=lambda weight, channels: torch.einsum("co,bchw->bohw", weight, channels)
        ),
        "rows and columns are swapped when the heads are merged": _variant(merge=_merge_by_column),
    },
    tolerance=1e-4,
    gradients=True,
)


# --- 03.ignores_places ---


class _Layer(nn.Module):
    """A layer from a function, drawn with its own generator."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _attention_layer(channels: int, generator: torch.Generator, *, merge=merge_heads) -> nn.Module:
    weight = torch.randn(3 * channels, channels, generator=generator) / channels**0.5
    output = torch.randn(channels, channels, generator=generator) / channels**0.5
    return _Layer(lambda x: _attend(x, weight.to(x), output.to(x), 1, channels, channels, merge=merge))


def _relative_layer(channels: int, H: int, W: int, generator: torch.Generator) -> nn.Module:
    weight = torch.randn(3 * channels, channels, generator=generator) / channels**0.5
    rel_h, rel_w = (torch.randn(2 * size - 1, channels, generator=generator) for size in (H, W))

    def attend(x: Tensor) -> Tensor:
        q, k, v = torch.einsum("oc,bchw->bohw", weight.to(x), x).chunk(3, dim=1)
        q, k, v = (t.permute(0, 2, 3, 1)[:, None] for t in (q, k, v))  # one head: (B, 1, H, W, C)
        attended = attention(q, k, v, rel_h.to(x), rel_w.to(x), implementation="definition")
        return attended[:, 0].permute(0, 3, 1, 2)

    return _Layer(attend)


def _convolution(channels: int, size: tuple[int, int], generator: torch.Generator) -> nn.Module:
    weight = torch.randn(channels, channels, *size, generator=generator)
    padding = (size[0] // 2, size[1] // 2)
    return _Layer(lambda x: torch.conv2d(x, weight.to(x), padding=padding))


def _pixel_means() -> nn.Module:
    return _Layer(lambda x: x + x.mean(dim=(2, 3), keepdim=True))


def _row_means() -> nn.Module:
    return _Layer(lambda x: x + x.mean(dim=3, keepdim=True))


def _column_means() -> nn.Module:
    return _Layer(lambda x: x + x.mean(dim=2, keepdim=True))


def _symmetric_convolution() -> nn.Module:
    """A blur that looks the same mirrored and turned, wrapped around the borders: shifts and flips pass it."""

    def blur(x: Tensor) -> Tensor:
        neighbours = [x.roll(step, dims) for dims in (2, 3) for step in (-1, 1)]
        return 2 * x + sum(neighbours)

    return _Layer(blur)


def _slope(height: float, H: int, W: int) -> nn.Module:
    """Adds to each pixel a little that depends on its place alone, from -height to height."""
    ramp = torch.linspace(-height, height, H * W).unflatten(0, (H, W))
    return _Layer(lambda x: x + ramp)


def _without_rounding(layer: nn.Module) -> nn.Module:
    """The same layer in float64, rounded to so few digits that the order of its sums leaves no trace."""
    return _Layer(lambda x: layer(x.double()).round(decimals=4).to(x.dtype))


_POINTWISE = "a 1×1 convolution, which treats each pixel by itself"
_FAINT = "a layer that adds to each pixel at most 0.004, depending on its place"
_MAP = "a layer that adds a position map"
_USING = {  # layer -> what a test probably does that takes it for one that ignores places
    "a 3×3 convolution": "is the shuffled output compared at all?",
    "attention with relative positions": "is the shuffled output compared at all?",
    _MAP: "compare all pixels, not their mean",
    "a blur that is symmetric and wraps around": (
        "a shift or a flip is not a shuffle: draw a random order of all pixels"
    ),
    "a layer that adds to each pixel the mean of its row": (
        "shuffle all H · W pixels with one permutation, not within rows or whole rows"
    ),
    "a layer that adds to each pixel the mean of its column": (
        "shuffle all H · W pixels with one permutation, not within columns or whole columns"
    ),
    "attention whose heads are merged by a raw reshape": "compare each pixel of the output",
    _FAINT: "a tolerance such as 1e-5 tells the two sides apart",
}


def _layers_of_both_kinds(shape: tuple[int, ...], generator: torch.Generator) -> tuple[dict, dict]:
    _, C, H, W = shape
    position_map = 3 * torch.randn(1, C, H, W, generator=generator)
    ignoring = {
        _POINTWISE: _convolution(C, (1, 1), generator),
        "attention without positions": _attention_layer(C, generator),
        "a layer that adds the mean of all pixels to each": _pixel_means(),
    }
    using = (
        _convolution(C, (3, 3), generator),
        _relative_layer(C, H, W, generator),
        _Layer(lambda x: x + position_map),
        _symmetric_convolution(),
        _row_means(),
        _column_means(),
        _attention_layer(C, generator, merge=_merge_by_reshape),
        _slope(0.004, H, W),
    )
    return ignoring, dict(zip(_USING, using, strict=True))


@free_exercise("03.ignores_places")
def _(answer: object, _: torch.Generator) -> None:
    if not callable(answer):
        raise Wrong(f"expected a function, got {type(answer).__name__}: pass the function itself, without calling it")
    # Whether two sums agree to the last digit is a matter of luck. Always the same draws, several of them, and many
    # numbers in each: the same answer gets the same verdict.
    generator = torch.Generator().manual_seed(0)
    ignoring, precise, using = {}, {}, {}  # layer -> the answer's verdict on it, for each shape
    fresh_orders = []
    for case, shape in enumerate([(2, 7, 11, 13), (3, 5, 13, 7), (5, 2, 7, 11)]):
        x = torch.randn(shape, generator=generator)
        torch.manual_seed(case)  # the answer draws its orders from torch's own generator
        ignorant, knowing = _layers_of_both_kinds(shape, generator)
        for name, layer in ignorant.items():
            ignoring.setdefault(name, []).append(_yes_or_no(answer, layer, x))
            precise.setdefault(name, []).append(_yes_or_no(answer, _without_rounding(layer), x))
        for name, layer in knowing.items():
            using.setdefault(name, []).append(_yes_or_no(answer, layer, x))
        with _always_the_same_order():
            fresh_orders.append(_yes_or_no(answer, ignorant[_POINTWISE], x))

    said = [verdict for verdicts in (ignoring, precise, using) for three in verdicts.values() for verdict in three]
    if not any(said) and any(fresh_orders):
        raise Wrong(
            "it says False for every layer, even for a 1×1 convolution: a new order is drawn for the output. Draw one "
            "order and use it for both, input and output"
        )
    if not any(said):
        raise Wrong(
            "it says False for every layer, even for a 1×1 convolution: does it ask for the same output after the "
            "shuffle (invariance)? The output must be shuffled in the same way. Or was a new order drawn for the "
            "output? Use one order for both"
        )
    if all(said):
        raise Wrong(
            "it says True for every layer, even for a 3×3 convolution: are the pixels shuffled (not the pictures of "
            "the batch), and are the two sides compared, with a small tolerance?"
        )
    for name, verdicts in ignoring.items():
        if not all(verdicts) and all(precise[name]):
            raise Wrong(
                f"it compares too strictly: it says False for {name}. Sums taken in another order differ in their last "
                "digits, so compare with torch.allclose and atol=1e-5 (its default, 1e-8, is too small)"
            )
        if not all(verdicts):
            raise Wrong(
                f"it says False for {name}: are input and output shuffled with the same order, one for all channels, "
                "and each picture by itself?"
            )
    if all(using[_FAINT]) and not all(using[_MAP]):
        raise Wrong(f"it compares too loosely: it says True for {_FAINT}. {_USING[_FAINT].capitalize()}")
    for enough in (all, any):  # a layer that passes for every shape says more than one that passes by chance
        for name, verdicts in using.items():
            if enough(verdicts):
                raise Wrong(f"it says True for {name}: {_USING[name]}")


def _yes_or_no(answer: object, layer: nn.Module, x: Tensor) -> bool:
    verdict = call(answer, layer, x.clone())
    if isinstance(verdict, Tensor) and verdict.dtype == torch.bool and verdict.numel() == 1:
        verdict = verdict.item()
    if not isinstance(verdict, bool):
        raise Wrong(f"expected True or False, got {type(verdict).__name__}: reduce the comparison to one answer")
    return verdict


def _always_the_same_order() -> AbstractContextManager:
    """Within it `torch.randperm` draws the same permutation each time: what would a test say if it drew only one?"""
    randperm = torch.randperm

    def same(*args: object, **options: object) -> Tensor:
        return randperm(*args, **{**options, "generator": torch.Generator().manual_seed(0)})

    return patch.object(torch, "randperm", same)


def ignores_places(layer: nn.Module, x: Tensor) -> bool:
    """Whether shuffling the pixels of `x` (B, C, H, W) shuffles the output of `layer` in the same way."""
    order = torch.randperm(x.shape[2] * x.shape[3])

    def shuffle(t: Tensor) -> Tensor:
        return t.flatten(2)[..., order].unflatten(2, t.shape[2:])

    return torch.allclose(layer(shuffle(x)), shuffle(layer(x)), atol=1e-5)
