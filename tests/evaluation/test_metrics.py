"""Measures against plain counting, and the one forward pass they start from."""

import json
import math
from dataclasses import asdict

import pytest
import torch
from torch import nn

from aacn_lib.data import normalise
from aacn_lib.evaluation import measure, predict_probabilities, reliability, wilson_interval

MEAN, STD = torch.tensor([0.3, 0.5]), torch.tensor([0.2, 0.4])


def drawn(N=211, K=7, sharpness=2.0):
    """Predictions that are often right, and labels."""
    labels = torch.randint(K, (N,))
    logits = torch.randn(N, K) * sharpness
    logits[torch.arange(N), labels] += sharpness
    return logits.softmax(1), labels, [f"class {k}" for k in range(K)]


def test_measures_equal_plain_counting():
    probabilities, labels, names = drawn()
    found = measure(probabilities, labels, names)
    rows, truth = probabilities.tolist(), labels.tolist()
    guesses = [row.index(max(row)) for row in rows]
    N, K = len(rows), len(names)
    top1 = sum(guess == label for guess, label in zip(guesses, truth, strict=True))
    top5 = sum(label in sorted(range(K), key=lambda k: -row[k])[:5] for row, label in zip(rows, truth, strict=True))
    assert 0 < top1 < top5 < N
    assert (found.top1.hits, found.top1.count, found.top1.value) == (top1, N, top1 / N)
    assert found.top1.interval == wilson_interval(top1, N)
    assert (found.top5.hits, found.top5.count) == (top5, N)
    loss = -sum(math.log(row[label]) for row, label in zip(rows, truth, strict=True)) / N
    assert found.loss == pytest.approx(loss, rel=1e-9)
    f1s = []
    for k, row in enumerate(found.per_class):
        hits = sum(guess == label == k for guess, label in zip(guesses, truth, strict=True))
        assert (row.name, row.support) == (names[k], truth.count(k))
        assert (row.precision.hits, row.precision.count) == (hits, guesses.count(k))
        assert (row.recall.hits, row.recall.count) == (hits, truth.count(k))
        assert row.recall.interval == wilson_interval(hits, truth.count(k))
        f1s.append(2 * hits / (guesses.count(k) + truth.count(k)))
        assert row.f1 == pytest.approx(f1s[-1], abs=1e-6)
        for j in range(K):
            both = sum(label == k and guess == j for guess, label in zip(guesses, truth, strict=True))
            assert found.confusion[k][j] == both
    assert found.macro_f1 == pytest.approx(sum(f1s) / K, abs=1e-6)
    assert found.never_predicted == found.without_pictures == ()
    assert json.loads(json.dumps(asdict(found)))["top1"]["hits"] == top1


def calibration_error(probabilities, labels, bins=15):
    """Guo et al. 2017, equation 3, one picture at a time."""
    content = [[] for _ in range(bins)]
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        confidence = max(row)
        content[min(int(confidence * bins), bins - 1)].append((confidence, row.index(confidence) == label))
    error = 0.0
    for inside in filter(None, content):
        confidence, right = (sum(values) / len(inside) for values in zip(*inside, strict=True))
        error += len(inside) / len(labels) * abs(right - confidence)
    return error


@pytest.mark.parametrize("sharpness", [0.3, 2.0, 60.0])
def test_calibration_error_by_hand(sharpness):
    # At the largest sharpness many confidences are exactly 1, which are not a bin of their own.
    probabilities, labels, names = drawn(sharpness=sharpness)
    labels[:40] = torch.randint(7, (40,))
    expected = calibration_error(probabilities, labels)
    assert (probabilities.max(1).values == 1).any() == (sharpness == 60)
    assert expected > 0.01
    assert measure(probabilities, labels, names).calibration_error == pytest.approx(expected, abs=1e-5)
    assert reliability(probabilities, labels).error == pytest.approx(expected, abs=1e-6)


def test_a_confidence_of_one_is_no_bin_of_its_own():
    # Too modest at 0.95 and too sure at 1: in one bin the two errors nearly cancel, 3/4 right against 0.975.
    probabilities = torch.tensor([[0.95, 0.05], [0.95, 0.05], [1.0, 0.0], [1.0, 0.0]])
    labels = torch.tensor([0, 0, 0, 1])
    assert measure(probabilities, labels, "ab").calibration_error == pytest.approx(0.225)
    assert reliability(probabilities, labels).error == pytest.approx(0.225)


def test_reliability_counts_every_picture_once():
    probabilities = torch.tensor([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0], [0.9, 0.1]])
    found = reliability(probabilities, torch.tensor([0, 1, 0, 0]), bins=4)
    assert found.edges == (0, 0.25, 0.5, 0.75, 1)
    assert found.counts == (0, 0, 1, 3)
    assert found.correct == (0, 0, 1, 2)
    assert found.accuracy == (None, None, 1.0, pytest.approx(2 / 3))
    assert found.confidence == (None, None, 0.5, pytest.approx(2.65 / 3))
    assert found.error == pytest.approx((abs(1 - 0.5) + abs(2 - 2.65)) / 4)
    with pytest.raises(ValueError, match="bins"):
        reliability(probabilities, torch.tensor([0, 1, 0, 0]), bins=0)


