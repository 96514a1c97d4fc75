"""Loose image files, without labels, as a trained network sees them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aacn_lib.data.image_folder import _read_image


def read_pictures(paths: Sequence[str | Path], image_size: tuple[int, int], channels: int) -> tuple[list[str], Tensor]:
    """Read image files, and all those in folders and their subfolders, in the order of their names.

    Args:
        paths: files and folders; hidden files in folders are left out.
        image_size: (H, W) in pixels.
        channels: 1 or 3.

    Returns:
        The path of each file, with slashes, and the pictures, uint8 (N, channels, H, W).

    Raises:
        ValueError: for a folder without files, or a file that cannot be read as an image; it names the path.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(
                found
                for found in path.rglob("*")
                if found.is_file() and not any(p.startswith(".") for p in found.relative_to(path).parts)
            )
            if not inside:
                raise ValueError(f"{path} holds no files; expected images")
            files += inside
        else:
            files.append(path)
    images = torch.stack([read_picture(file, image_size, channels) for file in files])
    return [file.as_posix() for file in files], images


def read_picture(path: Path, image_size: tuple[int, int], channels: int) -> Tensor:
    """An image file as a network sees it: uint8 (channels, H, W).

    It is resized until it covers H × W, and the H × W in its centre are kept, as for `folder:PATH`. A grey picture
    fills all three channels of a colour network; of a colour picture a grey network gets the brightness (ITU-R 601).
    """
    if channels not in (1, 3):
        raise ValueError(f"image files have 1 or 3 channels, the network expects {channels}")
    return with_channels(_read_image(path, image_size), channels)


def with_channels(array: np.ndarray, channels: int) -> Tensor:
    """Pixels, uint8 (H, W) or (H, W, 3), as uint8 (channels, H, W) by the rule of `read_picture`."""
    pixels = torch.from_numpy(array)
    pixels = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)  # (1 or 3, H, W)
    if channels == 1 and len(pixels) == 3:
        # Whole numbers out of 65536, rounded: what Pillow computes too.
        red, green, blue = pixels.to(torch.int64)
        return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).to(torch.uint8)[None]
    return pixels.expand(channels, -1, -1).contiguous()
