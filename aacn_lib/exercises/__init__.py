"""Checks for the exercises of the course: `check("04.relative_index", answer)` prints one verdict line.

One module a lesson (`lesson04.py` holds the exercises named `04.…`), imported when one of its names is asked for.
"""

import importlib
import pkgutil

from aacn_lib.exercises.grading import REGISTRY, Verdict, grade_answer
from aacn_lib.expect import did_you_mean

__all__ = ["Verdict", "check", "grade", "names"]

_MARKS = {"correct": "✓", "wrong": "✗", "not attempted": "○"}


def check(name: str, answer: object) -> None:
    """Print whether `answer` solves the exercise `name`, in one line; nothing the answer does can stop the notebook.

    Args:
        name: the exercise, such as "04.relative_index".
        answer: what the exercise asks for: a function, a class or a value. `...` means not attempted yet.

    Raises:
        ValueError: no exercise has this name.
    """
    verdict = grade(name, answer)
    print(f"{_MARKS[verdict.status]} {name}: {verdict.message}")


def grade(name: str, answer: object, seed: int | None = None) -> Verdict:
    """Grade `answer` on freshly drawn inputs (or those of `seed`) without touching the global random state.

    Raises:
        ValueError: no exercise has this name.
    """
    if not isinstance(name, str):
        raise ValueError(f"expected the name of an exercise as a string, such as '04.relative_index', got {name!r}")
    if name not in REGISTRY:
        _load(name.partition(".")[0])
    if name not in REGISTRY:
        raise ValueError(f"no exercise is named {name!r}{did_you_mean(name, names(), most=3)}")
    return grade_answer(REGISTRY[name], answer, seed)


def names(lesson: int | str | None = None) -> list[str]:
    """Names of the registered exercises, of one lesson (`4` or `"04"`) or of all, in the order of the lessons."""
    if lesson is None:
        for number in _lessons():
            _load(number)
        return sorted(REGISTRY, key=lambda name: name.partition(".")[0])  # a stable sort keeps each module's order
    number = f"{int(lesson):02d}"
    _load(number)
    return [name for name in REGISTRY if name.startswith(f"{number}.")]


def _lessons() -> list[str]:
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name.removeprefix("lesson") for name in modules if name.startswith("lesson"))


def _load(number: str) -> None:
    if number in _lessons():
        importlib.import_module(f"{__name__}.lesson{number}")
