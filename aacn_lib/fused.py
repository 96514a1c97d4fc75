"""Attention over an image in one compiled kernel: the fastest form for CPUs, where Numba is installed.

`fused_kernel` has the loops; here they become a differentiable function, spread over threads and kept from what they
cannot do. Memory grows with HW: besides inputs and outputs, each thread holds four rows of logits.
"""

import functools
import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from aacn_lib.relative import logits_by_axis
from aacn_lib.tiled import by_map, channel_major, tiled_attention, tiled_by_map

INSTALL = "pip install 'aacn-lib[fast]'"
# Logits and slopes below this stay finite in float32 through every sum of the kernel, which assumes that they do.
LARGEST = 1e28


@functools.cache
def why_unavailable() -> str | None:
    """None where the kernel can run, else the reason in one line."""
    try:
        import numba

        from aacn_lib import fused_kernel  # noqa: F401
    except ImportError as error:  # not installed, or not made for this NumPy or Python
        return f"Numba cannot be imported ({error}); {INSTALL}"
    except RuntimeError as error:  # Numba found no folder that it may write its compiled code to
        return f"Numba cannot keep compiled code ({error}); set NUMBA_CACHE_DIR to a folder that can be written"
    return "Numba is switched off by NUMBA_DISABLE_JIT" if numba.config.DISABLE_JIT else None


def can_fuse(v: Tensor) -> bool:
    """Whether the kernel computes attention to values `v` (B, heads, H, W, d_vh) itself, without handing it on."""
    if v.device.type != "cpu" or v.dtype == torch.float64 or why_unavailable():
        return False
    from aacn_lib.fused_kernel import CHUNK

    return v.shape[3] <= CHUNK


def fused_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor | None, rel_w: Tensor | None) -> Tensor:
    """`attention.attention` in one kernel, shapes as there. `create_graph=True` raises a `RuntimeError`.

    The kernel computes in float32, from float16 and bfloat16 too. What it cannot do goes to `tiled_attention`: float64,
    which it would round; numbers so large that a logit might overflow, infinity and NaN among them, since its loops are
    compiled as if there were none; and maps more than 1024 pixels wide.

    Raises:
        ValueError: where there is no Numba, or the tensors are not on a CPU.
    """
    if reason := why_unavailable():
        raise ValueError(f"implementation 'fused': {reason}")
    if v.device.type != "cpu":
        raise ValueError(f"implementation 'fused': expected tensors on the CPU, got {v.device}")
    if not can_fuse(v) or v.numel() == 0:
        return tiled_attention(q, k, v, rel_h, rel_w)
    kind = v.dtype
    queries, keys, values, table_h, table_w = (t if t is None else t.float() for t in (q, k, v, rel_h, rel_w))
    queries = queries * (math.log2(math.e) / math.sqrt(q.shape[-1]))  # the kernel takes powers of 2, not of e
    B, heads, H, W, depth_v = v.shape
    over = logits_by_axis(queries, table_h, table_w)
    given = [values, *(t for t in over if t is not None)]
    if not _bounded(q.shape[-1], queries, keys) or not all(_bounded(1, t) for t in given):
        return tiled_attention(q, k, v, rel_h, rel_w)
    over_rows, over_columns = (
        queries.new_zeros(B * heads, H * W, size) if t is None else by_map(t)
        for t, size in zip(over, (H, W), strict=True)
    )
    out = _FusedAttention.apply(*map(channel_major, (queries, keys, values)), over_rows, over_columns)
    return out.view(B, heads, depth_v, H, W).permute(0, 1, 3, 4, 2).to(kind)


class _FusedAttention(torch.autograd.Function):
    """Attention by weights 2^(qᵀk + over_rows + over_columns), for q, k, v (maps, d, HW) as in `tiled`."""

    @staticmethod
    def forward(ctx, q, k, v, over_rows, over_columns):
        from aacn_lib import fused_kernel

        inputs = [t.detach() for t in (q, k, v, over_rows, over_columns)]
        out, log_sums = torch.empty_like(v), q.new_empty(q.shape[0], q.shape[2])
        _spread(fused_kernel.forward, [*inputs, out, log_sums])
        ctx.save_for_backward(q, k, v, over_rows, over_columns, out, log_sums)
        return out

    @staticmethod
    def backward(ctx, grad_out):
        if torch.is_grad_enabled():  # create_graph=True: the kernel's gradients have no derivative of their own
            raise RuntimeError(
                "fused attention has no second derivative; for create_graph=True choose implementation='skew'"
            )
        from aacn_lib import fused_kernel

        q, k, v, over_rows, over_columns, out, log_sums = ctx.saved_tensors
        N = q.shape[2]
        if not _bounded(N * v.shape[1], grad_out, v, q) or not _bounded(N * v.shape[1], grad_out, v, k):
            inputs = [t.detach().requires_grad_() for t in (q, k, v, over_rows, over_columns)]
            with torch.enable_grad():
                again = tiled_by_map(*inputs, base=2)
            return torch.autograd.grad(again, inputs, grad_out)
        grads = [torch.empty_like(t) for t in (q, k, v, over_rows, over_columns)]
        _spread(fused_kernel.backward, [q, k, v, over_rows, over_columns, out, log_sums, grad_out.contiguous(), *grads])
        return tuple(grads)


def _spread(kernel, tensors: list[Tensor]) -> None:
    """Run `kernel` on all maps, a share of them in each of PyTorch's threads.

    Plain Python threads, made anew for each call: the kernel releases the interpreter, and a DataLoader's worker, made
    by fork, inherits no pool whose threads did not come along.
    """
    arrays = [t.detach().numpy() for t in tensors]
    maps = len(arrays[0])
    shares = min(maps, torch.get_num_threads())
    if shares == 1:
        kernel(*arrays)
        return
    cuts = [maps * i // shares for i in range(shares + 1)]
    with ThreadPoolExecutor(shares) as pool:
        jobs = [pool.submit(kernel, *(a[start:stop] for a in arrays)) for start, stop in itertools.pairwise(cuts)]
        for job in jobs:
            job.result()


def _bounded(count: int, *tensors: Tensor) -> bool:
    """Whether `count` products of numbers from `tensors` sum up to something finite with room to spare."""
    largest = float(count)
    for t in tensors:
        low, high = torch.aminmax(t.detach())
        largest *= float(high - low) + abs(float(low))  # at least the largest magnitude; NaN compares false
    return largest < LARGEST
