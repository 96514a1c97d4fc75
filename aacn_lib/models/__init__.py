"""The networks, by name: `create_model`, `list_models`."""

from aacn_lib.models.cbam_resnet import CBAMResNet
from aacn_lib.models.cnn import PooledCNN, ThreeLayerCNN
from aacn_lib.models.registry import create_model, list_models
from aacn_lib.models.resnet import ResNet
from aacn_lib.models.vit import VisionTransformer
from aacn_lib.models.wide_resnet import WideResNet

__all__ = [
    "CBAMResNet",
    "PooledCNN",
    "ResNet",
    "ThreeLayerCNN",
    "VisionTransformer",
    "WideResNet",
    "create_model",
    "list_models",
]
