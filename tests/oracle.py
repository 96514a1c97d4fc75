"""The formulas of the paper as plain loops: slow, literal and independent of the library's own code."""

import math

import torch
from torch import Tensor


def loop_logits(q: Tensor, k: Tensor, rel_h: Tensor | None, rel_w: Tensor | None) -> Tensor:
    """(B, heads, HW, HW) logits before the scale, one pair of pixels at a time."""
    B, heads, H, W, _ = q.shape
    logits = q.new_zeros(B, heads, H * W, H * W)
    for iy in range(H):
        for ix in range(W):
            for jy in range(H):
                for jx in range(W):
                    vector = k[:, :, jy, jx]
                    if rel_h is not None:
                        vector = vector + rel_h[jy - iy + H - 1]
                    if rel_w is not None:
                        vector = vector + rel_w[jx - ix + W - 1]
                    logits[:, :, iy * W + ix, jy * W + jx] = (q[:, :, iy, ix] * vector).sum(-1)
    return logits


def loop_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor | None, rel_w: Tensor | None) -> Tensor:
    """(B, heads, H, W, d_vh), one query pixel at a time."""
    H, W = q.shape[2:4]
    weights = (loop_logits(q, k, rel_h, rel_w) / math.sqrt(q.shape[-1])).softmax(-1)
    out = torch.zeros_like(v)
    for iy in range(H):
        for ix in range(W):
            for jy in range(H):
                for jx in range(W):
                    share = weights[:, :, iy * W + ix, jy * W + jx, None]
                    out[:, :, iy, ix] += share * v[:, :, jy, jx]
    return out


def random_inputs(
    H: int, W: int, *, B=2, heads=3, depth_k=5, depth_v=7, tables="hw", dtype=torch.float64, seed=0, grad=False
) -> list[Tensor | None]:
    """q, k, v, rel_h, rel_w of all-different prime sizes."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "q": (B, heads, H, W, depth_k),
        "k": (B, heads, H, W, depth_k),
        "v": (B, heads, H, W, depth_v),
        "h": (2 * H - 1, depth_k),
        "w": (2 * W - 1, depth_k),
    }
    return [
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_(grad) if name in "qkv" + tables else None
        for name, shape in shapes.items()
    ]
