"""The attention-augmented convolution for sequences: sound, text, sensor readings."""

import torch
from torch import Tensor, nn

from aacn_lib.expect import expect, expect_count, is_count
from aacn_lib.layers.aa_conv2d import depth_of, merge_heads, split_heads
from aacn_lib.ops import IMPLEMENTATIONS, attention, attention_weights, resize_table


class AAConv1d(nn.Module):
    """`AAConv2d` on a map of one row: (B, in_channels, L) → (B, out_channels, ⌈L/stride⌉).

    A drop-in for `nn.Conv1d` with "same" padding; the first `out_channels - depth_v` output channels come from a
    convolution, the last `depth_v` from multi-head attention over the whole sequence. There is one table of distances,
    since a row has no vertical ones, as in Shaw et al. 2018 (section 3.2), whose distances the paper brings to images.
    Relative positions take B · heads · L² numbers of memory, whatever the implementation.

    Args:
        feature_size: length of the *output*. Required when `relative`, since the table has 2L - 1 rows. Sequences of
            other lengths work too: the table is resized by linear interpolation over distance (`resize_table`).
        The others mean what they mean in `AAConv2d`.

    Raises:
        ValueError: as `AAConv2d` does.

    Attributes:
        conv: the convolution branch, or None.
        qkv: convolution of size 1 to 2 · depth_k + depth_v channels, in the order q, k, v, head-major within each.
        output: convolution of size 1, depth_v → depth_v.
        rel: trained table (2L - 1, d_kh), shared by the heads; None unless `relative`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        depth_k: int | None = None,
        depth_v: int | None = None,
        key_ratio: float | None = None,
        value_ratio: float | None = None,
        num_heads: int = 8,
        feature_size: int | None = None,
        stride: int = 1,
        bias: bool = True,
        relative: bool = True,
        min_depth_k_per_head: int = 20,
        implementation: str = "auto",
    ):
        super().__init__()
        owner = type(self).__name__
        counts = {"in_channels": in_channels, "out_channels": out_channels, "num_heads": num_heads, "stride": stride}
        for name, value in counts.items():
            expect_count(owner, name, value)
        expect(is_count(kernel_size) and kernel_size % 2 == 1, owner, "kernel_size", "an odd number", kernel_size)
        known = ["auto", *IMPLEMENTATIONS]
        expect(implementation in known, owner, "implementation", f"one of {known}", implementation)
        if relative or feature_size is not None:
            wanted = "the length of the output, at least 1" + (", when relative=True" if relative else "")
            expect(is_count(feature_size), owner, "feature_size", wanted, feature_size)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.num_heads = kernel_size, stride, num_heads
        self.feature_size, self.implementation = feature_size, implementation
        self.depth_k = depth_of(owner, "k", "key", depth_k, key_ratio, out_channels, num_heads, min_depth_k_per_head)
        self.depth_v = depth_of(owner, "v", "value", depth_v, value_ratio, out_channels, num_heads, 1)
        expect(self.depth_v <= out_channels, owner, "depth_v", f"at most out_channels = {out_channels}", self.depth_v)

        conv_channels = out_channels - self.depth_v
        self.conv = (
            nn.Conv1d(in_channels, conv_channels, kernel_size, stride, padding=kernel_size // 2, bias=bias)
            if conv_channels
            else None
        )
        self.qkv = nn.Conv1d(in_channels, 2 * self.depth_k + self.depth_v, 1, bias=bias)
        self.output = nn.Conv1d(self.depth_v, self.depth_v, 1, bias=bias)
        rows = (2 * feature_size - 1, self.depth_k // num_heads) if relative else None
        self.register_parameter("rel", nn.Parameter(torch.empty(rows)) if relative else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew: convolutions as `nn.Conv1d` does, the table from N(0, 1/d_kh)."""
        for module in (self.conv, self.qkv, self.output):
            if module is not None:
                module.reset_parameters()
        if self.rel is not None:
            nn.init.normal_(self.rel, std=self.rel.shape[1] ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, L) → (B, out_channels, ⌈L/stride⌉), convolution channels first."""
        self._check_input(x)
        q, k, v = self.qkv_heads(x)
        heads = attention(q, k, v, None, self.table(q.shape[3]), implementation=self.implementation)
        attended = self.output(merge_heads(heads).squeeze(2))
        return attended if self.conv is None else torch.cat([self.conv(x), attended], dim=1)

    def attention_weights(self, x: Tensor) -> Tensor:
        """How each output place attends to each other, for `x` (B, in_channels, L): (B, heads, L', L')."""
        self._check_input(x)
        q, k, _ = self.qkv_heads(x)
        return attention_weights(q, k, None, self.table(q.shape[3]))

    def qkv_heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys (B, heads, 1, L', d_kh) and values (B, heads, 1, L', d_vh) of `x`: a map of one row."""
        qkv = self.qkv(x[..., :: self.stride])
        parts = qkv.unsqueeze(2).split([self.depth_k, self.depth_k, self.depth_v], dim=1)
        return tuple(split_heads(t, self.num_heads) for t in parts)

    def table(self, L: int) -> Tensor | None:
        """The relative table for L places, resized if the layer was made for another length."""
        return None if self.rel is None else resize_table(self.rel, L)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, depth_k={self.depth_k}, "
            f"depth_v={self.depth_v}, num_heads={self.num_heads}, stride={self.stride}, "
            f"feature_size={self.feature_size}, relative={self.rel is not None}"
        )

    def _check_input(self, x: Tensor) -> None:
        if x.ndim != 3 or x.shape[1] != self.in_channels:
            raise ValueError(f"expected input of shape (B, {self.in_channels}, L), got {tuple(x.shape)}")
