"""The small networks of the lessons: the same network with and without attention, so that only attention differs."""

from torch import Tensor, nn

from aacn_lib.expect import expect_one_of
from aacn_lib.layers import GATES, AAConv2d, make_gate

# What may stand where a convolution stands. "content" is attention that compares contents only: it cannot tell where
# it looks. "relative" adds the learned distances. "se", "ge" and "cbam" are a convolution whose output passes a gate.
MIXINGS = ("convolution", "content", "relative", *GATES)


class PooledCNN(nn.Module):
    """Two layers and global average pooling; the second layer is a convolution or an attention-augmented one.

    conv3×3 → BN → ReLU → second layer → mean over all pixels → linear. With the default sizes, 32×32 RGB pictures and
    100 classes, the "relative" network is the 75,036-parameter AA-CNN that circulates for CIFAR-100, plus its two
    trained tables of 63 × 10.

    Args:
        in_channels: channels of the pictures.
        num_classes: number of outputs.
        image_size: (H, W) of the pictures; attention runs on the full map.
        mixing: one of MIXINGS: what the second layer is.
        widths: channels of the first and of the second layer.
        depth_k, depth_v, num_heads: of the attention layer, see `AAConv2d`; without effect on any other.
        gate_options: of "se", "ge" and "cbam", see `channel_attention`; without effect on any other.
        norm_after: put BN and ReLU after the second layer as well, as the paper does after every augmented convolution;
            the circulating network lacks them.

    Raises:
        ValueError: for an unknown mixing or sizes that `AAConv2d` refuses.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        mixing: str = "relative",
        widths: tuple[int, int] = (64, 128),
        depth_k: int = 40,
        depth_v: int = 40,
        num_heads: int = 4,
        gate_options: dict | None = None,
        norm_after: bool = False,
    ):
        super().__init__()
        first, second = widths
        self.stem = nn.Sequential(nn.Conv2d(in_channels, first, 3, padding=1), nn.BatchNorm2d(first), nn.ReLU())
        depths = {"depth_k": depth_k, "depth_v": depth_v, "num_heads": num_heads}
        self.mix = mixing_layer(mixing, first, second, image_size, gate_options=gate_options, **depths)
        self.after = nn.Sequential(nn.BatchNorm2d(second), nn.ReLU()) if norm_after else nn.Identity()
        self.head = nn.Linear(second, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, num_classes) logits."""
        x = self.after(self.mix(self.stem(x)))  # (B, widths[1], H, W)
        return self.head(x.mean(dim=(2, 3)))


class ThreeLayerCNN(nn.Module):
    """Three layers of 64, 128 and 192 channels, all convolutions or all attention-augmented.

    Each is followed by batch normalisation and ReLU; a 2×2 max-pool stands after the first and the second, so attention
    runs on the full, the half and the quarter map. Then the mean over all pixels and a linear layer.

    Args:
        in_channels, num_classes, image_size, mixing: as in `PooledCNN`.
        widths: channels of the three layers.
        key_ratio, value_ratio, num_heads: of the attention layers, see `AAConv2d`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        mixing: str = "relative",
        widths: tuple[int, int, int] = (64, 128, 192),
        key_ratio: float = 0.25,
        value_ratio: float = 0.25,
        num_heads: int = 4,
    ):
        super().__init__()
        H, W = image_size
        if min(H, W) < 4:
            raise ValueError(f"image_size: expected at least 4 pixels a side, pooled twice, got {(H, W)}")
        layers = []
        for stage, channels in enumerate(widths):
            if stage:
                layers.append(nn.MaxPool2d(2))
                H, W = H // 2, W // 2
            layers += [
                mixing_layer(
                    mixing,
                    in_channels,
                    channels,
                    (H, W),
                    key_ratio=key_ratio,
                    value_ratio=value_ratio,
                    num_heads=num_heads,
                ),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            in_channels = channels
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, num_classes) logits."""
        return self.head(self.features(x).mean(dim=(2, 3)))


def mixing_layer(
    mixing: str,
    in_channels: int,
    out_channels: int,
    feature_size: tuple[int, int],
    *,
    gate_options: dict | None = None,
    **attention_options,
) -> nn.Module:
    """A 3×3 layer of the kind `mixing` names: one place where the choice is made."""
    expect_one_of("", "mixing", MIXINGS, mixing)
    if mixing == "convolution":
        return nn.Conv2d(in_channels, out_channels, 3, padding=1)
    if mixing in GATES:
        gate = make_gate(mixing, out_channels, **(gate_options or {}))
        return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1), gate)
    return AAConv2d(
        in_channels,
        out_channels,
        3,
        feature_size=feature_size,
        relative=mixing == "relative",
        **attention_options,
    )
