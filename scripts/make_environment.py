"""Make an environment to test in: `python scripts/make_environment.py floors|colab FOLDER`.

floors: every dependency at the lowest version that pyproject.toml admits, what those need themselves at its newest.
colab: what a Colab session has (tests/environments/colab.txt) of all that the library, its lessons and their kernel
       need; then the lessons' own bootstrap cell, which must bring the rest and replace nothing.

Both get what the tests need on top. Standard library only: it runs before anything is installed.
"""

import json
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLAB = ROOT / "tests" / "environments" / "colab.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEST_TOOLS = ("nbval", "pytest")  # beside what Colab has: enough to run tests and lessons there


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in MAKERS:
        print(f"expected one of {', '.join(MAKERS)} and a folder, got {sys.argv[1:]}", file=sys.stderr)
        return 2
    folder = Path(sys.argv[2]).absolute()
    venv.create(folder, with_pip=True, clear=True)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    # uv knows how to choose the lowest versions, which pip does not.
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "uv")
    MAKERS[sys.argv[1]](python)
    return 0


def make_floors(python: Path) -> None:
    extras = ",".join(("lab", "fast", "test", "site"))
    install(python, "--resolution", "lowest-direct", "-e", f"{ROOT}[{extras}]")


def make_colab(python: Path) -> None:
    there = {canonical(name): version for name, version in colab_packages().items()}
    wanted = [canonical(name_of(line)) for extra in ("lab", "fast") for line in PROJECT["optional-dependencies"][extra]]
    wanted += [canonical(name_of(line)) for line in PROJECT["dependencies"]]
    had = [name for name in wanted if name in there]
    # The list is that of Colab's CPU image, whose PyTorch asks for none of these.
    pins = [
        f"{name}=={version}" for name, version in there.items() if not name.startswith(("nvidia-", "cuda-", "triton"))
    ]
    constraints = python.parent / "colab.txt"
    constraints.write_text("\n".join(pins), encoding="utf-8")
    install(python, "-c", constraints, *had, "ipykernel", "ipython", "nbclient", "nbformat", "setuptools")
    before = versions(python)
    source = bootstrap_cell().replace("git+" + PROJECT["urls"]["Repository"], str(ROOT))
    # From another folder: the library must come from where the cell installs it.
    run(python, "-c", source, cwd=python.parent)
    after = versions(python)
    replaced = {name: (version, after.get(name)) for name, version in before.items() if after.get(name) != version}
    if replaced:
        raise SystemExit(f"FAILED: the bootstrap cell replaced what Colab has: {replaced}")
    print("the bootstrap cell brought", ", ".join(sorted(after.keys() - before.keys())), "and replaced nothing")
    pins = [f"{name}=={version}" for name, version in after.items() if name != canonical(PROJECT["name"])]
    install(python, *pins, *TEST_TOOLS)


MAKERS = {"floors": make_floors, "colab": make_colab}


def bootstrap_cell() -> str:
    """As it stands in the first lesson."""
    notebook = json.loads(next(ROOT.glob("notebooks/00_*.ipynb")).read_text(encoding="utf-8"))
    (cell,) = (cell for cell in notebook["cells"] if "bootstrap" in cell["metadata"].get("tags", []))
    return "".join(cell["source"])


def colab_packages() -> dict[str, str]:
    """Name and version of all that a Colab session has."""
    lines = COLAB.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def versions(python: Path) -> dict[str, str]:
    listed = run(python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check", capture_output=True)
    return {canonical(entry["name"]): entry["version"] for entry in json.loads(listed.stdout)}


def name_of(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0]


def canonical(name: str) -> str:
    """One spelling of a package's name, as the package index has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def install(python: Path, *arguments) -> None:
    run(python, "-m", "uv", "pip", "install", "-q", "--python", python, *arguments)


def run(python: Path, *arguments, **options) -> subprocess.CompletedProcess:
    return subprocess.run([str(python), *map(str, arguments)], check=True, **{"cwd": ROOT, **options})


if __name__ == "__main__":
    sys.exit(main())
