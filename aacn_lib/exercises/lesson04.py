"""Checks of lesson 04, relative positions: index, tables, the logits of a row and of an image, a trained layer."""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacn_lib.exercises.grading import REGISTRY, NotAttempted, Wrong, call, free_exercise, function_exercise, primes
from aacn_lib.ops import axis_logits, relative_index, relative_logits_definition

# --- 04.relative_index


def _distances(size: int) -> Tensor:
    return relative_index(size) - (size - 1)


function_exercise(
    "04.relative_index",
    relative_index,
    lambda generator: [(size,) for size in (*primes(generator, 4), 1)],
    mistakes={
        "these are the distances, not the rows: a negative index raises no error, it silently counts from the end of "
        "the table; add size - 1": _distances,
        "the offset is reversed: this is query - key, a mirror image; queries are rows, keys are columns, and "
        "the entry counts from key - query": lambda size: relative_index(size).T,
        "every entry is one too large: rows 1 to 2·size - 1, but a table of 2·size - 1 rows ends at row 2·size - 2; "
        "distance 0 belongs to row size - 1": lambda size: relative_index(size) + 1,
        "left and right share a row: the absolute value forgets the direction, and a table that cannot tell them "
        "apart has only `size` different vectors": lambda size: _distances(size).abs(),
        "negative distances were cut off at 0: every key to the left uses the same row; shift by size - 1 instead "
        "of clamping": lambda size: _distances(size).clamp(min=0),
    },
)


# --- 04.position_parameters


