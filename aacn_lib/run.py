"""Carry out a recipe: create, train, test once, write the record."""

from pathlib import Path

import torch

from aacn_lib.data import load_dataset
from aacn_lib.models import create_model
from aacn_lib.recipe import Recipe
from aacn_lib.records import make_record, write_record
from aacn_lib.train import evaluate, fit


def run_recipe(
    recipe: Recipe,
    folder: str | Path = "runs",
    *,
    resume: bool = False,
    checkpoint_every: int = 100,
    device: str | None = None,
    progress: bool = True,
) -> dict:
    """Train what `recipe` says and leave `record.json` and `checkpoint.pt` in `folder/<recipe>/seed<N>/`.

    The record is written after every epoch; the test set is read once, after the last, and only then is the record
    complete.

    Args:
        folder: where runs are kept.
        resume: go on from the folder's checkpoint. Without it, a folder that holds one is refused, not overwritten.
        checkpoint_every: save after this many steps, so that at most that much is lost.
        device: "cpu", "cuda", …; default a GPU if there is one.

    Returns:
        The record.

    Raises:
        ValueError: for a recipe that cannot be run or a folder that holds another run.
    """
    folder = Path(folder) / recipe.name / f"seed{recipe.training.seed}"
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists() and not resume:
        raise ValueError(f"{folder} holds a run already: resume it, or choose another folder")
    data = load_dataset(recipe.data)
    torch.manual_seed(recipe.training.seed)
    model = create_model(recipe.model, data.num_classes, data.image_size, data.in_channels, **recipe.model_options)

    def on_epoch(history):
        write_record(folder / "record.json", make_record(recipe, model, history, None))

    history = fit(
        model,
        data,
        recipe.training,
        device=device,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        on_epoch=on_epoch,
        progress=progress,
    )
    record = make_record(recipe, model, history, evaluate(model, data.test, data.mean, data.std))
    write_record(folder / "record.json", record)
    return record
