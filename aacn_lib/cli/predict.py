"""The commands `aacn eval` and `aacn predict`: how good a trained network is, and what it says of new pictures."""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from aacn_lib.data import Dataset, load_dataset, read_pictures
from aacn_lib.weights import Trained, load_network

CHUNK = 4096  # pictures of a data set that are predicted at a time; a streamed one is never in memory as a whole
SHOWN_PICTURES = 24
WORST_CLASSES = 10  # that a table of more than 20 classes is cut to
NETWORK = "the folder of a run, its weights.safetensors, or a name that `aacn weights` shows"

Predictor = Callable[[Tensor], tuple[Tensor, float]]  # pictures (N, C, H, W) → probabilities (N, K), passes a picture


class Pictures(NamedTuple):
    """Pictures to predict: their names, and uint8 (B, C, H, W) in chunks. There is no place for a label."""

    names: list[str]
    chunks: Iterator[Tensor]


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `eval` and `predict` to what `add_subparsers` returned; each sets `run` to its function."""
    judge = commands.add_parser("eval", help="measure a trained network on the data set it was trained for")
    judge.add_argument("network", metavar="RUN", help=NETWORK)
    judge.add_argument(
        "--part",
        choices=("validation", "test"),
        default="validation",
        help="which pictures (default: validation; the test part is for the end, when nothing is left to choose)",
    )
    judge.add_argument("--against", metavar="RUN2", help="compare with another network on the same pictures")
    judge.add_argument("--json", metavar="FILE", help="write all measures there")
    judge.add_argument("--figures", metavar="FOLDER", help="draw confusion, calibration, F1 and predictions there")
    judge.add_argument("--device", help="cpu, cuda, … (default: a GPU if there is one)")
    judge.set_defaults(run=evaluate_run)

    predict = commands.add_parser("predict", help="write what trained networks say of pictures to a CSV file")
    predict.add_argument("networks", metavar="RUN", nargs="+", help=NETWORK)
    predict.add_argument(
        "--method",
        choices=("single", "tta", "class-specialised", "adaptive", "ensemble"),
        default="single",
        help="one pass; several views; the best views for each predicted class; several views where one pass is "
        "unsure; the mean of several networks (default: single)",
    )
    predict.add_argument(
        "--views",
        choices=("flip", "shift", "flip-shift", "flip-shift-log"),
        help="the views of tta and adaptive (default: flip-shift, or shift if the network was trained without flips)",
    )
    source = predict.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", metavar="NAME", help="the test part of this data set, such as fashion-mini")
    source.add_argument("--images", metavar="PATH", nargs="+", help="image files, or folders of them")
    predict.add_argument("--out", metavar="FILE.csv", required=True, help="where the probabilities go")
    predict.add_argument("--device", help="cpu, cuda, … (default: a GPU if there is one)")
    predict.set_defaults(run=predict_pictures)


def evaluate_run(options: argparse.Namespace) -> None:
    """`aacn eval`."""
    from aacn_lib.evaluation import measure

    network = load_network(options.network, options.device)
    rival = load_network(options.against, options.device) if options.against else None
    data = _own_data(network)
    if rival is not None:
        must_match(rival, data)
    part = getattr(data, options.part)
    probabilities, _ = _predict_all(_chunks(part), _single_pass(network))
    measures = measure(probabilities, part.labels, network.classes)
    print(f"{network.recipe['name']}: {options.part} part of {data.name}, {measures.count:,} pictures, one pass each")
    _print_measures(measures)
    report = {"network": network.info, "part": options.part, "measures": asdict(measures)}

    if rival is not None:
        from aacn_lib.evaluation import compare

        other, _ = _predict_all(_chunks(part), _single_pass(rival))
        comparison = compare(probabilities.argmax(dim=1), other.argmax(dim=1), part.labels)
        _print_comparison(comparison, options.network, options.against)
        report["against"] = {"network": rival.info, "comparison": asdict(comparison)}
    if options.json:
        from aacn_lib.training import write_record

        write_record(options.json, report)
        print(f"measures: {options.json}")
    if options.figures:
        _draw(Path(options.figures), Path(options.network), network, part, probabilities, measures)
        print(f"figures: {options.figures}")


def predict_pictures(options: argparse.Namespace) -> None:
    """`aacn predict`."""
    from aacn_lib.evaluation import write_probabilities

    if options.method == "ensemble" and len(options.networks) < 2:
        raise ValueError("predict: --method ensemble expected at least two RUNs, got one")
    if options.method != "ensemble" and len(options.networks) > 1:
        count = len(options.networks)
        raise ValueError(f"predict: --method {options.method} expected one RUN, got {count}; several are an ensemble")
    if options.views and options.method not in ("tta", "adaptive"):
        raise ValueError(f"predict: --views is for --method tta and adaptive, got --method {options.method}")
    networks = [load_network(path, options.device) for path in options.networks]
    first = networks[0]
    for path, network in zip(options.networks, networks, strict=True):
        for what in ("classes", "in_channels", "image_size"):
            if getattr(network, what) != getattr(first, what):
                raise ValueError(
                    f"predict: {path} has other {what} than {options.networks[0]}: an ensemble shares them"
                )
    if options.data:
        pictures = _test_pictures(options.data, first)
    else:
        names, images = read_pictures(options.images, first.image_size, first.in_channels)
        pictures = Pictures(names, iter(images.split(CHUNK)))
    predictor = make_predictor(options.method, networks, options.views)
    probabilities, passes = _predict_all(pictures.chunks, predictor)
    write_probabilities(options.out, probabilities, pictures.names, first.classes)
    print(f"cost: {passes:.2f} forward passes a picture")
    print(f"{len(pictures.names):,} pictures: {options.out}")


def make_predictor(method: str, networks: Sequence[Trained], views: str | None = None) -> Predictor:
    """The function from pictures to probabilities that a method stands for.

    What has to be chosen is chosen here, on the validation part of the network's own data set, before any picture to
    be predicted is looked at; what was chosen is printed.
    """
    from aacn_lib.evaluation import measure, predict, predict_probabilities

    network = networks[0]
    model, mean, std = network.model, network.mean, network.std
    if method == "single":
        return _single_pass(network)
    if method == "ensemble":

        def mean_of_networks(images: Tensor) -> tuple[Tensor, float]:
            said = [predict_probabilities(each.model, images, each.mean, each.std) for each in networks]
            return predict.ensemble(said), len(networks)

        return mean_of_networks

    flips = _trained_with_flips(network.recipe["training"])
    views = views or ("flip-shift" if flips else "shift")
    chosen = predict.METHODS[views]
    if method == "tta":
        print(f"views: {views}, {chosen.passes} of each picture")
        return lambda images: (
            predict.tta(model, images, mean, std, chosen.views, average=chosen.average),
            chosen.passes,
        )

    validation = _own_data(network).validation
    # A network that never saw mirrored pictures may be wrong about them with confidence: then no flips are tried.
    names = [name for name in predict.METHODS if flips or "flip" not in name]
    names = names if method == "class-specialised" else ["single", views]
    methods = {name: predict.METHODS[name] for name in names}
    said: dict[str, list[Tensor]] = {name: [] for name in names}
    for images in _chunks(validation):
        for name, probabilities in predict.candidate_probabilities(model, images, mean, std, methods).items():
            said[name].append(probabilities)
    candidates = {name: torch.cat(rows) for name, rows in said.items()}
    before = measure(candidates["single"], validation.labels, network.classes).top1
    print(f"fitted on {before.count:,} validation pictures of {network.data}, one pass: {before.value:.2%} correct")
    if method == "class-specialised":
        by_class = predict.fit_class_specialised(candidates, validation.labels)
        for name in names:
            of_name = [k for k, each in zip(network.classes, by_class.methods, strict=True) if each == name]
            if of_name:
                print(f"  {name} ({methods[name].passes} passes): {', '.join(of_name)}")
        return lambda images: predict.class_specialised(by_class, model, images, mean, std, methods)
    by_confidence = predict.fit_adaptive(candidates["single"], candidates[views], validation.labels, views)
    print(f"  {views} ({chosen.passes} passes) where one pass is at most {by_confidence.threshold:.4f} confident")
    return lambda images: predict.adaptive(by_confidence, model, images, mean, std, methods)


def _single_pass(network: Trained) -> Predictor:
    from aacn_lib.evaluation import predict_probabilities

    return lambda images: (predict_probabilities(network.model, images, network.mean, network.std), 1)


def _predict_all(chunks: Iterator[Tensor], predictor: Predictor) -> tuple[Tensor, float]:
    rows, passes = [], 0.0
    for images in chunks:
        probabilities, cost = predictor(images)
        rows.append(probabilities)
        passes += cost * len(images)
    probabilities = torch.cat(rows)
    return probabilities, passes / len(probabilities)


def _chunks(part) -> Iterator[Tensor]:
    """The pictures of a part in order, whether they are in memory or in files."""
    return part.read(torch.arange(len(part.labels)).split(CHUNK), seed=None, workers=0)


def _own_data(network: Trained) -> Dataset:
    data = load_dataset(network.data, image_size=network.image_size)
    must_match(network, data)
    return data


def load_for(name: str, network: Trained) -> Dataset:
    """The data set `name`; a folder's pictures are brought to the network's size."""
    return load_dataset(name, image_size=network.image_size if name.startswith("folder:") else None)


def must_match(network: Trained, data: Dataset) -> None:
    """Raise a `ValueError` unless the network was trained for this data set's classes and shape of pictures."""
    name = network.recipe["name"]
    if network.classes != data.classes:
        raise ValueError(
            f"{name} was trained for other classes than those of {data.name}: {list(network.classes)[:5]} …"
        )
    _must_fit(network, data)


