"""Training and evaluation: one loop, short enough to read in one sitting.

The order of the pictures, the flips and the crops of an epoch are drawn from a generator seeded by (seed, epoch). So an
epoch can be repeated from its number alone, and a run that was stopped goes on exactly as if it had not been.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacn_lib.augment import random_crop, random_flip
from aacn_lib.checkpoint import load_checkpoint, save_checkpoint
from aacn_lib.data import Dataset, Split, normalise


@dataclass(frozen=True)
class Training:
    """How a network is trained. All there is to know, so that a run can be repeated from it.

    Attributes:
        epochs: passes over the training part.
        batch_size: pictures a step; a last smaller batch is trained on too.
        optimiser: "adam", or "sgd" with Nesterov momentum 0.9.
        learning_rate: the constant rate, or the peak of "one_cycle".
        weight_decay: decoupled for "adam" (AdamW), the classic L2 term for "sgd".
        schedule: "constant", or "one_cycle": up for the first 30 % of the steps, then down to nearly zero.
        augment: random flips and 4-pixel padded crops, drawn for each picture.
        seed: of the order of pictures and of augmentation. Weights are drawn where the model is created.
    """

    epochs: int = 1
    batch_size: int = 128
    optimiser: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "constant"
    augment: bool = False
    seed: int = 0

    def __post_init__(self):
        choices = {"optimiser": ("adam", "sgd"), "schedule": ("constant", "one_cycle")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"Training: {name}: expected one of {list(allowed)}, got {getattr(self, name)!r}")
        for name in ("epochs", "batch_size", "seed"):
            value, floor = getattr(self, name), 0 if name == "seed" else 1
            if not isinstance(value, int) or isinstance(value, bool) or value < floor:
                raise ValueError(f"Training: {name}: expected a whole number of at least {floor}, got {value!r}")
        if not isinstance(self.augment, bool):
            raise ValueError(f"Training: augment: expected true or false, got {self.augment!r}")
        for name, floor in (("learning_rate", "above 0"), ("weight_decay", "of at least 0")):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or value < 0 or (value == 0 and name == "learning_rate"):
                raise ValueError(f"Training: {name}: expected a number {floor}, got {value!r}")


@dataclass
class History:
    """What happened in a run: `epochs`, one dictionary an epoch, and `step_loss`, one number a step."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    step_loss: list[float] = field(default_factory=list)


class Evaluation(NamedTuple):
    """Mean loss, accuracy in [0, 1], predicted classes (N,) and number of pictures."""

    loss: float
    accuracy: float
    predictions: Tensor
    count: int


