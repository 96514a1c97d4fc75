"""The figures of a report: what is drawn, that right and wrong differ without colour, and what is refused."""

import subprocess
import sys
from itertools import pairwise

import matplotlib
import pytest
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from aacn_lib.evaluation import measure, reliability, wilson_interval
from aacn_lib.figures import report as figures

EPOCHS = [
    {"epoch": 1, "train_loss": 2.0, "train_accuracy": 0.2, "validation_loss": 1.5, "validation_accuracy": 0.3},
    {"epoch": 2, "train_loss": 1.0, "train_accuracy": 0.6, "validation_loss": 1.2, "validation_accuracy": 0.5},
]


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    """The figures that were shown; each test's figures are closed after it."""
    seen = []
    monkeypatch.setattr(plt, "show", lambda: seen.append(plt.gcf()))
    yield seen
    plt.close("all")


def drawn(N=120, K=5):
    labels = torch.randint(K, (N,))
    logits = torch.randn(N, K)
    logits[torch.arange(N), labels] += 1
    return logits.softmax(1), labels, [f"class {k}" for k in range(K)]


def test_importing_it_does_not_import_matplotlib():
    code = "import sys, aacn_lib.figures.report; sys.exit('matplotlib' in sys.modules or 'torchmetrics' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_training_curves_come_from_the_epochs_of_a_record(shown):
    figures.show_training(EPOCHS)
    loss, accuracy = shown[0].axes
    assert [list(line.get_ydata()) for line in loss.lines] == [[2.0, 1.0], [1.5, 1.2]]
    assert [list(line.get_ydata()) for line in accuracy.lines] == [[20, 60], [30, 50]]
    assert list(loss.lines[0].get_xdata()) == [1, 2]
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "validation"]
    assert (loss.get_ylabel(), accuracy.get_ylabel(), loss.get_xlabel()) == ("loss (nats)", "accuracy (%)", "epoch")
    for axis in (loss, accuracy):
        training, validation = axis.lines
        assert training.get_linestyle() != validation.get_linestyle()
        assert training.get_marker() != validation.get_marker()


@pytest.mark.parametrize("epochs", [[], [{"epoch": 1, "train_loss": 1.0}]])
def test_training_curves_refuse(shown, epochs):
    with pytest.raises(ValueError, match="epochs must hold"):
        figures.show_training(epochs)
    assert not shown


def test_right_and_wrong_predictions_differ_in_more_than_colour(shown):
    images = torch.randint(0, 256, (3, 3, 5, 7), dtype=torch.uint8)
    probabilities = torch.tensor([[0.9, 0.1], [0.25, 0.75], [0.4, 0.6]])
    figures.show_predictions(images, probabilities, torch.tensor([0, 0, 1]), ["cat", "$dog"], columns=2)
    right, wrong, third, empty = shown[0].axes
    assert right.get_title() == "✓ cat 90%"
    assert wrong.get_title() == r"✗ \$dog 75%"
    assert (right.get_xlabel(), wrong.get_xlabel(), third.get_xlabel()) == ("", "is cat", "")
    right_frame, wrong_frame = right.spines["left"], wrong.spines["left"]
    assert right_frame.get_linestyle() != wrong_frame.get_linestyle()
    assert right_frame.get_edgecolor() != wrong_frame.get_edgecolor()
    assert torch.equal(torch.as_tensor(wrong.images[0].get_array().data), images[1].permute(1, 2, 0))
    assert not empty.axison


def test_predictions_refuse(shown):
    probabilities, labels, names = drawn(3)
    with pytest.raises(ValueError, match=r"images must be \(3, C, H, W\)"):
        figures.show_predictions(torch.zeros(2, 1, 5, 7), probabilities, labels, names)
    with pytest.raises(ValueError, match="columns"):
        figures.show_predictions(torch.zeros(3, 1, 5, 7), probabilities, labels, names, columns=0)
    assert not shown


