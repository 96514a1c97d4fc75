"""The check of queries and keys that carry relative positions: which part of the long vectors is wrong."""

import torch
from torch import Tensor

from aacn_lib.exercises.compare import difference
from aacn_lib.exercises.grading import Wrong, call, primes
from aacn_lib.ops import relative_index

Parts = dict[str, Tensor]


def _parts(q: Tensor, k: Tensor, rel_h: Tensor, rel_w: Tensor) -> Parts:
    """What the vectors are made of, each (HW, …)."""
    H, W, _ = q.shape
    pixel = torch.arange(H * W)
    parts = {
        "q": q,
        "rows": torch.einsum("yxd,yjd->yxj", q, rel_h[relative_index(H)]),
        "columns": torch.einsum("yxd,xjd->yxj", q, rel_w[relative_index(W)]),
        "k": k,
        "rows of k": torch.einsum("yxd,yjd->yxj", k, rel_h[relative_index(H)]),
        "columns of k": torch.einsum("yxd,xjd->yxj", k, rel_w[relative_index(W)]),
        "mirrored rows": torch.einsum("yxd,yjd->yxj", q, rel_h.flip(0)[relative_index(H)]),
        "mirrored columns": torch.einsum("yxd,xjd->yxj", q, rel_w.flip(0)[relative_index(W)]),
        # The table's rows in their own order, as if no query stood anywhere else than at the first pixel.
        "unshifted rows": q @ rel_h[H - 1 :].T,
        "unshifted columns": q @ rel_w[W - 1 :].T,
    }
    parts = {name: part.flatten(0, 1) for name, part in parts.items()}
    by_row = {"at row": pixel // W, "at column": pixel % W}
    by_column = {"at row by column": pixel % H, "at column by column": pixel // H}
    for name, places in (by_row | by_column).items():
        parts[name] = torch.eye(H if "row" in name.split() else W)[places]
    return parts


RIGHT = (("q", "rows", "columns"), ("k", "at row", "at column"))
_BY_COLUMN = ("k", "at row by column", "at column by column")
_MISTAKES = {
    "the blocks of longer_q and longer_k stand in different orders: a row logit must meet the one-hot row": (
        RIGHT[0],
        ("k", "at column", "at row"),
    ),
    "the key's one-hots number the pixels column by column: pixel n lies in row n // W, column n % W": (
        RIGHT[0],
        _BY_COLUMN,
    ),
    "the content is missing: longer_q begins with q, and longer_k with k": (RIGHT[0][1:], RIGHT[1][1:]),
    "the row logits are missing: rel_h has no effect": (("q", "columns"), ("k", "at column")),
    "the column logits are missing: rel_w has no effect": (("q", "rows"), ("k", "at row")),
    "both tables are mirrored: the index is key - query + size - 1": (
        ("q", "mirrored rows", "mirrored columns"),
        RIGHT[1],
    ),
    "rel_h is mirrored: the index is key - query + H - 1": (("q", "mirrored rows", "columns"), RIGHT[1]),
    "rel_w is mirrored: the index is key - query + W - 1": (("q", "rows", "mirrored columns"), RIGHT[1]),
    "every query reads the tables as if it were the first pixel: the rows depend on where the query lies": (
        ("q", "unshifted rows", "unshifted columns"),
        RIGHT[1],
    ),
    "the keys were multiplied with the tables: it is the query that asks for a distance": (
        ("q", "rows of k", "columns of k"),
        RIGHT[1],
    ),
    "queries and keys are exchanged: return (longer_q, longer_k)": (RIGHT[1], RIGHT[0]),
}


def _logits(parts: Parts, names: tuple[tuple[str, ...], tuple[str, ...]], factor: float = 1.0) -> Tensor:
    longer_q, longer_k = (torch.cat([parts[name] for name in side], dim=1) for side in names)
    return factor * longer_q @ longer_k.T


def _centred(logits: Tensor) -> Tensor:
    """A constant a row is free: softmax does not see it."""
    return logits - logits.mean(dim=1, keepdim=True)


def _dropped(parts: Parts) -> Tensor:
    """The first row and column left out, without subtracting them."""
    q, rows, columns, k, at_row, at_column = (parts[name] for side in RIGHT for name in side)
    longer_q = torch.cat([q, rows[:, 1:], columns[:, 1:]], dim=1)
    return longer_q @ torch.cat([k, at_row[:, 1:], at_column[:, 1:]], dim=1).T


def _mistaken(parts: Parts, depth: int) -> dict[str, Tensor]:
    """message → the logits that earn it."""
    found = {message: _logits(parts, names) for message, names in _MISTAKES.items()}
    found["the logits are divided by √d: here they are not scaled"] = _logits(parts, RIGHT, depth**-0.5)
    content, position = _logits(parts, (("q",), ("k",))), _logits(parts, (RIGHT[0][1:], RIGHT[1][1:]))
    found["only the content is divided by √d: here nothing is scaled"] = content * depth**-0.5 + position
    found["only the position logits are divided by √d: here nothing is scaled"] = content + position * depth**-0.5
    found["the first row and the first column are dropped, but were not subtracted from the others before"] = _dropped(
        parts
    )
    return {message: _centred(logits) for message, logits in found.items()}


def _draw(generator: torch.Generator) -> list[tuple[Tensor, ...]]:
    cases = []
    for taller in (False, True, False, True):
        d, *sides = primes(generator, 3, low=3, high=11)
        H, W = sorted(sides, reverse=taller)
        sizes = ((H, W, d), (H, W, d), (2 * H - 1, d), (2 * W - 1, d))
        cases.append(tuple(torch.randn(size, generator=generator) for size in sizes))
    return cases


def check_longer_vectors(answer: object, generator: torch.Generator) -> None:
    """Raise `Wrong` unless `answer(q, k, rel_h, rel_w)` gives vectors whose products are the full logits."""
    if not callable(answer):
        raise Wrong("expected a function: pass the function itself, without calling it")
    got, right, mistaken = [], [], []
    for case in _draw(generator):
        parts = _parts(*case)
        got.append(_centred(_product(answer, [t.clone() for t in case])))
        right.append(_centred(_logits(parts, RIGHT)))
        mistaken.append(_mistaken(parts, case[0].shape[2]))
        _reject_changed_inputs(answer, case)
    if any(difference(ours, theirs, 1e-4) for ours, theirs in zip(got, right, strict=True)):
        for message in mistaken[0]:
            if all(not difference(ours, wrong[message], 1e-4) for ours, wrong in zip(got, mistaken, strict=True)):
                raise Wrong(message)
        complaints = (difference(ours, theirs, 1e-4) for ours, theirs in zip(got, right, strict=True))
        raise Wrong(f"longer_q @ longer_k.T, the mean of each row taken off: {next(filter(None, complaints))}")
    _reject_lost_gradients(answer, _draw(generator)[0])


def _product(answer: object, case: list[Tensor]) -> Tensor:
    """longer_q @ longer_k.T, after all that can be said of their shapes."""
    result = call(answer, *case)
    if not isinstance(result, tuple | list) or len(result) != 2 or not all(isinstance(t, Tensor) for t in result):
        raise Wrong("expected a pair of tensors, (longer_q, longer_k)")
    (H, W, d), (longer_q, longer_k) = case[0].shape, result
    for name, t in (("longer_q", longer_q), ("longer_k", longer_k)):
        wanted = f"expected ({H * W}, {d + H + W}) or two columns less, for H = {H}, W = {W}, d = {d}"
        if t.ndim == 3 and t.shape[:2] == (H, W):
            raise Wrong(f"{name} still has the map's two axes, {tuple(t.shape)}: {wanted}; flatten them")
        if t.ndim != 2 or len(t) != H * W or t.shape[1] not in (d + H + W, d + H + W - 2):
            if t.ndim == 2 and t.shape[1] in (d + H, d + W, H + W, d):
                wanted += "; a part is missing"
            if t.ndim == 2 and t.shape[1] in (d + 2 * (H + W - 1), 2 * (H + W - 1)):
                wanted += "; not all 2H - 1 rows of rel_h: pick for each query the H rows of its distances, W of rel_w"
            raise Wrong(f"{name} has shape {tuple(t.shape)}, {wanted}")
    if longer_q.shape != longer_k.shape:
        raise Wrong(f"longer_q has shape {tuple(longer_q.shape)}, longer_k {tuple(longer_k.shape)}: they must agree")
    return longer_q @ longer_k.T


def _reject_changed_inputs(answer: object, case: tuple[Tensor, ...]) -> None:
    given = [t.clone() for t in case]
    answer(*given)
    for name, before, after in zip(("q", "k", "rel_h", "rel_w"), case, given, strict=True):
        if not after.equal(before):
            raise Wrong(f"it changes its input `{name}` in place: work on a new tensor instead")


def _reject_lost_gradients(answer: object, case: tuple[Tensor, ...]) -> None:
    leaves = [t.clone().requires_grad_() for t in case]
    logits = _centred(answer(*leaves)[0] @ answer(*leaves)[1].T)
    expected = _centred(_logits(_parts(*leaves), RIGHT))
    slopes = torch.linspace(0.5, 1.5, logits.numel()).view_as(logits)
    if not logits.requires_grad:
        raise Wrong("no gradient reaches any input: were they detached (.detach(), no_grad, torch.tensor)?")
    ours = torch.autograd.grad((logits * slopes).sum(), leaves, allow_unused=True)
    theirs = torch.autograd.grad((expected * slopes).sum(), leaves)
    for name, got, right in zip(("q", "k", "rel_h", "rel_w"), ours, theirs, strict=True):
        if got is None:
            raise Wrong(f"no gradient reaches `{name}`: was it detached (.item(), .detach(), no_grad, torch.tensor)?")
        complaint = difference(got, right, 1e-3)
        if complaint:
            raise Wrong(f"the values are right, but the gradient of `{name}` is not: {complaint}")
