"""Training: one loop, short enough to read in one sitting, for one device or many.

The order of the pictures and everything that is done to them at random is drawn from a generator seeded by (seed,
epoch). So an epoch can be repeated from its number alone, and a run that was stopped goes on as if it had not been.
"""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacn_lib.data import Dataset
from aacn_lib.evaluation import Evaluation, evaluate
from aacn_lib.training.batches import Batch, draw_batches, subset_indexes
from aacn_lib.training.checkpoint import load_checkpoint, remove_leftovers, save_checkpoint
from aacn_lib.training.devices import pick_precision, random_states, restore_random_states, start_processes
from aacn_lib.training.optimisers import make_optimiser, make_schedule, sam_ascend
from aacn_lib.training.settings import Training

__all__ = ["Evaluation", "History", "Training", "evaluate", "fit"]


@dataclass
class History:
    """What happened in a run: `epochs`, one dictionary an epoch, and `step_loss`, one number a step."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    step_loss: list[float] = field(default_factory=list)


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
    workers: int = 4,
) -> History:
    """Train `model` in place on `data.train`, judging it on `data.validation` after each epoch.

    The test part is never touched: call `evaluate` on it once, at the very end. Started by `accelerate launch` or
    accelerate's `notebook_launcher`, every process calls this alike and the run is shared among their devices.

    Args:
        model: any module (B, C, H, W) → (B, num_classes).
        data: from `load_dataset`.
        training: how to train; default `Training()`.
        device: where to train; default a GPU if there is one.
        checkpoint: a file that holds the state of the run. If it exists the run goes on from it, else it is made; on a
            CPU the resumed run ends bitwise equal to one that was never stopped.
        checkpoint_every: also save after this many steps within an epoch; 0 saves at the end of each epoch only.
        on_epoch: called with the history after each epoch, in the main process.
        progress: show a progress bar (never where the environment variable AACN_PROGRESS is 0).
        workers: processes that read the pictures of a streamed data set.

    Returns:
        The history, from the first epoch on, also for a resumed run.

    Raises:
        ValueError: if the checkpoint is damaged or belongs to another run, or the loss is no longer a number.
    """
    training = training or Training()
    accelerator = start_processes(device)
    device, processes = accelerator.device, accelerator.num_processes
    device = torch.device("cpu") if device.type == "cpu" else device  # accelerate numbers CPUs, torch does not
    precision = pick_precision(training.precision, device)
    data = _on_device(data, training, device)
    steps_per_epoch = -(-len(data.train.labels) // training.batch_size)

    model.to(device)
    if training.channels_last:
        model.to(memory_format=torch.channels_last)
    optimiser = make_optimiser(model, training)
    schedule = make_schedule(optimiser, training, steps_per_epoch, training.epochs * steps_per_epoch)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    average = _make_average(model, training.ema_decay)
    judged = average.module if average else model
    network = accelerator.prepare_model(model) if processes > 1 else model
    network = torch.compile(network) if training.compile else network

    history, epoch, step = History(), 0, 0
    sums = torch.zeros(2, dtype=torch.float64)  # of this epoch so far: loss, correct pictures
    seconds, recent = 0.0, []  # recent: losses of steps that are still on the device
    identity = {"training": asdict(training), "data": data.name, "pictures": len(data.train.labels)}
    holders = {"model": model, "optimiser": optimiser, "schedule": schedule, "scaler": scaler}
    holders |= {"average": average} if average else {}

    if accelerator.process_index:  # or dropout would leave out the same numbers in all processes
        torch.manual_seed(torch.initial_seed() + accelerator.process_index)
    if checkpoint is not None:
        remove_leftovers(checkpoint)
        state = load_checkpoint(checkpoint, identity)
        if state is not None:
            try:
                for name, holder in holders.items():
                    holder.load_state_dict(state[name])
            except (RuntimeError, ValueError) as error:  # another network's weights
                raise ValueError(f"{checkpoint} belongs to another run: {name} does not fit ({error})") from error
            history, epoch, step = History(**state["history"]), state["epoch"], state["step"]
            sums, seconds = state["sums"], state["seconds"]
            mine = state["random"][accelerator.process_index % len(state["random"])]
            restore_random_states(mine, device)

    def settle() -> None:
        """Fetch the losses that are still on the device: done seldom, because it waits for the device."""
        if not recent:
            return
        numbers = torch.stack(recent)
        recent.clear()
        numbers = accelerator.reduce(numbers, "sum") if processes > 1 else numbers
        numbers = numbers.double().cpu()
        history.step_loss.extend((numbers[:, 0] / numbers[:, 2]).tolist())
        sums.add_(numbers[:, :2].sum(0))
        if not numbers.isfinite().all() and not scaler.is_enabled():  # the scaler skips such a step
            raise ValueError(
                f"training: the loss is not a number any more in epoch {epoch + 1}, at or before step {step}: "
                f"expected a rate that it stays finite at, got learning_rate={training.learning_rate}"
            )

    def save() -> None:
        settle()
        if checkpoint is None:
            return
        states = _from_all_processes(random_states(device), accelerator)
        if accelerator.is_main_process:
            position = {"history": asdict(history), "epoch": epoch, "step": step, "sums": sums, "seconds": seconds}
            parts = {name: holder.state_dict() for name, holder in holders.items()}
            save_checkpoint(checkpoint, identity, {**parts, **position, "random": states})
        accelerator.wait_for_everyone()

    while epoch < training.epochs:
        network.train()
        share = {"process": accelerator.process_index, "processes": processes, "workers": workers}
        batches = draw_batches(data, training, epoch, device, skip=step, **share)
        title = f"epoch {epoch + 1}/{training.epochs}"
        bar = progress_bar(batches, steps_per_epoch, step, title, progress and accelerator.is_main_process)
        started = time.perf_counter() - seconds
        for batch in bar:
            recent.append(_backward(network, batch, training, precision, scaler, processes))
            if training.sam_radius:
                with sam_ascend(model, training.sam_radius):
                    optimiser.zero_grad(set_to_none=True)
                    _backward(network, batch, training, precision, scaler, processes)
            if training.clip_norm:
                scaler.unscale_(optimiser)
                nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
            scale = scaler.get_scale()
            scaler.step(optimiser)
            scaler.update()
            optimiser.zero_grad(set_to_none=True)
            if scaler.get_scale() >= scale:  # a lower one says that float16 overflowed and the step was left out
                schedule.step()
            if average:
                average.update_parameters(model)

            step += 1
            seconds = time.perf_counter() - started
            if device.type == "cpu" or step % 50 == 0:
                settle()
                bar.set_postfix(loss=f"{history.step_loss[-1]:.3f}", refresh=False)
            if checkpoint_every and step % checkpoint_every == 0 and step < steps_per_epoch:
                save()

        settle()
        seconds = time.perf_counter() - started
        result = evaluate(
            judged,
            data.validation,
            data.mean,
            data.std,
            precision=precision,
            workers=workers,
            accelerator=accelerator,
        )
        history.epochs.append(
            {
                "epoch": epoch + 1,
                "train_loss": sums[0].item() / len(data.train.labels),
                "train_accuracy": sums[1].item() / len(data.train.labels),
                "validation_loss": result.loss,
                "validation_accuracy": result.accuracy,
                "seconds": seconds,
            }
        )
        epoch, step, seconds = epoch + 1, 0, 0.0
        sums.zero_()
        save()
        if on_epoch is not None and accelerator.is_main_process:
            on_epoch(history)

    if average:  # what was validated is what is handed back
        model.load_state_dict(average.module.state_dict())
    return history


def _backward(network, batch: Batch, training: Training, precision: torch.dtype, scaler, processes: int) -> Tensor:
    """Adds the gradients of a batch, piece by piece. Returns this process's sums (3,): loss, correct, pictures."""
    sums = torch.zeros(3, device=batch.labels.device)
    pieces = batch.images.tensor_split(min(training.accumulate, len(batch.labels)))
    start = 0
    for number, images in enumerate(pieces):
        rows = slice(start, start + len(images))
        start = rows.stop
        last = number == len(pieces) - 1
        # Processes exchange gradients once a step, with the last piece.
        with contextlib.nullcontext() if last or processes == 1 else network.no_sync():
            if training.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast(images.device.type, precision, enabled=precision != torch.float32):
                logits = network(images)
            logits, labels = logits.float(), batch.labels[rows]
            options = {"reduction": "none", "label_smoothing": training.label_smoothing}
            loss = F.cross_entropy(logits, labels, **options)
            if batch.partners is not None:  # the loss of a mixed target is the mixture of the two losses
                other = F.cross_entropy(logits, batch.partners[rows], **options)
                loss = torch.lerp(other, loss, batch.share[rows])
            loss = (loss * batch.weight[rows]).sum()
            # Gradients are averaged over processes: times their number, they are those of the whole batch's mean.
            scaler.scale(loss * (processes / batch.total)).backward()
        right = (logits.argmax(dim=1) == labels) * batch.weight[rows]
        sums += torch.stack([loss.detach(), right.sum(), batch.weight[rows].sum()])
    return sums


