"""Checks of lesson 06, making it fast: operations counted, softmax in pieces, a power of two, longer queries."""

import math
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from aacn_lib.exercises.compare import difference
from aacn_lib.exercises.grading import REGISTRY, Wrong, call, free_exercise, function_exercise, primes
from aacn_lib.exercises.longer_vectors import check_longer_vectors

# --- 06.count_flops


def attention_flops(height: int, width: int, num_heads: int, depth_k: int, depth_v: int) -> int:
    return 2 * (height * width) ** 2 * (depth_k + depth_v)


def _draw_sizes(generator: torch.Generator) -> list[tuple]:
    cases = []
    for _ in range(4):
        height, width, num_heads, key, value = primes(generator, 5, high=17)
        cases.append((height, width, num_heads, num_heads * key, num_heads * value))
    return cases


function_exercise(
    "06.count_flops",
    attention_flops,
    _draw_sizes,
    mistakes={
        "that is the number of multiply-adds: each counts as two FLOPs": lambda h, w, n, k, v: (h * w) ** 2 * (k + v),
        "the heads were counted twice: depth_k and depth_v are those of all heads together": (
            lambda h, w, n, k, v: 2 * n * (h * w) ** 2 * (k + v)
        ),
        "that is one head of the layer: add up all of them": lambda h, w, n, k, v: 2 * (h * w) ** 2 * (k + v) // n,
        "the square is missing: every pixel meets every pixel, (HW)² pairs": lambda h, w, n, k, v: 2 * h * w * (k + v),
        "a map has height · width pixels, not height + width": lambda h, w, n, k, v: 2 * (h + w) ** 2 * (k + v),
        "only one side is squared: (HW)² is height² · width²": lambda h, w, n, k, v: 2 * h * w**2 * (k + v),
        "only one side is squared: (HW)² is width² · height²": lambda h, w, n, k, v: 2 * h**2 * w * (k + v),
        "the weighted sums are missing: each pixel adds up all values": lambda h, w, n, k, v: 2 * (h * w) ** 2 * k,
        "the logits are missing: each is a product of depth_k / num_heads numbers": (
            lambda h, w, n, k, v: 2 * (h * w) ** 2 * v
        ),
        "the two depths were multiplied: logits and sums are two steps, so their costs are added": (
            lambda h, w, n, k, v: 2 * (h * w) ** 2 * k * v
        ),
        "queries and keys were counted as two products: a logit is one product of a query with a key": (
            lambda h, w, n, k, v: 2 * (h * w) ** 2 * (2 * k + v)
        ),
    },
)


# --- 06.running_softmax


class Pieces:
    """Pairs (logits, values) that can be walked through once, without keeping them."""

    def __init__(self, pairs: list[tuple[Tensor, Tensor]]):
        self.pairs, self.walked = pairs, False

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.walked:
            raise Wrong("the pieces were walked through twice: they come only once")
        self.walked = True
        handed_out = []
        for logits, values in self.pairs:
            pair = (logits.clone(), values.clone())
            handed_out.append([weakref.ref(t) for t in pair])
            yield pair
            del pair
            # The loop's own variables still hold the latest pair.
            if any(ref() is not None for refs in handed_out[:-1] for ref in refs):
                raise Wrong("earlier pieces are still held: keep a maximum and two sums, and let the pieces go")

    def __repr__(self) -> str:
        return f"pieces of {', '.join(str(len(logits)) for logits, _ in self.pairs)} keys"


def attend_in_pieces(pieces: Pieces) -> tuple[Tensor, float]:
    logits, values = (torch.cat(parts).double() for parts in zip(*pieces.pairs, strict=True))
    return (logits.softmax(0) @ values).float(), logits.logsumexp(0).item()


def _run_through(
    pieces: Pieces, *, start=-torch.inf, highest=torch.maximum, shrink_total=True, shrink_weighted=True, sign=1
) -> tuple[Tensor, Tensor, Tensor]:
    """Maximum, sum and weighted sum after the last piece, with every step replaceable by a mistake."""
    top, total, weighted = torch.tensor(start), torch.tensor(0.0), torch.tensor(0.0)
    for logits, values in pieces.pairs:
        new_top = highest(top, logits.max())
        shrink = torch.exp(sign * (top - new_top))
        weights = torch.exp(logits - new_top)
        total = total * (shrink if shrink_total else 1) + weights.sum()
        weighted = weighted * (shrink if shrink_weighted else 1) + weights @ values
        top = new_top
    return top, total, weighted


def _slip(**changes: object):
    def answer(pieces: Pieces) -> tuple[Tensor, Tensor]:
        top, total, weighted = _run_through(pieces, **changes)
        return weighted / total, top + total.log()

    return answer


def _ends_with(end):
    return lambda pieces: end(*_run_through(pieces))


def _mean_of_means(pieces: Pieces) -> tuple[Tensor, float]:
    means = torch.stack([logits.softmax(0) @ values for logits, values in pieces.pairs])
    return means.mean(0), attend_in_pieces(pieces)[1]


