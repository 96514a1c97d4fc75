"""Trained networks on disk: the weights, and beside them everything that predicting on new pictures needs."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from aacn_lib.models import build_network
from aacn_lib.whole_file import whole_file

FILE = "weights.safetensors"
FORMAT = 1
_KEY = "aacn"  # the entry of the file's metadata that holds `info`, as JSON


@dataclass(frozen=True, eq=False)
class Trained:
    """A network that `load_trained` brought back.

    Attributes:
        model: in evaluation mode, on the device asked for.
        recipe: the recipe as plain data: name, model, data, model_options, training.
        data: the name of the data set it was trained on.
        classes: K names, in the order of the model's outputs.
        mean, std: float32 (C,), what `normalise` needs.
        image_size: (H, W) in pixels.
        info: all that the file says of itself.
    """

    model: nn.Module
    recipe: dict
    data: str
    classes: tuple[str, ...]
    mean: Tensor
    std: Tensor
    image_size: tuple[int, int]
    info: dict

    @property
    def in_channels(self) -> int:
        return len(self.mean)


def trained_info(recipe, data) -> dict:
    """What `save_trained` needs to know, from a `Recipe` and the `Dataset` it was trained on."""
    return {
        "format": FORMAT,
        "recipe": asdict(recipe),
        "data": data.name,
        "classes": list(data.classes),
        "mean": data.mean.tolist(),
        "std": data.std.tolist(),
        "image_size": list(data.image_size),
        "in_channels": data.in_channels,
        "seed": recipe.training.seed,
    }


def save_trained(folder: str | Path, model: nn.Module, info: dict) -> Path:
    """Write `folder/weights.safetensors`, whole or not at all, and return its path.

    Safetensors holds numbers and text only: reading such a file runs no code, unlike a pickle.

    Args:
        folder: made if it is missing.
        model: its state dict is written, from whatever device.
        info: plain data, as from `trained_info`; other entries than those are kept too.

    Raises:
        ValueError: if `info` lacks an entry, has a wrong one or cannot be written as JSON.
    """
    from safetensors.torch import save

    _check_info(info, "save_trained")
    try:
        text = json.dumps(info, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"save_trained: info must be plain data that JSON can hold: {error}") from error
    model = getattr(model, "_orig_mod", model)  # torch.compile wraps a module and renames its entries
    # A copy of each: the format knows no two names for one tensor, no views and no strides.
    tensors = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    path = Path(folder) / FILE
    with whole_file(path) as file:
        file.write(save(tensors, {_KEY: text}))
    return path


def load_trained(path: str | Path, device: str | torch.device | None = None) -> Trained:
    """Read what `save_trained` wrote: build the network and fill in its weights.

    Args:
        path: the folder of a run, or the weights file itself.
        device: where the model goes; default a GPU if there is one.

    Raises:
        ValueError: if there is no such file, it is damaged, another program wrote it, or its weights do not fit the
            network it names.
    """
    from safetensors import SafetensorError, safe_open

    path = _weights_file(Path(path))
    try:
        # Older safetensors put tensors on torch's default device, "meta" while shapes are counted.
        with torch.device("cpu"), safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in list(file.keys())}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error
    if _KEY not in metadata:
        raise ValueError(f"{path} was not written by save_trained: it does not say which network its weights are for")
    try:
        info = json.loads(metadata[_KEY])
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: what the file says of itself is not JSON: {error}") from error
    _check_info(info, str(path))

    recipe, size = info["recipe"], tuple(info["image_size"])
    try:
        # The fresh weights are thrown away: they leave the caller's draws alone, whatever torch's default device is.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            model = build_network(
                recipe["model"], len(info["classes"]), size, info["in_channels"], **recipe["model_options"]
            )
        model.load_state_dict(state)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: the weights do not fit the network {recipe['model']!r}: {error}") from error
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
    return Trained(
        model, recipe, info["data"], tuple(info["classes"]), torch.tensor(info["mean"]), torch.tensor(info["std"]),
        size, info,
    )  # fmt: skip


def _weights_file(path: Path) -> Path:
    if path.is_file():
        return path
    if (path / FILE).is_file():
        return path / FILE
    inside = sorted(str(found.parent) for found in path.glob(f"*/{FILE}")) if path.is_dir() else []
    hint = f"; did you mean {' or '.join(inside[:3])}?" if inside else ""
    raise ValueError(f"{path}: expected a folder with {FILE}, or such a file{hint}")


def _check_info(info: object, where: str) -> None:
    def require(sound: bool, what: str) -> None:
        if not sound:
            raise ValueError(f"{where}: {what}")

    def whole(value) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 1

    def numbers(values) -> bool:
        return isinstance(values, list) and all(
            isinstance(value, int | float) and math.isfinite(value) for value in values
        )

    require(isinstance(info, dict), f"expected a table of what the network is, got {type(info).__name__}")
    needed = ("format", "recipe", "data", "classes", "mean", "std", "image_size", "in_channels")
    missing = [key for key in needed if key not in info]
    require(not missing, f"info lacks {', '.join(missing)}")
    require(info["format"] == FORMAT, f"format {info['format']!r}, this library knows format {FORMAT}")
    recipe = info["recipe"]
    require(
        isinstance(recipe, dict)
        and {"name", "model", "data", "model_options", "training"} <= recipe.keys()
        and isinstance(recipe["model"], str)
        and isinstance(recipe["model_options"], dict),
        "recipe: expected a table with name, model, data, model_options and training",
    )
    require(isinstance(info["data"], str), f"data: expected a name, got {info['data']!r}")
    classes = info["classes"]
    names = isinstance(classes, list) and bool(classes) and all(isinstance(name, str) for name in classes)
    require(names and len(set(classes)) == len(classes), f"classes: expected a list of different names, got {classes}")
    C, size = info["in_channels"], info["image_size"]
    require(whole(C), f"in_channels: expected a whole number of at least 1, got {C!r}")
    for key in ("mean", "std"):
        good = numbers(info[key]) and len(info[key]) == C
        require(good, f"{key}: expected a list of {C} numbers, one a channel, got {info[key]!r}")
    require(min(info["std"]) > 0, f"std: expected numbers above 0, got {info['std']}")
    good = isinstance(size, list) and len(size) == 2 and all(map(whole, size))
    require(good, f"image_size: expected a list [H, W] in pixels, got {size!r}")
