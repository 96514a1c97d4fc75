"""Attention over an image by PyTorch's FlexAttention: a kernel compiled for our logits, on GPUs from Ampere on."""

import functools
import math

import torch
from torch import Tensor

from aacn_lib.ops.relative import logits_by_axis

OLDEST = (8, 0)  # compute capability: FlexAttention compiles to Triton code that older GPUs do not run


def flex_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor | None, rel_w: Tensor | None) -> Tensor:
    """`attention.attention` by `torch.nn.attention.flex_attention`, shapes as there.

    The kernel adds each query's logit for the key's row and for the key's column while it works, so nothing of size
    (HW)² reaches memory. Gradients of those logits are summed in any order: runs are not repeatable to the last bit.

    On a CPU PyTorch's own slow form stands in, without gradients: enough to test the numbers.

    Raises:
        ValueError: on a GPU older than Ampere, or where gradients are asked for on a CPU.
    """
    from torch.nn.attention import flex_attention as library

    if q.device.type == "cuda" and (found := torch.cuda.get_device_capability(q.device)) < OLDEST:
        raise ValueError(f"implementation 'flex': expected compute capability {OLDEST} or newer, got {found}")
    tensors = [t for t in (q, k, v, rel_h, rel_w) if t is not None]
    if q.device.type == "cpu" and torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        raise ValueError("implementation 'flex': PyTorch has no gradients for it on a CPU; choose 'auto'")
    H, W = q.shape[2:4]
    scale = 1 / math.sqrt(q.shape[-1])
    wide = [t if t is None else t.to(torch.promote_types(t.dtype, torch.float32)) for t in (q, rel_h, rel_w)]
    over_rows, over_columns = (t if t is None else t.flatten(2, 3) * scale for t in logits_by_axis(*wide))

    def add_positions(logit, b, head, i, j):
        if over_rows is not None:
            logit = logit + over_rows[b, head, i, j // W]
        if over_columns is not None:
            logit = logit + over_columns[b, head, i, j % W]
        return logit

    kernel = _compiled() if q.device.type == "cuda" and not torch.compiler.is_compiling() else library.flex_attention
    q, k, v = (t.to(v.dtype).flatten(2, 3) for t in (q, k, v))  # (B, heads, HW, d)
    return kernel(q, k, v, score_mod=add_positions, scale=scale).unflatten(2, (H, W))


@functools.cache
def _compiled():
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)
