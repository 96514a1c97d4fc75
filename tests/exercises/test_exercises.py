"""Every exercise of every lesson is proven, and the proof is tried on a toy lesson that was broken on purpose."""

import dataclasses

import harness
import nbformat
import pytest
import torch
from harness import audit, audit_names, perturb, wrong_answers
from lesson_exercises import LessonExercise, find_exercises
from run_notebooks import NOTEBOOKS
from toy_lesson import toy_lesson

from aacn_lib import exercises
from aacn_lib.exercises import grading, names
from aacn_lib.exercises.grading import Wrong, call, free_exercise, function_exercise, value_exercise


def _lesson_exercises() -> dict[str, list[LessonExercise]]:
    paths = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    return {path.name: find_exercises(nbformat.read(path, as_version=4))[0] for path in paths}


FOUND = _lesson_exercises()
EXERCISES = [exercise for found in FOUND.values() for exercise in found]


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_exercise(exercise):
    names(exercise.name[:2])  # registers the lesson's exercises
    complaints = audit(exercise, wrong_answers(exercise.name[:2]).get(exercise.name, {}))
    assert not complaints, "\n".join(complaints)


def test_notebooks_registry_and_wrong_answers_name_the_same_exercises():
    wrong = [name for path in harness.WRONG.glob("lesson[0-9][0-9].py") for name in wrong_answers(path.stem[-2:])]
    complaints = audit_names({file: [e.name for e in found] for file, found in FOUND.items()}, names(), wrong)
    assert not complaints, "\n".join(complaints)


WRONG_TOYS = {
    "04.add": {
        "difference": ("def add(a, b):\n    return a - b", "that is the difference"),
        "in place": ("def add(a, b):\n    a += b\n    return a", "in place"),
        "no return": ("def add(a, b):\n    a + b", "returned None"),
    },
    "04.root": {
        "square": ("root = 256.0", "that is the square"),
        "text": ("root = '4'", "expected a float"),
        "forgot twice": ("root = math.sqrt(8)", "is not the answer"),
    },
    "04.third": {
        "zero": ("third = 0", "is not 3"),
        "half": ("third = 3.5", "is not 3"),
        "four": ("third = 4", "is not 3"),
    },
}


def _register_toys(*, blind: bool = False):
    function_exercise(
        "04.add",
        lambda a, b: a + b,
        lambda g: [(torch.rand(n, generator=g), torch.rand(n, generator=g)) for n in (2, 3, 5, 7)],
        mistakes={"that is the difference": lambda a, b: a - b},
        tolerance=10.0 if blind else 1e-6,
    )
    value_exercise("04.root", 4.0, mistakes={"that is the square": 256.0}, tolerance=1e-6)

    @free_exercise("04.third")
    def _(answer, generator):
        if not blind and answer != 3:
            raise Wrong(f"{answer} is not 3")


@pytest.fixture
def toys(monkeypatch):
    registry = {}
    for module in (grading, harness, exercises):
        monkeypatch.setattr(module, "REGISTRY", registry)
    _register_toys()
    return {exercise.name: exercise for exercise in find_exercises(toy_lesson())[0]}


@pytest.mark.parametrize("name", WRONG_TOYS)
def test_the_toy_lesson_passes(toys, name):
    assert audit(toys[name], WRONG_TOYS[name]) == []


BROKEN = {
    "stub that is an answer": ("04.add", {"stub": "def add(a, b):\n    return a"}, {}, "the stub is"),
    "stub that does not run": ("04.add", {"stub": "add = missing(...)"}, {}, "NameError"),
    "wrong solution": ("04.add", {"solution": "def add(a, b):\n    return a - b"}, {}, "the solution is"),
    "solution that does not parse": ("04.add", {"solution": "def add(a, b)"}, {}, "SyntaxError"),
    "solution that needs the lesson to have run": ("04.root", {"context": ""}, {}, "name 'math' is not defined"),
    "not registered": ("04.add", {"name": "04.gone"}, {}, "04.gone is not registered"),
    "two wrong answers": ("04.third", {}, {"four": None}, "2 wrong answers"),
    "wrong answer that is right": (
        "04.root",
        {},
        {"square": ("root = 4.0", "x")},
        "'square' is Verdict(status='correct'",
    ),
    "wrong answer that is a blank": ("04.root", {}, {"square": ("root = ...", "x")}, "not attempted"),
    "other message": (
        "04.root",
        {},
        {"square": ("root = 256.0", "that is the cube")},
        "expected 'that is the cube' in it",
    ),
    "no message": ("04.root", {}, {"square": ("root = 256.0", "")}, "expects no words"),
}


