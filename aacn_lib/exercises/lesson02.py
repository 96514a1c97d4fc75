"""Exercises of lesson 02: how far a stack of layers sees, and pictures that prove a network blind."""

import math

import torch
from torch import Tensor, nn

from aacn_lib.exercises.grading import Wrong, call, free_exercise, function_exercise, primes

# --- 02.layers_to_cover ---


def layers_to_cover(distance: int, mark_size: int) -> int:
    """The fewest 3×3 layers (stride 1) whose receptive field, 2n + 1 pixels, holds both marks whole."""
    return math.ceil((distance + mark_size - 1) / 2)


def _fewest(reach_of, needed: int) -> int:
    layers = 0
    while reach_of(layers) < needed:
        layers += 1
    return layers


def _draw_distances(generator: torch.Generator) -> list[tuple]:
    odd = [(d, m) for d, m in (primes(generator, 2, 3, 31) for _ in range(3))]
    even = [(d + 1, m) for d, m in (primes(generator, 2, 3, 31) for _ in range(3))]
    return [*odd, *even, (9, 3), (16, 5)]


function_exercise(
    "02.layers_to_cover",
    layers_to_cover,
    _draw_distances,
    mistakes={
        "one layer more than needed: is n = 0 a field of 1 pixel in your count?": lambda d, m: (
            layers_to_cover(d, m) + 1
        ),
        "it counts 3 pixels for each layer: the first layer sees 3, each further one adds only 2": lambda d, m: _fewest(
            lambda n: 3 * n, d + m
        ),
        "the window reaches from centre to centre only: half a mark stands out on each side, so it needs "
        "distance + mark_size pixels": lambda d, m: _fewest(lambda n: 2 * n + 1, d + 1),
        "it needs room for distance + mark_size pixels, not for distance + 2 · mark_size: `distance` is measured "
        "between the centres": lambda d, m: _fewest(lambda n: 2 * n + 1, d + 2 * m),
        "the field after n layers is 2n + 1, not 2n: the pixel in the middle counts too": lambda d, m: _fewest(
            lambda n: 2 * n, d + m
        ),
        "it rounds down: with that many layers the field is a pixel or two too small": lambda d, m: (d + m - 1) // 2,
        "a window that only touches both marks does not hold them whole": lambda d, m: _fewest(
            lambda n: 2 * n + 1, d - m + 2
        ),
        "each layer adds 1 pixel on each side, so 2 to the width, not 1": lambda d, m: d + m - 1,
    },
)


# --- 02.dilated_field ---


def dilated_field(layers: list[tuple[int, int, int]]) -> int:
    """Receptive field of stacked (kernel_size, stride, dilation) convolutions: each adds (k - 1) · dilation · step."""
    size, step = 1, 1
    for kernel_size, stride, dilation in layers:
        size += (kernel_size - 1) * dilation * step
        step *= stride
    return size


def _field(layers: list, added, *, step_first: bool = False, start: int = 1) -> int:
    size, step = start, 1
    for kernel_size, stride, dilation in layers:
        if step_first:
            step *= stride
        size += added(kernel_size, dilation, step)
        if not step_first:
            step *= stride
    return size


def _last_stride_only(layers: list) -> int:
    size, before = 1, 1
    for kernel_size, stride, dilation in layers:
        size += (kernel_size - 1) * dilation * before
        before = stride
    return size


def _step_with_dilation(layers: list) -> int:
    size, step = 1, 1
    for kernel_size, stride, dilation in layers:
        size += (kernel_size - 1) * dilation * step
        step *= stride * dilation
    return size


def _draw_stacks(generator: torch.Generator) -> list[tuple]:
    def draw(high: int, count: int) -> list[int]:
        return torch.randint(0, high, (count,), generator=generator).tolist()

    stacks = [[(3, 1, 2), (5, 2, 3), (3, 2, 1), (3, 1, 3)], [(3, 1, 1), (3, 1, 2), (3, 1, 4)], [(7, 2, 1), (3, 2, 2)]]
    for count in (2, 3, 5):
        kernels, strides, dilations = draw(3, count), draw(3, count), draw(4, count)
        stacks.append([(2 * k + 3, s + 1, d + 1) for k, s, d in zip(kernels, strides, dilations, strict=True)])
    return [(stack,) for stack in stacks]


