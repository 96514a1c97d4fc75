"""Mixup and CutMix: each picture is mixed with another of the batch, by a share and at a place of its own.

As with augmentation, drawing is one step and applying another, so that processes that share a batch agree.
"""

import torch
from torch import Tensor

from aacn_lib.expect import expect


def draw_mixing(
    mixup: float, cutmix: float, count: int, size: tuple[int, int], generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Draws with whom, how much and where each of `count` pictures is mixed.

    Mixup (Zhang et al. 2018) weighs two pictures by λ and 1 - λ, with λ from Beta(mixup, mixup). CutMix (Yun et al.
    2019, section 3.1) pastes a box of the other picture: its sides are √(1 - λ) of the picture's, its centre is any
    pixel, and the border cuts it off. With both, a fair coin decides for each picture. The papers draw one λ a batch.

    Args:
        mixup, cutmix: parameter of the Beta distribution, 0 for off.
        size: (H, W) of the pictures.
        generator: the global CPU generator if None. The numbers lie on its device.

    Returns:
        partner: int64 (count,), a permutation; a picture may be its own partner.
        share: float32 (count,), how much of the label stays the picture's own: λ, for CutMix the true share of pixels.
        box: int64 (count, 4), top, left, bottom, right (the last two outside) of what is pasted; empty for Mixup.

    Raises:
        ValueError: for a negative parameter or another generator.
    """
    for name, value in (("mixup", mixup), ("cutmix", cutmix)):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = number and 0 <= value < float("inf")
        expect(fits, "draw_mixing", name, "a number of at least 0", value)
    known = generator is None or isinstance(generator, torch.Generator)
    expect(known, "draw_mixing", "generator", "a torch.Generator or None", generator)
    H, W = size
    device = torch.device("cpu") if generator is None else generator.device
    random = {"generator": generator, "device": device}
    partner = torch.randperm(count, **random)
    if mixup and cutmix:
        cut = torch.randint(2, (count,), **random).bool()
    else:
        cut = torch.full((count,), bool(cutmix), device=device)
    kept = _draw_beta(mixup, count, random) if mixup else torch.ones(count, device=device)
    if not cutmix:
        return {"partner": partner, "share": kept, "box": torch.zeros(count, 4, dtype=torch.int64, device=device)}

    half = 0.5 * (1 - _draw_beta(cutmix, count, random)).sqrt()
    sides = []
    for length in (H, W):
        centre = torch.randint(length, (count,), **random)
        reach = torch.where(cut, (half * length).long(), 0)
        sides.append(((centre - reach).clamp(min=0), (centre + reach).clamp(max=length)))
    (top, bottom), (left, right) = sides
    own = 1 - (bottom - top) * (right - left) / (H * W)
    box = torch.stack([top, left, bottom, right], dim=1)
    return {"partner": partner, "share": torch.where(cut, own, kept), "box": box}


def apply_mixing(images: Tensor, partners: Tensor, drawn: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Mixes pictures with their partners, as `draw_mixing` drew, or with the rows of it that belong to `images`.

    Args:
        images: floating point (N, C, H, W), normalised or not.
        partners: of the same shape, `batch[drawn["partner"]]`.
        drawn: tensors of first dimension N.

    Returns:
        The mixed pictures, and the share (N,) of the label that stays the picture's own; the rest is the partner's.

    Raises:
        ValueError: if the arguments do not fit together.
    """
    expect(images.ndim == 4, "apply_mixing", "images", "shape (N, C, H, W)", tuple(images.shape))
    expect(images.is_floating_point(), "apply_mixing", "images", "floating point", images.dtype)
    fits = images.shape == partners.shape
    expect(fits, "apply_mixing", "partners", f"the shape of images, {tuple(images.shape)}", tuple(partners.shape))
    N, _C, H, W = images.shape
    for name in ("share", "box"):
        rows = len(drawn[name])
        expect(rows == N, "apply_mixing", f"drawn[{name!r}]", f"{N} rows, one a picture", rows)
    share, box = drawn["share"].to(images.device), drawn["box"].to(images.device)
    rows, columns = (torch.arange(side, device=images.device) for side in (H, W))
    top, left, bottom, right = box[:, :, None].unbind(dim=1)  # each (N, 1)
    inside_rows, inside_columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    pasted = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]  # (N, 1, H, W)
    # Pictures with a box are not weighed.
    boxed = pasted.any(dim=(2, 3), keepdim=True)  # (N, 1, 1, 1)
    own = torch.where(boxed, 1.0, share[:, None, None, None]).to(images.dtype)
    return torch.where(pasted, partners, images * own + partners * (1 - own)), share


def _draw_beta(alpha: float, count: int, random: dict) -> Tensor:
    # torch's Beta takes no generator; NumPy's is seeded from ours, and the global states stay as they are.
    import numpy as np

    seed = torch.randint(2**62, (1,), **random).item()
    values = np.random.default_rng(seed).beta(alpha, alpha, count)
    return torch.from_numpy(values.astype(np.float32)).to(random["device"])
