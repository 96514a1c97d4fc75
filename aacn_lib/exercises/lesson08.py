"""Checks of lesson 08, channel and spatial attention: what SE adds, which gate it is, SE, weights for pixels."""

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from aacn_lib.exercises.grading import (
    REGISTRY,
    Wrong,
    free_exercise,
    function_exercise,
    primes,
)
from aacn_lib.exercises.letters import judge_letters
from aacn_lib.exercises.mystery_gates import KINDS


def _explain(name: str, say_more: Callable[[object, torch.Generator, Exception], None]) -> None:
    """Let `say_more(answer, generator, error)` raise a better message about an answer that the check refuses."""
    exercise = REGISTRY[name]

    def judge(answer: object, generator: torch.Generator) -> None:
        try:
            exercise.judge(answer, generator)
        except Exception as error:
            say_more(answer, generator, error)
            raise

    REGISTRY[name] = dataclasses.replace(exercise, judge=judge)


# --- 08.se_parameters


def se_parameters(channels: int, reduction: int) -> int:
    hidden = max(1, channels // reduction)
    return 2 * channels * hidden + hidden + channels


def _draw_widths(generator: torch.Generator) -> list[tuple]:
    """Widths that divide evenly, ones that leave a rest above and below one half, and one below the reduction."""
    reduction, factor = primes(generator, 2, low=3, high=13)
    return [
        (factor * reduction, reduction),
        (factor * reduction + 1, reduction),
        ((factor + 1) * reduction - 1, reduction),
        (reduction - 1, reduction),
        (256, 16),
    ]


function_exercise(
    "08.se_parameters",
    se_parameters,
    _draw_widths,
    mistakes={
        # Those that are wrong for more sizes come first: where few sizes tell, another mistake may agree by chance.
        "the weights are not 2C² / r, rounded at the end: hidden units must be whole first, ⌊C / r⌋, at least one": (
            lambda c, r: 2 * c * c // r + max(1, c // r) + c
        ),
        "that is 2C² / r, rounded down: the paper's weights without biases. The hidden units must be whole first, "
        "⌊C / r⌋, at least one, and the library's layers have biases": lambda c, r: 2 * c * c // r,
        "that is 2C² / r: the paper's weights without biases. The hidden units must be whole, ⌊C / r⌋, at least one, "
        "and the library's layers have biases": lambda c, r: 2 * c * c / r,
        "channels / reduction must become a whole number, rounded down, before anything is multiplied": (
            lambda c, r: 2 * c * c / r + c / r + c
        ),
        "max(1, channels / reduction) has the minimum, but is no whole number: round down first, with //": (
            lambda c, r: 2 * c * max(1, c / r) + max(1, c / r) + c
        ),
        "max(1, channels / reduction) is no whole number (round down first, with //), and the biases are missing": (
            lambda c, r: 2 * c * max(1, c / r)
        ),
        "both layers have biases in the library: hidden + channels more numbers": (lambda c, r: 2 * c * max(1, c // r)),
        "the hidden layer has a bias too": lambda c, r: 2 * c * max(1, c // r) + c,
        "the second layer has a bias too, one number for every channel": (
            lambda c, r: 2 * c * max(1, c // r) + max(1, c // r)
        ),
        "with fewer channels than `reduction` one hidden unit is left, not none": (
            lambda c, r: 2 * c * (c // r) + c // r + c
        ),
        "channels / reduction is rounded down, not up": lambda c, r: 2 * c * -(-c // r) - (-c // r) + c,
        "channels / reduction is rounded down, not to the nearest": (
            lambda c, r: 2 * c * max(1, round(c / r)) + max(1, round(c / r)) + c
        ),
        "only one layer was counted: there are two, down to the hidden units and up again": (
            lambda c, r: c * max(1, c // r) + max(1, c // r)
        ),
        "a convolution was counted: the layers see means, one number a channel, so no kernel size occurs": (
            lambda c, r: 9 * 2 * c * max(1, c // r) + max(1, c // r) + c
        ),
        "`reduction` was taken as the number of hidden units: it divides the channels": (
            lambda c, r: 2 * c * r + r + c
        ),
    },
)


def _want_whole_number(name: str) -> None:
    """Let the check refuse 12.0 where 12 is right: parameters are counted."""
    exercise = REGISTRY[name]

    def judge(answer: object, generator: torch.Generator) -> None:
        exercise.judge(answer, generator)
        result = answer(64, 16)
        if isinstance(result, float):
            raise Wrong(f"the value is right, but {result} is no whole number to Python: divide with //")

    REGISTRY[name] = dataclasses.replace(exercise, judge=judge)


_want_whole_number("08.se_parameters")


# --- 08.which_gate

_WORDS = ("se", "ge", "spatial", "cbam", "mixing")

# (what it is, what the learner says): what a test of the layer would show.
_TELLING = {
    ("ge", "se"): "change channel 1 only and look at channel 0: in this layer nothing happens there",
    ("se", "ge"): "change channel 1 only and look at channel 0: in this layer its weight changes",
    ("mixing", "se"): "shuffled pixels come out shuffled, as with 'se', but values move",
    ("mixing", "ge"): "shuffled pixels come out shuffled, as with 'ge', but values move",
    ("mixing", "spatial"): "values move",
    ("mixing", "cbam"): "values move",
    ("spatial", "cbam"): "its weights y / x are the same for all channels of a pixel",
    ("cbam", "spatial"): "its weights y / x differ between the channels of one pixel",
    ("cbam", "se"): "its weights y / x differ between the pixels of one channel",
    ("cbam", "ge"): "its weights y / x differ between the pixels of one channel",
    ("spatial", "se"): "its weights y / x differ between the pixels of one channel",
    ("spatial", "ge"): "its weights y / x differ between the pixels of one channel",
    ("se", "spatial"): "its weights y / x are the same at all pixels of a channel",
    ("ge", "spatial"): "its weights y / x are the same at all pixels of a channel",
    ("se", "cbam"): "its weights y / x are the same at all pixels of a channel",
    ("ge", "cbam"): "its weights y / x are the same at all pixels of a channel",
}


_MOVES = ": set all pixels but one to zero, and count the pixels that are not zero in the output"


@free_exercise("08.which_gate")
def _check_which_gate(answer: object, generator: torch.Generator) -> None:
    judge_letters("kind_of", answer, KINDS, _judge_word)


def _judge_word(letter: str, said: object) -> None:
    kind = KINDS[letter]
    if said not in _WORDS:
        raise Wrong(f"{letter!r}: expected one of {list(_WORDS)}, got {said!r}")
    if said == kind:
        return
    if said == "mixing":
        raise Wrong(f"{letter!r} is no mixing: a pixel of zeros stays zero, whatever the others hold")
    raise Wrong(f"{letter!r} is not {said!r}: {_TELLING[kind, said]}{_MOVES if kind == 'mixing' else ''}")


# --- 08.squeeze_excite


def squeeze_excite(x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    means = x.mean(dim=(2, 3))
    return x * ((means @ down.T).relu() @ up.T).sigmoid()[:, :, None, None]


def _draw_maps(generator: torch.Generator) -> list[tuple]:
    """Four cases of different sizes, and one in which a forgotten .T or [:, :, None, None] raises no error."""
    cases = []
    sizes = [primes(generator, 4, low=2, high=11) for _ in range(4)]
    for C, hidden, H, W in [*sizes, (5, 5, 3, 5)]:
        x = torch.randn(3, C, H, W, generator=generator) + torch.randn(3, C, 1, 1, generator=generator)
        down, up = torch.randn(hidden, C, generator=generator), torch.randn(C, hidden, generator=generator)
        cases.append((x, down, up))
    return cases


def _with(
    squeeze=lambda x: x.mean(dim=(2, 3)),
    between=torch.relu,
    last=torch.sigmoid,
    scale=lambda x, w: x * w[..., None, None],
    first=lambda down: down.T,
    second=lambda up: up.T,
):
    """Squeeze-and-excitation with one step replaced."""
    return lambda x, down, up: scale(x, last(between(squeeze(x) @ first(down)) @ second(up)))


function_exercise(
    "08.squeeze_excite",
    squeeze_excite,
    _draw_maps,
    mistakes={
        "the ReLU between the two layers is missing: without it they are one linear map": _with(between=lambda h: h),
        "a sigmoid stands between the two layers: it is a ReLU there": _with(between=torch.sigmoid),
        "the squeeze takes the maximum over pixels: SE takes the mean": _with(squeeze=lambda x: x.amax(dim=(2, 3))),
        "the squeeze takes the sum over pixels: with the mean the size of the map does not matter": (
            _with(squeeze=lambda x: x.sum(dim=(2, 3)))
        ),
        "the mean runs over the pictures of the batch too: each picture decides for itself": (
            _with(squeeze=lambda x: x.mean(dim=(0, 2, 3), keepdim=True)[:, :, 0, 0].expand(len(x), -1))
        ),
        "softmax makes channels compete for a sum of 1: SE gates each channel by a sigmoid": (
            _with(last=lambda w: w.softmax(dim=1))
        ),
        "the last sigmoid is missing: weights lie between 0 and 1": _with(last=lambda w: w),
        "a ReLU stands at the end: it is a sigmoid there": _with(last=torch.relu),
        "a second ReLU stands before the sigmoid: then no weight falls below one half": (
            _with(last=lambda w: w.relu().sigmoid())
        ),
        "`down` is (hidden, C): the means (B, C) meet its second axis, so it is means @ down.T": (
            _with(first=lambda down: down)
        ),
        "`up` is (C, hidden): the hidden units (B, hidden) meet its second axis, so it is hidden @ up.T": (
            _with(second=lambda up: up)
        ),
        "`down` is (hidden, C) and `up` is (C, hidden): both must be transposed, means @ down.T and hidden @ up.T": (
            _with(first=lambda down: down, second=lambda up: up)
        ),
        "the weights (B, C) need two axes of size one to meet x (B, C, H, W): weights[:, :, None, None]": (
            _with(scale=lambda x, w: x * w)
        ),
        "these are the weights: multiply the input by them": _with(scale=lambda x, w: w),
        "these are the weights: multiply the input by them (and all its pixels)": (
            _with(scale=lambda x, w: w[..., None, None])
        ),
        "the weights were added to the input: SE scales it": _with(scale=lambda x, w: x + w[..., None, None]),
        "the input was added once more: the shortcut is the block's, not the gate's": (
            _with(scale=lambda x, w: x + x * w[..., None, None])
        ),
    },
    gradients=True,
)


def _gradient_of_map(function: Callable, x: Tensor, down: Tensor, up: Tensor) -> Tensor:
    given = x.clone().requires_grad_()
    function(given, down, up).sum().backward()
    return given.grad


def _name_detached_means(answer: object, generator: torch.Generator, error: Exception) -> None:
    if "gradient of `x` is not" not in str(error):
        return
    detached = _with(squeeze=lambda x: x.detach().mean(dim=(2, 3)))
    if all(
        torch.allclose(_gradient_of_map(answer, *case), _gradient_of_map(detached, *case), atol=1e-5)
        for case in _draw_maps(generator)
    ):
        raise Wrong("the values are right, but the means were detached: gradients reach x through the weights as well")


_explain("08.squeeze_excite", _name_detached_means)


# --- 08.spatial_weights


def spatial_weights(x: Tensor, kernel: Tensor) -> Tensor:
    summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
    return F.conv2d(summary, kernel, padding=kernel.shape[-1] // 2).sigmoid()


def _draw_kernels(generator: torch.Generator) -> list[tuple]:
    """Maps larger than the kernel come first: a wrong padding then shows in the shape, not as an error of torch's."""
    cases = []
    for k, low in ((3, 5), (7, 11), (5, 3), (7, 3)):
        C, H, W = primes(generator, 3, low=low, high=17)
        x = torch.randn(2, C, H, W, generator=generator)
        cases.append((x, 0.4 * torch.randn(1, 2, k, k, generator=generator)))
    return cases


def _pixels(
    mean=lambda x: x.mean(dim=1, keepdim=True),
    most=lambda x: x.amax(dim=1, keepdim=True),
    kernel=lambda k: k,
    padding=lambda k: k.shape[-1] // 2,
    outside="constant",
    last=torch.sigmoid,
):
    """The weights of spatial attention with one step replaced; "constant" is zero outside the picture."""

    def weights(x, k):
        summary = F.pad(torch.cat([mean(x), most(x)], dim=1), [padding(k)] * 4, mode=outside)
        return last(F.conv2d(summary, kernel(k)))

    return weights


function_exercise(
    "08.spatial_weights",
    spatial_weights,
    _draw_kernels,
    mistakes={
        "the maximum came first: the kernel's first channel is for the mean": _pixels(kernel=lambda k: k.flip(1)),
        "the sum over channels was taken instead of their mean": _pixels(mean=lambda x: x.sum(dim=1, keepdim=True)),
        "the minimum was taken instead of the maximum": _pixels(most=lambda x: x.amin(dim=1, keepdim=True)),
        "the mean of the absolute values was taken: the plain mean, signs included": (
            _pixels(mean=lambda x: x.abs().mean(dim=1, keepdim=True))
        ),
        "the maximum of the absolute values was taken: the plain maximum, signs included": (
            _pixels(most=lambda x: x.abs().amax(dim=1, keepdim=True))
        ),
        "the summaries run over the pixels: here they run over the channels of each pixel, which leaves two maps": (
            lambda x, k: _pixels()(x.mean(dim=(2, 3), keepdim=True).expand_as(x), k)
        ),
        "the mean runs over the pictures of the batch too: each picture has a map of its own": (
            _pixels(mean=lambda x: x.mean(dim=(0, 1), keepdim=True).expand(len(x), 1, -1, -1))
        ),
        "the sigmoid is missing: weights lie between 0 and 1": _pixels(last=lambda w: w),
        "the padding is missing: the map of weights must be as large as the picture": _pixels(padding=lambda k: 0),
        "padding=1 fits a kernel of 3 only: the padding depends on k": _pixels(padding=lambda k: 1),
        "padding=3 fits a kernel of 7 only: the padding depends on k": _pixels(padding=lambda k: 3),
        "the values at the border were repeated outside the picture: there both summaries count as zero": (
            _pixels(outside="replicate")
        ),
        "the kernel was turned by half a turn: PyTorch's convolutions slide it as it is": (
            _pixels(kernel=lambda k: k.flip(2, 3))
        ),
        "the kernel's rows and columns are swapped": _pixels(kernel=lambda k: k.mT),
        "that is the picture times the weights: return the weights alone, one for each pixel": (
            lambda x, k: x * _pixels()(x, k)
        ),
    },
    gradients=True,
)


def _name_pair_of_max(answer: object, generator: torch.Generator, error: Exception) -> None:
    if "return_types.max" in str(error):
        raise Wrong("x.max(dim=1) gives a pair, the maxima and where they stand: use x.amax, or take .values") from None


_explain("08.spatial_weights", _name_pair_of_max)
