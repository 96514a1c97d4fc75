"""The containers that every data set comes in."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Part(Protocol):
    """One part of a data set, wherever its pictures are: a `Split` in memory, or a `StreamedSplit` in files."""

    @property
    def labels(self) -> Tensor:
        """int64 (N,)."""

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one picture."""

    def read(self, batches: Iterable[Tensor], *, seed: int | None, workers: int, pin: bool = False) -> Iterator[Tensor]:
        """The pictures of each tensor of indexes (B,), in order: uint8 (B, C, H, W)."""

    def take(self, indexes: Tensor) -> "Part":
        """The part of those pictures, in that order: `indexes` is (n,)."""

    def to(self, device: torch.device) -> "Part":
        """The same part with what it holds in memory on `device`."""


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
    train: Part
    validation: Part
    test: Part
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
