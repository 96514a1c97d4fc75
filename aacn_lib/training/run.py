"""Carry out a recipe: create, train, test once, write the record and the weights."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from aacn_lib.data import Dataset, load_dataset
from aacn_lib.evaluation import evaluate
from aacn_lib.models import count_flops
from aacn_lib.training.devices import start_processes
from aacn_lib.training.loop import fit
from aacn_lib.training.recipe import Recipe
from aacn_lib.training.records import make_record, write_record
from aacn_lib.training.state import History
from aacn_lib.weights import create_model, save_trained, trained_info


def run_recipe(
    recipe: Recipe,
    folder: str | Path = "runs",
    *,
    resume: bool = False,
    checkpoint_every: int = 100,
    device: str | None = None,
    progress: bool = True,
    workers: int = 4,
    on_epoch: Callable[[History], None] | None = None,
) -> dict:
    """Train what `recipe` says and leave a folder `folder/<recipe>/seed<N>/` with all that a run leaves.

    That is `record.json`, `checkpoint.pt` with its predecessor, and `weights.safetensors`. The record is written after
    every epoch; the test set is read once, after the last, and only then is the record complete.

    Args:
        folder: where runs are kept.
        resume: go on from the folder's checkpoint. Without it, a folder that holds one is refused, not overwritten.
        checkpoint_every: save after this many steps, so that at most that much is lost.
        device: "cpu", "cuda", …; default a GPU if there is one.
        workers: processes that read the pictures of a streamed data set.
        on_epoch: called with the history after each epoch, e.g. to draw it.

    Returns:
        The record.

    Raises:
        ValueError: for a recipe that cannot be run or a folder that holds another run.
    """
    folder = run_folder(recipe, folder)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists() and not resume:
        raise ValueError(f"{folder} holds a run already: resume it, or choose another folder")
    accelerator = start_processes(device)
    with accelerator.main_process_first():  # one downloads, the others then find it
        data = load_dataset(recipe.data, image_size=recipe.image_size or None)
    model = build_model(recipe, data)
    flops = count_flops(model, data.image_size, data.in_channels).total

    def record_of(history: History, test=None) -> dict:
        return make_record(recipe, model, history, test, flops=flops, processes=accelerator.num_processes)

    def after_epoch(history: History) -> None:
        write_record(folder / "record.json", record_of(history))
        if on_epoch is not None:
            on_epoch(history)

    history = fit(
        model,
        data,
        recipe.training,
        device=device,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        on_epoch=after_epoch,
        progress=progress,
        workers=workers,
    )
    test = evaluate(model, data.test, data.mean, data.std, workers=workers, accelerator=accelerator)
    record = record_of(history, test)
    if accelerator.is_main_process:
        save_trained(folder, model, trained_info(recipe, data))
        write_record(folder / "record.json", record)
    accelerator.wait_for_everyone()
    return record


def run_folder(recipe: Recipe, folder: str | Path = "runs") -> Path:
    """Where `run_recipe` leaves what a run leaves: `folder/<recipe>/seed<N>`."""
    return Path(folder) / recipe.name / f"seed{recipe.training.seed}"


def build_model(recipe: Recipe, data: Dataset) -> nn.Module:
    """The network of a recipe with the weights that its seed gives."""
    torch.manual_seed(recipe.training.seed)
    return create_model(recipe.model, data.num_classes, data.image_size, data.in_channels, **recipe.model_options)
