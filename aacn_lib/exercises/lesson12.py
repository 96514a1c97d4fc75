"""Checks of lesson 12, predicting well: Wilson's interval, macro F1, McNemar's test, the threshold, five reports."""

import dataclasses
import math

import torch
from torch import Tensor

from aacn_lib.evaluation import mcnemar, wilson_interval
from aacn_lib.exercises.cheapest_threshold import THRESHOLD_MISTAKES, draw_validation, fit_threshold
from aacn_lib.exercises.five_reports import check_reports
from aacn_lib.exercises.grading import REGISTRY, Wrong, free_exercise, function_exercise, primes

Z = 1.959964

# --- 12.wilson


def wilson(correct: int, count: int) -> tuple[float, float]:
    return wilson_interval(correct, count)


def _draw_shares(generator: torch.Generator) -> list[tuple]:
    """Small and large samples, from few right to nearly all; never none or all, where rounding would decide."""
    small, medium = primes(generator, 2, low=11, high=43)
    return [(small - 2, small), (3, medium), (medium // 2, medium), (17 * small, 20 * small), (97 * small, 100 * small)]


def _wilson_like(z=Z, quarter=4, bend=1.0, over=1.0, inner=True):
    """Wilson's formula with one part changed."""

    def interval(correct, count):
        s, e = correct / count, z * z / count
        half = z * math.sqrt(s * (1 - s) / count + inner * e / (quarter * count))
        centre, below = s + bend * e / 2, 1 + over * e
        return (centre - half) / below, (centre + half) / below

    return interval


def _half_undivided(correct, count):
    s, e = correct / count, Z * Z / count
    half = Z * math.sqrt(s * (1 - s) / count + e / (4 * count))
    return (s + e / 2) / (1 + e) - half, (s + e / 2) / (1 + e) + half


def _centre_undivided(correct, count):
    s, e = correct / count, Z * Z / count
    half = Z * math.sqrt(s * (1 - s) / count + e / (4 * count)) / (1 + e)
    return s + e / 2 - half, s + e / 2 + half


def _not_by_count(correct, count):
    s, e = correct / count, Z * Z / count
    half = Z * math.sqrt(s * (1 - s) / count + e / 4)
    return (s + e / 2 - half) / (1 + e), (s + e / 2 + half) / (1 + e)


function_exercise(
    "12.wilson",
    wilson,
    _draw_shares,
    mistakes={
        "that is the quick interval, s ± z √(s(1 − s)/N): the terms with e = z²/N are missing": (
            _wilson_like(bend=0, over=0, inner=False)
        ),
        "the centre was not moved: it is s + e/2, before the division": _wilson_like(bend=0),
        "the division by 1 + e is missing": _wilson_like(over=0),
        "only the centre was divided by 1 + e: the root is divided too": _half_undivided,
        "only the root was divided by 1 + e: the centre s + e/2 is divided too": _centre_undivided,
        "the term e/(4N) under the root is missing": _wilson_like(inner=False),
        "the term under the root is e/(4N), not e/4: it is divided by N too": _not_by_count,
        "the term under the root is e/(4N), with a 4": _wilson_like(quarter=1),
        "z is 1.645, which makes a 90 % interval: for 95 % it is 1.959964": _wilson_like(z=1.645),
        "z² and z were mixed up: looks as if e were z/N": (
            lambda correct, count: _mixed(correct / count, Z / count, count)
        ),
        "the order is (low, high)": lambda correct, count: wilson(correct, count)[::-1],
        "the result is in percent: shares from 0 to 1 are wanted": (
            lambda correct, count: tuple(100 * end for end in wilson(correct, count))
        ),
    },
)


def _mixed(s: float, e: float, count: int) -> tuple[float, float]:
    half = Z * math.sqrt(s * (1 - s) / count + e / (4 * count))
    return (s + e / 2 - half) / (1 + e), (s + e / 2 + half) / (1 + e)


# --- 12.macro_f1


def macro_f1(confusion: Tensor) -> float:
    total = confusion.sum(dim=1) + confusion.sum(dim=0)
    occurs = total > 0
    return (2 * confusion.diag()[occurs] / total[occurs]).mean().item()


def _draw_confusions(generator: torch.Generator) -> list[tuple]:
    """Each with two classes never predicted and one without pictures; all but two with a class that has neither."""
    cases = []
    for number in range(6):
        K = primes(generator, 1, low=7, high=11)[0]
        confusion = torch.randint(1, 12, (K, K), generator=generator)
        confusion += torch.diag(torch.randint(5, 60, (K,), generator=generator))  # classes of different sizes
        *never, without, neither = torch.randperm(K, generator=generator)[:4].tolist()
        confusion[:, never] = 0
        confusion[without, :] = 0
        if number < 4:
            confusion[neither, :] = 0
            confusion[:, neither] = 0
        cases.append((confusion,))
    return cases


def _parts(confusion: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Precision, recall, F1 with 0 for 0/0, and which classes occur."""
    support, said, hits = confusion.sum(dim=1), confusion.sum(dim=0), confusion.diag().double()
    f1 = 2 * hits / (support + said).clamp(min=1)
    return hits / said.clamp(min=1), hits / support.clamp(min=1), f1, (support + said) > 0


def _weighted(confusion):
    _, _, f1, _ = _parts(confusion)
    support = confusion.sum(dim=1).double()
    return (f1 * support).sum().item() / support.sum().item()


def _of_means(counted):
    """The F1 of the two means; counted(confusion) gives the classes in each mean, (K,) or two of them."""

    def f1(confusion):
        precision, recall, _, _ = _parts(confusion)
        for_precision, for_recall = counted(confusion)
        p, r = precision[for_precision].mean().item(), recall[for_recall].mean().item()
        return 2 * p * r / (p + r)

    return f1


def _occurring(confusion):
    return [_parts(confusion)[3]] * 2


def _every_class(confusion):
    return [torch.ones(len(confusion), dtype=torch.bool)] * 2


def _where_defined(confusion):
    return confusion.sum(dim=0) > 0, confusion.sum(dim=1) > 0


def _both_occur(confusion):
    _, _, f1, _ = _parts(confusion)
    return f1[(confusion.sum(dim=0) > 0) & (confusion.sum(dim=1) > 0)].mean().item()


def _arithmetic(confusion):
    precision, recall, _, occurs = _parts(confusion)
    return ((precision + recall) / 2)[occurs].mean().item()


function_exercise(
    "12.macro_f1",
    macro_f1,
    _draw_confusions,
    mistakes={
        "classes that are never predicted, or have no pictures, were left out: they count with F1 = 0": _both_occur,
        "classes that are never predicted were left out of the mean: they count with F1 = 0": (
            lambda c: _parts(c)[2][c.sum(dim=0) > 0].mean().item()
        ),
        "classes without pictures were left out of the mean: if they were predicted, they count with F1 = 0": (
            lambda c: _parts(c)[2][c.sum(dim=1) > 0].mean().item()
        ),
        "classes with neither pictures nor predictions were counted: they are left out": (
            lambda c: _parts(c)[2].mean().item()
        ),
        "that is the accuracy: hits over all pictures": lambda c: (c.diag().sum() / c.sum()).item(),
        "classes were weighted by their pictures: in a macro mean each class counts the same": _weighted,
        "that is the F1 of the mean precision and the mean recall: take F1 of each class, then the mean": (
            _of_means(_occurring)
        ),
        "that is the F1 of the mean precision and the mean recall, both over all classes: take F1 of each class that "
        "occurs, then the mean": _of_means(_every_class),
        "that is the F1 of the mean precision and the mean recall, each over the classes where it is defined: take F1 "
        "of each class, then the mean": _of_means(_where_defined),
        "that is one F1 a class: the mean over the classes is wanted, a number": lambda c: _parts(c)[2][_parts(c)[3]],
        "that is one F1 a class, also of those that do not occur: their mean, a number, is wanted": (
            lambda c: _parts(c)[2]
        ),
        "that is the mean precision": lambda c: _parts(c)[0][_parts(c)[3]].mean().item(),
        "that is the mean recall": lambda c: _parts(c)[1][_parts(c)[3]].mean().item(),
        "precision and recall were joined by the arithmetic mean: F1 is the harmonic one": _arithmetic,
        "the factor 2 is missing: F1 = 2 · hits / (pictures + predictions)": lambda c: macro_f1(c) / 2,
    },
    dtype=False,
)


def _name_nan() -> None:
    """NaN equals nothing, so it is no mistake that a registered function could stand for."""
    exercise = REGISTRY["12.macro_f1"]

    def judge(answer: object, generator: torch.Generator) -> None:
        try:
            exercise.judge(answer, generator)
        except Wrong as wrong:
            if "got nan" in str(wrong):
                raise Wrong("the result is NaN: a class that is never predicted divides 0 by 0; its F1 is 0") from None
            raise

    REGISTRY["12.macro_f1"] = dataclasses.replace(exercise, judge=judge)


_name_nan()


# --- 12.p_value


def p_value(a: Tensor, b: Tensor, labels: Tensor) -> float:
    return mcnemar(*_only(a, b, labels))


def _only(a: Tensor, b: Tensor, labels: Tensor) -> tuple[int, int]:
    return ((a == labels) & (b != labels)).sum().item(), ((a != labels) & (b == labels)).sum().item()


def _draw_predictions(generator: torch.Generator) -> list[tuple]:
    """Counts (both, only A, only B, neither alike, neither apart): uneven both ways, even, and nearly even."""
    extra = int(torch.randint(0, 4, (), generator=generator))
    cases = []
    for counts in ((60, 12 + extra, 4, 5, 9), (47, 5, 11 + extra, 3, 11), (53, 7, 7, 4, 8), (71, 9, 8, 6, 10)):
        kinds = torch.repeat_interleave(torch.arange(5), torch.tensor(counts))
        kinds = kinds[torch.randperm(len(kinds), generator=generator)]
        labels = torch.randint(7, (len(kinds),), generator=generator)
        wrong, other = (labels + 1) % 7, (labels + 3) % 7
        a = torch.where((kinds == 0) | (kinds == 1), labels, wrong)
        b = torch.where((kinds == 0) | (kinds == 2), labels, torch.where(kinds == 4, other, wrong))
        cases.append((a, b, labels))
    return cases


def _tail(n: int, k: int) -> float:
    return sum(math.comb(n, i) for i in range(k + 1)) / 2**n


def _small_side(a, b, labels):
    only_a, only_b = _only(a, b, labels)
    return only_a + only_b, min(only_a, only_b)


def _chi_squared(correction: float):
    def approximate(a, b, labels):
        only_a, only_b = _only(a, b, labels)
        return math.erfc(math.sqrt(max(abs(only_a - only_b) - correction, 0) ** 2 / (only_a + only_b) / 2))

    return approximate


def _strict_tail(a, b, labels):
    n, k = _small_side(a, b, labels)
    return min(1.0, 2 * _tail(n, k - 1))


def _point(a, b, labels):
    n, k = _small_side(a, b, labels)
    return math.comb(n, k) / 2**n


def _side(choose):
    """The tail up to choose(only_a, only_b) instead of the smaller of the two."""

    def uneven(a, b, labels):
        only_a, only_b = _only(a, b, labels)
        return min(1.0, 2 * _tail(only_a + only_b, choose(only_a, only_b)))

    return uneven


def _different(a, b, labels):
    n, k = (a != b).sum().item(), _small_side(a, b, labels)[1]
    return min(1.0, 2 * _tail(n, k))


def _all_pictures(a, b, labels):
    n, k = len(labels), _small_side(a, b, labels)[1]
    return min(1.0, 2 * _tail(n, k))


def _marginals(a, b, labels):
    right = [(said == labels).sum().item() for said in (a, b)]
    return mcnemar(*right)


function_exercise(
    "12.p_value",
    p_value,
    _draw_predictions,
    mistakes={
        "the doubled tail was not cut off: where both counts are equal it exceeds 1, and a probability does not": (
            lambda a, b, labels: 2 * _tail(*_small_side(a, b, labels))
        ),
        "that is one side only: a result as uneven the other way round counts too": (
            lambda a, b, labels: _tail(*_small_side(a, b, labels))
        ),
        "that is the chance of exactly this result: the more uneven ones count as well": _point,
        "the observed result itself belongs to the tail: i runs up to and including k": _strict_tail,
        "k was the larger count: the tail runs up to the smaller one": _side(max),
        "k was the count of A alone: the tail runs up to the smaller of the two, whichever it is": (
            _side(lambda only_a, only_b: only_a)
        ),
        "k was the count of B alone: the tail runs up to the smaller of the two, whichever it is": (
            _side(lambda only_a, only_b: only_b)
        ),
        "n was counted from all pictures on which the predictions differ: two different wrong answers tell nothing": (
            _different
        ),
        "n is all pictures: only those that one gets right and the other wrong are coins": _all_pictures,
        "the numbers of right pictures were compared: count those that only one of the two gets right": _marginals,
        "that is McNemar's chi-squared approximation (with continuity correction): the exact binomial is wanted": (
            _chi_squared(1.0)
        ),
        "that is McNemar's chi-squared approximation: the exact binomial is wanted": _chi_squared(0.0),
    },
    dtype=False,
)


# --- 12.fit_threshold

function_exercise("12.fit_threshold", fit_threshold, draw_validation, mistakes=THRESHOLD_MISTAKES, dtype=False)


# --- 12.find_the_leak

free_exercise("12.find_the_leak")(check_reports)
