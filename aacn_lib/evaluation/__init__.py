"""How good a network is: measures with intervals, paired comparisons, ways to predict."""

from aacn_lib.evaluation.accuracy import Evaluation, evaluate
from aacn_lib.evaluation.intervals import wilson_interval
from aacn_lib.evaluation.metrics import BINS, Measures, check_predictions, measure, predict_probabilities, reliability
from aacn_lib.evaluation.paired import Agreement, compare, difference_interval, mcnemar, paired_seeds, student_quantile
from aacn_lib.evaluation.predict import (
    adaptive,
    adaptive_curve,
    candidate_probabilities,
    class_specialised,
    ensemble,
    fit_adaptive,
    fit_class_specialised,
    tta,
)
from aacn_lib.evaluation.probability_file import read_probabilities, write_probabilities
from aacn_lib.evaluation.views import METHODS, View, apply_view

__all__ = [
    "BINS",
    "METHODS",
    "Agreement",
    "Evaluation",
    "Measures",
    "View",
    "adaptive",
    "adaptive_curve",
    "apply_view",
    "candidate_probabilities",
    "check_predictions",
    "class_specialised",
    "compare",
    "difference_interval",
    "ensemble",
    "evaluate",
    "fit_adaptive",
    "fit_class_specialised",
    "mcnemar",
    "measure",
    "paired_seeds",
    "predict_probabilities",
    "read_probabilities",
    "reliability",
    "student_quantile",
    "tta",
    "wilson_interval",
    "write_probabilities",
]