def _on_device(data: Dataset, training: Training, device: torch.device) -> Dataset:
    """The data set with the pictures to train on moved to `device`, or chosen from if only a subset is wanted."""
    train = data.train
    if training.train_subset:
        train = train.take(subset_indexes(train.labels, training.train_subset))
    return replace(data, train=train.to(device))


def _make_average(model: nn.Module, decay: float):
    """A moving average of all weights and statistics of `model`, or None."""
    if not decay:
        return None
    from torch.optim.swa_utils import AveragedModel

    @torch.no_grad()
    def move(averages: list[Tensor], values: list[Tensor], steps: Tensor) -> None:
        # A lower decay at first: otherwise the random initial weights stay in the average for 1 / (1 - decay) steps.
        weight = 1 - min(decay, (1 + float(steps)) / (10 + float(steps)))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), weight)
            else:
                average.copy_(value)

    return AveragedModel(model, multi_avg_fn=move, use_buffers=True)


def _from_all_processes(states: dict, accelerator) -> list[dict]:
    """The states of every process, in the order of their numbers."""
    if accelerator.num_processes == 1:
        return [states]
    from accelerate.utils import gather_object

    return gather_object([states])


def progress_bar(batches, total: int, initial: int, title: str, show: bool):
    """A tqdm bar over `batches` that leaves nothing behind."""
    from tqdm.auto import tqdm

    hidden = not show or os.environ.get("AACN_PROGRESS") == "0"
    return tqdm(batches, total=total, initial=initial, desc=title, disable=hidden, leave=False)