def position_parameters(height: int, width: int, num_heads: int, depth_k: int) -> int:
    return (2 * height - 1 + 2 * width - 1) * (depth_k // num_heads)


def _draw_counts(generator: torch.Generator) -> list[tuple]:
    cases = []
    for _ in range(4):
        height, width, num_heads, depth = primes(generator, 4)
        cases.append((height, width, num_heads, num_heads * depth))
    return cases


function_exercise(
    "04.position_parameters",
    position_parameters,
    _draw_counts,
    mistakes={
        "that is one pair of tables for every head: all heads of a layer share one pair, and its vectors are as long "
        "as the query of one head": lambda h, w, n, d: (2 * h + 2 * w - 2) * d,
        "that counts tables of 2·H and 2·W rows: distance 0 was counted twice, once going left and once going right": (
            lambda h, w, n, d: 2 * (h + w) * (d // n)
        ),
        "only one of the two -1 is there: each of the two tables has a distance 0": (
            lambda h, w, n, d: (2 * (h + w) - 1) * (d // n)
        ),
        "that is one joint table with a vector for every pair (vertical, horizontal) of distances: here each axis has "
        "its own table": lambda h, w, n, d: (2 * h - 1) * (2 * w - 1) * (d // n),
        "that is a vector for every row and column, not for every distance: distances go both ways": (
            lambda h, w, n, d: (h + w) * (d // n)
        ),
        "that is the number of rows of both tables: each row holds a whole vector of depth_k / num_heads numbers": (
            lambda h, w, n, d: 2 * h + 2 * w - 2
        ),
    },
)
_counts = REGISTRY["04.position_parameters"]


def _whole_counts(answer: object, generator: torch.Generator) -> None:
    _counts.judge(answer, generator)
    count = call(answer, 5, 7, 2, 16)
    if isinstance(count, float):
        raise Wrong(f"the number is right, but {count} is a float: a count is an int; divide by `//` instead of `/`")


REGISTRY["04.position_parameters"] = dataclasses.replace(_counts, judge=_whole_counts)


# --- 04.row_logits


def _draw_rows(generator: torch.Generator) -> list[tuple]:
    cases = []
    for _ in range(4):
        heads, W, d = primes(generator, 3)
        q, table = torch.randn(heads, W, d, generator=generator), torch.randn(2 * W - 1, d, generator=generator)
        cases.append((q, table))
    return cases


def row_logits(q: Tensor, table: Tensor) -> Tensor:
    return axis_logits(q, table)


function_exercise(
    "04.row_logits",
    row_logits,
    _draw_rows,
    mistakes={
        "the offset is reversed: row query - key + W - 1 was used, so each query sees its row mirrored; the row is "
        "key - query + W - 1": lambda q, table: axis_logits(q, table.flip(0)),
        "keys and queries are transposed: entry [head, i, j] belongs to query i and key j": (
            lambda q, table: axis_logits(q, table).transpose(1, 2)
        ),
        "the wrong pixel asks: entry [head, i, j] is the product with the query of pixel i, not with that of pixel j": (
            lambda q, table: torch.einsum("hjd,ijd->hij", q, table[relative_index(q.shape[1])])
        ),
        "the centre is wrong: the row was key - query without W - 1, and negative rows silently count from "
        "the end of the table": lambda q, table: torch.einsum("hid,ijd->hij", q, table[_distances(q.shape[1])]),
        "the centre is wrong by one: distance 0 belongs to row W - 1": (
            lambda q, table: torch.einsum("hid,ijd->hij", q, table[relative_index(q.shape[1]) - 1])
        ),
        "an index is out of range: a table of 2W - 1 rows ends at row 2W - 2, the row of distance W - 1; looks as if "
        "W was added instead of W - 1": lambda q, table: torch.einsum(
            "hid,ijd->hij", q, table[relative_index(q.shape[1]) + 1]
        ),
        "every query uses the same rows of the table: these are positions of keys, not distances to them": (
            lambda q, table: q @ table[: q.shape[1]].T
        ),
        "the logits are divided by the square root of d: the position logits are wanted unscaled, the division comes "
        "after they were added to the content logits": lambda q, table: axis_logits(q, table) / q.shape[2] ** 0.5,
        "the heads were added up: heads share the table, but each head has logits of its own": (
            lambda q, table: axis_logits(q, table).sum(0)
        ),
        "every head got the same logits, the sum over the heads: heads share the table, not the logits": (
            lambda q, table: axis_logits(q, table).sum(0, keepdim=True).expand(len(q), -1, -1)
        ),
    },
    gradients=True,
)


# --- 04.skew


def _draw_scores(generator: torch.Generator) -> list[tuple]:
    cases = []
    for _ in range(4):
        heads, L = primes(generator, 2)
        cases.append((torch.randn(heads, L, 2 * L - 1, generator=generator),))
    return [*cases, (torch.randn(3, 1, 1, generator=generator),)]


def skew(scores: Tensor) -> Tensor:
    index = relative_index(scores.shape[1])
    return scores.gather(2, index.expand(len(scores), -1, -1))


def _straighten(scores: Tensor, front: int, end: int) -> Tensor:
    """The padded and reshaped scores, (heads, L + 1, 2L - 1), with the padding column in front or at the end."""
    L = scores.shape[1]
    flat = F.pad(F.pad(scores, (front, end)).flatten(1), (0, L - 1))
    return flat.unflatten(1, (L + 1, 2 * L - 1))


def _slide_right(scores: Tensor) -> Tensor:
    L = scores.shape[1]
    return torch.stack([scores[:, i, i : i + L] for i in range(L)], dim=1)


function_exercise(
    "04.skew",
    skew,
    _draw_scores,
    mistakes={
        "no row slides: every query got the last L columns, which is right for query 0 only (was the padding column "
        "forgotten, or put on after flattening?)": lambda s: s[:, :, s.shape[1] - 1 :],
        "the window slides to the right: query i wants the L columns that start at L - 1 - i, one further left with "
        "each query": _slide_right,
        "the result is mirrored: entry [head, i, j] is scores[head, i, j - i + L - 1], and i - j + L - 1 was "
        "used": lambda s: skew(s.flip(2)),
        "the rows are straight, but it is the first L columns that were kept: the window of query 0, and so of all, is "
        "the last L": lambda s: _straighten(s, 0, 1)[:, : s.shape[1], : s.shape[1]],
        "the rows slide, but one step too far: the padding column stands in front of each row, it belongs at the "
        "end": lambda s: _straighten(s, 1, 0)[:, : s.shape[1], s.shape[1] - 1 :],
        "the first of the reshaped rows was dropped instead of the last": (
            lambda s: _straighten(s, 0, 1)[:, 1:, s.shape[1] - 1 :]
        ),
        "keys and queries are transposed: entry [head, i, j] belongs to query i and key j": (
            lambda s: skew(s).transpose(1, 2)
        ),
    },
    gradients=True,
)


# --- 04.image_logits


def _draw_images(generator: torch.Generator) -> list[tuple]:
    cases = []
    for taller in (False, True, False, True):
        heads, d, *sides = primes(generator, 4, high=11)
        H, W = sorted(sides, reverse=taller)
        tensors = (torch.randn(*s, generator=generator) for s in ((heads, H, W, d), (2 * H - 1, d), (2 * W - 1, d)))
        cases.append(tuple(tensors))
    return cases


def image_logits(q: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    return relative_logits_definition(q[None], rel_h, rel_w)[0]


def _column_major(q: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    return image_logits(q.transpose(1, 2), rel_w, rel_h)  # the picture on its side: pixel number x·H + y


def _keys_column_major(q: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    return image_logits(q, rel_h, rel_w).unflatten(2, q.shape[1:3]).transpose(2, 3).flatten(2)


def _axes_swapped(q: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    _, H, W, _ = q.shape
    y, x = rel_w[relative_index(H)], rel_h[relative_index(W)]  # (H, H, d), (W, W, d)
    return torch.einsum("hyxd,yzd->hyxz", q, y).sum() + torch.einsum("hyxd,xzd->hyxz", q, x).sum()


function_exercise(
    "04.image_logits",
    image_logits,
    _draw_images,
    mistakes={
        "both offsets are reversed: query - key was used, so the picture is turned by half a turn around each query; "
        "the rows are jy - iy + H - 1 and jx - ix + W - 1": lambda q, h, w: image_logits(q, h.flip(0), w.flip(0)),
        "the vertical offset is reversed: the row of rel_h is jy - iy + H - 1, key minus query": (
            lambda q, h, w: image_logits(q, h.flip(0), w)
        ),
        "the horizontal offset is reversed: the row of rel_w is jx - ix + W - 1, key minus query": (
            lambda q, h, w: image_logits(q, h, w.flip(0))
        ),
        "pixels are numbered column by column: pixel (y, x) is number y·W + x, row after row; on a square picture you "
        "would not have noticed": _column_major,
        "keys are numbered column by column, queries row by row: were the two inserted axes exchanged? The key's row "
        "comes before its column": _keys_column_major,
        "the logits are divided by the square root of d: the position logits are wanted unscaled": (
            lambda q, h, w: image_logits(q, h, w) / q.shape[3] ** 0.5
        ),
        "the vertical term is missing: only rel_w was used": lambda q, h, w: image_logits(q, 0 * h, w),
        "the horizontal term is missing: only rel_h was used": lambda q, h, w: image_logits(q, h, 0 * w),
        "the heads were added up: heads share the tables, but each head has logits of its own": (
            lambda q, h, w: image_logits(q, h, w).sum(0)
        ),
        "every head got the same logits, the sum over the heads: heads share the tables, not the logits": (
            lambda q, h, w: image_logits(q, h, w).sum(0, keepdim=True).expand(len(q), -1, -1)
        ),
        "keys and queries are transposed: entry [head, i, j] belongs to query i and key j": (
            lambda q, h, w: image_logits(q, h, w).transpose(1, 2)
        ),
        "an index is out of range: looks as if rows and columns were swapped; rel_h has 2H - 1 rows for the vertical "
        "distances jy - iy, rel_w has 2W - 1 for the horizontal ones": _axes_swapped,
    },
    gradients=True,
)


# --- 04.layer


@free_exercise("04.layer")
def _(answer: object, generator: torch.Generator) -> None:
    if not (isinstance(answer, type) and issubclass(answer, nn.Module)):
        raise Wrong("expected the class itself, a subclass of nn.Module: pass PositionLogits without calling it")
    for taller in (False, True):
        heads, d = primes(generator, 2, high=3)
        # Without 3: a table of 5 rows could be one of 3 pixels or one of 5 positions, and the message would be a guess.
        H, W = sorted(primes(generator, 2, low=5, high=11), reverse=taller)
        q = torch.randn(2, heads, H, W, d, generator=generator)
        layer = answer(H, W, d)
        if layer.__dict__.get("rel_w", 0) is ... or layer.__dict__.get("rel_h", 0) is ...:
            raise NotAttempted
        _check_shapes(layer, H, W, d)
        out = call(layer, q)
        _check_repeatable(layer, q, out)
        _check_shapes(layer, H, W, d)  # again: tables made in the first call
        _check_parameters(layer)
        _check_scale(answer)  # before the logits: those of tables near zero look like any others divided by something
        _check_logits(layer, q, out)
        _check_gradients(layer, out)


def _check_repeatable(layer: nn.Module, q: Tensor, out: object) -> None:
    again = call(layer, q)
    if isinstance(out, Tensor) and isinstance(again, Tensor) and out.shape == again.shape and not out.equal(again):
        raise Wrong(
            "two calls with the same queries differ: the tables are drawn anew inside forward, so they are never "
            "trained and never saved; make them once, in __init__"
        )


def _check_shapes(layer: nn.Module, H: int, W: int, d: int) -> None:
    parameters = dict(layer.named_parameters())
    for name, axis, size, other in (("rel_h", "height", H, W), ("rel_w", "width", W, H)):
        if name not in parameters:
            continue
        shape = tuple(parameters[name].shape)
        known = {
            (2 * size, d): f"{name} has 2·{axis} = {2 * size} rows, one too many: distance 0 exists only once",
            (size, d): f"{name} has {size} rows, as many as positions: there are 2·{axis} - 1 distances",
            (2 * other - 1, d): f"{name} has the rows of the other axis: looks as if height and width were swapped",
        }
        if shape in known:
            raise Wrong(known[shape])
        if shape != (2 * size - 1, d):
            raise Wrong(f"{name} has shape {shape}, expected (2·{axis} - 1, depth) = {(2 * size - 1, d)}")


def _check_parameters(layer: nn.Module) -> None:
    parameters, buffers = dict(layer.named_parameters()), dict(layer.named_buffers())
    for name in ("rel_h", "rel_w"):
        if name in buffers:
            raise Wrong(f"{name} is a buffer: saved, but no optimiser ever sees it; make it an nn.Parameter")
        if name not in parameters and isinstance(getattr(layer, name, None), Tensor):
            raise Wrong(
                f"{name} is a plain tensor: it is not among layer.parameters(), where an optimiser looks, and it is "
                "not saved; wrap it in nn.Parameter"
            )
        if name not in parameters:
            raise Wrong(f"no parameter is named {name} (parameters found: {', '.join(parameters) or 'none'})")
        if not parameters[name].requires_grad:
            raise Wrong(f"{name} has requires_grad=False: it is not trained")
    extra = sorted(set(parameters) - {"rel_h", "rel_w"})
    if extra:
        raise Wrong(f"there are parameters beside rel_h and rel_w: {', '.join(extra)}; the two tables are all it needs")


def _check_logits(layer: nn.Module, q: Tensor, out: object) -> None:
    expected = relative_logits_definition(q, layer.rel_h, layer.rel_w).detach()
    shape = tuple(expected.shape)
    if not isinstance(out, Tensor) or tuple(out.shape) != shape:
        got = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
        raise Wrong(f"for queries of shape {tuple(q.shape)}: got {got}, expected (B, heads, H·W, H·W) = {shape}")
    known = {
        "the logits are divided by the square root of depth: they are wanted unscaled": expected / q.shape[-1] ** 0.5,
        "these are attention weights: the softmax comes later, when the content logits were added": expected.softmax(
            -1
        ),
        "the offsets are reversed: the rows of the tables are key - query + size - 1": relative_logits_definition(
            q, layer.rel_h.flip(0), layer.rel_w.flip(0)
        ).detach(),
    }
    for message, mistaken in known.items():
        if torch.allclose(out, mistaken, atol=1e-4):
            raise Wrong(message)
    if not torch.allclose(out, expected, atol=1e-4):
        raise Wrong("the shapes are right, but the logits are not those of layer.rel_h and layer.rel_w (eq. 3)")


def _check_gradients(layer: nn.Module, out: Tensor) -> None:
    if out.requires_grad:
        out.square().sum().backward()
    for name in ("rel_h", "rel_w"):
        if getattr(layer, name).grad is None:
            raise Wrong(
                f"no gradient reaches {name}, so it is not trained: was it detached (.data, .detach(), no_grad)?"
            )


def _check_scale(answer: type) -> None:
    depth = 64
    layer = answer(31, 37, depth)  # 61 · 64 numbers and more: their standard deviation is known to about one per cent
    for name in ("rel_h", "rel_w"):
        std, expected = getattr(layer, name).std().item(), depth**-0.5
        if not 0.8 * expected < std < 1.25 * expected:
            raise Wrong(
                f"{name} is drawn with a standard deviation of {std:.3f}, expected depth**-0.5 = {expected:.3f} for a "
                f"depth of {depth}"
            )
