"""Five reports of an accuracy, for lesson 12: which is honest, and what is wrong with the others."""

import torch

from aacn_lib.exercises.grading import NotAttempted, Wrong, has_blank

REPORTS = {
    "a": "maximum reported",
    "b": "honest",
    "c": "seen in training",
    "d": "chosen on test",
    "e": "chosen on test",
}
_FAULTS = ("honest", "chosen on test", "maximum reported", "seen in training")

# (letter, what the learner says): what to look at again. Every wrong pair that is not here gets the letter's line.
_LOOK_AGAIN = {
    ("a", "honest"): "a: the test part is untouched, but the figure is the best of many epochs, from the pictures that "
    "chose the epoch",
    ("a", "chosen on test"): "a: no test label was read; what chose the epoch, and where does the figure come from?",
    ("d", "honest"): "d: the fitting was clean, but which of five numbers is in the title was decided by test labels",
    ("d", "maximum reported"): "d: the title quotes a maximum indeed, but over which part of the pictures?",
    ("e", "honest"): "e: nothing else was tried, but every epoch was a try, and test labels chose among them",
    ("e", "maximum reported"): "e: the figure is chosen among epochs, but by which part's labels?",
}
_LINES = {
    "a": "a: the held-out pictures were not trained on; ask where the reported figure comes from",
    "b": "b: everything was fitted on held-out pictures, and the test part was read once; a low figure is no fault",
    "c": "c: ask where the other four versions of a test picture are",
    "d": "d: nobody trained on test pictures; ask which labels chose the number in the title",
    "e": "e: nobody trained on test pictures; ask which labels chose the epoch",
}


def check_reports(answer: object, generator: torch.Generator) -> None:
    """Exercise 12.5: one verdict a report."""
    if not isinstance(answer, dict):
        raise Wrong(f"expected a dictionary from letter to verdict, got {type(answer).__name__}")
    if has_blank(answer):
        raise NotAttempted
    if answer.keys() != REPORTS.keys():
        raise Wrong(f"expected the letters {sorted(REPORTS)}, got {sorted(map(str, answer))}")
    for letter, said in answer.items():
        if said not in _FAULTS:
            raise Wrong(f"{letter!r}: expected one of {list(_FAULTS)}, got {said!r}")
    for letter, right in REPORTS.items():
        if answer[letter] != right:
            raise Wrong(_LOOK_AGAIN.get((letter, answer[letter]), _LINES[letter]))
