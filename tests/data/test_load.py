import http.client
import importlib.util
import json
import os
import shutil
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aacn_lib.data import DatasetUnavailable, Split, cache, fashion_mini, load_dataset, normalise
from aacn_lib.data import load as data
from aacn_lib.data.splits import canonical, hold_out, part_digest, pixel_statistics

PARTS = ("train", "validation", "test")
SOURCE = Path("/usr/share/datasets/fashion-mnist")  # where Debian's dataset-fashion-mnist puts its files
needs_source = pytest.mark.skipif(not SOURCE.is_dir(), reason="needs Debian's package dataset-fashion-mnist")


def fingerprints(split):
    return {image.tobytes() for image in split.images.numpy()}


def same(first, second):
    return all(
        torch.equal(x, y) for part in PARTS for x, y in zip(getattr(first, part), getattr(second, part), strict=True)
    )


# --- the embedded and the generated data set -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sizes", "side", "classes"),
    [("fashion-mini", (10800, 1200, 2000), 32, 10), ("compass", (6400, 1000, 2000), 20, 4)],
)
def test_offline_data_sets(name, sizes, side, classes):
    loaded = load_dataset(name, download=False)
    assert loaded.name == name
    assert (loaded.num_classes, loaded.in_channels, loaded.image_size) == (classes, 1, (side, side))
    for part, size in zip(PARTS, sizes, strict=True):
        images, labels = getattr(loaded, part)
        assert images.shape == (size, 1, side, side)
        assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
        assert images.is_contiguous()
        assert labels.bincount().tolist() == [size // classes] * classes
    seen = [fingerprints(getattr(loaded, part)) for part in PARTS]
    assert [len(pictures) for pictures in seen] == list(sizes)
    assert not seen[0] & seen[1]
    assert not seen[2] & (seen[0] | seen[1])
    assert same(loaded, load_dataset(name))
    # The front of the training part is as mixed as the rest.
    assert loaded.train.labels[:64].unique().numel() == min(classes, 10)


def test_fashion_mini_is_framed_in_black_and_shows_what_its_labels_say():
    loaded = load_dataset("fashion-mini")
    frame = loaded.train.images.clone()
    frame[:, :, 2:30, 2:30] = 0
    assert not frame.any()
    assert loaded.train.images[:, :, 2].any()
    assert loaded.classes[0] == "T-shirt/top"
    assert loaded.classes[9] == "ankle boot"
    # The nearest class mean gets two thirds right: labels that do not fit their pictures could not.
    pixels, labels = loaded.train.images.flatten(1).float(), loaded.train.labels
    means = torch.stack([pixels[labels == label].mean(0) for label in range(10)])
    guess = torch.cdist(loaded.test.images.flatten(1).float(), means).argmin(1)
    assert (guess == loaded.test.labels).float().mean() > 0.6


def test_the_embedded_files_are_small_and_carry_their_licence():
    assert sum(path.stat().st_size for path in fashion_mini.FOLDER.iterdir()) < 5_500_000
    licence = (fashion_mini.FOLDER / "LICENSE-fashion-mini").read_text(encoding="utf-8")
    assert "Copyright (c) 2017 Zalando SE" in licence
    assert "The above copyright notice and this permission notice shall be included in all copies" in licence


def test_damaged_embedded_files_are_noticed(tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(fashion_mini.FOLDER, folder)
    mosaic = np.asarray(Image.open(folder / "fashion-mini-3.webp")).copy()
    mosaic[5, 5] ^= 1  # one grey level of one pixel of one picture
    Image.fromarray(mosaic).save(folder / "fashion-mini-3.webp", lossless=True, exact=True, method=0)
    with pytest.raises(
        ValueError, match=r"train pictures of fashion-mini have SHA-256 [0-9a-f]{64}, expected fb1bab77"
    ):
        fashion_mini.read_fashion_mini(folder)
    (folder / "fashion-mini-3.webp").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match="fashion-mini cannot be read"):
        fashion_mini.read_fashion_mini(folder)
    (folder / "fashion-mini-3.webp").unlink()
    with pytest.raises(ValueError, match=r"fashion-mini-3\.webp"):
        fashion_mini.read_fashion_mini(folder)


def test_mosaics_come_apart_as_they_were_put_together():
    images = np.random.default_rng(0).integers(0, 256, (80, 28, 28), dtype=np.uint8)
    mosaic = fashion_mini.to_mosaic(images)
    assert mosaic.shape == (56, 1120)
    assert np.array_equal(mosaic[28:56, 56:84], images[42])
    assert np.array_equal(fashion_mini.from_mosaic(mosaic), images)


def maker():
    path = Path(__file__).parents[2] / "scripts" / "make_fashion_mini.py"
    spec = importlib.util.spec_from_file_location("make_fashion_mini", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_source
def test_making_it_again_gives_the_same_pictures_in_the_same_order(tmp_path):
    maker().make(SOURCE, tmp_path, effort=0)  # the size differs, the pictures must not
    made, classes = fashion_mini.read_fashion_mini(tmp_path)
    embedded, embedded_classes = fashion_mini.read_fashion_mini()
    assert classes == embedded_classes
    for part in ("train", "test"):
        for x, y in zip(made[part], embedded[part], strict=True):
            assert np.array_equal(x, y)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in fashion_mini.FOLDER.iterdir()}
    assert json.loads((tmp_path / fashion_mini.CARD).read_text()) == json.loads(
        (fashion_mini.FOLDER / fashion_mini.CARD).read_text()
    )


def test_the_maker_names_a_missing_source(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["make", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")])
    assert maker().main() == 2
    error = capsys.readouterr().err
    assert "nowhere" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


# --- splits, statistics, normalise -----------------------------------------------------------------------------------


def numbered(N=230, classes=3, H=5, W=7, C=2):
    rng = np.random.default_rng(1)
    labels = torch.from_numpy(rng.integers(0, classes, N))
    return Split(torch.from_numpy(rng.integers(0, 256, (N, C, H, W), dtype=np.uint8)), labels)


def test_held_out_parts_do_not_depend_on_the_order_of_the_file():
    split = numbered()
    shuffled = torch.randperm(230, generator=torch.Generator().manual_seed(0))
    other = Split(split.images[shuffled], split.labels[shuffled])
    for first, second in zip(hold_out(canonical(split)), hold_out(canonical(other)), strict=True):
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.labels, second.labels)
    assert not torch.equal(split.images, canonical(split).images)
    # Every picture keeps its own label.
    pairs = {(image.tobytes(), int(label)) for image, label in zip(split.images.numpy(), split.labels, strict=True)}
    ordered = canonical(split)
    assert pairs == {(i.tobytes(), int(label)) for i, label in zip(ordered.images.numpy(), ordered.labels, strict=True)}


@pytest.mark.parametrize("tenths", [1, 2])
def test_a_tenth_of_each_class_is_held_out(tenths):
    split = canonical(numbered())
    parts = hold_out(split, tenths)
    assert len(parts) == tenths + 1
    for part in parts[:-1]:
        assert part.labels.bincount().tolist() == (split.labels.bincount() // 10).tolist()
    pictures = [fingerprints(part) for part in parts]
    assert len(set.union(*pictures)) == sum(map(len, pictures)) == 230


def test_statistics_equal_the_definition():
    images = numbered().images
    mean, std = pixel_statistics(images)
    scaled = images.double() / 255
    assert mean.dtype == std.dtype == torch.float32
    torch.testing.assert_close(mean, scaled.mean(dim=(0, 2, 3)).float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(std, scaled.std(dim=(0, 2, 3), correction=0).float(), rtol=1e-6, atol=0)
    constant = torch.full((3, 1, 2, 2), 51, dtype=torch.uint8)
    assert [value.item() for value in pixel_statistics(constant)] == [pytest.approx(0.2), 1.0]


def test_the_statistics_of_a_data_set_are_those_of_its_training_part():
    loaded = load_dataset("compass")
    assert torch.equal(torch.stack([loaded.mean, loaded.std]), torch.stack(pixel_statistics(loaded.train.images)))
    everything = torch.cat([getattr(loaded, part).images for part in PARTS])
    assert not torch.equal(loaded.mean, pixel_statistics(everything)[0])


def test_normalise_equals_its_formula_and_leaves_its_input():
    images = numbered().images
    before = images.clone()
    mean, std = torch.tensor([0.25, 0.5]), torch.tensor([0.5, 2.0])
    result = normalise(images, mean, std)
    assert result.dtype == torch.float32
    for c in range(2):
        torch.testing.assert_close(result[:, c].double(), (images[:, c].double() / 255 - mean[c]) / std[c])
    assert torch.equal(images, before)
    whole = normalise(images, *pixel_statistics(images))
    torch.testing.assert_close(whole.mean(dim=(0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("images", "channels", "message"),
    [
        (torch.zeros(2, 3, 4, 4), 3, "float32"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), 3, r"\(3, 4, 4\)"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), 1, r"shape \(3,\) .* got \(1,\)"),
    ],
)
def test_normalise_names_what_does_not_fit(images, channels, message):
    with pytest.raises(ValueError, match=message):
        normalise(images, torch.zeros(channels), torch.ones(channels))


def test_loading_leaves_global_random_states_alone():
    state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    first = load_dataset("fashion-mini")
    load_dataset("compass")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(np.array_equal(x, y) for x, y in zip(np.random.get_state(), numpy_state, strict=True))  # noqa: NPY002
    with torch.random.fork_rng():
        torch.manual_seed(12345)
        assert same(first, load_dataset("fashion-mini"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar-100", "unknown data set 'cifar-100', expected one of fashion-mini, .*did you mean 'cifar100'"),
        ("Fashion_Mini", "did you mean 'fashion-mini'"),
        ("zzz", r"compass, mnist, fashion-mnist, cifar10, cifar100, folder:PATH$"),
        ("folder:", "needs a path"),
        (None, "must be a string, got None"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(name)


@pytest.mark.parametrize("image_size", [0, -3, 2.5, True, (32,), (32, 0), (1, 2, 3), "32"])
def test_wrong_image_sizes(image_size):
    with pytest.raises(ValueError, match="image_size must be a positive integer or a pair"):
        load_dataset("compass", image_size=image_size)


def test_a_data_set_of_one_size_refuses_another():
    with pytest.raises(ValueError, match="fashion-mini has pictures of 32×32, got image_size=28"):
        load_dataset("fashion-mini", image_size=28)
    assert load_dataset("compass", image_size=(20, 20)).image_size == (20, 20)


# --- downloaded data sets --------------------------------------------------------------------------------------------


def arrays(name="cifar10", train=60, test=20, digests=True):
    _class, shape, classes = cache.CACHED[name]
    rng = np.random.default_rng(2)
    made = {"classes": np.array([f"class {k}" for k in range(classes)])}
    for part, N in (("train", train), ("test", test)):
        made[f"{part}_images"] = rng.integers(0, 256, (N, *shape), dtype=np.uint8)
        made[f"{part}_labels"] = np.arange(N, dtype=np.int64) % classes
        if digests:
            made[f"{part}_sha256"] = np.array(part_digest(made[f"{part}_images"], made[f"{part}_labels"]))
    return made


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AACN_DATA", str(tmp_path))
    return tmp_path


class Downloads:
    """Stands in for torchvision's CIFAR10 and MNIST classes."""

    def __init__(self, monkeypatch, name="cifar10", error=None):
        import torchvision

        self.calls, self.arrays = 0, arrays(name)
        downloads = self

        class Fake:
            def __init__(self, root, train, download):
                assert download
                downloads.calls += 1
                Path(root, "half.tar.gz").write_bytes(b"partial")
                if error is not None and not train:
                    raise error
                part = "train" if train else "test"
                self.data = downloads.arrays[f"{part}_images"]
                self.targets = downloads.arrays[f"{part}_labels"].tolist()
                if name.endswith("mnist"):
                    self.data = torch.from_numpy(self.data[..., 0])
                    self.targets = torch.tensor(self.targets)
                self.classes = downloads.arrays["classes"].tolist()

        monkeypatch.setattr(torchvision.datasets, cache.CACHED[name][0], Fake)


def test_data_dir(monkeypatch):
    monkeypatch.setenv("AACN_DATA", "~/pictures")
    assert data.data_dir() == Path.home() / "pictures"
    for action in (lambda: monkeypatch.setenv("AACN_DATA", ""), lambda: monkeypatch.delenv("AACN_DATA")):
        action()
        assert data.data_dir() == Path.home() / ".cache" / "aacn"


@pytest.mark.parametrize(("name", "channels"), [("cifar10", 3), ("mnist", 1), ("fashion-mnist", 1)])
def test_a_download_is_cached_and_read_again(folder, monkeypatch, name, channels):
    downloads = Downloads(monkeypatch, name)
    first = load_dataset(name)
    assert downloads.calls == 2
    assert [path.name for path in folder.iterdir()] == [f"{name}.npz"]
    assert same(first, load_dataset(name, download=False))
    assert downloads.calls == 2
    assert (first.in_channels, first.image_size, first.num_classes) == (channels, (32, 32), 10)
    frame = 2 if channels == 1 else 0
    inner = slice(frame, 32 - frame)
    images = torch.cat([first.train.images, first.validation.images])[:, :, inner, inner].permute(0, 2, 3, 1)
    stored = {(x.tobytes(), int(y)) for x, y in zip(downloads.arrays["train_images"],
                                                   downloads.arrays["train_labels"], strict=True)}  # fmt: skip
    labels = torch.cat([first.train.labels, first.validation.labels])
    assert stored == {(x.numpy().tobytes(), int(y)) for x, y in zip(images, labels, strict=True)}


def test_the_order_in_the_file_does_not_matter(folder):
    made = arrays()
    np.savez(folder / "cifar10.npz", **made)
    first = load_dataset("cifar10", download=False)
    order = np.random.default_rng(9).permutation(60)
    made["train_images"], made["train_labels"] = made["train_images"][order], made["train_labels"][order]
    made["train_sha256"] = np.array(part_digest(made["train_images"], made["train_labels"]))
    np.savez(folder / "cifar10.npz", **made)
    assert same(first, load_dataset("cifar10", download=False))


def test_no_file_and_no_download(folder, monkeypatch):
    downloads = Downloads(monkeypatch)
    with pytest.raises(DatasetUnavailable, match=r"load it once while online, or set AACN_DATA .* cifar10\.npz"):
        load_dataset("cifar10", download=False)
    assert downloads.calls == 0
    assert issubclass(DatasetUnavailable, ValueError)


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("no route"),
        RuntimeError("File not found or corrupted"),
        EOFError("cut short"),
        http.client.IncompleteRead(b""),
    ],
)
def test_a_failing_download_says_what_to_do_and_leaves_nothing(folder, monkeypatch, error):
    Downloads(monkeypatch, error=error)
    with pytest.raises(DatasetUnavailable, match=r"could not be downloaded \(.*online, or set AACN_DATA"):
        load_dataset("cifar10")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("place", ["savez", "fsync", "replace"])
def test_an_interrupted_write_leaves_no_half_file(folder, monkeypatch, place):
    Downloads(monkeypatch)

    def savez_half(file, **_):
        file.write(b"PK half")
        raise KeyboardInterrupt

    def interrupt(*_):
        raise KeyboardInterrupt

    if place == "savez":
        monkeypatch.setattr(cache.np, "savez", savez_half)
    else:
        monkeypatch.setattr(cache.os, place, interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_dataset("cifar10")
    assert list(folder.iterdir()) == []


def test_an_unwritable_data_folder_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("AACN_DATA", str(tmp_path / "file"))
    with pytest.raises(DatasetUnavailable, match=r"file and could not be downloaded \(.*exists"):
        load_dataset("cifar10")


def test_a_changed_pixel_is_noticed(folder):
    made = arrays()
    expected = str(made["train_sha256"])
    made["train_images"][3, 4, 5, 1] ^= 1
    found = part_digest(made["train_images"], made["train_labels"])
    np.savez(folder / "cifar10.npz", **made)
    with pytest.raises(ValueError, match=rf"cifar10\.npz .* train has SHA-256 {found}, expected {expected} .*delete"):
        load_dataset("cifar10", download=False)


def test_a_changed_label_is_noticed(folder):
    made = arrays()
    made["test_labels"][[0, 1]] = made["test_labels"][[1, 0]]
    np.savez(folder / "cifar10.npz", **made)
    with pytest.raises(ValueError, match="test has SHA-256"):
        load_dataset("cifar10", download=False)


def test_a_file_without_digests_must_be_a_known_one(folder, monkeypatch):
    made = arrays("mnist", digests=False)
    np.savez(folder / "mnist.npz", **made)
    with pytest.raises(ValueError, match="expected a digest stored in the file"):
        load_dataset("mnist", download=False)
    for part in ("train", "test"):
        digest = part_digest(made[f"{part}_images"], made[f"{part}_labels"])
        monkeypatch.setitem(cache.KNOWN_DIGESTS, f"mnist-{part}", digest)
    assert len(load_dataset("mnist", download=False).test.labels) == 20


def broken(kind, path):
    made = arrays()
    if kind == "not a zip":
        path.write_bytes(b"<html>moved</html>")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        np.savez(path, **made)
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "garbled":
        np.savez(path, **made)
        content = bytearray(path.read_bytes())
        content[20000:20100] = bytes(100)
        path.write_bytes(content)
    elif kind == "bare array":
        with path.open("wb") as file:
            np.save(file, made["test_images"])
    elif kind == "pickled":
        np.savez(path, **(made | {"classes": np.array([{"a": 1}] * 10, dtype=object)}))
    elif kind == "foreign":
        np.savez(path, x_train=made["train_images"], y_train=made["train_labels"])
    else:
        key, value = {
            "transposed": ("train_images", made["train_images"].transpose(0, 3, 1, 2)),
            "float": ("test_images", made["test_images"] / 255),
            "no pictures": ("test_images", made["test_images"][:0]),
            "int32 labels": ("train_labels", made["train_labels"].astype(np.int32)),
            "fewer labels": ("train_labels", made["train_labels"][:-1]),
            "fewer classes": ("classes", made["classes"][:9]),
        }[kind]
        np.savez(path, **(made | {key: value}))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("not a zip", "not a readable .npz"),
        ("empty", "not a readable .npz"),
        ("truncated", "not a readable .npz"),
        ("garbled", "not a readable .npz"),
        ("bare array", "not a readable .npz"),
        ("pickled", "not a readable .npz"),
        ("foreign", "lacks classes, test_images, test_labels, train_images, train_labels, holds x_train, y_train"),
        ("transposed", r"expected train_images uint8 \(N, 32, 32, 3\), found uint8 \(60, 3, 32, 32\)"),
        ("float", "found float64"),
        ("no pictures", r"found uint8 \(0, 32, 32, 3\)"),
        ("int32 labels", r"expected train_labels int64 \(60,\), found int32 \(60,\)"),
        ("fewer labels", r"found int64 \(59,\)"),
        ("fewer classes", r"expected 10 class names in classes, found <U7 \(9,\)"),
    ],
    ids=lambda value: value if " " not in value or len(value) < 14 else "",
)
def test_files_that_are_not_the_data_set(folder, monkeypatch, kind, message):
    downloads = Downloads(monkeypatch)
    path = folder / "cifar10.npz"
    broken(kind, path)
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset("cifar10")
    assert str(path) in str(caught.value)
    assert "delete the file, and it will be fetched again" in str(caught.value)
    assert path.exists()
    assert downloads.calls == 0


def test_labels_out_of_range(folder):
    made = arrays()
    made["train_labels"][0] = 10
    made["train_sha256"] = np.array(part_digest(made["train_images"], made["train_labels"]))
    np.savez(folder / "cifar10.npz", **made)
    with pytest.raises(ValueError, match="expected labels from 0 to 9, found 0 to 10"):
        load_dataset("cifar10", download=False)


@pytest.mark.parametrize(("name", "per_class"), [("cifar100", (450, 50, 100)), ("cifar10", (4500, 500, 1000))])
def test_real_cifar(name, per_class):
    if not (os.environ.get("AACN_DATA") and (data.data_dir() / f"{name}.npz").exists()):
        pytest.skip(f"AACN_DATA does not name a folder that holds {name}.npz")
    loaded = load_dataset(name, download=False)
    classes = int(name.removeprefix("cifar"))
    assert (loaded.num_classes, loaded.in_channels, loaded.image_size) == (classes, 3, (32, 32))
    for part, count in zip(PARTS, per_class, strict=True):
        assert getattr(loaded, part).labels.bincount().tolist() == [count] * classes
    if name == "cifar100":
        assert loaded.classes[0] == "apple"
        # The published mean of the whole training set is (0.507, 0.487, 0.441).
        torch.testing.assert_close(loaded.mean, torch.tensor([0.507, 0.487, 0.441]), atol=2e-3, rtol=0)
