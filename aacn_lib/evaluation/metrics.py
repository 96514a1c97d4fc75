"""How good predictions are: accuracy, precision, recall, F1, confusion and calibration, with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aacn_lib.data import normalise
from aacn_lib.evaluation.intervals import wilson_interval
from aacn_lib.models import evaluation_mode

BINS = 15  # of equal width, as in Guo et al. 2017


@dataclass(frozen=True)
class Share:
    """`hits` out of `count`. `value` is 0 and `interval` (95 %, Wilson 1927) None where `count` is 0."""

    hits: int
    count: int
    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class ClassMeasures:
    """One class. precision: of the pictures predicted as it; recall: of the pictures that are it (the support)."""

    name: str
    support: int
    precision: Share
    recall: Share
    f1: float


@dataclass(frozen=True)
class Measures:
    """What `measure` found; `dataclasses.asdict` makes it plain data for JSON.

    Attributes:
        count: N, the pictures.
        top1, top5: shares of pictures whose class has the highest, or one of the five highest, probabilities; top5 is
            None with at most five classes.
        loss: mean cross-entropy in nats.
        macro_f1: mean F1 of the classes that occur in the labels or in the predictions.
        calibration_error: expected calibration error over `BINS` bins, in [0, 1] (Guo et al. 2017, equation 3).
        per_class: K entries.
        confusion: K rows (true class) of K counts (predicted class).
        never_predicted: classes whose precision is 0 by definition, not by measurement.
        without_pictures: classes that no label names: their recall is 0 by definition.
    """

    count: int
    top1: Share
    top5: Share | None
    loss: float
    macro_f1: float
    calibration_error: float
    per_class: tuple[ClassMeasures, ...]
    confusion: tuple[tuple[int, ...], ...]
    never_predicted: tuple[str, ...]
    without_pictures: tuple[str, ...]


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy. Each tuple has one entry a bin; an empty bin has confidence and accuracy None.

    error is the expected calibration error: the mean of |accuracy - confidence| over bins, weighted by their counts.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    correct: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]
    error: float


def predict_probabilities(model: nn.Module, images: Tensor, mean: Tensor, std: Tensor, batch_size: int = 512) -> Tensor:
    """One forward pass over each picture.

    Args:
        model: (B, C, H, W) → logits (B, K), on any device; the training mode of each of its parts is restored.
        images: uint8 (N, C, H, W), on any device.
        mean, std: (C,), those of the data set the model was trained on.
        batch_size: pictures at a time; changes memory and speed, not the results beyond rounding.

    Returns:
        Probabilities, float32 (N, K), on the CPU; softmax is taken in float32 whatever the model computes in.

    Raises:
        ValueError: for no pictures, a batch_size below 1, or logits that are not finite or not (B, K).
    """
    if len(images) == 0:
        raise ValueError("predict_probabilities: expected at least one picture, got none")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(
            f"predict_probabilities: batch_size: expected a whole number of at least 1, got {batch_size!r}"
        )
    parameter = next(model.parameters(), None)
    device = images.device if parameter is None else parameter.device
    rows = []
    with evaluation_mode(model), torch.inference_mode():
        for batch in images.split(batch_size):
            logits = model(normalise(batch.to(device), mean, std))  # (B, K)
            if logits.ndim != 2 or len(logits) != len(batch):
                raise ValueError(f"the model must give ({len(batch)}, K) logits, got {tuple(logits.shape)}")
            rows.append(logits.float().softmax(dim=1).cpu())
    # Joined outside of inference mode: the result is an ordinary tensor that may take part in anything.
    probabilities = torch.cat(rows)
    if not probabilities.isfinite().all():
        raise ValueError("the model's outputs are not finite: its training has diverged, or its weights are damaged")
    return probabilities


def measure(probabilities: Tensor, labels: Tensor, classes: Sequence[str]) -> Measures:
    """Compare predictions with the truth. The predicted class is the most probable one, the first of several equal.

    Args:
        probabilities: (N, K), rows that sum to 1.
        labels: integers (N,) from 0 to K - 1.
        classes: K names.

    Raises:
        ValueError: if the three do not fit together.
    """
    from torchmetrics.functional.classification import (
        multiclass_calibration_error,
        multiclass_confusion_matrix,
        multiclass_f1_score,
        multiclass_stat_scores,
    )

    probabilities, labels = check_predictions(probabilities, labels, classes)
    N, K = probabilities.shape
    predicted = probabilities.argmax(dim=1)
    # torchmetrics wants two classes at least; a second one that never occurs changes no count.
    width = max(2, K)
    counts = multiclass_stat_scores(predicted, labels, num_classes=width, average="none")[:K]  # tp, fp, tn, fn, support
    f1 = multiclass_f1_score(predicted, labels, num_classes=width, average="none")[:K].tolist()
    macro_f1 = multiclass_f1_score(predicted, labels, num_classes=width, average="macro").item()
    confusion = multiclass_confusion_matrix(predicted, labels, num_classes=width)[:K, :K]
    top5 = None
    if K > 5:
        hits = multiclass_stat_scores(probabilities, labels, num_classes=K, top_k=5, average="micro")[0].item()
        top5 = _share(hits, N)
    calibration = 0.0
    if K > 1:
        # torchmetrics keeps a bin of its own for a confidence of exactly 1; just below 1 it lies in the last bin.
        below_one = probabilities.clamp(max=1 - 2**-24)
        calibration = multiclass_calibration_error(below_one, labels, num_classes=K, n_bins=BINS).item()

    true_positive, false_positive, _, _, support = counts.unbind(1)
    predictions = true_positive + false_positive
    per_class = tuple(
        ClassMeasures(
            name=name,
            support=support[k].item(),
            precision=_share(true_positive[k].item(), predictions[k].item()),
            recall=_share(true_positive[k].item(), support[k].item()),
            f1=f1[k],
        )
        for k, name in enumerate(classes)
    )
    right = probabilities.gather(1, labels[:, None]).double()
    return Measures(
        count=N,
        top1=_share((predicted == labels).sum().item(), N),
        top5=top5,
        # A probability that float32 rounds to 0 counts as the smallest normal one: the loss stays finite.
        loss=-right.clamp(min=torch.finfo(torch.float32).tiny).log().mean().item() + 0.0,
        macro_f1=macro_f1,
        calibration_error=calibration,
        per_class=per_class,
        confusion=tuple(map(tuple, confusion.tolist())),
        never_predicted=tuple(row.name for row in per_class if row.precision.count == 0),
        without_pictures=tuple(row.name for row in per_class if row.support == 0),
    )


def reliability(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> Reliability:
    """Sort pictures by the probability of their predicted class into bins and see how often each bin is right.

    A bin holds its lower edge, the last one both of its edges.
    """
    probabilities, labels = check_predictions(probabilities, labels)
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise ValueError(f"reliability: bins: expected a whole number of at least 1, got {bins!r}")
    confidence, predicted = probabilities.max(dim=1)
    edges = torch.linspace(0, 1, bins + 1)
    place = torch.bucketize(confidence, edges[1:-1], right=True)  # (N,), 0 … bins - 1
    counts = torch.bincount(place, minlength=bins)
    correct = torch.bincount(place[predicted == labels], minlength=bins)
    sums = torch.zeros(bins, dtype=torch.float64).index_add_(0, place, confidence.double())
    error = (correct - sums).abs().sum().item() / len(labels)
    filled = list(zip(counts.tolist(), correct.tolist(), sums.tolist(), strict=True))
    return Reliability(
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        correct=tuple(correct.tolist()),
        confidence=tuple(total / n if n else None for n, _, total in filled),
        accuracy=tuple(hits / n if n else None for n, hits, _ in filled),
        error=error,
    )


def check_predictions(
    probabilities: Tensor, labels: Tensor | None = None, classes: Sequence[str] | None = None
) -> tuple[Tensor, Tensor | None]:
    """The two on the CPU, float32 and int64, or a ValueError that says what does not fit."""
    probabilities = torch.as_tensor(probabilities).detach().float().cpu()
    if probabilities.ndim != 2 or probabilities.numel() == 0:
        raise ValueError(f"probabilities must be (N, K) and not empty, got {tuple(probabilities.shape)}")
    sums = probabilities.sum(dim=1)
    # NaN fails every comparison, so each one is written for the good case.
    if not ((probabilities >= 0).all() and ((sums - 1).abs() < 1e-3).all()):
        raise ValueError("probabilities must be at least 0 and sum to 1 in each row; logits need a softmax first")
    probabilities = probabilities.clamp(max=1.0)  # a rounded softmax may exceed 1 by its last digit
    N, K = probabilities.shape
    if classes is not None and len(classes) != K:
        raise ValueError(f"classes must name the {K} columns of probabilities, got {len(classes)} names")
    if labels is None:
        return probabilities, None
    labels = torch.as_tensor(labels).cpu()
    if labels.shape != (N,) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be {N} integers, one a picture, got {labels.dtype} {tuple(labels.shape)}")
    if labels.min() < 0 or labels.max() >= K:
        raise ValueError(f"labels must lie in 0 … {K - 1}, got {labels.min().item()} … {labels.max().item()}")
    return probabilities, labels.long()


def _share(hits: int, count: int) -> Share:
    if count == 0:
        return Share(0, 0, 0.0, None)
    return Share(hits, count, hits / count, wilson_interval(hits, count))