def test_a_class_that_is_never_predicted_is_flagged_and_not_nan():
    probabilities = torch.tensor([[0.8, 0.1, 0.1, 0], [0.6, 0.2, 0.2, 0], [0.1, 0.8, 0.1, 0], [0.9, 0.0, 0.1, 0]])
    found = measure(probabilities, torch.tensor([0, 2, 1, 2]), ["a", "b", "c", "d"])
    assert found.never_predicted == ("c", "d")
    assert found.without_pictures == ("d",)
    a, _, c, d = found.per_class
    assert (a.precision.value, a.recall.value) == (pytest.approx(1 / 3), 1)
    assert (c.precision.value, c.precision.interval, c.recall.value, c.f1) == (0, None, 0, 0)
    assert c.recall.interval == wilson_interval(0, 2)
    assert (d.precision.interval, d.recall.interval, d.f1) == (None, None, 0)
    # d occurs nowhere and is no part of the mean: F1 of a, b and c are 2 · 1 / (3 + 1), 1 and 0.
    assert found.macro_f1 == pytest.approx((0.5 + 1 + 0) / 3)
    assert found.top5 is None
    assert all(math.isfinite(value) for value in (found.loss, found.macro_f1, found.calibration_error))


def test_a_probability_of_zero_keeps_the_loss_finite():
    found = measure(torch.tensor([[1.0, 0.0]]), torch.tensor([1]), ["a", "b"])
    assert found.loss == pytest.approx(-math.log(torch.finfo(torch.float32).tiny))


def test_a_single_class_can_be_measured():
    found = measure(torch.ones(3, 1), torch.zeros(3, dtype=torch.long), ["only"])
    assert (found.top1.value, found.confusion, found.loss, found.calibration_error) == (1, ((3,),), 0, 0)


@pytest.mark.parametrize(
    ("probabilities", "labels", "classes", "message"),
    [
        (torch.ones(2, 3), torch.tensor([0, 1]), "abc", "sum to 1"),
        (torch.tensor([[1.5, -0.5]]), torch.tensor([0]), "ab", "at least 0"),
        (torch.tensor([[float("nan"), 1.0]]), torch.tensor([0]), "ab", "sum to 1"),
        (torch.eye(3), torch.tensor([0, 1]), "abc", "labels must be 3 integers"),
        (torch.eye(3), torch.tensor([0.0, 1, 2]), "abc", "labels must be 3 integers"),
        (torch.eye(3), torch.tensor([0, 1, 3]), "abc", r"labels must lie in 0 … 2, got 0 … 3"),
        (torch.eye(3), torch.tensor([0, 1, -1]), "abc", r"got -1 … 1"),
        (torch.eye(3), torch.tensor([0, 1, 2]), "ab", "the 3 columns"),
        (torch.zeros(0, 3), torch.tensor([]), "abc", "not empty"),
    ],
)
def test_what_does_not_fit_together_is_refused(probabilities, labels, classes, message):
    with pytest.raises(ValueError, match=message):
        measure(probabilities, labels, classes)


class Toy(nn.Module):
    """Dropout and batch norm: both tell whether the network is in evaluation mode."""

    def __init__(self, K=5):
        super().__init__()
        self.norm = nn.BatchNorm2d(2)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(2 * 5 * 3, K)

    def forward(self, x):
        return self.head(self.drop(self.norm(x)).flatten(1)) * 3


def pictures(N=13):
    return torch.randint(0, 256, (N, 2, 5, 3), dtype=torch.uint8)


def test_predictions_are_the_softmax_of_one_pass_in_evaluation_mode():
    model, images = Toy(), pictures()
    model.norm.running_mean += 0.7
    model.eval()
    expected = model(normalise(images, MEAN, STD)).softmax(1).detach()
    model.train()
    model.norm.eval()  # a frozen part stays frozen
    for batch_size in (1, 4, 512):
        found = predict_probabilities(model, images, MEAN, STD, batch_size)
        assert torch.allclose(found, expected, atol=1e-6)
        assert (model.training, model.norm.training, model.drop.training) == (True, False, True)
    assert found.dtype == torch.float32
    assert not found.is_inference()
    assert not found.requires_grad


def test_the_softmax_of_a_half_precision_network_is_taken_in_float32():
    class Half(nn.Module):
        def forward(self, x):
            return x.flatten(1).to(torch.bfloat16)

    images = pictures()
    logits = normalise(images, MEAN, STD).flatten(1).to(torch.bfloat16)
    assert torch.equal(predict_probabilities(Half(), images, MEAN, STD), logits.float().softmax(1))


def test_after_an_error_the_training_mode_is_restored():
    model = Toy()
    with pytest.raises(ValueError, match="mean and std"):
        predict_probabilities(model, pictures(), MEAN[:1], STD[:1])
    assert model.training
    assert model.drop.training


def test_predicting_refuses():
    model = Toy()
    with pytest.raises(ValueError, match="at least one picture"):
        predict_probabilities(model, pictures(0), MEAN, STD)
    with pytest.raises(ValueError, match="batch_size"):
        predict_probabilities(model, pictures(), MEAN, STD, 0)
    with pytest.raises(ValueError, match=r"\(13, K\) logits, got"):
        predict_probabilities(nn.Identity(), pictures(), MEAN, STD)
    nn.init.constant_(model.head.bias, float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        predict_probabilities(model, pictures(), MEAN, STD)
