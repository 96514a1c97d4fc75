"""Reads class folders of images from disk: the data set called `folder:PATH`."""

from pathlib import Path

import numpy as np
import torch

from aacn_lib.splits import Split, canonical, hold_out

PARTS = ("train", "validation", "test")
# 16-bit greyscale as Pillow names it; the high byte is kept.
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")


def read_image_folder(root: Path, image_size: tuple[int, int] | None) -> tuple[Split, Split, Split, tuple[str, ...]]:
    """Reads `root/<class>/*` or `root/{train,validation,test}/<class>/*`.

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
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; folder:PATH needs one with a folder of images for each class")
    folders = _part_folders(root)
    classes = _classes(folders["train"])
    pictures: dict[str, list[np.ndarray]] = {}
    labels: dict[str, list[int]] = {}
    first: tuple[Path, np.ndarray] | None = None
    for part, folder in folders.items():
        if _classes(folder) != classes:
            raise ValueError(
                f"{folder} must hold the same class folders as {folders['train']}; only one of the two holds "
                + ", ".join(sorted(set(_classes(folder)) ^ set(classes)))
            )
        pictures[part], labels[part] = [], []
        for label, class_name in enumerate(classes):
            files = _visible(folder / class_name)
            needed = 1 + len(PARTS) - len(folders) if part == "train" else 1
            if len(files) < needed:
                raise ValueError(f"{folder / class_name} holds {len(files)} images, expected at least {needed}")
            for file in files:
                picture = _read_image(file, image_size)
                first = first or (file, picture)
                if picture.shape[:2] != first[1].shape[:2]:
                    raise ValueError(
                        f"images of different sizes need image_size=(H, W): {first[0]} is {_size(first[1])}, "
                        f"{file} is {_size(picture)}"
                    )
                pictures[part].append(picture)
                labels[part].append(label)

    colour = any(picture.ndim == 3 for part in folders for picture in pictures[part])
    splits = {part: canonical(_stack(pictures.pop(part), labels[part], colour)) for part in folders}
    absent = [part for part in PARTS if part not in splits]
    if absent:
        *held_out, splits["train"] = hold_out(splits["train"], len(absent))
        splits |= zip(absent, held_out, strict=True)
    return splits["train"], splits["validation"], splits["test"], classes


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _classes(folder: Path) -> tuple[str, ...]:
    classes = tuple(path.name for path in _visible(folder) if path.is_dir())
    if not classes:
        raise ValueError(f"{folder} holds no class folders; expected a folder of images for each class")
    return classes


def _part_folders(root: Path) -> dict[str, Path]:
    """The folder of each part that is there; `root` itself is the training part of a plain layout."""
    # A class may be called "train": only a train folder that itself holds folders is a part.
    train = root / "train"
    if not (train.is_dir() and any(path.is_dir() for path in _visible(train))):
        return {"train": root}
    unknown = [path for path in _visible(root) if path.is_dir() and path.name not in PARTS]
    if unknown:
        raise ValueError(f"{unknown[0]} stands beside {train}; expected only {', '.join(PARTS)} there")
    return {part: root / part for part in PARTS if (root / part).is_dir()}


def _read_image(path: Path, image_size: tuple[int, int] | None) -> np.ndarray:
    """One picture, upright, as uint8 (H, W) if it is grey and (H, W, 3) otherwise."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode in SIXTEEN_BIT:
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            elif image.mode in ("I", "F"):
                raise ValueError(f"32-bit pixels (mode {image.mode}) have no defined white; save it with 8 or 16 bits")
            grey = image.mode in ("1", "L", "LA")
            if image.has_transparency_data:
                image = image.convert("RGBA")  # transparent parts become white, as on paper
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert("L" if grey else "RGB")
            if image_size is not None:
                H, W = image_size
                image = ImageOps.fit(image, (W, H), method=Image.Resampling.BILINEAR)
            return np.array(image)  # a copy: torch wants to own writable memory
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise ValueError(f"{path} cannot be read as an image: {error}") from error


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[0]}×{picture.shape[1]}"


def _stack(pictures: list[np.ndarray], labels: list[int], colour: bool) -> Split:
    channels = 3 if colour else 1
    images = torch.empty(len(pictures), channels, *pictures[0].shape[:2], dtype=torch.uint8)
    for image, picture in zip(images, pictures, strict=True):
        # (H, W, 3) -> (3, H, W); a grey picture (H, W) fills every channel.
        image.copy_(torch.from_numpy(picture.transpose(2, 0, 1) if picture.ndim == 3 else picture[None]))
    return Split(images, torch.tensor(labels, dtype=torch.int64))
