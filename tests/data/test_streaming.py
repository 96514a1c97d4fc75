import math
import shutil
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from aacn_lib.data import Split, StreamedSplit, load_dataset, normalise, streaming
from aacn_lib.data.splits import pixel_statistics
from aacn_lib.data.streaming import centre_crop, draw_crop, load_streamed, read_part
from aacn_lib.weights import create_model

PARTS = ("train", "validation", "test")
# Newer Pythons warn when a process with threads, which other tests leave behind, starts worker processes.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def smooth(H, W, seed=0):
    """A picture without sharp edges (H, W, 3), so that the ways to resize it hardly differ."""
    low = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(seed))
    pixels = F.interpolate(low[None], (H, W), mode="bicubic").clamp(0, 1)[0]
    return (pixels * 255).to(torch.uint8).permute(1, 2, 0).numpy()


def noise(H, W, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (H, W, 3), dtype=np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def paint_plain(root, count, classes=("ant", "bee"), side=8):
    """`count` pictures a class, each of one grey level that no other has; returns {class/file: level}."""
    levels = {}
    for c, name in enumerate(classes):
        for k in range(count):
            levels[f"{name}/{k}.png"] = level = 1 + c * count + k
            save(root / name / f"{k}.png", np.full((side, side, 3), level, dtype=np.uint8))
    return levels


def paint_noise(root, count=12, H=23, W=29):
    for c, name in enumerate(("ant", "bee")):
        for k in range(count):
            save(root / name / f"{k}.{'jpg' if k % 2 else 'png'}", noise(H, W, 100 * c + k))


def read_all(split, size=5, **options):
    options = {"seed": None, "workers": 0} | options
    return torch.cat(list(split.read(torch.arange(len(split)).split(size), **options)))


def names(split):
    return [path.relative_to(split.folder).as_posix() for path in split.paths]


# ---- layout -------------------------------------------------------------------------------------------------------


def test_class_folders_are_split_eighty_ten_ten(tmp_path):
    levels = paint_plain(tmp_path, 20)
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "ant" / ".hidden").touch()
    data = load_streamed(tmp_path, (5, 7))
    assert (data.classes, data.num_classes, data.in_channels, data.image_size) == (("ant", "bee"), 2, 3, (5, 7))
    assert repr(data) == f"Dataset('folder:{tmp_path}': 2 classes, 3×5×7, train 32, validation 4, test 4)"
    assert [getattr(data, part).labels.bincount().tolist() for part in PARTS] == [[16, 16], [2, 2], [2, 2]]
    assert sorted(name for part in PARTS for name in names(getattr(data, part))) == sorted(levels)
    for part in PARTS:
        split = getattr(data, part)
        assert split.labels.dtype == torch.int64
        assert [split.path(k).parent.name for k in range(len(split))] == [data.classes[k] for k in split.labels]


def test_the_parts_depend_on_the_names_of_the_files_alone(tmp_path):
    paint_plain(tmp_path / "here", 20)
    shutil.copytree(tmp_path / "here", tmp_path / "there" / "train")
    for path in (tmp_path / "there" / "train").rglob("*.png"):
        save(path, noise(9, 9))
    here, there = load_streamed(tmp_path / "here", 4), load_streamed(tmp_path / "there", 4)
    for part in PARTS:
        assert names(getattr(here, part)) == names(getattr(there, part))
        assert torch.equal(getattr(here, part).labels, getattr(there, part).labels)
    assert names(here.train) != sorted(names(here.train))


def test_every_part_gets_a_picture_of_a_class_of_three(tmp_path):
    paint_plain(tmp_path, 3)
    data = load_streamed(tmp_path, 4)
    assert [getattr(data, part).labels.bincount().tolist() for part in PARTS] == [[1, 1]] * 3


@pytest.mark.parametrize("given", [("train", "val"), ("train", "test"), ("train", "validation", "test")])
def test_part_folders_are_kept_and_missing_ones_made_from_train(tmp_path, given):
    levels = {part: paint_plain(tmp_path / part, 20 + k) for k, part in enumerate(given)}
    data = load_streamed(tmp_path, 4)
    splits = {"train": data.train, "val": data.validation, "validation": data.validation, "test": data.test}
    for part in given[1:]:
        assert sorted(names(splits[part])) == sorted(levels[part])
        assert splits[part].folder == tmp_path / part
    made = [splits[part] for part in ("validation", "test") if splits[part].folder == tmp_path / "train"]
    assert len(made) == 3 - len(given)
    assert all(split.labels.bincount().tolist() == [2, 2] for split in made)
    assert sorted(name for split in (data.train, *made) for name in names(split)) == sorted(levels["train"])


