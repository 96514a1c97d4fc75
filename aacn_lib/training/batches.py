"""The batches of an epoch: shuffled, augmented, mixed, and shared out among processes."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from aacn_lib.augment import apply_augmentation, apply_mixing, draw_augmentation, draw_mixing, to_augmentation
from aacn_lib.data import Dataset, normalise
from aacn_lib.training.settings import Training


class Batch(NamedTuple):
    """This process's rows of a batch.

    Attributes:
        images: float32 (n, C, H, W), normalised.
        labels: int64 (n,).
        partners: int64 (n,), the labels of the pictures mixed in, or None.
        share: float32 (n,), each picture's own share of its mixture, or None.
        weight: float32 (n,), what each picture counts for: 1, or 0 for one that only keeps an idle process in step.
        total: pictures of the batch over all processes.
    """

    images: Tensor
    labels: Tensor
    partners: Tensor | None
    share: Tensor | None
    weight: Tensor
    total: int


def draw_batches(
    data: Dataset,
    training: Training,
    epoch: int,
    device: torch.device,
    *,
    skip: int = 0,
    process: int = 0,
    processes: int = 1,
    workers: int = 0,
) -> Iterator[Batch]:
    """One epoch of `data.train`, its first `skip` batches left out.

    Everything random is drawn from a generator seeded by (training.seed, epoch), for whole batches and in every
    process alike; a process then keeps its own rows. So neither resuming nor the number of processes changes a draw.
    """
    train = data.train
    seed = training.seed * 1_000_003 + epoch
    generator = torch.Generator(device).manual_seed(seed)
    order = torch.randperm(len(train.labels), generator=generator, device=device)
    augmentation = to_augmentation(training.augment)
    shape = (data.in_channels, *data.image_size)
    mixes = training.mixup > 0 or training.cutmix > 0
    plan = []
    for number, chosen in enumerate(order.split(training.batch_size)):
        # Drawn for skipped batches too: the generator must move on as it did before.
        drawn = draw_augmentation(augmentation, len(chosen), shape, generator)
        mixing = draw_mixing(training.mixup, training.cutmix, len(chosen), shape[1:], generator) if mixes else None
        if number >= skip:
            rows = torch.arange(process, len(chosen), processes, device=device)
            idle = len(rows) == 0
            rows = rows.new_zeros(1) if idle else rows
            # Several processes: a partner may be another's row, so this one augments it too. One: it has them all.
            needed = torch.cat([rows, mixing["partner"][rows]]) if mixes and processes > 1 else rows
            plan.append((chosen, rows, needed, drawn, mixing, idle))

    # Pictures of a streamed set are cropped at random when they are read, by this seed.
    pictures = train.read(
        (chosen[needed] for chosen, _, needed, *_ in plan),
        seed=seed,
        workers=workers,
        pin=device.type == "cuda",
    )
    for images, (chosen, rows, needed, drawn, mixing, idle) in zip(pictures, plan, strict=True):
        images = images.to(device, non_blocking=True)
        drawn = {name: value[needed] for name, value in drawn.items()}
        images = apply_augmentation(images, drawn, augmentation, fill=255 * data.mean)
        images = normalise(images, data.mean, data.std)
        labels, partners, share = train.labels[chosen[rows]], None, None
        if mixes:
            mixing = {name: value[rows] for name, value in mixing.items()}
            own, other = images.split(len(rows)) if processes > 1 else (images, images[mixing["partner"]])
            images, share = apply_mixing(own, other, mixing)
            partners = train.labels[chosen[mixing["partner"]]]
        weight = torch.full((len(rows),), 0.0 if idle else 1.0, device=device)
        yield Batch(images, labels, partners, share, weight, len(chosen))


def subset_indexes(labels: Tensor, count: int) -> Tensor:
    """Indexes (count,) of a fixed choice of pictures with equal classes where possible, in rising order.

    Raises:
        ValueError: for more pictures than there are.
    """
    if count > len(labels):
        raise ValueError(f"Training: train_subset: expected at most {len(labels)}, got {count}")
    # The place of each picture among those of its class: taking low places first takes from every class in turn.
    place = torch.empty_like(labels)
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        place[members] = torch.arange(len(members), device=labels.device)
    return place.argsort(stable=True)[:count].sort().values
