import math

import pytest
import torch

from aacn_lib.augment import OPERATIONS
from aacn_lib.augment.policy import SIGNED, apply_policy, draw_policy, policy_strengths

functional = pytest.importorskip("torchvision.transforms.v2.functional")
torchvision_policies = pytest.importorskip("torchvision.transforms")

POLICIES = ["trivial_augment_wide", "rand_augment"]
H, W = 17, 23  # odd: after a quarter turn pixels lie on pixels, and not halfway between two


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def by_torchvision(image, name, strength):
    """One operation on one picture, as torchvision's policies call their functions."""

    def affine(translate=(0, 0), shear=(0.0, 0.0), center=None):
        return functional.affine(image, 0.0, list(translate), 1.0, list(shear), center=center)

    slope = math.degrees(math.atan(strength))
    return {
        "Identity": lambda: image,
        "ShearX": lambda: affine(shear=(slope, 0.0), center=[0, 0]),
        "ShearY": lambda: affine(shear=(0.0, slope), center=[0, 0]),
        "TranslateX": lambda: affine(translate=(int(strength), 0)),
        "TranslateY": lambda: affine(translate=(0, int(strength))),
        "Rotate": lambda: functional.rotate(image, strength),
        "Brightness": lambda: functional.adjust_brightness(image, 1 + strength),
        "Color": lambda: functional.adjust_saturation(image, 1 + strength),
        "Contrast": lambda: functional.adjust_contrast(image, 1 + strength),
        "Sharpness": lambda: functional.adjust_sharpness(image, 1 + strength),
        "Posterize": lambda: functional.posterize(image, int(strength)),
        "Solarize": lambda: functional.solarize(image, strength),
        "AutoContrast": lambda: functional.autocontrast(image),
        "Equalize": lambda: functional.equalize(image),
    }[name]()


def every_operation(policy):
    """Each operation at each strength of the policy, in both directions: (count, 1) and (count, 1)."""
    table = policy_strengths(policy, H, W)
    rows = [
        (number, sign * strength)
        for number, name in enumerate(OPERATIONS)
        for strength in table[number].unique().tolist()
        for sign in ((1, -1) if name in SIGNED else (1,))
    ]
    operation, strength = zip(*rows, strict=True)
    return torch.tensor(operation)[:, None], torch.tensor(strength)[:, None]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("C", [1, 3])
def test_every_operation_equals_torchvisions(policy, C):
    operation, strength = every_operation(policy)
    assert len(operation) > 400
    images = torch.randint(40, 240, (len(operation), C, H, W), dtype=torch.uint8)
    before = images.clone()
    results = apply_policy(images, operation, strength)
    assert torch.equal(images, before)
    differing = {name: [] for name in OPERATIONS}
    for image, result, number, value in zip(images, results, operation[:, 0], strength[:, 0].tolist(), strict=True):
        expected = by_torchvision(image, OPERATIONS[number], value)
        differing[OPERATIONS[number]].append((result.int() - expected.int()).abs())
    for name, differences in differing.items():
        difference = torch.stack(differences)
        share = (difference > 0).float().mean((1, 2, 3))  # of the pixels, for each strength
        if name in ("Brightness", "Color", "Contrast", "Sharpness"):
            # Results are cut off to whole numbers. With a factor such as 1.3 many are whole but for rounding, and
            # torchvision's fused multiply-add may fall on the other side.
            assert difference.max() <= 1, name
            assert share.max() < 0.15, name
        elif name in ("ShearX", "ShearY", "Rotate"):
            # A place halfway between two pixels (0.04 times the row 12.5) is rounded to either of them.
            assert share.max() < 0.05, name
            assert share.mean() < 0.005, name
        else:
            assert share.max() == 0, name


@pytest.mark.parametrize("policy", POLICIES)
def test_operations_and_strengths_are_torchvisions(policy):
    if policy == "trivial_augment_wide":
        theirs = torchvision_policies.TrivialAugmentWide()._augmentation_space(31)
    else:
        theirs = torchvision_policies.RandAugment()._augmentation_space(31, (H, W))
    assert list(theirs) == list(OPERATIONS)
    for ours, (name, (strengths, signed)) in zip(policy_strengths(policy, H, W), theirs.items(), strict=True):
        assert torch.equal(ours, strengths.float().expand(31)), name
        assert signed == (name in SIGNED), name


def test_trivial_augment_draws_each_operation_strength_and_direction_equally():
    count = 28_000
    operation, strength = draw_policy("trivial_augment_wide", 2, 9, count, H, W, generator())
    assert operation.shape == strength.shape == (count, 1)
    share = count / len(OPERATIONS)
    assert (operation[:, 0].bincount(minlength=len(OPERATIONS)) - share).abs().max() < 5 * share**0.5
    table = policy_strengths("trivial_augment_wide", H, W)
    for number, name in enumerate(OPERATIONS):
        drawn = strength[operation == number]
        assert set(drawn.abs().tolist()) == set(table[number].tolist()), name
        negative = (drawn[drawn != 0] < 0).float().mean().item() if (drawn != 0).any() else 0.0
        assert abs(negative - (0.5 if name in SIGNED else 0)) < 0.06, name


def test_rand_augment_draws_so_many_operations_of_one_magnitude():
    operation, strength = draw_policy("rand_augment", 3, 7, 2000, H, W, generator())
    assert operation.shape == strength.shape == (2000, 3)
    assert torch.equal(strength.abs(), policy_strengths("rand_augment", H, W)[:, 7][operation])
    assert (operation[:, 0] == operation[:, 1]).float().mean() < 0.12  # drawn independently: 1 in 14
    shears = strength[operation == OPERATIONS.index("ShearX")]
    assert (shears < 0).any()
    assert (shears > 0).any()


def test_translations_of_rand_augment_grow_with_the_side_they_go_along():
    table = policy_strengths("rand_augment", 331, 662)
    assert table[OPERATIONS.index("TranslateX"), -1] == pytest.approx(300)
    assert table[OPERATIONS.index("TranslateY"), -1] == pytest.approx(150)


def test_operations_follow_one_another():
    names = [("Rotate", 20.0), ("Posterize", 3.0), ("ShearX", -0.5)]
    operation = torch.tensor([[OPERATIONS.index(name) for name, _ in names]])
    strength = torch.tensor([[value for _, value in names]])
    image = torch.randint(256, (3, H, W), dtype=torch.uint8)
    expected = image
    for name, value in names:
        expected = by_torchvision(expected, name, value)
    assert torch.equal(apply_policy(image[None], operation, strength)[0], expected)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_generator_repeats_and_equal_pictures_come_out_different(policy):
    images = torch.randint(256, (1, 3, H, W), dtype=torch.uint8).expand(64, -1, -1, -1)
    first, second, third = (draw_policy(policy, 2, 9, 64, H, W, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], third[0])
    assert len(apply_policy(images, *first).unique(dim=0)) > 20
    # Any rows of a batch, in any order, come out as they do in the whole batch.
    rows = torch.tensor([40, 3, 17])
    part = apply_policy(images[rows], first[0][rows], first[1][rows])
    assert torch.equal(part, apply_policy(images, *first)[rows])


def test_an_empty_batch():
    operation, strength = draw_policy("rand_augment", 2, 9, 0, H, W, generator())
    assert apply_policy(torch.zeros(0, 3, H, W, dtype=torch.uint8), operation, strength).shape == (0, 3, H, W)
