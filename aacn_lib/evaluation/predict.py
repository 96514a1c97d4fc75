"""Predicting well: test-time augmentation, class-specialised and adaptive prediction, ensembles.

Two of the methods have something to choose. It is chosen by a `fit_...` function from predictions on *validation*
pictures, and kept in a small frozen object. The functions that predict take that object and pictures, never labels.
What a fit reaches on the pictures it was chosen on is too good to be reported; the test part tells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aacn_lib.evaluation.metrics import check_predictions, predict_probabilities
from aacn_lib.evaluation.probability_file import Probabilities, read_probabilities, write_probabilities
from aacn_lib.evaluation.views import FLIP_SHIFT, METHODS, SINGLE, Method, View, apply_view, average_predictions
from aacn_lib.expect import expect_one_of

__all__ = [
    "METHODS",
    "Adaptive",
    "AdaptivePoint",
    "ClassSpecialised",
    "Method",
    "Prediction",
    "Probabilities",
    "View",
    "adaptive",
    "adaptive_curve",
    "apply_view",
    "average_predictions",
    "candidate_probabilities",
    "class_specialised",
    "ensemble",
    "fit_adaptive",
    "fit_class_specialised",
    "read_probabilities",
    "tta",
    "write_probabilities",
]


class Prediction(NamedTuple):
    """`probabilities`, float32 (N, K), and `passes`, the mean number of forward passes a picture."""

    probabilities: Tensor
    passes: float


@dataclass(frozen=True)
class ClassSpecialised:
    """`methods[k]` is the name of the method for pictures whose single pass says class k."""

    methods: tuple[str, ...]

    def __post_init__(self):
        object.__setattr__(self, "methods", tuple(self.methods))  # JSON brings a list


@dataclass(frozen=True)
class Adaptive:
    """Pictures whose single pass is at most `threshold` confident get `method`; 0 is never, 1 always."""

    threshold: float
    method: str


class AdaptivePoint(NamedTuple):
    """What a threshold costs and brings: mean passes a picture and accuracy."""

    threshold: float
    passes: float
    accuracy: float


def tta(
    model: nn.Module,
    images: Tensor,
    mean: Tensor,
    std: Tensor,
    views: Sequence[View] = FLIP_SHIFT,
    *,
    average: str = "probabilities",
    single: Tensor | None = None,
    batch_size: int = 512,
) -> Tensor:
    """Test-time augmentation: the average prediction over several views of each picture, one pass a view.

    A view is only worth having if it leaves the label as it is: mirrored, a shoe is a shoe, but not a letter, and not
    an arrow.

    Args:
        model, images, mean, std, batch_size: as in `predict_probabilities`.
        views: at least one.
        average: "probabilities" or "log-probabilities".
        single: what the model says of the pictures as they are, if that is known: saves a pass.

    Returns:
        Probabilities, float32 (N, K), on the CPU.
    """
    known = {} if single is None else {SINGLE: single}
    predictions = [
        known[view] if view in known else predict_probabilities(model, apply_view(images, view), mean, std, batch_size)
        for view in views
    ]
    return average_predictions(predictions, average)


def candidate_probabilities(
    model: nn.Module,
    images: Tensor,
    mean: Tensor,
    std: Tensor,
    methods: Mapping[str, Method] = METHODS,
    *,
    batch_size: int = 512,
) -> dict[str, Tensor]:
    """What each method says of the pictures: name → (N, K). A view that several methods share is computed once."""
    views = dict.fromkeys(view for method in methods.values() for view in method.views)
    seen = {view: predict_probabilities(model, apply_view(images, view), mean, std, batch_size) for view in views}
    return {
        name: average_predictions([seen[view] for view in method.views], method.average)
        for name, method in methods.items()
    }


def ensemble(
    predictions: Sequence[Tensor], weights: Sequence[float] | None = None, average: str = "probabilities"
) -> Tensor:
    """The average prediction of several models (N, K) each, of the same pictures and classes in the same order.

    Args:
        weights: one number of at least 0 a model; default equal, which needs no fitting.
    """
    return average_predictions(predictions, average, weights)


def fit_class_specialised(candidates: Mapping[str, Tensor], validation_labels: Tensor) -> ClassSpecialised:
    """Choose a method for each predicted class.

    The validation pictures are grouped by the class k that the single pass predicts, which is known without any label.
    In each group the method with the most correct predictions is chosen; of several equal ones the first in
    `candidates`. A group without pictures gets the single pass.

    Args:
        candidates: from `candidate_probabilities` on the validation pictures; the first entry is "single".
        validation_labels: (N,).
    """
    correct, single = {}, None
    if next(iter(candidates), None) != "single":
        raise ValueError(f'candidates: expected "single" as the first entry, got {list(candidates)}')
    for name, probabilities in candidates.items():
        probabilities, labels = check_predictions(probabilities, validation_labels)
        single = probabilities if single is None else single
        if probabilities.shape != single.shape:
            raise ValueError(f"candidates: {name} is {tuple(probabilities.shape)}, single {tuple(single.shape)}")
        correct[name] = probabilities.argmax(dim=1) == labels
    group, K = single.argmax(dim=1), single.shape[1]
    hits = torch.stack([torch.bincount(group[right], minlength=K) for right in correct.values()])  # (methods, K)
    # Python's max keeps the first of equal ones; torch's argmax promises nothing.
    names = list(correct)
    return ClassSpecialised(tuple(max(names, key=lambda name: hits[names.index(name), k]) for k in range(K)))


def class_specialised(
    fitted: ClassSpecialised,
    model: nn.Module,
    images: Tensor,
    mean: Tensor,
    std: Tensor,
    methods: Mapping[str, Method] = METHODS,
    *,
    batch_size: int = 512,
) -> Prediction:
    """Predict by the method that was chosen for the class the single pass predicts.

    All pictures go through one pass; those whose class has another method go through its other views.

    Args:
        fitted: from `fit_class_specialised`.
        model, images, mean, std, batch_size: as in `predict_probabilities`.
        methods: those that were candidates, by name.
    """
    single = predict_probabilities(model, images, mean, std, batch_size)
    if len(fitted.methods) != single.shape[1]:
        raise ValueError(f"fitted for {len(fitted.methods)} classes, the model has {single.shape[1]}")
    group = single.argmax(dim=1)
    rows = {name: torch.tensor([chosen == name for chosen in fitted.methods])[group] for name in set(fitted.methods)}
    return _refine(model, images, mean, std, single, rows, methods, batch_size)


def adaptive_curve(single: Tensor, refined: Tensor, validation_labels: Tensor, passes: int) -> list[AdaptivePoint]:
    """Cost and accuracy of every threshold that makes a difference, from 0 (never refine) upwards.

    Args:
        single, refined: what the single pass and the costly method say of the validation pictures, (N, K) each.
        validation_labels: (N,).
        passes: of the costly method, the single pass included.
    """
    single, labels = check_predictions(single, validation_labels)
    refined, _ = check_predictions(refined, labels)
    if single.shape != refined.shape:
        raise ValueError(f"expected predictions of one shape, got {tuple(single.shape)} and {tuple(refined.shape)}")
    confidence, predicted = single.max(dim=1)
    before, after = (predicted == labels).long(), (refined.argmax(dim=1) == labels).long()
    order = confidence.argsort()
    gained = (after - before)[order].cumsum(0)  # by refining this picture and all that are less confident
    confidence, N = confidence[order], len(labels)
    last = torch.ones(N, dtype=torch.bool)  # the last of those equally confident: a threshold cannot part them
    last[:-1] = confidence[1:] > confidence[:-1]
    places = last.nonzero().squeeze(1).tolist()
    right = before.sum().item()
    points = [AdaptivePoint(0.0, 1.0, right / N)]
    for place in places:
        cost = 1 + (passes - 1) * (place + 1) / N
        points.append(AdaptivePoint(confidence[place].item(), cost, (right + gained[place].item()) / N))
    return points


def fit_adaptive(
    single: Tensor, refined: Tensor, validation_labels: Tensor, method: str = "flip-shift", *, tolerance: float = 0.0,
    methods: Mapping[str, Method] = METHODS,
) -> Adaptive:  # fmt: skip
    """Choose the confidence up to which a picture is worth more than one pass.

    The smallest threshold, which is the cheapest, at which the validation accuracy is that of refining all pictures or
    none, whichever is better, less `tolerance`. The best of all thresholds would mostly be the luckiest.

    Args:
        single, refined: what the single pass and `method` say of the validation pictures, (N, K) each.
        validation_labels: (N,).
        method: a name in `methods`.
        tolerance: accuracy, in [0, 1], that may be given up for speed.
    """
    if not 0 <= tolerance <= 1:
        raise ValueError(f"tolerance: expected an accuracy from 0 to 1, got {tolerance!r}")
    points = adaptive_curve(single, refined, validation_labels, _method(methods, method).passes)
    goal = max(points[0].accuracy, points[-1].accuracy) - tolerance
    chosen = next(point for point in points if point.accuracy >= goal)
    # Where every validation picture is refined, so is every other, also one that is more confident than all of them.
    return Adaptive(1.0 if chosen is points[-1] else chosen.threshold, method)


def adaptive(
    fitted: Adaptive,
    model: nn.Module,
    images: Tensor,
    mean: Tensor,
    std: Tensor,
    methods: Mapping[str, Method] = METHODS,
    *,
    batch_size: int = 512,
) -> Prediction:
    """Predict by a single pass where that is confident, and by the fitted method where it is not.

    Args:
        fitted: from `fit_adaptive`.
        model, images, mean, std, batch_size: as in `predict_probabilities`.
        methods: where the fitted method is found by name.
    """
    single = predict_probabilities(model, images, mean, std, batch_size)
    unsure = check_predictions(single)[0].max(dim=1).values <= fitted.threshold
    return _refine(model, images, mean, std, single, {fitted.method: unsure}, methods, batch_size)


def _refine(
    model: nn.Module,
    images: Tensor,
    mean: Tensor,
    std: Tensor,
    single: Tensor,
    rows: Mapping[str, Tensor],
    methods: Mapping[str, Method],
    batch_size: int,
) -> Prediction:
    """`single`, with the pictures that `rows` (N,) marks under a method's name predicted by that method."""
    probabilities, extra = single.clone(), 0
    for name, marked in rows.items():
        method = _method(methods, name)
        if method.passes == 1 or not marked.any():
            continue
        chosen = images[marked.to(images.device)]
        probabilities[marked] = tta(
            model, chosen, mean, std, method.views,
            average=method.average, single=single[marked], batch_size=batch_size,
        )  # fmt: skip
        extra += (method.passes - 1) * len(chosen)
    return Prediction(probabilities, 1 + extra / len(images))


def _method(methods: Mapping[str, Method], name: str) -> Method:
    expect_one_of("", "method", methods, name)
    return methods[name]