function_exercise(
    "02.dilated_field",
    dilated_field,
    _draw_stacks,
    mistakes={
        "the dilation is ignored": lambda layers: _field(layers, lambda k, d, step: (k - 1) * step),
        "the stride is ignored: after a stride of 2, one step on the map is two pixels of the picture": lambda layers: (
            _field(layers, lambda k, d, step: (k - 1) * d)
        ),
        "a layer's own stride widens only the layers after it: multiply the step after adding": lambda layers: _field(
            layers, lambda k, d, step: (k - 1) * d * step, step_first=True
        ),
        "the gaps are counted between k weights, so there are k - 1 of them, not k": lambda layers: _field(
            layers, lambda k, d, step: k * d * step
        ),
        "a dilated kernel spans (k - 1) · dilation + 1 pixels, so it adds (k - 1) · dilation, not k · dilation - 1": (
            lambda layers: _field(layers, lambda k, d, step: (k * d - 1) * step)
        ),
        "the dilation lies between neighbouring weights: dilation 1 is an ordinary convolution and leaves no gap": (
            lambda layers: _field(layers, lambda k, d, step: (k - 1) * (d + 1) * step)
        ),
        "it starts from 0: no layer at all sees one pixel": lambda layers: _field(
            layers, lambda k, d, step: (k - 1) * d * step, start=0
        ),
        "the layers' fields are multiplied: each layer adds to the field": lambda layers: math.prod(
            (k - 1) * d + 1 for k, _, d in layers
        ),
        "only the stride of the layer just before is used: the strides of all layers before it multiply": (
            _last_stride_only
        ),
        "the dilation widens its own layer only: the step takes the strides alone": _step_with_dilation,
    },
)


# --- 02.farthest_shared ---


def farthest_shared(window: int, width_a: int, width_b: int) -> int:
    """The largest distance between the centres of two marks (odd widths) of which one window still touches both."""
    return window - 1 + width_a // 2 + width_b // 2


def _draw_windows(generator: torch.Generator) -> list[tuple]:
    odd = [3, 5, 7, 11, 13]
    drawn = []
    for _ in range(4):
        a, b = (odd[i] for i in torch.randperm(len(odd), generator=generator)[:2].tolist())
        drawn.append((int(torch.randint(4, 30, (1,), generator=generator)), a, b))
    return [*drawn, (5, 3, 3), (6, 1, 3)]


