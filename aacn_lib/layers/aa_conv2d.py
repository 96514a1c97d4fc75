"""The attention-augmented convolution for pictures."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacn_lib.expect import expect, expect_count, expect_one_of, is_count
from aacn_lib.layers.augmented import AugmentedConv, merge_heads, split_heads
from aacn_lib.ops import attention, attention_weights, resize_table, sine_encoding, with_coordinates

# How attention may learn where a pixel stands.
POSITION_ENCODINGS = ("relative", "none", "sine", "coordconv")


class AAConv2d(AugmentedConv):
    """A convolution some of whose output channels are self-attention over the whole map.

    A drop-in for `nn.Conv2d` with "same" padding: (B, in_channels, H, W) → (B, out_channels, ⌈H/stride⌉, ⌈W/stride⌉).
    The first `out_channels - depth_v` output channels come from a convolution, the last `depth_v` from multi-head
    attention: AAConv(X) = Concat[Conv(X), MHA(X)] (Bello et al. 2019, section 3.2). The paper always follows it
    with batch normalisation.

    Queries, keys and values come from one 1×1 convolution (`qkv`); the merged heads pass a 1×1 `output` projection.
    With stride 2 attention sees every second pixel, which is where the strided k×k kernel is centred.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, convolution and attention together (F_out).
        kernel_size: odd size of the convolution's kernel.
        depth_k: query/key channels of all heads together (d_k), a multiple of `num_heads`.
        depth_v: value channels of all heads together (d_v), a multiple of `num_heads`, at most `out_channels`.
            With `depth_v == out_channels` there is no convolution branch: the layer is fully attentional.
        key_ratio: κ = d_k / F_out, instead of `depth_k`: rounded to the nearest multiple of `num_heads`, at least
            `min_depth_k_per_head` a head.
        value_ratio: υ = d_v / F_out, instead of `depth_v`: rounded to the nearest multiple of `num_heads`, at least one
            channel a head. The paper's "κ = 2υ = 0.2" is key_ratio 0.2 and value_ratio 0.1.
        num_heads: number of heads (N_h).
        feature_size: the layer's *output* map, an int or (H, W). Required with relative positions, since the tables
            have 2H - 1 and 2W - 1 rows (of the pooled map, see `attention_pool`). Maps of other sizes work too: the
            tables are resized by linear interpolation over distance (`resize_table`).
        stride: 1 or more, in both branches.
        bias: whether the three convolutions have a bias.
        relative: the short form of the next argument: True for "relative", False for "none".
        position_encoding: how attention learns where a pixel stands (the paper's ablation compares these).
            "relative": trained tables of distances (section 3.1.1), the default.
            "none": it cannot tell where it looks.
            "sine": fixed sines and cosines are added to the input of `qkv` (`sine_encoding`).
            "coordconv": two channels with each pixel's coordinates join the input of `qkv` (`with_coordinates`).
        min_depth_k_per_head: floor for `key_ratio`; the paper keeps at least 20 key channels a head.
        attention_pool: average the input of attention over p×p pixels, attend on the small map, and enlarge the result
            bilinearly to the output map. 1 is no pooling. The paper does something of the kind where a map is too
            large; its exact kernel is not known to us. Attention then costs about 1/p⁴.
        implementation: passed to `attention`.

    Raises:
        ValueError: for any combination that cannot be built; the message names what was given and what is expected.

    Attributes:
        conv: the convolution branch, or None.
        qkv: 1×1 convolution to 2 · depth_k + depth_v channels, in the order q, k, v, head-major within each.
        output: 1×1 convolution depth_v → depth_v.
        rel_h, rel_w: trained tables (2H - 1, d_kh) and (2W - 1, d_kh), shared by the heads; None unless the position
            encoding is "relative".
    """

    Conv = nn.Conv2d

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
        feature_size: int | tuple[int, int] | None = None,
        stride: int = 1,
        bias: bool = True,
        relative: bool | None = None,
        position_encoding: str | None = None,
        min_depth_k_per_head: int = 20,
        attention_pool: int = 1,
        implementation: str = "auto",
    ):
        owner = type(self).__name__
        expect_count(owner, "attention_pool", attention_pool)
        encoding = _position_encoding(owner, relative, position_encoding)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            depth_k=depth_k,
            depth_v=depth_v,
            key_ratio=key_ratio,
            value_ratio=value_ratio,
            num_heads=num_heads,
            stride=stride,
            bias=bias,
            min_depth_k_per_head=min_depth_k_per_head,
            implementation=implementation,
            position_channels=2 if encoding == "coordconv" else 0,
        )
        self.position_encoding, self.attention_pool = encoding, attention_pool
        self.feature_size = _pair(owner, feature_size) if feature_size is not None else None
        size = None, None
        if encoding == "relative":
            expected = "the (H, W) of the output map when relative=True"
            expect(feature_size is not None, owner, "feature_size", expected, None)
            size = tuple(_ceil_div(side, attention_pool) for side in self.feature_size)
        self._add_table("rel_h", size[0])
        self._add_table("rel_w", size[1])
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, out_channels, ⌈H/stride⌉, ⌈W/stride⌉), convolution channels first."""
        self._check_input(x, ("H", "W"))
        q, k, v = self.qkv_heads(x)
        rel_h, rel_w = self.tables(q.shape[2], q.shape[3])
        heads = attention(q, k, v, rel_h, rel_w, implementation=self.implementation)
        attended = self.output(merge_heads(heads))
        if self.attention_pool > 1:
            size = [_ceil_div(side, self.stride) for side in x.shape[2:]]
            attended = F.interpolate(attended, size=size, mode="bilinear", align_corners=False)
        return self._join(x, attended)

    def attention_weights(self, x: Tensor) -> Tensor:
        """How each pixel attends to each other, for `x` (B, in_channels, H, W): (B, heads, H'W', H'W').

        H'×W' is the map that attention runs on: the output map, or what `attention_pool` makes of it.
        """
        self._check_input(x, ("H", "W"))
        q, k, _ = self.qkv_heads(x)
        return attention_weights(q, k, *self.tables(q.shape[2], q.shape[3]))

    def qkv_heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys (B, heads, H', W', d_kh) and values (B, heads, H', W', d_vh) of `x`."""
        x = self.attention_input(x)
        q, k, v = self.qkv(x).split([self.depth_k, self.depth_k, self.depth_v], dim=1)
        return tuple(split_heads(t, self.num_heads) for t in (q, k, v))

    def attention_input(self, x: Tensor) -> Tensor:
        """What `qkv` reads, on the map that attention runs on: `x` at the strided pixels, pooled, with positions."""
        x = x[..., :: self.stride, :: self.stride]
        if self.attention_pool > 1:  # a window that hangs over the edge averages the pixels it has
            x = F.avg_pool2d(x, self.attention_pool, ceil_mode=True)
        if self.position_encoding == "sine":
            x = x + sine_encoding(*x.shape[1:], device=x.device, dtype=x.dtype)
        elif self.position_encoding == "coordconv":
            x = with_coordinates(x)
        return x

    def tables(self, H: int, W: int) -> tuple[Tensor | None, Tensor | None]:
        """The relative tables for a map of H×W pixels, resized if the layer was made for another size."""
        if self.rel_h is None:
            return None, None
        return resize_table(self.rel_h, H), resize_table(self.rel_w, W)

    def extra_repr(self) -> str:
        other = (
            "" if self.position_encoding in ("relative", "none") else f", position_encoding={self.position_encoding!r}"
        )
        pool = "" if self.attention_pool == 1 else f", attention_pool={self.attention_pool}"
        return (
            f"{super().extra_repr()}, feature_size={self.feature_size}, relative={self.rel_h is not None}{other}{pool}"
        )


def _position_encoding(owner: str, relative: bool | None, encoding: str | None) -> str:
    """One name from the two arguments, which may not contradict each other."""
    if encoding is not None:
        expect_one_of(owner, "position_encoding", POSITION_ENCODINGS, encoding)
    if relative is None:
        return encoding or "relative"
    short = "relative" if relative else "none"
    expect(encoding in (None, short), owner, "position_encoding", f"{short!r} with relative={relative}", encoding)
    return short


def _ceil_div(number: int, by: int) -> int:
    return -(-number // by)


def _pair(owner: str, size: int | tuple[int, int]) -> tuple[int, int]:
    pair = tuple(size) if isinstance(size, tuple | list | torch.Size) else (size, size)
    expect(
        len(pair) == 2 and all(map(is_count, pair)), owner, "feature_size", "an int or (H, W), at least 1 each", size
    )
    return pair
