"""Figures of the lessons and of reports; matplotlib is imported when one is drawn."""

from aacn_lib.figures.figures import (
    AMOUNTS,
    LINE_COLOURS,
    LINE_STYLES,
    QUERY_COLOUR,
    plot_curves,
    show_attention,
    show_images,
    show_matrix,
)
from aacn_lib.figures.live import live_curve, tensorboard_curve
from aacn_lib.figures.report import (
    show_class_f1,
    show_confusion,
    show_predictions,
    show_reliability,
    show_training,
    training_figure,
)

__all__ = [
    "AMOUNTS",
    "LINE_COLOURS",
    "LINE_STYLES",
    "QUERY_COLOUR",
    "live_curve",
    "plot_curves",
    "show_attention",
    "show_class_f1",
    "show_confusion",
    "show_images",
    "show_matrix",
    "show_predictions",
    "show_reliability",
    "show_training",
    "tensorboard_curve",
    "training_figure",
]
