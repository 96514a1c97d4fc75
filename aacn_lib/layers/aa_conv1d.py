"""The attention-augmented convolution for sequences: sound, text, sensor readings."""

from torch import Tensor, nn

from aacn_lib.expect import expect, is_count
from aacn_lib.layers.augmented import AugmentedConv, merge_heads, split_heads
from aacn_lib.ops import attention, attention_weights, resize_table


class AAConv1d(AugmentedConv):
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

    Conv = nn.Conv1d

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
        owner = type(self).__name__
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
        )
        if relative or feature_size is not None:
            wanted = "the length of the output, at least 1" + (", when relative=True" if relative else "")
            expect(is_count(feature_size), owner, "feature_size", wanted, feature_size)
        self.feature_size = feature_size
        self._add_table("rel", feature_size if relative else None)
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, L) → (B, out_channels, ⌈L/stride⌉), convolution channels first."""
        self._check_input(x, ("L",))
        q, k, v = self.qkv_heads(x)
        heads = attention(q, k, v, None, self.table(q.shape[3]), implementation=self.implementation)
        attended = self.output(merge_heads(heads).squeeze(2))
        return self._join(x, attended)

    def attention_weights(self, x: Tensor) -> Tensor:
        """How each output place attends to each other, for `x` (B, in_channels, L): (B, heads, L', L')."""
        self._check_input(x, ("L",))
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
        return f"{super().extra_repr()}, feature_size={self.feature_size}, relative={self.rel is not None}"
