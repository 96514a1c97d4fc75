"""`create_model`: networks by name, with fresh weights or with trained ones."""

from torch import nn

from aacn_lib.expect import expect
from aacn_lib.models import build_network, expect_network
from aacn_lib.weights.pretrained import list_pretrained, load_pretrained
from aacn_lib.weights.trained import Trained

HEADS = ("fc.", "head.")  # how the last layer of every network that trained weights ship for begins its names


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
    if pretrained:
        expect_network(name, num_classes, image_size, in_channels, overrides)
        return _pretrained(name, num_classes, in_channels, pretrained, overrides)
    return build_network(name, num_classes, image_size, in_channels, **overrides)


def _pretrained(
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

    fresh = build_network(model, num_classes, trained.image_size, in_channels, **options)
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
