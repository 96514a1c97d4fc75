"""Augmentation drawn for each picture on its own, on whatever device the pictures are.

Drawing and applying are two steps. `draw_augmentation` draws the random numbers of a whole batch; `apply_augmentation`
uses them, or only some rows of them: processes that share a batch draw the same numbers and each applies its part.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from aacn_lib.augment.policy import POLICIES, apply_policy, draw_policy
from aacn_lib.augment.transforms import crop, cut_out, flip, jitter, perspective_matrix, rotation_matrix, warp
from aacn_lib.expect import expect, expect_one_of

PADDINGS = ("zero", "reflect")
# What is drawn for each part, as `draw_augmentation` names it.
DRAWN = {
    "flip": ("flip",),
    "crop": ("top", "left"),
    "rotation": ("degrees",),
    "perspective": ("corners",),
    "policy": ("operation", "strength"),
    "jitter": ("factors", "order"),
    "hue": ("factors", "order"),
    "cutout": ("centre",),
}


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training picture; each part is drawn anew for each picture. The parts come in this order.

    Attributes:
        flip: mirror left to right with probability one half.
        crop: shift by up to so many pixels up, down, left and right.
        padding: what a shift brings in: "zero" (black) or "reflect" (the picture mirrored at its border pixels).
        rotation: turn by up to so many degrees either way; bilinear, black outside. At most 180.
        perspective: move each corner inwards by up to this share of half the side (torchvision's distortion_scale),
            0 to 1. Every picture is distorted, as with torchvision's p=1. Rotated first, then distorted, sampled once.
        policy: "none", "trivial_augment_wide" (Müller and Hutter 2021) or "rand_augment" (Cubuk et al. 2020).
        num_ops: operations that "rand_augment" applies to each picture.
        magnitude: their strength, 0 to 30.
        jitter: multiply brightness, contrast and saturation by numbers from [1 - jitter, 1 + jitter], in an order
            drawn for each picture, 0 to 1.
        hue: turn the colours by up to this share of the colour circle either way, 0 to 0.5.
        cutout: side in pixels of a square that is painted over. Its centre is any pixel, so that part of it may lie
            outside (DeVries and Taylor 2017).

    Raises:
        ValueError: for a value that is not as described.
    """

    crop: int = 0
    padding: str = "zero"
    flip: bool = False
    rotation: float = 0.0
    perspective: float = 0.0
    jitter: float = 0.0
    hue: float = 0.0
    policy: str = "none"
    num_ops: int = 2
    magnitude: int = 9
    cutout: int = 0

    def __post_init__(self):
        for name, allowed in (("padding", PADDINGS), ("policy", POLICIES)):
            value = getattr(self, name)
            expect_one_of("Augmentation", name, allowed, value)
        expect(isinstance(self.flip, bool), "Augmentation", "flip", "true or false", self.flip)
        for name, least, most in (("crop", 0, None), ("cutout", 0, None), ("num_ops", 1, None), ("magnitude", 0, 30)):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
            wanted = f"of at least {least}" if most is None else f"from {least} to {most}"
            fits = whole and (most is None or value <= most)
            expect(fits, "Augmentation", name, f"a whole number {wanted}", value)
        for name, most in (("rotation", 180), ("perspective", 1), ("jitter", 1), ("hue", 0.5)):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            expect(number and 0 <= value <= most, "Augmentation", name, f"a number from 0 to {most}", value)


def to_augmentation(value: object) -> Augmentation:
    """An `Augmentation` from what a recipe may say.

    Args:
        value: False for none, True for flips and 4-pixel zero-padded crops, a dictionary of the fields, or an
            `Augmentation`.

    Raises:
        ValueError: for anything else, an unknown field (the nearest is named) or a wrong value.
    """
    if isinstance(value, Augmentation):
        return value
    if isinstance(value, bool):
        return Augmentation(crop=4, flip=True) if value else Augmentation()
    expect(isinstance(value, dict), "augment", "value", "true, false, a table or an Augmentation", value)
    known = [field.name for field in fields(Augmentation)]
    for key in value:
        expect_one_of("augment", "key", known, key)
    return Augmentation(**value)