function_exercise(
    "02.farthest_shared",
    farthest_shared,
    _draw_windows,
    mistakes={
        "that is the first distance at which no window touches both: the last one at which a window does is 1 less": (
            lambda r, a, b: farthest_shared(r, a, b) + 1
        ),
        "right for odd windows only: a window of r pixels reaches from pixel 0 to pixel r - 1": lambda r, a, b: (
            2 * (r // 2) + a // 2 + b // 2
        ),
        "one too small: a window of r pixels reaches from pixel 0 to pixel r - 1, and a mark still touches it with its "
        "outermost pixel": lambda r, a, b: farthest_shared(r, a, b) - 1,
        "the marks are taken for points: a mark touches the window before its centre does": lambda r, a, b: r - 1,
        "those are marks that lie wholly inside the window: here it is enough that the window touches them": (
            lambda r, a, b: r - 1 - a // 2 - b // 2
        ),
        "whole widths are added: only the half of each mark that faces the window lies between its centre and the "
        "window": lambda r, a, b: r - 2 + a + b,
        "only the half mark of one of the two is added": lambda r, a, b: r - 1 + a // 2,
        "both halves are taken from the first mark: the two widths can differ": lambda r, a, b: r - 1 + 2 * (a // 2),
        "that is how far the window reaches to one side of its centre; the two marks may lie on opposite sides": (
            lambda r, a, b: (r - 1) // 2 + a // 2
        ),
    },
)


# --- 02.blind_pair ---

_GREY, _A, _B = 0.5, 1.0, 2.0


def _blind_network(layers: int, seed: int) -> nn.Module:
    """Random 3×3 convolutions with zero padding and global average pooling, in float64."""
    stack, channels = [], 1
    for _ in range(layers):
        stack += [nn.Conv2d(channels, 7, 3, padding=1), nn.GELU()]
        channels = 7
    net = nn.Sequential(*stack, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 4)).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 7
        with torch.no_grad():
            parameter.copy_(2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / fan_in**0.5)
    return net


def _place(picture: Tensor, value: float, name: str, which: str) -> tuple[int, int]:
    found = (picture == value).nonzero().tolist()
    if len(found) != 1:
        raise Wrong(
            f"the {which} picture holds {len(found)} pixels of value {value:g}, expected exactly one: mark {name}"
        )
    return tuple(found[0])


def _direction(a: tuple[int, int], b: tuple[int, int]) -> str:
    rows, columns = b[0] - a[0], b[1] - a[1]
    if rows and columns:
        return "diagonal"
    return ("right" if columns > 0 else "left") if columns else ("below" if rows > 0 else "above")


@free_exercise("02.blind_pair")
def _(answer: object, generator: torch.Generator) -> None:
    if not callable(answer):
        raise Wrong(f"expected a function, got {type(answer).__name__}: pass the function itself, without calling it")
    for layers in (1, 2, 3, 5):
        window = 2 * layers + 1
        smallest = 3 * window - 1
        for size in (smallest, smallest + primes(generator, 1)[0]):
            pictures = call(answer, size, window)
            _judge_pair(pictures, size, window, layers, generator)


def _judge_pair(pictures: object, size: int, window: int, layers: int, generator: torch.Generator) -> None:
    expected = (2, 1, size, size)
    if not isinstance(pictures, Tensor):
        raise Wrong(f"expected one tensor of shape (2, 1, size, size), got {type(pictures).__name__}")
    if tuple(pictures.shape) != expected:
        raise Wrong(f"for size={size}: got shape {tuple(pictures.shape)}, expected {expected}")
    pictures = pictures.detach().double()
    first, second = pictures[:, 0]
    if torch.equal(first, second):
        raise Wrong("the two pictures are equal: of course the network cannot tell them apart. B must change sides")
    places = [[_place(p, value, name, which) for value, name in ((_A, "A"), (_B, "B"))]
              for p, which in ((first, "first"), (second, "second"))]  # fmt: skip
    for picture, which in ((first, "first"), (second, "second")):
        if (picture == _GREY).sum() != size * size - 2:
            raise Wrong(f"besides the two marks every pixel must be {_GREY:g}; in the {which} picture some are not")
    found = [_direction(*pair) for pair in places]
    if found[0] in ("below", "above") and found[1] in ("below", "above"):
        raise Wrong(
            f"B lies {found[0]} A in the first picture: rows and columns are swapped, it should lie to the right"
        )
    if found == ["left", "right"]:
        raise Wrong("the two pictures are in the wrong order: B lies right of A in the first, left of A in the second")
    if found != ["right", "left"]:
        raise Wrong(
            f"B lies {found[0]} of A in the first and {found[1]} of A in the second picture, expected right and left, "
            "in the row of A"
        )
    for a, b in places:
        _reject_leaks(a, b, size, window)
    # The proof itself: whatever the weights.
    for seed in torch.randint(0, 2**31, (2,), generator=generator).tolist():
        with torch.no_grad():
            one, other = _blind_network(layers, seed)(pictures)
        if not torch.allclose(one, other, rtol=0, atol=1e-9):
            raise Wrong(f"for size={size}, window={window}: a random network gives the two pictures different logits")


def _reject_leaks(a: tuple[int, int], b: tuple[int, int], size: int, window: int) -> None:
    distance = max(abs(a[0] - b[0]), abs(a[1] - b[1]))
    if distance < window:
        raise Wrong(
            f"for size={size}, window={window}: the marks are {distance} pixels apart, so a window of {window} pixels "
            f"holds both of them: they must be at least {window} apart"
        )
    for row, column in (a, b):
        margin = min(row, column, size - 1 - row, size - 1 - column)
        if margin < window - 1:
            where = "window // 2 is not enough: " if margin >= window // 2 else ""
            raise Wrong(
                f"for size={size}, window={window}: a mark lies {margin} pixel(s) from the border; "
                f"{where}the centre of a window that holds the mark is up to window // 2 away, and the window "
                f"reaches window // 2 further: at least window - 1 = {window - 1}"
            )


def blind_pair(size: int, window: int) -> Tensor:
    """Two pictures (2, 1, size, size) with the same windows in other places: A left of B, then B left of A."""
    pictures = torch.full((2, 1, size, size), _GREY)
    near, far = window - 1, 2 * window - 1
    pictures[0, 0, near, near], pictures[0, 0, near, far] = _A, _B
    pictures[1, 0, near, near], pictures[1, 0, near, far] = _B, _A
    return pictures
