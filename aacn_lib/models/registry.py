"""Models by name."""

import fnmatch
import inspect
from functools import partial

from torch import nn

from aacn_lib.expect import did_you_mean, expect_count, is_count
from aacn_lib.layers import GATES
from aacn_lib.models.cbam_resnet import CBAMResNet
from aacn_lib.models.cnn import PooledCNN, ThreeLayerCNN
from aacn_lib.models.residual import plan_attention
from aacn_lib.models.resnet import DEPTHS, ResNet
from aacn_lib.models.vit import VisionTransformer
from aacn_lib.models.wide_resnet import WideResNet

# What a prefix of a residual network's name says about its blocks.
_PREFIXES = {"": "none", "se_": "se", "ge_": "ge", "cbam_": "cbam", "aa_": "aa"}
_WIDE = {"wide_resnet28_10": (28, 10), "wide_resnet16_4": (16, 4), "wide_resnet40_2": (40, 2)}  # (depth, width)

# A name is a class with some of its keyword arguments chosen. A new network is one more line.
_MODELS = {
    "plain_cnn": partial(PooledCNN, mixing="convolution"),
    "content_cnn": partial(PooledCNN, mixing="content"),
    "aa_cnn": partial(PooledCNN, mixing="relative"),
    **{f"{gate}_cnn": partial(PooledCNN, mixing=gate) for gate in GATES},
    "three_conv": partial(ThreeLayerCNN, mixing="convolution"),
    "three_aa_conv": partial(ThreeLayerCNN, mixing="relative"),
    **{
        f"{prefix}resnet{depth}": partial(ResNet, depth=depth, attention=attention)
        for prefix, attention in _PREFIXES.items()
        for depth in DEPTHS
    },
    **{
        f"{prefix}{name}": partial(WideResNet, depth=depth, width=width, attention=attention)
        for prefix, attention in _PREFIXES.items()
        if prefix != "cbam_"
        for name, (depth, width) in _WIDE.items()
    },
    "cbam_resnet": partial(CBAMResNet),
    "vit": partial(VisionTransformer),
}


def list_models(pattern: str = "*") -> list[str]:
    """Names that `create_model` knows, those that match a shell-style `pattern`, sorted."""
    return sorted(fnmatch.filter(_MODELS, pattern))


def describe_model(name: str) -> str:
    """The class of a network and the arguments that its name stands for, such as "ResNet(depth=50, attention='aa')"."""
    network = _MODELS[name]
    return f"{network.func.__name__}({', '.join(f'{key}={value!r}' for key, value in network.keywords.items())})"


def build_network(
    name: str, num_classes: int, image_size: int | tuple[int, int], in_channels: int = 3, **overrides
) -> nn.Module:
    """A network by name with fresh weights, drawn from torch's global generator; see `aacn_lib.create_model`.

    Raises:
        ValueError: as `expect_network` does, and for options that cannot be built.
    """
    size = expect_network(name, num_classes, image_size, in_channels, overrides)
    return _MODELS[name](in_channels, num_classes, size, **overrides)


def expect_network(
    name: str, num_classes: int, image_size: int | tuple[int, int], in_channels: int, overrides: dict[str, object]
) -> tuple[int, int]:
    """(H, W) of the pictures, if a network can be asked for like this.

    Raises:
        ValueError: for an unknown name, number, size or option; the nearest right names are given.
    """
    if name not in _MODELS:
        hint = did_you_mean(name, _MODELS, most=3) or f"; the names are {list_models()}"
        raise ValueError(f"create_model: expected the name of a network, got {name!r}{hint}")
    for what, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        expect_count("create_model", what, value)
    size = tuple(image_size) if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(size) != 2 or not all(is_count(side) for side in size):
        raise ValueError(f"create_model: image_size: expected an int or (H, W), at least 1 each, got {image_size!r}")
    known = _options(_MODELS[name].func)
    for key in overrides:
        if key not in known:
            hint = did_you_mean(key, known, most=1) or f"; it has {known}"
            raise ValueError(f"create_model: {name} has no option {key!r}{hint}")
    return size


def _options(network: type[nn.Module]) -> list[str]:
    """Names of the options of a network's class; residual ones hand those of attention on to `plan_attention`."""
    signature = inspect.signature(network)
    takes_more = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    functions = [network.__init__, *([plan_attention] if takes_more else [])]
    return sorted(name for function in functions for name in function.__kwdefaults__)
