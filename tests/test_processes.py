"""Waiting threads soon sleep, unless the user wants otherwise, in every process that this project starts."""

import os
import subprocess
import sys
from pathlib import Path

from aacn_lib.processes import WAITING, wait_politely

ROOT = Path(__file__).resolve().parents[1]


def environment_after(program: str, **given: str) -> str:
    """GOMP_SPINCOUNT of a fresh process after a program."""
    plain = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    program = f"import os; {program}; print(os.environ.get('GOMP_SPINCOUNT'))"
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=plain | given, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1]


def test_the_command_line_sets_it_before_torch_is_loaded():
    assert environment_after("from aacn_lib.cli import main; main(['recipes'])") == "1000"


def test_what_the_user_has_set_stays():
    assert environment_after("from aacn_lib.cli import main; main([])", GOMP_SPINCOUNT="7") == "7"
    assert environment_after("from aacn_lib.cli import main; main([])", OMP_WAIT_POLICY="ACTIVE") == "None"


def test_a_process_that_has_torch_is_left_alone(monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert "torch" in sys.modules
    wait_politely()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_importing_the_library_changes_nothing():
    assert environment_after("import aacn_lib; aacn_lib.AAConv2d") == "None"


def test_lessons_and_tests_run_with_it():
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    assert f"export GOMP_SPINCOUNT ?= {WAITING['GOMP_SPINCOUNT']}" in lines
    assert environment_after("import sys; sys.path.insert(0, 'tests'); import conftest") == "1000"
    assert environment_after("import sys; sys.path.insert(0, 'scripts'); import run_notebooks") == "None"
    program = "import sys; sys.path.insert(0, 'scripts'); import run_notebooks; run_notebooks.main(['no such lesson'])"
    assert environment_after(program) == "1000"
