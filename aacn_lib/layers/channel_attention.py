"""Attention that scales features: squeeze-and-excitation, gather-excite, and CBAM's channel and spatial attention.

Each layer takes and returns (B, C, H, W): the input times weights. No pixel looks at another one of its choice, as in
`AAConv2d`: channels, or places, are weighed by a summary of the map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacn_lib.expect import expect_count, expect_one_of

# How CBAM's channel attention turns two summaries into one weight: σ(a + b) as in the paper, or σ(a) + σ(b).
JOINS = ("sigmoid_of_sum", "sum_of_sigmoids")


class SqueezeExcite(nn.Module):
    """Scale each channel by a weight that all channels' means decide together (Hu et al. 2018, section 3: SENet).

    Args:
        channels: C.
        reduction: r; the hidden layer has ⌊C / r⌋ units, at least one. The paper's default is 16.

    Raises:
        ValueError: if a number is not a whole number of at least 1.
    """

    def __init__(self, channels: int, *, reduction: int = 16):
        super().__init__()
        hidden = _hidden("SqueezeExcite", channels, reduction, None)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        means = x.mean(dim=(2, 3))  # (B, C)
        weights = self.excite(self.squeeze(means).relu()).sigmoid()
        return x * weights[:, :, None, None]


class GatherExcite(nn.Module):
    """Scale each channel by σ of its own mean, without any parameter: GE-θ⁻ of Hu et al. 2018 (Gather-Excite).

    Args:
        channels: C; not needed, taken so that every gate is made alike.
        extent: e; how much of the map is gathered. None is the whole map: one weight a channel. A number gathers means
            over windows of (2e - 1) × (2e - 1) pixels, centred at rows and columns 0, e, 2e, …; pixels outside the map
            do not count. A window serves the e × e pixels that start at its centre. (Where e does not divide the map's
            side, as `mode="nearest"` of `F.interpolate` shares out the pixels.)

    Raises:
        ValueError: if `extent` is neither None nor a whole number of at least 1.
    """

    def __init__(self, channels: int | None = None, *, extent: int | None = None):
        super().__init__()
        if extent is not None:
            expect_count("GatherExcite", "extent", extent)
        self.extent = extent

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        if self.extent is None:
            return x * x.mean(dim=(2, 3), keepdim=True).sigmoid()
        e = self.extent
        gathered = F.avg_pool2d(x, 2 * e - 1, stride=e, padding=e - 1, count_include_pad=False)
        return x * F.interpolate(gathered, size=x.shape[2:], mode="nearest").sigmoid()

    def extra_repr(self) -> str:
        return f"extent={self.extent}"


class ChannelAttention(nn.Module):
    """Scale each channel: σ(MLP(mean over pixels) + MLP(maximum over pixels)) (Woo et al. 2018, eq. 2).

    One MLP serves both summaries. It has no biases, as in the equation; the authors' code gives it some.

    Args:
        channels: C.
        reduction: the MLP's hidden layer has ⌊C / reduction⌋ units, at least one. The paper's default is 16.
        hidden: the number of hidden units itself, instead of `reduction`.
        join: "sigmoid_of_sum", the paper's; "sum_of_sigmoids" gives σ(MLP(mean)) + σ(MLP(max)), as at least one public
            network does: the weights then reach 2 and start around 1, with the same parameters.

    Raises:
        ValueError: for an unknown `join` or a number that is not a whole number of at least 1.
    """

    def __init__(self, channels: int, *, reduction: int = 16, hidden: int | None = None, join: str = "sigmoid_of_sum"):
        super().__init__()
        expect_one_of("ChannelAttention", "join", JOINS, join)
        hidden = _hidden("ChannelAttention", channels, reduction, hidden)
        self.join = join
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        mean, maximum = self.mlp(x.mean(dim=(2, 3))), self.mlp(x.amax(dim=(2, 3)))  # (B, C) each
        paper = self.join == "sigmoid_of_sum"
        weights = (mean + maximum).sigmoid() if paper else mean.sigmoid() + maximum.sigmoid()  # (B, C)
        return x * weights[:, :, None, None]

    def extra_repr(self) -> str:
        return f"join={self.join!r}"


class SpatialAttention(nn.Module):
    """Scale each pixel: σ(convolution of [mean over channels, maximum over channels]) (Woo et al. 2018, eq. 3).

    Args:
        kernel_size: odd; 7 in the paper. The convolution has no bias and nothing follows it, as in the equation; the
            authors' code puts batch normalisation behind it.

    Raises:
        ValueError: if `kernel_size` is not an odd number.
    """

    def __init__(self, kernel_size: int = 7):
        super().__init__()
        expect_count("SpatialAttention", "kernel_size", kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(f"SpatialAttention: kernel_size: expected an odd number, got {kernel_size}")
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)  # (B, 2, H, W)
        return x * self.conv(summary).sigmoid()


class CBAM(nn.Module):
    """Channel attention, then spatial attention (Woo et al. 2018, section 3 and figure 1).

    Args:
        channels, reduction, hidden, join: of `ChannelAttention`.
        kernel_size: of `SpatialAttention`.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        hidden: int | None = None,
        join: str = "sigmoid_of_sum",
        kernel_size: int = 7,
    ):
        super().__init__()
        self.channel = ChannelAttention(channels, reduction=reduction, hidden=hidden, join=join)
        self.spatial = SpatialAttention(kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        return self.spatial(self.channel(x))


# What a residual block may pass its branch through before it is added.
GATES = {"se": SqueezeExcite, "ge": GatherExcite, "cbam": CBAM}


def make_gate(kind: str, channels: int, **options) -> nn.Module:
    """The gate named `kind`, one of `GATES`, for `channels` channels; `options` are keyword arguments of its class.

    Raises:
        ValueError: for an unknown kind, or an option that it does not have.
    """
    expect_one_of("", "gate", GATES, kind)
    known = GATES[kind].__init__.__kwdefaults__
    for name in options:
        if name not in known:
            raise ValueError(f"gate: {kind!r} has no option {name!r}; it has {sorted(known)}")
    return GATES[kind](channels, **options)


def _hidden(layer: str, channels: int, reduction: int, hidden: int | None) -> int:
    """Units of the hidden layer."""
    expect_count(layer, "channels", channels)
    if hidden is not None:
        expect_count(layer, "hidden", hidden)
        return hidden
    expect_count(layer, "reduction", reduction)
    return max(1, channels // reduction)
