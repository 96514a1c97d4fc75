"""The embedded pictures: 12,000 + 2,000 of Fashion-MNIST, packed as one lossless mosaic a class.

`scripts/make_fashion_mini.py` writes what this module reads; both use the layout defined here.
"""

import json
from pathlib import Path

import numpy as np

from aacn_lib.data.splits import part_digest

FOLDER = Path(__file__).parents[1] / "assets" / "data"
CARD = "fashion-mini.json"
TILE = 28  # pixels, the side of one picture
COLUMNS = 40  # pictures in one row of a mosaic


def to_mosaic(images: np.ndarray) -> np.ndarray:
    """Lays pictures (N, 28, 28) out row by row, `COLUMNS` a row; N must be a multiple of `COLUMNS`."""
    tiles = images.reshape(-1, COLUMNS, TILE, TILE)  # (rows, columns, y, x)
    return tiles.transpose(0, 2, 1, 3).reshape(-1, COLUMNS * TILE)  # (rows * y, columns * x)


def from_mosaic(mosaic: np.ndarray) -> np.ndarray:
    """The pictures (N, 28, 28) of a mosaic: the inverse of `to_mosaic`."""
    tiles = mosaic.reshape(-1, TILE, COLUMNS, TILE)  # (rows, y, columns, x)
    return tiles.transpose(0, 2, 1, 3).reshape(-1, TILE, TILE)


def read_fashion_mini(folder: Path = FOLDER) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], tuple[str, ...]]:
    """Reads the embedded pictures.

    Returns:
        {"train": (images, labels), "test": ...} with uint8 (N, 28, 28) and int64 (N,), class by class; class names.

    Raises:
        ValueError: if a file is missing or damaged, or the pictures are not those that were packed.
    """
    from PIL import Image

    advice = "the installed package is damaged; install it again"
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        collected = {"train": ([], []), "test": ([], [])}
        for label, entry in enumerate(card["mosaics"]):
            with Image.open(folder / entry["file"]) as image:
                # Lossless WebP has no grey mode: the three channels of a mosaic are equal, one is taken.
                pictures = from_mosaic(np.asarray(image.convert("RGB"))[..., 0])
            for part, chosen in (("train", pictures[: entry["train"]]), ("test", pictures[entry["train"] :])):
                collected[part][0].append(chosen)
                collected[part][1].append(np.full(len(chosen), label, dtype=np.int64))
        parts = {part: (np.concatenate(images), np.concatenate(labels)) for part, (images, labels) in collected.items()}
        expected, classes = card["sha256"], tuple(card["classes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}: fashion-mini cannot be read ({error}); {advice}") from error
    for part, (images, labels) in parts.items():
        found = part_digest(images, labels)
        if found != expected[part]:
            raise ValueError(
                f"{folder}: the {part} pictures of fashion-mini have SHA-256 {found}, "
                f"expected {expected[part]}; {advice}"
            )
    return parts, classes
