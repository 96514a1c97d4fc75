"""Five attention heads that the learner tells apart by what their maps do: for exercise 11.which_head."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Behaviour(NamedTuple):
    """What three tests of a head's map show: is it true that …"""

    changes_with_picture: bool
    differs_between_queries: bool
    follows_a_shuffle: bool  # shuffled pixels give the same map, shuffled


KINDS = {"a": "keys", "b": "both", "c": "uniform", "d": "position", "e": "content"}
BEHAVIOUR = {
    "uniform": Behaviour(False, False, True),
    "position": Behaviour(False, True, False),
    "keys": Behaviour(True, False, True),
    "content": Behaviour(True, True, True),
    "both": Behaviour(True, True, False),
}


def mystery_heads() -> dict[str, Callable[[Tensor], Tensor]]:
    """Heads "a" to "e", each from a picture (H, W) to weights (HW, HW): queries in the rows, which sum to 1."""
    return {letter: _head(kind) for letter, kind in KINDS.items()}


def _head(kind: str) -> Callable[[Tensor], Tensor]:
    def mystery(picture: Tensor) -> Tensor:
        return _logits(kind, picture).softmax(dim=-1)

    return mystery


def _logits(kind: str, picture: Tensor) -> Tensor:
    if kind == "both":
        return _logits("content", picture) + _logits("position", picture)
    H, W = picture.shape
    grey = picture.flatten()  # (HW,)
    rows, columns = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    down, right = (place.flatten() - place.flatten()[:, None] for place in (rows, columns))  # (HW, HW): key - query
    logits = {
        "uniform": torch.zeros_like(down),
        "position": -0.5 * (down**2 + (right - 2) ** 2),  # two to the right
        "keys": (4 * grey).expand(H * W, -1),  # bright pixels, whoever asks
        "content": -8 * (grey - grey[:, None]) ** 2,  # pixels as grey as the query
    }
    return logits[kind].to(picture.dtype)
