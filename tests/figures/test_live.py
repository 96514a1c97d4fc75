"""Curves while a run goes on."""

import sys

import matplotlib.pyplot as plt
import pytest

from aacn_lib.figures import live_curve, tensorboard_curve
from aacn_lib.training import History


def history(count):
    row = {"train_loss": 1.0, "train_accuracy": 0.5, "validation_loss": 1.1, "validation_accuracy": 0.4, "seconds": 2.0}
    return History([{"epoch": number + 1, **row} for number in range(count)], [1.0] * count)


def test_the_live_curve_draws_once_and_then_redraws(monkeypatch):
    IPython = pytest.importorskip("IPython.display")
    shown, updated = [], []

    class Handle:
        def update(self, figure):
            updated.append(figure)

    def display(figure, display_id=None):
        assert display_id
        shown.append(figure)
        return Handle()

    monkeypatch.setattr(IPython, "display", display)
    draw = live_curve()
    for count in (1, 2, 3):
        draw(history(count))
    assert (len(shown), len(updated)) == (1, 2)
    points = [len(line.get_xdata()) for line in updated[-1].axes[0].get_lines()]
    assert max(points) == 3
    assert not plt.get_fignums()  # figures are closed, or a long run would pile them up


def test_tensorboard_gets_the_numbers_of_each_epoch(monkeypatch, tmp_path):
    import types

    written = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            assert folder == str(tmp_path)
            self.purge_step = purge_step

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def flush(self):
            written.append("flushed")

    module = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    write = tensorboard_curve(tmp_path)
    write(history(1))
    write(history(2))
    assert ("validation/accuracy", 0.4, 2) in written
    assert written.count("flushed") == 2
    assert len(written) == 2 * 6


def test_without_tensorboard_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match="expected the package tensorboard to be installed"):
        tensorboard_curve("anywhere")
