"""Models by name."""

import difflib
import fnmatch
from functools import partial

from torch import nn

from aacn_lib.models.cnn import PooledCNN, ThreeLayerCNN

_MODELS = {
    "plain_cnn": partial(PooledCNN, mixing="convolution"),
    "content_cnn": partial(PooledCNN, mixing="content"),
    "aa_cnn": partial(PooledCNN, mixing="relative"),
    "three_conv": partial(ThreeLayerCNN, mixing="convolution"),
    "three_aa_conv": partial(ThreeLayerCNN, mixing="relative"),
}


def list_models(pattern: str = "*") -> list[str]:
    """Names that `create_model` knows, those that match a shell-style `pattern`, sorted."""
    return sorted(fnmatch.filter(_MODELS, pattern))


def create_model(
    name: str, num_classes: int, image_size: int | tuple[int, int], in_channels: int = 3, **overrides
) -> nn.Module:
    """Build a network by name, with fresh weights drawn from torch's global generator.

    Args:
        name: one of `list_models()`.
        num_classes: number of outputs, at least 1.
        image_size: an int or (H, W): the pictures' size in pixels, which sets the size of the relative tables.
        in_channels: channels of the pictures.
        **overrides: keyword arguments of the network's class.

    Raises:
        ValueError: for an unknown name (the nearest ones are named) or an override the network does not know.
    """
    if name not in _MODELS:
        near = difflib.get_close_matches(name, _MODELS, n=3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(f"create_model: expected one of {list_models()}, got {name!r}{hint}")
    for what, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"create_model: {what}: expected a whole number of at least 1, got {value!r}")
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or not all(isinstance(side, int) and side >= 1 for side in size):
        raise ValueError(f"create_model: image_size: expected an int or (H, W), at least 1 each, got {image_size!r}")
    known = _MODELS[name].func.__init__.__kwdefaults__
    for key in overrides:
        if key not in known:
            raise ValueError(f"create_model: {name} has no option {key!r}; it has {sorted(known)}")
    return _MODELS[name](in_channels, num_classes, size, **overrides)
