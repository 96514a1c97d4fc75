"""The command `aacn eval`: how good a trained network is."""

import argparse
from dataclasses import asdict
from pathlib import Path

from aacn_lib.cli.parser import Parser, add_device, one_of
from aacn_lib.cli.show import table

NETWORK = "the folder of a run, its weights.safetensors, or a name that `aacn weights` shows"
SHOWN_PICTURES = 24
WORST_CLASSES = 10  # that a table of more than 20 classes is cut to


def add_commands(parser: Parser) -> None:
    judge = parser.add_command("eval", "measure a trained network on the data set it was trained for", run)
    judge.add_argument("network", metavar="RUN", help=NETWORK)
    judge.add_argument(
        "--part",
        type=one_of("validation", "test"),
        default="validation",
        metavar="PART",
        help="validation (the default) or test, which is for the end, when nothing is left to choose",
    )
    judge.add_argument("--against", metavar="RUN2", help="compare with another network on the same pictures")
    judge.add_argument("--json", metavar="FILE", help="write all measures there")
    judge.add_argument("--figures", metavar="FOLDER", help="draw confusion, calibration, F1 and predictions there")
    add_device(judge)


def run(options: argparse.Namespace) -> None:
    from aacn_lib.cli.methods import predict_all, single_pass
    from aacn_lib.cli.networks import chunks, must_match, own_data
    from aacn_lib.evaluation import compare, measure
    from aacn_lib.training import write_record
    from aacn_lib.weights import load_network

    network = load_network(options.network, options.device)
    rival = load_network(options.against, options.device) if options.against else None
    data = own_data(network)
    if rival is not None:
        must_match(rival, data)
    part = getattr(data, options.part)
    probabilities, _ = predict_all(chunks(part), single_pass(network))
    measures = measure(probabilities, part.labels, network.classes)
    print(f"{network.recipe['name']}: {options.part} part of {data.name}, {measures.count:,} pictures, one pass each")
    print_measures(measures)
    report = {"network": network.info, "part": options.part, "measures": asdict(measures)}

    if rival is not None:
        other, _ = predict_all(chunks(part), single_pass(rival))
        comparison = compare(probabilities.argmax(dim=1), other.argmax(dim=1), part.labels)
        print_comparison(comparison, options.network, options.against)
        report["against"] = {"network": rival.info, "comparison": asdict(comparison)}
    if options.json:
        write_record(options.json, report)
        print(f"measures: {options.json}")
    if options.figures:
        draw(Path(options.figures), Path(options.network), network, part, probabilities, measures)
        print(f"figures: {options.figures}")


def print_measures(measures) -> None:
    """The shares, then a row for each class, or for the worst of many."""
    for name, share in (("top-1", measures.top1), ("top-5", measures.top5)):
        if share:
            print(f"{name} {share.value:.2%} (95 % interval {_interval(share.interval)})")
    error = measures.calibration_error
    print(f"loss {measures.loss:.4f}, macro F1 {measures.macro_f1:.2%}, expected calibration error {error:.2%}")
    rows = measures.per_class
    if len(rows) > 20:
        rows = sorted(rows, key=lambda row: row.f1)[:WORST_CLASSES]
        print(f"the {WORST_CLASSES} classes of lowest F1, of {len(measures.per_class)}:")
    cells = []
    for row in rows:
        never = "" if row.precision.count else ", never predicted: precision is 0 by definition"
        between = _interval(row.recall.interval) if row.recall.interval else "no pictures"
        shares = [f"{value:.2%}" for value in (row.precision.value, row.recall.value, row.f1)]
        cells.append([row.name, f"{row.support:,}", *shares, between + never])
    titles = ("class", "pictures", "precision", "recall", "F1", "recall, 95 % interval")
    table(cells, titles, right=(1, 2, 3, 4))


def print_comparison(comparison, name: str, rival: str) -> None:
    """The difference of two networks on the same pictures, and how sure it is."""
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


def draw(folder: Path, run: Path, network, part, probabilities, measures) -> None:
    """The figures of a report, and the run's curves where its record is at hand."""
    import json

    import torch

    from aacn_lib import figures

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


def _interval(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.2%} to {interval[1]:.2%}"
