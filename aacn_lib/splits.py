"""The two containers every data set comes in, and the one rule by which parts are ordered and held out."""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Split(NamedTuple):
    """One part of a data set: `images`, uint8 (N, C, H, W), and `labels`, int64 (N,)."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A data set held in memory: three parts, class names, and the statistics that normalise its pictures.

    `mean` and `std` are float32 (C,) on the scale where black is 0 and white is 1, over the training part only:
    what is known about the validation and test pictures must not reach the training.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    mean: Tensor
    std: Tensor

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def in_channels(self) -> int:
        return self.train.images.shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        H, W = self.train.images.shape[-2:]
        return H, W

    def __repr__(self) -> str:
        H, W = self.image_size
        parts = ", ".join(f"{part} {len(getattr(self, part).labels):,}" for part in ("train", "validation", "test"))
        return f"Dataset({self.name!r}: {self.num_classes} classes, {self.in_channels}×{H}×{W}, {parts})"


def part_digest(images, labels) -> str:
    """SHA-256 of one part, in hexadecimal: the bytes of the uint8 images followed by those of the int64 labels.

    `images` and `labels` are numpy arrays, in the order of their file.
    """
    digest = hashlib.sha256(images.tobytes())
    digest.update(labels.astype("<i8", copy=False).tobytes())
    return digest.hexdigest()


def canonical(split: Split) -> Split:
    """Orders a part by the SHA-256 of each picture's bytes and label.

    The same pictures come in different orders from different packers (an archive, a shuffled mosaic). Sorting by
    content makes the held-out pictures, and every shuffle drawn from a seed, the same whoever packed the file.
    The order is as good as random.
    """
    digests = [
        hashlib.sha256(image.tobytes() + label.tobytes()).digest()
        for image, label in zip(split.images.numpy(), split.labels.numpy().astype("<i8"), strict=True)
    ]
    order = torch.tensor(sorted(range(len(digests)), key=digests.__getitem__), dtype=torch.int64)
    return Split(split.images[order], split.labels[order])


def hold_out(split: Split, tenths: int = 1) -> tuple[Split, ...]:
    """Takes tenths of every class away from a part that is in canonical order.

    Returns the held-out parts, `tenths` of them, then what is left. Each held-out part gets a tenth of each class,
    rounded down, but at least one picture. No generator is involved: the canonical order is the fixed draw.
    Every tenth picture is taken, not the first tenth: the latter would leave the front of the training part with
    only those classes whose tenth happens to end early.
    """
    owner = torch.full_like(split.labels, tenths)
    for label in split.labels.unique():
        members = (split.labels == label).nonzero().squeeze(1)
        tenth = max(1, len(members) // 10)
        for part in range(tenths):
            owner[members[part::10][:tenth]] = part
    return tuple(Split(split.images[owner == part], split.labels[owner == part]) for part in range(tenths + 1))


def pixel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (population) standard deviation per channel of uint8 (N, C, H, W) pictures: float32 (C,), scale [0, 1].

    A channel that is constant gets a deviation of 1, so that normalising it gives zeros and not NaN.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(1):
        # 256 counts carry the exact statistics; a float copy of CIFAR would take 600 MB.
        share = torch.bincount(channel.reshape(-1), minlength=256).double() / channel.numel()
        mean = (share * levels).sum()
        means.append(mean)
        stds.append((share * (levels - mean) ** 2).sum().sqrt())
    mean, std = torch.stack(means), torch.stack(stds)
    std[std < 1e-9] = 1.0
    return mean.float(), std.float()
