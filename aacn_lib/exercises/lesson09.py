"""Checks of lesson 09: a linear rate, the loss of mixed pictures, cutmix's box, the average, broken loops."""

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
from aacn_lib.exercises.noise_or_effect import VERDICT_MISTAKES, draw_accuracies, verdict

# --- 09.linear_rate


def linear_rate(step: int, total_steps: int, warmup: int, peak: float) -> float:
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return peak * (total_steps - step) / (total_steps - warmup)


def _draw_steps(generator: torch.Generator) -> list[tuple]:
    """Both branches, their first and last steps, and a run without warm-up."""
    warmup, down = primes(generator, 2, low=5, high=17)
    total, peak = warmup + 2 * down, 0.1 + torch.rand((), generator=generator).item()
    steps = (0, 1, warmup // 2, warmup - 1, warmup, warmup + 1, warmup + down, total - 1)
    return [*((step, total, warmup, peak) for step in steps), (0, total, 0, peak), (down, total, 0, peak)]


def _rate(up=lambda s, w: (s + 1) / (w + 1), down=lambda s, t, w: (t - s) / (t - w)):
    """The rate with one of its branches replaced."""
    return lambda step, total_steps, warmup, peak: (
        peak * (up(step, warmup) if step < warmup else down(step, total_steps, warmup))
    )


function_exercise(
    "09.linear_rate",
    linear_rate,
    _draw_steps,
    mistakes={
        "the first rate is zero: a step for nothing; step 0 already moves, with 1 / (warmup + 1) of the peak": (
            _rate(up=lambda s, w: s / w)
        ),
        "the peak is reached one step too early: divide by warmup + 1, then step `warmup` is the first at the peak": (
            _rate(up=lambda s, w: (s + 1) / w)
        ),
        "the warm-up begins at zero: step 0 already moves, so add 1 to the step": _rate(up=lambda s, w: s / (w + 1)),
        "the warm-up is missing: while step < warmup the rate rises": (
            lambda s, t, w, p: p * min(1.0, (t - s) / (t - w)) if t > w else p
        ),
        "the way down is counted from step 0: it begins at `warmup`, at the full peak": (
            _rate(down=lambda s, t, w: (t - s) / t)
        ),
        "the way down is divided by all steps: it has total_steps - warmup of them": (
            _rate(down=lambda s, t, w: 1 - (s - w) / t)
        ),
        "the rate is zero at the last step: zero belongs to step `total_steps`, one after the last": (
            _rate(down=lambda s, t, w: (t - 1 - s) / (t - 1 - w))
        ),
        "the rate does not come down: after the warm-up it falls by the same amount each step": (
            _rate(down=lambda s, t, w: 1.0)
        ),
        "this is the part of the way that is done: the rate is the part still to go": (
            _rate(down=lambda s, t, w: (s - w) / (t - w))
        ),
        "`peak` is missing: these are the factors, not the rates": lambda s, t, w, p: linear_rate(s, t, w, 1.0),
    },
)


# --- 09.mixed_loss


def mixed_loss(logits: Tensor, labels: Tensor, partners: Tensor, share: Tensor, smoothing: float) -> Tensor:
    return _target_loss(logits, _smooth(_mix(logits, labels, partners, share), smoothing))


def _mix(logits: Tensor, labels: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    K = logits.shape[1]
    return share[:, None] * F.one_hot(labels, K) + (1 - share[:, None]) * F.one_hot(partners, K)


def _smooth(target: Tensor, smoothing: float) -> Tensor:
    return (1 - smoothing) * target + smoothing / target.shape[1]


def _target_loss(logits: Tensor, target: Tensor) -> Tensor:
    return -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()


def _draw_logits(generator: torch.Generator) -> list[tuple]:
    cases = []
    for smoothing in (0.1, 0.2, 0.3, 0.1):
        B, K = primes(generator, 2, low=5, high=13)
        labels, offset = (torch.randint(low, K, (B,), generator=generator) for low in (0, 1))
        share = 0.1 + 0.35 * torch.rand(B, generator=generator)
        logits = 2 * torch.randn(B, K, generator=generator)
        cases.append((logits, labels, (labels + offset) % K, share, smoothing))
    return cases


def _spread_over_others(logits: Tensor, labels: Tensor, partners: Tensor, share: Tensor, smoothing: float) -> Tensor:
    K = logits.shape[1]
    parts = []
    for chosen in (labels, partners):
        hot = F.one_hot(chosen, K)
        parts.append(_target_loss_each(logits, (1 - smoothing) * hot + (1 - hot) * smoothing / (K - 1)))
    return (share * parts[0] + (1 - share) * parts[1]).mean()


def _target_loss_each(logits: Tensor, target: Tensor) -> Tensor:
    return -(target * logits.log_softmax(dim=1)).sum(dim=1)


def _changed_loss(reduce):
    """The loss of the right target, put together by `reduce` from log-probabilities and target."""
    return lambda z, y, p, s, e: reduce(z, _smooth(_mix(z, y, p, s), e))


function_exercise(
    "09.mixed_loss",
    mixed_loss,
    _draw_logits,
    mistakes={
        "the labels are exchanged: `share` belongs to the picture's own label, the rest to the partner's": (
            lambda z, y, p, s, e: mixed_loss(z, p, y, s, e)
        ),
        "the partners' labels are missing: the target is mixed by `share`": (
            lambda z, y, p, s, e: mixed_loss(z, y, y, s, e)
        ),
        "the mean share was used for the whole batch: each picture has a share of its own": (
            lambda z, y, p, s, e: mixed_loss(z, y, p, s.mean().expand(len(s)), e)
        ),
        "the smoothing is missing": lambda z, y, p, s, e: mixed_loss(z, y, p, s, 0.0),
        "the smoothing was spread over the other classes only: it goes to all K, the right one included": (
            _spread_over_others
        ),
        "a share of 1 - smoothing was kept and nothing given to the classes: each row of the target sums to 1": (
            lambda z, y, p, s, e: (1 - e) * mixed_loss(z, y, p, s, 0.0)
        ),
        "the rows of the target sum to more than 1: the mixed target keeps 1 - smoothing of itself": (
            lambda z, y, p, s, e: _target_loss(z, _mix(z, y, p, s) + e / z.shape[1])
        ),
        "every class got `smoothing`: it is divided among the K classes": (
            lambda z, y, p, s, e: _target_loss(z, (1 - e) * _mix(z, y, p, s) + e)
        ),
        "the losses were added: the mean over the batch is wanted": (
            _changed_loss(lambda z, t: _target_loss(z, t) * len(z))
        ),
        "the mean runs over batch and classes: add up over the classes first": (
            _changed_loss(lambda z, t: _target_loss(z, t) / z.shape[1])
        ),
        "these are the losses of the pictures: take their mean": _changed_loss(_target_loss_each),
        "the sign is turned round: a loss is minus the logarithm": _changed_loss(lambda z, t: -_target_loss(z, t)),
        "the softmax runs over the batch: it belongs over the classes, dim=1": (
            _changed_loss(lambda z, t: -(t * z.log_softmax(dim=0)).sum(dim=1).mean())
        ),
        "the logits were multiplied as they are: a softmax and its logarithm are missing": (
            _changed_loss(lambda z, t: -(t * z).sum(dim=1).mean())
        ),
        "the logarithm is missing: softmax alone is no loss of this kind": (
            _changed_loss(lambda z, t: -(t * z.softmax(dim=1)).sum(dim=1).mean())
        ),
    },
    gradients=True,
)


# --- 09.cutmix_box


def cutmix_box(kept: float, row: int, column: int, height: int, width: int) -> tuple[int, int, int, int, float]:
    return _box()(kept, row, column, height, width)


def _box(
    half=lambda kept: 0.5 * (1 - kept) ** 0.5,
    whole=int,
    cut=lambda low, high, length: (max(0, low), min(length, high)),
    own=lambda kept, area, pixels: 1 - area / pixels,
    end=0,
):
    """Cutmix's box with one step replaced."""

    def box(kept: float, row: int, column: int, height: int, width: int):
        reach_y, reach_x = whole(half(kept) * height), whole(half(kept) * width)
        top, bottom = cut(row - reach_y, row + reach_y, height)
        left, right = cut(column - reach_x, column + reach_x, width)
        share = own(kept, (bottom - top) * (right - left), height * width)
        return top, left, bottom + end, right + end, share

    return box


def _draw_boxes(generator: torch.Generator) -> list[tuple]:
    """Boxes inside, over each of the four borders, over a corner; no side so near a whole number that rounding errs."""
    cases = []
    for y, x in ((0.5, 0.5), (0.05, 0.5), (0.95, 0.55), (0.45, 0.05), (0.5, 0.95), (0.05, 0.95), (0.55, 0.45)):
        height, width = primes(generator, 2, low=29, high=61)
        kept = 0.35 + 0.3 * torch.rand((), generator=generator).item()
        half = 0.5 * (1 - kept) ** 0.5
        while any(min(half * side % 1, 1 - half * side % 1) < 0.02 for side in (height, width)):
            kept += 0.001
            half = 0.5 * (1 - kept) ** 0.5
        cases.append((kept, int(y * height), int(x * width), height, width))
    return cases


function_exercise(
    "09.cutmix_box",
    cutmix_box,
    _draw_boxes,
    mistakes={
        "the share is the drawn one: the border cut pixels off and the reach was rounded, so count what was pasted": (
            _box(own=lambda kept, area, pixels: kept)
        ),
        "`own` is the share of the partner: one minus it stays the picture's own": (
            _box(own=lambda kept, area, pixels: area / pixels)
        ),
        "the root is missing: sides of √(1 - kept) make an area of 1 - kept": (
            _box(half=lambda kept: 0.5 * (1 - kept))
        ),
        "the box has an area of `kept`: what is pasted is 1 - kept": _box(half=lambda kept: 0.5 * kept**0.5),
        "the box reaches a whole side from its centre: half a side each way": (
            _box(half=lambda kept: (1 - kept) ** 0.5)
        ),
        "the reach was rounded to the nearest pixel: round it down": _box(whole=round),
        "the border does not cut the box off: top and left are at least 0, bottom and right at most height and width": (
            _box(cut=lambda low, high, length: (low, high))
        ),
        "the box was pushed inside the picture: the border cuts it off": (
            _box(
                cut=lambda low, high, length: (
                    (0, high - low) if low < 0 else (length - (high - low), length) if high > length else (low, high)
                )
            )
        ),
        "(row, column) was taken for the upper left corner: it is the centre": (
            _box(cut=lambda low, high, length: (max(0, (low + high) // 2), min(length, (low + high) // 2 + high - low)))
        ),
        "height and width are swapped: rows go with the height": (
            lambda kept, row, column, height, width: cutmix_box(kept, row, column, width, height)
        ),
        "the order is top, left, bottom, right": (lambda *case: tuple(cutmix_box(*case)[i] for i in (0, 2, 1, 3, 4))),
        "`bottom` and `right` are the last of the box: the first row and column outside are wanted": _box(end=-1),
        "the box stops short of the border: `bottom` is the first row outside, at most height; `right` at most width": (
            _box(cut=lambda low, high, length: (max(0, low), min(length - 1, high)))
        ),
    },
)


def _want_whole_pixels() -> None:
    """Let the check refuse 12.0 where 12 is right: a box is used to slice."""
    exercise = REGISTRY["09.cutmix_box"]

    def judge(answer: object, generator: torch.Generator) -> None:
        exercise.judge(answer, generator)
        for edge in answer(0.5, 16, 16, 32, 32)[:4]:
            if isinstance(edge, float):
                raise Wrong(f"the values are right, but {edge} is no whole number to Python, and cannot slice a tensor")

    REGISTRY["09.cutmix_box"] = dataclasses.replace(exercise, judge=judge)


_want_whole_pixels()


# --- 09.moving_average


def moving_average(weights: Tensor, decay: float) -> Tensor:
    return _averaged()(weights, decay)


def _averaged(
    keep=lambda decay, n: min(decay, (1 + n) / (10 + n)),
    start=lambda weights: weights[0],
    first=1,
):
    """The moving average with one step replaced; `first` is the n of the second row."""

    def average(weights: Tensor, decay: float) -> Tensor:
        value = start(weights)
        for n, row in enumerate(weights[1:], start=first):
            value = keep(decay, n) * value + (1 - keep(decay, n)) * row
        return value

    return average


_ZERO = "the average starts at zero: after the first step it is that step's weights"


def _from_zero(**changes) -> Callable:
    """The average that starts at zero and takes every row in."""
    average = _averaged(start=lambda weights: torch.zeros_like(weights[0]), **changes)
    return lambda weights, decay: average(torch.cat([weights[:1], weights]), decay)


def _draw_weights(generator: torch.Generator) -> list[tuple]:
    """Runs that end within the early ramp and runs that pass it."""
    cases = []
    for steps, decay in ((2, 0.9), (5, 0.9), (13, 0.5), (11, 0.4), (7, 0.999)):
        D = primes(generator, 1, low=3)[0]
        cases.append((torch.randn(steps, D, generator=generator), decay))
    return cases


function_exercise(
    "09.moving_average",
    moving_average,
    _draw_weights,
    mistakes={
        "the early ramp is missing: at first the average keeps (1 + n) / (10 + n) of itself, so that the start is left "
        "behind": _averaged(keep=lambda decay, n: decay),
        "`decay` is never reached: the smaller of it and the ramp is kept": (
            _averaged(keep=lambda decay, n: (1 + n) / (10 + n))
        ),
        "the larger of `decay` and the ramp was kept: it is the smaller": (
            _averaged(keep=lambda decay, n: max(decay, (1 + n) / (10 + n)))
        ),
        "the shares are exchanged: `keep` belongs to the average, 1 - keep to the new weights": (
            _averaged(keep=lambda decay, n: 1 - min(decay, (1 + n) / (10 + n)))
        ),
        "n starts at 0: after the first step one step is in the average, so the second row meets n = 1": (
            _averaged(first=0)
        ),
        "n starts at 2, or the first row came in twice: n counts the steps that are in the average already": (
            _averaged(first=2)
        ),
        _ZERO: _from_zero(first=1),
        _ZERO + ", with n = 1": _from_zero(first=0),
        _ZERO + ", also without the early ramp": _from_zero(keep=lambda decay, n: decay),
        _ZERO + ", and the loop meets the others": _averaged(start=lambda weights: torch.zeros_like(weights[0])),
        "that is the plain mean over the steps: a moving average forgets the old ones": lambda w, decay: w.mean(dim=0),
        "these are the last weights: the average is wanted": lambda w, decay: w[-1],
    },
    gradients=True,
)


# --- 09.broken

_RIGHT = {"a": "average", "b": "clipping", "c": "none", "d": "mixing", "e": "augmentation", "f": "schedule"}
_WORDS = tuple(sorted(_RIGHT.values()))
_LOOK = {
    "a": "after one step, how much of the old average is left, and what is the average then?",
    "b": "what have the gradients been multiplied by when their length is measured?",
    "c": "write the target as (1 - ε) times the right class plus ε / K for each class, and compare term by term",
    "d": "what does the loss say about the part of the picture that came from the partner?",
    "e": "how many pairs (top, left) are drawn for one batch?",
    "f": "how often does the schedule move in the whole run, and how many moves does it expect?",
}


@free_exercise("09.broken")
def _check_broken(answer: object, generator: torch.Generator) -> None:
    judge_letters("broken", answer, _RIGHT, _judge_loop)


def _judge_loop(letter: str, said: object) -> None:
    if said == _RIGHT[letter]:
        return
    if said not in _WORDS:
        raise Wrong(f"{letter!r}: expected one of {list(_WORDS)}, got {said!r}")
    verdict = "is not right as it stands" if said == "none" else f"is not broken in its {said}"
    raise Wrong(f"{letter!r} {verdict}: {_LOOK[letter]}")


# --- 09.verdict

function_exercise("09.verdict", verdict, draw_accuracies, mistakes=VERDICT_MISTAKES)
