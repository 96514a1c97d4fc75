"""Comparisons of two models against exact arithmetic, published values and simulated truth."""

import math
from fractions import Fraction

import pytest
import torch

from aacn_lib.evaluation import (
    Agreement,
    compare,
    difference_interval,
    mcnemar,
    paired_seeds,
    student_quantile,
    wilson_interval,
)


def exact_p(b, c):
    tail = sum(math.comb(b + c, i) for i in range(min(b, c) + 1))
    return min(1.0, float(2 * Fraction(tail, 2 ** (b + c))))


def test_mcnemar_by_hand():
    assert mcnemar(5, 0) == mcnemar(0, 5) == 2 / 32
    assert mcnemar(1, 6) == 2 * (1 + 7) / 128
    assert mcnemar(0, 0) == mcnemar(4, 4) == 1


def test_mcnemar_equals_exact_arithmetic():
    for b, c in [(b, c) for b in range(0, 30, 3) for c in range(0, 30, 4)] + [(480, 561), (90, 91)]:
        assert mcnemar(b, c) == pytest.approx(exact_p(b, c), rel=1e-13)


def test_mcnemar_of_a_hundred_thousand_pictures():
    # The tail of a binomial with n = 20,000 lies close to the normal one: z = (|b - c| - 1) / √n = 1.994.
    assert mcnemar(9859, 10141) == pytest.approx(math.erfc(281 / math.sqrt(20_000) / math.sqrt(2)), rel=1e-3)
    assert 0 <= mcnemar(0, 100_000) < 1e-300


def test_newcombe_published_example():
    # Newcombe 1998: both 36, only A 12, only B 2, neither 0; method 10 gives 0.0569 to 0.3404.
    low, high = difference_interval(Agreement(36, 12, 2, 0))
    assert (round(low, 4), round(high, 4)) == (0.0569, 0.3404)
    low, high = difference_interval(Agreement(36, 2, 12, 0))
    assert (round(low, 4), round(high, 4)) == (-0.3404, -0.0569)


def test_newcombe_with_models_that_agree():
    # 25 and 23 of 40 right; 20 · 12 - 5 · 3 = 225, less 40 / 2 for continuity.
    (low_a, high_a), (low_b, high_b) = wilson_interval(25, 40), wilson_interval(23, 40)
    correlation = 205 / math.sqrt(25 * 15 * 23 * 17)
    below, above = 0.625 - low_a, high_b - 0.575
    low = 0.05 - math.sqrt(below**2 - 2 * correlation * below * above + above**2)
    above, below = high_a - 0.625, 0.575 - low_b
    high = 0.05 + math.sqrt(above**2 - 2 * correlation * above * below + below**2)
    assert difference_interval(Agreement(20, 5, 3, 12)) == pytest.approx((low, high), abs=1e-12)


def test_difference_interval_at_the_edges():
    low, high = difference_interval(Agreement(10, 0, 0, 0))
    assert low == -high
    assert high == pytest.approx(1 - wilson_interval(10, 10)[0])
    low, high = difference_interval(Agreement(0, 10, 0, 0))
    assert 0.4 < low < high == 1
    with pytest.raises(ValueError, match="at least one picture"):
        difference_interval(Agreement(0, 0, 0, 0))


def test_difference_interval_holds_the_truth_about_as_often_as_it_says():
    shares = torch.tensor([0.62, 0.13, 0.07, 0.18])  # of both, only A, only B, neither; the true difference is 0.06
    draws = torch.multinomial(shares, 600 * 200, replacement=True, generator=torch.Generator().manual_seed(7))
    held = 0
    for draw in draws.view(600, 200):
        low, high = difference_interval(Agreement(*torch.bincount(draw, minlength=4).tolist()))
        held += low <= 0.06 <= high
    assert 0.92 <= held / 600 <= 0.98  # three standard errors of 600 draws are 0.027


def test_models_are_compared_picture_by_picture():
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    a = torch.tensor([0, 1, 2, 0, 1, 0, 1])  # right on the first five
    b = torch.tensor([0, 1, 0, 1, 0, 2, 2])  # right on the first two and the sixth
    found = compare(a, b, labels)
    assert found.agreement == Agreement(both=2, only_a=3, only_b=1, neither=1)
    assert found.difference == pytest.approx(2 / 7)
    assert found.interval == difference_interval(found.agreement)
    assert found.p_value == mcnemar(3, 1) == 0.625
    with pytest.raises(ValueError, match=r"\(7,\), \(6,\), \(7,\)"):
        compare(a, b[:6], labels)


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423)]
)
def test_student_quantiles_of_the_tables(freedom, quantile):
    assert student_quantile(freedom) == pytest.approx(quantile, abs=5e-5)


def test_student_quantile_of_another_share():
    assert student_quantile(5, 0.9) == pytest.approx(2.0150, abs=5e-5)
    assert student_quantile(1000, 0.95) == pytest.approx(1.9623, abs=5e-5)
    with pytest.raises(ValueError, match="freedom"):
        student_quantile(0)


def test_paired_seeds_by_hand():
    # Differences 1, 2, 3, 6: mean 3, deviation √(14/3), t with 3 degrees of freedom 3.18245.
    found = paired_seeds([11, 22, 33, 46], [10, 20, 30, 40])
    assert (found.pairs, found.difference) == (4, 3)
    half = 3.182446 * math.sqrt(14 / 3) / 2
    assert found.t_interval == pytest.approx((3 - half, 3 + half), abs=1e-5)
    low, high = found.bootstrap_interval
    # All 4⁴ resamples are equally likely: their means' percentiles, counted out.
    ds = (1, 2, 3, 6)
    means = sorted((a + b + c + d) / 4 for a in ds for b in ds for c in ds for d in ds)
    assert means[2] <= low <= means[10]
    assert means[-11] <= high <= means[-3]
    assert paired_seeds([11, 22, 33, 46], [10, 20, 30, 40]) == found


def test_a_generator_of_the_caller_is_left_alone():
    before = torch.get_rng_state()
    paired_seeds([1.0, 2, 3], [1.0, 1, 1])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("pairs", [1, 2])
def test_too_few_seeds_give_no_interval(pairs):
    found = paired_seeds([0.5, 0.7][:pairs], [0.4, 0.4][:pairs])
    assert found.difference == pytest.approx([0.1, 0.2][pairs - 1])
    assert found.t_interval is found.bootstrap_interval is None


@pytest.mark.parametrize(("a", "b"), [([], []), ([1, 2], [1]), ([1, float("nan")], [1, 2])])
def test_seeds_that_do_not_pair_are_refused(a, b):
    with pytest.raises(ValueError, match="paired_seeds: expected"):
        paired_seeds(a, b)


@pytest.mark.parametrize("count", [-1, 2.0, True])
def test_counts_are_checked(count):
    with pytest.raises(ValueError, match="only_a: expected a whole number"):
        mcnemar(count, 3)
