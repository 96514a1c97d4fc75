"""Predictions as a CSV file: one row a picture, one column a class, and back without loss."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aacn_lib.evaluation.metrics import check_predictions
from aacn_lib.whole_file import whole_file

FIRST_COLUMNS = ("picture", "prediction")


class Probabilities(NamedTuple):
    """What such a file holds: N picture names, K class names and probabilities, float32 (N, K)."""

    names: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: Tensor


def write_probabilities(path: str | Path, probabilities: Tensor, names: Sequence[str], classes: Sequence[str]) -> None:
    """Write predictions as CSV (RFC 4180, UTF-8), whole or not at all.

    The columns: picture, prediction (the most probable class, for whoever reads the file), then each class.
    Nine digits bring back every float32 as it was.

    Args:
        probabilities: (N, K), rows that sum to 1.
        names: N texts, any characters.
        classes: K different names, any characters.

    Raises:
        ValueError: if the three do not fit together.
    """
    probabilities, _ = check_predictions(probabilities, None, classes)
    if len(names) != len(probabilities):
        raise ValueError(f"names: expected {len(probabilities)}, one a picture, got {len(names)}")
    if len(set(classes)) != len(classes):
        raise ValueError("classes: expected different names, got one of them twice")
    predicted = probabilities.argmax(dim=1).tolist()
    # File names that are not UTF-8 hold surrogates, which go out as the bytes they came from.
    with whole_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="", write_through=True)
        writer = csv.writer(text)  # ends lines with \r\n, and so quotes both characters inside a field
        writer.writerow([*FIRST_COLUMNS, *classes])
        for name, best, row in zip(names, predicted, probabilities.tolist(), strict=True):
            writer.writerow([name, classes[best], *(f"{value:.9g}" for value in row)])
        text.detach()  # whole_file closes the file, after syncing it


def read_probabilities(path: str | Path) -> Probabilities:
    """Read what `write_probabilities` wrote.

    Raises:
        ValueError: for a file that is absent, cut short or no such file, or a damaged row; it names the row, the header
            being row 1.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8", errors="surrogateescape")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not text.endswith("\n"):
        raise ValueError(f"{path}: the last line has no end: the file is empty or was cut short")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header, *rows = reader
    except csv.Error as error:
        raise ValueError(f"{path}: expected CSV, line {reader.line_num}: {error}") from error
    classes = tuple(header[len(FIRST_COLUMNS) :])
    if tuple(header[: len(FIRST_COLUMNS)]) != FIRST_COLUMNS or not classes or len(set(classes)) != len(classes):
        expected = ", ".join(FIRST_COLUMNS)
        raise ValueError(f"{path}: expected a header {expected} and the names of the classes, got {header[:5]}")
    if not rows:
        raise ValueError(f"{path} holds a header and no pictures")
    values = np.array([_numbers(path, number, row, classes) for number, row in enumerate(rows, start=2)], np.float32)
    return Probabilities(tuple(row[0] for row in rows), classes, torch.from_numpy(values))


def _numbers(path: str | Path, number: int, row: list[str], classes: tuple[str, ...]) -> list[float]:
    where = f"{path}, row {number}"
    if len(row) != len(FIRST_COLUMNS) + len(classes):
        raise ValueError(f"{where}: expected {len(FIRST_COLUMNS) + len(classes)} fields, got {len(row)}")
    try:
        values = [float(field) for field in row[len(FIRST_COLUMNS) :]]
    except ValueError as error:
        raise ValueError(f"{where}: expected probabilities, {error}") from error
    if not all(0 <= value <= 1 for value in values) or not math.isclose(sum(values), 1, abs_tol=1e-3):
        raise ValueError(f"{where}: expected probabilities from 0 to 1 that sum to 1, got a sum of {sum(values):.6g}")
    if row[1] not in classes or values[classes.index(row[1])] != max(values):
        raise ValueError(f"{where}: the prediction {row[1]!r} is not the most probable class")
    return values
