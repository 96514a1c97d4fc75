"""Figures that report on a run: curves, predictions, confusion, calibration, and each class's F1.

Each function draws one figure in the style of `figures` and shows it; given a `path` it writes the figure to that file
instead, whole or not at all, and shows nothing. What is right and what is wrong differ in more than colour.
"""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from aacn_lib.evaluation import BINS, Measures, check_predictions, reliability, wilson_interval
from aacn_lib.figures.figures import AMOUNTS, LINE_COLOURS, _draw_picture, _drawable
from aacn_lib.whole_file import whole_file

BLUE, ORANGE = LINE_COLOURS[:2]
MAX_CLASSES_WITH_NUMBERS = 20  # above this the digits of a confusion matrix would overlap
LONGEST_NAME = 18  # characters; longer names of classes are cut


def show_training(epochs: Sequence[Mapping[str, float]], path: str | Path | None = None) -> None:
    """Draw loss and accuracy over the epochs of a run, training beside validation.

    epochs: the `epochs` of a record or a history. Training values are means over an epoch, during which the network
    changes; validation values come from its end.
    """
    _finish(training_figure(epochs), path)


def training_figure(epochs: Sequence[Mapping[str, float]]):
    """The matplotlib figure that `show_training` shows."""
    needed = [f"{part}_{what}" for what in ("loss", "accuracy") for part in ("train", "validation")]
    if not epochs or not all(set(needed) <= set(row) for row in epochs):
        raise ValueError(f"epochs must hold at least one row, each with {', '.join(needed)}")

    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
    numbers = [row.get("epoch", place) for place, row in enumerate(epochs, start=1)]
    marked = len(epochs) <= 30  # one epoch is one point: without a marker nothing would show
    for axis, what, label in zip(axes, ("loss", "accuracy"), ("loss (nats)", "accuracy (%)"), strict=True):
        factor = 100 if what == "accuracy" else 1
        for part, colour, line, sign in (("train", BLUE, "-", "o"), ("validation", ORANGE, "--", "s")):
            axis.plot(
                numbers,
                [factor * row[f"{part}_{what}"] for row in epochs],
                color=colour,
                linestyle=line,
                marker=sign if marked else None,
                markersize=4,
                linewidth=1.6,
                label="training" if part == "train" else part,
            )
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set(xlabel="epoch", ylabel=label)
        axis.grid(alpha=0.25)
        axis.legend(frameon=False)
    return figure


def show_predictions(
    images: Tensor,
    probabilities: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    columns: int = 6,
    path: str | Path | None = None,
) -> None:
    """Draw pictures with the predicted class and its probability; under a wrong one the true class stands too.

    A right prediction has a tick and a solid blue frame, a wrong one a cross and a dashed orange frame.

    images: (N, C, H, W), C is 1 or 3. probabilities: (N, K). labels: (N,). classes: K names. columns: in a row.
    """
    probabilities, labels = check_predictions(probabilities, labels, classes)
    images = torch.as_tensor(images)
    if images.ndim != 4 or len(images) != len(labels):
        raise ValueError(f"images must be ({len(labels)}, C, H, W), one a prediction, got {tuple(images.shape)}")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    drawable = [_drawable(image) for image in images]
    confidence, predicted = probabilities.max(dim=1)

    import matplotlib.pyplot as plt

    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.5 * columns, 1.85 * rows), squeeze=False, layout="constrained"
    )
    for axis in list(axes.flat)[len(images) :]:
        axis.set_axis_off()
    for number, axis in enumerate(axes.flat[: len(images)]):
        truth, guess = labels[number].item(), predicted[number].item()
        right = truth == guess
        _draw_picture(axis, drawable[number])
        axis.set(xticks=[], yticks=[])
        title = f"{'✓' if right else '✗'} {_short(classes[guess])} {confidence[number]:.0%}"
        axis.set_title(title, fontsize=7.5, color=BLUE if right else ORANGE, fontweight="normal" if right else "bold")
        # The second line is there for right ones too, so that the rows keep their distance.
        axis.set_xlabel("" if right else f"is {_short(classes[truth])}", fontsize=7.5)
        for spine in axis.spines.values():
            spine.set(color=BLUE if right else ORANGE, linewidth=2, linestyle="-" if right else "--")
    _finish(figure, path)


def show_confusion(confusion, classes: Sequence[str], path: str | Path | None = None) -> None:
    """Draw a confusion matrix: in each row, what became of the pictures of one true class, in shares of that class.

    The colour scale follows the square root of the share, so that rare confusions show. Up to 20 classes each cell
    holds its share in percent; up to 100 classes every name is legible.

    confusion: counts (K, K), row: true class, column: predicted class. classes: K names.
    """
    confusion = torch.as_tensor(confusion)
    K = len(classes)
    if confusion.shape != (K, K) or K == 0 or confusion.is_floating_point() or confusion.min() < 0:
        raise ValueError(f"confusion must be counts ({K}, {K}) for {K} classes, got {tuple(confusion.shape)}")

    import matplotlib.pyplot as plt
    from matplotlib.colors import PowerNorm

    support = confusion.sum(dim=1, keepdim=True)
    shares = 100 * confusion.double() / support.clamp(min=1)
    cell = max(0.115, min(0.42, 6 / K))  # inches; a name of 100 needs the height of its letters
    figure, axis = plt.subplots(figsize=(cell * K + 2.4, cell * K + 1.4), layout="constrained")
    drawn = axis.imshow(shares.numpy(), cmap=AMOUNTS, norm=PowerNorm(0.5, vmin=0, vmax=100))
    size = min(9.0, 0.75 * cell * 72)  # points
    if K <= MAX_CLASSES_WITH_NUMBERS:
        for row, column in confusion.nonzero().tolist():
            share = shares[row, column].item()
            text = f"{share:.0f}" if share >= 0.5 else "<1"
            colour = "white" if drawn.norm(share) < 0.55 else "black"
            axis.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
    names = [_short(name) for name in classes]
    axis.set_xticks(range(K), names, rotation=90, fontsize=size)
    axis.set_yticks(range(K), names, fontsize=size)
    axis.set(xlabel="predicted class", ylabel="true class")
    bar = figure.colorbar(drawn, ax=axis, fraction=0.04, pad=0.01, ticks=[0, 1, 5, 10, 25, 50, 100])
    bar.set_label("share of the true class (%)")
    _finish(figure, path)


