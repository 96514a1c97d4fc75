"""The command `aacn predict`: what trained networks say of new pictures."""

import argparse

from aacn_lib.cli.evaluate import NETWORK
from aacn_lib.cli.parser import Parser, add_device, one_of

METHODS = ("single", "tta", "class-specialised", "adaptive", "ensemble")
VIEWS = ("flip", "shift", "flip-shift", "flip-shift-log")


def add_commands(parser: Parser) -> None:
    predict = parser.add_command("predict", "write what trained networks say of pictures to a CSV file", run)
    predict.add_argument("networks", metavar="RUN", nargs="+", help=NETWORK)
    predict.add_argument(
        "--method",
        type=one_of(*METHODS),
        default="single",
        metavar="METHOD",
        help="single: one pass; tta: several views; class-specialised: the best views for each predicted class; "
        "adaptive: several views where one pass is unsure; ensemble: the mean of several networks (default: single)",
    )
    predict.add_argument(
        "--views",
        type=one_of(*VIEWS),
        metavar="VIEWS",
        help=f"of tta and adaptive, one of {', '.join(VIEWS)} (default: flip-shift, or shift if the network was "
        "trained without flips)",
    )
    source = predict.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", metavar="NAME", help="the test part of this data set, such as fashion-mini")
    source.add_argument("--images", metavar="PATH", nargs="+", help="image files, or folders of them")
    predict.add_argument("--out", metavar="FILE.csv", required=True, help="where the probabilities go")
    add_device(predict)


def run(options: argparse.Namespace) -> None:
    from aacn_lib.cli.methods import make_predictor, predict_all
    from aacn_lib.cli.networks import CHUNK, chunks, load_for, must_agree, must_fit
    from aacn_lib.data import read_pictures
    from aacn_lib.evaluation import write_probabilities
    from aacn_lib.weights import load_network

    if options.method == "ensemble" and len(options.networks) < 2:
        raise ValueError("predict: --method ensemble expected at least two RUNs, got one")
    if options.method != "ensemble" and len(options.networks) > 1:
        count = len(options.networks)
        raise ValueError(f"predict: --method {options.method} expected one RUN, got {count}; several are an ensemble")
    if options.views and options.method not in ("tta", "adaptive"):
        raise ValueError(f"predict: --views is for --method tta and adaptive, got --method {options.method}")
    networks = [load_network(path, options.device) for path in options.networks]
    must_agree("predict", networks, options.networks, ": an ensemble shares them")
    first = networks[0]
    if options.data:
        data = load_for(options.data, first)
        must_fit(first, data)
        names, pictures = [f"test {number}" for number in range(len(data.test.labels))], chunks(data.test)
    else:
        names, images = read_pictures(options.images, first.image_size, first.in_channels)
        pictures = iter(images.split(CHUNK))
    predictor = make_predictor(options.method, networks, options.views)
    probabilities, passes = predict_all(pictures, predictor)
    write_probabilities(options.out, probabilities, names, first.classes)
    print(f"cost: {passes:.2f} forward passes a picture")
    print(f"{len(names):,} pictures: {options.out}")
