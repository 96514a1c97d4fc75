"""One call of a layer, as it is timed and as its memory is counted."""

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.layers.cases import Case


def inputs(case: Case, device: str) -> tuple[Tensor, Tensor]:
    """The layer's input, which wants a gradient as in the middle of a network, and the gradient of its output."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(case.batch, case.in_channels, case.H, case.W, generator=generator)
    slope = torch.randn(case.batch, case.out_channels, case.H, case.W, generator=generator)
    return x.to(device).requires_grad_(), slope.to(device)


def mixed_precision(device: str, dtype: torch.dtype):
    return contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(device, dtype)


def inference_step(layer: nn.Module, case: Case, device: str, dtype: torch.dtype) -> Callable[[], None]:
    layer, (x, _) = layer.eval(), inputs(case, device)

    def step():
        with torch.no_grad(), mixed_precision(device, dtype):
            layer(x)

    return step


def training_step(layer: nn.Module, case: Case, device: str, dtype: torch.dtype) -> Callable[[], None]:
    """Forward and backward, with the gradients of the input and of all parameters."""
    layer, (x, slope) = layer.train(), inputs(case, device)
    wanted = [x, *layer.parameters()]

    def step():
        with mixed_precision(device, dtype):
            out = layer(x)
        torch.autograd.grad(out, wanted, slope.to(out.dtype))

    return step
