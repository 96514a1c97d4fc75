import pytest
import torch
import torch.nn.functional as F

from aacn_lib.augment import random_crop, random_flip


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_result_stays_there_and_equals_the_cpus():
    images = pictures()
    for augment in (random_flip, random_crop):
        result = augment(images.cuda(), generator=generator())
        assert result.is_cuda
        assert torch.equal(result.cpu(), augment(images, generator=generator()))
        assert augment(images.cuda()).is_cuda


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
