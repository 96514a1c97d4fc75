"""Answers given letter by letter: a function of a letter, some of whose answers may still be open."""

from collections.abc import Callable, Iterable

from aacn_lib.exercises.grading import NotAttempted, Wrong, call, has_blank


def judge_letters(name: str, answer: object, letters: Iterable[str], judge: Callable[[str, object], None]) -> None:
    """Judge the answers that are there; if they are right and others are blank, say which are still open.

    Args:
        name: what the function is called in the lesson.
        answer: the learner's function of a letter.
        letters: all that may be asked.
        judge: called with a letter and its answer; raises `Wrong` for a wrong one.
    """
    if not callable(answer):
        raise Wrong(f"expected the function {name}(letter) itself, got {type(answer).__name__}")
    letters = list(letters)
    told = {letter: _told(name, answer, letter, letters) for letter in letters}
    blank = [repr(letter) for letter, word in told.items() if has_blank(word)]
    if len(blank) == len(letters):
        raise NotAttempted
    for letter, word in told.items():
        if not has_blank(word):
            judge(letter, word)
    if blank:
        raise Wrong(f"right so far; still open: {', '.join(blank)}")


def _told(name: str, answer: Callable, letter: str, letters: list[str]) -> object:
    """The answer for a letter, or the blank that stands in its place."""
    try:
        return call(answer, letter)
    except NotAttempted:
        return ...
    except KeyError:
        raise Wrong(f"{name} has no answer for {letter!r}; the letters are {', '.join(letters)}") from None
