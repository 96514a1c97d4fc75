"""Views, averages, fitted methods and their cost, each against a plain computation."""

import inspect
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from aacn_lib.evaluation import METHODS, View, apply_view, ensemble, predict, predict_probabilities, tta
from aacn_lib.evaluation.predict import (
    Adaptive,
    ClassSpecialised,
    Method,
    adaptive,
    adaptive_curve,
    average_predictions,
    candidate_probabilities,
    class_specialised,
    fit_adaptive,
    fit_class_specialised,
)

MEAN, STD = torch.tensor([0.4]), torch.tensor([0.3])
K = 4


class Counting(nn.Module):
    """A network that is sensitive to flips and shifts, and counts the pictures that went through it."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5 * 7, K)
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return self.head(x.flatten(1)) * 2


def pictures(N=60):
    return torch.randint(0, 256, (N, 1, 5, 7), dtype=torch.uint8)


def drawn(N=300, sharpness=1.0):
    labels = torch.randint(K, (N,))
    logits = torch.randn(N, K) * 1.5
    logits[torch.arange(N), labels] += sharpness
    return logits.softmax(1), labels


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("padding", ["zero", "reflect"])
@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, 0), (0, -2), (2, -1), (-4, 6)])
@pytest.mark.parametrize("flip", [False, True])
def test_a_view_pixel_by_pixel(flip, down, right, padding, dtype):
    images = pictures(3).to(dtype)
    kept = images.clone()
    found = apply_view(images, View(flip, down, right, padding))
    source = np.flip(images.numpy(), 3) if flip else images.numpy()
    # numpy's own padding, cut so that the contents have moved
    widths = ((0, 0), (0, 0), (4, 4), (6, 6))
    padded = np.pad(source, widths, "constant" if padding == "zero" else "reflect")
    expected = padded[:, :, 4 - down : 9 - down, 6 - right : 13 - right]
    assert np.array_equal(found.numpy(), expected)
    assert found.dtype == dtype
    assert torch.equal(images, kept)


def test_views_and_methods_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="smaller than the 5×7 picture"):
        apply_view(pictures(), View(down=5))
    with pytest.raises(ValueError, match=r"images must be \(N, C, H, W\)"):
        apply_view(pictures()[0], View())
    for wrong in ({"down": 0.5}, {"flip": 1}, {"padding": "edge"}):
        with pytest.raises(ValueError, match="View: expected"):
            View(**wrong)
    for views in ((), (View(flip=True),), (View(), View())):
        with pytest.raises(ValueError, match="Method: expected different views"):
            Method(views)
    with pytest.raises(ValueError, match="average: expected one of"):
        Method((View(),), "median")


def test_the_methods_look_at_all_they_say():
    assert [method.passes for method in METHODS.values()] == [1, 2, 5, 10, 10]
    assert all(len(set(method.views)) == method.passes for method in METHODS.values())


def test_averages_by_hand():
    a, b = torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[0.9, 0.0, 0.1]])
    assert average_predictions([a, b]).tolist() == [pytest.approx([0.7, 0.25, 0.05])]
    assert average_predictions([a, b], weights=[3, 1]).tolist() == [pytest.approx([0.6, 0.375, 0.025])]
    assert torch.equal(average_predictions([a, b], weights=[0, 2]), b)
    # What one rules out is ruled out: 0.5 · 0.9 alone is left.
    found = average_predictions([a, b], "log-probabilities")
    assert found.tolist() == [pytest.approx([1, 0, 0])]
    c, d = torch.tensor([[0.8, 0.2]]), torch.tensor([[0.5, 0.5]])
    assert average_predictions([c, d], "log-probabilities").tolist() == [pytest.approx([2 / 3, 1 / 3])]  # √0.4 : √0.1
    assert torch.equal(ensemble([c, d], [1, 3]), average_predictions([c, d], weights=[1, 3]))


def test_zeros_do_not_break_the_mean_of_logarithms():
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert average_predictions([a, b], "log-probabilities").tolist() == [pytest.approx([0.5, 0.5])]
    assert average_predictions([a, b], "log-probabilities", [0, 1]).tolist() == [pytest.approx([0, 1])]


@pytest.mark.parametrize("weights", [[1], [1, -1], [0, 0], [1, float("nan")], [1, float("inf")]])
def test_weights_are_checked(weights):
    p, _ = drawn(5)
    with pytest.raises(ValueError, match="weights: expected 2 numbers"):
        ensemble([p, p], weights)


def test_averages_of_different_pictures_are_refused():
    with pytest.raises(ValueError, match=r"\(5, 4\), \(6, 4\)"):
        ensemble([drawn(5)[0], drawn(6)[0]])
    with pytest.raises(ValueError, match="got none"):
        ensemble([])


def test_tta_is_the_mean_over_views():
    model, images = Counting(), pictures()
    views = [View(), View(flip=True), View(True, 1, -2, "zero")]
    each = [predict_probabilities(model, apply_view(images, view), MEAN, STD) for view in views]
    assert torch.allclose(tta(model, images, MEAN, STD, views), sum(each) / 3, atol=1e-6)
    geometric = (each[0] * each[1] * each[2]) ** (1 / 3)
    geometric /= geometric.sum(1, keepdim=True)
    found = tta(model, images, MEAN, STD, views, average="log-probabilities")
    assert torch.allclose(found, geometric, atol=1e-6)
    assert (each[0] - found).abs().max() > 0.05  # the views differ, or this test could not fail
    model.seen = 0
    again = tta(model, images, MEAN, STD, views, average="log-probabilities", single=each[0])
    assert torch.equal(again, found)
    assert model.seen == 2 * len(images)


def test_candidates_share_their_views():
    model, images = Counting(), pictures()
    found = candidate_probabilities(model, images, MEAN, STD)
    assert model.seen == 10 * len(images)
    assert list(found) == list(METHODS)
    assert torch.equal(found["single"], predict_probabilities(model, images, MEAN, STD))
    for name, method in METHODS.items():
        expected = tta(model, images, MEAN, STD, method.views, average=method.average)
        assert torch.allclose(found[name], expected, atol=1e-6)


def test_each_predicted_class_gets_its_best_method():
    single, labels = drawn(sharpness=0.5)
    candidates = {"single": single, "flip": drawn()[0], "shift": drawn()[0]}
    # By hand: make flip right for all pictures taken for class 2, and shift wrong for all taken for class 0.
    group = single.argmax(1)
    candidates["flip"][group == 2] = torch.eye(K)[labels[group == 2]]
    candidates["shift"][group == 0] = torch.eye(K)[(labels[group == 0] + 1) % K]
    fitted = fit_class_specialised(candidates, labels)
    right = {name: p.argmax(1) == labels for name, p in candidates.items()}
    for k, chosen in enumerate(fitted.methods):
        hits = {name: right[name][group == k].sum().item() for name in candidates}
        assert hits[chosen] == max(hits.values())
        assert chosen == next(name for name in candidates if hits[name] == max(hits.values()))
    assert fitted.methods[2] == "flip"
    assert fitted.methods[0] != "shift"
    assert len(set(fitted.methods)) > 1
    # The groups part the pictures: on these very pictures no single candidate can do better.
    specialised = torch.stack([right[fitted.methods[k]][n] for n, k in enumerate(group.tolist())])
    assert specialised.sum() >= max(each.sum() for each in right.values())


def test_ties_and_empty_groups_get_the_single_pass():
    single = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    other = torch.tensor([[0.2, 0.7, 0.1], [0.7, 0.2, 0.1], [0.7, 0.2, 0.1]])
    fitted = fit_class_specialised({"single": single, "flip": other}, torch.tensor([0, 1, 0]))
    # Class 0: single right on the first, flip on none. Class 1: flip right. Class 2: no pictures.
    assert fitted == ClassSpecialised(("single", "flip", "single"))
    tie = fit_class_specialised({"single": single, "flip": single.clone()}, torch.tensor([0, 1, 0]))
    assert set(tie.methods) == {"single"}
    with pytest.raises(ValueError, match='expected "single" as the first'):
        fit_class_specialised({"flip": other, "single": single}, torch.tensor([0, 1, 0]))
    with pytest.raises(ValueError, match="flip is"):
        fit_class_specialised({"single": single, "flip": single[:, :2].softmax(1)}, torch.tensor([0, 1, 0]))


def test_class_specialised_prediction_and_its_cost():
    model, images = Counting(), pictures()
    candidates = candidate_probabilities(model, images, MEAN, STD)
    group = candidates["single"].argmax(1)
    fitted = ClassSpecialised(("flip", "single", "shift", "flip"))
    expected = torch.stack([candidates[fitted.methods[k]][n] for n, k in enumerate(group.tolist())])
    model.seen = 0
    found, passes = class_specialised(fitted, model, images, MEAN, STD)
    assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.allclose(found, candidates["single"], atol=1e-3)
    assert passes == pytest.approx(model.seen / len(images))
    cost = sum(METHODS[fitted.methods[k]].passes for k in group.tolist())
    assert model.seen == cost
    with pytest.raises(ValueError, match="fitted for 3 classes, the model has 4"):
        class_specialised(ClassSpecialised(("single",) * 3), model, images, MEAN, STD)
    with pytest.raises(ValueError, match="got 'zoom'"):
        class_specialised(ClassSpecialised(("zoom",) * K), model, images, MEAN, STD)


def test_the_adaptive_curve_threshold_by_threshold():
    single, labels = drawn(sharpness=0.7)
    single[50:90] = single[50]  # equally confident pictures cannot be parted
    refined, _ = drawn()
    refined = (refined + torch.eye(K)[labels]) / 2
    points = adaptive_curve(single, refined, labels, passes=5)
    confidence = single.max(1).values
    assert [point.threshold for point in points] == [0.0, *sorted(set(confidence.tolist()))]
    for point in points:
        unsure = confidence <= point.threshold
        guess = torch.where(unsure, refined.argmax(1), single.argmax(1))
        assert point.accuracy == pytest.approx((guess == labels).double().mean().item())
        assert point.passes == pytest.approx(1 + 4 * unsure.double().mean().item())


@pytest.mark.parametrize("tolerance", [0.0, 0.02])
def test_the_cheapest_threshold_that_is_good_enough(tolerance):
    single, labels = drawn(sharpness=0.7)
    confidence = single.max(1).values
    refined = torch.where((confidence < 0.8)[:, None], (single + torch.eye(K)[labels]) / 2, single)
    fitted = fit_adaptive(single, refined, labels, "shift", tolerance=tolerance)
    points = adaptive_curve(single, refined, labels, METHODS["shift"].passes)
    good = [point for point in points if point.accuracy >= points[-1].accuracy - tolerance]
    assert fitted == Adaptive(min(point.threshold for point in good), "shift")
    assert 0 < fitted.threshold < 0.8
    if tolerance:
        assert fitted.threshold < fit_adaptive(single, refined, labels, "shift").threshold


def test_adaptive_refines_none_where_it_does_not_help_and_all_where_all_are_needed():
    single, labels = drawn()
    assert fit_adaptive(torch.eye(K)[labels], single, labels) == Adaptive(0.0, "flip-shift")
    wrong = torch.eye(K)[(labels + 1) % K] * 0.9 + 0.025
    assert fit_adaptive(wrong, torch.eye(K)[labels], labels) == Adaptive(1.0, "flip-shift")
    with pytest.raises(ValueError, match="got 'zoom'"):
        fit_adaptive(single, single, labels, "zoom")
    with pytest.raises(ValueError, match="tolerance"):
        fit_adaptive(single, single, labels, tolerance=-0.1)


def test_a_lucky_threshold_is_not_the_goal():
    # From least to most confident, refining mends, mends, breaks, and breaks: best in the middle, ends alike.
    single = torch.tensor([[0.55, 0.45], [0.6, 0.4], [0.7, 0.3], [0.8, 0.2]])
    labels = torch.tensor([1, 1, 0, 0])
    refined = single.flip(1)
    accuracies = [point.accuracy for point in adaptive_curve(single, refined, labels, 10)]
    assert accuracies == [0.5, 0.75, 1, 0.75, 0.5]
    assert fit_adaptive(single, refined, labels).threshold == 0


def test_adaptive_prediction_and_its_cost():
    model, images = Counting(), pictures()
    candidates = candidate_probabilities(model, images, MEAN, STD)
    confidence = candidates["single"].max(1).values
    threshold = confidence.sort().values[19].item()  # a picture's own confidence: it is refined too
    model.seen = 0
    found, passes = adaptive(Adaptive(threshold, "flip-shift"), model, images, MEAN, STD)
    unsure = confidence <= threshold
    assert unsure.sum() == 20
    assert torch.allclose(found[unsure], candidates["flip-shift"][unsure], atol=1e-6)
    assert torch.equal(found[~unsure], candidates["single"][~unsure])
    assert passes == model.seen / len(images) == 1 + 9 * 20 / 60
    assert adaptive(Adaptive(0.0, "flip"), model, images, MEAN, STD).passes == 1
    assert adaptive(Adaptive(1.0, "flip"), model, images, MEAN, STD).passes == 2


@pytest.mark.parametrize("fitted", [ClassSpecialised(("single", "flip")), Adaptive(0.1 + 0.2, "shift")])
def test_what_was_fitted_survives_json(fitted):
    assert type(fitted)(**json.loads(json.dumps(asdict(fitted)))) == fitted


def test_no_predicting_function_can_see_a_label():
    for function in (tta, ensemble, class_specialised, adaptive, candidate_probabilities, average_predictions):
        parameters = inspect.signature(function).parameters
        assert not any("label" in name or name in ("data", "split", "part") for name in parameters)
    for function in (fit_class_specialised, fit_adaptive):
        assert "validation_labels" in inspect.signature(function).parameters
    assert {"tta", "ensemble", "write_probabilities", "read_probabilities"} <= set(predict.__all__)
