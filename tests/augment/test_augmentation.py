import dataclasses

import pytest
import torch
import torch.nn.functional as F

from aacn_lib.augment import (
    Augmentation,
    apply_augmentation,
    draw_augmentation,
    random_crop,
    random_flip,
    to_augmentation,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(N=7, C=3, H=5, W=11, dtype=torch.uint8):
    # Every pixel different from 0, so that a zero can only come from the filling.
    values = torch.randint(1, 256, (N, C, H, W), generator=generator(99))
    return values.to(dtype)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_a_flip_is_a_mirror_image_or_nothing_and_differs_within_a_batch(dtype):
    images = pictures(N=32, dtype=dtype)
    before = images.clone()
    flipped = random_flip(images, generator())
    assert flipped.dtype == dtype
    assert torch.equal(images, before)
    coins = torch.randint(2, (32,), generator=generator()).bool()
    assert coins.any()
    assert not coins.all()
    for image, result, coin in zip(images, flipped, coins, strict=True):
        assert torch.equal(result, torch.flip(image, [2]) if coin else image)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("padding", [0, 1, 4])
def test_a_crop_is_a_window_of_the_padded_picture(padding, dtype):
    images = pictures(dtype=dtype)
    before = images.clone()
    cropped = random_crop(images, padding, generator())
    assert cropped.dtype == dtype
    assert cropped.shape == images.shape
    assert torch.equal(images, before)
    draws = generator()
    top = torch.randint(2 * padding + 1, (7,), generator=draws)
    left = torch.randint(2 * padding + 1, (7,), generator=draws)
    for image, result, i, j in zip(images, cropped, top.tolist(), left.tolist(), strict=True):
        assert torch.equal(result, F.pad(image, (padding,) * 4)[:, i : i + 5, j : j + 11])


def test_a_crop_equals_torchvisions_for_the_same_place():
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    images = pictures()
    draws = generator(3)
    top, left = (torch.randint(5, (7,), generator=draws).tolist() for _ in range(2))
    cropped = random_crop(images, 2, generator(3))
    for image, result, i, j in zip(images, cropped, top, left, strict=True):
        assert torch.equal(result, functional.crop(functional.pad(image, [2]), i, j, 5, 11))


def test_one_batch_of_equal_pictures_comes_out_different():
    images = pictures(N=1).expand(64, -1, -1, -1)
    assert len(random_flip(images, generator()).unique(dim=0)) == 2
    # 64 draws from 81 places: about 44 different ones; one draw for the batch would give 1.
    assert len(random_crop(images, 4, generator()).unique(dim=0)) > 30


def test_half_are_flipped_and_all_places_are_equally_likely():
    N = 9000
    column = torch.zeros(N, 1, 3, 3, dtype=torch.uint8)
    column[:, :, :, 0] = 1
    share = random_flip(column, generator())[:, 0, 0, 2].float().mean().item()
    assert abs(share - 0.5) < 0.02  # four standard deviations

    dot = torch.zeros(N, 1, 3, 3, dtype=torch.uint8)
    dot[:, :, 1, 1] = 1
    counts = random_crop(dot, 1, generator())[:, 0].sum(0)
    assert counts.sum() == N
    assert (counts - N / 9).abs().max() < 4 * (N / 9) ** 0.5


def test_the_generator_decides_and_the_global_state_stays():
    images = pictures(N=50)
    state = torch.get_rng_state()
    for augment in (random_flip, random_crop):
        assert torch.equal(augment(images, generator=generator(5)), augment(images, generator=generator(5)))
        assert not torch.equal(augment(images, generator=generator(5)), augment(images, generator=generator(6)))
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_generator_the_global_seed_decides():
    images = pictures(N=50)
    results = []
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            results.append((random_flip(images), random_crop(images)))
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


def test_an_empty_batch_and_a_strided_input():
    assert random_crop(pictures(N=0)).shape == (0, 3, 5, 11)
    assert random_flip(pictures(N=0)).shape == (0, 3, 5, 11)
    images = pictures()
    strided = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    for augment in (random_flip, random_crop):
        assert torch.equal(augment(strided, generator=generator()), augment(images, generator=generator()))


def first_version_of_flip_and_crop(images, padding, generator):
    """What recorded runs were augmented by: the order of the draws must stay as it is here."""
    N, _C, H, W = images.shape
    flipped = torch.randint(2, (N,), generator=generator).bool()
    images = torch.where(flipped[:, None, None, None], images.flip(-1), images)
    top = torch.randint(2 * padding + 1, (N,), generator=generator)
    left = torch.randint(2 * padding + 1, (N,), generator=generator)
    padded = F.pad(images, (padding, padding, padding, padding))
    crops = padded.unfold(2, H, 1).unfold(3, W, 1)
    return crops[torch.arange(N), :, top, left]


def test_recorded_runs_can_be_repeated():
    images = pictures(N=40)
    expected, after = generator(8), generator(8)
    result = first_version_of_flip_and_crop(images, 4, expected)
    assert torch.equal(random_crop(random_flip(images, after), 4, after), result)
    assert torch.equal(after.get_state(), expected.get_state())

    again, augmentation = generator(8), to_augmentation(True)
    drawn = draw_augmentation(augmentation, 40, (3, 5, 11), again)
    assert torch.equal(apply_augmentation(images, drawn, augmentation), result)
    assert torch.equal(again.get_state(), expected.get_state())
    everything = Augmentation(
        crop=4, flip=True, **{name: value for name, value in EVERYTHING.items() if name != "crop"}
    )
    first = draw_augmentation(everything, 40, (3, 5, 11), generator(8))
    assert all(torch.equal(first[name], value) for name, value in drawn.items())


def test_reflection_fills_with_the_picture():
    images = pictures()
    drawn = generator(2)
    top, left = (torch.randint(7, (7,), generator=drawn).tolist() for _ in range(2))
    cropped = random_crop(images, 3, generator(2), padding_mode="reflect")
    for image, result, i, j in zip(images, cropped, top, left, strict=True):
        padded = F.pad(image.float(), (3,) * 4, mode="reflect").to(torch.uint8)
        assert torch.equal(result, padded[:, i : i + 5, j : j + 11])


EVERYTHING = {
    "crop": 3,
    "rotation": 30,
    "perspective": 0.4,
    "policy": "trivial_augment_wide",
    "jitter": 0.4,
    "hue": 0.2,
    "cutout": 6,
}
EACH = [
    Augmentation(flip=True),
    *(Augmentation(**{name: value}) for name, value in EVERYTHING.items()),
    Augmentation(crop=4, padding="reflect"),
    Augmentation(policy="rand_augment", num_ops=3, magnitude=15),
    Augmentation(flip=True, padding="reflect", **EVERYTHING),
]
SHAPES = [(3, 17, 23), (1, 29, 13)]


def changes(augmentation):
    return ", ".join(
        f"{field.name}={getattr(augmentation, field.name)}"
        for field in dataclasses.fields(Augmentation)
        if getattr(augmentation, field.name) != field.default
    )


@pytest.mark.parametrize("augmentation", EACH, ids=changes)
@pytest.mark.parametrize("shape", SHAPES, ids=["colour", "grey"])
def test_each_picture_has_its_own_draw_and_rows_can_be_taken(augmentation, shape):
    N = 32
    images = pictures(1, *shape).expand(N, -1, -1, -1).contiguous()
    before, state = images.clone(), torch.get_rng_state()
    drawn = draw_augmentation(augmentation, N, shape, generator(4))
    assert drawn.keys() == draw_augmentation(augmentation, 2, shape, generator(5)).keys()
    for name, value in drawn.items():
        assert len(value) == N
        assert len(value.unique(dim=0)) > 1, name
    results = apply_augmentation(images, drawn, augmentation)
    assert results.dtype == torch.uint8
    assert results.shape == images.shape
    if shape[0] == 1 and augmentation == Augmentation(hue=0.2):
        assert torch.equal(results, images)  # a grey picture has no hue
        return
    assert len(results.unique(dim=0)) > (1 if augmentation.flip else 8)

    # Another process: the same draw of the whole batch, but only its own rows, and fewer of them.
    again = draw_augmentation(augmentation, N, shape, generator(4))
    for rows in (torch.arange(5), torch.tensor([30, 2, 11]), torch.tensor([7])):
        mine = {name: value[rows] for name, value in again.items()}
        assert torch.equal(apply_augmentation(images[rows], mine, augmentation), results[rows])
    other = draw_augmentation(augmentation, N, shape, generator(5))
    assert not torch.equal(apply_augmentation(images, other, augmentation), results)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(
        apply_augmentation(images.contiguous(memory_format=torch.channels_last), drawn, augmentation), results
    )


def test_the_parts_follow_each_other_as_said():
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    C, H, W = 3, 17, 23
    augmentation = Augmentation(crop=3, flip=True, padding="reflect", jitter=0.4, cutout=5)
    images = pictures(20, C, H, W)
    drawn = draw_augmentation(augmentation, 20, (C, H, W), generator())
    results = apply_augmentation(images, drawn, augmentation, fill=torch.tensor([7, 8, 9]))
    adjust = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)
    differs = []
    for n, image in enumerate(images):
        image = functional.horizontal_flip(image) if drawn["flip"][n] else image
        image = functional.pad(image.float(), [3], padding_mode="reflect").to(torch.uint8)
        image = functional.crop(image, drawn["top"][n], drawn["left"][n], H, W)
        for kind in drawn["order"][n].tolist():
            image = adjust[kind](image, drawn["factors"][n, kind].item()) if kind < 3 else image
        row, column = drawn["centre"][n].tolist()
        image = image.clone()
        inside = slice(max(0, row - 2), row + 3), slice(max(0, column - 2), column + 3)
        image[:, inside[0], inside[1]] = torch.tensor([7, 8, 9], dtype=torch.uint8)[:, None, None]
        differs.append((results[n].int() - image.int()).abs())
    # The results of jitter are cut off to whole numbers: rounding may fall on either side.
    assert torch.stack(differs).max() <= 2
    assert (torch.stack(differs) > 0).float().mean() < 0.005


