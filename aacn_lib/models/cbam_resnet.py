"""A small residual network with channel and spatial attention in every block, for pictures of CIFAR's size."""

from torch import Tensor, nn

from aacn_lib.expect import expect_count
from aacn_lib.models.residual import draw_convolutions, make_stages
from aacn_lib.models.resnet import BasicBlock


class CBAMResNet(nn.Module):
    """The CBAM network of 4,913,705 parameters that circulates for CIFAR-10.

    conv3×3 to 31 channels → four stages of two basic blocks, with 62, 124, 248 and 248 channels, the second and the
    third of stride 2 → conv1×1 → mean over pixels → dropout → linear. Batch normalisation and ReLU after each
    convolution; channel attention, then spatial attention (7×7) at the end of each residual branch.

    The circulating network joins the two summaries of channel attention by σ(a) + σ(b), CBAM's paper by σ(a + b), which
    is the default here; `join` chooses, and the number of parameters is the same.

    Its channel attention divides C by max(⌊C / 16⌋, 4), so that the hidden layer has 15 to 17 units at every width,
    where a reduction of 16 would leave 3 to 15.

    Args:
        in_channels: channels of the pictures.
        num_classes: number of outputs.
        image_size: (H, W); not needed by any layer, taken so that every network is made alike.
        width: channels of the stem; the stages have 2, 4, 8 and 8 times as many.
        join: "sigmoid_of_sum" or "sum_of_sigmoids", see `ChannelAttention`.
        dropout: share of numbers set to zero before the linear layer in training.
        zero_init_last, stochastic_depth: as in `ResNet`.

    Raises:
        ValueError: for values that are unknown or cannot be built.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        width: int = 31,
        join: str = "sigmoid_of_sum",
        dropout: float = 0.3,
        zero_init_last: bool = False,
        stochastic_depth: float = 0.0,
    ):
        super().__init__()
        expect_count("CBAMResNet", "width", width)
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        shape = [(2 * width, 2, 1), (4 * width, 2, 2), (8 * width, 2, 2), (8 * width, 2, 1)]
        plan = [("cbam", {"hidden": _hidden(channels), "join": join}) for channels, _, _ in shape]
        self.layer1, self.layer2, self.layer3, self.layer4 = make_stages(
            BasicBlock, width, shape, plan, stochastic_depth=stochastic_depth, zero_init_last=zero_init_last
        )
        self.conv2 = nn.Conv2d(8 * width, 8 * width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(8 * width)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(8 * width, num_classes)
        draw_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, num_classes) logits."""
        x = self.bn1(self.conv1(x)).relu()
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.bn2(self.conv2(x)).relu()
        return self.fc(self.dropout(x.mean(dim=(2, 3))))


def _hidden(channels: int) -> int:
    """Hidden units of the circulating network's channel attention: 15, 17 and 16 for 62, 124 and 248 channels."""
    return max(1, channels // max(channels // 16, 4))