@pytest.mark.parametrize("title", BROKEN)
def test_a_broken_exercise_is_found(toys, title):
    name, changes, wrong_changes, fragment = BROKEN[title]
    wrong = {key: value for key, value in (WRONG_TOYS[name] | wrong_changes).items() if value is not None}
    complaints = audit(dataclasses.replace(toys[name], **changes), wrong)
    assert any(fragment in complaint for complaint in complaints), complaints


@pytest.mark.parametrize("name", ["04.add", "04.third"])
def test_a_check_blind_to_values_is_found(toys, name):
    grading.REGISTRY.clear()
    _register_toys(blind=True)
    assert any("right shapes with wrong values" in complaint for complaint in audit(toys[name], WRONG_TOYS[name]))


def test_a_mistake_that_is_none_or_hidden_is_found(toys):
    del grading.REGISTRY["04.add"]
    function_exercise(
        "04.add",
        lambda a, b: a + b,
        lambda g: [(torch.rand(n, generator=g), torch.rand(n, generator=g)) for n in (2, 3, 5, 7)],
        mistakes={
            "that is the difference": lambda a, b: a - b,
            "hidden by the first": lambda a, b: a - b,
            "none": lambda a, b: b + a,
        },
    )
    complaints = audit(toys["04.add"], WRONG_TOYS["04.add"])
    assert [c for c in complaints if "'hidden by the first' gets ['that is" in c]
    assert [c for c in complaints if "'none' gets ['correct'" in c]


def test_a_class_is_perturbed_through_its_forward(toys):
    @free_exercise("04.layer")
    def _(answer, generator):
        x = torch.randn(2, 3, generator=generator)
        if not torch.allclose(call(answer(), x), 2 * x):
            raise Wrong("that is not twice the input")

    layer = "from torch import nn\n\n\nclass Layer(nn.Module):\n    def forward(self, x):\n        return {}"
    exercise = LessonExercise("04.layer", "Layer", "", layer.format("..."), layer.format("2 * x"))
    wrong = {text: (layer.format(text), "not twice") for text in ("x", "3 * x", "-x")}
    assert audit(exercise, wrong) == []


def test_names_must_agree():
    in_notebooks = {"04_a.ipynb": ["04.a", "04.b"], "05_b.ipynb": ["04.b", "05.c"]}
    assert audit_names(in_notebooks, ["04.a", "04.b", "05.d"], ["04.a", "06.e"]) == [
        "04.b stands 2 times in notebooks",
        "05.c stands in a notebook, but is not registered",
        "05.d is registered, but stands in no notebook",
        "06.e has wrong answers, but stands in no notebook",
    ]


def test_wrong_answers_are_read_from_a_file(tmp_path):
    (tmp_path / "lesson04.py").write_text('WRONG = {"04.a": {"x": ("a = 1", "b")}}\n')
    assert wrong_answers("04", tmp_path) == {"04.a": {"x": ("a = 1", "b")}}
    assert wrong_answers("05", tmp_path) == {}


@pytest.mark.parametrize("value", [True, 3, 0, 0.0, -0.5, "left", (1, 2.0), [3], {"a": 1}])
def test_perturb_changes_every_value(value):
    assert perturb(value) != value
    assert type(perturb(value)) is type(value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_perturb_changes_every_entry_and_no_shape(dtype):
    value = torch.randn(3, 5).to(dtype)
    assert (perturb(value) != value).all()
    assert perturb(value).dtype == dtype
    assert perturb(value).shape == value.shape
