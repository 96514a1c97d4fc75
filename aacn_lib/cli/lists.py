"""The commands that show what there is: recipes, models, weights, data, records."""

import argparse

from aacn_lib.cli.parser import Parser, add_changes, whole_number
from aacn_lib.cli.show import table


def add_commands(parser: Parser) -> None:
    parser.add_command("recipes", "list the recipes that come with the library", recipes)

    command = parser.add_command("models", "list the networks, or count one: parameters and operations", models)
    command.add_argument("name", nargs="?", help="a network, or a pattern such as 'aa_*' for those that match")
    command.add_argument("--classes", type=whole_number(1), default=100, metavar="N", help="outputs (default: 100)")
    command.add_argument(
        "--image-size", type=image_size, default=(32, 32), metavar="PIXELS", help="a side, or HxW (default: 32)"
    )
    add_changes(command, "num_heads=4")

    command = parser.add_command("weights", "list the trained networks that come with the library", weights)
    command.add_argument("name", nargs="?", help="print the card of this one")

    command = parser.add_command("data", "list the data sets, or load one and describe it", data)
    command.add_argument("name", nargs="?", help="a name from the list, or folder:PATH")

    command = parser.add_command("records", "list the run records that come with the library", records)
    command.add_argument(
        "--missing", action="store_true", help="list the runs that still lack one, the most wanted first"
    )


def image_size(text: str) -> tuple[int, int]:
    """A `type` for `add_argument`: "32" or "32x48" as (H, W)."""
    sides = text.split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(f"expected whole numbers such as 32 or 32x48, got {text!r}")
    return int(sides[0]), int(sides[-1])


def recipes(options: argparse.Namespace) -> None:
    from aacn_lib.training import list_recipes, load_recipe

    table([name, load_recipe(name).about] for name in list_recipes())


def models(options: argparse.Namespace) -> None:
    from aacn_lib.models import describe_model, list_models

    if options.name is not None and not any(sign in options.name for sign in "*?["):
        _count(options)
        return
    names = list_models(options.name or "*")
    if not names:
        raise ValueError(f"models: no network's name matches {options.name!r}; `aacn models` lists them all")
    table([name, describe_model(name)] for name in names)


def _count(options: argparse.Namespace) -> None:
    import torch

    from aacn_lib.models import build_network, count_flops, count_parameters
    from aacn_lib.training import apply_change

    overrides: dict = {}
    for change in options.set:
        apply_change(overrides, change)
    channels, (H, W) = overrides.pop("in_channels", 3), options.image_size
    try:
        with torch.device("meta"):  # shapes without numbers: the largest network takes no time and no memory
            model = build_network(options.name, options.classes, (H, W), channels, **overrides)
        parameters, flops = count_parameters(model), count_flops(model, (H, W), channels)
    except (TypeError, RuntimeError) as error:  # options of a wrong kind, pictures too small for the network
        raise ValueError(f"models: {options.name} cannot be built like this: {error}") from error

    print(f"{options.name}: {channels} × {H} × {W} pixels, {options.classes} classes; a multiply-add is 2 operations")
    parts = dict.fromkeys([*parameters.parts, *flops.parts])
    rows = [(part, parameters.parts.get(part, 0), flops.parts.get(part, 0)) for part in parts]
    rows = [row for row in rows if any(row[1:])] + [("total", parameters.total, flops.total)]
    table(
        [[part, f"{count:,}", f"{flops / 1e9:.3f}"] for part, count, flops in rows],
        titles=("part", "parameters", "GFLOPs"),
        right=(1, 2),
    )


def weights(options: argparse.Namespace) -> None:
    from aacn_lib.weights import list_pretrained, load_pretrained, model_card, weights_bytes

    if options.name:
        print(model_card(options.name), end="")
        return
    rows = []
    for name in list_pretrained():
        about = load_pretrained(name, "cpu").recipe["about"]
        rows.append([name, f"{weights_bytes(name) / 1e6:.2f} MB", about])
    table(rows, right=(1,))


def data(options: argparse.Namespace) -> None:
    from aacn_lib.data import DATASETS, load_dataset

    if options.name is None:
        table(DATASETS.items())
        return
    loaded = load_dataset(options.name)
    H, W = loaded.image_size
    print(f"{loaded.name}: {loaded.num_classes} classes, {loaded.in_channels} × {H} × {W} pixels")
    parts = ("train", "validation", "test")
    table([[part, f"{len(getattr(loaded, part).labels):,}", "pictures"] for part in parts], right=(1,))
    table([["classes:", ", ".join(loaded.classes)]])


def records(options: argparse.Namespace) -> None:
    from aacn_lib.training import list_records, missing_records, read_record

    if options.missing:
        for name, seed in missing_records():
            print(f"aacn train {name} --set training.seed={seed}")
        return
    rows = []
    for entry in list_records():
        name, seed = entry.rsplit("/seed", 1)
        record = read_record(name, int(seed))
        done = f"{record['epochs_done']} of {record['recipe']['training']['epochs']}"
        rows.append([entry, done, f"{record['test']['accuracy']:.2%}" if record["complete"] else "unfinished"])
    table(rows, titles=("record", "epochs", "test accuracy"), right=(1, 2))
