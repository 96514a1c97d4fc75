"""How an exercise is graded: function, value and free-form exercises, and the verdict on an answer.

A lesson's module registers its exercises:

    function_exercise("04.relative_index", reference, cases, mistakes={"the offset is query - key; …": wrong_function})
    value_exercise("05.heads", 4, mistakes={"that is the number of …": 40})

    @free_exercise("05.block")
    def _(answer, generator):
        out = call(answer(3, 64), torch.randn(2, 3, 5, 7, generator=generator))
        if out.shape != (2, 64, 5, 7):
            raise Wrong(f"the output has shape {tuple(out.shape)}, expected (2, 64, 5, 7)")
"""

import contextlib
import copy
import inspect
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from aacn_lib.exercises.compare import difference
from aacn_lib.exercises.learner_errors import describe_error, is_placeholder

MIN_CASES = 4


class Wrong(Exception):
    """Raised by a free-form check; its text is the message the learner reads."""


class NotAttempted(Exception):
    """A blank `...` is still in the answer."""


@dataclass(frozen=True)
class Verdict:
    status: str  # "correct", "wrong" or "not attempted"
    message: str


@dataclass(frozen=True)
class Exercise:
    """One registered exercise. `judge(answer, generator)` returns if the answer is right and raises otherwise."""

    name: str
    judge: Callable[[object, torch.Generator], None]
    mistakes: dict[str, object] = field(default_factory=dict)  # message -> the wrong answer that earns it


REGISTRY: dict[str, Exercise] = {}


def function_exercise(
    name: str,
    reference: Callable,
    cases: Callable[[torch.Generator], Sequence[tuple]],
    *,
    mistakes: dict[str, Callable] | None = None,
    tolerance: float = 1e-5,
    dtype: bool = True,
    gradients: bool = False,
) -> None:
    """Register an exercise whose answer is a function (or anything callable) that must agree with `reference`.

    Args:
        name: "NN.word".
        reference: the right function.
        cases: draws at least four argument tuples from a CPU generator; sizes should be different primes, H ≠ W.
        mistakes: message → wrong function. An answer that agrees with the wrong function wherever that one differs
            from the reference gets the message. Order matters: the first that fits is reported.
        tolerance: absolute, and relative to the expected value.
        dtype: whether a tensor's dtype must be the reference's.
        gradients: whether gradients must reach every floating-point tensor argument, with the reference's values.
    """
    mistakes = dict(mistakes or {})

    def judge(answer: object, generator: torch.Generator) -> None:
        drawn = list(cases(generator))
        if len(drawn) < MIN_CASES:
            raise ValueError(f"exercise {name} draws {len(drawn)} cases, at least {MIN_CASES} are needed")
        if not callable(answer):
            raise Wrong(f"expected a function, got {_kind(answer)}: pass the function itself, without calling it")
        expected = [reference(*copy.deepcopy(case)) for case in drawn]
        outcomes = [_run(answer, copy.deepcopy(case)) for case in drawn]
        for outcome in outcomes:
            if isinstance(outcome, NotAttempted):
                raise outcome
        for message, wrong in mistakes.items():
            if _agrees_with_mistake(wrong, drawn, expected, outcomes, tolerance):
                raise Wrong(message)
        for case, right, outcome in zip(drawn, expected, outcomes, strict=True):
            if isinstance(outcome, Exception):
                raise outcome
            complaint = difference(outcome, right, tolerance, dtype=dtype)
            if complaint:
                raise Wrong(f"for {_describe_call(answer, case)}: {complaint}")
        for case in drawn:
            _reject_changed_inputs(answer, reference, case)
        if gradients:
            for case in drawn:
                _reject_lost_gradients(answer, reference, case, tolerance)

    _register(Exercise(name, judge, mistakes))


def value_exercise(
    name: str, expected: object, *, mistakes: dict[str, object] | None = None, tolerance: float = 0.0
) -> None:
    """Register an exercise whose answer is a value: a number, string, tuple, list or tensor.

    Args:
        expected: the right value.
        mistakes: message → wrong value that earns it.
        tolerance: absolute, and relative to the expected value; 0 asks for equality.
    """
    mistakes = dict(mistakes or {})

    def judge(answer: object, generator: torch.Generator) -> None:
        if answer is None:
            raise Wrong("the answer is None: is a `return` missing in the function that computed it?")
        for message, wrong in mistakes.items():
            if not difference(answer, wrong, tolerance, dtype=False):
                raise Wrong(message)
        # The message must not give the answer away: it says what kind of thing is expected, not which.
        if difference(answer, expected, tolerance, dtype=False):
            shape = difference(answer, expected, float("inf"), dtype=False)
            raise Wrong(shape if shape and "expected" in shape and _kind(answer) != _kind(expected) else _not(answer))

    _register(Exercise(name, judge, mistakes))


def free_exercise(name: str) -> Callable[[Callable[[object, torch.Generator], None]], Callable]:
    """Decorator: register a check of any shape, `check(answer, generator)`, that raises `Wrong(message)`.

    Call the learner's code through `call`, so that blanks and a missing `return` are recognised.
    """

    def decorate(judge: Callable[[object, torch.Generator], None]) -> Callable:
        _register(Exercise(name, judge))
        return judge

    return decorate


def call(function: Callable, *args: object, **kwargs: object) -> object:
    """Call the learner's `function`; a returned blank counts as not attempted, a returned None as wrong."""
    result = function(*args, **kwargs)
    if has_blank(result):
        raise NotAttempted
    if result is None:
        raise Wrong(f"{_name(function)} returned None: is the `return` missing?")
    return result