def draw_augmentation(
    augmentation: Augmentation, count: int, shape: tuple[int, int, int], generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Draws all random numbers for `count` pictures.

    Args:
        shape: (C, H, W) of the pictures.
        generator: the global CPU generator if None. The numbers lie on its device; flips and crops are drawn first, and
            exactly as `random_flip` and then `random_crop` draw them.

    Returns:
        Tensors whose first dimension is `count`; only those that the augmentation needs.

    Raises:
        ValueError: if pictures of this shape cannot be augmented so.
    """
    _check_generator(generator)
    C, H, W = shape
    _check_shape(augmentation, C, H, W)
    device = torch.device("cpu") if generator is None else generator.device
    random = {"generator": generator, "device": device}
    drawn = {}
    if augmentation.flip:
        drawn["flip"] = _draw(2, count, device, generator).bool()
    if augmentation.crop:
        drawn["top"] = _draw(2 * augmentation.crop + 1, count, device, generator)
        drawn["left"] = _draw(2 * augmentation.crop + 1, count, device, generator)
    if augmentation.rotation:
        drawn["degrees"] = (2 * torch.rand(count, **random) - 1) * augmentation.rotation
    if augmentation.perspective:
        # How far inwards each corner goes, top left first and on clockwise, as in torchvision's RandomPerspective.
        x = torch.randint(int(augmentation.perspective * (W // 2)) + 1, (count, 4), **random)
        y = torch.randint(int(augmentation.perspective * (H // 2)) + 1, (count, 4), **random)
        right, bottom = torch.tensor([[False, True, True, False], [False, False, True, True]], device=device)
        x, y = torch.where(right, W - 1 - x, x), torch.where(bottom, H - 1 - y, y)
        drawn["corners"] = torch.stack([x, y], dim=2)  # (count, 4, 2)
    if augmentation.policy != "none":
        settings = (augmentation.policy, augmentation.num_ops, augmentation.magnitude)
        drawn["operation"], drawn["strength"] = draw_policy(*settings, count, H, W, generator)
    if augmentation.jitter or augmentation.hue:
        spread = torch.tensor([augmentation.jitter] * 3 + [augmentation.hue], device=device)
        centre = torch.tensor([1.0, 1.0, 1.0, 0.0], device=device)
        drawn["factors"] = centre + (2 * torch.rand(count, 4, **random) - 1) * spread
        drawn["order"] = torch.rand(count, 4, **random).argsort(dim=1)
    if augmentation.cutout:
        y, x = _draw(H, count, device, generator), _draw(W, count, device, generator)
        drawn["centre"] = torch.stack([y, x], dim=1)  # (count, 2)
    return drawn


def apply_augmentation(
    images: Tensor, drawn: dict[str, Tensor], augmentation: Augmentation, fill: Tensor | None = None
) -> Tensor:
    """Applies what `draw_augmentation` drew, or the rows of it that belong to `images`.

    Args:
        images: uint8 (N, C, H, W); not modified.
        drawn: tensors of first dimension N.
        augmentation: the one it was drawn for.
        fill: grey levels (C,) for cutout's square; black if None. With 255 times the mean of the data set the square is
            zero after normalisation, as in the paper.

    Returns:
        uint8 (N, C, H, W) on the device of `images`; `images` itself if there is nothing to do.

    Raises:
        ValueError: if the arguments do not fit together.
    """
    _check(images, None)
    N, C, H, W = images.shape
    expect(images.dtype == torch.uint8, "apply_augmentation", "images", "uint8 pictures", images.dtype)
    _check_shape(augmentation, C, H, W)
    needed = {name for part, names in DRAWN.items() if getattr(augmentation, part) not in (0, "none") for name in names}
    expect(drawn.keys() == needed, "apply_augmentation", "drawn", f"the keys {sorted(needed)}", sorted(drawn))
    for name, value in drawn.items():
        expect(len(value) == N, "apply_augmentation", f"drawn[{name!r}]", f"{N} rows, one a picture", len(value))

    # The policy sorts the pictures by operation: where its numbers are on the CPU that needs no word from the GPU.
    here = {name: value.to(images.device) for name, value in drawn.items() if name not in ("operation", "strength")}
    if augmentation.flip:
        images = flip(images, here["flip"])
    if augmentation.crop:
        images = crop(images, here["top"], here["left"], augmentation.crop, augmentation.padding)
    parts = (("degrees", rotation_matrix), ("corners", perspective_matrix))
    matrices = [matrix(here[name], H, W) for name, matrix in parts if name in here]
    if matrices:
        images = warp(images, *matrices)
    if augmentation.policy != "none":
        images = apply_policy(images, drawn["operation"], drawn["strength"])
    if augmentation.jitter or augmentation.hue:
        images = jitter(images, here["factors"], here["order"], bool(augmentation.jitter), bool(augmentation.hue))
    if augmentation.cutout:
        colour = torch.zeros(C) if fill is None else fill
        expect(tuple(colour.shape) == (C,), "apply_augmentation", "fill", f"{C} grey levels", tuple(colour.shape))
        images = cut_out(images, here["centre"], augmentation.cutout, colour)
    return images


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
    return flip(images, _draw(2, len(images), images.device, generator).bool())


def random_crop(
    images: Tensor, padding: int = 4, generator: torch.Generator | None = None, *, padding_mode: str = "zero"
) -> Tensor:
    """Shifts each picture by up to `padding` pixels up, down, left and right, and fills the gap.

    This is the crop of H × W pixels at a random place from a picture padded on every side; all (2 * padding + 1)²
    places are equally likely. Zero is black in uint8 pictures, and the mean grey in normalised ones.

    Args:
        images: (N, C, H, W), uint8 or floating point; not modified.
        padding: in pixels, at least 0 and smaller than H and W.
        generator: draws the shifts, on its own device; the global generator of the pictures' device if None.
        padding_mode: "zero", or "reflect": the picture mirrored at its border pixels.

    Returns:
        A new tensor of the same shape, type and device.

    Raises:
        ValueError: if `images`, `padding`, `padding_mode` or `generator` is not as described.
    """
    _check(images, generator)
    N, _C, H, W = images.shape
    if isinstance(padding, bool) or not isinstance(padding, int) or not 0 <= padding < min(H, W):
        raise ValueError(f"padding must be an integer from 0 to {min(H, W) - 1} for {H}×{W} pictures, got {padding!r}")
    expect_one_of("random_crop", "padding_mode", PADDINGS, padding_mode)
    top, left = (_draw(2 * padding + 1, N, images.device, generator) for _ in range(2))
    return crop(images, top, left, padding, padding_mode)


def _draw(high: int, count: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    # Drawn where the generator lives: a CPU generator gives the same augmentation on every device.
    where = device if generator is None else generator.device
    return torch.randint(high, (count,), generator=generator, device=where).to(device)


def _check_shape(augmentation: Augmentation, C: int, H: int, W: int) -> None:
    owner, size = "Augmentation", f"{H}×{W} pictures"
    expect(augmentation.crop < min(H, W), owner, "crop", f"at most {min(H, W) - 1} for {size}", augmentation.crop)
    fits = not augmentation.perspective or min(H, W) > 1
    expect(fits, owner, "perspective", f"0 for {size}", augmentation.perspective)
    colour = augmentation.jitter or augmentation.hue or augmentation.policy != "none"
    expect(C in (1, 3) or not colour, owner, "jitter, hue and policy", "pictures of 1 or 3 channels", C)


def _check(images: Tensor, generator: torch.Generator | None) -> None:
    if not isinstance(images, Tensor):
        raise ValueError(f"images must be a tensor (N, C, H, W), got {type(images).__name__}")
    if images.ndim != 4:
        raise ValueError(f"images must have four dimensions (N, C, H, W), got shape {tuple(images.shape)}")
    if images.dtype != torch.uint8 and not images.dtype.is_floating_point:
        raise ValueError(f"images must be uint8 or floating point, got {images.dtype}")
    _check_generator(generator)


def _check_generator(generator: torch.Generator | None) -> None:
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ValueError(f"generator must be a torch.Generator or None, got {type(generator).__name__}")
