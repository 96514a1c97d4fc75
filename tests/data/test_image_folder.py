import numpy as np
import pytest
import torch
from PIL import Image

from aacn_lib.data import load_dataset

PARTS = ("train", "validation", "test")


def paint(path, H=5, W=7, mode="RGB", seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (H, W, *channels), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def paint_classes(root, count=20, classes=("ant", "bee"), **options):
    return {
        paint(root / name / f"{k}.png", seed=1000 * c + k, **options).tobytes(): c
        for c, name in enumerate(classes)
        for k in range(count)
    }


def load(root, **options):
    return load_dataset(f"folder:{root}", **options)


def contents(split):
    """{bytes of a picture as stored in its file: label}"""
    return {
        image.permute(1, 2, 0).numpy().tobytes(): int(label)
        for image, label in zip(split.images, split.labels, strict=True)
    }


def test_class_folders_are_split_eighty_ten_ten(tmp_path):
    painted = paint_classes(tmp_path)
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "ant" / ".hidden").touch()
    loaded = load(tmp_path)
    assert loaded.classes == ("ant", "bee")
    assert (loaded.in_channels, loaded.image_size) == (3, (5, 7))
    sizes = [getattr(loaded, part).labels.bincount().tolist() for part in PARTS]
    assert sizes == [[16, 16], [2, 2], [2, 2]]
    assert contents(loaded.train) | contents(loaded.validation) | contents(loaded.test) == painted
    for part in PARTS:
        for first, second in zip(getattr(loaded, part), getattr(load(tmp_path), part), strict=True):
            assert torch.equal(first, second)


@pytest.mark.parametrize("given", [("train",), ("train", "test"), ("train", "validation"), PARTS])
def test_part_folders_are_kept_and_missing_ones_made_from_train(tmp_path, given):
    painted = {}
    for k, part in enumerate(given):
        painted[part] = paint_classes(tmp_path / part, 20 + k)
    loaded = load(tmp_path)
    for k, part in enumerate(given):
        if part != "train":
            assert len(getattr(loaded, part).labels) == 2 * (20 + k)
            assert contents(getattr(loaded, part)) == painted[part]
    made = [part for part in PARTS if part not in given]
    assert all(getattr(loaded, part).labels.tolist().count(1) == 2 for part in made)
    together = contents(loaded.train)
    for part in made:
        assert not together.keys() & contents(getattr(loaded, part)).keys()
        together |= contents(getattr(loaded, part))
    assert together == painted["train"]


def test_the_validation_part_may_be_called_val(tmp_path):
    paint_classes(tmp_path / "train", 3)
    painted = paint_classes(tmp_path / "val", 2)
    assert contents(load(tmp_path).validation) == painted


def test_a_class_may_be_called_train(tmp_path):
    paint_classes(tmp_path, 3, classes=("bus", "train"))
    assert load(tmp_path).classes == ("bus", "train")


def test_different_sizes_need_image_size(tmp_path):
    paint_classes(tmp_path, 3)
    paint(tmp_path / "bee" / "large.png", H=11, W=13)
    with pytest.raises(ValueError, match=r"ant.0\.png is 5×7, .*large\.png is 11×13"):
        load(tmp_path)
    assert load(tmp_path, image_size=(3, 4)).image_size == (3, 4)
    assert load(tmp_path, image_size=6).image_size == (6, 6)


def test_resizing_keeps_the_centre_and_the_proportions(tmp_path):
    # Three stripes of 8 columns; a square crop of the middle is the middle stripe.
    pixels = np.zeros((8, 24), dtype=np.uint8)
    pixels[:, 8:16] = 200
    (tmp_path / "one").mkdir()
    for k in range(3):
        Image.fromarray(pixels).save(tmp_path / "one" / f"{k}.png")
    assert load(tmp_path, image_size=8).train.images.eq(200).all()
    assert load(tmp_path, image_size=(4, 12)).train.images[0, 0, 2].tolist()[:3] == [0, 0, 0]


def test_grey_stays_grey_only_if_all_are(tmp_path):
    painted = paint_classes(tmp_path, 3, mode="L")
    loaded = load(tmp_path)
    assert loaded.in_channels == 1
    assert contents(loaded.train).items() <= painted.items()
    paint(tmp_path / "bee" / "colour.png")
    loaded = load(tmp_path)
    assert loaded.in_channels == 3
    grey = [
        image for image in loaded.train.images if torch.equal(image[0], image[1]) and torch.equal(image[1], image[2])
    ]
    assert len(grey) >= 2
    assert grey[0][0].numpy().tobytes() in painted


def test_other_modes_and_formats(tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    Image.new("P", (7, 5), 3).save(folder / "palette.gif")
    Image.new("CMYK", (7, 5)).save(folder / "print.jpg")
    Image.new("RGBA", (7, 5), (0, 0, 0, 0)).save(folder / "transparent.png")
    Image.new("1", (7, 5), 1).save(folder / "bits.bmp")
    Image.fromarray(np.full((5, 7), 200 * 256 + 77, dtype=np.uint16)).save(folder / "sixteen.png")
    loaded = load(tmp_path)
    pictures = torch.cat([getattr(loaded, part).images for part in PARTS])
    assert pictures.shape == (5, 3, 5, 7)
    values = sorted(image.unique().tolist() for image in pictures if image.unique().numel() == 1)
    assert [200] in values  # the high byte of 16 bits
    assert values.count([255]) >= 2  # what is transparent is white, and so is the 1 of a bitmap


def test_a_photograph_taken_sideways_is_turned(tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90 degrees
    for k in range(3):
        Image.new("RGB", (7, 5), (k, 0, 0)).save(folder / f"{k}.png", exif=exif)
    assert load(tmp_path).image_size == (7, 5)


def test_what_is_wrong_with_a_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no class folders"):
        load(tmp_path)
    paint_classes(tmp_path, 3)
    (tmp_path / "cat").mkdir()
    with pytest.raises(ValueError, match="cat holds 0 images, expected at least 3"):
        load(tmp_path)
    (tmp_path / "cat").rmdir()
    (tmp_path / "bee" / "notes.txt").write_text("not a picture")
    with pytest.raises(ValueError, match=r"notes\.txt cannot be read as an image"):
        load(tmp_path)
    (tmp_path / "bee" / "notes.txt").unlink()
    half = tmp_path / "bee" / "half.png"
    paint(half, H=50, W=70)
    half.write_bytes(half.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"half\.png cannot be read as an image"):
        load(tmp_path, image_size=5)
    half.unlink()
    (tmp_path / "bee" / "more").mkdir()
    with pytest.raises(ValueError, match=r"more cannot be read as an image"):
        load(tmp_path)


def test_what_is_wrong_with_part_folders_is_named(tmp_path):
    paint_classes(tmp_path / "train", 3)
    paint_classes(tmp_path / "dev", 3)
    with pytest.raises(ValueError, match=r"dev stands beside .*expected only train, validation, test"):
        load(tmp_path)
    (tmp_path / "dev").rename(tmp_path / "val")
    paint_classes(tmp_path / "validation", 3)
    with pytest.raises(ValueError, match=r"validation stands beside .*val; expected only one folder for validation"):
        load(tmp_path)
    (tmp_path / "val").rename(tmp_path / "test")
    paint(tmp_path / "test" / "wasp" / "0.png")
    with pytest.raises(ValueError, match=r"must hold the same class folders as .* wasp"):
        load(tmp_path)
