"""What is made of the words of a command line: argparse, with errors of one line that name the nearest right word."""

import argparse
import re
import shutil
from collections.abc import Callable, Sequence
from typing import NoReturn

from aacn_lib.cli.show import WIDTH
from aacn_lib.expect import did_you_mean


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that raises a `ValueError` where argparse would print its usage and exit.

    Attributes:
        commands: the parser of each command, by name.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, allow_abbrev=False, formatter_class=_formatter, **options)
        self.commands: dict[str, Parser] = {}
        self._adder: argparse._SubParsersAction | None = None

    def add_command(self, name: str, what: str, run: Callable[[argparse.Namespace], None]) -> "Parser":
        """Add a command: what it does in a line, and the function that does it."""
        if self._adder is None:
            self._adder = self.add_subparsers(dest="command", metavar="COMMAND", title="commands")
        command = self._adder.add_parser(name, help=what, description=what)
        command.set_defaults(run=run)
        self.commands[name] = command
        return command

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """The options of a whole command line.

        Raises:
            ValueError: for a word that is not known; the nearest one that is stands in the message.
        """
        if arguments[0] == "help":  # as people write it elsewhere
            arguments = [*arguments[1:], "--help"]
        first = arguments[0]
        if first.startswith("--") and first not in ("--help", "--version"):
            hint = did_you_mean(first, self._flags())
            raise ValueError(f"expected a command, got {first!r}; options stand after the command{hint}")
        if first not in self.commands and first not in ("-h", "--help", "--version"):
            hint = did_you_mean(first, self.commands) or "; `aacn` lists the commands"
            raise ValueError(f"there is no command {first!r}{hint}")
        command = self.commands.get(first, self)
        known = command._flags()
        # Looked at first: argparse would complain of what is missing because an option was mistyped.
        for word in arguments:
            flag = word.partition("=")[0]
            if flag.startswith("--") and flag not in known:
                command.error(f"does not take {flag!r}{did_you_mean(flag, known)}")
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            command.error(f"does not take {' '.join(unknown)!r}")
        return options

    def _flags(self) -> list[str]:
        return list(dict.fromkeys(re.findall(r"--[a-z-]+", self.format_help())))

    def error(self, message: str) -> NoReturn:
        command = self.prog.partition(" ")[2]
        raise ValueError(f"{command}: {message}" if command else message)


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, width=min(WIDTH, shutil.get_terminal_size().columns))


def one_of(*names: str) -> Callable[[str], str]:
    """A `type` for `add_argument`: one of these words."""

    def check(text: str) -> str:
        if text not in names:
            hint = did_you_mean(text, names)
            raise argparse.ArgumentTypeError(f"expected one of {', '.join(names)}, got {text!r}{hint}")
        return text

    return check


def whole_number(least: int) -> Callable[[str], int]:
    """A `type` for `add_argument`: a whole number of at least `least`."""

    def check(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
        return int(text)

    return check


def add_device(command: Parser) -> None:
    """The option `--device`, the same for every command that has it."""
    command.add_argument("--device", help="cpu, cuda, … (default: a GPU if there is one)")


def add_changes(command: Parser, example: str) -> None:
    """The option `--set`, which may be given several times."""
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=f"e.g. {example}")
