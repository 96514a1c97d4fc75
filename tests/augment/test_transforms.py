import pytest
import torch
import torch.nn.functional as F

from aacn_lib.augment import transforms

functional = pytest.importorskip("torchvision.transforms.v2.functional")
BILINEAR = pytest.importorskip("torchvision.transforms").InterpolationMode.BILINEAR

SHAPES = [(3, 17, 23), (1, 29, 13)]
N = 11


@pytest.fixture(params=SHAPES, ids=["colour", "grey"])
def images(request):
    """Noise, smooth pictures, dark ones and one of a single value: what equalizing and stretching tell apart."""
    C, H, W = request.param
    noise = torch.randint(256, (N, C, H, W)).float()
    noise[3:6] = F.avg_pool2d(noise[3:6], 3, stride=1, padding=1)
    noise[6:9] = noise[6:9] / 5 + 40
    noise[9] = 77
    noise[10, :, :3] = 255
    return noise.to(torch.uint8)


def uniform(low, high):
    return torch.rand(N) * (high - low) + low


def assert_like_torchvision(results, expected, inexact=0.002):
    """Within one grey level, and equal but for a few pixels.

    Where a sum of products lies within rounding (1e-5) of a whole number or of a half, torchvision's fused
    multiply-add and ours may come out on two sides of it; then the whole number that is kept differs by one.
    """
    assert results.dtype == torch.uint8
    difference = (results.int() - torch.stack(expected).int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < inexact


def corners_within(images, scale=0.5):
    _N, _C, H, W = images.shape
    x = torch.randint(int(scale * (W // 2)) + 1, (N, 4))
    y = torch.randint(int(scale * (H // 2)) + 1, (N, 4))
    x[:, 1:3], y[:, 2:] = W - 1 - x[:, 1:3], H - 1 - y[:, 2:]
    return torch.stack([x, y], dim=2)


def test_rotation(images):
    H, W = images.shape[2:]
    degrees = uniform(-180, 180)
    results = transforms.warp(images, transforms.rotation_matrix(degrees, H, W))
    expected = [
        functional.rotate(image, angle, interpolation=BILINEAR)
        for image, angle in zip(images, degrees.tolist(), strict=True)
    ]
    assert_like_torchvision(results, expected)


def test_a_quarter_turn_is_exact_and_counter_clockwise():
    images = torch.randint(256, (2, 3, 7, 7), dtype=torch.uint8)
    for mode in ("nearest", "bilinear"):
        results = transforms.warp(images, transforms.rotation_matrix(torch.tensor([90.0, -90.0]), 7, 7), mode=mode)
        assert torch.equal(results[0], images[0].rot90(1, (1, 2)))
        assert torch.equal(results[1], images[1].rot90(-1, (1, 2)))


def test_perspective(images):
    H, W = images.shape[2:]
    corners = corners_within(images)
    results = transforms.warp(images, transforms.perspective_matrix(corners, H, W))
    start = [[0, 0], [W - 1, 0], [W - 1, H - 1], [0, H - 1]]
    expected = [
        functional.perspective(image, start, end, interpolation=BILINEAR)
        for image, end in zip(images, corners.tolist(), strict=True)
    ]
    assert_like_torchvision(results, expected)


def test_perspective_of_three_corners_on_a_line_gives_a_picture():
    images = torch.randint(1, 256, (2, 1, 11, 11), dtype=torch.uint8)
    line = torch.tensor([[[5, 5], [10, 0], [10, 10], [0, 10]], [[5, 5], [5, 5], [5, 5], [5, 5]]])
    assert transforms.warp(images, transforms.perspective_matrix(line, 11, 11)).shape == images.shape


def bilinear(image, x, y):
    """The value of one channel (H, W), float64, at (x, y), pixel centres at halves, zero outside."""
    H, W = image.shape
    x, y, total = x - 0.5, y - 0.5, 0.0
    for row in range(H):
        for column in range(W):
            total += max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row)) * image[row, column].item()
    return total


def test_two_maps_are_one_after_the_other():
    H, W = 5, 7
    images = torch.randint(256, (2, 1, H, W), dtype=torch.uint8)
    first = transforms.rotation_matrix(torch.tensor([25.0, -70.0]), H, W)
    corners = torch.tensor([[[1, 0], [6, 1], [5, 4], [0, 3]], [[0, 1], [5, 0], [6, 3], [1, 4]]])
    second = transforms.perspective_matrix(corners, H, W)
    results = transforms.warp(images, first, second)
    for n in range(2):
        for row in range(H):
            for column in range(W):
                place = torch.tensor([column + 0.5, row + 0.5, 1.0], dtype=torch.float64)
                x, y, w = (first[n].double() @ (second[n].double() @ place)).tolist()
                expected = bilinear(images[n, 0].double(), x / w, y / w)
                assert abs(results[n, 0, row, column].item() - expected) < 0.501


@pytest.mark.parametrize("kind", [transforms.BRIGHTNESS, transforms.CONTRAST, transforms.SATURATION])
def test_brightness_contrast_and_saturation(images, kind):
    names = ["adjust_brightness", "adjust_contrast", "adjust_saturation"]
    factors = torch.cat([torch.zeros(1), uniform(0, 2)[1:]])
    results = transforms.blend(images, torch.full((N,), kind), factors)
    adjust = getattr(functional, names[kind])
    expected = [adjust(image, factor) for image, factor in zip(images, factors.tolist(), strict=True)]
    assert_like_torchvision(results, expected)


def test_hue(images):
    shifts = uniform(-0.5, 0.5)
    expected = [functional.adjust_hue(image, shift) for image, shift in zip(images, shifts.tolist(), strict=True)]
    assert_like_torchvision(transforms.shift_hue(images, shifts), expected)


def test_jitter_follows_each_pictures_own_order(images):
    factors = torch.stack([uniform(0.4, 1.6), uniform(0.4, 1.6), uniform(0.4, 1.6), uniform(-0.5, 0.5)], dim=1)
    order = torch.rand(N, 4).argsort(dim=1)
    assert len(order.unique(dim=0)) > 5
    adjust = [getattr(functional, f"adjust_{name}") for name in ("brightness", "contrast", "saturation", "hue")]
    results = transforms.jitter(images, factors, order)
    differs = []
    for n in range(N):
        expected = images[n]
        for kind in order[n].tolist():
            expected = adjust[kind](expected, factors[n, kind].item())
        differs.append(results[n] != expected)
    # Rounding as above; but a pixel that is one off after one step may be a few off after hue, divided by the chroma.
    assert torch.stack(differs).float().mean() < 0.005


def test_sharpness(images):
    factors = uniform(0, 2)
    expected = [
        functional.adjust_sharpness(image, factor) for image, factor in zip(images, factors.tolist(), strict=True)
    ]
    assert_like_torchvision(transforms.sharpen(images, factors), expected)
    narrow = images[:, :, :2]
    assert torch.equal(transforms.sharpen(narrow, factors), narrow)  # no pixel has all its neighbours


def test_posterize(images):
    bits = torch.arange(N).clamp(max=8)
    results = transforms.posterize(images, bits)
    for image, result, kept in zip(images, results, bits.tolist(), strict=True):
        assert torch.equal(result, functional.posterize(image, kept))


def test_solarize(images):
    thresholds = torch.cat([torch.tensor([0.0, 255.0, 77.0]), uniform(0, 255)[3:].round()])
    results = transforms.solarize(images, thresholds)
    for image, result, threshold in zip(images, results, thresholds.tolist(), strict=True):
        assert torch.equal(result, functional.solarize(image, threshold))


def test_auto_contrast_and_equalize(images):
    for ours, theirs in (("auto_contrast", "autocontrast"), ("equalize", "equalize")):
        results = getattr(transforms, ours)(images)
        assert not torch.equal(results, images)
        for image, result in zip(images, results, strict=True):
            assert torch.equal(result, getattr(functional, theirs)(image))
    tiny = images[:, :, :5, :7]  # 35 pixels cannot be spread over 255 steps
    assert torch.equal(transforms.equalize(tiny), tiny)


@pytest.mark.parametrize("side", [1, 4, 5, 40])
def test_a_square_is_cut_out_and_ends_at_the_border(images, side):
    C, H, W = images.shape[1:]
    fill = torch.tensor([11, 22, 33][:C])
    centres = torch.stack([torch.randint(H, (N,)), torch.randint(W, (N,))], dim=1)
    centres[0], centres[1] = torch.tensor([0, W - 1]), torch.tensor([H - 1, 0])
    results = transforms.cut_out(images, centres, side, fill)
    for image, result, (row, column) in zip(images, results, centres.tolist(), strict=True):
        top, left = row - side // 2, column - side // 2
        inside = slice(max(0, top), top + side), slice(max(0, left), left + side)
        expected = image.clone()
        expected[:, inside[0], inside[1]] = fill[:, None, None].to(torch.uint8)
        assert torch.equal(result, expected)
        height, width = expected[0, inside[0], inside[1]].shape
        erased = functional.erase(image, max(0, top), max(0, left), height, width, fill[:, None, None].to(torch.uint8))
        assert torch.equal(result, erased)


@pytest.mark.parametrize(("mode", "theirs"), [("zero", "constant"), ("reflect", "reflect")])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_crop(images, mode, theirs, dtype):
    H, W = images.shape[2:]
    images, padding = images.to(dtype), 12
    top, left = torch.randint(2 * padding + 1, (2, N))
    results = transforms.crop(images, top, left, padding, mode)
    for image, result, i, j in zip(images, results, top.tolist(), left.tolist(), strict=True):
        padded = functional.pad(image.float(), [padding], padding_mode=theirs).to(dtype)
        assert torch.equal(result, functional.crop(padded, i, j, H, W))


def test_what_changes_nothing_changes_nothing(images):
    H, W = images.shape[2:]
    one, zero = torch.ones(N), torch.zeros(N)
    corners = torch.tensor([[0, 0], [W - 1, 0], [W - 1, H - 1], [0, H - 1]]).expand(N, 4, 2)
    still = transforms.rotation_matrix(zero, H, W), transforms.perspective_matrix(corners, H, W)
    order = torch.rand(N, 4).argsort(dim=1)
    results = {
        "flip": transforms.flip(images, zero.bool()),
        "crop": transforms.crop(images, torch.full((N,), 3), torch.full((N,), 3), 3, "reflect"),
        "rotation": transforms.warp(images, still[0]),
        "perspective": transforms.warp(images, still[1]),
        "both": transforms.warp(images, *still),
        "jitter": transforms.jitter(images, torch.stack([one, one, one, zero], dim=1), order),
        "sharpness": transforms.sharpen(images, one),
        "posterize": transforms.posterize(images, 8 * one),
        "solarize": transforms.solarize(images, 256 * one),
    }
    for name, result in results.items():
        assert torch.equal(result, images), name
