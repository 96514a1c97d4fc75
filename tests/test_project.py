"""What holds for the project as a whole: dependencies from one place, a light import, commands that exist."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import make_environment
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
    assert "scripts/make_dist.py" in dry_run("dist")
    steps = ["ruff check .", "ruff format --check .", "lint-imports", "pytest tests", "--nbval-lax --nbval-current-env"]
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
    assert "    newest) make test ;;" in lines
    assert '    floors | colab) make "test-$1" ;;' in lines
    assert os.name == "nt" or os.access(script, os.X_OK)


@pytest.mark.parametrize("name", ["floors", "colab"])
@needs_make
def test_the_other_environments_run_the_same_tests(name):
    """In folders of their own, made by the same script."""
    recipe = dry_run("-B", f"test-{name}", "PYTHON=python3")
    assert f"python3 scripts/make_environment.py {name} .venv-{name}" in recipe
    assert f".venv-{name}/bin/python -m pytest tests" in recipe
    assert f".venv-{name}/bin/python -m pytest --nbval-lax --nbval-current-env" in recipe


WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))


def test_the_workflow_runs_what_a_developer_runs_everywhere_and_every_week():
    triggers = WORKFLOW[True]  # YAML reads the word on as a truth value
    assert {"push", "pull_request", "schedule"} <= triggers.keys()
    test = WORKFLOW["jobs"]["test"]
    matrix = test["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    assert {line["versions"] for line in matrix["include"]} == {"floors", "colab"}
    assert test["steps"][-1]["run"] == ".ci/run ${{ matrix.versions }}"
    assert WORKFLOW["jobs"]["site"]["needs"] == "test"
    assert "make site" in [step.get("run") for step in WORKFLOW["jobs"]["site"]["steps"]]


def test_contributing_draws_the_house_that_the_contract_holds():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    floors, circles = settings["tool"]["importlinter"]["contracts"]
    assert (floors["type"], circles["type"]) == ("layers", "acyclic_siblings")
    drawn = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("```")[1].strip().splitlines()
    drawn = [re.split(r"  +", line)[0].replace("·", "|") for line in drawn]
    assert drawn == [floor for floor in floors["layers"] if floor != "__main__"]


def test_every_room_has_tests():
    rooms = {path.parent.name for path in (ROOT / "aacn_lib").glob("*/__init__.py")}
    assert rooms <= {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}


# What is imported under another name than it is installed by.
INSTALLED_AS = {
    "PIL": "pillow",
    "yaml": "pyyaml",
    "sphinx": "sphinx",
    "IPython": "ipython",
    "lazy_loader": "lazy-loader",
}


def imported_packages(files) -> set[str]:
    """What the code of these files imports at any place, without the standard library, by the names of packages."""
    found = set()
    for path in files:
        if path.suffix == ".ipynb":
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            source = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        else:
            source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.partition(".")[0])
    found -= {*sys.stdlib_module_names, "aacn_lib"}
    return {INSTALLED_AS.get(name, name) for name in found}


COLAB = make_environment.colab_packages()


def test_a_colab_session_has_what_is_imported_or_the_bootstrap_cell_brings_it():
    has = {make_environment.canonical(name) for name in COLAB}
    brought = {make_environment.name_of(line) for line in PROJECT["dependencies"]} - has
    assert brought == {"torchmetrics"}
    files = [*(ROOT / "aacn_lib").rglob("*.py"), *(ROOT / "notebooks").glob("*.ipynb")]
    imported = imported_packages(files)
    assert {"torch", "numpy", "matplotlib", "anywidget", "numba"} <= imported
    assert imported - has == brought | {"tensorboard"} - has


def test_the_bootstrap_cell_has_no_reason_to_replace_what_colab_has():
    def parts(version: str) -> tuple[int, ...]:
        return tuple(int(part) for part in re.findall(r"\d+", version)[:3])

    for line in PROJECT["dependencies"]:
        name, floor = line.split(">=")
        version = COLAB.get(name)
        assert version is None or parts(version) >= parts(floor), f"Colab has {name} {version}, we ask for {floor}"
