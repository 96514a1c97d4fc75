"""Checks of lesson 10, the paper's network on a GPU: counting, memory, settings for a machine, accumulation."""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacn_lib.exercises.grading import Wrong, call, free_exercise, function_exercise, primes

# --- 10.wide_block_parameters


def wide_block_parameters(in_channels: int, channels: int, stride: int) -> int:
    norms = 2 * in_channels + 2 * channels
    convolutions = 9 * in_channels * channels + 9 * channels * channels
    return norms + convolutions + _shortcut(in_channels, channels, stride)


def _shortcut(c: int, m: int, s: int) -> int:
    return c * m if s > 1 or c != m else 0


def _draw_blocks(generator: torch.Generator) -> list[tuple]:
    """All four kinds: channels that differ or not, with a stride or not."""
    a, b, c, d = primes(generator, 4, low=5, high=31)
    return [(a, b, 1), (b, c, 2), (c, c, 1), (d, d, 2), (d, a, 2)]


def _off_by(change: Callable) -> Callable:
    """The mistake that misses the right count by `change`."""
    return lambda *block: wide_block_parameters(*block) + change(*block)


function_exercise(
    "10.wide_block_parameters",
    wide_block_parameters,
    _draw_blocks,
    mistakes={
        "the first norm stands before the first convolution: it sees in_channels, not channels": (
            _off_by(lambda c, m, s: 2 * (m - c))
        ),
        "the second norm stands between the convolutions: it sees channels, not in_channels": (
            _off_by(lambda c, m, s: 2 * (c - m))
        ),
        "the norms are missing: each has a scale and a shift for every channel": (
            _off_by(lambda c, m, s: -2 * c - 2 * m)
        ),
        "a norm has two numbers a channel, a scale and a shift; looks as if one was counted": (
            _off_by(lambda c, m, s: -c - m)
        ),
        "the running means and variances were counted: they are buffers, no gradient trains them": (
            _off_by(lambda c, m, s: 2 * c + 2 * m)
        ),
        "the shortcut is missing: where the shape changes it is a 1×1 convolution": (
            _off_by(lambda c, m, s: -_shortcut(c, m, s))
        ),
        "every shortcut was counted as a convolution: where shape and channels stay, x is carried as it is": (
            lambda c, m, s: wide_block_parameters(c, m, 2)
        ),
        "the shortcut depends on the stride, too: a stride changes the shape even where the channels stay": (
            lambda c, m, s: wide_block_parameters(c, m, 1)
        ),
        "the shortcut depends on the channels, too: they may differ where the stride is 1": (
            _off_by(lambda c, m, s: -_shortcut(c, m, s) if s == 1 else 0)
        ),
        "biases were counted: neither 3×3 convolution has one": _off_by(lambda c, m, s: 2 * m),
        "the shortcut has no batch norm: it reads the input that the first norm has already passed": (
            _off_by(lambda c, m, s: 2 * m if _shortcut(c, m, s) else 0)
        ),
        "biases were counted: no convolution of the block has one": (
            _off_by(lambda c, m, s: 2 * m + (m if _shortcut(c, m, s) else 0))
        ),
        "the second convolution reads `channels`, not in_channels": _off_by(lambda c, m, s: 9 * m * (c - m)),
        "one 3×3 convolution is missing: the block has two": _off_by(lambda c, m, s: -9 * m * m),
    },
    tolerance=0,
)


# --- 10.bytes_of_scores

WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}


def bytes_of_scores(batch_size: int, num_heads: int, height: int, width: int, precision: str) -> int:
    return batch_size * num_heads * (height * width) ** 2 * WIDTHS[precision]


def _draw_scores(generator: torch.Generator) -> list[tuple]:
    return [(*primes(generator, 4, low=3, high=19), kind) for kind in (*WIDTHS, "float32")]


