"""The command `aacn`: the same library from a terminal.

Every command stands in the file of its family, beside the words it takes. Neither this file nor those import torch: a
command does when it runs. So help and wrong options are answered at once, and `wait_politely` comes before torch.
"""

import sys

from aacn_lib import __version__
from aacn_lib.cli import evaluate, explore, lists, predict, train
from aacn_lib.cli.parser import Parser
from aacn_lib.cli.show import complain, table
from aacn_lib.processes import wait_politely

FAMILIES = (train, evaluate, predict, explore, lists)


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Wrong input is one line on standard error and exit code 2.

    Args:
        arguments: the words after `aacn`; default those of this process.
    """
    wait_politely()
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        parser = make_parser()
        if not arguments:
            print("usage: aacn COMMAND …, where COMMAND is one of")
            table([[name, each.description] for name, each in parser.commands.items()])
            print("`aacn COMMAND --help` says what it takes.")
            return 0
        options = parser.parse(arguments)
        options.run(options)
    except (ValueError, OSError) as error:
        complain(str(error))
        return 2
    except KeyboardInterrupt:
        complain("stopped; `--resume` goes on from the last checkpoint")
        return 130
    return 0


def make_parser() -> Parser:
    """All commands with their options."""
    parser = Parser(prog="aacn", description="Attention inside convolutional networks.")
    parser.add_argument("--version", action="version", version=f"aacn {__version__}")
    for family in FAMILIES:
        family.add_commands(parser)
    return parser
