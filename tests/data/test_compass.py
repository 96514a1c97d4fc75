import numpy as np
import pytest
import torch
from torch import nn

from aacn_lib.data import (
    BACKGROUND,
    BORDER,
    DIRECTIONS,
    MIN_DISTANCE,
    compass,
    paint_marks,
    place_marks,
    receptive_field,
)
from aacn_lib.data.compass import MARK, RECEPTIVE_FIELD

ALLOWED = {"border": BORDER, "distances": (MIN_DISTANCE, 9)}
TOO_NEAR = {"border": BORDER, "distances": (5, 5)}
TOO_FAR_OUT = {"border": 3, "distances": (13, 13)}  # one mark 3 pixels from each side: no room for luck


def place(num_images=2000, seed=0, **geometry):
    directions = np.arange(num_images) % 4
    return directions, *place_marks(directions, np.random.default_rng(seed), **geometry)


def windows(picture, side):
    """Every window of a picture padded as two convolutions pad it: (N, rows, columns, side, side)."""
    radius = side // 2
    padded = np.pad(picture, ((0, 0), (radius, radius), (radius, radius)))
    return np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))


def block(centres, size=20):
    """True on the 3×3 pixels of each mark."""
    rows, columns = np.ogrid[:size, :size]
    near = np.maximum(abs(rows - centres[:, 0, None, None]), abs(columns - centres[:, 1, None, None]))
    return near <= 1


def windows_with_both_marks(a, b):
    touched = [windows(block(centres), RECEPTIVE_FIELD).any(axis=(3, 4)) for centres in (a, b)]
    return (touched[0] & touched[1]).any(axis=(1, 2))


def windows_with_mark_and_padding(a, b):
    mark = windows(block(a) | block(b), RECEPTIVE_FIELD).any(axis=(3, 4))
    outside = ~windows(np.ones((1, 20, 20), dtype=bool), RECEPTIVE_FIELD).all(axis=(3, 4))
    return (mark & outside).any(axis=(1, 2))


def test_receptive_field_of_known_stacks():
    assert receptive_field([]) == 1
    assert receptive_field([(3, 1), (3, 1)]) == RECEPTIVE_FIELD == 5
    assert receptive_field([(7, 2), (3, 2), (3, 1)]) == 1 + 6 + 2 * 2 + 2 * 4
    with pytest.raises(ValueError, match="at least 1, got \\(0, 1\\)"):
        receptive_field([(0, 1)])


def test_receptive_field_equals_the_reach_of_the_gradient():
    layers = [(3, 2), (5, 1), (2, 3)]
    net = nn.Sequential(*(nn.Conv2d(1, 1, kernel, stride) for kernel, stride in layers)).double()
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    picture = torch.zeros(1, 1, 53, 53, dtype=torch.float64, requires_grad=True)
    net(picture)[0, 0, 1, 1].backward()
    assert picture.grad.any(dim=3).sum() == receptive_field(layers)


def test_the_label_is_the_direction_from_a_to_b():
    directions, a, b = place()
    rows, columns = (b - a).T
    along = np.select([directions == 0, directions == 1, directions == 2, directions == 3],
                      [columns, -columns, rows, -rows])  # fmt: skip
    across = np.where(directions < 2, rows, columns)
    assert along.min() == 7
    assert along.max() == 9
    assert across.min() == -2
    assert across.max() == 2
    assert min(a.min(), b.min()) == 5
    assert max(a.max(), b.max()) == 14


def test_no_window_holds_both_marks_and_none_with_a_mark_reaches_the_padding():
    _, a, b = place(6000, **ALLOWED)
    assert not windows_with_both_marks(a, b).any()
    assert not windows_with_mark_and_padding(a, b).any()


def test_the_proof_fails_for_marks_too_near_to_each_other_or_to_the_border():
    _, a, b = place(400, **TOO_NEAR)
    assert windows_with_both_marks(a, b).all()
    _, a, b = place(400, **TOO_FAR_OUT)
    assert windows_with_mark_and_padding(a, b).all()
    # The constants are tight: one pixel less breaks each.
    _, a, b = place(400, distances=(MIN_DISTANCE - 1, MIN_DISTANCE - 1))
    assert windows_with_both_marks(a, b).any()
    _, a, b = place(400, border=BORDER - 1, distances=(11, 11))
    assert windows_with_mark_and_padding(a, b).all()


