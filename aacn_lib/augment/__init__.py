"""What training does to pictures at random: drawn for the whole batch, then applied."""

from aacn_lib.augment.augmentation import (
    Augmentation,
    apply_augmentation,
    draw_augmentation,
    random_crop,
    random_flip,
    to_augmentation,
)
from aacn_lib.augment.mixing import apply_mixing, draw_mixing
from aacn_lib.augment.policy import OPERATIONS

__all__ = [
    "OPERATIONS",
    "Augmentation",
    "apply_augmentation",
    "apply_mixing",
    "draw_augmentation",
    "draw_mixing",
    "random_crop",
    "random_flip",
    "to_augmentation",
]
