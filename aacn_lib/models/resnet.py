"""ResNets (He et al. 2016), plain, with gates, and attention-augmented (Bello et al. 2019, section 4.2)."""

from torch import Tensor, nn

from aacn_lib.expect import expect_count, expect_one_of
from aacn_lib.layers import StochasticDepth
from aacn_lib.models.residual import conv3x3, draw_convolutions, gate, halved, make_stages, plan_attention

# Pictures up to this many pixels a side keep their resolution in the stem (CIFAR and the like).
SMALL_IMAGE = 64


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut (He et al. 2016, figure 5 left); the first carries stride and attention.

    Args:
        in_channels: channels of the input.
        channels: channels of the convolutions; the output has `channels · expansion`.
        stride: of the first convolution and of the shortcut.
        attention, options: see `models.residual`. With "aa" the first convolution is augmented; a gate stands after
            the last batch normalisation.
        drop: share of the pictures that skip the branch in training.
        zero_init_last: start the last batch normalisation at zero, and so the block as the identity (Goyal et al. 2017,
            section 5.1).
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        attention: str = "none",
        options: dict | None = None,
        drop: float = 0.0,
        zero_init_last: bool = False,
    ):
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride, attention, options)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.gate = gate(channels, attention, options)
        self.drop = StochasticDepth(drop)
        self.downsample = _shortcut(in_channels, channels, stride)
        if zero_init_last:
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, channels, ⌈H/stride⌉, ⌈W/stride⌉)."""
        branch = self.bn1(self.conv1(x)).relu()
        branch = self.gate(self.bn2(self.conv2(branch)))
        return (self.downsample(x) + self.drop(branch)).relu()


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 beside a shortcut (He et al. 2016, figure 5 right); the 3×3 carries stride and attention.

    Arguments as for `BasicBlock`; the output has 4 · `channels`. The stride stands on the 3×3 convolution, as in
    torchvision's "v1.5", not on the first 1×1 as in the paper.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        attention: str = "none",
        options: dict | None = None,
        drop: float = 0.0,
        zero_init_last: bool = False,
    ):
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride, attention, options)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.gate = gate(out_channels, attention, options)
        self.drop = StochasticDepth(drop)
        self.downsample = _shortcut(in_channels, out_channels, stride)
        if zero_init_last:
            nn.init.zeros_(self.bn3.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, 4 · channels, ⌈H/stride⌉, ⌈W/stride⌉)."""
        branch = self.bn1(self.conv1(x)).relu()
        branch = self.bn2(self.conv2(branch)).relu()
        branch = self.gate(self.bn3(self.conv3(branch)))
        return (self.downsample(x) + self.drop(branch)).relu()


# Depth: block, and how many in each of the four stages (He et al. 2016, table 1).
DEPTHS = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(nn.Module):
    """A ResNet of 18, 34, 50, 101 or 152 layers.

    Parameters are named as in torchvision: for attention "none" and the large stem, state dicts load both ways and the
    outputs are equal.

    Augmented as in the paper: the one 3×3 convolution that carries the stride, in every block of the last three stages,
    8 heads, at least 20 key channels a head; κ = 0.2 and υ = 0.1 with bottlenecks, κ = υ = 0.25 with basic blocks.
    The counts this gives stand in `tests/models/test_resnets.py`, beside the paper's.

    Args:
        in_channels: channels of the pictures.
        num_classes: number of outputs.
        image_size: (H, W) of the pictures, any size; sets the sizes of the relative tables.
        depth: 18, 34, 50, 101 or 152.
        attention: "none", "se", "ge", "cbam" or "aa", see `models.residual`.
        width: channels of the first stage's blocks, doubled from stage to stage; 64 in the paper.
        stem: "large" is a 7×7 convolution of stride 2 and a max-pool of stride 2, "small" a 3×3 convolution that keeps
            the resolution; "auto" is "small" up to 64 pixels a side.
        zero_init_last: start each block as the identity, see `BasicBlock`.
        stochastic_depth: share of the pictures that skip the last block in training; it grows linearly from the first
            block on (Huang et al. 2016).
        **attention_options: where attention goes and what it is like: the keyword arguments of
            `models.residual.plan_attention`. With "aa" the stages are (2, 3, 4) by default.

    Raises:
        ValueError: for values that are unknown, that cannot be built, or that have no use with the attention chosen.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        depth: int = 50,
        attention: str = "none",
        width: int = 64,
        stem: str = "auto",
        zero_init_last: bool = False,
        stochastic_depth: float = 0.0,
        **attention_options,
    ):
        super().__init__()
        expect_one_of("ResNet", "depth", DEPTHS, depth)
        expect_one_of("ResNet", "stem", ("auto", "small", "large"), stem)
        expect_count("ResNet", "width", width)
        if stem == "auto":
            stem = "small" if max(image_size) <= SMALL_IMAGE else "large"
        block, counts = DEPTHS[depth]

        sizes = [image_size if stem == "small" else halved(halved(image_size))]
        for _ in counts[1:]:
            sizes.append(halved(sizes[-1]))
        plan = plan_attention(
            attention,
            sizes,
            augmented_stages=(2, 3, 4),
            ratios=(0.25, 0.25) if block is BasicBlock else (0.2, 0.1),
            **attention_options,
        )

        kernel, stride = (3, 1) if stem == "small" else (7, 2)
        self.conv1 = nn.Conv2d(in_channels, width, kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.Identity() if stem == "small" else nn.MaxPool2d(3, stride=2, padding=1)
        shape = [(width * 2**stage, count, 2 if stage else 1) for stage, count in enumerate(counts)]
        self.layer1, self.layer2, self.layer3, self.layer4 = make_stages(
            block, width, shape, plan, stochastic_depth=stochastic_depth, zero_init_last=zero_init_last
        )
        self.fc = nn.Linear(8 * width * block.expansion, num_classes)
        draw_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, num_classes) logits."""
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(2, 3)))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The identity where shapes agree, else a strided 1×1 convolution with batch normalisation."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))
