"""Training: one loop, short enough to read in one sitting, for one device or many.

The order of the pictures and everything that is done to them at random is drawn from a generator seeded by (seed,
epoch). So an epoch can be repeated from its number alone, and a run that was stopped goes on as if it had not been.
`state` holds what a run is, `step` what is done with a batch.
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from aacn_lib.data import Dataset
from aacn_lib.evaluation import evaluate
from aacn_lib.training.batches import draw_batches, subset_indexes
from aacn_lib.training.checkpoint import load_checkpoint, remove_leftovers, save_checkpoint
from aacn_lib.training.devices import start_processes
from aacn_lib.training.settings import Training
from aacn_lib.training.state import History, TrainState
from aacn_lib.training.step import train_step

LOSSES_AHEAD = 50  # steps that a GPU may run ahead of the loss that is looked at


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
    train = data.train
    if training.train_subset:
        train = train.take(subset_indexes(train.labels, training.train_subset))
    identity = {"training": asdict(training), "data": data.name, "pictures": len(train.labels)}
    state = TrainState(model, training, len(train.labels), accelerator)
    data = replace(data, train=train.to(state.device))
    share = {"process": accelerator.process_index, "processes": state.processes, "workers": workers}
    resume(state, checkpoint, identity)

    while state.epoch < training.epochs:
        state.network.train()
        batches = draw_batches(data, training, state.epoch, state.device, skip=state.step, **share)
        bar = progress_bar(batches, state, progress and accelerator.is_main_process)
        started = time.perf_counter() - state.seconds
        for batch in bar:
            train_step(state, batch)
            state.seconds = time.perf_counter() - started
            if state.device.type == "cpu" or state.step % LOSSES_AHEAD == 0:
                state.settle()
                bar.set_postfix(loss=f"{state.history.step_loss[-1]:.3f}", refresh=False)
            if checkpoint_every and state.step % checkpoint_every == 0 and state.step < state.steps_per_epoch:
                save(state, checkpoint, identity)

        state.settle()
        state.seconds = time.perf_counter() - started
        how = {"precision": state.precision, "workers": workers, "accelerator": accelerator}
        state.end_epoch(evaluate(state.judged, data.validation, data.mean, data.std, **how))
        save(state, checkpoint, identity)
        if on_epoch is not None and accelerator.is_main_process:
            on_epoch(state.history)

    if state.average:  # what was validated is what is handed back
        model.load_state_dict(state.average.module.state_dict())
    return state.history


def resume(state: TrainState, checkpoint: str | Path | None, identity: dict) -> None:
    """Go on from a checkpoint, if there is one."""
    if checkpoint is None:
        return
    remove_leftovers(checkpoint)
    kept = load_checkpoint(checkpoint, identity)
    if kept is not None:
        try:
            state.load(kept)
        except ValueError as error:  # another network's weights
            raise ValueError(f"{checkpoint} belongs to another run: {error}") from error


def save(state: TrainState, checkpoint: str | Path | None, identity: dict) -> None:
    """Write a checkpoint, if one is wanted; every process must call, one writes."""
    if checkpoint is None:
        return
    kept = state.state()
    if state.accelerator.is_main_process:
        save_checkpoint(checkpoint, identity, kept)
    state.accelerator.wait_for_everyone()


def progress_bar(batches, state: TrainState, show: bool):
    """A tqdm bar over the batches of an epoch that leaves nothing behind."""
    from tqdm.auto import tqdm

    title = f"epoch {state.epoch + 1}/{state.training.epochs}"
    hidden = not show or os.environ.get("AACN_PROGRESS") == "0"
    return tqdm(batches, total=state.steps_per_epoch, initial=state.step, desc=title, disable=hidden, leave=False)
