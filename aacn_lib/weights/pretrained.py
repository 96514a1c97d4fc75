"""Trained weights that come with the library, each with a card that says what it is and what it is not."""

import difflib
import fnmatch
from pathlib import Path

import torch
from torch import nn

from aacn_lib.expect import expect
from aacn_lib.weights.trained import Trained, load_trained

FOLDER = Path(__file__).parents[1] / "assets" / "weights"
HEADS = ("fc.", "head.")  # how the last layer of every network of `create_model` begins its names


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
    if network in list_pretrained() and not Path(network).exists():
        return load_pretrained(network, device)
    return load_trained(network, device)


def model_card(name: str) -> str:
    """What there is to know of a trained network, as Markdown: recipe, record, licence, limits."""
    return _known(name, "model_card").with_suffix(".md").read_text(encoding="utf-8")


def pretrained_model(
    model: str, num_classes: int, in_channels: int, weights: str | bool, overrides: dict[str, object]
) -> nn.Module:
    """The network of `create_model(..., pretrained=weights)`; see there."""
    trained = _fitting(model, num_classes, in_channels, weights)
    name, options = trained.recipe["name"], trained.recipe["model_options"]
    for key, value in overrides.items():
        value = list(value) if isinstance(value, tuple) else value
        other = f"the {options[key]!r} that {name} was trained with" if key in options else "nothing: the default"
        expect(key in options and options[key] == value, "create_model", f"pretrained: {key}", other, value)
    if num_classes == len(trained.classes):
        return trained.model.train()

    from aacn_lib.models import create_model

    fresh = create_model(model, num_classes, trained.image_size, in_channels, **options)
    body = {key: value for key, value in trained.model.state_dict().items() if not key.startswith(HEADS)}
    left_out = fresh.load_state_dict(body, strict=False).missing_keys
    assert all(key.startswith(HEADS) for key in left_out), left_out
    return fresh


def _fitting(model: str, num_classes: int, in_channels: int, weights: str | bool) -> Trained:
    """The trained network that `create_model` is asked for."""
    if isinstance(weights, str):
        trained = load_pretrained(weights, "cpu")
        its = trained.recipe["model"]
        expect(its == model, "create_model", "pretrained", f"weights of {model!r}, not of {its!r}", weights)
        right = f"in_channels={trained.in_channels} for {weights}"
        expect(trained.in_channels == in_channels, "create_model", "in_channels", right, in_channels)
        return trained
    every = [load_pretrained(name, "cpu") for name in list_pretrained()]
    models = sorted({trained.recipe["model"] for trained in every})
    ship = [trained for trained in every if trained.recipe["model"] == model]
    expect(bool(ship), "create_model", "pretrained", f"one of the networks whose weights ship, {models}", model)
    found = [trained for trained in ship if trained.in_channels == in_channels]
    channels = sorted({trained.in_channels for trained in ship})
    expect(bool(found), "create_model", "in_channels", f"one of {channels}, which {model} was trained on", in_channels)
    # Of several the one for this number of classes is meant.
    found = [trained for trained in found if len(trained.classes) == num_classes] or found
    names = [trained.recipe["name"] for trained in found]
    expect(len(found) == 1, "create_model", "pretrained", f"one name out of {names}", weights)
    return found[0]


def _known(name: str, owner: str) -> Path:
    names = list_pretrained()
    if name not in names:
        near = difflib.get_close_matches(str(name), names, n=2)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {names}"
        raise ValueError(f"{owner}: expected a network whose weights come with the library, got {name!r}; {hint}")
    return FOLDER / f"{name}.safetensors"
