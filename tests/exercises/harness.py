"""Proves a lesson's exercises: stub, solution, wrong answers and registration, as functions that return complaints."""

import copy
import importlib.util
import linecache
from collections.abc import Callable
from pathlib import Path

import torch
from lesson_exercises import LessonExercise
from torch import Tensor, nn

from aacn_lib.exercises import Verdict, grade
from aacn_lib.exercises.grading import REGISTRY

SEEDS = range(5)
MIN_WRONG = 3
WRONG = Path(__file__).parent / "wrong"


def audit(exercise: LessonExercise, wrong: dict[str, tuple[str, str]]) -> list[str]:
    """Everything that is wrong with one exercise and its wrong answers {title: (source, fragment of the message)}."""
    name, complaints = exercise.name, []
    if name not in REGISTRY:
        return [f"{name} is not registered"]
    verdict = _grade_source(exercise, exercise.stub, 0)
    if verdict.status != "not attempted":
        complaints.append(f"{name}: the stub is {verdict}, expected not attempted")
    for seed in SEEDS:
        verdict = _grade_source(exercise, exercise.solution, seed)
        if verdict.status != "correct":
            complaints.append(f"{name}: the solution is {verdict} for seed {seed}, expected correct")
    if complaints:
        return complaints
    if len(wrong) < MIN_WRONG:
        complaints.append(f"{name}: {len(wrong)} wrong answers in tests/exercises/wrong, expected {MIN_WRONG} or more")
    for title, (source, fragment) in wrong.items():
        if not fragment:
            complaints.append(f"{name}: the wrong answer {title!r} expects no words in the message")
        complaints += _expect_wrong(exercise, title, source, fragment)
    return complaints + _audit_mistakes(exercise) + _audit_perturbed(exercise)


def audit_names(in_notebooks: dict[str, list[str]], registered: list[str], wrong: list[str]) -> list[str]:
    """Exercises in notebooks {file name: names}, in the registry and in the wrong answers are the same ones."""
    every = [name for found in in_notebooks.values() for name in found]
    return [
        *(
            f"{name} stands {every.count(name)} times in notebooks"
            for name in sorted(set(every))
            if every.count(name) > 1
        ),
        *(f"{name} stands in a notebook, but is not registered" for name in sorted(set(every) - set(registered))),
        *(f"{name} is registered, but stands in no notebook" for name in sorted(set(registered) - set(every))),
        *(f"{name} has wrong answers, but stands in no notebook" for name in sorted(set(wrong) - set(every))),
    ]


def wrong_answers(lesson: str, folder: Path = WRONG) -> dict[str, dict[str, tuple[str, str]]]:
    """WRONG of tests/exercises/wrong/lessonNN.py; empty if the file is missing."""
    path = folder / f"lesson{lesson}.py"
    if not path.exists():
        return {}
    spec = importlib.util.spec_from_file_location(f"wrong_lesson{lesson}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.WRONG


def raised(call: Callable[[], object]) -> str:
    """How a verdict begins on an answer that fails like `call`: which type that is may change with PyTorch."""
    try:
        call()
    except Exception as error:
        return f"raised {type(error).__name__}: "
    raise AssertionError("expected an exception")


def answer_of(exercise: LessonExercise, source: str) -> object:
    """What the check cell would pass after `source` ran in the place of the stub."""
    namespace = {"__name__": "__lesson__"}
    for label, text in (("context", exercise.context), ("answer", source)):
        filename = f"<{exercise.name} {label}>"
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        exec(compile(text, filename, "exec"), namespace)
    return eval(exercise.answer, namespace)


def _grade_source(exercise: LessonExercise, source: str, seed: int) -> Verdict:
    torch.manual_seed(seed)
    try:
        answer = answer_of(exercise, source)
    except Exception as error:
        return Verdict("raised outside the check", f"{type(error).__name__}: {error}")
    return grade(exercise.name, answer, seed)


def _expect_wrong(exercise: LessonExercise, title: str, source: str, fragment: str) -> list[str]:
    for seed in SEEDS:
        verdict = _grade_source(exercise, source, seed)
        if verdict.status != "wrong":
            return [f"{exercise.name}: the wrong answer {title!r} is {verdict} for seed {seed}"]
        if fragment not in verdict.message:
            return [
                f"{exercise.name}: the wrong answer {title!r} gets {verdict.message!r}, expected {fragment!r} in it"
            ]
    return []


def _audit_mistakes(exercise: LessonExercise) -> list[str]:
    """Each mistake a check knows by name must be reachable: no earlier message may take its place."""
    complaints = []
    for message, mistake in REGISTRY[exercise.name].mistakes.items():
        verdicts = {grade(exercise.name, copy.deepcopy(mistake), seed) for seed in SEEDS}
        if verdicts != {Verdict("wrong", " ".join(message.split()))}:
            complaints.append(f"{exercise.name}: the mistake {message!r} gets {sorted(v.message for v in verdicts)}")
    return complaints


def _audit_perturbed(exercise: LessonExercise) -> list[str]:
    """The right shape with wrong values, made from the solution, is rejected."""
    solution = answer_of(exercise, exercise.solution)
    try:
        perturbed = _perturbed_answer(solution)
    except TypeError as error:
        return [f"{exercise.name}: {error}"]
    complaints = []
    for seed in SEEDS:
        verdict = grade(exercise.name, perturbed, seed)
        if verdict.status != "wrong":
            complaints.append(f"{exercise.name}: right shapes with wrong values are {verdict} for seed {seed}")
        elif "raised" in verdict.message:
            complaints.append(
                f"{exercise.name}: the perturbed solution was rejected for the wrong reason: {verdict.message}"
            )
    return complaints[:1]


def _perturbed_answer(answer: object) -> object:
    """The same function, class, module or value with every result changed and every shape kept."""
    if isinstance(answer, nn.Module):
        answer = copy.deepcopy(answer)
        answer.register_forward_hook(lambda module, inputs, output: perturb(output))
        return answer
    if isinstance(answer, type):
        method = "forward" if hasattr(answer, "forward") else "__call__"
        original = getattr(answer, method)
        changed = lambda self, *args, **kwargs: perturb(original(self, *args, **kwargs))  # noqa: E731
        return type(answer.__name__, (answer,), {method: changed})
    if callable(answer):

        def changed_function(*args, **kwargs):
            return perturb(answer(*args, **kwargs))

        return changed_function
    return perturb(answer)


def perturb(value: object) -> object:
    """Another value of the same type and shape."""
    if isinstance(value, Tensor):
        if value.dtype == torch.bool:
            return ~value
        return value + (1 if not value.is_floating_point() else 0.1 + 0.5 * value.detach().abs())
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1 + abs(value)
    if isinstance(value, float):
        return value + 0.1 + 0.5 * abs(value)
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, tuple):
        parts = map(perturb, value)
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, list):
        return list(map(perturb, value))
    if isinstance(value, dict):
        return {key: perturb(part) for key, part in value.items()}
    if callable(value):  # a function or module that builds another one
        return _perturbed_answer(value)
    raise TypeError(f"no wrong values can be made from {value!r}: teach harness.perturb to")