def pooled_features(seed, **geometry):
    """What two random convolutions and global average pooling give for each direction: (4, 8)."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.GELU(), nn.Conv2d(6, 8, 3, padding=1), nn.GELU()).double()
    directions, a, b = place(4, seed, **geometry)
    assert directions.tolist() == [0, 1, 2, 3]
    pictures = torch.from_numpy(paint_marks(a, b)).double().unsqueeze(1)
    with torch.no_grad(), torch.random.fork_rng():
        return net(pictures).mean(dim=(2, 3))


@pytest.mark.parametrize("seed", range(5))
def test_two_convolutions_and_pooling_cannot_tell_the_directions_apart(seed):
    with torch.random.fork_rng():
        features = pooled_features(seed, **ALLOWED)
    torch.testing.assert_close(features, features[:1].expand(4, -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("geometry", [TOO_NEAR, TOO_FAR_OUT])
@pytest.mark.parametrize("seed", range(5))
def test_they_can_where_the_geometry_is_violated(seed, geometry):
    with torch.random.fork_rng():
        features = pooled_features(seed, **geometry)
    assert (features - features[:1]).abs().max() > 1e-6


def test_pictures_and_labels_of_the_generator_fit_together():
    split = compass(400, seed=4, noise=0)
    assert split.images.shape == (400, 1, 20, 20)
    assert split.images.dtype == torch.uint8
    assert split.labels.dtype == torch.int64
    assert split.labels.bincount().tolist() == [100] * 4
    assert split.images.unique().tolist() == [round(BACKGROUND * 255), round(MARK * 255)]
    # Found by their shapes in the picture itself: + has bright edge centres, × has bright corners.
    bright = (split.images[:, 0] > 150).float()
    plus = torch.tensor([[-1.0, 1, -1], [1, 1, 1], [-1, 1, -1]])
    cross = torch.tensor([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]])
    scores = torch.conv2d(bright[:, None], torch.stack([plus, cross])[:, None])
    assert (scores == 5).sum(dim=(2, 3)).eq(1).all()
    a, b = ((scores[:, k] == 5).nonzero()[:, 1:] for k in range(2))
    rows, columns = (b - a).T
    horizontal = columns.abs() > rows.abs()
    found = torch.where(horizontal, (columns < 0).long(), 2 + (rows < 0).long())
    assert [DIRECTIONS[k] for k in found] == [DIRECTIONS[k] for k in split.labels]


def test_the_noise_is_as_strong_as_said():
    still, noisy = (compass(300, seed=1, noise=noise).images.double() for noise in (0, 0.05))
    difference = noisy[still < 128] - BACKGROUND * 255  # on the background nothing is clipped
    assert abs(difference.mean()) < 0.1
    assert difference.std().item() == pytest.approx(0.05 * 255, rel=0.02)
    default = compass(300, seed=1).images.double()
    assert 0.1 * 255 < (default - still)[still < 128].std() < 0.2 * 255


def test_the_seed_decides_and_global_states_stay():
    state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    first, again, other = compass(50, seed=7), compass(50, seed=7), compass(50, seed=8)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.images, other.images)
    assert not torch.equal(first.labels, other.labels)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(np.array_equal(x, y) for x, y in zip(np.random.get_state(), numpy_state, strict=True))  # noqa: NPY002


def test_other_sizes_and_uneven_counts():
    assert compass(5, seed=0, size=23).images.shape == (5, 1, 23, 23)
    assert sorted(compass(5, seed=0, size=18).labels.bincount(minlength=4).tolist()) == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_images": 0}, "num_images must be an integer of at least 1, got 0"),
        ({"num_images": 2.5}, "num_images .* got 2.5"),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"size": 17}, "size must be an integer of at least 18, got 17"),
        ({"noise": -0.1}, "noise must be .* got -0.1"),
        ({"noise": "much"}, "noise must be .* got 'much'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        compass(**({"num_images": 8, "seed": 0} | arguments))
