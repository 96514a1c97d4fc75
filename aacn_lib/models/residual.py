"""What the residual networks share: where attention goes, and what stands in a block for it.

A block knows one word, `attention`:
    "none"              a plain residual block;
    "se", "ge", "cbam"  the residual branch passes a gate (`channel_attention.GATES`) before it is added;
    "aa"                one 3×3 convolution of the block is an `AAConv2d`.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from aacn_lib.expect import expect_one_of
from aacn_lib.layers import GATES, AAConv2d, make_gate

ATTENTIONS = ("none", *GATES, "aa")


def conv3x3(
    in_channels: int, out_channels: int, stride: int = 1, attention: str = "none", options: dict | None = None
) -> nn.Module:
    """The 3×3 convolution of a block that attention may augment; without bias, since batch normalisation follows.

    With attention "aa" it is an `AAConv2d` made with `options`, with any other a plain convolution.
    """
    if attention == "aa":
        return AAConv2d(in_channels, out_channels, 3, stride=stride, bias=False, **(options or {}))
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def gate(channels: int, attention: str = "none", options: dict | None = None) -> nn.Module:
    """What the end of a residual branch passes: a gate made with `options` for "se", "ge" or "cbam", else nothing."""
    return make_gate(attention, channels, **(options or {})) if attention in GATES else nn.Identity()


def plan_attention(
    attention: str,
    feature_sizes: Sequence[tuple[int, int]],
    augmented_stages: Iterable[int],
    ratios: tuple[float, float],
    *,
    gate_options: dict | None = None,
    attention_stages: Iterable[int] | None = None,
    key_ratio: float | None = None,
    value_ratio: float | None = None,
    num_heads: int | None = None,
    min_depth_k_per_head: int | None = None,
    attention_pool: int | Sequence[int] | None = None,
    position_encoding: str | None = None,
    implementation: str | None = None,
) -> list[tuple[str, dict]]:
    """Which attention the blocks of each stage get: (attention, its options), one pair a stage.

    The keyword arguments are options of every residual network.

    Args:
        attention: one of `ATTENTIONS`.
        feature_sizes: (H, W) of each stage's output map.
        augmented_stages: where "aa" goes unless `attention_stages` says otherwise.
        ratios: (κ, υ) of "aa" unless `key_ratio` and `value_ratio` say otherwise.
        gate_options: a dictionary of options for the gate of "se", "ge" or "cbam", see `channel_attention`.
        attention_stages: numbers, from 1, of the stages with attention; by default all, with "aa" `augmented_stages`.
        key_ratio, value_ratio: κ and υ of "aa".
        num_heads, min_depth_k_per_head, position_encoding, implementation: of "aa", see `AAConv2d`.
        attention_pool: of "aa", see `AAConv2d`: one number, or one for each of `attention_stages`.

    Raises:
        ValueError: for an unknown attention or stage, and for options that the attention chosen has no use for.
    """
    expect_one_of("", "attention", ATTENTIONS, attention)
    augmentation = {
        "key_ratio": key_ratio,
        "value_ratio": value_ratio,
        "num_heads": num_heads,
        "min_depth_k_per_head": min_depth_k_per_head,
        "position_encoding": position_encoding,
        "implementation": implementation,
    }
    augmentation = {name: value for name, value in augmentation.items() if value is not None}
    useless = {
        "attention_stages": attention_stages if attention == "none" else None,
        "gate_options": gate_options if attention not in GATES else None,
        **({} if attention == "aa" else augmentation | {"attention_pool": attention_pool}),
    }
    for name, value in useless.items():
        if value is not None:
            raise ValueError(f"{name}: of no use with attention {attention!r}, got {value!r}")

    count = len(feature_sizes)
    if attention_stages is None:
        attention_stages = augmented_stages if attention == "aa" else range(1, count + 1)
    chosen = _stage_numbers(attention_stages, count)
    pools = _pools(attention_pool, chosen)
    plan = []
    for stage, size in enumerate(feature_sizes, start=1):
        if stage not in chosen:
            plan.append(("none", {}))
        elif attention == "aa":
            defaults = {"key_ratio": ratios[0], "value_ratio": ratios[1]}
            place = {"feature_size": tuple(size), "attention_pool": pools[stage]}
            plan.append(("aa", defaults | augmentation | place))
        else:
            plan.append((attention, dict(gate_options or {})))
    return plan


def make_stages(
    block: type[nn.Module],
    in_channels: int,
    shape: Sequence[tuple[int, int, int]],
    plan: Sequence[tuple[str, dict]],
    *,
    stochastic_depth: float,
    **block_options,
) -> list[nn.Sequential]:
    """The stages of a residual network, each a row of blocks.

    Args:
        block: the class of the blocks, with its `expansion`.
        in_channels: channels that reach the first stage.
        shape: (channels, number of blocks, stride of the first of them), one triple a stage.
        plan: from `plan_attention`.
        stochastic_depth: share of the pictures that skip the last block in training. Block l of L gets l / L of it: the
            linear rule of Huang et al. 2016, eq. 4.
        **block_options: passed to every block.
    """
    total, built, stages = sum(count for _, count, _ in shape), 0, []
    for (channels, count, stride), (attention, options) in zip(shape, plan, strict=True):
        blocks = []
        for number in range(count):
            built += 1
            blocks.append(
                block(
                    in_channels,
                    channels,
                    stride=1 if number else stride,
                    attention=attention,
                    options=options,
                    drop=stochastic_depth * built / total,
                    **block_options,
                )
            )
            in_channels = channels * block.expansion
        stages.append(nn.Sequential(*blocks))
    return stages


def halved(size: tuple[int, int], stride: int = 2) -> tuple[int, int]:
    """The map that a "same"-padded layer of this stride makes of a map of (H, W) pixels."""
    H, W = size
    return -(-H // stride), -(-W // stride)


@torch.no_grad()
def draw_convolutions(network: nn.Module) -> None:
    """Draw the convolutions of `network` as ResNets do: normal with variance 2 / (k² · out_channels) (He et al. 2015).

    An `AAConv2d` keeps PyTorch's own start in its attention branch, whose logits should begin small.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and not name.endswith((".qkv", ".output")):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _stage_numbers(stages: Iterable[int], count: int) -> list[int]:
    numbers = list(stages) if isinstance(stages, Iterable) and not isinstance(stages, str) else [stages]
    right = all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= count for n in numbers)
    if not right or len(set(numbers)) < len(numbers):
        raise ValueError(f"attention_stages: expected different numbers from 1 to {count}, got {stages!r}")
    return numbers


def _pools(pool: int | Sequence[int] | None, stages: list[int]) -> dict[int, int]:
    """The pooling factor of each stage."""
    pools = list(pool) if isinstance(pool, list | tuple) else [1 if pool is None else pool] * len(stages)
    if len(pools) != len(stages):
        raise ValueError(f"attention_pool: expected one number, or {len(stages)} for the stages {stages}, got {pool!r}")
    return dict(zip(stages, pools, strict=True))
