"""Measurements in processes of their own: a question goes out as JSON, an answer comes back as JSON."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def ask(module: str, *, environment: dict[str, str] | None = None, **question) -> dict:
    """Run `python -m MODULE` with a question and return its answer.

    Args:
        environment: variables to set for the child; the allocator's variables of this process are not handed on.

    Raises:
        RuntimeError: if the child fails; what it said is on standard error already.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-m", module, json.dumps(question)]
    done = subprocess.run(command, cwd=ROOT, env=inherited | (environment or {}), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"{module} ended with code {done.returncode} when asked {question}")
    return json.loads(done.stdout.splitlines()[-1])


def answer(function: Callable[..., dict]) -> None:
    """In the child: call `function` with the question's entries and print what it returns."""
    print(json.dumps(function(**json.loads(sys.argv[1]))))


def tell(text: str) -> None:
    """Progress, for the one who waits; standard output is for the answer."""
    print(f"  … {text}", file=sys.stderr, flush=True)
