"""The one rule by which parts are ordered and held out, and the statistics of pictures."""

import hashlib

import torch
from torch import Tensor

from aacn_lib.data.dataset import Split


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
