"""Relative positions over an image: the index, the tables and the logits they give.

A query at row `iy`, column `ix` and a key at row `jy`, column `jx` are `jy - iy` rows and `jx - ix` columns apart. Each
axis has a table with one learned vector for every distance that occurs: a row of W pixels has the 2W - 1 distances
-(W - 1) … W - 1. Row `r` of a table belongs to the distance `r - (size - 1)`, so the middle row is "here".

The logit of a pair (Bello et al. 2019, section 3.1.1, eq. 3, before the division by √d_kh) is

    q_i · k_j  +  q_i · rel_h[jy - iy + H - 1]  +  q_i · rel_w[jx - ix + W - 1]

The tables are shared by the heads of a layer; the logits are not, since each head asks with its own query.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def relative_index(size: int, device: torch.device | None = None) -> Tensor:
    """The table row that each (query, key) pair of one axis uses.

    Args:
        size: number of pixels on the axis, at least 1.

    Returns:
        int64 (size, size): entry [query, key] is `key - query + size - 1`, from 0 to `2 * size - 2`.

    Raises:
        ValueError: if `size` is less than 1.
    """
    if size < 1:
        raise ValueError(f"relative_index: expected a size of at least 1, got {size}")
    positions = torch.arange(size, device=device)
    return positions[None, :] - positions[:, None] + size - 1


def check_tables(q: Tensor, rel_h: Tensor | None, rel_w: Tensor | None) -> None:
    """Raise a `ValueError` unless each table given fits queries of shape (B, heads, H, W, d_kh)."""
    if q.ndim != 5:
        raise ValueError(f"expected queries of shape (B, heads, H, W, d_kh), got {tuple(q.shape)}")
    H, W, depth = q.shape[2:]
    for name, axis, size, table in (("rel_h", "height", H, rel_h), ("rel_w", "width", W, rel_w)):
        if table is not None and table.shape != (2 * size - 1, depth):
            raise ValueError(
                f"{name}: expected shape {(2 * size - 1, depth)} = (2·{axis} − 1, d_kh) for a map of "
                f"{H}×{W} pixels, got {tuple(table.shape)}"
            )


def axis_logits(q: Tensor, table: Tensor) -> Tensor:
    """Relative logits along the last axis but one of `q`: one small matrix product per query position.

    Args:
        q: (..., L, d) queries.
        table: (2L - 1, d).

    Returns:
        (..., L, L): entry [..., i, j] is `q[..., i, :] · table[j - i + L - 1]`.
    """
    L = q.shape[-2]
    rows = table[relative_index(L, q.device)]  # (L, L, d), L² vectors: small beside anything with (HW)² entries
    return torch.einsum("...id,ijd->...ij", q, rows)


def axis_logits_skew(q: Tensor, table: Tensor) -> Tensor:
    """The same numbers as `axis_logits` by the pad-and-reshape trick (Bello et al. 2019, after Huang et al. 2018).

    Every query meets every table row first, (..., L, 2L - 1). Query `i` wants the L columns that start at L - 1 - i: a
    window that moves one step left with each row. One column of padding shifts the flat memory of each row by one, so a
    reshape to rows of length 2L - 1 straightens the window.
    """
    L = q.shape[-2]
    logits = q @ table.transpose(0, 1)  # (..., L, 2L - 1)
    flat = F.pad(logits, (0, 1)).flatten(-2)  # (..., L · 2L)
    flat = F.pad(flat, (0, L - 1))  # (..., (L + 1)(2L - 1))
    return flat.unflatten(-1, (L + 1, 2 * L - 1))[..., :L, L - 1 :]  # (..., L, L)


def pairwise_sum(over_rows: Tensor | None, over_columns: Tensor | None) -> Tensor:
    """Add the logits of the two axes for every pair of pixels.

    Args:
        over_rows: (B, heads, H, W, H), entry [iy, ix, jy], or None for zero.
        over_columns: (B, heads, H, W, W), entry [iy, ix, jx], or None for zero.

    Returns:
        (B, heads, HW, HW): queries on the third axis, keys on the fourth, both in row-major order.
    """
    if over_rows is None:
        over_rows = over_columns.new_zeros(()).expand(*over_columns.shape[:4], over_columns.shape[2])
    if over_columns is None:
        over_columns = over_rows.new_zeros(()).expand(*over_rows.shape[:4], over_rows.shape[3])
    B, heads, H, W, _ = over_rows.shape
    pairs = over_rows[..., :, None] + over_columns[..., None, :]  # (B, heads, iy, ix, jy, jx)
    return pairs.reshape(B, heads, H * W, H * W)


def relative_logits(q: Tensor, rel_h: Tensor | None, rel_w: Tensor | None) -> Tensor:
    """The position part of the attention logits, not yet divided by √d_kh (S_H + S_W in eq. 4 of Bello et al. 2019).

    Args:
        q: (B, heads, H, W, d_kh) queries.
        rel_h: (2H - 1, d_kh) table of vertical distances, or None for none.
        rel_w: (2W - 1, d_kh) table of horizontal distances, or None for none.

    Returns:
        (B, heads, HW, HW): entry [..., i, j] is `q_i · rel_h[jy - iy + H - 1] + q_i · rel_w[jx - ix + W - 1]`.

    Raises:
        ValueError: if a table does not fit the queries, or neither is given.
    """
    check_tables(q, rel_h, rel_w)
    if rel_h is None and rel_w is None:
        raise ValueError("relative_logits: expected at least one of rel_h and rel_w, got None for both")
    return pairwise_sum(*(logits_by_axis(q, rel_h, rel_w)))


def logits_by_axis(
    q: Tensor, rel_h: Tensor | None, rel_w: Tensor | None, one_axis=axis_logits
) -> tuple[Tensor | None, Tensor | None]:
    """(B, heads, H, W, H) and (B, heads, H, W, W): what a query gives to each row and to each column of keys.

    The vertical term of a pair depends on the query and the key's row only, the horizontal one on the query and the
    key's column only. So H + W numbers a query say everything that HW numbers would.
    """
    over_rows = over_columns = None
    if rel_h is not None:
        by_column = q.transpose(2, 3)  # (B, heads, W, H, d): now the vertical axis is the one that moves
        over_rows = one_axis(by_column, rel_h).transpose(2, 3)
    if rel_w is not None:
        over_columns = one_axis(q, rel_w)
    return over_rows, over_columns


def relative_logits_definition(q: Tensor, rel_h: Tensor | None, rel_w: Tensor | None) -> Tensor:
    """`relative_logits` word for word: look up the vector of every pair of pixels, then take the product.

    Slow and large, (HW)² · d_kh numbers. It is the oracle that every faster form is tested against.
    """
    B, heads, H, W, depth = q.shape
    y, x = torch.meshgrid(
        torch.arange(H, device=q.device), torch.arange(W, device=q.device), indexing="ij"
    )  # (H, W) each
    y, x = y.reshape(-1), x.reshape(-1)  # (HW,): row and column of each pixel
    flat = q.reshape(B, heads, H * W, depth)
    total = q.new_zeros(B, heads, H * W, H * W)
    for table, at, size in ((rel_h, y, H), (rel_w, x, W)):
        if table is not None:
            vectors = table[at[None, :] - at[:, None] + size - 1]  # (HW, HW, d_kh): [query, key]
            total = total + torch.einsum("bhid,ijd->bhij", flat, vectors)
    return total


def resize_table(table: Tensor, size: int) -> Tensor:
    """Make a table for `size` pixels from one made for another size, by linear interpolation over distance.

    The middle row ("here") stays the middle row and the outermost rows stay outermost: distances are stretched by
    (size - 1) / (old size - 1), as when the same picture is seen at another resolution.

    Args:
        table: (2L - 1, d).
        size: pixels on the axis of the new map, at least 1.

    Returns:
        (2 · size - 1, d); the table itself if it fits already.
    """
    rows, wanted = table.shape[0], 2 * size - 1
    if rows == wanted:
        return table
    if wanted == 1:
        return table[rows // 2 : rows // 2 + 1]
    if rows == 1:
        return table.expand(wanted, -1)
    columns = table.transpose(0, 1)[None]  # (1, d, rows)
    return F.interpolate(columns, size=wanted, mode="linear", align_corners=True)[0].transpose(0, 1)
