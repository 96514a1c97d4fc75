"""The mechanism behind `check`, on toy exercises: what it accepts, what it rejects, and in which words."""

import random

import numpy as np
import pytest
import torch
from harness import raised
from torch import nn

from aacn_lib import exercises
from aacn_lib.exercises import check, grade, grading, names
from aacn_lib.exercises.grading import Wrong, call, free_exercise, function_exercise, primes, value_exercise

SEEDS = range(5)


def weigh(q, k, scale):
    return torch.softmax(scale * q @ k.transpose(0, 1), dim=1)


def draw_weigh(generator):
    cases = []
    for _ in range(4):
        n, m, d = primes(generator, 3)
        q, k = torch.randn(n, d, generator=generator), torch.randn(m, d, generator=generator)
        cases.append((q, k, 0.5))
    return cases


@pytest.fixture(autouse=True)
def _toys(monkeypatch):
    monkeypatch.setattr(grading, "REGISTRY", registry := {})
    monkeypatch.setattr(exercises, "REGISTRY", registry)
    monkeypatch.setattr(exercises, "_lessons", lambda: [])
    function_exercise(
        "99.weigh",
        weigh,
        draw_weigh,
        mistakes={
            "the scale is missing": lambda q, k, scale: weigh(q, k, 1.0),
            "the softmax runs over the queries": lambda q, k, scale: torch.softmax(scale * q @ k.T, dim=0),
            "q and k are swapped": lambda q, k, scale: weigh(k, q, scale),
        },
        gradients=True,
    )
    function_exercise("99.offsets", lambda n: torch.arange(n) - n + 1, lambda g: [(n,) for n in primes(g, 4)])
    function_exercise(
        "99.area",
        lambda h, w: h * w,
        lambda g: [tuple(primes(g, 2)) for _ in range(4)],
        mistakes={"that is half the border": lambda h, w: h + w},
    )
    value_exercise("99.heads", 4, mistakes={"that is the depth": 40})
    value_exercise("99.shares", (0.25, "left"), tolerance=1e-3)

    @free_exercise("99.double")
    def _(answer, generator):
        x = torch.randn(2, 3, generator=generator)
        out = call(answer(), x)
        if not torch.equal(out, 2 * x):
            raise Wrong(f"got {tuple(out.shape)},\nexpected twice the input")


def always(name, answer, status, fragment):
    for seed in SEEDS:
        verdict = grade(name, answer, seed)
        assert verdict.status == status, verdict
        assert fragment in verdict.message, verdict


class Double(nn.Module):
    def forward(self, x):
        return 2 * x


class BlankDouble(nn.Module):
    def forward(self, x):
        return ...


class BlankLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = ...

    def forward(self, x):
        return self.layer.weight * x


def in_place(q, k, scale):
    q *= scale
    return torch.softmax(q @ k.T, dim=1)


def forgets_return(q, k, scale):
    weigh(q, k, scale)


def crashes(q, k, scale):
    return q @ k  # the transpose is missing


def partly_blank(q, k, scale):
    logits = ...
    return torch.softmax(logits, dim=1)


def not_implemented(q, k, scale):
    raise NotImplementedError


def mean_of_truth_values(q, k, scale):
    return (q.sum() == k.sum()).mean()  # in some versions torch raises a NotImplementedError of its own


def without_gradient(q, k, scale):
    return weigh(q.detach(), k, scale)


def wrong_gradient(q, k, scale):
    out = weigh(q, k, scale)
    return out.detach() + 3 * (out - out.detach())


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("99.weigh", weigh),
        ("99.weigh", lambda q, k, scale: torch.einsum("id,jd->ij", q * scale, k).softmax(-1)),
        ("99.offsets", lambda n: torch.arange(1 - n, 1)),
        ("99.area", lambda h, w: sum(w for _ in range(h))),
        ("99.area", lambda h, w: torch.tensor(h * w)),
        ("99.heads", 4),
        ("99.heads", torch.tensor(4)),
        ("99.heads", np.int64(4)),
        ("99.shares", (0.2501, "left")),
        ("99.shares", [0.25, "left"]),
        ("99.double", Double),
    ],
)
def test_right_answers(name, answer):
    always(name, answer, "correct", "correct")


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("99.weigh", ...),
        ("99.weigh", lambda q, k, scale: ...),
        ("99.weigh", lambda q, k, scale: (q, [..., k])),
        ("99.weigh", partly_blank),
        ("99.weigh", not_implemented),
        ("99.area", lambda h, w: {"area": ...}),
        ("99.heads", ...),
        ("99.shares", (0.25, ...)),
        ("99.double", BlankDouble),
        ("99.double", BlankLayer),
    ],
)
def test_blanks_are_not_attempted(name, answer):
    always(name, answer, "not attempted", "not attempted yet")


