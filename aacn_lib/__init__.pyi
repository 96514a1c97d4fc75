# The names of the library, each loaded from its room when it is first used (see __init__.py).

from . import augment, cli, data, evaluation, exercises, explorer, figures, layers, models, ops, training, weights
from .augment import Augmentation, random_crop, random_flip
from .data import Dataset, Split, load_dataset, normalise
from .evaluation import evaluate
from .exercises import check
from .explorer import explore, explore_receptive_field, explore_tables
from .layers import AAConv1d, AAConv2d
from .models import (
    attention_layers,
    attention_maps,
    count_flops,
    count_parameters,
    feature_maps,
    list_models,
    logit_parts,
)
from .ops import attention, attention_weights, relative_index, relative_logits
from .training import History, Training, fit
from .weights import create_model, list_pretrained, load_pretrained

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
    "augment",
    "check",
    "cli",
    "count_flops",
    "count_parameters",
    "create_model",
    "data",
    "evaluate",
    "evaluation",
    "exercises",
    "explore",
    "explore_receptive_field",
    "explore_tables",
    "explorer",
    "feature_maps",
    "figures",
    "fit",
    "layers",
    "list_models",
    "list_pretrained",
    "load_dataset",
    "load_pretrained",
    "logit_parts",
    "models",
    "normalise",
    "ops",
    "random_crop",
    "random_flip",
    "relative_index",
    "relative_logits",
    "training",
    "weights",
]