function_exercise(
    "10.bytes_of_scores",
    bytes_of_scores,
    _draw_scores,
    mistakes={
        "the pixels must be squared: there is a score for each *pair* of pixels": (
            lambda b, n, h, w, kind: b * n * h * w * WIDTHS[kind]
        ),
        "only one side was squared: the pixels are height · width, and all of them are paired with all": (
            lambda b, n, h, w, kind: b * n * h * w**2 * WIDTHS[kind]
        ),
        "height and width may differ: the pixels are height · width, not height²": (
            lambda b, n, h, w, kind: b * n * h**4 * WIDTHS[kind]
        ),
        "height and width may differ: the pixels are height · width, not width²": (
            lambda b, n, h, w, kind: b * n * w**4 * WIDTHS[kind]
        ),
        "the heads are missing: each writes scores of its own": lambda b, n, h, w, kind: (
            b * (h * w) ** 2 * WIDTHS[kind]
        ),
        "the batch is missing: each picture has scores of its own": (
            lambda b, n, h, w, kind: n * (h * w) ** 2 * WIDTHS[kind]
        ),
        "those are numbers, not bytes: multiply by the bytes of one": lambda b, n, h, w, kind: b * n * (h * w) ** 2,
        "those are bits: eight of them are a byte": lambda *case: 8 * bytes_of_scores(*case),
        "`precision` was left out: the 16-bit formats take two bytes a number, not four": (
            lambda b, n, h, w, kind: bytes_of_scores(b, n, h, w, "float32")
        ),
        "bfloat16 has 16 bits as well: two bytes, not four": (
            lambda b, n, h, w, kind: bytes_of_scores(b, n, h, w, "float16" if kind == "float16" else "float32")
        ),
        "the scores are not symmetric: pixel i looking at j and j looking at i are two numbers": (
            lambda *case: bytes_of_scores(*case) // 2
        ),
        "float32 takes four bytes a number, not two": lambda b, n, h, w, kind: bytes_of_scores(b, n, h, w, "float16"),
    },
    tolerance=0,
)


# --- 10.settings_for