@pytest.mark.parametrize(
    ("name", "answer", "fragment"),
    [
        ("99.weigh", lambda q, k, scale: weigh(q, k, 1.0), "the scale is missing"),
        ("99.weigh", lambda q, k, scale: weigh(q, k, scale / scale), "the scale is missing"),
        ("99.weigh", lambda q, k, scale: (scale * q @ k.T).softmax(0), "the softmax runs over the queries"),
        ("99.weigh", lambda q, k, scale: weigh(q, k, scale).T, "got shape"),
        ("99.weigh", lambda q, k, scale: weigh(q, k, scale) + 0.01, "entries differ"),
        ("99.weigh", lambda q, k, scale: weigh(q, k, scale) * float("nan"), "is nan"),
        ("99.weigh", lambda q, k, scale: weigh(q, k, scale).double(), "got dtype float64, expected float32"),
        ("99.weigh", lambda q, k, scale: weigh(q, k, scale).tolist(), "got a list, expected a tensor of shape"),
        ("99.weigh", lambda q, k: q, "raised TypeError"),
        ("99.weigh", in_place, "changes its input `q` in place"),
        ("99.weigh", forgets_return, "forgets_return returned None: is the `return` missing?"),
        ("99.weigh", crashes, "return q @ k  # the transpose is missing)"),
        ("99.weigh", crashes, raised(lambda: torch.zeros(2, 3) @ torch.zeros(2, 3))),
        ("99.weigh", mean_of_truth_values, raised(lambda: torch.tensor(True).mean())),
        ("99.weigh", mean_of_truth_values, "return (q.sum() == k.sum()).mean()"),
        ("99.double", nn.Module, raised(lambda: nn.Module()(1))),
        ("99.weigh", without_gradient, "no gradient reaches `q`"),
        ("99.weigh", wrong_gradient, "the gradient of `q` is not"),
        ("99.weigh", torch.ones(3), "expected a function, got a Tensor"),
        ("99.offsets", lambda n: torch.arange(n), "for <lambda>("),
        ("99.offsets", lambda n: torch.arange(n), "entry [0] is 0, expected -"),
        ("99.offsets", lambda n: (torch.arange(n) - n + 1).int(), "got dtype int32, expected int64"),
        ("99.area", lambda h, w: h + w, "that is half the border"),
        ("99.area", lambda h, w: f"{h * w}", "(str), expected an int"),
        ("99.area", lambda h, w: h * w if h < 11 and w < 11 else 0, ""),
        ("99.heads", 40, "that is the depth"),
        ("99.heads", 5, "5 is not the answer"),
        ("99.heads", None, "the answer is None"),
        ("99.heads", "4", "expected an int"),
        ("99.shares", (0.26, "left"), "is not the answer"),
        ("99.shares", (0.25, "right"), "is not the answer"),
        ("99.shares", (0.25,), "is not the answer"),
        ("99.shares", 0.25, "expected a tuple of 2"),
        ("99.double", nn.Identity, "got (2, 3), expected twice the input"),
        ("99.double", lambda: lambda x: None, "returned None"),
        ("99.double", 3, "raised TypeError"),
    ],
)
def test_wrong_answers(name, answer, fragment):
    if fragment:
        always(name, answer, "wrong", fragment)
    else:  # right for small sizes only: wrong as soon as one drawn size is large
        assert "wrong" in {grade(name, answer, seed).status for seed in SEEDS}


def test_a_value_never_gives_the_answer_away():
    assert "0.25" not in grade("99.shares", (0.5, "left")).message
    assert "4" not in grade("99.heads", 5).message


def test_a_learner_s_in_place_change_of_a_leaf_is_named():
    leaf = torch.zeros(3, requires_grad=True)

    @free_exercise("99.leaf")
    def _(answer, generator):
        answer(leaf)

    always("99.leaf", lambda x: x.add_(1), "wrong", "changes an input in place")


def test_check_prints_one_line(capsys):
    assert check("99.weigh", weigh) is None
    check("99.weigh", crashes)
    check("99.weigh", ...)
    right, wrong, blank = capsys.readouterr().out.splitlines()
    assert right == "✓ 99.weigh: correct"
    assert wrong.startswith("✗ 99.weigh: raised RuntimeError: ")
    assert blank == "○ 99.weigh: not attempted yet"


def test_inputs_are_fresh_without_a_seed_and_repeat_with_one():
    drawn = []

    @free_exercise("99.draws")
    def _(answer, generator):
        drawn.append((torch.rand(3, generator=generator), torch.rand(3)))

    for seed in (None, None, 7, 7):
        grade("99.draws", 0, seed)
    assert not torch.equal(drawn[0][0], drawn[1][0])
    assert not torch.equal(drawn[0][1], drawn[1][1])
    assert torch.equal(torch.cat(drawn[2]), torch.cat(drawn[3]))


def test_the_global_random_state_is_left_alone():
    def noisy(q, k, scale):
        torch.rand(3), np.random.rand(), random.random()  # noqa: NPY002
        random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
        return weigh(q, k, scale)

    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    for answer in (noisy, crashes, ...):
        grade("99.weigh", answer)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]


def test_the_answer_cannot_disturb_later_cases_or_the_reference():
    def greedy(q, k, scale):
        out = weigh(q, k, scale)
        q.zero_()
        return out

    always("99.weigh", greedy, "wrong", "`q` in place")


def test_unknown_names():
    with pytest.raises(ValueError, match=r"no exercise is named '99.weight'; did you mean '99.weigh'"):
        grade("99.weight", weigh)
    with pytest.raises(ValueError, match="as a string"):
        grade(weigh, "99.weigh")
    assert names(99) == names("99") == names()
    assert names(98) == []


def test_registration_is_strict():
    with pytest.raises(ValueError, match="two exercises"):
        value_exercise("99.heads", 4)
    with pytest.raises(ValueError, match="is named like"):
        value_exercise("heads", 4)
    function_exercise("99.few", weigh, lambda g: draw_weigh(g)[:3])
    assert "draws 3 cases" in grade("99.few", weigh).message


def test_primes_are_different_primes():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        drawn = primes(generator, 4)
        assert len(set(drawn)) == 4
        assert set(drawn) <= {2, 3, 5, 7, 11, 13}
    with pytest.raises(ValueError, match="only 2 primes"):
        primes(generator, 3, 5, 7)
