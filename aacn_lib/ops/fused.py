"""Attention over an image in one compiled kernel: the fastest form for CPUs, where Numba is installed.

`fused_kernel` has the loops; here they become a differentiable function, spread over threads and kept from what they
cannot do. Memory grows with HW: besides inputs and outputs, each thread holds four rows of logits.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from aacn_lib.ops.tiled import channel_major, tiled_attention

INSTALL = "pip install 'aacn-lib[fast]'"
# Logits and slopes below this stay finite in float32 through every sum of the kernel, which assumes that they do.
LARGEST = 1e28


@functools.cache
def why_unavailable() -> str | None:
    """None where the kernel can run, else the reason in one line."""
    try:
        import numba

        from aacn_lib.ops import fused_kernel  # noqa: F401
    except ImportError as error:  # not installed, or not made for this NumPy or Python
        return f"Numba cannot be imported ({error}); {INSTALL}"
    except RuntimeError as error:  # Numba found no folder that it may write its compiled code to
        return f"Numba cannot keep compiled code ({error}); set NUMBA_CACHE_DIR to a folder that can be written"
    return "Numba is switched off by NUMBA_DISABLE_JIT" if numba.config.DISABLE_JIT else None


def can_fuse(v: Tensor) -> bool:
    """Whether the kernel computes attention to values `v` (B, heads, H, W, d_vh) itself, without handing it on."""
    if v.device.type != "cpu" or v.dtype == torch.float64 or why_unavailable():
        return False
    from aacn_lib.ops.fused_kernel import CHUNK

    H, W = v.shape[2:4]
    return 2 * H - 1 + 2 * W - 1 <= CHUNK


def fused_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor | None, rel_w: Tensor | None) -> Tensor:
    """`attention.attention` in one kernel, shapes as there. `create_graph=True` raises a `RuntimeError`.

    The kernel computes in float32, from float16 and bfloat16 too. What it cannot do goes to `tiled_attention`: float64,
    which it would round; numbers so large that a logit might overflow, infinity and NaN among them, since its loops are
    compiled as if there were none; and maps with more than 1024 distances, 2H - 1 + 2W - 1.

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
    queries, keys, values, rel_h, rel_w = (t if t is None else t.float() for t in (q, k, v, rel_h, rel_w))
    queries = queries * (math.log2(math.e) / math.sqrt(q.shape[-1]))  # the kernel takes powers of 2, not of e
    B, heads, H, W, depth_v = v.shape
    depth = q.shape[-1]
    tables = [t for t in (rel_h, rel_w) if t is not None]
    if not all(_bounded(depth, queries, t) for t in (keys, *tables)) or not _bounded(1, values):
        return tiled_attention(q, k, v, rel_h, rel_w)
    rel_h, rel_w = (queries.new_zeros(2 * size - 1, depth) if t is None else t for t, size in ((rel_h, H), (rel_w, W)))
    table = torch.cat([rel_h, rel_w]).t()  # (d_kh, 2H - 1 + 2W - 1)
    out = _FusedAttention.apply((H, W), *map(channel_major, (queries, keys, values)), table)
    return out.view(B, heads, depth_v, H, W).permute(0, 1, 3, 4, 2).to(kind)


class _FusedAttention(torch.autograd.Function):
    """Attention by weights 2^logit on maps of `size` (H, W): q, k (maps, d, HW), v (maps, d_v, HW).

    `table` (d, 2H - 1 + 2W - 1) has the vectors of the vertical distances, then those of the horizontal ones.
    """

    @staticmethod
    def forward(ctx, size, q, k, v, table):
        from aacn_lib.ops import fused_kernel

        table = table.contiguous()
        out, log_sums = torch.empty_like(v), q.new_empty(q.shape[0], q.shape[2])
        jobs = [
            (*_arrays(part, q, k, v), table.detach().numpy(), size, *_arrays(part, out, log_sums))
            for part in _shares(q)
        ]
        _in_threads(fused_kernel.forward, jobs)
        ctx.save_for_backward(q, k, v, table, out, log_sums)
        ctx.size = size
        return out

    @staticmethod
    def backward(ctx, grad_out):
        if torch.is_grad_enabled():  # create_graph=True: the kernel's gradients have no derivative of their own
            raise RuntimeError(
                "fused attention has no second derivative; for create_graph=True choose implementation='skew'"
            )
        from aacn_lib.ops import fused_kernel

        q, k, v, table, out, log_sums = ctx.saved_tensors
        if not all(_bounded(q.shape[2] * v.shape[1], grad_out, v, t) for t in (q, k, table)):
            return None, *_tiled_gradients(ctx.size, q, k, v, table, grad_out)
        grad_out = grad_out.contiguous()
        grads = [torch.empty_like(t) for t in (q, k, v)]
        shares = _shares(q)
        table_grads = table.new_empty(len(shares), *table.shape)
        jobs = [
            (
                *_arrays(part, q, k, v),
                table.numpy(),
                ctx.size,
                *_arrays(part, out, log_sums, grad_out, *grads),
                table_grad.numpy(),
            )
            for part, table_grad in zip(shares, table_grads, strict=True)
        ]
        _in_threads(fused_kernel.backward, jobs)
        return None, *grads, table_grads.sum(dim=0)


def _tiled_gradients(size, q, k, v, table, grad_out) -> tuple[Tensor, ...]:
    """What `_FusedAttention.backward` returns, by `tiled_attention`, for numbers that may overflow."""
    depth, vertical = q.shape[1], 2 * size[0] - 1
    inputs = [t.detach().requires_grad_() for t in (q, k, v, table)]
    with torch.enable_grad():
        queries, keys, values = (t.unflatten(2, size).permute(0, 2, 3, 1)[:, None] for t in inputs[:3])
        rel_h, rel_w = inputs[3][:, :vertical].t(), inputs[3][:, vertical:].t()
        queries = queries * (math.log(2) * math.sqrt(depth))  # undoes tiled_attention's scale, and is for base 2
        again = tiled_attention(queries, keys, values, rel_h, rel_w)
    return torch.autograd.grad(again, inputs, grad_out.unflatten(2, size).permute(0, 2, 3, 1)[:, None])


def _shares(q: Tensor) -> list[slice]:
    """The maps of `q` (maps, …) in as many parts as PyTorch has threads, or fewer."""
    maps = len(q)
    count = min(maps, torch.get_num_threads())
    return [slice(*cut) for cut in itertools.pairwise(maps * i // count for i in range(count + 1))]


def _arrays(part: slice, *tensors: Tensor) -> Iterator[np.ndarray]:
    return (t.detach().numpy()[part] for t in tensors)


def _in_threads(kernel, jobs: list[tuple]) -> None:
    """Call `kernel` once for each tuple of arguments, each in a thread.

    Plain Python threads, made anew for each call: the kernel releases the interpreter, and a DataLoader's worker, made
    by fork, inherits no pool whose threads did not come along.
    """
    if len(jobs) == 1:
        kernel(*jobs[0])
        return
    with ThreadPoolExecutor(len(jobs)) as pool:
        for job in [pool.submit(kernel, *arguments) for arguments in jobs]:
            job.result()


def _bounded(count: int, *tensors: Tensor) -> bool:
    """Whether `count` products of numbers from `tensors` sum up to something finite with room to spare."""
    largest = float(count)
    for t in tensors:
        low, high = torch.aminmax(t.detach())
        largest *= float(high - low) + abs(float(low))  # at least the largest magnitude; NaN compares false
    return largest < LARGEST
