"""The networks, by name, and what can be asked of any network: features, attention maps, counts."""

from aacn_lib.models.cbam_resnet import CBAMResNet
from aacn_lib.models.cnn import PooledCNN, ThreeLayerCNN
from aacn_lib.models.count import Count, count_flops, count_parameters
from aacn_lib.models.features import (
    AttentionMap,
    LogitParts,
    attention_layers,
    attention_maps,
    evaluation_mode,
    feature_maps,
    logit_parts,
)
from aacn_lib.models.registry import build_network, describe_model, expect_network, list_models
from aacn_lib.models.resnet import BasicBlock, Bottleneck, ResNet
from aacn_lib.models.vit import EncoderLayer, SelfAttention, VisionTransformer
from aacn_lib.models.wide_resnet import WideBlock, WideResNet

__all__ = [
    "AttentionMap",
    "BasicBlock",
    "Bottleneck",
    "CBAMResNet",
    "Count",
    "EncoderLayer",
    "LogitParts",
    "PooledCNN",
    "ResNet",
    "SelfAttention",
    "ThreeLayerCNN",
    "VisionTransformer",
    "WideBlock",
    "WideResNet",
    "attention_layers",
    "attention_maps",
    "build_network",
    "count_flops",
    "count_parameters",
    "describe_model",
    "evaluation_mode",
    "expect_network",
    "feature_maps",
    "list_models",
    "logit_parts",
]