def test_mean_and_deviation_are_those_of_the_first_training_pictures(tmp_path, monkeypatch):
    paint_noise(tmp_path, count=50, H=9, W=11)  # more than are read at a time
    data = load_streamed(tmp_path, (7, 5))
    for given, expected in zip((data.mean, data.std), pixel_statistics(read_all(data.train)), strict=True):
        assert torch.equal(given, expected)
    monkeypatch.setattr(streaming, "STATISTICS_SAMPLE", 3)
    data = load_streamed(tmp_path, (7, 5))
    for given, expected in zip((data.mean, data.std), pixel_statistics(read_all(data.train)[:3]), strict=True):
        assert torch.equal(given, expected)


# ---- reading ------------------------------------------------------------------------------------------------------


def test_one_pass_counts_each_picture_once(tmp_path):
    levels = paint_plain(tmp_path, 37)
    data = load_streamed(tmp_path, 4)
    for part in PARTS:
        split = getattr(data, part)
        batches = list(split.read(torch.arange(len(split)).split(10), seed=None, workers=0))
        assert [len(batch) for batch in batches] == [len(rows) for rows in torch.arange(len(split)).split(10)]
        images = torch.cat(batches)
        assert images.shape == (len(split), 3, 4, 4)
        assert images.dtype == torch.uint8
        assert images[:, 0, 0, 0].tolist() == [levels[name] for name in names(split)]
        assert images.flatten(1).unique(dim=1).shape[1] == 1


@pytest.mark.parametrize("seed", [None, 11])
def test_workers_do_not_change_the_pictures(tmp_path, seed):
    paint_noise(tmp_path)
    train = load_streamed(tmp_path, (7, 5)).train
    alone, together = (read_all(train, size=3, seed=seed, workers=workers) for workers in (0, 2))
    assert torch.equal(alone, together)


