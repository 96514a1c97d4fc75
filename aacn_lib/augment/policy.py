"""TrivialAugment and RandAugment, with an operation and a strength of its own for each picture of a batch."""

import torch
from torch import Tensor

from aacn_lib.augment.transforms import (
    BRIGHTNESS,
    CONTRAST,
    SATURATION,
    auto_contrast,
    blend,
    equalize,
    posterize,
    rotation_matrix,
    sharpen,
    solarize,
    warp,
)

POLICIES = ("none", "trivial_augment_wide", "rand_augment")
STRENGTHS = 31  # RandAugment's magnitudes 0 … 30; TrivialAugment draws one of as many

# The operations by torchvision's names. A signed one is turned round for half of the pictures: left or right, more
# or less. One pass of `_apply_slot` serves one family.
SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
OPERATIONS = ("Identity", *SIGNED, "Posterize", "Solarize", "AutoContrast", "Equalize")
GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
BLENDS = {"Brightness": BRIGHTNESS, "Contrast": CONTRAST, "Color": SATURATION}


def policy_strengths(policy: str, H: int, W: int) -> Tensor:
    """The strengths of each operation, (14 operations, 31 strengths), unsigned; zero where an operation has none.

    Shears are slopes, translations pixels, rotations degrees, posterizing the bits that are kept, solarizing the
    threshold; brightness, contrast, colour and sharpness are multiplied by 1 ± strength.

    Source: torchvision's TrivialAugmentWide and RandAugment.
    """
    wide = policy == "trivial_augment_wide"
    shift = (32.0, 32.0) if wide else (150 / 331 * W, 150 / 331 * H)
    most = {"TranslateX": shift[0], "TranslateY": shift[1], "Rotate": 135.0 if wide else 30.0}
    most |= dict.fromkeys(("ShearX", "ShearY"), 0.99 if wide else 0.3)
    most |= dict.fromkeys((*BLENDS, "Sharpness"), 0.99 if wide else 0.9)
    table = torch.stack([torch.linspace(0.0, most.get(name, 0.0), STRENGTHS) for name in OPERATIONS])
    lost_bits = torch.arange(STRENGTHS) / ((STRENGTHS - 1) / (6 if wide else 4))
    table[OPERATIONS.index("Posterize")] = 8 - lost_bits.round()
    table[OPERATIONS.index("Solarize")] = torch.linspace(255.0, 0.0, STRENGTHS)
    return table


def draw_policy(
    policy: str, num_ops: int, magnitude: int, count: int, H: int, W: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Operations (index into OPERATIONS) and signed strengths, both (count, operations a picture).

    TrivialAugment applies one operation of a random strength (Müller and Hutter 2021), RandAugment `num_ops` operations
    of the strength `magnitude`, drawn with replacement (Cubuk et al. 2020).
    """
    device = torch.device("cpu") if generator is None else generator.device
    size = (count, num_ops if policy == "rand_augment" else 1)
    operation = torch.randint(len(OPERATIONS), size, generator=generator, device=device)
    bins = torch.full(size, magnitude, device=device)
    if policy == "trivial_augment_wide":
        bins = torch.randint(STRENGTHS, size, generator=generator, device=device)
    negative = torch.randint(2, size, generator=generator, device=device).bool() & _is_one_of(operation, SIGNED)
    strength = policy_strengths(policy, H, W).to(device)[operation, bins]
    return operation, torch.where(negative, -strength, strength)


def apply_policy(images: Tensor, operation: Tensor, strength: Tensor) -> Tensor:
    """Applies what `draw_policy` drew, one column after the other, to uint8 pictures (N, C, H, W)."""
    for slot in range(operation.shape[1]):
        images = _apply_slot(images, operation[:, slot], strength[:, slot])
    return images


def _apply_slot(images: Tensor, operation: Tensor, strength: Tensor) -> Tensor:
    # Pictures are sorted by family, so that the sizes of all groups are known after one look at the drawn numbers.
    family = _lookup(operation, _FAMILY_OF)
    order = family.argsort(stable=True)
    sizes = torch.bincount(family, minlength=len(_FAMILIES)).tolist()
    result = images.clone()
    for (_names, function), rows in zip(_FAMILIES, order.split(sizes), strict=True):
        if function is None or len(rows) == 0:
            continue
        here = rows.to(images.device)
        drawn = (operation[rows].to(images.device), strength[rows].to(images.device))
        result[here] = function(images[here], *drawn)
    return result


def _geometry(images: Tensor, operation: Tensor, strength: Tensor) -> Tensor:
    _N, _C, H, W = images.shape

    def strength_of(name: str) -> Tensor:
        return torch.where(operation == OPERATIONS.index(name), strength, 0.0)

    # A picture has one operation: the others add nothing to its matrix. Shears are about the top left corner.
    matrix = rotation_matrix(strength_of("Rotate"), H, W)
    matrix[:, 0, 1] += strength_of("ShearX")
    matrix[:, 1, 0] += strength_of("ShearY")
    matrix[:, 0, 2] -= strength_of("TranslateX").trunc()  # whole pixels
    matrix[:, 1, 2] -= strength_of("TranslateY").trunc()
    return warp(images, matrix, mode="nearest")


def _blend(images: Tensor, operation: Tensor, strength: Tensor) -> Tensor:
    return blend(images, _lookup(operation, [BLENDS.get(name, 0) for name in OPERATIONS]), 1 + strength)


def _lookup(operation: Tensor, table: list[int]) -> Tensor:
    return torch.tensor(table, device=operation.device)[operation]


def _is_one_of(operation: Tensor, names: tuple[str, ...]) -> Tensor:
    return _lookup(operation, [name in names for name in OPERATIONS])


_FAMILIES = (
    (("Identity",), None),
    (GEOMETRIC, _geometry),
    (tuple(BLENDS), _blend),
    (("Sharpness",), lambda images, _operation, strength: sharpen(images, 1 + strength)),
    (("Posterize",), lambda images, _operation, strength: posterize(images, strength)),
    (("Solarize",), lambda images, _operation, strength: solarize(images, strength)),
    (("AutoContrast",), lambda images, _operation, _strength: auto_contrast(images)),
    (("Equalize",), lambda images, _operation, _strength: equalize(images)),
)
_FAMILY_OF = [next(i for i, (names, _) in enumerate(_FAMILIES) if name in names) for name in OPERATIONS]
