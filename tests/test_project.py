"""What holds for the project as a whole: dependencies from one place, a light import, commands that exist."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import aacn_lib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["optional-dependencies"]
EVERY = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
MAX_LINES = 400
HEAVY = ["torchvision", "matplotlib", "ipywidgets", "anywidget", "IPython", "tqdm.notebook"]


@pytest.mark.parametrize("requirement", EVERY)
def test_dependencies_have_a_floor_and_nothing_else(requirement):
    """A marker may leave a package out where it does not install; it may not choose a version."""
    assert re.fullmatch(r"[a-z0-9-]+>=\d+(\.\d+)*(; python_version < '3\.\d+')?", requirement)


@pytest.mark.parametrize(
    ("name", "colab"),
    [
        ("torch", (2, 11)),
        ("torchvision", (0, 26)),
        ("ipywidgets", (7, 7, 1)),
        ("anywidget", (0, 9, 21)),
        ("numpy", (2, 1, 3)),
    ],
)
def test_floors_admit_what_colab_has(name, colab):
    """An install must never have a reason to replace what a Colab session brings (its list of August 2026)."""
    (requirement,) = (line for line in EVERY if line.partition(">=")[0] == name)
    assert tuple(map(int, requirement.partition(">=")[2].split("."))) <= colab


def test_the_environment_takes_everything_from_pyproject():
    python, pip, from_pip = ENVIRONMENT["dependencies"]
    assert python == f"python{PROJECT['requires-python']}"
    assert pip == "pip"
    (line,) = from_pip["pip"]
    found = re.fullmatch(r"-e \.\[([a-z,]+)\]", line)
    assert found
    assert sorted(found[1].split(",")) == sorted({"lab", "fast", "test", "site"})
    assert {"lab", "fast", "test", "site"} <= EXTRAS.keys()


def test_no_package_host_is_named():
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("environment.yml", "Makefile", ".ci/run"))
    assert "://" not in text
    assert "index-url" not in text
    assert "channels" not in ENVIRONMENT


def test_the_version_stands_in_one_place():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert PROJECT["dynamic"] == ["version"]
    assert settings["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "aacn_lib.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", aacn_lib.__version__)
    assert "\nversion:" not in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {aacn_lib.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def modules_after(program: str) -> list[str]:
    """Which heavy modules a fresh process has after a program."""
    watched = ["torch", *HEAVY]
    program = f"import sys; {program}\nprint(*[name for name in {watched} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_importing_the_library_loads_torch_when_it_is_used_and_nothing_heavier():
    assert modules_after("import aacn_lib") == []
    assert modules_after("import aacn_lib; [getattr(aacn_lib, name) for name in aacn_lib.__all__]") == ["torch"]


def test_the_command_line_can_speak_before_torch_is_loaded():
    quietly = "import contextlib, os\nwith contextlib.redirect_stdout(open(os.devnull, 'w')): "
    assert modules_after(f"from aacn_lib.cli import main; {quietly} main([])") == []


def test_the_stub_names_what_is_there():
    """An editor and the library read the same list of names."""
    stub = ast.parse((ROOT / "aacn_lib" / "__init__.pyi").read_text(encoding="utf-8"))
    (listed,) = (ast.literal_eval(node.value) for node in stub.body if isinstance(node, ast.Assign))
    assert listed == sorted(listed) == sorted(aacn_lib.__all__)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "aacn_lib").rglob("*.py")), ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_a_file_is_one_idea(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
    assert path.name not in {"utils.py", "common.py", "misc.py"}


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments: str) -> subprocess.CompletedProcess:
    # MAKEFLAGS of a surrounding `make test` would change what this make does.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


def dry_run(*arguments: str) -> str:
    result = make("-n", *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


@needs_make
def test_every_target_of_the_makefile():
    listed = dry_run("help")
    assert "awk" in listed
    assert "jupyter lab notebooks/00_start_here.ipynb" in dry_run("lab")
    assert "--no-browser" in dry_run("lab", "LAB_ARGS=--no-browser")
    assert "scripts/run_notebooks.py 00 04" in dry_run("notebooks", "NAMES=00 04")
    assert "scripts/make_site.py" in dry_run("site")
    steps = ["ruff check .", "ruff format --check .", "pytest tests", "--nbval-lax --nbval-current-env"]
    places = [dry_run("test").find(step) for step in steps]
    assert -1 not in places
    assert places == sorted(places)


@needs_make
def test_a_python_that_is_missing_is_named():
    result = make("-s", "-B", "lab", "PYTHON=no-such-python")
    assert result.returncode != 0
    assert "no-such-python was not found" in result.stdout


def test_ci_runs_the_command_a_developer_runs():
    script = ROOT / ".ci" / "run"
    lines = script.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert lines[-1] == "make test"
    assert os.name == "nt" or os.access(script, os.X_OK)