def test_confusion_shows_shares_of_the_true_class(shown):
    figures.show_confusion(((3, 1, 0), (0, 2, 0), (0, 0, 0)), ["a", "b", "c"])
    axis = shown[0].axes[0]
    assert axis.images[0].get_array().tolist() == [[75, 25, 0], [0, 100, 0], [0, 0, 0]]
    assert {text.get_position(): text.get_text() for text in axis.texts} == {(0, 0): "75", (1, 0): "25", (1, 1): "100"}
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted class", "true class")
    assert [text.get_text() for text in axis.get_yticklabels()] == ["a", "b", "c"]


def test_a_hundred_classes_are_all_named_and_do_not_overlap(shown):
    names = [f"a rather long class name {k}" for k in range(100)]
    figures.show_confusion(torch.eye(100, dtype=torch.int64), names)
    axis = shown[0].axes[0]
    assert not axis.texts
    shown[0].canvas.draw()
    boxes = [text.get_window_extent() for text in axis.get_yticklabels()]
    assert len(boxes) == 100
    assert all(upper.y0 > lower.y1 - 1 for upper, lower in pairwise(boxes))
    assert all(text.get_fontsize() >= 5.5 for text in axis.get_yticklabels())
    assert all(box.x0 >= 0 for box in boxes)


@pytest.mark.parametrize("confusion", [torch.zeros(2, 3, dtype=torch.int64), torch.rand(3, 3), -torch.eye(3).long()])
def test_confusion_refuses(shown, confusion):
    with pytest.raises(ValueError, match="confusion must be counts"):
        figures.show_confusion(confusion, ["a", "b", "c"])
    assert not shown


def test_reliability_draws_bins_intervals_counts_and_error(shown):
    probabilities, labels, _ = drawn()
    figures.show_reliability(probabilities, labels, bins=10)
    above, below = shown[0].axes
    found = reliability(probabilities, labels, 10)
    filled = [place for place in range(10) if found.counts[place]]
    line = above.containers[0]
    assert list(line[0].get_xdata()) == pytest.approx([100 * found.confidence[place] for place in filled])
    assert list(line[0].get_ydata()) == pytest.approx([100 * found.accuracy[place] for place in filled])
    for segment, place in zip(line[2][0].get_segments(), filled, strict=True):
        low, high = wilson_interval(found.correct[place], found.counts[place])
        assert segment[:, 1].tolist() == pytest.approx([100 * low, 100 * high], abs=1e-9)
    assert [bar.get_height() for bar in below.patches] == list(found.counts)
    assert f"ECE {100 * found.error:.1f} %" in above.get_title()
    assert "120 pictures" in above.get_title()
    assert (below.get_xlabel(), below.get_ylabel(), above.get_ylabel()) == (
        "confidence (%)",
        "pictures",
        "accuracy (%)",
    )


def test_f1_bars_are_sorted_and_flag_what_was_never_predicted(shown):
    probabilities, labels, names = drawn(K=4)
    probabilities[:, 2] = 0
    measures = measure(probabilities / probabilities.sum(1, keepdim=True), labels, names)
    figures.show_class_f1(measures)
    (axis,) = shown[0].axes
    lengths = [bar.get_width() for bar in axis.patches]
    assert lengths == sorted(100 * row.f1 for row in measures.per_class)
    assert axis.get_yticklabels()[0].get_text() == "class 2"
    assert [text.get_text() for text in axis.texts] == ["never predicted"]
    precision, recall, macro = axis.lines
    assert (len(precision.get_xdata()), len(recall.get_xdata())) == (3, 4)
    assert precision.get_marker() != recall.get_marker()
    assert macro.get_xdata()[0] == pytest.approx(100 * measures.macro_f1)


def test_a_path_takes_the_figure_in_place_of_the_screen(shown, tmp_path):
    path = tmp_path / "new" / "curves.png"
    figures.show_training(EPOCHS, path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert path.stat().st_size < 60_000
    assert not shown
    assert not plt.get_fignums()
    with pytest.raises(ValueError, match="doc"):
        figures.show_training(EPOCHS, tmp_path / "curves.doc")
    assert [file.name for file in tmp_path.iterdir()] == ["new"]
    assert not plt.get_fignums()