def settings_for(
    batch_size: int,
    learning_rate: float,
    devices: int,
    capability: tuple[int, int],
    memory: int,
    fixed_bytes: int,
    picture_bytes: int,
) -> dict:
    share = -(-batch_size // devices)
    at_once = (memory - fixed_bytes) // picture_bytes
    return {
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "accumulate": -(-share // at_once),
        "precision": "bfloat16" if capability[0] >= 8 else "float16",
    }


def _draw_machines(generator: torch.Generator) -> list[tuple]:
    """Shares that are exact multiples of what fits, and shares that are not; memory with a rest; one piece and many."""
    cases = []
    for pieces, left_over, capability in (
        (1, 0, (8, 0)),
        (1, 2, (7, 5)),
        (3, 0, (7, 5)),
        (4, 1, (8, 6)),
        (5, 2, (9, 0)),
        (3, 1, (7, 0)),
    ):
        devices, at_once, picture = primes(generator, 3, low=5, high=29)
        # The share of a device: `pieces` full ones, or `left_over` pictures more; the last device has fewer.
        batch_size = devices * (pieces * at_once + left_over) - (devices - 1)
        fixed = 40 * at_once * picture
        cases.append(
            (batch_size, 0.2 * batch_size / 256, devices, capability, fixed + at_once * picture + 3, fixed, picture)
        )
    return cases


def _with(**changes: Callable) -> Callable:
    """The mistake that gets these entries wrong: each from the right answer and the case."""

    def mistaken(*case) -> dict:
        right = settings_for(*case)
        return right | {name: change(right, *case) for name, change in changes.items()}

    return mistaken


def _cut(pieces: Callable) -> Callable:
    """The mistake that gets `accumulate` wrong: from one device's share and the pictures that fit at once."""

    def mistaken(batch, rate, devices, capability, memory, fixed, picture) -> dict:
        right = settings_for(batch, rate, devices, capability, memory, fixed, picture)
        return right | {"accumulate": pieces(-(-batch // devices), (memory - fixed) // picture)}

    return mistaken


def _pieces(share: int, at_once: int) -> int:
    return max(1, -(-share // max(1, at_once)))


def _equal_pieces(share: int, at_once: int) -> int:
    """The fewest pieces of equal size that fit."""
    return next(count for count in range(1, share + 1) if share % count == 0 and share // count <= at_once)


function_exercise(
    "10.settings_for",
    settings_for,
    _draw_machines,
    mistakes={
        "batch_size is that of all devices together: do not divide it by the devices": (
            _with(batch_size=lambda right, batch, rate, devices, *_: -(-batch // devices))
        ),
        "batch_size is that of all devices together: leave it whole, also where it does not divide evenly": (
            _with(batch_size=lambda right, batch, rate, devices, *_: batch // devices)
        ),
        "batch_size is that of the whole step: `accumulate` cuts it, you do not": (
            _with(batch_size=lambda right, batch, *_: -(-batch // right["accumulate"]))
        ),
        "batch_size was made small enough to fit: then the step is another one; cut it with accumulate": (
            _with(
                batch_size=lambda right, batch, rate, devices, capability, memory, fixed, picture: (
                    devices * ((memory - fixed) // picture)
                )
            )
        ),
        "the rate was divided by accumulate: the step is the whole batch's, so its rate stays": (
            _with(learning_rate=lambda right, batch, rate, *_: rate / right["accumulate"])
        ),
        "the rate was multiplied by accumulate: the batch did not grow, so the rate stays": (
            _with(learning_rate=lambda right, batch, rate, *_: rate * right["accumulate"])
        ),
        "the rate was multiplied by the devices: the batch is that of all devices, and it did not grow": (
            _with(learning_rate=lambda right, batch, rate, devices, *_: rate * devices)
        ),
        "the formats are exchanged: bfloat16 from capability 8 on, float16 below": (
            _with(precision=lambda right, *_: {"float16": "bfloat16", "bfloat16": "float16"}[right["precision"]])
        ),
        "below compute capability 8 bfloat16 is computed in software: float16 there": (
            _with(precision=lambda *_: "bfloat16")
        ),
        "from compute capability 8 on bfloat16 is there in hardware and needs no scaling: use it": (
            _with(precision=lambda *_: "float16")
        ),
        "older GPUs have float16: half the memory of float32": (
            _with(precision=lambda right, *_: "float32" if right["precision"] == "float16" else "bfloat16")
        ),
        'write the format out: "auto" would choose it, here you do': _with(precision=lambda *_: "auto"),
        "the fixed bytes are missing: weights, gradients, momentum and averages take their part of the memory": (
            _with(
                accumulate=lambda right, batch, rate, devices, capability, memory, fixed, picture: _pieces(
                    -(-batch // devices), memory // picture
                )
            )
        ),
        "the devices are missing: each has only its share of the batch in its memory": (
            _with(
                accumulate=lambda right, batch, rate, devices, capability, memory, fixed, picture: _pieces(
                    batch, (memory - fixed) // picture
                )
            )
        ),
        "rounded down: the rest of the pictures needs a piece, too": (
            _cut(lambda share, at_once: max(1, share // at_once))
        ),
        "the share was rounded down: where the batch does not divide evenly, some device has one picture more": (
            _with(
                accumulate=lambda right, batch, rate, devices, capability, memory, fixed, picture: _pieces(
                    batch // devices, (memory - fixed) // picture
                )
            )
        ),
        "one picture a piece fits, but `accumulate` should be as small as possible": _cut(lambda share, at_once: share),
        "the pieces need not be equal: sizes may differ by one, so fewer of them fit": _cut(_equal_pieces),
        "one piece too many where the share is an exact multiple: round up with -(-a // b), not a // b + 1": (
            _cut(lambda share, at_once: share // at_once + 1)
        ),
        "that is how many fit at once: accumulate is the number of pieces": _cut(lambda share, at_once: at_once),
    },
    tolerance=1e-9,
)


# --- 10.accumulate_gradients


class _Watch:
    """Notes how many pictures go through a model at once, and its gradients at that moment."""

    def __init__(self, model: nn.Module):
        self.model, self.sizes, self.gradients = model, [], []
        model.register_forward_pre_hook(self)

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.sizes.append(len(inputs[0]))
        self.gradients.append(_gradients_of(self.model))


def _gradients_of(model: nn.Module) -> Tensor:
    """All gradients as one vector; zeros where there are none."""
    return torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in model.parameters()]
    )


def _of_loss(model: nn.Module, images: Tensor, labels: Tensor, reduction: str = "mean") -> tuple[Tensor, float]:
    """Gradients and value of the loss of these pictures at once."""
    model = copy.deepcopy(model)
    model.zero_grad()
    loss = F.cross_entropy(model(images), labels, reduction=reduction)
    loss.backward()
    return _gradients_of(model), loss.item()


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-6)


@free_exercise("10.accumulate_gradients")
def check_accumulation(answer: object, generator: torch.Generator) -> None:
    if not callable(answer):
        raise Wrong("expected the function itself, without calling it")
    for count, size in ((11, 4), (13, 5), (9, 2), (12, 4), (5, 7)):
        width, classes = primes(generator, 2, low=3, high=7)
        model = nn.Sequential(nn.Linear(width, 6), nn.GELU(), nn.Linear(6, classes))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        images = torch.randn(count, width, generator=generator)
        labels = torch.randint(0, classes, (count,), generator=generator)
        _check_one(answer, model, images, labels, size, generator)


def _check_one(answer, model: nn.Module, images: Tensor, labels: Tensor, size: int, generator: torch.Generator) -> None:
    pieces = list(zip(images.split(size), labels.split(size), strict=True))
    right, loss = _of_loss(model, images, labels)
    of_pieces, losses = zip(*(_of_loss(model, *piece) for piece in pieces), strict=True)
    for parameter in model.parameters():  # those of the step before
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    old, before = _gradients_of(model), nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    watched = copy.deepcopy(model)
    for parameter, twin in zip(model.parameters(), watched.parameters(), strict=True):
        twin.grad = parameter.grad.clone()
    watch = _Watch(watched)
    result = call(answer, watched, images, labels, size)
    after, found = nn.utils.parameters_to_vector(watched.parameters()).detach(), _gradients_of(watched)

    where = f"for {len(images)} pictures in pieces of {size}"
    if not torch.equal(after, before):
        raise Wrong("the weights have moved: leave the gradients in place, the optimiser takes the step")
    if max(watch.sizes, default=0) > size:
        raise Wrong(f"{where}: {max(watch.sizes)} pictures went through the model at once")
    if sum(watch.sizes) < len(images):
        raise Wrong(f"{where}: {sum(watch.sizes)} went through the model: the last, smaller piece counts, too")
    if sum(watch.sizes) > len(images):
        raise Wrong(f"{where}: {sum(watch.sizes)} went through the model: each picture once is enough")
    wrong = {
        "old gradients were not forgotten: call model.zero_grad() once, before the first piece": right + old,
        "the gradients are those of the last piece: zero_grad() belongs before the first piece, not into the loop": (
            of_pieces[-1]
        ),
        "only the last piece is left: zero_grad() belongs before the first piece, not into the loop": (
            of_pieces[-1] * (len(pieces[-1][1]) / len(images))
        ),
        "the pieces' means were added up without a division: every picture must count 1 / B": sum(of_pieces),
        "the mean of the pieces' means: a picture of the smaller last piece counts for more; divide sums by B": (
            sum(of_pieces) / len(pieces)
        ),
        "the losses were summed and not divided by the number of pictures": right * len(images),
        "the sums were divided by `size`: divide by the number of all pictures": right * (len(images) / size),
        "no gradient was left in the parameters: does each piece call backward()?": torch.zeros_like(right),
    }
    if torch.equal(found, old):
        raise Wrong("the gradients are the old ones: does each piece call backward()?")
    if not _close(found, right):
        for message, gradients in wrong.items():
            if _close(found, gradients):
                raise Wrong(message)
        raise Wrong(f"{where}: the gradients are not those of the whole batch's mean loss")
    if len(watch.gradients) > 1 and torch.equal(watch.gradients[0], watch.gradients[1]):
        raise Wrong("backward() waits for the end, so all pieces are kept in memory: call it after each piece")
    if not isinstance(result, int | float | Tensor) or (isinstance(result, Tensor) and result.numel() != 1):
        raise Wrong(f"the gradients are right; return the mean loss as a float, got {type(result).__name__}")
    value = float(result)
    if abs(value - loss) > 1e-4 * (1 + abs(loss)):
        for message, other in {
            "that is the loss of the last piece: return the mean over all pictures": losses[-1],
            "that is the last piece's share of the loss: add up those of all": losses[-1]
            * len(pieces[-1][1])
            / len(images),
            "that is the mean of the pieces' means: weigh each by its pictures": sum(losses) / len(losses),
            "that is the sum of the pieces' means": sum(losses),
            "that is the sum over all pictures: divide by their number": loss * len(images),
        }.items():
            if abs(value - other) < 1e-4 * (1 + abs(other)):
                raise Wrong(f"the gradients are right, the loss is not: {message}")
        raise Wrong(f"the gradients are right; the loss is {value:.4g}, expected {loss:.4g}")
    if isinstance(result, Tensor) and result.requires_grad:
        raise Wrong("the loss still hangs on the network: return a float, .item(), so that its memory is freed")
