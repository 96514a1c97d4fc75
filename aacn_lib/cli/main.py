"""The command `aacn`: the same library from a terminal."""

import argparse
import os
import sys

import aacn_lib
from aacn_lib.cli.explore import add_command as add_explore
from aacn_lib.cli.predict import add_commands as add_prediction


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Wrong input is one line on standard error and exit code 2."""
    parser = argparse.ArgumentParser(prog="aacn", description="Attention inside convolutional networks.")
    parser.add_argument("--version", action="version", version=f"aacn {aacn_lib.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="carry out a recipe and write its record")
    train.add_argument("recipe", help="a name that `aacn recipes` shows, or a .toml file")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. training.epochs=2")
    train.add_argument("--runs", default="runs", metavar="FOLDER", help="where runs are kept (default: runs)")
    train.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    train.add_argument("--device", help="cpu, cuda, … (default: a GPU if there is one)")
    train.add_argument(
        "--checkpoint-every", default="100", metavar="STEPS", help="at most so many are lost (default: 100)"
    )
    train.add_argument("--workers", default="4", metavar="N", help="readers of a streamed data set (default: 4)")
    train.add_argument("--tensorboard", action="store_true", help="also write curves for TensorBoard into the folder")
    train.set_defaults(run=_train)

    recipes = commands.add_parser("recipes", help="list the recipes that come with the library")
    recipes.set_defaults(run=_recipes)

    models = commands.add_parser("models", help="list the networks, or count parameters and operations of one")
    models.add_argument("name", nargs="?", help="a network, or a pattern such as 'aa_*' for those that match")
    models.add_argument("--classes", default="100", metavar="N", help="outputs (default: 100)")
    models.add_argument("--image-size", default="32", metavar="PIXELS", help="a side, or HxW (default: 32)")
    models.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. num_heads=4")
    models.set_defaults(run=_models)

    weights = commands.add_parser("weights", help="list the trained networks that come with the library")
    weights.add_argument("name", nargs="?", help="print the card of this one")
    weights.set_defaults(run=_weights)

    data = commands.add_parser("data", help="load a data set and describe it")
    data.add_argument("name", help="fashion-mini, compass, mnist, fashion-mnist, cifar10, cifar100, folder:PATH")
    data.set_defaults(run=_data)

    records = commands.add_parser("records", help="list the run records that come with the library")
    records.add_argument("--missing", action="store_true", help="list the runs that still lack one, wanted first first")
    records.set_defaults(run=_records)
    add_prediction(commands)
    add_explore(commands)

    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        print(f"aacn: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("aacn: stopped; `--resume` goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _train(options: argparse.Namespace) -> None:
    from aacn_lib.training import load_recipe, pick_device, run_recipe

    for name in ("checkpoint_every", "workers"):
        if not getattr(options, name).isdecimal():
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"train: {flag}: expected a whole number of at least 0, got {getattr(options, name)!r}")
    recipe = load_recipe(options.recipe, options.set)
    pick_device(options.device)
    # Under `accelerate launch` every process comes here; one of them speaks.
    speaks = os.environ.get("RANK", "0") == "0"
    if speaks:
        print(f"{recipe.name}: {recipe.about}")
    on_epoch = None
    if options.tensorboard:
        from aacn_lib.figures import tensorboard_curve

        on_epoch = tensorboard_curve(f"{options.runs}/{recipe.name}/seed{recipe.training.seed}/tensorboard")
    record = run_recipe(
        recipe,
        options.runs,
        resume=options.resume,
        device=options.device,
        checkpoint_every=int(options.checkpoint_every),
        workers=int(options.workers),
        on_epoch=on_epoch,
    )
    if not speaks:
        return
    for row in record["epochs"]:
        print(
            f"epoch {row['epoch']:>3}: train loss {row['train_loss']:.3f}, "
            f"validation accuracy {row['validation_accuracy']:.2%}, {row['seconds']:.0f} s"
        )
    low, high = record["test"]["interval_95"]
    print(f"test accuracy {record['test']['accuracy']:.2%} (95 % interval {low:.2%} to {high:.2%})")
    print(f"record: {options.runs}/{recipe.name}/seed{recipe.training.seed}/record.json")


def _recipes(options: argparse.Namespace) -> None:
    from aacn_lib.training import list_recipes, load_recipe

    for name in list_recipes():
        print(f"{name:<24} {load_recipe(name).about}")


def _models(options: argparse.Namespace) -> None:
    if options.name is None or any(sign in options.name for sign in "*?["):
        names = aacn_lib.list_models(options.name or "*")
        if not names:
            raise ValueError(f"models: no network's name matches {options.name!r}; `aacn models` lists them all")
        print("\n".join(names))
    else:
        _count_model(options)


def _count_model(options: argparse.Namespace) -> None:
    import torch

    from aacn_lib.models import count_flops, count_parameters
    from aacn_lib.training import apply_change

    sides = options.image_size.split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in [*sides, options.classes]):
        raise ValueError(
            "models: expected whole numbers such as --classes 10 --image-size 32 or 32x48, "
            f"got --classes {options.classes} --image-size {options.image_size}"
        )
    H, W = int(sides[0]), int(sides[-1])
    overrides = {}
    for change in options.set:
        apply_change(overrides, change)
    channels = overrides.pop("in_channels", 3)
    try:
        with torch.device("meta"):  # shapes without numbers: the largest network takes no time and no memory
            model = aacn_lib.create_model(options.name, int(options.classes), (H, W), channels, **overrides)
        parameters, flops = count_parameters(model), count_flops(model, (H, W), channels)
    except (TypeError, RuntimeError) as error:  # options of a wrong kind, pictures too small for the network
        raise ValueError(f"models: {options.name} cannot be built like this: {error}") from error

    print(f"{options.name}: {channels} × {H} × {W} pixels, {options.classes} classes; a multiply-add is 2 operations")
    print(f"{'part':<12} {'parameters':>14} {'GFLOPs':>10}")
    for part in dict.fromkeys([*parameters.parts, *flops.parts]):
        counts = parameters.parts.get(part, 0), flops.parts.get(part, 0)
        if any(counts):
            print(f"{part:<12} {counts[0]:>14,} {counts[1] / 1e9:>10.3f}")
    print(f"{'total':<12} {parameters.total:>14,} {flops.total / 1e9:>10.3f}")


def _weights(options: argparse.Namespace) -> None:
    from aacn_lib.weights import list_pretrained, model_card
    from aacn_lib.weights.pretrained import FOLDER

    if options.name:
        print(model_card(options.name), end="")
        return
    for name in list_pretrained():
        megabytes = (FOLDER / f"{name}.safetensors").stat().st_size / 1e6
        print(f"{name:<32} {megabytes:6.2f} MB  {aacn_lib.load_pretrained(name, 'cpu').recipe['about']}")


def _data(options: argparse.Namespace) -> None:
    data = aacn_lib.load_dataset(options.name)
    H, W = data.image_size
    print(f"{data.name}: {data.num_classes} classes, {data.in_channels} × {H} × {W} pixels")
    for part in ("train", "validation", "test"):
        print(f"{part:<12} {len(getattr(data, part).labels):>8,} pictures")
    print("classes: " + ", ".join(data.classes))


def _records(options: argparse.Namespace) -> None:
    from aacn_lib.training import list_records, missing_records, read_record

    if options.missing:
        for name, seed in missing_records():
            print(f"aacn train {name} --set training.seed={seed}")
        return
    for entry in list_records():
        name, seed = entry.rsplit("/seed", 1)
        record = read_record(name, int(seed))
        done = f"{record['epochs_done']} of {record['recipe']['training']['epochs']} epochs"
        result = f"test {record['test']['accuracy']:.2%}" if record["complete"] else "unfinished"
        print(f"{entry:<32} {done:<20} {result}")
