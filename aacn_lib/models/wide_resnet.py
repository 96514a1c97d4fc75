"""Wide ResNets (Zagoruyko and Komodakis 2016), plain, with gates, and attention-augmented (Bello et al. 2019)."""

from torch import Tensor, nn

from aacn_lib.expect import expect_count
from aacn_lib.layers import StochasticDepth
from aacn_lib.models.residual import conv3x3, draw_convolutions, gate, halved, make_stages, plan_attention


class WideBlock(nn.Module):
    """Normalise, ReLU, convolve, twice, beside a shortcut (the pre-activation block of He et al. 2016b, widened).

    Where shapes change, the shortcut is a 1×1 convolution of the *activated* input, as in the authors' code.

    Args:
        in_channels, channels: of the input and of the output.
        stride: of the first convolution and of the shortcut.
        attention, options: see `models.residual`. With "aa" the first convolution is augmented; a gate stands at the
            end of the branch.
        dropout: share of numbers set to zero between the convolutions in training.
        drop: share of the pictures that skip the branch in training.
        zero_init_last: start the last batch normalisation at zero, so that the block starts as its shortcut.
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
        dropout: float = 0.0,
        drop: float = 0.0,
        zero_init_last: bool = False,
    ):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, channels, stride, attention, options)
        self.bn2 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv3x3(channels, channels)
        self.gate = gate(channels, attention, options)
        self.drop = StochasticDepth(drop)
        self.shortcut = None
        if stride > 1 or in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
        if zero_init_last:
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, channels, ⌈H/stride⌉, ⌈W/stride⌉)."""
        activated = self.bn1(x).relu()
        branch = self.dropout(self.bn2(self.conv1(activated)).relu())
        branch = self.gate(self.conv2(branch))
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return shortcut + self.drop(branch)


class WideResNet(nn.Module):
    """A Wide-ResNet of 6n + 4 layers: three stages of n blocks, with 16k, 32k and 64k channels.

    The first stage keeps the resolution, the second and the third halve it.

    Augmented as in the paper, section 4.1: the first convolution of all residual blocks, 8 heads, κ = 0.2, υ = 0.1, at
    least 20 key channels a head. For depth 28, width 10 and 100 classes that gives 36,312,660 parameters, where the
    paper prints 36.2M, and 10.86 G operations (10.9 G) if the two products over all pairs of pixels are left out, else
    12.44 G. Attention in the last two stages alone, `attention_stages=(2, 3)`, gives 36,206,324, 10.50 G and 10.60 G:
    the cheaper choice, because in stage 1 of a 32×32 picture attention compares 1024 pixels with one another, sixteen
    times the pairs of stage 2. The plain network has 36,536,884 parameters, where the paper prints 36.3M: what is left
    without the 1×1 convolutions of the three shortcuts (36,278,324). If the augmented one was counted so too, neither
    choice gives 36.2M, and the parameters decide nothing.

    Args:
        in_channels: channels of the pictures.
        num_classes: number of outputs.
        image_size: (H, W) of the pictures, any size; sets the sizes of the relative tables.
        depth: layers, 6n + 4.
        width: k, the factor on the channels of a thin ResNet.
        attention: "none", "se", "ge", "cbam" or "aa", see `models.residual`.
        dropout: share of numbers set to zero between the two convolutions of each block.
        zero_init_last, stochastic_depth, **attention_options: as in `ResNet`; with "aa" all three stages by default.

    Raises:
        ValueError: for values that are unknown, that cannot be built, or that have no use with the attention chosen.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        depth: int = 28,
        width: int = 10,
        attention: str = "none",
        dropout: float = 0.0,
        zero_init_last: bool = False,
        stochastic_depth: float = 0.0,
        **attention_options,
    ):
        super().__init__()
        if not isinstance(depth, int) or depth < 10 or depth % 6 != 4:
            raise ValueError(f"WideResNet: depth: expected 6n + 4 such as 10, 16, 28 or 40, got {depth!r}")
        expect_count("WideResNet", "width", width)
        sizes = [image_size, halved(image_size), halved(halved(image_size))]
        plan = plan_attention(
            attention,
            sizes,
            augmented_stages=(1, 2, 3),
            ratios=(0.2, 0.1),
            **attention_options,
        )

        count = (depth - 4) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        shape = [(16 * width, count, 1), (32 * width, count, 2), (64 * width, count, 2)]
        options = {"dropout": dropout, "zero_init_last": zero_init_last}
        self.layer1, self.layer2, self.layer3 = make_stages(
            WideBlock, 16, shape, plan, stochastic_depth=stochastic_depth, **options
        )
        self.bn = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, num_classes)
        draw_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, num_classes) logits."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(self.bn(x).relu().mean(dim=(2, 3)))
