"""Trained weights that come with the library, each with a card that says what it is and what it is not."""

import fnmatch
from pathlib import Path

import torch

from aacn_lib.expect import did_you_mean
from aacn_lib.weights.trained import Trained, load_trained

FOLDER = Path(__file__).parents[1] / "assets" / "weights"


def list_pretrained(pattern: str = "*") -> list[str]:
    """Names of the trained networks that come with the library, those that match a shell-style `pattern`, sorted.

    Each is the name of the recipe that it was trained by.
    """
    return sorted(fnmatch.filter((path.stem for path in FOLDER.glob("*.safetensors")), pattern))


def load_pretrained(name: str, device: str | torch.device | None = None) -> Trained:
    """A trained network that comes with the library, with its classes and all that its pictures need.

    Args:
        name: one of `list_pretrained()`.
        device: where the model goes; default a GPU if there is one.

    Raises:
        ValueError: for an unknown name (the nearest are named).
    """
    return load_trained(_known(name, "load_pretrained"), device)


def load_network(network: str, device: str | torch.device | None = None) -> Trained:
    """A run's network, by its folder or weights file, or one of `list_pretrained()`. What is on disk goes first."""
    if not Path(network).exists():
        if network in list_pretrained():
            return load_pretrained(network, device)
        if hint := did_you_mean(network, list_pretrained()):
            raise ValueError(f"{network}: no such run, and no network of this name comes with the library{hint}")
    return load_trained(network, device)


def weights_bytes(name: str) -> int:
    """Size of the weights of one of `list_pretrained()`."""
    return _known(name, "weights_bytes").stat().st_size


def model_card(name: str) -> str:
    """What there is to know of a trained network, as Markdown: recipe, record, licence, limits."""
    return _known(name, "model_card").with_suffix(".md").read_text(encoding="utf-8")


def _known(name: str, owner: str) -> Path:
    names = list_pretrained()
    if name not in names:
        hint = did_you_mean(name, names) or f"; there are {names}"
        raise ValueError(f"{owner}: expected a network whose weights come with the library, got {name!r}{hint}")
    return FOLDER / f"{name}.safetensors"
