"""What attention-augmented convolutions share, whatever the number of dimensions of their map."""

import torch
from torch import Tensor, nn

from aacn_lib.expect import expect, expect_count, expect_one_of, is_count
from aacn_lib.ops import IMPLEMENTATIONS


class AugmentedConv(nn.Module):
    """Concat[Conv(X), MHA(X)] (Bello et al. 2019, section 3.2): the branches and their channels, without positions.

    A subclass says how positions are encoded and what attention runs on. The arguments are those of `AAConv2d`.
    """

    Conv: type[nn.Conv1d] | type[nn.Conv2d]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        depth_k: int | None,
        depth_v: int | None,
        key_ratio: float | None,
        value_ratio: float | None,
        num_heads: int,
        stride: int,
        bias: bool,
        min_depth_k_per_head: int,
        implementation: str,
        position_channels: int = 0,
    ):
        super().__init__()
        owner = type(self).__name__
        counts = {"in_channels": in_channels, "out_channels": out_channels, "num_heads": num_heads, "stride": stride}
        for name, value in counts.items():
            expect_count(owner, name, value)
        expect(is_count(kernel_size) and kernel_size % 2 == 1, owner, "kernel_size", "an odd number", kernel_size)
        expect_one_of(owner, "implementation", ["auto", *IMPLEMENTATIONS], implementation)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.num_heads = kernel_size, stride, num_heads
        self.implementation = implementation
        self.depth_k = _depth(owner, "k", "key", depth_k, key_ratio, out_channels, num_heads, min_depth_k_per_head)
        self.depth_v = _depth(owner, "v", "value", depth_v, value_ratio, out_channels, num_heads, 1)
        expect(self.depth_v <= out_channels, owner, "depth_v", f"at most out_channels = {out_channels}", self.depth_v)

        conv_channels = out_channels - self.depth_v
        self.conv = (
            self.Conv(in_channels, conv_channels, kernel_size, stride, padding=kernel_size // 2, bias=bias)
            if conv_channels
            else None
        )
        self.qkv = self.Conv(in_channels + position_channels, 2 * self.depth_k + self.depth_v, 1, bias=bias)
        self.output = self.Conv(self.depth_v, self.depth_v, 1, bias=bias)

    def _add_table(self, name: str, size: int | None) -> None:
        """A table of relative positions for an axis of `size` places, (2 · size - 1, d_kh); None is no table."""
        rows = None if size is None else nn.Parameter(torch.empty(2 * size - 1, self.depth_k // self.num_heads))
        self.register_parameter(name, rows)

    def reset_parameters(self) -> None:
        """Draw all weights anew: convolutions as PyTorch's do, tables from N(0, 1/d_kh)."""
        for module in (self.conv, self.qkv, self.output):
            if module is not None:
                module.reset_parameters()
        for name, table in self.named_parameters(recurse=False):
            if name.startswith("rel"):
                nn.init.normal_(table, std=table.shape[1] ** -0.5)

    def _join(self, x: Tensor, attended: Tensor) -> Tensor:
        """Convolution channels of `x` first, then those of attention."""
        return attended if self.conv is None else torch.cat([self.conv(x), attended], dim=1)

    def _check_input(self, x: Tensor, axes: tuple[str, ...]) -> None:
        if x.ndim != 2 + len(axes) or x.shape[1] != self.in_channels:
            expected = ", ".join(("B", str(self.in_channels), *axes))
            raise ValueError(f"expected input of shape ({expected}), got {tuple(x.shape)}")

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, depth_k={self.depth_k}, "
            f"depth_v={self.depth_v}, num_heads={self.num_heads}, stride={self.stride}"
        )


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, heads · d, H, W) → (B, heads, H, W, d): channel h · d + i is component i of head h."""
    return x.unflatten(1, (num_heads, -1)).permute(0, 1, 3, 4, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, heads, H, W, d) → (B, heads · d, H, W), the inverse of `split_heads`.

    The transpose matters: a bare reshape has the right shape too, and mixes pixels with channels.
    """
    return x.permute(0, 1, 4, 2, 3).flatten(1, 2)


def _depth(
    owner: str, symbol: str, word: str, depth: int | None, ratio: float | None, channels: int, heads: int, floor: int
) -> int:
    """Channels of all heads together, from a depth or a ratio: exactly one of the two must be given."""
    if (depth is None) == (ratio is None):
        raise ValueError(
            f"expected exactly one of depth_{symbol} and {word}_ratio, got depth_{symbol}={depth}, {word}_ratio={ratio}"
        )
    if ratio is not None:
        expect(
            isinstance(ratio, int | float) and 0 < ratio <= 1,
            owner,
            f"{word}_ratio",
            f"a share of out_channels above 0 and at most 1 (a number of channels goes in depth_{symbol})",
            ratio,
        )
        expect_count(owner, "min_depth_k_per_head", floor)
        return heads * max(floor, round(ratio * channels / heads))
    expect(
        is_count(depth) and depth % heads == 0,
        owner,
        f"depth_{symbol}",
        f"a multiple of num_heads = {heads}, above 0",
        depth,
    )
    return depth
