"""Models by name."""

import difflib
import fnmatch
from functools import partial

from torch import nn

from aacn_lib.expect import expect_count, is_count
from aacn_lib.layers import GATES
from aacn_lib.models.cbam_resnet import CBAMResNet
from aacn_lib.models.cnn import PooledCNN, ThreeLayerCNN
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


def create_model(
    name: str,
    num_classes: int,
    image_size: int | tuple[int, int],
    in_channels: int = 3,
    pretrained: bool | str = False,
    **overrides,
) -> nn.Module:
    """Build a network by name, with fresh weights drawn from torch's global generator, or with trained ones.

    Args:
        name: one of `list_models()`.
        num_classes: number of outputs, at least 1.
        image_size: an int or (H, W): the pictures' size in pixels, which sets the size of the relative tables.
        in_channels: channels of the pictures.
        pretrained: True, or one of `list_pretrained()` where several fit: weights that come with the library. They
            bring the options they were trained with. For another number of classes the last layer is fresh. Relative
            tables keep the size they were trained at and are stretched to the map at hand, so `image_size` changes
            nothing.
        **overrides: keyword arguments of the network's class.

    Raises:
        ValueError: for an unknown name (the nearest ones are named), an override the network does not know, trained
            weights that do not ship, and overrides or channels that they were not trained with.
    """
    if name not in _MODELS:
        near = difflib.get_close_matches(name, _MODELS, n=3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else f"; the names are {list_models()}"
        raise ValueError(f"create_model: expected the name of a network, got {name!r}{hint}")
    for what, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        expect_count("create_model", what, value)
    size = tuple(image_size) if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(size) != 2 or not all(is_count(side) for side in size):
        raise ValueError(f"create_model: image_size: expected an int or (H, W), at least 1 each, got {image_size!r}")
    known = _MODELS[name].func.__init__.__kwdefaults__
    for key in overrides:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"create_model: {name} has no option {key!r}{hint}; it has {sorted(known)}")
    if pretrained:
        from aacn_lib.weights.pretrained import pretrained_model  # it builds its networks by this function

        return pretrained_model(name, num_classes, in_channels, pretrained, overrides)
    return _MODELS[name](in_channels, num_classes, size, **overrides)
