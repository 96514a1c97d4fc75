"""Random flips and crops, drawn for each picture on its own, on whatever device the pictures are."""

import torch
import torch.nn.functional as F
from torch import Tensor


def random_flip(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Mirrors each picture left to right with probability one half.

    Args:
        images: (N, C, H, W), uint8 or floating point; not modified.
        generator: draws the coins, on its own device; the global generator of the pictures' device if None.

    Returns:
        A new tensor of the same shape, type and device.

    Raises:
        ValueError: if `images` is not such a tensor or `generator` is not a torch.Generator.
    """
    _check(images, generator)
    N, _C, _H, _W = images.shape
    flipped = _draw(2, N, images, generator).bool()
    return torch.where(flipped[:, None, None, None], images.flip(-1), images)


def random_crop(images: Tensor, padding: int = 4, generator: torch.Generator | None = None) -> Tensor:
    """Shifts each picture by up to `padding` pixels up, down, left and right, and fills with zeros.

    This is the crop of H × W pixels at a random place from a picture padded on every side; all (2 * padding + 1)²
    places are equally likely. Zero is black in uint8 pictures, and the mean grey in normalised ones.

    Args:
        images: (N, C, H, W), uint8 or floating point; not modified.
        padding: in pixels, at least 0 and smaller than H and W.
        generator: draws the shifts, on its own device; the global generator of the pictures' device if None.

    Returns:
        A new tensor of the same shape, type and device.

    Raises:
        ValueError: if `images`, `padding` or `generator` is not as described.
    """
    _check(images, generator)
    N, _C, H, W = images.shape
    if isinstance(padding, bool) or not isinstance(padding, int) or not 0 <= padding < min(H, W):
        raise ValueError(f"padding must be an integer from 0 to {min(H, W) - 1} for {H}×{W} pictures, got {padding!r}")
    places = 2 * padding + 1
    top = _draw(places, N, images, generator)
    left = _draw(places, N, images, generator)
    padded = F.pad(images, (padding, padding, padding, padding))
    # A view of every crop there is, so that one index per picture picks its own and nothing is copied before.
    crops = padded.unfold(2, H, 1).unfold(3, W, 1)  # (N, C, places, places, H, W)
    return crops[torch.arange(N, device=images.device), :, top, left]  # (N, C, H, W)


def _draw(high: int, N: int, images: Tensor, generator: torch.Generator | None) -> Tensor:
    # Drawn where the generator lives: a CPU generator gives the same augmentation on every device.
    device = images.device if generator is None else generator.device
    return torch.randint(high, (N,), generator=generator, device=device).to(images.device)


def _check(images: Tensor, generator: torch.Generator | None) -> None:
    if not isinstance(images, Tensor):
        raise ValueError(f"images must be a tensor (N, C, H, W), got {type(images).__name__}")
    if images.ndim != 4:
        raise ValueError(f"images must have four dimensions (N, C, H, W), got shape {tuple(images.shape)}")
    if images.dtype != torch.uint8 and not images.dtype.is_floating_point:
        raise ValueError(f"images must be uint8 or floating point, got {images.dtype}")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ValueError(f"generator must be a torch.Generator or None, got {type(generator).__name__}")
