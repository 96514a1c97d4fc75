"""Exercise 09.6: whether a few seeds show an effect, and how often chance alone would look like one."""

import math
from statistics import mean

import torch

from aacn_lib.exercises.grading import primes


def verdict(control: list[float], arm: list[float]) -> tuple[str, float]:
    return _judge(control, arm)


def _judge(
    control: list[float],
    arm: list[float],
    chance=lambda n, m: 2 / math.comb(n + m, m),
    above=lambda control, arm: min(arm) > max(control),
) -> tuple[str, float]:
    """The verdict with one step replaced."""
    below = above([-a for a in control], [-a for a in arm])
    word = "above all" if above(control, arm) else "below all" if below else "within the noise"
    return word, chance(len(control), len(arm))


def draw_accuracies(generator: torch.Generator) -> list[tuple]:
    """Arms outside, inside, with their mean or one seed outside only, over the whole band, and just touching it."""
    cases = []
    for arm in ((1.1, 1.2), (-0.2, -0.1, -0.3), (0.3, 0.6), (0.6, 1.9), (-0.9, 0.4, 0.2), (-0.5, 1.5), (1.0, 1.3)):
        seeds = primes(generator, 1, low=5, high=11)[0]
        band = torch.rand(seeds, generator=generator)
        band = ((band - band.min()) / (band.max() - band.min())).tolist()  # from 0 to 1
        # Steps of 1/256 from 0.5 on: exact in floating point, so that a tie stays one.
        cases.append(tuple([0.5 + round(64 * a) / 256 for a in values] for values in (band, arm)))
    return cases


# The order matters: each would also fit some of the answers that the ones before it are for.
VERDICT_MISTAKES = {
    "only the two means were compared: every accuracy of the arm must lie beyond every one of the control": (
        lambda control, arm: _judge(control, arm, above=lambda c, a: mean(a) > mean(c))
    ),
    "one accuracy beyond the control's was enough for you: all of them must be": (
        lambda control, arm: _judge(control, arm, above=lambda c, a: max(a) > max(c))
    ),
    "the arm's mean was compared with the control's extremes: every accuracy of the arm must lie beyond them": (
        lambda control, arm: _judge(control, arm, above=lambda c, a: mean(a) > max(c))
    ),
    "an equal accuracy does not lie above": lambda control, arm: _judge(
        control, arm, above=lambda c, a: min(a) >= max(c)
    ),
    "the chance counts one side only: the arm's seeds may be the highest or the lowest": (
        lambda control, arm: _judge(control, arm, chance=lambda n, m: 1 / math.comb(n + m, m))
    ),
    "the order of the arm's seeds was counted: a choice has none, so math.comb, not math.perm": (
        lambda control, arm: _judge(control, arm, chance=lambda n, m: 2 / math.perm(n + m, m))
    ),
    "the arm's seeds were chosen from the control's: they are chosen from all seeds together": (
        lambda control, arm: _judge(control, arm, chance=lambda n, m: 2 / math.comb(n, m))
    ),
    "the seeds are no coins: how many choices of len(arm) out of all seeds are there?": (
        lambda control, arm: _judge(control, arm, chance=lambda n, m: 2 * 0.5**m)
    ),
}
