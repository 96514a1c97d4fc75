"""One form for errors about arguments: whose, which, what was expected, what was given."""


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
