"""Parameters and floating-point operations of a network, part by part, without running it on real numbers."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from aacn_lib.layers import AAConv1d, AAConv2d


@dataclass(frozen=True)
class Count:
    """A count for a network.

    Attributes:
        parts: {name: count}, in the order of the network. The parts are its direct attributes, modules and parameters,
            such as "stem", "layer1", "head"; what it computes outside of them is "elsewhere".
    """

    parts: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.parts.values())


def count_parameters(model: nn.Module) -> Count:
    """Numbers in all parameters, frozen ones included and buffers not. One shared by two parts counts for the first."""
    parts = {name: 0 for name, _ in [*model.named_parameters(recurse=False), *model.named_children()]}
    for name, parameter in model.named_parameters():
        parts[name.partition(".")[0]] += parameter.numel()
    return Count(parts)


def count_flops(
    model: nn.Module, image_size: int | tuple[int, int], in_channels: int = 3, *, relative_logits: bool = True
) -> Count:
    """Floating-point operations of one forward pass of one picture.

    A multiply-add is two, as in the tables of Bello et al. 2019. Counted are convolutions, linear layers and the matrix
    products of attention; normalisation, activations, softmax, pooling and additions are not. PyTorch's own counter
    does it, on a copy whose tensors have shapes but no memory: nothing is computed, and `model` is not touched.

    Attention over N = H · W pixels costs 2 · N² · d_k for the logits and 2 · N² · d_v for the weighted sum. Relative
    logits are counted as the paper's form computes them, every query with every row of both tables:
    2 · N · (2H - 1 + 2W - 1) · d_k. The other forms of `attention` reach the same numbers by other means. How the
    paper's tables count attention is not known to us.

    Args:
        model: a network of pictures (B, in_channels, H, W).
        image_size: an int or (H, W), in pixels.
        in_channels: channels of the pictures.
        relative_logits: whether to count those.

    Raises:
        ValueError: for sizes that are not whole numbers of at least 1.
    """
    size = tuple(image_size) if isinstance(image_size, tuple | list) else (image_size, image_size)
    if len(size) != 2 or not all(isinstance(number, int) and number >= 1 for number in (*size, in_channels)):
        raise ValueError(
            "count_flops: expected image_size an int or (H, W) and in_channels, whole numbers of at least 1, "
            f"got {image_size!r} and {in_channels!r}"
        )
    model = copy.deepcopy(model).to("meta").eval()
    for layer in model.modules():
        if isinstance(layer, AAConv2d | AAConv1d):
            layer.implementation = "skew"  # plain matrix products, each of which the counter sees
            if not relative_logits:
                for table in ("rel_h", "rel_w", "rel"):
                    if getattr(layer, table, None) is not None:
                        setattr(layer, table, None)
    kind = next((p.dtype for p in model.parameters()), torch.get_default_dtype())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, in_channels, *size, dtype=kind, device="meta"))
    counts = counter.get_flop_counts()

    def of(module: nn.Module, path: str) -> int:
        """A module's own count; one that is never called, such as a list, has its members'."""
        if path in counts:
            return sum(counts[path].values())
        return sum(of(child, f"{path}.{name}") for name, child in module.named_children())

    root = type(model).__name__  # the counter's name for the network
    parts = {name: of(child, f"{root}.{name}") for name, child in model.named_children()}
    elsewhere = counter.get_total_flops() - sum(parts.values())
    return Count(parts | ({"elsewhere": elsewhere} if elsewhere else {}))
