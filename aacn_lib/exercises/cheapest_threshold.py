"""Exercise 12.4: fit the confidence up to which a picture is worth a costly prediction."""

import torch
from torch import Tensor

from aacn_lib.exercises.grading import primes


def fit_threshold(single: Tensor, refined: Tensor, labels: Tensor) -> float:
    return _first_threshold(single, refined, labels, _refined_all)


def _rights(single: Tensor, refined: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Confidence, and whether a picture is right before and after, (N,) each."""
    confidence, predicted = single.max(dim=1)
    return confidence, predicted == labels, refined.argmax(dim=1) == labels


def _first_threshold(
    single, refined, labels, goal, *, confidence=None, order=sorted, below=torch.le, lowest=(0.0,)
) -> float:
    """The first threshold in `order` whose number of right pictures reaches goal(before, after, all numbers)."""
    own, before, after = _rights(single, refined, labels)
    confidence = own if confidence is None else confidence
    thresholds = order([*lowest, *confidence.tolist()])
    marks = torch.tensor(thresholds)[:, None]
    rights = torch.where(below(confidence, marks), after, before).sum(dim=1).tolist()
    wanted = goal(before.sum().item(), after.sum().item(), rights)
    return next((t for t, right in zip(thresholds, rights, strict=True) if right >= wanted), thresholds[-1])


def draw_validation(generator: torch.Generator) -> list[tuple]:
    """Pictures of rising confidence, planned so that each usual mistake ends at another threshold.

    A plan is a text with one letter a picture: g is gained by refining, l is lost, r is right both times, w wrong both
    times. Two letters in brackets share one confidence.

    Refining all is nowhere worse than refining none, so a goal of "all or none, whichever is better" is the same goal;
    and some threshold exceeds it in every plan, so no loop over thresholds ends without one.
    """
    plans = (
        "wglgr(gl)gwlggrlrrw",  # refining all is better, and better still somewhere before the end
        "rggglwlrlrglrrwrrr",  # refining none is as good as all; the best of all thresholds is elsewhere
        "g(gg)rwlgrggwrgrrlrw",
        "lwlrgrggwg(gg)lrrlrr",
        "gwrrlwrlrrgrrgrlwrr",
    )
    return [_from_plan(plan, generator) for plan in plans]


def _from_plan(plan: str, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    K = primes(generator, 1, low=3, high=7)[0]
    letters = [letter for letter in plan if letter in "glrw"]
    N = len(letters)
    labels = torch.randint(K, (N,), generator=generator)
    wrong = (labels + 1) % K
    confidence = torch.linspace(0.55, 0.97, N) + 0.01 * torch.rand(N, generator=generator)
    if "(" in plan:
        confidence[plan.index("(") + 1] = confidence[plan.index("(")]
    sure = 0.55 + 0.4 * torch.rand(N, generator=generator)  # of the refined answer: in another order
    first = torch.tensor([letter in "lr" for letter in letters])
    second = torch.tensor([letter in "gr" for letter in letters])
    single = _table(torch.where(first, labels, wrong), confidence, K)
    refined = _table(torch.where(second, labels, wrong), sure, K)
    mixed = torch.randperm(N, generator=generator)
    return single[mixed], refined[mixed], labels[mixed]


def _table(predicted: Tensor, confidence: Tensor, K: int) -> Tensor:
    """Probabilities (N, K): the given confidence for the predicted class, the rest in equal parts."""
    rest = ((1 - confidence) / (K - 1))[:, None].repeat(1, K)
    return rest.scatter(1, predicted[:, None], confidence[:, None])


def _refined_all(before, after, _):
    """Where refining none is better than that, it reaches the goal too, and 0.0 is the answer."""
    return after


def _largest(values):
    return sorted(values, reverse=True)


THRESHOLD_MISTAKES = {
    "that is the threshold of the highest accuracy of all, the luckiest one: the smallest that reaches refining "
    "all is wanted": lambda s, r, y: _first_threshold(s, r, y, lambda b, a, every: max(every)),
    "that is the largest threshold that reaches the goal: the smallest costs the fewest passes": (
        lambda s, r, y: _first_threshold(s, r, y, _refined_all, order=_largest)
    ),
    "pictures of exactly the threshold's confidence were not refined: at most means ≤": (
        lambda s, r, y: _first_threshold(s, r, y, _refined_all, below=torch.lt)
    ),
    "it is always 0.0: was the goal that of refining none, or were the confident pictures refined? Those at most "
    "`threshold` confident are, and the goal is that of refining all": lambda s, r, y: 0.0,
    "the confidence was taken from `refined`: before the costly passes only the single one is known": (
        lambda s, r, y: _first_threshold(s, r, y, _refined_all, confidence=r.amax(dim=1))
    ),
    "0.0 was not tried: where refining none is as good as refining all, it is the answer": (
        lambda s, r, y: _first_threshold(s, r, y, _refined_all, lowest=())
    ),
    "more than the accuracy of refining all was asked for: reaching it is enough": (
        lambda s, r, y: _first_threshold(s, r, y, lambda before, after, _: after + 1)
    ),
}
