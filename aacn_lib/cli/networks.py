"""Networks and pictures as commands name them: which data set a network is for, and whether pictures fit it."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from aacn_lib.data import Dataset, Part, load_dataset
from aacn_lib.weights import Trained

CHUNK = 4096  # pictures of a data set that are predicted at a time; a streamed one is never in memory as a whole


def chunks(part: Part) -> Iterator[Tensor]:
    """The pictures of a part in order, uint8 (B, C, H, W), whether they are in memory or in files."""
    return part.read(torch.arange(len(part.labels)).split(CHUNK), seed=None, workers=0)


def own_data(network: Trained) -> Dataset:
    """The data set that the network was trained on."""
    data = load_dataset(network.data, image_size=network.image_size)
    must_match(network, data)
    return data


def load_for(name: str, network: Trained) -> Dataset:
    """The data set `name`; a folder's pictures are brought to the network's size."""
    return load_dataset(name, image_size=network.image_size if name.startswith("folder:") else None)


def must_agree(command: str, networks: Sequence[Trained], names: Sequence[str], why: str = "") -> None:
    """Raise a `ValueError` unless all networks take the same pictures and know the same classes."""
    first = networks[0]
    for name, network in zip(names, networks, strict=True):
        for what in ("in_channels", "image_size", "classes"):
            if getattr(network, what) != getattr(first, what):
                raise ValueError(f"{command}: {name} has other {what} than {names[0]}{why}")


def must_match(network: Trained, data: Dataset) -> None:
    """Raise a `ValueError` unless the network was trained for this data set's classes and shape of pictures."""
    name = network.recipe["name"]
    if network.classes != data.classes:
        some, more = ", ".join(network.classes[:5]), " …" if len(network.classes) > 5 else ""
        raise ValueError(f"{name} was trained for other classes than those of {data.name}: {some}{more}")
    must_fit(network, data)


def must_fit(network: Trained, data: Dataset) -> None:
    """Raise a `ValueError` unless the network takes pictures of this data set's shape."""
    expected, given = (network.in_channels, *network.image_size), (data.in_channels, *data.image_size)
    if expected != given:
        shapes = [" × ".join(map(str, shape)) for shape in (expected, given)]
        raise ValueError(f"{network.recipe['name']} expects pictures of {shapes[0]}, {data.name} has {shapes[1]}")
