"""The data sets that are downloaded once: CIFAR-10, CIFAR-100, MNIST and Fashion-MNIST, one `.npz` file each.

`<name>.npz` holds train_images (N, H, W, C) uint8, train_labels (N,) int64, test_images, test_labels and classes
(names), and, where this module wrote it, train_sha256 and test_sha256: the digests of both parts.
"""

import http.client
import os
import pickle
import struct
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np

from aacn_lib.data.splits import part_digest
from aacn_lib.whole_file import whole_file

# name -> (class in torchvision.datasets, shape of a picture as stored, number of classes)
CACHED = {
    "mnist": ("MNIST", (28, 28, 1), 10),
    "fashion-mnist": ("FashionMNIST", (28, 28, 1), 10),
    "cifar10": ("CIFAR10", (32, 32, 3), 10),
    "cifar100": ("CIFAR100", (32, 32, 3), 100),
}

# Digests of files that somebody else may have packed, without digests of their own. The order of the pictures is part
# of a digest; these CIFAR ones belong to a shuffled order, the Fashion-MNIST ones to the original files.
KNOWN_DIGESTS = {
    "cifar100-train": "a8246184fa60fba5802cb17328d414f882e3750c2b219e799e2a0e2f2cb9f751",
    "cifar100-test": "6e614d3c969dbd4a288c1915ecfadf447288a2efcfc79b7889777f1aca43a376",
    "cifar10-train": "3bed3e02dc88820ef37f9b170837c83093a18d03ef9111924ba6cce4b1c5c44f",
    "cifar10-test": "c9010ef9013ca3465e686ff2a3492422b6be1d15a52fecc31e0296ee0c1dd146",
    "fashion-mnist-train": "1f243a60b4b748a44c48b9a6f6907be2a08bee3e4e226f0e86fbde8e147b745a",
    "fashion-mnist-test": "9a494dc49efeb996f4076c469b31cd058152067b1594ba6ab85dd739fce3775e",
}

Parts = dict[str, tuple[np.ndarray, np.ndarray]]


class DatasetUnavailable(ValueError):
    """The data set is not in the data folder, and it could not, or must not, be downloaded."""


def data_dir() -> Path:
    """The folder of downloaded data sets: the environment variable AACN_DATA if it is set, else ~/.cache/aacn."""
    return Path(os.environ.get("AACN_DATA") or "~/.cache/aacn").expanduser()


def load_cached(name: str, download: bool = True) -> tuple[Parts, tuple[str, ...]]:
    """Reads `<name>.npz` from `data_dir()`, after downloading it if it is not there and `download` allows.

    Returns:
        {"train": (images, labels), "test": ...} with uint8 (N, H, W, C) and int64 (N,) in the order of the file;
        the class names.

    Raises:
        DatasetUnavailable: if there is no file and no download.
        ValueError: if the file is damaged or is not this data set.
    """
    path = data_dir() / f"{name}.npz"
    if not path.exists():
        if not download:
            raise DatasetUnavailable(f"{name} is not in {path.parent} and download is False; {_remedy(name)}")
        _download(name, path)
    return _read(name, path)


def _remedy(name: str) -> str:
    return f"load it once while online, or set AACN_DATA to a folder that holds {name}.npz"


def _read(name: str, path: Path) -> tuple[Parts, tuple[str, ...]]:
    advice = "delete the file, and it will be fetched again"
    try:
        # Opened here, because np.load leaves the file open when it fails.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (
        # Whatever a foreign or truncated file makes of zipfile, zlib and numpy's header parser. A bare .npy has no
        # `files`, hence AttributeError and TypeError.
        *(OSError, ValueError, KeyError, EOFError, RuntimeError, AttributeError, TypeError),
        *(zipfile.BadZipFile, zlib.error, struct.error, pickle.UnpicklingError),
    ) as error:
        raise ValueError(f"{path} is not a readable .npz file ({error}); {advice}") from error

    missing = {"train_images", "train_labels", "test_images", "test_labels", "classes"} - arrays.keys()
    if missing:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise ValueError(f"{path} is not a {name} file: it lacks {', '.join(sorted(missing))}, holds {found}; {advice}")

    _torchvision_class, shape, num_classes = CACHED[name]
    if arrays["classes"].shape != (num_classes,) or arrays["classes"].dtype.kind != "U":
        raise ValueError(f"{path} is not a {name} file: expected {num_classes} class names in classes, "
                         f"found {arrays['classes'].dtype} {arrays['classes'].shape}; {advice}")  # fmt: skip
    parts: Parts = {}
    for part in ("train", "test"):
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        if images.dtype != np.uint8 or images.shape[1:] != shape or len(images) == 0:
            raise ValueError(f"{path} is not a {name} file: expected {part}_images uint8 (N, {str(shape)[1:-1]}), "
                             f"found {images.dtype} {images.shape}; {advice}")  # fmt: skip
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise ValueError(f"{path} is not a {name} file: expected {part}_labels int64 ({len(images)},), "
                             f"found {labels.dtype} {labels.shape}; {advice}")  # fmt: skip
        found = part_digest(images, labels)
        expected = [str(arrays[f"{part}_sha256"])] if f"{part}_sha256" in arrays else []
        if f"{name}-{part}" in KNOWN_DIGESTS:
            expected.append(KNOWN_DIGESTS[f"{name}-{part}"])
        if found not in expected:
            wanted = " or ".join(expected) or "a digest stored in the file"
            raise ValueError(f"{path} is damaged or not {name}: {part} has SHA-256 {found}, "
                             f"expected {wanted}; {advice}")  # fmt: skip
        if labels.min() < 0 or labels.max() >= num_classes:
            raise ValueError(f"{path} is not a {name} file: expected labels from 0 to {num_classes - 1}, "
                             f"found {labels.min()} to {labels.max()}; {advice}")  # fmt: skip
        parts[part] = (images, labels)
    return parts, tuple(str(name) for name in arrays["classes"])


def _download(name: str, path: Path) -> None:
    """Fetches a data set with torchvision, which checks its archive, and writes it to `path` as one `.npz`."""
    import torchvision

    torchvision_class, shape, _num_classes = CACHED[name]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A folder that vanishes, with whatever is in it: an interrupted download leaves nothing behind.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{name}-") as scratch, warnings.catch_warnings():
            # The archives are pickles of 2009; newer numpy comments on them, which no reader can do anything about.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
            arrays = {}
            for part in ("train", "test"):
                source = getattr(torchvision.datasets, torchvision_class)(scratch, train=part == "train", download=True)
                arrays[f"{part}_images"] = np.ascontiguousarray(np.asarray(source.data).reshape(-1, *shape))
                arrays[f"{part}_labels"] = np.asarray(source.targets, dtype=np.int64)
                arrays[f"{part}_sha256"] = np.array(part_digest(arrays[f"{part}_images"], arrays[f"{part}_labels"]))
            arrays["classes"] = np.array(source.classes)
            with whole_file(path) as file:
                np.savez(file, **arrays)
    except (
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        http.client.HTTPException,
        tarfile.TarError,
        zlib.error,
    ) as error:
        # URLError and timeouts are OSErrors; a digest that does not fit is a RuntimeError of torchvision.
        raise DatasetUnavailable(
            f"{name} is not in {path.parent} and could not be downloaded ({error}); {_remedy(name)}"
        ) from error