def fit(
    model: nn.Module,
    data: Dataset,
    training: Training | None = None,
    *,
    device: str | torch.device | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 0,
    on_epoch: Callable[[History], None] | None = None,
    progress: bool = True,
) -> History:
    """Train `model` in place on `data.train`, judging it on `data.validation` after each epoch.

    The test part is never touched: call `evaluate` on it once, at the very end.

    Args:
        model: any module (B, C, H, W) → (B, num_classes).
        data: from `load_dataset`.
        training: how to train; default `Training()`.
        device: where to train; default a GPU if there is one.
        checkpoint: a file that holds the state of the run. If it exists the run goes on from it, else it is made; on a
            CPU the resumed run ends bitwise equal to one that was never stopped.
        checkpoint_every: also save after this many steps within an epoch; 0 saves at the end of each epoch only.
        on_epoch: called with the history after each epoch.
        progress: show a progress bar (never where the environment variable AACN_PROGRESS is 0).

    Returns:
        The history, from the first epoch on, also for a resumed run.

    Raises:
        ValueError: if the checkpoint is damaged or belongs to another run.
    """
    training = training or Training()
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model.to(device)
    train = Split(data.train.images.to(device), data.train.labels.to(device))
    steps_per_epoch = -(-len(train.labels) // training.batch_size)
    optimiser = make_optimiser(model, training)
    schedule = make_schedule(optimiser, training, training.epochs * steps_per_epoch)
    history, epoch, step, sums = History(), 0, 0, [0.0, 0, 0.0]  # sums: loss, correct, seconds of this epoch so far
    identity = {"training": asdict(training), "data": data.name, "pictures": len(train.labels)}

    if checkpoint is not None and Path(checkpoint).exists():
        state = load_checkpoint(checkpoint, identity, device)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["torch_rng"].cpu())
        history = History(**state["history"])
        epoch, step, sums = state["epoch"], state["step"], state["sums"]

    def save() -> None:
        if checkpoint is not None:
            state = {
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(),
                "torch_rng": torch.get_rng_state(),  # dropout and the like draw from it
                "history": asdict(history),
                "epoch": epoch,
                "step": step,
                "sums": sums,
            }
            save_checkpoint(checkpoint, identity, state)

    while epoch < training.epochs:
        model.train()
        generator = torch.Generator(device).manual_seed(training.seed * 1_000_003 + epoch)
        batches = draw_batches(train, training, generator, skip=step)
        bar = progress_bar(batches, steps_per_epoch, step, f"epoch {epoch + 1}/{training.epochs}", progress)
        started, before = time.perf_counter(), sums[2]
        for images, labels in bar:
            logits = model(normalise(images, data.mean, data.std))
            loss = F.cross_entropy(logits, labels)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()

            step += 1
            history.step_loss.append(loss.item())
            sums[0] += loss.item() * len(labels)
            sums[1] += (logits.argmax(dim=1) == labels).sum().item()
            sums[2] = before + time.perf_counter() - started
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
            if checkpoint_every and step % checkpoint_every == 0 and step < steps_per_epoch:
                save()

        validation = evaluate(model, data.validation, data.mean, data.std)
        history.epochs.append(
            {
                "epoch": epoch + 1,
                "train_loss": sums[0] / len(train.labels),
                "train_accuracy": sums[1] / len(train.labels),
                "validation_loss": validation.loss,
                "validation_accuracy": validation.accuracy,
                "seconds": sums[2],
            }
        )
        epoch, step, sums = epoch + 1, 0, [0.0, 0, 0.0]
        save()
        if on_epoch is not None:
            on_epoch(history)
    return history


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, mean: Tensor, std: Tensor, *, batch_size: int = 512) -> Evaluation:
    """Loss and accuracy of `model` on one part of a data set, on the model's device.

    Args:
        model: (B, C, H, W) → (B, num_classes); its training mode is left as it was.
        split: uint8 images (N, C, H, W) and int64 labels (N,).
        mean, std: (C,), those of the data set it was trained on.
        batch_size: pictures at a time; changes memory, not results.

    Raises:
        ValueError: if the split is empty.
    """
    if len(split.labels) == 0:
        raise ValueError("evaluate: expected at least one picture, got an empty split")
    device = next(model.parameters()).device
    was_training, total_loss, predictions = model.training, 0.0, []
    model.eval()
    for images, labels in zip(split.images.split(batch_size), split.labels.split(batch_size), strict=True):
        logits = model(normalise(images.to(device), mean, std))
        total_loss += F.cross_entropy(logits, labels.to(device), reduction="sum").item()
        predictions.append(logits.argmax(dim=1).cpu())
    model.train(was_training)
    predictions = torch.cat(predictions)
    accuracy = (predictions == split.labels.cpu()).float().mean().item()
    return Evaluation(total_loss / len(predictions), accuracy, predictions, len(predictions))


def draw_batches(
    train: Split, training: Training, generator: torch.Generator, skip: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch: shuffled, augmented uint8 batches with their labels, the first `skip` of them left out."""
    order = torch.randperm(len(train.labels), generator=generator, device=generator.device)
    for number, chosen in enumerate(order.split(training.batch_size)):
        images = train.images[chosen]
        if training.augment:  # drawn for skipped batches too: the generator must move on as it did before
            images = random_crop(random_flip(images, generator), 4, generator)
        if number >= skip:
            yield images, train.labels[chosen]


def make_optimiser(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """The optimiser that `training` names."""
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimiser == "adam":
        return torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)


def make_schedule(
    optimiser: torch.optim.Optimizer, training: Training, total_steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate over the steps of the whole run."""
    if training.schedule == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimiser, training.learning_rate, total_steps=total_steps)
    return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0, total_iters=0)


def progress_bar(batches, total: int, initial: int, title: str, show: bool):
    """A tqdm bar over `batches` that leaves nothing behind."""
    from tqdm.auto import tqdm

    hidden = not show or os.environ.get("AACN_PROGRESS") == "0"
    return tqdm(batches, total=total, initial=initial, desc=title, disable=hidden, leave=False)
