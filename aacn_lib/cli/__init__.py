"""The command `aacn`."""

from aacn_lib.cli.main import main

__all__ = ["main"]
