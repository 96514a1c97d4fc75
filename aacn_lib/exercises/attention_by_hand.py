"""Multi-head attention over an image by hand, step by step: the right way, and the usual slips beside it."""

import torch
from torch import Tensor


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, heads · d, H, W) → (B, heads, H · W, d): channel h · d + i is component i of head h; pixels row by row."""
    return x.unflatten(1, (num_heads, -1)).flatten(3).transpose(2, 3)


def merge_heads(x: Tensor, H: int, W: int) -> Tensor:
    """(B, heads, H · W, d) → (B, heads · d, H, W), the inverse of `split_heads`."""
    return x.transpose(2, 3).flatten(1, 2).unflatten(2, (H, W))


def split_by_reshape(x: Tensor, num_heads: int) -> Tensor:
    B, C, H, W = x.shape
    return x.reshape(B, num_heads, H * W, C // num_heads)


def split_pixels_first(x: Tensor, num_heads: int) -> Tensor:
    B, C, H, W = x.shape
    return x.flatten(2).transpose(1, 2).reshape(B, num_heads, H * W, C // num_heads)


def split_by_column(x: Tensor, num_heads: int) -> Tensor:
    return split_heads(x.transpose(2, 3), num_heads)


def split_head_minor(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(1, (-1, num_heads)).flatten(3).permute(0, 2, 3, 1)


def split_no_transpose(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(1, (num_heads, -1)).flatten(3)


def merge_by_reshape(x: Tensor, H: int, W: int) -> Tensor:
    B, heads, _, d = x.shape
    return x.reshape(B, heads * d, H, W)


def merge_by_column(x: Tensor, H: int, W: int) -> Tensor:
    return x.transpose(2, 3).flatten(1, 2).unflatten(2, (W, H)).transpose(2, 3)


def merge_swapped_sizes(x: Tensor, H: int, W: int) -> Tensor:
    return merge_heads(x, W, H)


def merge_head_minor(x: Tensor, H: int, W: int) -> Tensor:
    return x.permute(0, 3, 1, 2).flatten(1, 2).unflatten(2, (H, W))


def merge_pixels_first(x: Tensor, H: int, W: int) -> Tensor:
    B, heads, _, d = x.shape
    return x.transpose(1, 2).reshape(B, heads * d, H, W)


def multi_head_attention(
    x: Tensor, qkv_weight: Tensor, output_weight: Tensor, num_heads: int, depth_k: int, depth_v: int
) -> Tensor:
    """(B, C, H, W) → (B, depth_v, H, W); qkv_weight (2 · depth_k + depth_v, C), output_weight (depth_v, depth_v)."""
    return attend(x, qkv_weight, output_weight, num_heads, depth_k, depth_v)


def attend(
    x,
    qkv_weight,
    output_weight,
    num_heads,
    depth_k,
    depth_v,
    *,
    scale=lambda d, heads: d**-0.5,
    dim=-1,
    order="qkv",
    split=split_heads,
    merge=merge_heads,
    project=lambda weight, channels: torch.einsum("oc,bchw->bohw", weight, channels),
):
    H, W = x.shape[2:]
    channels = torch.einsum("oc,bchw->bohw", qkv_weight, x)
    sizes = {"q": depth_k, "k": depth_k, "v": depth_v}
    named = dict(zip(order, channels.split([sizes[name] for name in order], dim=1), strict=True))
    q, k, v = (split(named[name], num_heads) for name in "qkv")
    weights = (q @ k.transpose(-1, -2) * scale(q.shape[-1], num_heads)).softmax(dim=dim)
    return project(output_weight, merge(weights @ v, H, W))


def variant(**changes: object):
    return lambda *args: attend(*args, **changes)