def test_draws_stay_within_what_was_asked_for():
    N, (C, H, W) = 5000, (3, 21, 32)
    drawn = draw_augmentation(Augmentation(flip=True, **EVERYTHING), N, (C, H, W), generator())
    for name in ("top", "left"):
        assert drawn[name].unique().tolist() == list(range(7))
    assert -30 <= drawn["degrees"].min() < -29
    assert 29 < drawn["degrees"].max() <= 30
    brightness, hue = drawn["factors"][:, :3], drawn["factors"][:, 3]
    assert 0.6 <= brightness.min() < 0.61
    assert 1.39 < brightness.max() <= 1.4
    assert -0.2 <= hue.min() < -0.19
    assert 0.19 < hue.max() <= 0.2
    assert len(drawn["order"].unique(dim=0)) == 24
    assert drawn["centre"].amin(0).tolist() == [0, 0]
    assert drawn["centre"].amax(0).tolist() == [H - 1, W - 1]
    # torchvision draws each corner from whole pixels, up to this far inwards.
    x, y = int(0.4 * (W // 2)), int(0.4 * (H // 2))
    low = [[0, 0], [W - 1 - x, 0], [W - 1 - x, H - 1 - y], [0, H - 1 - y]]
    high = [[x, y], [W - 1, y], [W - 1, H - 1], [x, H - 1]]
    assert drawn["corners"].amin(0).tolist() == low
    assert drawn["corners"].amax(0).tolist() == high


def test_rotation_comes_before_perspective_and_pictures_are_sampled_once():
    C, H, W = 1, 25, 33
    augmentation = Augmentation(rotation=45, perspective=0.3)
    # A smooth picture, dark at the border: sampling it twice, each in its turn, then gives nearly the same.
    row, column = torch.arange(H)[:, None] - 10, torch.arange(W) - 20
    images = (250 * torch.exp(-(row**2 + column**2) / 18)).to(torch.uint8).expand(9, C, H, W).contiguous()
    drawn = draw_augmentation(augmentation, 9, (C, H, W), generator(3))
    together = apply_augmentation(images, drawn, augmentation)
    one = apply_augmentation(images, {"degrees": drawn["degrees"]}, Augmentation(rotation=45))
    two = apply_augmentation(one, {"corners": drawn["corners"]}, Augmentation(perspective=0.3))
    assert (together.int() - two.int()).abs().max() < 15
    one = apply_augmentation(images, {"corners": drawn["corners"]}, Augmentation(perspective=0.3))
    two = apply_augmentation(one, {"degrees": drawn["degrees"]}, Augmentation(rotation=45))
    assert (together.int() - two.int()).abs().max() > 30


def test_no_augmentation_leaves_the_pictures_alone():
    images = pictures()
    assert draw_augmentation(Augmentation(), 7, (3, 5, 11)) == {}
    assert torch.equal(apply_augmentation(images, {}, Augmentation()), images)
    augmentation = Augmentation(flip=True, **EVERYTHING)
    drawn = draw_augmentation(augmentation, 0, (3, 5, 11))
    assert apply_augmentation(pictures(N=0), drawn, augmentation).shape == (0, 3, 5, 11)


def test_what_a_recipe_may_say():
    assert to_augmentation(True) == Augmentation(crop=4, flip=True)
    assert to_augmentation(False) == Augmentation()
    augmentation = Augmentation(flip=True, **EVERYTHING)
    assert to_augmentation(augmentation) is augmentation
    assert to_augmentation(dataclasses.asdict(augmentation)) == augmentation
    with pytest.raises(ValueError, match=r"augment: value: expected true, false, a table or an Augmentation, got 1"):
        to_augmentation(1)
    with pytest.raises(ValueError, match=r"augment: key: expected one of .*got 'rotatoin'; did you mean 'rotation'"):
        to_augmentation({"rotatoin": 3})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("crop", -1, "a whole number of at least 0"),
        ("crop", True, "a whole number of at least 0"),
        ("cutout", 2.0, "a whole number of at least 0"),
        ("padding", "zeros", "one of ['zero', 'reflect'], got 'zeros'; did you mean 'zero'?"),
        ("flip", 1, "true or false"),
        ("rotation", 181, "a number from 0 to 180"),
        ("rotation", float("nan"), "a number from 0 to 180"),
        ("perspective", -0.1, "a number from 0 to 1"),
        ("jitter", "0.1", "a number from 0 to 1"),
        ("hue", 0.6, "a number from 0 to 0.5"),
        ("policy", "randaugment", "did you mean 'rand_augment'?"),
        ("policy", None, "one of ['none', 'trivial_augment_wide', 'rand_augment']"),
        ("num_ops", 0, "a whole number of at least 1"),
        ("magnitude", 31, "a whole number from 0 to 30"),
    ],
)
def test_a_bad_setting_is_named(name, value, expected):
    with pytest.raises(ValueError, match=f"^Augmentation: {name}: expected ") as error:
        Augmentation(**{name: value})
    assert expected in str(error.value)
    assert f"got {value!r}" in str(error.value)


