"""How the command line prints: tables that align and fit, colour where the terminal has it."""

import os
from collections.abc import Iterable, Sequence

WIDTH = 100  # characters; wider terminals are not filled, because long lines are hard to read
NARROWEST = 72  # narrower terminals break the lines themselves: no column is lost


def table(rows: Iterable[Sequence[object]], titles: Sequence[str] = (), right: Iterable[int] = ()) -> None:
    """Print rows below each other, long texts folded within their column.

    Args:
        titles: of the columns; without any there is no line of titles.
        right: numbers, from 0, of the columns that stand to the right, as numbers do.
    """
    from rich.table import Table
    from rich.text import Text

    rows = [[Text(str(cell)) for cell in row] for row in rows]
    drawn = Table(box=None, pad_edge=False, show_header=bool(titles), header_style="bold")
    count = len(titles) or max(map(len, rows), default=0)
    for number in range(count):
        last = number == count - 1
        drawn.add_column(
            titles[number] if titles else "",
            justify="right" if number in right else "left",
            no_wrap=not last,  # the last column gives way where a line would be too long
            style="cyan" if number == 0 else "",
        )
    for row in rows:
        drawn.add_row(*row)
    console = _console()
    with console.capture() as printed:
        console.print(drawn)
    print("\n".join(line.rstrip() for line in printed.get().splitlines()))


def complain(text: str) -> None:
    """One line on standard error."""
    from rich.text import Text

    line = Text.assemble(("aacn: ", "bold red"), " ".join(text.split()))
    _console(stderr=True).print(line, soft_wrap=True)


def _console(stderr: bool = False):
    from rich.console import Console

    plain = {"color_system": None} if os.environ.get("NO_COLOR") else {}
    made = Console(stderr=stderr, highlight=False, emoji=False, markup=False, **plain)
    made.width = max(NARROWEST, min(WIDTH, made.width)) if made.is_terminal else WIDTH
    return made