def show_reliability(probabilities: Tensor, labels: Tensor, bins: int = BINS, path: str | Path | None = None) -> None:
    """Draw how often predictions are right against how confident they are, and how many there are of each confidence.

    Above the diagonal the network is too modest, below it too sure. The bars are 95 % intervals (Wilson); ECE is the
    expected calibration error of Guo et al. 2017.

    probabilities: (N, K). labels: (N,). bins: of equal width.
    """
    found = reliability(probabilities, labels, bins)
    filled = [place for place, count in enumerate(found.counts) if count]
    confidence = [100 * found.confidence[place] for place in filled]
    accuracy = [100 * found.accuracy[place] for place in filled]
    intervals = [wilson_interval(found.correct[place], found.counts[place]) for place in filled]
    low = [max(0.0, value - 100 * interval[0]) for value, interval in zip(accuracy, intervals, strict=True)]
    high = [max(0.0, 100 * interval[1] - value) for value, interval in zip(accuracy, intervals, strict=True)]

    import matplotlib.pyplot as plt

    figure, (axis, below) = plt.subplots(
        2, 1, figsize=(4.6, 5.2), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    axis.plot([0, 100], [0, 100], color="0.45", linestyle=(0, (1, 2)), linewidth=1.5, label="perfectly calibrated")
    axis.errorbar(
        confidence, accuracy, yerr=[low, high], color=BLUE, marker="o", markersize=4, linewidth=1.2, elinewidth=1,
        capsize=2, label="measured, 95 % interval",
    )  # fmt: skip
    axis.set(ylabel="accuracy (%)", xlim=(0, 100), ylim=(0, 100))
    axis.set_title(f"ECE {100 * found.error:.1f} % over {bins} bins, {sum(found.counts):,} pictures", fontsize=10)
    axis.legend(frameon=False, loc="upper left", fontsize=9)
    axis.grid(alpha=0.25)
    edges = [100 * edge for edge in found.edges]
    below.bar(edges[:-1], found.counts, width=100 / bins, align="edge", color=BLUE, edgecolor="white")
    below.set(xlabel="confidence (%)", ylabel="pictures")
    below.grid(alpha=0.25, axis="y")
    _finish(figure, path)


def show_class_f1(measures: Measures, path: str | Path | None = None) -> None:
    """Draw each class's F1 as a bar, the best on top, with its precision and recall as marks.

    A class that is never predicted, or has no pictures, has its bar's place marked with those words.
    """
    rows = sorted(measures.per_class, key=lambda row: row.f1)
    K = len(rows)

    import matplotlib.pyplot as plt

    size = min(9.0, max(5.5, 250 / K))  # points
    figure, axis = plt.subplots(figsize=(6.4, max(2.0, size / 72 * 1.35 * K + 1.1)), layout="constrained")
    places = range(K)
    axis.barh(places, [100 * row.f1 for row in rows], height=0.7, color="#A6CBE3", label="F1")
    for what, sign, colour in (("precision", "|", "black"), ("recall", "x", ORANGE)):
        shares = [getattr(row, what) for row in rows]
        known = [place for place in places if shares[place].count]
        values = [100 * shares[place].value for place in known]
        axis.plot(values, known, sign, color=colour, markersize=size * 0.6, label=what)
    for place, row in enumerate(rows):
        missing = (("never predicted", row.precision.count == 0), ("no pictures", row.support == 0))
        words = [text for text, holds in missing if holds]
        if words:
            axis.text(2, place, ", ".join(words), va="center", fontsize=size, style="italic")
    axis.axvline(
        100 * measures.macro_f1, color="0.45", linestyle=(0, (1, 2)), linewidth=1.5,
        label=f"macro F1 {100 * measures.macro_f1:.1f} %",
    )  # fmt: skip
    axis.set_yticks(places, [_short(row.name) for row in rows], fontsize=size)
    axis.set(xlabel="F1, precision, recall (%)", ylabel="class", xlim=(0, 101), ylim=(-0.7, K - 0.3))
    axis.grid(alpha=0.25, axis="x")
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    _finish(figure, path)


def _short(name: str) -> str:
    name = " ".join(name.split()).replace("$", r"\$")  # a dollar sign would start a formula
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _finish(figure, path: str | Path | None) -> None:
    import matplotlib.pyplot as plt

    if path is None:
        plt.show()
        return
    image = io.BytesIO()
    try:
        figure.savefig(image, format=Path(path).suffix.lstrip(".") or "png", dpi=100)
    finally:
        plt.close(figure)
    with whole_file(path) as file:
        file.write(image.getvalue())
