"""Compass: generated pictures whose label is the direction from one small mark to another.

The geometry makes looking far *necessary*. A network of two 3×3 convolutions sees 5×5 pixels at a time
(`RECEPTIVE_FIELD`). Three facts follow from the constants below, and the tests prove each of them:

* No 5×5 window touches both marks: a window centred at p touches a mark centred at a only if |p − a| ≤ 2 + 1 along both
  axes, so two marks can share a window only if their centres are at most 6 apart. They are at least 7 apart.
* No window that touches a mark reaches the zero padding outside the picture: such a window lies within 3 + 2 = 5 pixels
  of the mark's centre, and every centre has at least 5 pixels on each side of it. What the padding changes is the same
  background in all four directions.
* So the four directions hold the same windows in other places. Global average pooling forgets places: to this network
  the four directions are the same picture, whatever its weights.
"""

from collections.abc import Iterable

import numpy as np
import torch

from aacn_lib.data.dataset import Split

DIRECTIONS = ("right", "left", "down", "up")

RECEPTIVE_FIELD = 5  # pixels: two 3×3 convolutions
MARK_SIZE = 3  # pixels
BORDER = RECEPTIVE_FIELD // 2 * 2 + MARK_SIZE // 2  # = 5, pixels between a centre and the edge: centres 5..14 of 0..19
MIN_DISTANCE = RECEPTIVE_FIELD + MARK_SIZE - 1  # = 7, between the centres, along the axis of the label
MAX_DISTANCE = 9  # what a 20×20 picture has room for
MAX_SIDEWAYS = 2  # across the axis of the label: well below MIN_DISTANCE, so that the direction is never in doubt

BACKGROUND = 0.35  # of full scale: not 0, so that the zero padding differs from the background
MARK = 0.95
NOISE = 0.12  # standard deviation, of full scale; a mark stands out by five of them

# Five bright pixels each: the sum of the pixels does not tell the marks apart, their shape does.
MARK_A = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)
MARK_B = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=bool)


def receptive_field(layers: Iterable[tuple[int, int]]) -> int:
    """The side of the square of input pixels that one output of stacked convolutions depends on.

    `layers` holds (kernel_size, stride) pairs, first layer first: `receptive_field([(3, 1), (3, 1)])` is 5.
    Each layer adds its kernel minus one, times the product of all the strides before it.
    """
    size, step = 1, 1
    for kernel_size, stride in layers:
        if kernel_size < 1 or stride < 1:
            raise ValueError(f"kernel_size and stride must be at least 1, got ({kernel_size}, {stride})")
        size += (kernel_size - 1) * step
        step *= stride
    return size


def place_marks(
    directions: np.ndarray,
    rng: np.random.Generator,
    size: int = 20,
    border: int = BORDER,
    distances: tuple[int, int] = (MIN_DISTANCE, MAX_DISTANCE),
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the centres of both marks: two int64 (N, 2) arrays of (row, column), mark A first.

    `directions` (N,) indexes DIRECTIONS; `border` and `distances` (smallest and largest) are in pixels. Distance, place
    and sideways shift are drawn alike for all four directions, so that only the order of the marks tells them apart.
    """
    N = len(directions)
    first, last = border, size - 1 - border
    distance = rng.integers(distances[0], min(distances[1], last - first), size=N, endpoint=True)
    sideways = rng.integers(-MAX_SIDEWAYS, MAX_SIDEWAYS, size=N, endpoint=True)
    near = rng.integers(first, last - distance, endpoint=True)
    across = rng.integers(first + np.maximum(0, -sideways), last - np.maximum(0, sideways), endpoint=True)
    # "low" is the mark nearer to the left (or upper) edge; along the label's axis, then across it.
    low = np.stack([near, across], axis=1)
    high = np.stack([near + distance, across + sideways], axis=1)
    horizontal = (directions < 2)[:, None]
    low = np.where(horizontal, low[:, ::-1], low)  # (row, column): a horizontal axis is the column
    high = np.where(horizontal, high[:, ::-1], high)
    a_is_low = (directions % 2 == 0)[:, None]  # right and down lead from the low mark to the high one
    return np.where(a_is_low, low, high), np.where(a_is_low, high, low)


def paint_marks(a: np.ndarray, b: np.ndarray, size: int = 20) -> np.ndarray:
    """Paints mark A around each centre of `a` (N, 2) and mark B around `b`: float32 (N, size, size), without noise."""
    pictures = np.full((len(a), size, size), BACKGROUND, dtype=np.float32)
    for centres, shape in ((a, MARK_A), (b, MARK_B)):
        for row, column in np.argwhere(shape) - MARK_SIZE // 2:  # the offsets of the bright pixels
            pictures[np.arange(len(a)), centres[:, 0] + row, centres[:, 1] + column] = MARK
    return pictures


def compass(num_images: int, *, seed: int, size: int = 20, noise: float = NOISE) -> Split:
    """Generates `num_images` pictures of two marks, A (+) and B (×), labelled with the direction from A to B.

    The four directions (see `DIRECTIONS`) are balanced, to within one picture when `num_images` is not a multiple of 4.
    Equal arguments give equal pictures, and no global random state is used.

    Args:
        num_images: N, at least 1.
        seed: a non-negative integer.
        size: height and width in pixels; at least 18, or there is no room for the distances.
        noise: standard deviation of the noise on each pixel, as a fraction of full scale; 0 for none.

    Returns:
        Split: images uint8 (N, 1, size, size), labels int64 (N,), which index `DIRECTIONS`.

    Raises:
        ValueError: for an argument out of its range.
    """
    smallest = 2 * BORDER + MIN_DISTANCE + 1
    for name, value, least in (("num_images", num_images, 1), ("seed", seed, 0), ("size", size, smallest)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 <= noise <= 1:
        raise ValueError(f"noise must be a fraction of full scale between 0 and 1, got {noise!r}")

    rng = np.random.default_rng(seed)
    directions = rng.permutation(np.arange(num_images) % len(DIRECTIONS))
    pictures = paint_marks(*place_marks(directions, rng, size), size)
    pictures += noise * rng.standard_normal(pictures.shape, dtype=np.float32)
    images = np.rint(pictures.clip(0, 1) * 255).astype(np.uint8)
    return Split(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(directions.astype(np.int64)))