# Where the pieces' logits lie: the maximum rises, lies where exp is infinite or 0, falls far, and falls a little.
_CENTRES = (
    (0.0, 2.0, 4.0, 3.0),
    (190.0, 195.0, 199.0),
    (-180.0, -185.0, -178.0, -181.0),
    (60.0, -60.0, 61.0),
    (1.0, 0.0),
)


def _draw_pieces(generator: torch.Generator) -> list[tuple]:
    cases = []
    for centres in _CENTRES:
        d, *counts = primes(generator, 1 + len(centres), high=17)
        pairs = []
        for count, centre in zip(counts, centres, strict=True):
            logits = centre + torch.randn(count, generator=generator).clamp(-1.5, 1.5)
            pairs.append((logits, torch.randn(count, d, generator=generator)))
        cases.append((Pieces(pairs),))
    return cases


function_exercise(
    "06.running_softmax",
    attend_in_pieces,
    _draw_pieces,
    mistakes={
        "the sums are not scaled when the maximum rises: both shrink by exp(old maximum - new maximum)": (
            _slip(shrink_total=False, shrink_weighted=False)
        ),
        "the sum of exponentials shrinks when the maximum rises, and the weighted sum of the values must, too": (
            _slip(shrink_weighted=False)
        ),
        "the weighted sum shrinks when the maximum rises, and the sum of exponentials must, too": (
            _slip(shrink_total=False)
        ),
        "the sums grow where they must shrink: the factor is exp(old maximum - new maximum), at most 1": (
            _slip(sign=-1)
        ),
        "without a maximum the exponentials overflow, or all become 0: subtract the largest logit so far": (
            _slip(start=0.0, highest=lambda old, new: old)
        ),
        "the maximum of the latest piece alone lets the sums overflow where the logits fall: keep the largest so far": (
            _slip(highest=lambda old, new: new)
        ),
        "the maximum begins at 0, so that logits far below 0 have no weight left: begin at -infinity": (
            _slip(start=0.0)
        ),
        "each piece got a softmax of its own, and the means were averaged: a piece with large logits must weigh more": (
            _mean_of_means
        ),
        "the mean is not divided by the sum of all exponentials": (
            _ends_with(lambda top, total, weighted: (weighted, top + total.log()))
        ),
        "the maximum is missing in the log-sum: exponentials were taken after subtracting it, so add it again": (
            _ends_with(lambda top, total, weighted: (weighted / total, total.log()))
        ),
        "that is the maximum, not the log-sum: the logarithm of the sum is missing": (
            _ends_with(lambda top, total, weighted: (weighted / total, top))
        ),
        "that is the sum, not its logarithm: log_sum = maximum + log(sum)": (
            _ends_with(lambda top, total, weighted: (weighted / total, total))
        ),
        "the maximum is subtracted from the log-sum: it must be added": (
            _ends_with(lambda top, total, weighted: (weighted / total, total.log() - top))
        ),
        "the order is (mean, log_sum)": lambda pieces: attend_in_pieces(pieces)[::-1],
        "only the last piece was used": lambda pieces: attend_in_pieces(Pieces(pieces.pairs[-1:])),
        "only the first piece was used: is the `return` inside the loop?": (
            lambda pieces: attend_in_pieces(Pieces(pieces.pairs[:1]))
        ),
    },
    tolerance=1e-4,
)


def _name_the_parts(judge: Callable) -> Callable:
    """The same judge, which says "log_sum" where the general comparison says "part 1 of the result"."""

    def naming(answer: object, generator: torch.Generator) -> None:
        try:
            judge(answer, generator)
        except Wrong as wrong:
            text = str(wrong).replace("part 0 of the result", "mean").replace("part 1 of the result", "log_sum")
            raise Wrong(text) from None

    return naming


_general = REGISTRY["06.running_softmax"]
REGISTRY["06.running_softmax"] = replace(_general, judge=_name_the_parts(_general.judge))


# --- 06.power_of_two


class _NoExponentials(TorchFunctionMode):
    """Refuses PyTorch's own exponentials; a small whole power of a tensor, such as y**2, passes."""

    NAMES = ("exp", "exp2", "expm1", "ldexp", "sigmoid", "softmax", "sinh", "cosh", "tanh", "logsumexp", "__rpow__")

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "").removeprefix("special_")
        by_tensor = name in ("pow", "pow_", "__pow__") and any(isinstance(power, Tensor) for power in args[1:])
        if name in self.NAMES or by_tensor:
            asked = "a power with a tensor as exponent" if "pow" in name else f"{name}()"
            raise Wrong(f"the answer uses {asked}: take the bits for the whole part and a series for the rest")
        return function(*args, **(kwargs or {}))


def _power(
    x: Tensor,
    *,
    bias: int = 127,
    shift: int = 23,
    view: bool = True,
    shift_first: bool = False,
    split=torch.round,
    rest=torch.round,
    log: float = math.log(2),
    terms: int = 12,
    factorial: bool = True,
) -> Tensor:
    """2^x with every step replaceable by a mistake."""
    n = split(x).to(torch.int32)
    whole = n * 2**shift + bias if shift_first else (n + bias) * 2**shift
    whole = whole.view(torch.float32) if view else whole.float()
    y, series, term = (x - rest(x)) * log, torch.ones_like(x), torch.ones_like(x)
    for k in range(1, terms):
        term = term * y / k if factorial else y**k / k
        series = series + term
    return whole * series


