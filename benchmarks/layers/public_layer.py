"""The attention-augmented layer as public implementations of it compute it, written anew as the opponent to beat.

Its logic: one convolution gives queries, keys and values; both position terms go through the skew by concatenation, are
repeated to (HW, HW), and are added to the content logits; a softmax and a matrix product follow. What such code leaves
to chance is settled in its favour: each term is written to full size once, in the order that the sum needs; sums are
made in place; and the heads are merged by a transpose, so that the result is right.
"""

import torch
from torch import Tensor, nn


class PublicAAConv2d(nn.Module):
    """(B, in_channels, H, W) → (B, out_channels, H, W), with the names and the channel order of `AAConv2d`.

    Args:
        in_channels, out_channels, depth_k, depth_v, num_heads: as in `AAConv2d`.
        feature_size: (H, W) of the map.
        qkv_kernel_size: 3, as public implementations have it, or 1, as `AAConv2d` and the paper's text have it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        depth_k: int,
        depth_v: int,
        num_heads: int,
        feature_size: tuple[int, int],
        qkv_kernel_size: int = 3,
    ):
        super().__init__()
        self.depth_k, self.depth_v, self.num_heads = depth_k, depth_v, num_heads
        self.conv = nn.Conv2d(in_channels, out_channels - depth_v, 3, padding=1)
        self.qkv = nn.Conv2d(in_channels, 2 * depth_k + depth_v, qkv_kernel_size, padding=qkv_kernel_size // 2)
        self.output = nn.Conv2d(depth_v, depth_v, 1)
        depth = depth_k // num_heads
        self.rel_h, self.rel_w = (nn.Parameter(torch.randn(2 * L - 1, depth) * depth**-0.5) for L in feature_size)

    def forward(self, x: Tensor) -> Tensor:
        B, _, H, W = x.shape
        q, k, v = self.qkv(x).split([self.depth_k, self.depth_k, self.depth_v], dim=1)
        q, k, v = (t.reshape(B, self.num_heads, -1, H * W) for t in (q, k, v))  # (B, heads, d, HW)
        q = q * q.shape[2] ** -0.5
        logits = q.transpose(2, 3) @ k  # (B, heads, HW, HW)
        by_pixel = q.unflatten(3, (H, W)).permute(0, 1, 3, 4, 2)  # (B, heads, H, W, d)
        logits += vertical_logits(by_pixel, self.rel_h)
        logits += horizontal_logits(by_pixel, self.rel_w)
        heads = logits.softmax(dim=-1) @ v.transpose(2, 3)  # (B, heads, HW, d_vh)
        merged = heads.transpose(2, 3).reshape(B, self.depth_v, H, W)
        return torch.cat([self.conv(x), self.output(merged)], dim=1)


def horizontal_logits(q: Tensor, table: Tensor) -> Tensor:
    """q (B, heads, H, W, d) and table (2W - 1, d) → (B, heads, HW, HW), equal for all rows of keys."""
    B, heads, H, W, _ = q.shape
    logits = torch.einsum("bhyxd,rd->bhyxr", q, table)  # (B, heads, H, W, 2W - 1)
    logits = skew_by_concatenation(logits.flatten(1, 2)).unflatten(1, (heads, H))  # (B, heads, iy, ix, jx)
    return logits[:, :, :, :, None].repeat(1, 1, 1, 1, H, 1).reshape(B, heads, H * W, H * W)


def vertical_logits(q: Tensor, table: Tensor) -> Tensor:
    """q (B, heads, H, W, d) and table (2H - 1, d) → (B, heads, HW, HW), equal for all columns of keys."""
    B, heads, H, W, _ = q.shape
    logits = torch.einsum("bhyxd,rd->bhxyr", q, table)  # (B, heads, W, H, 2H - 1)
    logits = skew_by_concatenation(logits.flatten(1, 2)).unflatten(1, (heads, W))  # (B, heads, ix, iy, jy)
    return logits.transpose(2, 3)[..., None].repeat(1, 1, 1, 1, 1, W).reshape(B, heads, H * W, H * W)


def skew_by_concatenation(logits: Tensor) -> Tensor:
    """(B, n, L, 2L - 1), a column a distance → (B, n, L, L), a column a key."""
    B, n, L, _ = logits.shape
    wider = torch.cat([logits, logits.new_zeros(B, n, L, 1)], dim=3).flatten(2)  # (B, n, 2L²)
    longer = torch.cat([wider, wider.new_zeros(B, n, L - 1)], dim=2)  # (B, n, (L + 1)(2L - 1))
    return longer.reshape(B, n, L + 1, 2 * L - 1)[:, :, :L, L - 1 :]
