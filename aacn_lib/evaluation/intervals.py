"""Intervals: how far a measured share may be from the one that other pictures would give."""

import math


def wilson_interval(correct: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share, `correct` out of `count`: what another test set of this size may give (Wilson 1927)."""
    if count < 1 or not 0 <= correct <= count:
        raise ValueError(f"wilson_interval: expected 0 ≤ correct ≤ count and count ≥ 1, got {correct} of {count}")
    share, spread = correct / count, z * z / count
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)
