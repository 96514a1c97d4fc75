"""The receptive-field explorer: what it tells the page is what gradients say."""

import pytest
import torch
from torch import nn

from aacn_lib import explore_receptive_field
from aacn_lib.data import receptive_field

STACKS = [
    [(3, 1)],
    [(3, 1), (3, 1)],
    [(3, 1), (2, 2), (3, 1)],
    [(5, 2), (3, 3, 1), (1, 1)],
    [(3, 2, 0), (2, 1, 1)],
]


def pictures(H=23, W=19):
    return torch.randint(0, 256, (2, 1, H, W), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def measured(stack, size, row, column):
    """Rows and columns of the picture whose gradient is not 0, and the size of the map."""
    layers = [nn.Conv2d(1, 1, k, s, padding=(*p, (k - 1) // 2)[0], bias=False) for k, s, *p in stack]
    for layer in layers:
        nn.init.ones_(layer.weight)
    x = torch.zeros(1, 1, *size, requires_grad=True)
    y = nn.Sequential(*layers)(x)
    y[0, 0, row, column].backward()
    seen = x.grad[0, 0] != 0
    return seen.any(1).nonzero().flatten().tolist(), seen.any(0).nonzero().flatten().tolist(), list(y.shape[2:])


@pytest.mark.parametrize("stack", STACKS, ids=str)
def test_fields_are_those_of_the_gradient(stack):
    images = pictures()
    size = tuple(images.shape[2:])
    layer = explore_receptive_field(images, stack).data["layers"][-1]
    assert layer["field"] == receptive_field([pair[:2] for pair in stack])
    for row, column in ((0, 0), (layer["size"][0] // 2, layer["size"][1] // 2), tuple(n - 1 for n in layer["size"])):
        rows, columns, map_size = measured(stack, size, row, column)
        assert layer["size"] == map_size
        for found, place, count in ((rows, row, size[0]), (columns, column, size[1])):
            first = layer["start"] + layer["step"] * place
            assert found == [n for n in range(first, first + layer["field"]) if 0 <= n < count]


def test_it_has_a_still_picture_and_the_same_text_each_time():
    first, second = (explore_receptive_field(pictures(), [(3, 1)], labels=["a", "<b>"]) for _ in range(2))
    assert first.to_html() == second.to_html()
    assert "<b>" not in first.to_html()
    assert first.png.startswith(b"\x89PNG")
    assert first.size_bytes < 60_000


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((torch.zeros(1, 1, 5, 5), [(3, 1)]), {}, "images: expected uint8"),
        ((torch.zeros(1, 2, 5, 5, dtype=torch.uint8), [(3, 1)]), {}, "C 1 or 3, got 'torch.uint8"),
        ((torch.zeros(1, 1, 5, 5, dtype=torch.uint8), []), {}, "layers: expected at least one"),
        ((torch.zeros(1, 1, 5, 5, dtype=torch.uint8), [(3,)]), {}, r"expected \(kernel size, stride\)"),
        ((torch.zeros(1, 1, 5, 5, dtype=torch.uint8), [(3, 0)]), {}, r"got \(3, 0\)"),
        ((torch.zeros(1, 1, 5, 5, dtype=torch.uint8), [(7, 1, 0)]), {}, "at least one output, got .*after layer 1"),
        ((torch.zeros(1, 1, 5, 5, dtype=torch.uint8), [(3, 1)]), {"labels": ["a", "b"]}, "labels: expected 1 names"),
    ],
)
def test_wrong_arguments_are_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        explore_receptive_field(*arguments, **options)


def test_it_is_no_widget():
    with pytest.raises(ValueError, match=r"widget: .*made by explore\(\) or explore_tables\(\), got 'Receptive field"):
        explore_receptive_field(pictures(), [(3, 1)]).widget()
