"""The command `aacn explore`: a page that shows where trained networks look."""

import argparse
from pathlib import Path

from aacn_lib.cli.evaluate import NETWORK
from aacn_lib.cli.parser import Parser, add_device, whole_number


def add_commands(parser: Parser) -> None:
    show = parser.add_command("explore", "write a page that shows where trained networks look", run)
    show.add_argument("networks", metavar="RUN", nargs="+", help=f"one or two, each {NETWORK}")
    source = show.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", metavar="PATH", nargs="+", help="image files, or folders of them")
    source.add_argument("--data", metavar="NAME", help="the first validation pictures of this data set")
    show.add_argument(
        "--count", type=whole_number(1), default=4, metavar="N", help="at most so many pictures (default: 4)"
    )
    show.add_argument("--layers", metavar="NAME", nargs="+", help="of the networks (default: all with attention)")
    show.add_argument("--out", metavar="FILE.html", required=True, help="the page, which opens from disk")
    add_device(show)


def run(options: argparse.Namespace) -> None:
    import torch

    from aacn_lib.cli.networks import load_for, must_agree, must_match
    from aacn_lib.data import read_pictures
    from aacn_lib.explorer import explore
    from aacn_lib.weights import load_network

    if len(options.networks) > 2:
        raise ValueError(f"explore: expected one RUN or two, got {len(options.networks)}")
    # Networks are told apart by what the user called them.
    titles = [Path(name).as_posix() for name in options.networks]
    if len(set(titles)) < len(titles):
        raise ValueError(f"explore: expected two different RUNs, got {options.networks[0]} twice")
    networks = [load_network(name, options.device) for name in options.networks]
    must_agree("explore", networks, options.networks)
    first, labels = networks[0], None
    if options.images:
        names, images = read_pictures(options.images, first.image_size, first.in_channels)
        images = images[: options.count]
        for number, name in enumerate(names[: options.count], start=1):
            print(f"picture {number}: {name}")
    else:
        data = load_for(options.data, first)
        must_match(first, data)
        labels = data.validation.labels[: options.count]
        # Read, not cut: a streamed data set has no pictures in memory.
        images = next(iter(data.validation.read([torch.arange(len(labels))], seed=None, workers=0)))
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
