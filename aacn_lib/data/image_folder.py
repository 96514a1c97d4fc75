"""Reads class folders of images from disk: the data set called `folder:PATH`.

`read_image_folder` holds them in memory; `streaming` shares the layout (`list_image_folder`) and what a file is taken
to show (`open_image`, `plain_image`).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from aacn_lib.data.dataset import Split
from aacn_lib.data.splits import canonical, hold_out

PARTS = ("train", "validation", "test")
PART_FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
# 16-bit greyscale as Pillow names it; the high byte is kept.
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")


class Listing(NamedTuple):
    """What a folder of class folders holds.

    Attributes:
        classes: names of the class folders, in alphabetical order.
        folders: {part: its folder}, for the parts that are there.
        files: {part: for each class, the names of its files in alphabetical order}.
    """

    classes: tuple[str, ...]
    folders: dict[str, Path]
    files: dict[str, list[list[str]]]

    def absent(self) -> list[str]:
        """The parts that have no folder and must be taken from the training part."""
        return [part for part in PARTS if part not in self.folders]


def read_image_folder(root: Path, image_size: tuple[int, int] | None) -> tuple[Split, Split, Split, tuple[str, ...]]:
    """Reads `root/<class>/*` or `root/{train,validation,test}/<class>/*`, where `validation` may be called `val`.

    A validation or test folder that is not there is made from the training part: a tenth of each class, always the
    same pictures. All pictures are held in memory.

    Args:
        root: the folder.
        image_size: (H, W); a picture is resized until it covers that, and its centre is kept. None: as they are.

    Returns:
        Train, validation and test part, and the names of the classes in alphabetical order.

    Raises:
        ValueError: for a path that is no folder, no classes, an empty class, a file that is no image, or pictures of
            different sizes without `image_size`; it names the path.
    """
    listing = list_image_folder(root)
    pictures: dict[str, list[np.ndarray]] = {}
    labels: dict[str, list[int]] = {}
    first: tuple[Path, np.ndarray] | None = None
    for part, folder in listing.folders.items():
        pictures[part], labels[part] = [], []
        for label, (class_name, names) in enumerate(zip(listing.classes, listing.files[part], strict=True)):
            for file in (folder / class_name / name for name in names):
                picture = _read_image(file, image_size)
                first = first or (file, picture)
                if picture.shape[:2] != first[1].shape[:2]:
                    raise ValueError(
                        f"images of different sizes need image_size=(H, W): {first[0]} is {_size(first[1])}, "
                        f"{file} is {_size(picture)}"
                    )
                pictures[part].append(picture)
                labels[part].append(label)

    colour = any(picture.ndim == 3 for part in pictures for picture in pictures[part])
    splits = {part: canonical(_stack(pictures.pop(part), labels[part], colour)) for part in listing.folders}
    absent = listing.absent()
    if absent:
        *held_out, splits["train"] = hold_out(splits["train"], len(absent))
        splits |= zip(absent, held_out, strict=True)
    return splits["train"], splits["validation"], splits["test"], listing.classes


def list_image_folder(root: Path) -> Listing:
    """Lists the classes and files of each part; no file is opened. Hidden files and folders are left out.

    Raises:
        ValueError: for a path that is no folder, no classes, different classes in two parts, or a class with too few
            files for the parts that must be made from it; it names the path.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; folder:PATH needs one with a folder of images for each class")
    folders = _part_folders(root)
    classes = _classes(folders["train"])
    files: dict[str, list[list[str]]] = {}
    for part, folder in folders.items():
        if _classes(folder) != classes:
            raise ValueError(
                f"{folder} must hold the same class folders as {folders['train']}; only one of the two holds "
                + ", ".join(sorted(set(_classes(folder)) ^ set(classes)))
            )
        files[part] = [_visible(folder / class_name) for class_name in classes]
        needed = 1 + len(PARTS) - len(folders) if part == "train" else 1
        for class_name, names in zip(classes, files[part], strict=True):
            if len(names) < needed:
                raise ValueError(f"{folder / class_name} holds {len(names)} images, expected at least {needed}")
    return Listing(classes, folders, files)


