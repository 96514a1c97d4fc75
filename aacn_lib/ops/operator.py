"""Self-attention over the pixels of an image, with or without relative positions.

Shapes throughout: queries and keys (B, heads, H, W, d_kh), values (B, heads, H, W, d_vh). Pixels are flattened in
row-major order wherever a (HW, HW) matrix appears: queries on its rows, keys on its columns.

`attention` computes one function in several ways, with the same numbers and the same gradients. "definition" is the
formula, word for word; "skew" is the paper's own form; "augmented" is one call of PyTorch's fused attention, for GPUs;
"flex" is a kernel that PyTorch compiles for newer GPUs; "tiled" works through a small buffer, for CPUs; "fused" is one
compiled kernel, for CPUs with Numba.
"""

import contextlib
import math

import torch
from torch import Tensor

from aacn_lib.expect import expect_one_of
from aacn_lib.ops.augmented import augmented_attention
from aacn_lib.ops.flexible import flex_attention
from aacn_lib.ops.fused import can_fuse, fused_attention
from aacn_lib.ops.relative import (
    axis_logits_skew,
    check_tables,
    logits_by_axis,
    pairwise_sum,
    relative_logits,
    relative_logits_definition,
)
from aacn_lib.ops.tiled import tiled_attention

# Pixels of a map from which the compiled kernel is taken on a CPU: in benchmarks/records it is behind "tiled" at 16×16
# and ahead of it at 32×32.
FUSED_FROM = 512

# Asked here, once: torch.compile up to torch 2.11 cannot trace the question.
AUTOCAST_DEVICES = frozenset(
    kind for kind in ("cpu", "cuda", "xpu", "mps", "hpu", "mtia") if torch.amp.is_autocast_available(kind)
)


def attention_weights(q: Tensor, k: Tensor, rel_h: Tensor | None = None, rel_w: Tensor | None = None) -> Tensor:
    """How much each pixel attends to each other pixel: softmax of (Q Kᵀ + S_H + S_W) / √d_kh.

    A pure function, for looking at attention; layers do not store these weights. Bello et al. 2019, eq. 4.

    Args:
        q, k: (B, heads, H, W, d_kh).
        rel_h, rel_w: tables (2H - 1, d_kh) and (2W - 1, d_kh), or None.

    Returns:
        (B, heads, HW, HW), rows sum to 1.

    Raises:
        ValueError: if shapes do not fit.
    """
    _check(q, k, k, rel_h, rel_w)
    return _content_plus(q, k, _position_logits(q, rel_h, rel_w)).softmax(dim=-1)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rel_h: Tensor | None = None,
    rel_w: Tensor | None = None,
    *,
    implementation: str = "auto",
) -> Tensor:
    """Multi-head self-attention over an image (Bello et al. 2019, section 3.1: eq. 1, with positions eq. 4).

    Args:
        q, k: (B, heads, H, W, d_kh) queries and keys; the scale 1/√d_kh is applied inside.
        v: (B, heads, H, W, d_vh) values.
        rel_h: (2H - 1, d_kh) table of vertical distances, or None for no vertical positions.
        rel_w: (2W - 1, d_kh) table of horizontal distances, or None for no horizontal positions.
        implementation: one of IMPLEMENTATIONS, or "auto" for the fastest that fits.

    Returns:
        (B, heads, H, W, d_vh).

    Raises:
        ValueError: if shapes do not fit or the implementation is unknown.
    """
    _check(q, k, v, rel_h, rel_w)
    if implementation == "auto":
        implementation = choose_implementation(v)
    if implementation not in IMPLEMENTATIONS:
        expect_one_of("", "implementation", ["auto", *IMPLEMENTATIONS], implementation)
    with _without_autocast(v.device.type):
        return IMPLEMENTATIONS[implementation](q, k, v, rel_h, rel_w)


def _without_autocast(device: str) -> contextlib.AbstractContextManager:
    """Autocast chose the type of q, k and v already; inside, each form knows better what must stay float32."""
    if device in AUTOCAST_DEVICES and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


def choose_implementation(v: Tensor) -> str:
    """The implementation that "auto" stands for, given the values (B, heads, H, W, d_vh).

    On a CPU, where Numba is installed, "fused" from FUSED_FROM pixels on; "tiled" for smaller maps, for float64, and
    without Numba. Anywhere else, and where torch.compile or torch.export traces the code (they would unroll the loop
    over tiles), "augmented".
    """
    if v.device.type != "cpu" or torch.compiler.is_compiling():
        return "augmented"
    return "fused" if v.shape[2] * v.shape[3] >= FUSED_FROM and can_fuse(v) else "tiled"


def _definition(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor | None, rel_w: Tensor | None) -> Tensor:
    q, k, rel_h, rel_w = (t if t is None else t.to(v.dtype) for t in (q, k, rel_h, rel_w))
    position = None if rel_h is None and rel_w is None else relative_logits_definition(q, rel_h, rel_w)
    return _weighted_sum(_content_plus(q, k, position).softmax(dim=-1), v)


def _skew(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor | None, rel_w: Tensor | None) -> Tensor:
    q, k, rel_h, rel_w = (t if t is None else t.to(v.dtype) for t in (q, k, rel_h, rel_w))
    position = None
    if rel_h is not None or rel_w is not None:
        position = pairwise_sum(*logits_by_axis(q, rel_h, rel_w, one_axis=axis_logits_skew))
    return _weighted_sum(_content_plus(q, k, position).softmax(dim=-1), v)


IMPLEMENTATIONS = {
    "definition": _definition,
    "skew": _skew,
    "augmented": augmented_attention,
    "flex": flex_attention,
    "tiled": tiled_attention,
    "fused": fused_attention,
}


def _position_logits(q: Tensor, rel_h: Tensor | None, rel_w: Tensor | None) -> Tensor | None:
    return None if rel_h is None and rel_w is None else relative_logits(q, rel_h, rel_w)


def _content_plus(q: Tensor, k: Tensor, position: Tensor | None) -> Tensor:
    """(Q Kᵀ + position) / √d_kh, shape (B, heads, HW, HW)."""
    logits = q.flatten(2, 3) @ k.flatten(2, 3).transpose(-1, -2)
    if position is not None:
        logits = logits + position
    return logits / math.sqrt(q.shape[-1])


def _weighted_sum(weights: Tensor, v: Tensor) -> Tensor:
    return (weights @ v.flatten(2, 3)).unflatten(2, v.shape[2:4])


def _check(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor | None, rel_w: Tensor | None) -> None:
    check_tables(q, rel_h, rel_w)
    if k.shape != q.shape:
        raise ValueError(f"expected keys of the queries' shape {tuple(q.shape)}, got {tuple(k.shape)}")
    if v.ndim != 5 or v.shape[:4] != q.shape[:4]:
        raise ValueError(f"expected values of shape {(*q.shape[:4], 'd_vh')}, got {tuple(v.shape)}")
