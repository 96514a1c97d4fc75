"""Attention inside convolutional networks: the library behind the course.

Importing this package pulls in torch and nothing heavier.
"""

__version__ = "0.1.0"

from aacn_lib.augment import Augmentation, random_crop, random_flip
from aacn_lib.data import Dataset, Split, load_dataset, normalise
from aacn_lib.evaluation import evaluate
from aacn_lib.exercises import check
from aacn_lib.explorer import explore, explore_receptive_field, explore_tables
from aacn_lib.layers import AAConv1d, AAConv2d
from aacn_lib.models import (
    attention_layers,
    attention_maps,
    count_flops,
    count_parameters,
    create_model,
    feature_maps,
    list_models,
    logit_parts,
)
from aacn_lib.ops import attention, attention_weights, relative_index, relative_logits
from aacn_lib.training import History, Training, fit
from aacn_lib.weights import list_pretrained, load_pretrained

__all__ = [
    "AAConv1d",
    "AAConv2d",
    "Augmentation",
    "Dataset",
    "History",
    "Split",
    "Training",
    "attention",
    "attention_layers",
    "attention_maps",
    "attention_weights",
    "check",
    "count_flops",
    "count_parameters",
    "create_model",
    "evaluate",
    "explore",
    "explore_receptive_field",
    "explore_tables",
    "feature_maps",
    "fit",
    "list_models",
    "list_pretrained",
    "load_dataset",
    "load_pretrained",
    "logit_parts",
    "normalise",
    "random_crop",
    "random_flip",
    "relative_index",
    "relative_logits",
]
