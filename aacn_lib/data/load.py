"""Data sets as tensors: `load_dataset` is the one door to all of them.

A data set lives in memory as uint8, 4 times smaller than as float32, or, where it is too large for that, stays in its
files (`streaming`). `normalise` turns a batch into what a network eats, on the device where the batch is.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aacn_lib.data.cache import DatasetUnavailable, data_dir, load_cached
from aacn_lib.data.compass import DIRECTIONS, compass
from aacn_lib.data.dataset import Dataset, Split
from aacn_lib.data.fashion_mini import read_fashion_mini
from aacn_lib.data.image_folder import check_size, read_image_folder
from aacn_lib.data.splits import canonical, hold_out, pixel_statistics
from aacn_lib.data.streaming import StreamedSplit, is_large, load_streamed
from aacn_lib.expect import did_you_mean

__all__ = [
    "DATASETS",
    "Dataset",
    "DatasetUnavailable",
    "Split",
    "StreamedSplit",
    "compass",
    "data_dir",
    "list_datasets",
    "load_dataset",
    "normalise",
]

# Number of pictures and seed of each part: distinct seeds, so that no part repeats another's noise.
COMPASS_PARTS = {"train": (6400, 1), "validation": (1000, 2), "test": (2000, 3)}
SMALLEST_SIDE = 32  # the MNISTs, 28×28, get a black frame: a side that halves evenly


# What `load_dataset` knows.
DATASETS = {
    "fashion-mini": "14,000 pictures of clothes out of Fashion-MNIST, grey, embedded in the library",
    "compass": "two marks, and the direction from one to the other; generated",
    "mnist": "70,000 handwritten digits, grey; downloaded once",
    "fashion-mnist": "70,000 pictures of clothes, grey; downloaded once",
    "cifar10": "60,000 photographs of 10 classes, 32 × 32; downloaded once",
    "cifar100": "60,000 photographs of 100 classes, 32 × 32; downloaded once",
    "folder:PATH": "class folders of pictures, PATH/<class>/* or PATH/{train,validation,test}/<class>/*",
}


def list_datasets() -> list[str]:
    """The names that `load_dataset` knows, beside `folder:PATH`."""
    return [name for name in DATASETS if not name.startswith("folder:")]


def load_dataset(
    name: str,
    *,
    image_size: int | tuple[int, int] | None = None,
    download: bool = True,
    stream: bool | None = None,
) -> Dataset:
    """Loads a data set, in three fixed parts.

    The validation part is a tenth of each class of the training part, always the same pictures, and disjoint from what
    is left for training. No global random state is used.

    All pictures are held in memory, except those of large folders, which are streamed: read from their files when they
    are needed, cropped at random for training (see `StreamedSplit.read`).

    Args:
        name: `fashion-mini` (embedded), `compass` (generated), `mnist`, `fashion-mnist`, `cifar10`, `cifar100`
            (downloaded once, into `data_dir()`), or `folder:PATH`: class folders of images, either `PATH/<class>/*` or
            `PATH/{train,validation,test}/<class>/*`, where validation (or val) and test may be absent.
        image_size: (H, W) or one integer for both, in pixels. For `folder:PATH` only, whose pictures are resized until
            they cover it and cropped in the centre; the other data sets have one size.
        download: False never touches the network.
        stream: for `folder:PATH` only: True streams, which needs `image_size`, and False does not. None streams when
            there are more than 20,000 images or, as uint8 of `image_size` in colour, more than 2 GB of them; without
            `image_size` it never does.

    Raises:
        DatasetUnavailable: a ValueError; the data set is neither in `data_dir()` nor could it be downloaded.
        ValueError: for an unknown name, a wrong image_size or stream, a damaged file.
    """
    if not isinstance(name, str):
        raise ValueError(f"name must be a string, got {name!r}")
    size = check_size(image_size)
    if stream not in (None, True, False):
        raise ValueError(f"stream must be True, False or None, got {stream!r}")
    if stream and not name.startswith("folder:"):
        raise ValueError(f"{name} is held in memory, got stream=True; only folder:PATH is streamed")
    if name.startswith("folder:"):
        path = name.removeprefix("folder:")
        if not path:
            raise ValueError("folder: needs a path, as in folder:pictures/birds")
        if stream is None:
            stream = size is not None and is_large(Path(path).expanduser(), size)
        if stream:
            return load_streamed(path, size)
        train, validation, test, classes = read_image_folder(Path(path).expanduser(), size)
    elif name == "compass":
        train, validation, test = (compass(count, seed=seed) for count, seed in COMPASS_PARTS.values())
        classes = DIRECTIONS
    elif name in list_datasets():
        parts, classes = read_fashion_mini() if name == "fashion-mini" else load_cached(name, download)
        validation, train = hold_out(canonical(_to_split(*parts["train"])))
        test = canonical(_to_split(*parts["test"]))
    else:
        raise ValueError(_unknown(name))

    mean, std = pixel_statistics(train.images)
    data = Dataset(name, classes, train, validation, test, mean, std)
    if size is not None and data.image_size != size:
        H, W = data.image_size
        raise ValueError(f"{name} has pictures of {H}×{W}, got image_size={image_size!r}; only folder:PATH is resized")
    return data


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Turns uint8 pictures into float32 with zero mean and unit deviation per channel: (images / 255 - mean) / std.

    Args:
        images: uint8 (N, C, H, W), on any device; the result is on the same one.
        mean, std: (C,), in [0, 1] scale, as in `Dataset`, on any device.

    Raises:
        ValueError: for another type, another number of dimensions, or another number of channels.
    """
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(f"images must be uint8 (N, C, H, W), got {images.dtype} {tuple(images.shape)}")
    C = images.shape[1]
    if mean.shape != (C,) or std.shape != (C,):
        raise ValueError(
            f"mean and std must have shape ({C},) for pictures of {C} channels, "
            f"got {tuple(mean.shape)} and {tuple(std.shape)}"
        )
    mean = mean.to(images.device, torch.float32)[:, None, None]  # (C, 1, 1)
    std = std.to(images.device, torch.float32)[:, None, None]
    return images.to(torch.float32).div_(255).sub_(mean).div_(std)


def _to_split(images: np.ndarray, labels: np.ndarray) -> Split:
    """uint8 (N, H, W) or (N, H, W, C) -> (N, C, H, W), with a black frame up to 32×32."""
    pixels = torch.from_numpy(images)
    pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    frame = max(0, SMALLEST_SIDE - pixels.shape[-1]) // 2
    return Split(F.pad(pixels, (frame,) * 4) if frame else pixels, torch.from_numpy(labels))


def _unknown(name: str) -> str:
    choices = list(DATASETS)
    return f"unknown data set {name!r}, expected one of {', '.join(choices)}{did_you_mean(name.lower(), choices, 1)}"