def test_a_crop_depends_on_the_seed_and_the_index_alone(tmp_path):
    paint_noise(tmp_path)
    train = load_streamed(tmp_path, (7, 5)).train
    first = read_all(train, seed=3)
    order = torch.randperm(len(train))
    again = torch.cat(list(train.read(order.split(4), seed=3, workers=0)))
    assert torch.equal(again, first[order])
    (rows,) = train.read([torch.tensor([6, 2, 6])], seed=3, workers=0)
    assert torch.equal(rows, first[[6, 2, 6]])
    other = read_all(train, seed=4)
    assert all(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_two_pictures_of_a_batch_are_cropped_differently(tmp_path):
    pixels = noise(61, 67)
    for k in range(4):
        save(tmp_path / "one" / f"{k}.png", pixels)
    split = load_streamed(tmp_path, (7, 5)).train
    first, second = read_all(split, seed=0)
    assert not torch.equal(first, second)
    first, second = read_all(split, seed=None)
    assert torch.equal(first, second)


def test_reading_leaves_the_global_generators_alone(tmp_path):
    paint_plain(tmp_path, 4)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    train = load_streamed(tmp_path, 4).train
    for workers in (0, 1):
        read_all(train, seed=1, workers=workers)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002


@pytest.mark.parametrize("workers", [0, 2])
def test_few_batches_are_alive_at_a_time(tmp_path, workers):
    save(tmp_path / "0.png", noise(9, 9))
    given, alive, most = [], [], 0
    split = StreamedSplit(tmp_path, np.array([b"0.png"] * 300), torch.zeros(300, dtype=torch.int64), (3, 8, 8))

    def batches():
        for batch in torch.arange(300).split(5):
            given.append(batch)
            yield batch

    for number, batch in enumerate(split.read(batches(), seed=0, workers=workers), 1):
        alive = [reference for reference in alive if reference() is not None] + [weakref.ref(batch)]
        most = max(most, len(alive))
        assert len(given) - number <= 2 * workers + 1
    assert number == 60
    assert most <= 3


def test_a_split_in_memory_is_read_by_the_same_call():
    split = Split(torch.arange(5 * 3 * 2 * 7, dtype=torch.uint8).reshape(5, 3, 2, 7), torch.arange(5))
    assert split.picture_shape == (3, 2, 7)
    first, second = split.read(torch.tensor([4, 0, 3]).split(2), seed=7, workers=2, pin=True)
    assert torch.equal(first, split.images[[4, 0]])
    assert torch.equal(second, split.images[[3]])


# ---- crops --------------------------------------------------------------------------------------------------------


def test_crops_lie_inside():
    for index in range(2000):
        H, W = 1 + index % 41, 1 + index % 53
        top, left, height, width = draw_crop(H, W, 5, index)
        assert 0 <= top <= top + height <= H
        assert 0 <= left <= left + width <= W
        assert height >= 1
        assert width >= 1
    assert draw_crop(5, 9, 2**40, 0) != draw_crop(500, 900, 2**40, 1)


def test_crops_are_distributed_as_in_torchvision():
    H, W, count = 375, 500, 3000
    picture = torch.empty(3, H, W)
    sampler = v2.RandomResizedCrop(1, scale=(0.08, 1), ratio=(3 / 4, 4 / 3))
    drawn = [sampler.make_params([picture]) for _ in range(count)]
    theirs = np.array([[p["top"], p["left"], p["height"], p["width"]] for p in drawn], dtype=float)
    ours = np.array([draw_crop(H, W, 1, index) for index in range(count)], dtype=float)

    def measures(boxes):
        top, left, height, width = boxes.T
        return {
            "area": height * width / (H * W),
            "log ratio": np.log(width / height),
            "top": top / np.maximum(H - height, 1),
            "left": left / np.maximum(W - width, 1),
        }

    expected = measures(theirs)
    for name, values in measures(ours).items():
        both = np.sort(np.concatenate([values, expected[name]]))
        share = [np.searchsorted(np.sort(x), both, side="right") / count for x in (values, expected[name])]
        # Kolmogorov and Smirnov: with two samples of n, above 1.95 √(2/n) by chance once in a thousand.
        assert np.abs(share[0] - share[1]).max() < 1.95 * math.sqrt(2 / count), name


@pytest.mark.parametrize(("H", "W"), [(3, 997), (991, 5)])
def test_a_strip_is_cropped_in_its_centre_as_in_torchvision(H, W):
    """No draw fits; both take the largest part of an allowed proportion."""
    expected = v2.RandomResizedCrop(1).make_params([torch.empty(3, H, W)])
    assert draw_crop(H, W, 0, 0) == tuple(expected[name] for name in ("top", "left", "height", "width"))


def test_the_drawn_part_is_resized_as_by_torchvision(tmp_path):
    pixels = smooth(83, 101)
    path = save(tmp_path / "0.png", pixels)
    for index in range(20):
        top, left, height, width = box = draw_crop(83, 101, 0, index)
        given = read_part(path, (3, 13, 17), lambda H, W, box=box: box)
        expected = TF.resized_crop(torch.from_numpy(pixels).permute(2, 0, 1), top, left, height, width, (13, 17))
        # Pillow also weighs pixels just outside the crop: not equal at the edges.
        difference = (torch.from_numpy(given).permute(2, 0, 1).int() - expected.int()).abs()
        assert difference[:, 1:-1, 1:-1].max() <= 2
        assert difference.max() <= 12


def test_the_centre_crop_keeps_224_of_256(tmp_path):
    pixels = noise(256, 300)
    path = save(tmp_path / "0.png", pixels)
    centre = read_part(path, (3, 224, 224), lambda H, W: centre_crop(H, W, (224, 224)))
    assert (centre == pixels[16:240, 38:262]).all()  # the short side is 256 already: nothing is resized
    assert centre_crop(256, 300, (112, 112)) == (16, 38, 224, 224)
    assert centre_crop(160, 640, (70, 140)) == (10, 180, 140, 280)  # 160 pixels become 80, 640 become 320


@pytest.mark.parametrize(("H", "W", "ending"), [(331, 499, "png"), (331, 499, "jpg"), (1353, 902, "jpg")])
def test_the_centre_is_resized_as_by_torchvision(tmp_path, H, W, ending):
    """The larger JPEG is decoded at a quarter of its size."""
    pixels = smooth(H, W)
    path = save(tmp_path / f"0.{ending}", pixels, **({"quality": 95, "subsampling": 0} if ending == "jpg" else {}))
    given = read_part(path, (3, 112, 112), lambda H, W: centre_crop(H, W, (112, 112)))
    usual = v2.Compose([v2.Resize(128, antialias=True), v2.CenterCrop(112)])
    expected = usual(torch.from_numpy(pixels).permute(2, 0, 1))
    difference = (torch.from_numpy(given).permute(2, 0, 1).float() - expected.float()).abs()
    assert difference.max() <= 4
    assert difference.mean() < 0.6


def test_jpegs_are_decoded_no_smaller_than_needed(tmp_path):
    path = save(tmp_path / "0.jpg", smooth(83, 101))
    sizes = []
    for shrink in (0.3, 1, 1.9, 2, 3.9, 4, 7.9, 8, 50):
        with Image.open(path) as image:
            times = streaming._decode_smaller(image, shrink)
            assert image.size == (math.ceil(101 / times), math.ceil(83 / times))
            sizes.append(times)
    assert sizes == [1, 1, 1, 2, 2, 4, 4, 8, 8]


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_a_photograph_taken_sideways_is_turned_before_it_is_cropped(tmp_path, ending):
    stored = smooth(403, 611)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90 degrees
    sideways = save(tmp_path / f"sideways.{ending}", stored, exif=exif)
    upright = save(tmp_path / "upright.png", np.rot90(stored, -1).copy())
    for index in range(5):
        box = draw_crop(611, 403, 0, index)
        given, expected = (read_part(path, (3, 13, 17), lambda *_, b=box: b) for path in (sideways, upright))
        assert np.abs(given.astype(int) - expected.astype(int)).max() <= 5
        assert draw_crop(611, 403, 0, index) != draw_crop(403, 611, 0, index)


# ---- kinds of pictures --------------------------------------------------------------------------------------------


def test_grey_stays_grey_only_if_all_are(tmp_path):
    for part in ("train", "test"):
        for k in range(8):
            save(tmp_path / part / ("ant", "bee")[k % 2] / f"{k}.png", noise(9, 9, k)[..., 0])
    data = load_streamed(tmp_path, (5, 4))
    assert data.in_channels == 1
    assert data.mean.shape == (1,)
    grey = read_all(data.train)
    assert grey.shape == (6, 1, 5, 4)
    save(tmp_path / "test" / "bee" / "z.png", noise(9, 9, 99))  # the last file there is
    data = load_streamed(tmp_path, (5, 4))
    assert data.in_channels == 3
    assert torch.equal(read_all(data.train), grey.expand(-1, 3, -1, -1))
    colour = read_all(data.test)[names(data.test).index("bee/z.png")]
    assert not torch.equal(colour[0], colour[1])


def test_other_modes_and_formats(tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    Image.new("P", (7, 5), 3).save(folder / "palette.gif")
    Image.new("CMYK", (7, 5)).save(folder / "print.jpg")
    Image.new("RGBA", (7, 5), (0, 0, 0, 0)).save(folder / "transparent.png")
    Image.new("1", (7, 5), 1).save(folder / "bits.bmp")
    Image.fromarray(np.full((5, 7), 200 * 256 + 77, dtype=np.uint16)).save(folder / "sixteen.png")
    data = load_streamed(tmp_path, (5, 7))
    images = {
        path.name: image
        for part in PARTS
        for path, image in zip(getattr(data, part).paths, read_all(getattr(data, part)), strict=True)
    }
    assert images.keys() == {"palette.gif", "print.jpg", "transparent.png", "bits.bmp", "sixteen.png"}
    assert images["sixteen.png"].eq(200).all()  # the high byte of 16 bits
    for name in ("print.jpg", "transparent.png", "bits.bmp"):
        assert images[name].eq(255).all()


# ---- what is wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_is_named_when_it_is_read(tmp_path, workers):
    paint_plain(tmp_path, 12)
    train = load_streamed(tmp_path, 4).train
    train.path(7).write_bytes(b"not a picture")
    batches = train.read(torch.arange(len(train)).split(3), seed=0, workers=workers)
    assert len([next(batches), next(batches)]) == 2
    with pytest.raises(ValueError, match=r"\.png cannot be read as an image") as caught:
        next(batches)
    assert str(caught.value).startswith(str(train.path(7)))
    assert "\n" not in str(caught.value)


def test_what_is_wrong_with_a_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        load_streamed(tmp_path / "nowhere", 4)
    with pytest.raises(ValueError, match="holds no class folders"):
        load_streamed(tmp_path, 4)
    paint_plain(tmp_path, 3)
    with pytest.raises(ValueError, match=r"need image_size=\(H, W\)"):
        load_streamed(tmp_path, None)
    with pytest.raises(ValueError, match="image_size must be a positive integer or a pair"):
        load_streamed(tmp_path, 0)
    (tmp_path / "cat").mkdir()
    with pytest.raises(ValueError, match="cat holds 0 images, expected at least 3"):
        load_streamed(tmp_path, 4)
    (tmp_path / "cat").rmdir()
    for k in range(3):
        (tmp_path / "bee" / f"{k}.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"bee.\d\.png cannot be read as an image"):
        load_streamed(tmp_path, 4)


def test_what_is_wrong_with_a_reading_is_named(tmp_path):
    paint_plain(tmp_path, 3)
    train = load_streamed(tmp_path, 4).train
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0, or None, got -1"):
        train.read([], seed=-1, workers=0)
    with pytest.raises(ValueError, match=r"workers must be a whole number of at least 0, got 1\.5"):
        train.read([], seed=0, workers=1.5)
    for batch, message in [
        (torch.tensor([0, 2]), "indexes must be from 0 to 1, got 2"),
        (torch.tensor([-1, 1]), "indexes must be from 0 to 1, got -1"),
        (torch.tensor([[0]]), r"a batch must be int64 indexes \(B,\), got torch.int64 \(1, 1\)"),
        (torch.tensor([True, False]), r"a batch must be int64 indexes \(B,\), got torch.bool \(2,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            next(train.read([batch], seed=0, workers=0))
    assert list(train.read([], seed=0, workers=0)) == []


# ---- load_dataset -------------------------------------------------------------------------------------------------


def test_large_folders_are_streamed_and_small_ones_are_not(tmp_path, monkeypatch):
    paint_plain(tmp_path, 10)
    name = f"folder:{tmp_path}"

    def streams(**options):
        data = load_dataset(name, **options)
        assert data.name == name
        return isinstance(data.train, StreamedSplit)

    assert not streams()
    assert not streams(image_size=4)
    assert not streams(image_size=4, stream=False)
    assert streams(image_size=4, stream=True)
    assert load_dataset(name, image_size=(5, 4), stream=True).image_size == (5, 4)
    monkeypatch.setattr(streaming, "MAX_IMAGES_IN_MEMORY", 20)
    assert not streams(image_size=4)
    monkeypatch.setattr(streaming, "MAX_IMAGES_IN_MEMORY", 19)
    assert streams(image_size=4)
    assert not streams(image_size=4, stream=False)
    assert not streams()
    monkeypatch.undo()
    monkeypatch.setattr(streaming, "MAX_BYTES_IN_MEMORY", 20 * 3 * 5 * 4)
    assert not streams(image_size=(5, 4))
    monkeypatch.setattr(streaming, "MAX_BYTES_IN_MEMORY", 20 * 3 * 5 * 4 - 1)
    assert streams(image_size=(5, 4))


def test_wrong_uses_of_stream(tmp_path):
    paint_plain(tmp_path, 3)
    with pytest.raises(ValueError, match=r"need image_size=\(H, W\)"):
        load_dataset(f"folder:{tmp_path}", stream=True)
    with pytest.raises(ValueError, match="compass is held in memory, got stream=True"):
        load_dataset("compass", stream=True)
    with pytest.raises(ValueError, match="stream must be True, False or None, got 'yes'"):
        load_dataset(f"folder:{tmp_path}", image_size=4, stream="yes")


# ---- training -----------------------------------------------------------------------------------------------------


def test_an_aa_resnet_trains_from_class_folders(tmp_path):
    for c, name in enumerate(("ant", "bee", "cat")):
        for k in range(4):
            save(tmp_path / name / f"{k}.jpg", smooth(250, 300, 10 * c + k))
    data = load_dataset(f"folder:{tmp_path}", image_size=224, stream=True)
    model = create_model("aa_resnet50", data.num_classes, data.image_size, data.in_channels)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = torch.randperm(len(data.train))[:4].split(2)
    for batch, images in zip(batches, data.train.read(batches, seed=0, workers=0), strict=True):
        logits = model(normalise(images, data.mean, data.std))
        loss = F.cross_entropy(logits, data.train.labels[batch])
        assert loss.isfinite()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for name, parameter in model.named_parameters():
        assert parameter.isfinite().all(), name
        assert not torch.equal(parameter, before[name]), name