_POWER_MISTAKES = {
    "the bias is missing: exponent 0 is written as 127": {"bias": 0},
    "the bias is 127, not 128: an exponent of 127 means a factor of 1": {"bias": 128},
    "the bias is 127, not 126: an exponent of 127 means a factor of 1": {"bias": 126},
    "the exponent begins at bit 23: there are 23 bits of fraction below it": {"shift": 22},
    "127 was added after the shift: add 127 first, then shift": {"shift_first": True},
    "`.float()` and `.to` convert the number: `.view(torch.float32)` keeps the bits": {"view": False},
    "that is 2^n · e^rest: the factor ln 2 is missing in the series": {"log": 1.0},
    "the rest was multiplied by log₂ e instead of ln 2": {"log": 1 / math.log(2)},
    "the rest is left out: that is 2^n for the nearest whole n": {"terms": 1},
    "the rest is left out: that is 2^n for the next whole n below": {"terms": 1, "split": torch.floor},
    "the rest has the wrong sign: it is x - n": {"log": -math.log(2)},
    "the rest is taken from another whole number than n: x - n, with the same n": {"rest": torch.floor},
    "the series of e^y divides by k!, so y³ by 6: here y^k is divided by k": {"factorial": False},
}
# How x may be split; a mistake that is not about the split is looked for with each.
_SPLITS = [{"split": split, "rest": split} for split in (torch.round, torch.floor, torch.trunc)]
# A series that stops early.
_TOO_SHORT = [{"terms": terms} | split for terms in range(2, 9) for split in _SPLITS]


def _draw_exponents(generator: torch.Generator) -> list[Tensor]:
    rows, columns, count = primes(generator, 3, low=5, high=17)
    return [
        -126 * torch.rand(rows, columns, generator=generator),
        -torch.rand(count, generator=generator),
        -torch.arange(0, 127).float(),
        (-torch.arange(0, 126) - 0.49 + 0.02 * torch.rand(126, generator=generator)).clamp(-126, 0),
    ]


def _relative(result: Tensor, x: Tensor) -> Tensor:
    return result.double() / torch.exp2(x.double()) - 1


@free_exercise("06.power_of_two")
def _check_power(answer: object, generator: torch.Generator) -> None:
    if not callable(answer):
        raise Wrong("expected a function: pass the function itself, without calling it")
    cases, errors = _draw_exponents(generator), []
    for x in cases:
        given = x.clone()
        with _NoExponentials():
            try:
                result = call(answer, given)
            except RuntimeError as error:
                if "must match the size" not in str(error):
                    raise
                hint = "did 64-bit numbers become two floats each? Use torch.int32"
                raise Wrong(f"the shapes of two factors do not fit: {hint}") from error
        if not isinstance(result, Tensor):
            raise Wrong(f"expected a tensor of the shape of x, got {type(result).__name__}")
        if result.shape != x.shape:
            doubled = tuple(result.shape) == (*x.shape[:-1], 2 * x.shape[-1])
            reason = ": 64-bit numbers hold the bits of two floats each, so use torch.int32" if doubled else ""
            raise Wrong(f"got shape {tuple(result.shape)}, expected {tuple(x.shape)}{reason}")
        if result.dtype != torch.float32:
            raise Wrong(f"got dtype {str(result.dtype).removeprefix('torch.')}, expected float32: .view(torch.float32)")
        if not given.equal(x):
            raise Wrong("it changes its input `x` in place: work on a new tensor instead")
        errors.append(_relative(result, x))
    if all((error.abs() <= 1e-5).all() for error in errors):
        return
    for message, changes in _POWER_MISTAKES.items():
        for split in [{}] if {"split", "rest", "terms"} & changes.keys() else _SPLITS:
            if _agree(errors, [_relative(_power(x, **(split | changes)), x) for x in cases], 1e-3):
                raise Wrong(message)
    worst, place = _worst(errors, cases)
    for changes in _TOO_SHORT:
        if _agree(errors, [_relative(_power(x, **changes), x) for x in cases], worst / 10):
            raise Wrong(f"the series is too short: more terms, or a rest within ±½ (relative error up to {worst:.1e})")
    raise Wrong(f"the relative error is up to {worst:.3g}, at x = {place:.4g}; at most 1e-5 is asked")


def _agree(errors: list[Tensor], mistaken: list[Tensor], tolerance: float) -> bool:
    return all(not difference(ours, theirs, tolerance) for ours, theirs in zip(errors, mistaken, strict=True))


def _worst(errors: list[Tensor], cases: list[Tensor]) -> tuple[float, float]:
    """The largest relative error, and the x that has it."""
    sizes = torch.cat([error.flatten() for error in errors]).abs().nan_to_num(torch.inf)
    place = sizes.argmax()
    return sizes[place].item(), torch.cat([x.flatten() for x in cases])[place].item()


# --- 06.augmented_query_key

free_exercise("06.augmented_query_key")(check_longer_vectors)
