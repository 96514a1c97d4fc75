import math

import pytest
import torch

from aacn_lib.ops import coordinates, sine_encoding, with_coordinates


def loop_sine(channels: int, H: int, W: int) -> torch.Tensor:
    """The encoding from its definition, one number at a time."""
    n = math.ceil(channels / 4)
    out = torch.zeros(channels, H, W, dtype=torch.float64)
    for c in range(channels):
        quarter, i = divmod(c, n)
        frequency = 1 / 10_000 ** (i / n)
        for y in range(H):
            for x in range(W):
                angle = frequency * (y if quarter < 2 else x)
                out[c, y, x] = math.sin(angle) if quarter % 2 == 0 else math.cos(angle)
    return out


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 8, 20])
@pytest.mark.parametrize("size", [(5, 7), (11, 3), (1, 1)])
def test_sine_encoding_equals_its_definition(channels, size):
    out = sine_encoding(channels, *size, dtype=torch.float64)
    torch.testing.assert_close(out, loop_sine(channels, *size), rtol=1e-12, atol=1e-12)


def test_sine_encoding_by_hand():
    """Eight channels have the frequencies 1 and 1/100."""
    expected = [math.sin(2), math.sin(0.02), math.cos(2), math.cos(0.02)]
    expected += [math.sin(3), math.sin(0.03), math.cos(3), math.cos(0.03)]
    torch.testing.assert_close(sine_encoding(8, 5, 7)[:, 2, 3], torch.tensor(expected))


def test_sine_encoding_tells_all_pixels_apart():
    pixels = sine_encoding(16, 29, 31, dtype=torch.float64).flatten(1).T  # (899, 16)
    assert torch.cdist(pixels, pixels).fill_diagonal_(1).min() > 1e-3


def test_coordinates_by_hand():
    y, x = coordinates(3, 5)
    assert y.tolist() == [[-1.0] * 5, [0.0] * 5, [1.0] * 5]
    assert x.tolist() == [[-1.0, -0.5, 0.0, 0.5, 1.0]] * 3
    assert coordinates(1, 1).tolist() == [[[0.0]], [[0.0]]]
    assert coordinates(1, 2).tolist() == [[[0.0, 0.0]], [[-1.0, 1.0]]]


def test_with_coordinates_keeps_the_picture_and_adds_the_same_two_channels_to_each():
    x = torch.randn(2, 3, 5, 7)
    out = with_coordinates(x)
    assert out.shape == (2, 5, 5, 7)
    assert torch.equal(out[:, :3], x)
    assert torch.equal(out[0, 3:], coordinates(5, 7))
    assert torch.equal(out[1, 3:], coordinates(5, 7))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dtype_and_device_are_those_asked_for(dtype):
    assert sine_encoding(6, 3, 5, dtype=dtype).dtype == dtype
    assert coordinates(3, 5, dtype=dtype).dtype == dtype
    assert with_coordinates(torch.zeros(1, 1, 3, 5, dtype=dtype)).dtype == dtype
    assert sine_encoding(6, 3, 5, device="meta").is_meta
    assert coordinates(3, 5, device="meta").is_meta


def test_low_precision_is_rounded_from_the_exact_encoding():
    exact = sine_encoding(8, 257, 3, dtype=torch.float64)
    torch.testing.assert_close(sine_encoding(8, 257, 3, dtype=torch.bfloat16).double(), exact, rtol=0, atol=4e-3)
