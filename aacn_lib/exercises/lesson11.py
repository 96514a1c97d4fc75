"""Checks of lesson 11, looking inside: mean distance, effective places, the share of position, heads, their removal."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from aacn_lib.exercises.compare import difference
from aacn_lib.exercises.grading import Wrong, call, free_exercise, function_exercise, primes
from aacn_lib.exercises.letters import judge_letters
from aacn_lib.exercises.mystery_heads import BEHAVIOUR, KINDS
from aacn_lib.layers import AAConv2d

# --- 11.mean_distance


def _places(height: int, width: int) -> Tensor:
    """(HW, 2): row and column of each place, in row-major order."""
    return torch.cartesian_prod(torch.arange(height), torch.arange(width)).float()


def mean_distance(weights: Tensor, height: int, width: int) -> Tensor:
    places = _places(height, width)
    return (weights * torch.cdist(places, places)).sum(dim=-1).mean(dim=-1)


def _weights(generator: torch.Generator, heads: int, N: int) -> Tensor:
    return (2 * torch.randn(heads, N, N, generator=generator)).softmax(dim=-1)


def _draw_maps(generator: torch.Generator) -> list[tuple]:
    cases = []
    for _ in range(4):
        heads, H, W = primes(generator, 3, low=2, high=7)
        cases.append((_weights(generator, heads, H * W), H, W))
    return cases


def _measured(distance: Callable) -> Callable:
    """The mean distance with another distance between places (HW, 2)."""
    return lambda w, H, W: (w * distance(_places(H, W))).sum(dim=-1).mean(dim=-1)


def _city(places: Tensor) -> Tensor:
    return (places[:, None] - places).abs().sum(dim=-1)


function_exercise(
    "11.mean_distance",
    mean_distance,
    _draw_maps,
    mistakes={
        "rows and columns were added: the distance goes straight, √(rows² + columns²)": _measured(_city),
        "the distance was squared: take the root before weighing": _measured(lambda p: torch.cdist(p, p) ** 2),
        "height and width are exchanged: place n lies in row n // width, column n % width": (
            lambda w, H, W: mean_distance(w, W, H)
        ),
        "that is the largest distance of the map: weigh each distance by its attention": _measured(
            lambda p: torch.cdist(p, p).max()
        ),
        "that is the mean of the distances themselves: weigh each by its attention": (
            lambda w, H, W: torch.cdist(_places(H, W), _places(H, W)).mean().expand(len(w))
        ),
        "the distances of all queries were added: take the mean over queries": (
            lambda w, H, W: H * W * mean_distance(w, H, W)
        ),
        "the products were averaged over keys: a query's weights sum to 1 already, so sum over keys": (
            lambda w, H, W: mean_distance(w, H, W) / (H * W)
        ),
        "that is one distance a query: take the mean over queries": (
            lambda w, H, W: (w * torch.cdist(_places(H, W), _places(H, W))).sum(dim=-1)
        ),
        "that is in pixels of a picture of 32×32: here the distance counts cells, do not multiply by 32 / height": (
            lambda w, H, W: mean_distance(w, H, W) * 32 / H
        ),
        "one number for all heads was returned: each head has its own, (heads,)": (
            lambda w, H, W: mean_distance(w, H, W).mean()
        ),
    },
)


# --- 11.effective_places


def effective_places(weights: Tensor) -> Tensor:
    return 2 ** -torch.xlogy(weights, weights).div(torch.log(torch.tensor(2.0))).sum(dim=-1)


def _draw_rows(generator: torch.Generator) -> list[tuple]:
    """Maps with and without zeros; the last spreads over half of its places, the rest is exactly zero."""
    cases = []
    for number in range(5):
        heads, N = primes(generator, 2, low=5, high=23)
        weights = _weights(generator, heads, N)
        if number > 1:
            kept = torch.rand(weights.shape, generator=generator) > 0.4
            kept[..., 0] = True
            weights = weights * kept
            weights = weights / weights.sum(dim=-1, keepdim=True)
        cases.append((weights,))
    return cases


function_exercise(
    "11.effective_places",
    effective_places,
    _draw_rows,
    mistakes={
        "a weight of zero gives 0 · log 0, which is nan: clamp the weights inside the logarithm": (
            lambda w: 2 ** -(w * w.log2()).sum(dim=-1)
        ),
        "that is the entropy: the effective number is 2 to the power of it": (
            lambda w: effective_places(w).log2()  # in bits
        ),
        "that is the entropy (with the natural logarithm): the effective number is e to the power of it": (
            lambda w: effective_places(w).log()
        ),
        "the natural logarithm goes with e, log2 goes with 2": lambda w: 2 ** effective_places(w).log(),
        "the sign is missing: the entropy is minus the sum": lambda w: 1 / effective_places(w),
        "that is 1 / Σ w²: another measure of the same kind; here 2 to the power of the entropy is asked for": (
            lambda w: 1 / (w**2).sum(dim=-1)
        ),
        "places with a weight above zero were counted, whatever the weight": lambda w: (w > 0).float().sum(dim=-1),
        "the mean over queries was taken: return one number a query": lambda w: effective_places(w).mean(dim=-1),
        "it was divided by N: that is a share of the map; return the number of places": (
            lambda w: effective_places(w) / w.shape[-1]
        ),
        "the sum runs over queries (dim=-2): each query has its own entropy, a sum over its keys": (
            lambda w: effective_places(w.transpose(-2, -1))
        ),
    },
    tolerance=1e-4,
)


# --- 11.position_share


def position_share(content: Tensor, position: Tensor) -> Tensor:
    position = position - position.mean(dim=-1, keepdim=True)
    total = content - content.mean(dim=-1, keepdim=True) + position
    return (position * total).mean(dim=(-2, -1)) / (total**2).mean(dim=(-2, -1))


def _draw_logits(generator: torch.Generator) -> list[tuple]:
    """Parts that are correlated, with means that differ from query to query."""
    cases = []
    for _ in range(4):
        heads, N = primes(generator, 2, low=3, high=13)
        common, content, position = torch.randn(3, heads, N, N, generator=generator)
        content = content + common + 2 * torch.randn(heads, N, 1, generator=generator)
        position = 0.7 * position + 0.6 * common + 2 * torch.randn(heads, N, 1, generator=generator)
        cases.append((content, position))
    return cases


def _centred(x: Tensor, dim: int | tuple = -1) -> Tensor:
    return x - x.mean(dim=dim, keepdim=True)


def _mean(x: Tensor) -> Tensor:
    return x.mean(dim=(-2, -1))


def _share_centred_by(centre: Callable) -> Callable:
    return lambda c, p: _mean(centre(p) * (centre(c) + centre(p))) / _mean((centre(c) + centre(p)) ** 2)


function_exercise(
    "11.position_share",
    position_share,
    _draw_logits,
    mistakes={
        "that is the share of the content": lambda c, p: position_share(p, c),
        "the logits of a query were not centred: take their mean over keys off first": _share_centred_by(lambda x: x),
        "the mean was taken over queries: softmax ignores what is the same for all keys, so centre over keys": (
            _share_centred_by(lambda x: _centred(x, -2))
        ),
        "one mean was taken off the whole map: each query has its own, over its keys": (
            _share_centred_by(lambda x: _centred(x, (-2, -1)))
        ),
        "one mean was taken off all heads together: each query of each head has its own, over its keys": (
            _share_centred_by(lambda x: _centred(x, (-3, -2, -1)))
        ),
        "the covariance is missing: divided by the variance of the sum, the two shares must add up to 1": (
            lambda c, p: _mean(_centred(p) ** 2) / _mean(_centred(c + p) ** 2)
        ),
        "the variances of the parts do not add up to that of the sum: the covariance is missing": (
            lambda c, p: _mean(_centred(p) ** 2) / (_mean(_centred(p) ** 2) + _mean(_centred(c) ** 2))
        ),
        "the shares of single queries were averaged: average numerator and denominator over queries, then divide": (
            lambda c, p: ((_centred(p) * _centred(c + p)).mean(dim=-1) / (_centred(c + p) ** 2).mean(dim=-1)).mean(
                dim=-1
            )
        ),
    },
    tolerance=1e-4,
)


# --- 11.which_head

_TESTS = (
    ("give it two different pictures: its map", "changes", "does not change"),
    ("compare two rows of its map, two queries: they", "differ", "are the same"),
    ("shuffle the pixels of the picture: its map", "is shuffled along", "is not shuffled along"),
)


@free_exercise("11.which_head")
def _check_which_head(answer: object, generator: torch.Generator) -> None:
    judge_letters("kind_of", answer, KINDS, _judge_kind)


def _judge_kind(letter: str, said: object) -> None:
    if said not in BEHAVIOUR:
        raise Wrong(f"{letter!r}: expected one of {list(BEHAVIOUR)}, got {said!r}")
    for (test, yes, no), shows, would_show in zip(_TESTS, BEHAVIOUR[KINDS[letter]], BEHAVIOUR[said], strict=True):
        if shows != would_show:
            raise Wrong(f"{letter!r} is not {said!r}: {test} {yes if shows else no}")


# --- 11.without_head


def _without(layer: AAConv2d, head: int, average: Tensor, *, among: Callable | None = None) -> nn.Module:
    """A copy of the layer whose head brings `average`; `among` chooses other channels for a named mistake."""
    edited = copy.deepcopy(layer)
    weight = layer.output.weight.detach().clone()  # (d_v, d_v, 1, 1)
    channels = torch.arange(layer.depth_v).view(layer.num_heads, -1)[head] if among is None else among(layer, head)
    bias = torch.zeros(layer.depth_v) if layer.output.bias is None else layer.output.bias.detach().clone()
    bias = bias + weight[:, channels, 0, 0] @ average
    weight[:, channels] = 0
    edited.output = nn.Conv2d(layer.depth_v, layer.depth_v, 1)
    edited.output.weight, edited.output.bias = nn.Parameter(weight), nn.Parameter(bias)
    return edited


def _component_major(layer: AAConv2d, head: int) -> Tensor:
    return torch.arange(layer.depth_v)[head :: layer.num_heads]


def _other_head(layer: AAConv2d, head: int) -> Tensor:
    return torch.arange(layer.depth_v).view(layer.num_heads, -1)[head - 1]


def _rows_zeroed(layer: AAConv2d, head: int, average: Tensor) -> nn.Module:
    """Rows in place of columns: the output's channels of that number are made constant."""
    edited, d = copy.deepcopy(layer), layer.depth_v // layer.num_heads
    edited.output = nn.Conv2d(layer.depth_v, layer.depth_v, 1)
    with torch.no_grad():
        edited.output.weight.copy_(layer.output.weight)
        edited.output.bias.copy_(torch.zeros(layer.depth_v) if layer.output.bias is None else layer.output.bias)
        edited.output.weight[head * d : (head + 1) * d] = 0
        edited.output.bias[head * d : (head + 1) * d] = average
    return edited


