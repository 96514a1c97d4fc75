"""Five layers that the learner tells apart by what they do: for exercise 08.which_gate."""

from collections.abc import Callable

import torch
from torch import Tensor

from aacn_lib.layers import CBAM, GatherExcite, SpatialAttention, SqueezeExcite

CHANNELS = 4
KINDS = {"a": "ge", "b": "mixing", "c": "spatial", "d": "se", "e": "cbam"}


def mystery_gates() -> dict[str, Callable[[Tensor], Tensor]]:
    """Layers "a" to "e", each (B, 4, H, W) → (B, 4, H, W) in the dtype of its input, the same ones at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(208)  # one for which every layer shows clearly what it does
        excite = SqueezeExcite(CHANNELS, reduction=1)
        both = CBAM(CHANNELS, reduction=1)
        spatial = SpatialAttention(3)
        with torch.no_grad():  # larger weights than fresh ones: effects that are easy to see
            for layer in (excite, spatial, both):
                for parameter in layer.parameters():
                    parameter.mul_(2)
    layers = {"ge": GatherExcite(), "mixing": attend_by_content, "spatial": spatial, "se": excite, "cbam": both}
    return {letter: _frozen(layers[kind]) for letter, kind in KINDS.items()}


def attend_by_content(x: Tensor) -> Tensor:
    """Each pixel becomes the mean of all pixels, weighted by softmax of their scalar products with it."""
    pixels = x.flatten(2)  # (B, C, HW)
    weights = (pixels.transpose(1, 2) @ pixels).softmax(dim=-1)  # (B, HW, HW): queries, keys
    return (pixels @ weights.transpose(1, 2)).view_as(x)


def _frozen(layer: Callable) -> Callable[[Tensor], Tensor]:
    """A function that neither shows what it is by its type nor keeps gradients."""

    @torch.no_grad()
    def mystery(x: Tensor) -> Tensor:
        return (layer.to(x.dtype) if isinstance(layer, torch.nn.Module) else layer)(x)

    return mystery
