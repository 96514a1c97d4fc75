"""Wrong answers to the exercises of lesson 01, and words of the message each must earn."""

import torch
from harness import raised

_COUNT = "def conv_parameters(in_channels, out_channels, kernel_size):\n    return {}"

_ACCURACY = "def accuracy(logits, labels):\n    {}"

_FIELD = """
def receptive_field(layers):
    size, step = {start}, 1
    for kernel_size, stride in layers:
        {body}
    return size
"""

_CONV = """
def conv2d(image, kernel, padding):
    H, W = image.shape
    kh, kw = kernel.shape
    padded = torch.zeros(H + 2 * padding, W + 2 * padding)
    padded[padding : padding + H, padding : padding + W] = image
    {prepare}
    output = torch.zeros(H + 2 * padding - kh + 1, W + 2 * padding - kw + 1)
    for i in range(output.shape[0]):
        for j in range(output.shape[1]):
            output[i, j] = {entry}
    return {result}
"""


def _conv(prepare="pass", entry="(padded[i : i + kh, j : j + kw] * kernel).sum()", result="output"):
    return _CONV.format(prepare=prepare, entry=entry, result=result)


def _field(body, start=1):
    return _FIELD.format(body=body, start=start)


WRONG = {
    "01.conv_parameters": {
        "no bias": (
            _COUNT.format("sum([kernel_size * kernel_size * in_channels] * out_channels)"),
            "biases are missing",
        ),
        "no input channels": (_COUNT.format("out_channels * (kernel_size**2 + 1)"), "input channels are missing"),
        "no output channels": (_COUNT.format("in_channels * kernel_size**2 + 1"), "output channels are missing"),
        "kernel not squared": (_COUNT.format("out_channels * (in_channels * kernel_size + 1)"), "a kernel is square"),
        "bias of the input": (_COUNT.format("in_channels * (out_channels * kernel_size**2 + 1)"), "not to the input"),
        "one bias": (_COUNT.format("in_channels * out_channels * kernel_size**2 + 1"), "too few"),
        "a bias in every slice": (
            _COUNT.format("in_channels * out_channels * (kernel_size**2 + 1)"),
            "too many biases",
        ),
        "two sides of the kernel added": (
            _COUNT.format("out_channels * in_channels * 2 * kernel_size"),
            "for conv_parameters(",
        ),
    },
    "01.accuracy": {
        "count": (_ACCURACY.format("return int((logits.argmax(1) == labels).sum())"), "number of correct answers"),
        "percentage": (
            _ACCURACY.format("return 100 * (logits.argmax(1) == labels).float().mean()"),
            "that is a percentage",
        ),
        "error rate": (_ACCURACY.format("return (logits.argmax(1) != labels).float().mean()"), "share of mistakes"),
        "whole division": (
            _ACCURACY.format("return (logits.argmax(1) == labels).sum() // len(labels)"),
            "was the division `//`",
        ),
        "argmax of the whole table": (
            _ACCURACY.format("return (torch.argmax(logits) == labels).sum() / len(labels)"),
            "give it dim=1",
        ),
        "mean of truth values": (
            _ACCURACY.format("return (logits.argmax(dim=1) == labels).mean()"),
            raised(lambda: torch.tensor([True]).mean()),
        ),
        "divided by classes": (
            _ACCURACY.format("return (logits.argmax(1) == labels).sum() / logits.shape[1]"),
            "number of classes",
        ),
        "argmin": (_ACCURACY.format("return ((-logits).argmax(1) == labels).float().mean()"), "believes in least"),
        "confidence": (_ACCURACY.format("return logits.softmax(-1).max(-1).values.mean()"), "mean confidence"),
        "over pictures": (
            _ACCURACY.format("return (logits.argmax(dim=0) == labels).float().mean()"),
            raised(lambda: torch.zeros(2) == torch.zeros(3)),
        ),
        "not averaged": (_ACCURACY.format("return (logits.argmax(1) == labels).float()"), "for accuracy("),
        "no return": (_ACCURACY.format("(logits.argmax(1) == labels).float().mean()"), "returned None"),
    },
    "01.receptive_field": {
        "whole kernels": (_field("size += kernel_size * step; step *= stride"), "not the whole kernel"),
        "whole kernels from nothing": (
            _field("size += kernel_size * step; step *= stride", start=0),
            "each layer after the first",
        ),
        "no strides": (_field("size += kernel_size - 1"), "strides are ignored"),
        "stride too early": (_field("step *= stride; size += (kernel_size - 1) * step"), "grow first"),
        "own stride only": (_field("size += (kernel_size - 1) * stride"), "product of the strides so far"),
        "last stride only": (_field("size += (kernel_size - 1) * step; step = stride"), "only the last of them"),
        "strides added": (_field("size += (kernel_size - 1) * step; step += stride - 1"), "add up here"),
        "starts at zero": (_field("size += (kernel_size - 1) * step; step *= stride", start=0), "start from 1"),
        "product": (_field("size *= kernel_size"), "kernels do not multiply"),
        "last layer first": (
            "def receptive_field(layers):\n    size = 1\n    for kernel_size, stride in layers:\n"
            "        size = (size - 1) * stride + kernel_size\n    return size",
            "wrong order",
        ),
        "whole stride": (_field("size *= stride"), "whole stride of the stack"),
        "step by the kernel": (
            _field("size += (kernel_size - 1) * step; step *= kernel_size"),
            "kernels do not multiply",
        ),
        "half of the window": (_field("size += kernel_size // 2 * step; step *= stride"), "for receptive_field("),
    },
    "01.conv2d": {
        "padding forgotten": (
            "def conv2d(image, kernel, padding):\n    return F.conv2d(image[None, None], kernel[None, None])[0, 0]",
            "padding is forgotten",
        ),
        "flipped": (
            _conv(entry="(padded[i : i + kh, j : j + kw] * kernel.flip(0).flip(1)).sum()"),
            "the kernel is flipped",
        ),
        "flipped by a minus": (
            _conv(
                entry="sum(padded[i + kh - 1 - a, j + kw - 1 - b] * kernel[a, b] for a in range(kh) for b in range(kw))"
            ),
            "the kernel is flipped",
        ),
        "padded at one corner": (
            "def conv2d(image, kernel, padding):\n"
            "    padded = torch.zeros(image.shape[0] + padding, image.shape[1] + padding)\n"
            "    padded[padding:, padding:] = image\n"
            "    return F.conv2d(padded[None, None], kernel[None, None])[0, 0]",
            "above and on the left only",
        ),
        "edge repeated": (
            _conv("padded = F.pad(image[None, None], (padding,) * 4, mode='replicate')[0, 0]"),
            "repeats the picture's edge",
        ),
        "swapped": (_conv(result="output.transpose(0, 1)"), "rows and columns of the result"),
        "kernel swapped": (
            "def conv2d(image, kernel, padding):\n"
            "    return F.conv2d(image[None, None], kernel.T[None, None], padding=padding)[0, 0]",
            "rows and columns of the kernel",
        ),
        "one too few": (_conv(result="output[:-1, :-1]"), "last row and column"),
        "mean": (_conv(entry="(padded[i : i + kh, j : j + kw] * kernel).mean()"), "averaged"),
        "cut to the picture": (_conv(result="output[:H, :W]"), "cut to the size of the picture"),
        "never filled": (_conv(entry="0.0"), "entry [0, 0] is 0"),
    },
}
