"""Checks of lesson 13, the vision transformer: tokens counted, patches cut, the class token, a layer, parameters."""

import dataclasses

import torch
from torch import Tensor

from aacn_lib.exercises.encoder_block import check_block
from aacn_lib.exercises.grading import REGISTRY, Wrong, free_exercise, function_exercise, primes

# --- 13.tokens: tokens and pairs for a picture of 224×224 pixels, patches of 16×16 and of 8×8, a class token

# message → tokens as a function of the patch's side
_TOKEN_MISTAKES = {
    "the class token is missing: it is one token more": lambda patch: (224 // patch) ** 2,
    "that is the number of patches along one side: the patches fill the picture, so square it": (
        lambda patch: 224 // patch
    ),
    "that is the number of patches along one side, and the class token: the patches fill the picture": (
        lambda patch: 1 + 224 // patch
    ),
    "224² was divided by the patch's side: a patch has as many pixels as the square of its side": (
        lambda patch: 224**2 // patch
    ),
    "224² was divided by the patch's side, and the class token added: a patch has as many pixels as the square of its "
    "side": lambda patch: 1 + 224**2 // patch,
    "that is one token a pixel: a whole patch becomes one token": lambda patch: 224**2,
    "that is the number of pixels in one patch": lambda patch: patch**2,
    "the class token was squared too: square the patches along one side, then add one": (
        lambda patch: (1 + 224 // patch) ** 2
    ),
}

# message → pairs as a function of the right number of tokens
_PAIR_MISTAKES = {
    "a token asks itself too, and (a, b) is another pair than (b, a): there are tokens² pairs": lambda n: n * (n - 1),
    "(a, b) and (b, a) are two pairs, as query and key are two roles: nothing is halved": lambda n: n * (n - 1) // 2,
    "(a, b) and (b, a) are two pairs, as query and key are two roles: do not halve": lambda n: n * (n + 1) // 2,
    "the class token is missing in the pairs: it asks and is asked like every token": lambda n: (n - 1) ** 2,
    "the patches' pairs and one more were counted: the class token meets every patch": lambda n: (n - 1) ** 2 + 1,
    "that is the number of tokens again: every token asks every token": lambda n: n,
    "the tokens were doubled: every token asks every token, so square them": lambda n: 2 * n,
}


def _check_tokens(answer: object, generator: torch.Generator) -> None:
    if not isinstance(answer, tuple | list) or len(answer) != 4:
        raise Wrong("expected four numbers: tokens and pairs with patches of 16×16, then of 8×8")
    for name, value in zip(("tokens_16", "pairs_16", "tokens_8", "pairs_8"), answer, strict=True):
        if isinstance(value, bool) or not isinstance(value, int):
            raise Wrong(f"{name}: {value!r} is no whole number to Python: divide with //")
    for patch, (tokens, pairs) in ((16, answer[:2]), (8, answer[2:])):
        n = 1 + (224 // patch) ** 2
        for name, value, right, mistakes, of in (
            (f"tokens_{patch}", tokens, n, _TOKEN_MISTAKES, patch),
            (f"pairs_{patch}", pairs, n * n, _PAIR_MISTAKES, n),
        ):
            if value != right:
                known = (message for message, wrong in mistakes.items() if value == wrong(of))
                raise Wrong(f"{name}: {next(known, f'{value} is not the answer')}")


free_exercise("13.tokens")(_check_tokens)


# --- 13.patchify


def patchify(x: Tensor, patch_size: int) -> Tensor:
    x = x.unflatten(3, (-1, patch_size)).unflatten(2, (-1, patch_size))  # (B, C, rows, P, columns, P)
    return x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def _draw_pictures(generator: torch.Generator) -> list[tuple]:
    cases = []
    for taller in (False, True, False, True):
        B, channels, patch_size, *sides = primes(generator, 5, high=11)
        rows, columns = sorted(sides, reverse=taller)
        size = (B, channels, rows * patch_size, columns * patch_size)
        cases.append((torch.randn(size, generator=generator), patch_size))
    return cases


def _cut(x: Tensor, P: int, order: tuple[int, ...]) -> Tensor:
    """Patches with their six axes (B, C, rows, P, columns, P) in another order."""
    axes = x.unflatten(3, (-1, P)).unflatten(2, (-1, P)).permute(order)
    return axes.flatten(3).flatten(1, 2)


function_exercise(
    "13.patchify",
    patchify,
    _draw_pictures,
    mistakes={
        "that is a bare reshape: in memory a patch's rows lie a whole picture row apart, so the numbers of several "
        "patches were mixed; cut both sides in two and move the axes first": (
            lambda x, p: x.reshape(len(x), (x.shape[2] // p) * (x.shape[3] // p), -1)
        ),
        "the channels come last within a patch: the order is channel, row, column, as in a convolution's weight": (
            lambda x, p: _cut(x, p, (0, 2, 4, 3, 5, 1))
        ),
        "the patches are counted column by column: patch (i, j) stands at place i · columns + j": (
            lambda x, p: _cut(x, p, (0, 4, 2, 1, 3, 5))
        ),
        "each patch is transposed: within a patch, too, it is row before column": (
            lambda x, p: _cut(x, p, (0, 2, 4, 1, 5, 3))
        ),
        "grid and patch are exchanged: neighbouring pixels belong to one patch, so the side is cut into "
        "(patches, patch_size), not into (patch_size, patches)": (
            lambda x, p: (
                x.unflatten(3, (p, -1)).unflatten(2, (p, -1)).permute(0, 3, 5, 1, 2, 4).flatten(3).flatten(1, 2)
            )
        ),
        "the two last axes are exchanged: (B, patches, numbers of a patch) is wanted, a token a row": (
            lambda x, p: patchify(x, p).mT
        ),
        "the patches are still on a grid: (B, rows, columns, …), wanted is one sequence of patches": (
            lambda x, p: patchify(x, p).unflatten(1, (x.shape[2] // p, -1))
        ),
        "each channel became a token of its own: a patch holds all channels of its pixels": (
            lambda x, p: patchify(x.flatten(0, 1)[:, None], p).unflatten(0, x.shape[:2]).flatten(1, 2)
        ),
        "a patch was averaged over its channels: it keeps all its numbers": (
            lambda x, p: patchify(x.mean(1, keepdim=True), p)
        ),
    },
    gradients=True,
)


# --- 13.class_token


def add_token(patches: Tensor, token: Tensor, positions: Tensor) -> Tensor:
    return torch.cat([token.expand(len(patches), 1, -1), patches], dim=1) + positions


def _draw_tokens(generator: torch.Generator) -> list[tuple]:
    cases = []
    for _ in range(4):
        B, N, width = primes(generator, 3)
        sizes = ((B, N, width), (width,), (1 + N, width))
        cases.append(tuple(torch.randn(size, generator=generator) for size in sizes))
    return cases


function_exercise(
    "13.class_token",
    add_token,
    _draw_tokens,
    mistakes={
        "the class token stands at the end: it comes first, and its position is row 0": (
            lambda x, t, p: torch.cat([x, t.expand(len(x), 1, -1)], dim=1) + p
        ),
        "the class token stands at the end, though the positions are in the right places: it comes first": (
            lambda x, t, p: add_token(x, t, p).roll(-1, dims=1)
        ),
        "the class token was added to every patch: it is one more token in the sequence": lambda x, t, p: x + t + p[1:],
        "the class token got no position: row 0 of the positions is its own": (
            lambda x, t, p: torch.cat([t.expand(len(x), 1, -1), x + p[1:]], dim=1)
        ),
        "the positions are missing: they are added to the tokens": (
            lambda x, t, p: torch.cat([t.expand(len(x), 1, -1), x], dim=1)
        ),
        "the positions are shifted by one: row 0 belongs to the class token, row 1 to the first patch": (
            lambda x, t, p: torch.cat([t.expand(len(x), 1, -1), x], dim=1) + p.roll(1, dims=0)
        ),
        "the class token is missing: it comes before the patches": lambda x, t, p: x + p[1:],
        "the positions stand behind the channels: they are added, not concatenated": (
            lambda x, t, p: torch.cat([add_token(x, t, 0 * p), p.expand(len(x), -1, -1)], dim=2)
        ),
        "the positions were multiplied: they are added": (
            lambda x, t, p: torch.cat([t.expand(len(x), 1, -1), x], dim=1) * p
        ),
    },
    gradients=True,
)


# --- 13.encoder_block

free_exercise("13.encoder_block")(check_block)


# --- 13.vit_parameters


def vit_parameters(
    image_size: int, patch_size: int, in_channels: int, num_classes: int, depth: int, width: int, mlp_width: int
) -> int:
    patches = (in_channels * patch_size**2 + 1) * width
    token_and_positions = width + (1 + (image_size // patch_size) ** 2) * width
    norm = 2 * width
    attention = (width + 1) * 3 * width + (width + 1) * width
    mlp = (width + 1) * mlp_width + (mlp_width + 1) * width
    head = (width + 1) * num_classes
    return patches + token_and_positions + depth * (2 * norm + attention + mlp) + norm + head


def _draw_networks(generator: torch.Generator) -> list[tuple]:
    cases = []
    for _ in range(4):
        channels, patch_size, grid, depth, classes, width, mlp_width = primes(generator, 7, low=2, high=23)
        cases.append((grid * patch_size, patch_size, channels, classes, depth, width, mlp_width))
    return cases


def _off_by(change):
    """The mistake that misses the right count by `change` of s, p, c, n, L, D, M in the order of the arguments."""
    return lambda *sizes: vit_parameters(*sizes) + change(*sizes)


function_exercise(
    "13.vit_parameters",
    vit_parameters,
    _draw_networks,
    mistakes={
        "width numbers are missing: the class token, its position, or the bias of the patches' linear map": (
            _off_by(lambda s, p, c, n, L, D, M: -D)
        ),
        "2 · width numbers are missing: the norm before the head, or the class token together with its position": (
            _off_by(lambda s, p, c, n, L, D, M: -2 * D)
        ),
        "the positions are missing: they are learned, a row of width numbers for every token": (
            _off_by(lambda s, p, c, n, L, D, M: -(1 + (s // p) ** 2) * D)
        ),
        "the positions were counted in every layer: they are added once, before the first": (
            _off_by(lambda s, p, c, n, L, D, M: (L - 1) * (1 + (s // p) ** 2) * D)
        ),
        "a side has image_size / patch_size patches, so the picture has the square of that": (
            _off_by(lambda s, p, c, n, L, D, M: (s // p - (s // p) ** 2) * D)
        ),
        "one position a pixel was counted: there is one a patch": (
            _off_by(lambda s, p, c, n, L, D, M: (s**2 - (s // p) ** 2) * D)
        ),
        "a patch has patch_size² pixels: the square is missing": _off_by(
            lambda s, p, c, n, L, D, M: c * (p - p * p) * D
        ),
        "a patch holds all channels of its pixels: in_channels is missing": (
            _off_by(lambda s, p, c, n, L, D, M: (1 - c) * p * p * D)
        ),
        "only one layer was counted: there are depth of them, each with weights of its own": (
            lambda s, p, c, n, L, D, M: vit_parameters(s, p, c, n, 1, D, M)
        ),
        "a layer has two norms, one before attention and one before the MLP": (
            _off_by(lambda s, p, c, n, L, D, M: -2 * D * L)
        ),
        "the norms of the layers are missing: each has a weight and a bias for every channel": (
            _off_by(lambda s, p, c, n, L, D, M: -4 * D * L)
        ),
        "a norm has a bias as well as a weight: 2 · width numbers": (
            _off_by(lambda s, p, c, n, L, D, M: -(2 * L + 1) * D)
        ),
        "q, k and v were counted as one map: they are three of width × width": (
            _off_by(lambda s, p, c, n, L, D, M: -2 * L * (D + 1) * D)
        ),
        "the output projection of attention is missing: width × width and a bias, in every layer": (
            _off_by(lambda s, p, c, n, L, D, M: -L * (D + 1) * D)
        ),
        "the MLP has two linear maps: the one back from mlp_width to width is missing": (
            _off_by(lambda s, p, c, n, L, D, M: -L * (M + 1) * D)
        ),
        "all biases of linear maps are missing: the patches, q, k, v, the projection, the MLP and the head have them": (
            _off_by(lambda s, p, c, n, L, D, M: -D - L * (5 * D + M) - n)
        ),
        "the biases of the layers' linear maps are missing: q, k, v, the projection and the MLP have them": (
            _off_by(lambda s, p, c, n, L, D, M: -L * (5 * D + M))
        ),
        "3 · width · depth numbers are missing: the linear map to q, k and v has a bias in every layer": (
            _off_by(lambda s, p, c, n, L, D, M: -3 * D * L)
        ),
        "width · depth numbers are missing: the output projection of attention and the MLP's map back to width each "
        "have a bias in every layer": _off_by(lambda s, p, c, n, L, D, M: -D * L),
        "mlp_width · depth numbers are missing: the MLP's first linear map has a bias in every layer": (
            _off_by(lambda s, p, c, n, L, D, M: -M * L)
        ),
        "the head is missing: width numbers and a bias for each class": (
            _off_by(lambda s, p, c, n, L, D, M: -(D + 1) * n)
        ),
    },
)

_parameters = REGISTRY["13.vit_parameters"]


def _whole_parameters(answer: object, generator: torch.Generator) -> None:
    """Parameters are counted: 12.0 of them is no count."""
    _parameters.judge(answer, generator)
    result = answer(*_draw_networks(generator)[0])
    if isinstance(result, float):
        raise Wrong(f"the value is right, but {result} is no whole number to Python: divide with //")


REGISTRY["13.vit_parameters"] = dataclasses.replace(_parameters, judge=_whole_parameters)
