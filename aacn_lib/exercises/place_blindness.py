"""The check of a learner's own test: does it find out which layers use places and which do not?"""

from contextlib import AbstractContextManager
from unittest.mock import patch

import torch
from torch import Tensor, nn

from aacn_lib.exercises.attention_by_hand import attend, merge_by_reshape, merge_heads
from aacn_lib.exercises.grading import Wrong, call
from aacn_lib.ops import attention


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
    return _Layer(lambda x: attend(x, weight.to(x), output.to(x), 1, channels, channels, merge=merge))


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
        _attention_layer(C, generator, merge=merge_by_reshape),
        _slope(0.004, H, W),
    )
    return ignoring, dict(zip(_USING, using, strict=True))


def check_ignores_places(answer: object) -> None:
    """Raise `Wrong` unless `answer(layer, x)` tells layers that treat all places alike from those that do not."""
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