def test_what_does_not_fit_the_pictures_is_named():
    images, jitter = pictures(), Augmentation(jitter=0.1)
    with pytest.raises(ValueError, match=r"crop: expected at most 4 for 5×11 pictures, got 5"):
        draw_augmentation(Augmentation(crop=5), 3, (3, 5, 11))
    with pytest.raises(ValueError, match=r"perspective: expected 0 for 1×11 pictures, got 0\.5"):
        draw_augmentation(Augmentation(perspective=0.5), 3, (3, 1, 11))
    with pytest.raises(ValueError, match=r"pictures of 1 or 3 channels, got 2"):
        draw_augmentation(jitter, 3, (2, 5, 11))
    with pytest.raises(ValueError, match=r"torch\.Generator or None, got int"):
        draw_augmentation(jitter, 3, (3, 5, 11), 3)
    drawn = draw_augmentation(jitter, 7, (3, 5, 11))
    with pytest.raises(ValueError, match=r"uint8 pictures, got torch\.float32"):
        apply_augmentation(images.float(), drawn, jitter)
    with pytest.raises(ValueError, match=r"drawn: expected the keys \['flip'\], got \['factors', 'order'\]"):
        apply_augmentation(images, drawn, Augmentation(flip=True))
    with pytest.raises(ValueError, match=r"drawn\['factors'\]: expected 6 rows, one a picture, got 7"):
        apply_augmentation(images[:6], drawn, jitter)
    cutout = Augmentation(cutout=3)
    with pytest.raises(ValueError, match=r"fill: expected 3 grey levels, got \(2,\)"):
        apply_augmentation(images, draw_augmentation(cutout, 7, (3, 5, 11)), cutout, fill=torch.zeros(2))
    with pytest.raises(ValueError, match=r"padding_mode: expected one of .*, got 'reflected'; did you mean 'reflect'"):
        random_crop(images, 2, padding_mode="reflected")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_result_stays_there_and_equals_the_cpus():
    images = pictures()
    for augment in (random_flip, random_crop):
        result = augment(images.cuda(), generator=generator())
        assert result.is_cuda
        assert torch.equal(result.cpu(), augment(images, generator=generator()))
        assert augment(images.cuda()).is_cuda
    augmentation = Augmentation(flip=True, crop=4, cutout=3)
    drawn = draw_augmentation(augmentation, 7, (3, 5, 11), generator())
    result = apply_augmentation(images.cuda(), drawn, augmentation)
    assert torch.equal(result.cpu(), apply_augmentation(images, drawn, augmentation))
    everything = Augmentation(flip=True, **EVERYTHING)
    for where in ("cpu", "cuda"):
        drawn = draw_augmentation(everything, 7, (3, 5, 11), torch.Generator(where).manual_seed(1))
        result = apply_augmentation(images.cuda(), drawn, everything)
        assert result.is_cuda
        drawn = {name: value.cpu() for name, value in drawn.items()}
        assert (result.cpu() != apply_augmentation(images, drawn, everything)).float().mean() < 0.05


@pytest.mark.parametrize("augment", [random_flip, random_crop])
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 5, 7, dtype=torch.uint8), r"\(3, 5, 7\)"),
        (torch.zeros(2, 3, 5, 7, dtype=torch.int64), "int64"),
        ([[1]], "list"),
    ],
)
def test_bad_pictures_are_named(augment, images, message):
    with pytest.raises(ValueError, match=message):
        augment(images)


@pytest.mark.parametrize("augment", [random_flip, random_crop])
def test_a_bad_generator_is_named(augment):
    with pytest.raises(ValueError, match=r"torch\.Generator or None, got int"):
        augment(pictures(), generator=3)


@pytest.mark.parametrize("padding", [-1, 5, 1.5, True])
def test_bad_padding_is_named(padding):
    with pytest.raises(ValueError, match=f"0 to 4 for 5×11 pictures, got {padding}"):
        random_crop(pictures(), padding)
