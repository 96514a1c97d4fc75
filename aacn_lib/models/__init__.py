"""The networks, by name: `create_model`, `list_models`."""

from aacn_lib.models.cnn import PooledCNN, ThreeLayerCNN
from aacn_lib.models.registry import create_model, list_models

__all__ = ["PooledCNN", "ThreeLayerCNN", "create_model", "list_models"]
