"""Predictions to CSV and back: lossless, safe with any name, and a damaged file is told from a whole one."""

import csv

import numpy as np
import pytest
import torch

from aacn_lib.evaluation import read_probabilities, write_probabilities

CLASSES = ("plain", 'with "quotes"', "with, comma", "with\nnewline", "with\r return", "", " spaces ", "ünïcode ✓")
NAMES = ["a.png", "folder, one/b.png", "line\r\nbreak", '"', "\udce9 no UTF-8", "", "a.png"]


def drawn():
    return (torch.randn(len(NAMES), len(CLASSES)) * 30).softmax(1)


def test_a_file_comes_back_bit_by_bit(tmp_path):
    probabilities = drawn()
    probabilities[0] = torch.tensor([1e-45, 1e-38, 0, 1 / 3, 2 / 3, 0, 0, 0])  # also the smallest float32 there is
    path = tmp_path / "new folder" / "p.csv"
    write_probabilities(path, probabilities, NAMES, CLASSES)
    found = read_probabilities(path)
    assert found.names == tuple(NAMES)
    assert found.classes == CLASSES
    assert found.probabilities.dtype == torch.float32
    assert np.array_equal(found.probabilities.numpy().view(np.int32), probabilities.numpy().view(np.int32))
    assert [file.name for file in path.parent.iterdir()] == ["p.csv"]


def test_any_csv_reader_understands_it(tmp_path):
    path = tmp_path / "p.csv"
    write_probabilities(path, torch.tensor([[0.25, 0.75]]), ["x,y"], ["a", "b"])
    assert path.read_bytes() == b'picture,prediction,a,b\r\n"x,y",b,0.25,0.75\r\n'
    with open(path, newline="") as file:
        assert list(csv.reader(file))[1] == ["x,y", "b", "0.25", "0.75"]


def test_the_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "p.csv"
    write_probabilities(path, drawn(), NAMES, CLASSES)
    old = path.read_bytes()
    with pytest.raises(UnicodeEncodeError):  # in the last row, when the others are written
        write_probabilities(path, drawn(), [*NAMES[:-1], "\ud800"], CLASSES)
    assert path.read_bytes() == old
    assert [file.name for file in tmp_path.iterdir()] == ["p.csv"]


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        (NAMES[:-1], CLASSES, "names: expected 7"),
        (NAMES, CLASSES[:-1], "the 8 columns"),
        (NAMES, (*CLASSES[:-1], "plain"), "different names"),
    ],
)
def test_what_does_not_fit_together_is_not_written(names, classes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_probabilities(tmp_path / "p.csv", drawn(), names, classes)
    with pytest.raises(ValueError, match="sum to 1"):
        write_probabilities(tmp_path / "p.csv", torch.randn(7, 8), NAMES, CLASSES)
    assert not any(tmp_path.iterdir())


HEADER = "picture,prediction,a,b\r\n"
GOOD = "x,a,0.75,0.25\r\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty or was cut short"),
        (HEADER, "no pictures"),
        (HEADER + GOOD + "y,a,0.75,0.2", "cut short"),
        (HEADER + GOOD + "y,a,0.75\r\n", "row 3: expected 4 fields, got 3"),
        (HEADER + GOOD + "y,a,0.75,0.25,0\r\n", "row 3: expected 4 fields, got 5"),
        (HEADER + GOOD + "\r\n" + GOOD, "row 3: expected 4 fields, got 0"),
        (HEADER + "x,a,0.75,O.25\r\n", "row 2: expected probabilities, .*O.25"),
        (HEADER + "x,a,0.75,nan\r\n", "row 2: expected probabilities from 0 to 1"),
        (HEADER + "x,a,1.25,-0.25\r\n", "row 2: expected probabilities from 0 to 1"),
        (HEADER + "x,a,0.75,0.2\r\n", r"row 2: .* got a sum of 0\.95"),
        (HEADER + "x,b,0.75,0.25\r\n", "row 2: the prediction 'b' is not the most probable"),
        (HEADER + "x,c,0.75,0.25\r\n", "row 2: the prediction 'c' is not the most probable"),
        (HEADER + '"x,a,0.75,0.25\r\n', "expected CSV"),
        (HEADER + '"x"y,a,0.75,0.25\r\n', "expected CSV, line 2"),
        ("name,prediction,a,b\r\n" + GOOD, "expected a header picture, prediction"),
        ("picture,prediction,a,a\r\n" + GOOD, "expected a header"),
        ("picture,prediction\r\n", "expected a header"),
        ("\r\n", "expected a header"),
    ],
)
def test_a_damaged_file_is_named(text, message, tmp_path):
    path = tmp_path / "p.csv"
    path.write_bytes((HEADER + GOOD + GOOD).encode())
    assert read_probabilities(path).probabilities.tolist() == [[0.75, 0.25]] * 2
    path.write_bytes(text.encode())
    with pytest.raises(ValueError, match=message) as error:
        read_probabilities(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.csv cannot be read"):
        read_probabilities(tmp_path / "nothing.csv")
