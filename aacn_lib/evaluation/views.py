"""Views of a picture for test-time augmentation, and the average of what a model says of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aacn_lib.evaluation.metrics import check_predictions
from aacn_lib.expect import expect_one_of

AVERAGES = ("probabilities", "log-probabilities")


@dataclass(frozen=True)
class View:
    """One way to look at a picture.

    Attributes:
        flip: mirrored left to right; done before the shift.
        down, right: shift of the contents in pixels; negative is up and left.
        padding: what fills the border that a shift leaves: "zero" (black, as in the crops of training) or "reflect".
    """

    flip: bool = False
    down: int = 0
    right: int = 0
    padding: str = "reflect"

    def __post_init__(self):
        whole = all(isinstance(step, int) and not isinstance(step, bool) for step in (self.down, self.right))
        if not whole or not isinstance(self.flip, bool) or self.padding not in ("zero", "reflect"):
            raise ValueError(
                f'View: expected flip, whole numbers of pixels and padding "zero" or "reflect", got {self}'
            )


SINGLE = View()


def _check_average(average: str) -> None:
    expect_one_of("", "average", AVERAGES, average)


@dataclass(frozen=True)
class Method:
    """Views of a picture and how their predictions are averaged. The first view is the picture as it is."""

    views: tuple[View, ...]
    average: str = "probabilities"

    def __post_init__(self):
        object.__setattr__(self, "views", tuple(self.views))
        if not self.views or self.views[0] != SINGLE or len(set(self.views)) < len(self.views):
            raise ValueError("Method: expected different views of which the first is the picture as it is, View()")
        _check_average(self.average)

    @property
    def passes(self) -> int:
        """Forward passes a picture."""
        return len(self.views)


_SHIFTS = tuple((down, right) for down in (-1, 1) for right in (-1, 1))
_FLIP = (SINGLE, View(flip=True))
_SHIFT = (SINGLE, *(View(False, *shift) for shift in _SHIFTS))
FLIP_SHIFT = (*_SHIFT, *(View(True, *shift) for shift in ((0, 0), *_SHIFTS)))

# From cheap to costly: where two do equally well on validation data, the first is chosen.
METHODS = {
    "single": Method((SINGLE,)),
    "flip": Method(_FLIP),
    "shift": Method(_SHIFT),
    "flip-shift": Method(FLIP_SHIFT),
    "flip-shift-log": Method(FLIP_SHIFT, "log-probabilities"),
}


def apply_view(images: Tensor, view: View) -> Tensor:
    """The pictures (N, C, H, W), uint8 or floating point, seen in that way; a new tensor or the given one."""
    if images.ndim != 4:
        raise ValueError(f"images must be (N, C, H, W), got {tuple(images.shape)}")
    H, W = images.shape[-2:]
    if abs(view.down) >= H or abs(view.right) >= W:
        raise ValueError(f"a shift must be smaller than the {H}×{W} picture, got {view.down} down, {view.right} right")
    if view.flip:
        images = images.flip(-1)
    if view.padding == "zero":
        # A negative pad cuts: what enters on one side leaves on the other.
        return F.pad(images, (view.right, -view.right, view.down, -view.down)) if view.down or view.right else images
    for axis, size, step in ((2, H, view.down), (3, W, view.right)):
        if step:
            source = (torch.arange(size, device=images.device) - step).abs()  # -1 is 1: the edge is not doubled
            source = (size - 1) - ((size - 1) - source).abs()
            images = images.index_select(axis, source)
    return images


def average_predictions(
    predictions: Sequence[Tensor], average: str = "probabilities", weights: Sequence[float] | None = None
) -> Tensor:
    """The mean of several predictions (N, K) of the same pictures, (N, K).

    The mean of log-probabilities, made to sum to 1 again, is the geometric mean: one prediction that finds a class
    impossible can rule it out.

    Args:
        weights: one number of at least 0 for each prediction, default equal; only their ratio matters.
    """
    _check_average(average)
    predictions = [check_predictions(prediction)[0] for prediction in predictions]
    if not predictions or any(prediction.shape != predictions[0].shape for prediction in predictions):
        shapes = ", ".join(str(tuple(prediction.shape)) for prediction in predictions)
        raise ValueError(f"expected predictions (N, K) of the same pictures and classes, got {shapes or 'none'}")
    weights = [1.0] * len(predictions) if weights is None else [float(weight) for weight in weights]
    sound = all(0 <= weight < float("inf") for weight in weights) and any(weights)  # NaN fails every comparison
    if len(weights) != len(predictions) or not sound:
        raise ValueError(f"weights: expected {len(predictions)} numbers of at least 0, one above 0, got {weights}")
    shares = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    stack = torch.stack(predictions).double()  # (V, N, K)
    if average == "log-probabilities":
        # 0 would be log 0; the smallest float32 instead keeps 0 · log 0 from becoming NaN.
        stack = stack.clamp(min=torch.finfo(torch.float32).tiny).log()
    mean = torch.einsum("v,vnk->nk", shares, stack)
    return (mean.softmax(dim=1) if average == "log-probabilities" else mean).float()