def _bias_lost(layer: AAConv2d, head: int, average: Tensor) -> nn.Module:
    edited = _without(layer, head, average)
    with torch.no_grad():
        edited.output.bias -= 0 if layer.output.bias is None else layer.output.bias
    return edited


def _bias_zero(layer: AAConv2d, head: int, average: Tensor) -> nn.Module:
    edited = _without(layer, head, average)
    with torch.no_grad():
        edited.output.bias.zero_()
    return edited


_WRONG_COPIES = {
    "the new bias is zero: the bias of `output`, where there is one, and W · average belong into it": _bias_zero,
    "the head brings zeros instead of its average: what W · average adds must go into the bias": (
        lambda layer, head, average: _without(layer, head, torch.zeros_like(average))
    ),
    "the bias of `output` was lost: add W · average to it": _bias_lost,
    "these are channels of all heads: head h has the d channels from h · d on (d = depth_v / num_heads)": (
        lambda layer, head, average: _without(layer, head, average, among=_component_major)
    ),
    "that is the head before it: heads are numbered from 0": (
        lambda layer, head, average: _without(layer, head, average, among=_other_head)
    ),
    "rows of the weight are output channels; what a head brings comes in by its columns, weight[:, channels]": (
        _rows_zeroed
    ),
}


@free_exercise("11.without_head")
@torch.no_grad()
def _check_without_head(answer: object, generator: torch.Generator) -> None:
    cases = [_draw_layer(generator, bias) for bias in (False, True, False, True)]
    before = [(layer(x), copy.deepcopy(layer.state_dict())) for layer, _, _, x in cases]
    edited = [_call_module(answer, *given) for *given, _ in cases]
    for (layer, *_, x), (outputs, state) in zip(cases, before, strict=True):
        same = all(state[name].equal(tensor) for name, tensor in layer.state_dict().items())
        if not same or len(state) != len(layer.state_dict()) or not layer(x).equal(outputs):
            raise Wrong("the layer that was given has changed: work on copy.deepcopy(layer)")
    got = [module(case[-1]) for module, case in zip(edited, cases, strict=True)]
    right = [_without(*given)(x) for *given, x in cases]
    for message, mistake in _WRONG_COPIES.items():
        wrong = [mistake(*given)(x) for *given, x in cases]
        telling = [_far(a, b) for a, b in zip(wrong, right, strict=True)]
        if any(telling) and not any(_far(a, b) for a, b in zip(got, wrong, strict=True)):
            raise Wrong(message)
    for (layer, head, _, x), out, expected in zip(cases, got, right, strict=True):
        complaint = difference(out, expected, 1e-4)
        if complaint:
            words = f"{layer.num_heads} heads, {layer.depth_v} value channels, {tuple(x.shape)} in, head {head} removed"
            raise Wrong(f"for a layer with {words}: {complaint}")
    for module in edited:
        if any(part._forward_hooks or part._forward_pre_hooks for part in module.modules()):
            raise Wrong("the outputs are right, but a hook makes them: a saved state would lose it. Edit the weights")


def _call_module(answer: object, *given: object) -> nn.Module:
    if not callable(answer):
        raise Wrong(f"expected the function without_head(layer, head, average) itself, got {type(answer).__name__}")
    module = call(answer, *given)
    if not isinstance(module, nn.Module):
        raise Wrong(f"expected a layer, got {type(module).__name__}")
    return module


def _draw_layer(generator: torch.Generator, bias: bool) -> tuple[AAConv2d, int, Tensor, Tensor]:
    """A layer, the head to remove (not the first, so that numbering matters), its average, and an input."""
    heads, d = primes(generator, 2, low=2, high=5)
    H, W, channels = primes(generator, 3, low=3, high=7)
    layer = AAConv2d(
        channels,
        heads * d + 3,
        depth_k=2 * heads,
        depth_v=heads * d,
        num_heads=heads,
        feature_size=(H, W),
        bias=bias,
    ).eval()
    head = 1 + torch.randint(heads - 1, (), generator=generator).item()
    average = 1 + torch.randn(d, generator=generator)
    return layer, head, average, torch.randn(2, channels, H, W, generator=generator)


def _far(a: object, b: Tensor) -> bool:
    return difference(a, b, 1e-4, dtype=False) is not None