def _must_fit(network: Trained, data: Dataset) -> None:
    expected, given = (network.in_channels, *network.image_size), (data.in_channels, *data.image_size)
    if expected != given:
        shapes = [" × ".join(map(str, shape)) for shape in (expected, given)]
        raise ValueError(f"{network.recipe['name']} expects pictures of {shapes[0]}, {data.name} has {shapes[1]}")


def _trained_with_flips(training: dict) -> bool:
    """Whether training mirrored pictures: augment is true or false, or a table with an entry for flips."""
    augment = training.get("augment", False)
    if isinstance(augment, dict):
        return any(bool(value) for key, value in augment.items() if "flip" in key)
    return bool(augment)


def _test_pictures(name: str, network: Trained) -> Pictures:
    data = load_for(name, network)
    _must_fit(network, data)
    return Pictures([f"test {number}" for number in range(len(data.test.labels))], _chunks(data.test))


def _print_measures(measures) -> None:
    shares = [("top-1", measures.top1), *([("top-5", measures.top5)] if measures.top5 else [])]
    for name, share in shares:
        print(f"{name} {share.value:.2%} (95 % interval {_interval(share.interval)})")
    error = measures.calibration_error
    print(f"loss {measures.loss:.4f}, macro F1 {measures.macro_f1:.2%}, expected calibration error {error:.2%}")
    rows = measures.per_class
    if len(rows) > 20:
        rows = sorted(rows, key=lambda row: row.f1)[:WORST_CLASSES]
        print(f"the {WORST_CLASSES} classes of lowest F1, of {len(measures.per_class)}:")
    width = max(5, *(len(row.name) for row in rows))
    print(f"{'class':<{width}} {'pictures':>8} {'precision':>9} {'recall':>8} {'F1':>8}  recall, 95 % interval")
    for row in rows:
        never = "" if row.precision.count else "  never predicted: precision is 0 by definition"
        between = _interval(row.recall.interval) if row.recall.interval else "no pictures"
        print(
            f"{row.name:<{width}} {row.support:>8,} {row.precision.value:>9.2%} {row.recall.value:>8.2%} "
            f"{row.f1:>8.2%}  {between}{never}"
        )


