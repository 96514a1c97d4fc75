"""Where a pixel stands, written into the features: the fixed encodings that relative positions are compared with."""

import torch
from torch import Tensor


def sine_encoding(
    channels: int, H: int, W: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Sines and cosines of the row and of the column, to be added to a map of `channels` channels.

    The channels are four quarters: sin(ω_i · y), cos(ω_i · y), sin(ω_i · x), cos(ω_i · x), with the frequencies
    ω_i = 10000^(-i / n) for i = 0 … n - 1 and n = ⌈channels / 4⌉. Where 4n exceeds `channels`, the last are left out.
    Half of the channels for each axis, as Parmar et al. 2018 (Image Transformer) have it; frequencies as in
    Vaswani et al. 2017 (section 3.5). Rows and columns are counted from 0.

    Returns:
        (channels, H, W) in `dtype`, computed in at least float32.
    """
    dtype = dtype or torch.get_default_dtype()
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    count = -(-channels // 4)  # ⌈channels / 4⌉ frequencies
    frequencies = 10_000 ** (-torch.arange(count, device=device, dtype=exact) / count)  # (n,)
    y = frequencies[:, None] * torch.arange(H, device=device, dtype=exact)  # (n, H)
    x = frequencies[:, None] * torch.arange(W, device=device, dtype=exact)  # (n, W)
    rows = torch.cat([y.sin(), y.cos()])[:, :, None].expand(-1, H, W)  # (2n, H, W)
    columns = torch.cat([x.sin(), x.cos()])[:, None, :].expand(-1, H, W)  # (2n, H, W)
    return torch.cat([rows, columns])[:channels].to(dtype)


def coordinates(H: int, W: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Row and column of each pixel, from -1 at one end of the map to 1 at the other (0 where there is one pixel only).

    The two channels of CoordConv (Liu et al. 2018, section 3). Its optional third one, the radius, is left out.

    Returns:
        (2, H, W): rows first.
    """
    y, x = (
        torch.linspace(-1, 1, size, device=device, dtype=dtype)
        if size > 1
        else torch.zeros(1, device=device, dtype=dtype)
        for size in (H, W)
    )
    return torch.stack([y[:, None].expand(H, W), x[None, :].expand(H, W)])


def with_coordinates(x: Tensor) -> Tensor:
    """(B, C, H, W) → (B, C + 2, H, W): `coordinates` behind the channels of each picture. A convolution of it is
    CoordConv."""
    B, _, H, W = x.shape
    both = coordinates(H, W, device=x.device, dtype=x.dtype)
    return torch.cat([x, both.expand(B, 2, H, W)], dim=1)
