import math

import pytest
import torch

from aacn_lib.augment import apply_mixing, draw_mixing

N, C, H, W = 64, 3, 11, 17


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def take(drawn, rows):
    return {name: value[rows] for name, value in drawn.items()}


@pytest.fixture
def images():
    return torch.rand(N, C, H, W)


def test_mixup_weighs_each_picture_by_its_own_share(images):
    drawn = draw_mixing(0.3, 0.0, N, (H, W), generator())
    assert sorted(drawn["partner"].tolist()) == list(range(N))
    assert len(drawn["share"].unique()) > 50
    assert not drawn["box"].any()
    partners = images[drawn["partner"]]
    mixed, share = apply_mixing(images, partners, drawn)
    assert torch.equal(share, drawn["share"])
    for n in range(N):
        torch.testing.assert_close(mixed[n], share[n] * images[n] + (1 - share[n]) * partners[n])


def test_cutmix_pastes_a_box_and_the_share_is_its_true_area(images):
    drawn = draw_mixing(0.0, 1.0, N, (H, W), generator())
    assert drawn["box"].shape == (N, 4)
    assert len(drawn["box"].unique(dim=0)) > 50
    partners = images[drawn["partner"]]
    mixed, share = apply_mixing(images, partners, drawn)
    assert mixed.dtype == images.dtype
    for n, (top, left, bottom, right) in enumerate(drawn["box"].tolist()):
        assert 0 <= top <= bottom <= H
        assert 0 <= left <= right <= W
        expected, own = images[n].clone(), torch.ones(H, W)
        expected[:, top:bottom, left:right] = partners[n, :, top:bottom, left:right]
        own[top:bottom, left:right] = 0
        assert torch.equal(mixed[n], expected)
        assert share[n] == pytest.approx(own.mean().item(), abs=1e-6)


def test_a_box_that_the_border_does_not_cut_has_the_proportions_of_the_picture_and_the_area_of_the_draw():
    side = (1000, 2000)
    drawn = draw_mixing(0.0, 1.0, 4000, side, generator())
    top, left, bottom, right = drawn["box"].unbind(1)
    whole = (top > 0) & (left > 0) & (bottom < side[0]) & (right < side[1])
    heights, widths = (bottom - top)[whole], (right - left)[whole]
    assert len(heights) > 500
    assert (widths - 2 * heights).abs().max() <= 2  # each half is cut off to whole pixels
    # λ uniform means 1 - λ uniform: before the border cuts, sides of √(1 - λ) and areas below a are a share a of all.
    # A box is cut unless its centre is in the inner (1 - √(1 - λ))² of the picture, 1/6 of the cases: ∫ (1 - √u)² du.
    assert abs(whole.float().mean().item() - 1 / 6) < 0.03


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_have_the_moments_of_the_beta_distribution(alpha):
    share = draw_mixing(alpha, 0.0, 20_000, (H, W), generator())["share"]
    assert share.dtype == torch.float32
    assert share.min() >= 0
    assert share.max() <= 1
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(share.mean().item() - 0.5) < 5 * math.sqrt(variance / 20_000)
    assert share.var().item() == pytest.approx(variance, rel=0.05)


def test_with_both_a_fair_coin_decides_for_each_picture(images):
    drawn = draw_mixing(0.4, 1.0, 4000, (H, W), generator())
    top, left, bottom, right = drawn["box"].unbind(1)
    boxed = ((bottom - top) * (right - left)) > 0
    empty = (drawn["share"] == 1.0) & ~boxed  # a CutMix box of less than a pixel
    assert abs((boxed | empty).float().mean().item() - 0.5) < 0.04
    both = take(drawn, torch.arange(N))
    partners = images.flip(0)
    mixed, share = apply_mixing(images, partners, both)
    for n in range(N):
        if boxed[n]:
            kept = (mixed[n] == images[n]).all(0).float().mean().item()
            assert kept == pytest.approx(share[n].item(), abs=1e-6)
        else:
            torch.testing.assert_close(mixed[n], share[n] * images[n] + (1 - share[n]) * partners[n])


def test_nothing_to_mix(images):
    drawn = draw_mixing(0.0, 0.0, N, (H, W), generator())
    mixed, share = apply_mixing(images, images.flip(0), drawn)
    assert torch.equal(mixed, images)
    assert torch.equal(share, torch.ones(N))


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_draws_repeat_rows_can_be_taken_and_no_global_state_moves(images, mixup, cutmix):
    import numpy as np

    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second, other = (draw_mixing(mixup, cutmix, N, (H, W), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    for name, value in first.items():
        assert len(value) == N
        assert torch.equal(value, second[name])
    assert not torch.equal(first["share"], other["share"])
    before = images.clone()
    partners = images[first["partner"]]
    mixed, share = apply_mixing(images, partners, first)
    assert torch.equal(images, before)
    rows = torch.tensor([41, 5, 8])
    part, part_share = apply_mixing(images[rows], images[first["partner"][rows]], take(first, rows))
    assert torch.equal(part, mixed[rows])
    assert torch.equal(part_share, share[rows])


def test_boxes_are_as_large_as_torchvisions():
    functions = pytest.importorskip("torchvision.transforms.v2")
    transform = functions.CutMix(alpha=1.0, num_classes=2)
    # It draws one box a call. The areas must be distributed as ours.
    images = torch.zeros(1, 1, H, W)
    areas = torch.tensor([1 - transform.make_params([images])["lam_adjusted"] for _ in range(3000)])
    ours = 1 - draw_mixing(0.0, 1.0, 30_000, (H, W), generator())["share"]
    assert ours.mean().item() == pytest.approx(areas.mean().item(), abs=0.02)
    for quantile in (0.25, 0.5, 0.75):
        theirs = areas.quantile(quantile).item()
        assert ours.quantile(quantile).item() == pytest.approx(theirs, abs=0.03)


@pytest.mark.parametrize("value", [-0.1, True, "1", float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_bad_parameters_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name}: expected a number of at least 0, got "):
        draw_mixing(**({"mixup": 0.0, "cutmix": 0.0} | {name: value}), count=N, size=(H, W))


def test_what_does_not_fit_together_is_named(images):
    drawn = draw_mixing(0.2, 0.0, N, (H, W))
    with pytest.raises(ValueError, match=r"floating point, got torch\.uint8"):
        apply_mixing(images.to(torch.uint8), images, drawn)
    with pytest.raises(ValueError, match=r"partners: expected the shape of images, \(64, 3, 11, 17\), got \(63,"):
        apply_mixing(images, images[1:], drawn)
    with pytest.raises(ValueError, match="expected 63 rows, one a picture, got 64"):
        apply_mixing(images[1:], images[1:], drawn)
    with pytest.raises(ValueError, match="expected shape"):
        apply_mixing(images[0], images[0], drawn)
    with pytest.raises(ValueError, match=r"torch\.Generator or None, got 3"):
        draw_mixing(0.2, 0.0, N, (H, W), 3)