def _print_comparison(comparison, name: str, rival: str) -> None:
    agreement = comparison.agreement
    low, high = comparison.interval
    print(f"A is {name}, B is {rival}, on the same pictures:")
    print(
        f"accuracy of A minus that of B: {100 * comparison.difference:+.2f} points "
        f"(95 % interval {100 * low:+.2f} to {100 * high:+.2f})"
    )
    print(
        f"right: both {agreement.both:,}, only A {agreement.only_a:,}, only B {agreement.only_b:,}, "
        f"neither {agreement.neither:,}; McNemar's exact test: p = {comparison.p_value:.3g}"
    )


def _interval(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.2%} to {interval[1]:.2%}"


def _draw(folder: Path, run: Path, network: Trained, part, probabilities: Tensor, measures) -> None:
    from aacn_lib.figures import report as figures

    count = min(SHOWN_PICTURES, len(probabilities))
    images = next(iter(part.read([torch.arange(count)], seed=None, workers=0)))
    figures.show_predictions(
        images, probabilities[:count], part.labels[:count], network.classes, path=folder / "predictions.png"
    )
    figures.show_confusion(measures.confusion, network.classes, folder / "confusion.png")
    figures.show_reliability(probabilities, part.labels, path=folder / "reliability.png")
    figures.show_class_f1(measures, folder / "class_f1.png")
    record = (run if run.is_dir() else run.parent) / "record.json"
    if record.is_file():
        epochs = json.loads(record.read_text(encoding="utf-8")).get("epochs")
        if epochs:
            figures.show_training(epochs, folder / "training.png")