def primes(generator: torch.Generator, count: int, low: int = 2, high: int = 13) -> list[int]:
    """`count` different primes from [low, high] in random order: sizes that no mix-up of two axes survives."""
    found = [n for n in range(max(low, 2), high + 1) if all(n % d for d in range(2, n))]
    if len(found) < count:
        raise ValueError(f"only {len(found)} primes lie between {low} and {high}, {count} were asked for")
    order = torch.randperm(len(found), generator=generator).tolist()
    return [found[i] for i in order[:count]]


def has_blank(value: object) -> bool:
    """Whether `...` stands anywhere in a value or its nested tuples, lists and dicts."""
    if isinstance(value, dict):
        return any(map(has_blank, value.values()))
    if isinstance(value, tuple | list):
        return any(map(has_blank, value))
    return value is ...


def grade_answer(exercise: Exercise, answer: object, seed: int | None = None) -> Verdict:
    """The verdict on one answer. Exceptions of the answer become a verdict; those of the check itself too."""
    with _untouched_random_state():
        generator = torch.Generator()
        if seed is None:
            seed = generator.seed()  # fresh entropy
        generator.manual_seed(seed)
        torch.manual_seed(seed)
        try:
            if has_blank(answer):
                raise NotAttempted
            exercise.judge(answer, generator)
        except NotAttempted:
            return Verdict("not attempted", "not attempted yet")
        except Wrong as wrong:
            return Verdict("wrong", _one_line(wrong))
        except Exception as error:
            if is_placeholder(error):
                return Verdict("not attempted", "not attempted yet")
            if isinstance(error, TypeError | AttributeError) and "ellipsis" in str(error):
                return Verdict("not attempted", "not attempted yet (a blank ... is left)")
            return Verdict("wrong", describe_error(error))
    return Verdict("correct", "correct")


@contextlib.contextmanager
def _untouched_random_state() -> Iterator[None]:
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 (saved, never drawn from)
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


def _register(exercise: Exercise) -> None:
    if not re.fullmatch(r"\d\d\.[a-z][a-z0-9_]*", exercise.name):
        raise ValueError(f"an exercise is named like '04.relative_index', got {exercise.name!r}")
    if exercise.name in REGISTRY:
        raise ValueError(f"two exercises are named {exercise.name!r}")
    REGISTRY[exercise.name] = exercise


def _run(function: Callable, args: tuple) -> object:
    """What the function returns, or the exception it raised."""
    try:
        return call(function, *args)
    except Exception as error:
        return error


def _agrees_with_mistake(
    wrong: Callable, cases: Sequence[tuple], expected: list, outcomes: list, tolerance: float
) -> bool:
    telling = 0
    for case, right, outcome in zip(cases, expected, outcomes, strict=True):
        mistaken = _run(wrong, copy.deepcopy(case))
        if isinstance(mistaken, Exception):
            telling += 1
            if type(mistaken) is not type(outcome):
                return False
        elif difference(mistaken, right, tolerance, dtype=False):
            telling += 1
            if isinstance(outcome, Exception) or difference(outcome, mistaken, tolerance, dtype=False):
                return False
    return telling > 0


def _reject_changed_inputs(answer: Callable, reference: Callable, case: tuple) -> None:
    given = copy.deepcopy(case)
    answer(*given)
    for name, before, after in zip(_parameters(reference, len(case)), case, given, strict=True):
        # Two NaNs count as equal: an untouched input may hold them.
        if isinstance(before, Tensor | np.ndarray | list | dict) and difference(after, before, 0.0):
            raise Wrong(f"it changes its input `{name}` in place: work on a new tensor instead (q = q * s, not q *= s)")


def _reject_lost_gradients(answer: Callable, reference: Callable, case: tuple, tolerance: float) -> None:
    wanted, got = _gradients(reference, case), _gradients(answer, case)
    for name, right, given in zip(_parameters(reference, len(case)), wanted, got, strict=True):
        if right is None:
            continue
        if given is None:
            raise Wrong(f"no gradient reaches `{name}`: was it detached (.item(), .detach(), no_grad, torch.tensor)?")
        complaint = difference(given, right, 10 * tolerance, dtype=False)
        if complaint:
            raise Wrong(f"the values are right, but the gradient of `{name}` is not: {complaint}")


def _gradients(function: Callable, case: tuple) -> list[Tensor | None]:
    args = [
        arg.detach().clone().requires_grad_() if isinstance(arg, Tensor) and arg.is_floating_point() else arg
        for arg in copy.deepcopy(case)
    ]
    result = function(*args)
    parts = [p for p in (result if isinstance(result, tuple | list) else [result]) if isinstance(p, Tensor)]
    # A weighted sum: the plain sum of a softmax has no gradient at all.
    total = sum(
        (p * torch.linspace(0.5, 1.5, p.numel(), dtype=p.dtype).view_as(p)).sum()
        for p in parts
        if p.is_floating_point()
    )
    leaves = [arg for arg in args if isinstance(arg, Tensor) and arg.requires_grad]
    if not (isinstance(total, Tensor) and total.requires_grad):
        return [None] * len(args)
    found = iter(torch.autograd.grad(total, leaves, allow_unused=True))
    return [next(found) if isinstance(arg, Tensor) and arg.requires_grad else None for arg in args]


def _parameters(function: Callable, count: int) -> list[str]:
    names = list(inspect.signature(function).parameters)
    return (names + [f"argument {i + 1}" for i in range(len(names), count)])[:count]


def _describe_call(function: Callable, args: tuple) -> str:
    return f"{_name(function)}({', '.join(_describe(arg) for arg in args)})"


def _describe(value: object) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 80 else _kind(value)


def _name(function: Callable) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _not(answer: object) -> str:
    text = _one_line(repr(answer))
    return f"{text if len(text) <= 60 else text[:57] + '…'} is not the answer"


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
