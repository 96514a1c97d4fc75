"""Layers: attention-augmented convolutions, channel and spatial gates, stochastic depth."""

from aacn_lib.layers.aa_conv1d import AAConv1d
from aacn_lib.layers.aa_conv2d import AAConv2d
from aacn_lib.layers.augmented import merge_heads, split_heads
from aacn_lib.layers.channel_attention import (
    CBAM,
    GATES,
    ChannelAttention,
    GatherExcite,
    SpatialAttention,
    SqueezeExcite,
    make_gate,
)
from aacn_lib.layers.stochastic_depth import StochasticDepth

__all__ = [
    "CBAM",
    "GATES",
    "AAConv1d",
    "AAConv2d",
    "ChannelAttention",
    "GatherExcite",
    "SpatialAttention",
    "SqueezeExcite",
    "StochasticDepth",
    "make_gate",
    "merge_heads",
    "split_heads",
]
