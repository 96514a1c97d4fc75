"""The two containers every data set comes in, and the one rule by which parts are ordered and held out."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from aacn_lib.data.streaming import StreamedSplit


class Split(NamedTuple):
    """One part of a data set, in memory: `images`, uint8 (N, C, H, W), and `labels`, int64 (N,)."""

    images: Tensor
    labels: Tensor

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one picture."""
        C, H, W = self.images.shape[1:]
        return C, H, W

    def read(self, batches: Iterable[Tensor], *, seed: int | None, workers: int, pin: bool = False) -> Iterator[Tensor]:
        """The pictures of each tensor of indexes (B,), in order: uint8 (B, C, H, W), where `images` is.

        The same call as `StreamedSplit.read`. There is no file to read, so `seed`, `workers` and `pin` do nothing.
        """
        return (self.images[batch] for batch in batches)

    def take(self, indexes: Tensor) -> "Split":
        """The part of those pictures, in that order: `indexes` is (n,)."""
        return Split(self.images[indexes], self.labels[indexes])

    def to(self, device: torch.device) -> "Split":
        """The same part with its pictures and labels on `device`."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A data set: three parts, class names, and the statistics that normalise its pictures.

    The parts are held in memory (`Split`) or read from files when they are needed (`StreamedSplit`); both have
    `labels`, `picture_shape` and `read`.

    `mean` and `std` are float32 (C,) on the scale where black is 0 and white is 1, over the training part only:
    what is known about the validation and test pictures must not reach the training.
    """

    name: str
    classes: tuple[str, ...]
    train: "Split | StreamedSplit"
    validation: "Split | StreamedSplit"
    test: "Split | StreamedSplit"
    mean: Tensor
    std: Tensor

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def in_channels(self) -> int:
        return self.train.picture_shape[0]

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        _C, H, W = self.train.picture_shape
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
    return statistics_of_counts(count_levels(images))


def count_levels(images: Tensor) -> Tensor:
    """How often each level from 0 to 255 occurs in each channel of uint8 (N, C, H, W) pictures: int64 (C, 256)."""
    # 256 counts carry the exact statistics; a float copy of CIFAR would take 600 MB.
    return torch.stack([torch.bincount(channel.reshape(-1), minlength=256) for channel in images.unbind(1)])


def statistics_of_counts(counts: Tensor) -> tuple[Tensor, Tensor]:
    """What `pixel_statistics` returns, from counts (C, 256); counts of several batches may be added up before."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for count in counts.double():
        share = count / count.sum()
        mean = (share * levels).sum()
        means.append(mean)
        stds.append((share * (levels - mean) ** 2).sum().sqrt())
    mean, std = torch.stack(means), torch.stack(stds)
    std[std < 1e-9] = 1.0
    return mean.float(), std.float()
