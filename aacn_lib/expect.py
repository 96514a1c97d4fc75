"""One form for errors about arguments: whose, which, what was expected, what was given."""

import difflib
from collections.abc import Iterable


def expect(condition: bool, owner: str, name: str, expected: str, given: object) -> None:
    """Raise a `ValueError` unless `condition` holds.

    Args:
        owner: the class or function whose argument it is.
        name: the argument.
        expected: what would have been right, in words.
        given: the value that came instead.
    """
    if not condition:
        raise ValueError(f"{owner}: {name}: expected {expected}, got {given!r}")


def is_count(value: object, floor: int = 1) -> bool:
    """Whether `value` is a whole number of at least `floor` (True is not one)."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= floor


def expect_count(owner: str, name: str, value: object) -> None:
    """Raise a `ValueError` unless `value` is a whole number of at least 1."""
    expect(is_count(value), owner, name, "a whole number of at least 1", value)


def did_you_mean(given: object, known: Iterable[str], most: int = 2) -> str:
    """The end of a message about a wrong name: "; did you mean 'this' or 'that'?", or nothing where none is near."""
    near = []
    if isinstance(given, str) and given:
        names, low = list(known), given.lower()
        near = difflib.get_close_matches(given, names, n=most) or difflib.get_close_matches(low, names, n=most)
        near = near or [name for name in names if name.startswith(low)][:most]
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def expect_one_of(owner: str, name: str, known: Iterable[object], given: object) -> None:
    """Raise a `ValueError` unless `given` is one of `known`; the nearest are named.

    Args:
        owner: as in `expect`, or "" where the argument's name says enough.
    """
    known = list(known)
    if given not in known:
        whose = f"{owner}: {name}" if owner else name
        raise ValueError(f"{whose}: expected one of {known}, got {given!r}{did_you_mean(given, map(str, known))}")
