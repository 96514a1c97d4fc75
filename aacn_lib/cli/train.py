"""The command `aacn train`: carry out a recipe."""

import argparse
import os
import sys

from aacn_lib.cli.parser import Parser, add_changes, add_device, whole_number


def add_commands(parser: Parser) -> None:
    train = parser.add_command("train", "carry out a recipe and write its record", run)
    train.add_argument("recipe", help="a name that `aacn recipes` shows, or a .toml file")
    add_changes(train, "training.epochs=2")
    train.add_argument("--runs", default="runs", metavar="FOLDER", help="where runs are kept (default: runs)")
    train.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    add_device(train)
    train.add_argument(
        "--checkpoint-every",
        type=whole_number(0),
        default=100,
        metavar="STEPS",
        help="at most so many are lost (default: 100)",
    )
    train.add_argument(
        "--workers", type=whole_number(0), default=4, metavar="N", help="readers of a streamed data set (default: 4)"
    )
    train.add_argument("--tensorboard", action="store_true", help="also write curves for TensorBoard into the folder")


def run(options: argparse.Namespace) -> None:
    from aacn_lib.training import load_recipe, pick_device, run_folder, run_recipe

    recipe = load_recipe(options.recipe, options.set)
    pick_device(options.device)
    folder = run_folder(recipe, options.runs).as_posix()
    # Under `accelerate launch` every process comes here; one of them speaks.
    speaks = os.environ.get("RANK", "0") == "0"
    if speaks:
        print(f"{recipe.name}: {recipe.about}", flush=True)
    listeners = [print_epoch]
    if options.tensorboard:
        from aacn_lib.figures import tensorboard_curve

        listeners.append(tensorboard_curve(f"{folder}/tensorboard"))

    def tell_all(history) -> None:
        for listen in listeners:
            listen(history)

    record = run_recipe(
        recipe,
        options.runs,
        resume=options.resume,
        device=options.device,
        checkpoint_every=options.checkpoint_every,
        workers=options.workers,
        progress=sys.stderr.isatty(),
        on_epoch=tell_all,
    )
    if not speaks:
        return
    low, high = record["test"]["interval_95"]
    print(f"test accuracy {record['test']['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%})")
    print(f"record: {folder}/record.json")


def print_epoch(history) -> None:
    """One line on the last epoch of a `History`, as soon as it has ended."""
    row = history.epochs[-1]
    print(
        f"epoch {row['epoch']:>3}: train loss {row['train_loss']:.3f}, "
        f"validation accuracy {row['validation_accuracy']:.2%}, {row['seconds']:.0f} s",
        flush=True,
    )
