"""Build the course as a static web site: `python scripts/make_site.py`, which is what `make site` runs.

Sphinx wants all its sources in one folder. So this fills `site/_build/source` with the pages of `site/`, the lessons,
the README (pages show parts of it) and the explorer of the front page, and builds `site/_build/html` from it. A build
with a warning, such as a broken link, fails and leaves the last site as it was.
"""

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

import torch
from run_notebooks import NOTEBOOKS, ROOT, repository_address

from aacn_lib import explore, load_dataset, load_pretrained

SITE = ROOT / "site"
BUILD = SITE / "_build"
TOOLS = ("sphinx", "myst_nb", "furo", "latex2mathml")
SETUP_PROMPT = "the cell that installs the library on Colab"


def main() -> int:
    missing = [name for name in TOOLS if importlib.util.find_spec(name) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}; `make site` or `pip install -e .[site]` does it", file=sys.stderr)
        return 2
    start = time.perf_counter()
    built = BUILD / "new"
    for folder in (BUILD / "source", built):
        shutil.rmtree(folder, ignore_errors=True)
    fill(BUILD / "source")
    if build(BUILD / "source", built) != 0:
        print("FAILED: sphinx; its warnings above say where", file=sys.stderr)
        return 1
    shutil.rmtree(BUILD / "html", ignore_errors=True)
    built.rename(BUILD / "html")
    files = [path for path in (BUILD / "html").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(f"{len(files)} files, {size / 1e6:.1f} MB, in {time.perf_counter() - start:.0f} s; open it from disk:")
    print((BUILD / "html" / "index.html").as_uri())
    return 0


def fill(source: Path, notebooks: Path = NOTEBOOKS) -> None:
    """Put together what Sphinx reads. The folders are those of the repository, so links between files hold."""
    shutil.copytree(SITE, source, ignore=shutil.ignore_patterns("_build", "__pycache__"))
    shutil.copy(ROOT / "README.md", source)
    for page in source.glob("*.md"):
        page.write_text(page.read_text(encoding="utf-8").replace("REPOSITORY", repository_address()), encoding="utf-8")
    shutil.copytree(notebooks, source / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for path in (source / "notebooks").glob("*.ipynb"):
        path.write_text(json.dumps(folded(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    (source / "explorer.html").write_text(front_explorer(), encoding="utf-8")


def folded(notebook: dict) -> dict:
    """The notebook with its bootstrap cell closed: on a page it has nothing to say, and it stands above the lesson."""
    for cell in notebook["cells"]:
        if "bootstrap" in cell["metadata"].get("tags", []):
            cell["metadata"]["tags"].append("hide-input")
            prompts = {f"code_prompt_{state}": f"{state.capitalize()} {SETUP_PROMPT}" for state in ("show", "hide")}
            cell["metadata"]["mystnb"] = prompts
    return notebook


def front_explorer() -> str:
    """The explorer of the front page: a trained network on the first validation picture of each direction."""
    trained = load_pretrained("compass_aa_cnn", "cpu")
    images, labels = load_dataset(trained.data).validation
    first = torch.tensor([int((labels == k).nonzero()[0]) for k in range(len(trained.classes))])
    return explore(
        {trained.recipe["about"]: trained.model}, images[first],
        mean=trained.mean, std=trained.std, labels=labels[first], classes=trained.classes,
    ).to_html()  # fmt: skip


def build(source: Path, site: Path, messages: TextIO | None = None) -> int:
    """Sphinx's exit code: not 0 if it had a warning; it then goes on to the end and names all of them.

    messages: a file for what it says, default this process's standard output and error.
    """
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-W", "--keep-going", "-b", "html"]
    command += ["-d", source.parent / "doctrees", "-c", SITE, source, site]
    return subprocess.run(command, stdout=messages, stderr=messages).returncode


if __name__ == "__main__":
    sys.exit(main())