def check_size(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """(H, W) of an `image_size` that may be one integer for both; None stays None.

    Raises:
        ValueError: for anything else than positive integers.
    """
    if image_size is None:
        return None
    sides = tuple(image_size) if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(sides) != 2 or any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in sides):
        raise ValueError(f"image_size must be a positive integer or a pair (H, W) of them, got {image_size!r}")
    return sides


@contextmanager
def open_image(path: Path) -> Iterator:
    """The file as a Pillow image; whatever goes wrong with it in the block is a ValueError that names the file."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise ValueError(f"{path} cannot be read as an image: {error}") from error


def is_grey(image) -> bool:
    """Whether `plain_image` makes this Pillow image grey. Its header is enough."""
    return image.mode in ("1", "L", "LA", *SIXTEEN_BIT)


def plain_image(opened):
    """A Pillow image as one looks at it: upright, with transparent parts white, in mode L if it is grey, else RGB."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(opened)
    grey = is_grey(image)
    if image.mode in SIXTEEN_BIT:
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels (mode {image.mode}) have no defined white; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")  # transparent parts become white, as on paper
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey else "RGB")


def fitted_pixels(opened, image_size: tuple[int, int] | None) -> np.ndarray:
    """A Pillow image as `plain_image` makes it, resized until it covers (H, W) and cropped to that in its centre.

    Returns:
        uint8 (H, W) if it is grey and (H, W, 3) otherwise.
    """
    from PIL import Image, ImageOps

    image = plain_image(opened)
    if image_size is not None:
        H, W = image_size
        image = ImageOps.fit(image, (W, H), method=Image.Resampling.BILINEAR)
    return np.array(image)  # a copy: torch wants to own writable memory


def _visible(folder: Path) -> list[str]:
    # Names and not paths: a folder may hold a million, and paths are slow to make and to sort.
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def _folders(folder: Path) -> list[str]:
    return [name for name in _visible(folder) if (folder / name).is_dir()]


def _classes(folder: Path) -> tuple[str, ...]:
    classes = tuple(_folders(folder))
    if not classes:
        raise ValueError(f"{folder} holds no class folders; expected a folder of images for each class")
    return classes


def _part_folders(root: Path) -> dict[str, Path]:
    """The folder of each part that is there; `root` itself is the training part of a plain layout."""
    # A class may be called "train": only a train folder that itself holds folders is a part.
    train = root / "train"
    if not (train.is_dir() and _folders(train)):
        return {"train": root}
    found: dict[str, Path] = {}
    for name in _folders(root):
        if name not in PART_FOLDERS:
            raise ValueError(
                f"{root / name} stands beside {train}; expected only train, validation, test there (or val, "
                "short for validation)"
            )
        part = PART_FOLDERS[name]
        if part in found:
            raise ValueError(f"{root / name} stands beside {found[part]}; expected only one folder for validation")
        found[part] = root / name
    return {part: found[part] for part in PARTS if part in found}


def _read_image(path: Path, image_size: tuple[int, int] | None) -> np.ndarray:
    """One picture, upright, as uint8 (H, W) if it is grey and (H, W, 3) otherwise."""
    with open_image(path) as opened:
        return fitted_pixels(opened, image_size)


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[0]}×{picture.shape[1]}"


def _stack(pictures: list[np.ndarray], labels: list[int], colour: bool) -> Split:
    channels = 3 if colour else 1
    images = torch.empty(len(pictures), channels, *pictures[0].shape[:2], dtype=torch.uint8)
    for image, picture in zip(images, pictures, strict=True):
        # (H, W, 3) -> (3, H, W); a grey picture (H, W) fills every channel.
        image.copy_(torch.from_numpy(picture.transpose(2, 0, 1) if picture.ndim == 3 else picture[None]))
    return Split(images, torch.tensor(labels, dtype=torch.int64))
