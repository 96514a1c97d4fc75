"""Attention over an image in tiles of query rows: the form for CPUs, without a (HW, HW) tensor in either direction.

One buffer, small enough for the processor's cache, holds the logits of a tile of queries; it is filled, turned into
weights, used, and filled again for the next tile. The backward pass computes the weights anew instead of keeping them.
Memory grows with HW, not with its square, and nothing large travels to memory and back.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from aacn_lib.ops.relative import logits_by_axis

# Numbers in the buffer: 8 MiB of float32. It should fit the last-level cache, and hold several maps of 32×32 pixels, so
# that threads work on whole maps; smaller ones made two threads no faster than one.
BUFFER = 1 << 21


def tiled_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor | None, rel_w: Tensor | None) -> Tensor:
    """`attention.attention` in tiles, shapes as there. `create_graph=True` raises a `RuntimeError`.

    float16 and bfloat16 are computed in float32: the tiles' sums would lose digits otherwise.
    """
    kind = v.dtype
    if kind in (torch.float16, torch.bfloat16):
        q, k, v, rel_h, rel_w = (t if t is None else t.float() for t in (q, k, v, rel_h, rel_w))
    q = q / math.sqrt(q.shape[-1])  # scales the position logits as well: they are linear in q
    over_rows, over_columns = logits_by_axis(q, rel_h, rel_w)
    out = _TiledAttention.apply(
        q.shape[2:4], *map(channel_major, (q, k, v)), *map(_by_map, (over_rows, over_columns))
    )  # (B · heads, d_vh, HW)
    B, heads, H, W, depth_v = v.shape
    return out.view(B, heads, depth_v, H, W).permute(0, 1, 3, 4, 2).to(kind)


def channel_major(t: Tensor) -> Tensor:
    """(B, heads, H, W, d) → contiguous (B · heads, d, HW).

    The order in which a 1×1 convolution leaves its channels, and the one in which a matrix product with few channels is
    up to seven times faster on a CPU.
    """
    return t.permute(0, 1, 4, 2, 3).flatten(3).flatten(0, 1).contiguous()


def _by_map(t: Tensor | None) -> Tensor | None:
    """(B, heads, H, W, n) → contiguous (B · heads, HW, n): one attention map for each picture and head."""
    return t if t is None else t.flatten(2, 3).flatten(0, 1).contiguous()


class _TiledAttention(torch.autograd.Function):
    """softmax(qᵀk + over_rows + over_columns) v for q, k, v (maps, d, HW) on maps of `size` (H, W).

    `over_rows` (maps, HW, H) and `over_columns` (maps, HW, W) may be None.
    """

    @staticmethod
    def forward(ctx, size, q, k, v, over_rows, over_columns):
        out = torch.empty_like(v)
        for maps, queries, weights in _tiles(q):
            _fill_weights(weights, q, k, over_rows, over_columns, maps, queries, size)
            out[maps, :, queries] = torch.bmm(v[maps], weights.transpose(1, 2))
        ctx.save_for_backward(q, k, v, over_rows, over_columns, out)
        ctx.size = size
        return out

    @staticmethod
    def backward(ctx, grad_out):
        if torch.is_grad_enabled():  # create_graph=True: what is computed below in place has no derivative of its own
            raise RuntimeError(
                "tiled attention has no second derivative; for create_graph=True choose implementation='skew'"
            )
        q, k, v, over_rows, over_columns, out = ctx.saved_tensors
        # The softmax's derivative is weights · (g − Σ weights · g), and that sum equals grad_out · out. Written as one
        # more channel, it is subtracted by the matrix product itself.
        inner = (grad_out * out).sum(dim=1, keepdim=True)  # (maps, 1, HW)
        grad_and_inner = torch.cat([grad_out, -inner], dim=1)
        v_and_one = torch.cat([v, torch.ones_like(v[:, :1])], dim=1)

        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        grad_rows = None if over_rows is None else torch.empty_like(over_rows)
        grad_columns = None if over_columns is None else torch.empty_like(over_columns)
        second = None
        for maps, queries, weights in _tiles(q):
            _fill_weights(weights, q, k, over_rows, over_columns, maps, queries, ctx.size)
            grad_v[maps].baddbmm_(grad_out[maps, :, queries], weights)
            if second is None:
                second = torch.empty_like(weights).flatten()  # the first tile is the largest
            slopes = second[: weights.numel()].view(weights.shape)  # of the loss against each logit
            torch.bmm(grad_and_inner[maps, :, queries].transpose(1, 2), v_and_one[maps], out=slopes)
            slopes.mul_(weights)
            grad_q[maps, :, queries] = torch.bmm(k[maps], slopes.transpose(1, 2))
            grad_k[maps].baddbmm_(q[maps, :, queries], slopes)
            by_axis = slopes.unflatten(-1, ctx.size)
            if grad_rows is not None:
                grad_rows[maps, queries] = by_axis.sum(dim=-1)
            if grad_columns is not None:
                grad_columns[maps, queries] = by_axis.sum(dim=-2)
        return None, grad_q, grad_k, grad_v, grad_rows, grad_columns


def _tiles(q: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Cut the work so that a tile's weights fit the buffer: several small maps at once, or some queries of a large one.

    Yields the tile's maps, its queries, and the (maps, queries, HW) view of the buffer for its weights.
    """
    count, _, N = q.shape
    if count * N == 0:
        return
    together = min(count, max(1, BUFFER // (N * N)))
    rows = min(N, max(1, BUFFER // (together * N)))
    buffer = q.new_empty(together * rows * N)
    for m in range(0, count, together):
        maps = slice(m, min(m + together, count))
        for n in range(0, N, rows):
            queries = slice(n, min(n + rows, N))
            shape = (maps.stop - maps.start, queries.stop - queries.start, N)
            yield maps, queries, buffer[: math.prod(shape)].view(shape)


def _fill_weights(weights, q, k, over_rows, over_columns, maps, queries, size) -> None:
    """Write the attention weights of one tile into `weights` (maps, queries, HW)."""
    asking = q[maps, :, queries].transpose(1, 2)  # (maps, queries, d_k)
    if over_rows is None and over_columns is None:
        torch.bmm(asking, k[maps], out=weights)
    else:
        by_axis = weights.unflatten(-1, size)  # (maps, queries, H, W), the same memory
        if over_rows is None:
            by_axis.copy_(over_columns[maps, queries, None, :])
        elif over_columns is None:
            by_axis.copy_(over_rows[maps, queries, :, None])
        else:
            torch.add(over_rows[maps, queries, :, None], over_columns[maps, queries, None, :], out=by_axis)
        weights.baddbmm_(asking, k[maps])
    torch.softmax(weights, dim=-1, out=weights)
