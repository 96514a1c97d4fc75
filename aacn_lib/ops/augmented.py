"""Attention over an image as one call of PyTorch's fused attention: positions written into longer queries and keys."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from aacn_lib.ops.relative import logits_by_axis

# The fused CUDA kernels ask for rows of whole 16-byte units where tensor cores are at work: eight numbers of float16.
# With any other head size PyTorch falls back, silently, to materialising every logit (on a T4 too; `sdp_utils.cpp`,
# minimum_gemm_alignment).
CUDA_MULTIPLE = 8


def augmented_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor | None, rel_w: Tensor | None) -> Tensor:
    """`attention.attention` by augmented queries and keys, shapes as there.

    With q' = [q, a query's logits for every row, ... for every column] and k' = [k, one-hot row, one-hot column],
    q'·k' is the full logit exactly. Softmax ignores a constant per query, so the first row's and the first column's
    logit are subtracted and those two entries dropped: d_kh + (H - 1) + (W - 1) numbers.

    The position logits are computed in float32 at least, and rounded once to the type of `v`.
    """
    B, heads, H, W, depth = q.shape
    kind, depth_v = v.dtype, v.shape[-1]
    queries, keys = [q.to(kind)], [k.to(kind)]
    for logits, axis in zip(logits_by_axis(*map(_at_least_float32, (q, rel_h, rel_w))), (2, 3), strict=True):
        if logits is None:
            continue
        size = q.shape[axis]
        queries.append((logits[..., 1:] - logits[..., :1]).to(kind))  # (B, heads, H, W, size - 1)
        one_hot = torch.eye(size, dtype=kind, device=k.device)[:, 1:]  # (size, size - 1)
        one_hot = one_hot[:, None] if axis == 2 else one_hot[None, :]  # (H, 1, H - 1) or (1, W, W - 1)
        keys.append(one_hot.expand(B, heads, H, W, size - 1))
    q, k = torch.cat(queries, dim=-1), torch.cat(keys, dim=-1)
    # PyTorch's fused kernels ask for one head size; zeros at the end of q and k, or of v, change no result.
    width = max(q.shape[-1], depth_v)
    if q.device.type == "cuda":
        width += -width % CUDA_MULTIPLE
    q, k, v = (F.pad(t, (0, width - t.shape[-1])).flatten(2, 3) for t in (q, k, v))  # (B, heads, HW, width)
    out = F.scaled_dot_product_attention(q, k, v, scale=1 / math.sqrt(depth))
    return out[..., :depth_v].unflatten(2, (H, W))


def _at_least_float32(t: Tensor | None) -> Tensor | None:
    return t if t is None else t.to(torch.promote_types(t.dtype, torch.float32))
