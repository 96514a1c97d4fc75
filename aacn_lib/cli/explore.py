"""The command `aacn explore`: a page that shows where trained networks look."""

import argparse
from pathlib import Path

import torch

from aacn_lib.cli.predict import load_for, must_match
from aacn_lib.data import read_pictures
from aacn_lib.explorer import explore
from aacn_lib.weights import load_network


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `explore` to what `add_subparsers` returned; it sets `run` to its function."""
    show = commands.add_parser("explore", help="write a page that shows where trained networks look")
    show.add_argument(
        "networks",
        metavar="RUN",
        nargs="+",
        help="one or two: the folder of a run, or a name that `aacn weights` shows",
    )
    source = show.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", metavar="PATH", nargs="+", help="image files, or folders of them")
    source.add_argument("--data", metavar="NAME", help="the first validation pictures of this data set")
    show.add_argument("--count", default="4", metavar="N", help="at most so many pictures (default: 4)")
    show.add_argument("--layers", metavar="NAME", nargs="+", help="of the networks (default: all with attention)")
    show.add_argument("--out", metavar="FILE.html", required=True, help="the page, which opens from disk")
    show.add_argument("--device", help="cpu, cuda, … (default: a GPU if there is one)")
    show.set_defaults(run=write_page)


def write_page(options: argparse.Namespace) -> None:
    """`aacn explore`."""
    if len(options.networks) > 2:
        raise ValueError(f"explore: expected one RUN or two, got {len(options.networks)}")
    if not options.count.isdecimal() or int(options.count) < 1:
        raise ValueError(f"explore: --count: expected a whole number of at least 1, got {options.count!r}")
    count = int(options.count)
    networks = [load_network(name, options.device) for name in options.networks]
    first, last = networks[0], networks[-1]
    for what in ("in_channels", "image_size", "classes"):
        if getattr(first, what) != getattr(last, what):
            raise ValueError(f"explore: {options.networks[1]} has other {what} than {options.networks[0]}")
    labels = None
    if options.images:
        names, images = read_pictures(options.images, first.image_size, first.in_channels)
        images = images[:count]
        for number, name in enumerate(names[:count], start=1):
            print(f"picture {number}: {name}")
    else:
        data = load_for(options.data, first)
        must_match(first, data)
        labels = data.validation.labels[:count]
        # Read, not cut: a streamed data set has no pictures in memory.
        images = next(iter(data.validation.read([torch.arange(len(labels))], seed=None, workers=0)))
    # Networks are told apart by what the user called them.
    titles = [Path(name).as_posix() for name in options.networks]
    if len(set(titles)) < len(titles):
        raise ValueError(f"explore: expected two different RUNs, got {options.networks[0]} twice")
    explorer = explore(
        {title: network.model for title, network in zip(titles, networks, strict=True)},
        images,
        labels=labels,
        classes=first.classes,
        mean=first.mean,
        std=first.std,
        layers=options.layers,
    )
    explorer.save(options.out)
    for note in explorer.notes:
        print(note)
    print(f"{explorer.size_bytes / 1e6:.2f} MB: {options.out}")
