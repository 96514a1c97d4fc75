"""Trained networks: saved by a run, shipped with the library, taken as a start."""

from aacn_lib.weights.create import create_model
from aacn_lib.weights.pretrained import list_pretrained, load_network, load_pretrained, model_card, weights_bytes
from aacn_lib.weights.trained import Trained, load_trained, save_trained, trained_info

__all__ = [
    "Trained",
    "create_model",
    "list_pretrained",
    "load_network",
    "load_pretrained",
    "load_trained",
    "model_card",
    "save_trained",
    "trained_info",
    "weights_bytes",
]
