"""Is one model better than another? Comparisons of two models on the same pictures, or over the same seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from aacn_lib.evaluation.intervals import wilson_interval


class Agreement(NamedTuple):
    """Pictures that both models get right, only A, only B, and neither."""

    both: int
    only_a: int
    only_b: int
    neither: int


@dataclass(frozen=True)
class Comparison:
    """Two models on the same pictures.

    Attributes:
        agreement: the four counts.
        difference: accuracy of A minus accuracy of B.
        interval: of the difference, 95 %.
        p_value: of McNemar's exact test.
    """

    agreement: Agreement
    difference: float
    interval: tuple[float, float]
    p_value: float


@dataclass(frozen=True)
class PairedSeeds:
    """Two recipes over the same seeds.

    Attributes:
        pairs: number of seeds.
        difference: mean of a - b over the pairs.
        t_interval: 95 %, Student's t with pairs - 1 degrees of freedom; None with fewer than 3 pairs.
        bootstrap_interval: 95 %, percentiles of the means of resampled pairs; None with fewer than 3 pairs. Narrower
            than the t interval with few pairs, and then too narrow: it knows nothing of values it has not seen.
    """

    pairs: int
    difference: float
    t_interval: tuple[float, float] | None
    bootstrap_interval: tuple[float, float] | None


def compare(predictions_a: Tensor, predictions_b: Tensor, labels: Tensor) -> Comparison:
    """Compare two models on the same pictures.

    Args:
        predictions_a, predictions_b, labels: class numbers (N,), of the same pictures in the same order.

    Raises:
        ValueError: if the three differ in length or are empty.
    """
    a, b, truth = (torch.as_tensor(values).cpu() for values in (predictions_a, predictions_b, labels))
    if not a.shape == b.shape == truth.shape or a.ndim != 1 or len(a) == 0:
        shapes = ", ".join(str(tuple(values.shape)) for values in (a, b, truth))
        raise ValueError(f"compare: expected three times the same number of classes (N,), N ≥ 1, got {shapes}")
    right_a, right_b = a == truth, b == truth
    agreement = Agreement(
        both=(right_a & right_b).sum().item(),
        only_a=(right_a & ~right_b).sum().item(),
        only_b=(~right_a & right_b).sum().item(),
        neither=(~right_a & ~right_b).sum().item(),
    )
    difference = (agreement.only_a - agreement.only_b) / len(truth)
    p_value = mcnemar(agreement.only_a, agreement.only_b)
    return Comparison(agreement, difference, difference_interval(agreement), p_value)


def mcnemar(only_a: int, only_b: int) -> float:
    """P-value of McNemar's exact test, two-sided: are A and B right equally often?

    Only pictures on which one is right and the other is wrong tell them apart. If the two were equally good, each such
    picture would fall to A or to B like a coin. The p-value is the chance of a count at least as uneven as this one.

    Args:
        only_a, only_b: pictures that only A, or only B, gets right.

    Source: McNemar 1947, with the binomial distribution in place of its chi-squared approximation.
    """
    _check_counts("mcnemar", only_a=only_a, only_b=only_b)
    n, k = only_a + only_b, min(only_a, only_b)
    # The largest term of the tail, exact: Python rounds a quotient of whole numbers once, however long they are.
    # The others follow from it downwards, C(n, i - 1) = C(n, i) · i / (n - i + 1).
    term = math.comb(n, k) / (1 << n)
    tail = term
    for i in range(k, 0, -1):
        term *= i / (n - i + 1)
        if term < tail * 1e-18:
            break
        tail += term
    return min(1.0, 2 * tail)


def difference_interval(agreement: Agreement) -> tuple[float, float]:
    """95 % interval of accuracy A minus accuracy B on the same pictures.

    Wilson's intervals of the two accuracies, put together with the correlation of right and wrong between the models.
    It stays within [-1, 1] and is no point when the models never differ.

    Source: Newcombe 1998, Statistics in Medicine 17, 2635-2650, method 10.
    """
    both, only_a, only_b, neither = agreement
    _check_counts("difference_interval", **agreement._asdict())
    count = sum(agreement)
    if count == 0:
        raise ValueError("difference_interval: expected at least one picture, got none")
    right_a, right_b = both + only_a, both + only_b
    share_a, share_b = right_a / count, right_b / count
    low_a, high_a = wilson_interval(right_a, count)
    low_b, high_b = wilson_interval(right_b, count)

    product = right_a * (count - right_a) * right_b * (count - right_b)
    excess = both * neither - only_a * only_b
    if excess > 0:
        excess = max(excess - count / 2, 0)  # Newcombe's continuity correction
    correlation = excess / math.sqrt(product) if product else 0.0

    def joined(x: float, y: float) -> float:
        return math.sqrt(max(0.0, x * x - 2 * correlation * x * y + y * y))

    difference = (only_a - only_b) / count
    low = difference - joined(share_a - low_a, high_b - share_b)
    high = difference + joined(high_a - share_a, share_b - low_b)
    return max(-1.0, low), min(1.0, high)


def paired_seeds(a: Sequence[float], b: Sequence[float], *, resamples: int = 10_000) -> PairedSeeds:
    """Compare two recipes by results that were reached with the same seeds.

    A pair shares what the seed sets, so the differences scatter less than the results themselves.

    Args:
        a, b: one result a seed (an accuracy, say), the seeds in the same order.
        resamples: of the bootstrap; drawn from a fixed seed, so the answer is always the same.

    Raises:
        ValueError: if there is no pair, the numbers differ, or a value is not finite.
    """
    a, b = [float(value) for value in a], [float(value) for value in b]
    if len(a) != len(b) or not a:
        raise ValueError(f"paired_seeds: expected as many results on both sides, at least 1, got {len(a)} and {len(b)}")
    if not all(map(math.isfinite, a + b)):
        raise ValueError("paired_seeds: expected finite results, got one that is not")
    differences = torch.tensor(a, dtype=torch.float64) - torch.tensor(b, dtype=torch.float64)
    pairs, mean = len(a), differences.mean().item()
    if pairs < 3:
        return PairedSeeds(pairs, mean, None, None)
    half = student_quantile(pairs - 1) * differences.std().item() / math.sqrt(pairs)
    chosen = torch.randint(pairs, (resamples, pairs), generator=torch.Generator().manual_seed(0))
    means = differences[chosen].mean(dim=1)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return PairedSeeds(pairs, mean, (mean - half, mean + half), (low, high))


def student_quantile(freedom: int, share: float = 0.95) -> float:
    """The t with P(|T| ≤ t) = share for Student's distribution with a whole number of degrees of freedom.

    Source: Abramowitz and Stegun 1964, formulas 26.7.3 and 26.7.4, solved by bisection.
    """
    if isinstance(freedom, bool) or not isinstance(freedom, int) or freedom < 1 or not 0 < share < 1:
        raise ValueError(f"student_quantile: expected freedom ≥ 1 and 0 < share < 1, got {freedom!r} and {share!r}")
    low, high = 0.0, math.pi / 2  # the angle, with t = √freedom · tan(angle)
    for _ in range(80):
        angle = (low + high) / 2
        low, high = (angle, high) if _inside(angle, freedom) < share else (low, angle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def _inside(angle: float, freedom: int) -> float:
    """P(|T| ≤ √freedom · tan(angle))."""
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for j in range(freedom // 2):
        total += term
        term *= (2 * j + 1 + odd) / (2 * j + 2 + odd) * math.cos(angle) ** 2
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def _check_counts(what: str, **counts: int) -> None:
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{what}: {name}: expected a whole number of at least 0, got {value!r}")
