"""Exercises of lesson 01: counting weights, measuring accuracy, the receptive field, and convolution by hand."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from aacn_lib.data import receptive_field
from aacn_lib.exercises.grading import function_exercise, primes

# --- 01.conv_parameters ---


def conv_parameters(in_channels: int, out_channels: int, kernel_size: int) -> int:
    return out_channels * in_channels * kernel_size**2 + out_channels


def _draw_layers(generator: torch.Generator) -> list[tuple]:
    return [tuple(primes(generator, 3, 2, 31)) for _ in range(5)]


function_exercise(
    "01.conv_parameters",
    conv_parameters,
    _draw_layers,
    mistakes={
        "the biases are missing: one number for each output channel": lambda i, o, k: o * i * k**2,
        "the input channels are missing: a kernel has a layer of weights for every input channel": (
            lambda i, o, k: o * k**2 + o
        ),
        "the output channels are missing: every output channel has a kernel of its own": lambda i, o, k: i * k**2 + 1,
        "a kernel is square: kernel_size rows and kernel_size columns": lambda i, o, k: o * i * k + o,
        "the biases belong to the output channels, not to the input channels": lambda i, o, k: o * i * k**2 + i,
        "one bias for the whole layer is too few: each output channel has its own": lambda i, o, k: o * i * k**2 + 1,
        "too many biases: one for each output channel, not one for each pair of channels": (
            lambda i, o, k: o * i * (k**2 + 1)
        ),
        "the channels do not add up, they multiply: every output channel reads every input channel": (
            lambda i, o, k: (o + i) * k**2 + o
        ),
    },
)


# --- 01.accuracy ---


def accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(dim=1) == labels).float().mean().item()


def _draw_predictions(generator: torch.Generator) -> list[tuple]:
    """An odd number of pictures of which some, but not all, are classified correctly: no two mistakes coincide.

    The largest logit of all lies in the first row, and its class is a right answer: an argmax over the whole table
    then names a class that is right now and then, which no whole division does.
    """
    cases = []
    for _ in range(5):
        count, classes = *primes(generator, 1, 11, 29), *primes(generator, 1, 5, 7)
        logits = torch.randn(count, classes, generator=generator)
        top = int(torch.randint(classes, (), generator=generator))
        logits[0, top] = logits.max() + 1
        labels = logits.argmax(dim=1)
        missed = int(torch.randint(2, count // 2, (), generator=generator))
        chosen = 1 + torch.randperm(count - 1, generator=generator)[:missed]
        labels[chosen] = (labels[chosen] + 1) % classes
        cases.append((logits, labels))
    return cases


function_exercise(
    "01.accuracy",
    accuracy,
    _draw_predictions,
    mistakes={
        "that is the number of correct answers: divide by the number of pictures": lambda logits, labels: (
            (logits.argmax(dim=1) == labels).sum().item()
        ),
        "that is a percentage: the share lies between 0 and 1": lambda logits, labels: 100 * accuracy(logits, labels),
        "that is the share of mistakes, one minus the accuracy": lambda logits, labels: 1 - accuracy(logits, labels),
        "argmax without dim=1 looks through the whole table and finds one place in it: give it dim=1": (
            lambda logits, labels: (logits.argmax() == labels).float().mean().item()
        ),
        "always 0: was the division `//`, or is no choice compared with its own label?": lambda logits, labels: (
            (logits.argmax(dim=1) == labels).sum().item() // len(labels)
        ),
        "argmin chooses the class the network believes in least": lambda logits, labels: (
            (logits.argmin(dim=1) == labels).float().mean().item()
        ),
        "it divides by the number of classes: divide by the number of pictures, len(labels)": lambda logits, labels: (
            (logits.argmax(dim=1) == labels).sum().item() / logits.shape[1]
        ),
        "that is the network's mean confidence, which it may have in wrong answers too: compare with the labels": (
            lambda logits, labels: logits.softmax(dim=1).amax(dim=1).mean().item()
        ),
        "that is the mean probability of the right class: accuracy only asks which logit is largest": (
            lambda logits, labels: logits.softmax(dim=1).gather(1, labels[:, None]).mean().item()
        ),
    },
)


# --- 01.receptive_field ---


def _walk(layers: list[tuple[int, int]], size: int, grow, advance) -> int:
    """The recursion with its three choices open: where it starts, what a layer adds, how the step changes."""
    step = 1
    for kernel_size, stride in layers:
        size += grow(kernel_size, stride) * step
        step = advance(step, stride)
    return size


def _draw_stacks(generator: torch.Generator) -> list[tuple]:
    """Stacks that open with two unequal strides above 1, so that no two ways of using strides agree."""

    def draw(choices: tuple) -> int:
        return choices[int(torch.randint(len(choices), (), generator=generator))]

    stacks = []
    for depth in (1, 3, 4, 4, 5, 5):
        strides = [*([2, 3] if draw((0, 1)) else [3, 2]), *(draw((1, 2, 3)) for _ in range(3))]
        stacks.append(([(draw((2, 3, 5, 7)), stride) for stride in strides[:depth]],))
    return stacks


def _product(step: int, stride: int) -> int:
    return step * stride


function_exercise(
    "01.receptive_field",
    receptive_field,
    _draw_stacks,
    mistakes={
        "each layer adds its kernel minus one, not the whole kernel: the window's own pixel is already counted": (
            lambda layers: _walk(layers, 1, lambda k, s: k, _product)
        ),
        "each layer after the first adds its kernel minus one, not the whole kernel": lambda layers: _walk(
            layers, 0, lambda k, s: k, _product
        ),
        "the strides are ignored: after a stride of 2, neighbours are two input pixels apart": lambda layers: _walk(
            layers, 1, lambda k, s: k - 1, lambda step, s: 1
        ),
        "a layer's stride spreads the layers after it, not the layer itself: grow first, then multiply the step": (
            lambda layers: _walk(layers, 1, lambda k, s: (k - 1) * s, _product)
        ),
        "a layer's stride spreads the layers after it, not the layer itself: keep the product of the strides so far": (
            lambda layers: 1 + sum((k - 1) * s for k, s in layers)
        ),
        "the strides of all earlier layers multiply: only the last of them was used": lambda layers: _walk(
            layers, 1, lambda k, s: k - 1, lambda step, s: s
        ),
        "the strides add up here, but they multiply: two strides of 2 make a step of 4, two strides of 3 one of 9": (
            lambda layers: _walk(layers, 1, lambda k, s: k - 1, lambda step, s: step + s - 1)
        ),
        "one pixel is missing: with no layer at all an output is one input pixel, so start from 1": lambda layers: (
            receptive_field(layers) - 1
        ),
        "the kernels do not multiply: two 3×3 layers see 5 pixels, not 9": lambda layers: math.prod(
            k for k, _ in layers
        ),
        "the layers were taken in the wrong order: the list holds the first layer first": lambda layers: (
            receptive_field(layers[::-1])
        ),
        "that is the whole stride of the stack, how far apart two outputs lie, not how far one of them sees": (
            lambda layers: math.prod(s for _, s in layers)
        ),
    },
)


# --- 01.conv2d ---


def conv2d(image: Tensor, kernel: Tensor, padding: int) -> Tensor:
    return F.conv2d(image[None, None], kernel[None, None], padding=padding)[0, 0]


def _padded(image: Tensor, kernel: Tensor, padding: int, mode: str) -> Tensor:
    return conv2d(F.pad(image[None], (padding,) * 4, mode=mode)[0], kernel, 0)


def _draw_pictures(generator: torch.Generator) -> list[tuple]:
    cases = []
    for padding in (0, 1, 2, 3, 1):
        (H, W), (kh, kw) = primes(generator, 2, 7, 13), primes(generator, 2, 2, 5)
        image, kernel = torch.randn(H, W, generator=generator), torch.randn(kh, kw, generator=generator)
        cases.append((image, kernel, padding))
    return cases


function_exercise(
    "01.conv2d",
    conv2d,
    _draw_pictures,
    mistakes={
        "the padding is forgotten: the output is right for padding 0 only": lambda x, k, p: conv2d(x, k, 0),
        "the kernel is flipped (upside down and left to right): deep learning lays it on the picture as it is": (
            lambda x, k, p: conv2d(x, k.flip(0, 1), p)
        ),
        "the picture is padded above and on the left only: every side gets `padding` zeros": lambda x, k, p: conv2d(
            F.pad(x, (p, 0, p, 0)), k, 0
        ),
        "the picture is padded below and on the right only: every side gets `padding` zeros": lambda x, k, p: conv2d(
            F.pad(x, (0, p, 0, p)), k, 0
        ),
        "only the rows are padded: columns need it as well": lambda x, k, p: conv2d(F.pad(x, (0, 0, p, p)), k, 0),
        "only the columns are padded: rows need it as well": lambda x, k, p: conv2d(F.pad(x, (p, p, 0, 0)), k, 0),
        "the padding repeats the picture's edge: it must be zeros": lambda x, k, p: _padded(x, k, p, "replicate"),
        "the padding is ones: it must be zeros": lambda x, k, p: conv2d(F.pad(x, (p,) * 4, value=1.0), k, 0),
        "rows and columns of the result are swapped": lambda x, k, p: conv2d(x, k, p).T,
        "rows and columns of the kernel are swapped": lambda x, k, p: conv2d(x, k.T, p),
        "the last row and column of outputs are missing: a window of kh rows fits H + 2·padding - kh + 1 times": (
            lambda x, k, p: conv2d(x, k, p)[:-1, :-1]
        ),
        "the products are averaged: their sum is asked for": lambda x, k, p: conv2d(x, k, p) / k.numel(),
        "the output was cut to the size of the picture: every position that holds the kernel counts": (
            lambda x, k, p: conv2d(x, k, p)[: x.shape[0], : x.shape[1]]
        ),
    },
)
