"""Execute lessons in place: `python scripts/run_notebooks.py [00 04 …]`, all of them without arguments.

Refreshes the Colab badge and the bootstrap cell from the Repository address in pyproject.toml, gives the cells
deterministic ids, runs each lesson in a fresh kernel and writes it only if every cell succeeded.
"""

import argparse
import base64
import hashlib
import io
import os
import re
import sys
import time
import tomllib
from pathlib import Path

from aacn_lib.processes import wait_politely
from aacn_lib.whole_file import whole_file

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
CELL_TIMEOUT = 600  # seconds; generous, because AACN_PROFILE=full runs through here as well
BADGE = re.compile(r"\[!\[[^\]]*\]\([^)]*\)\]\(https://colab\.research\.google\.com/[^)]*\)")


def repository_address() -> str:
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]["urls"]["Repository"].rstrip("/")


def badge(notebook_name: str, address: str) -> str:
    """The Colab badge: a picture of our own, so that it shows without a network, and a link to the lesson there."""
    path = address.removeprefix("https://github.com/")
    target = f"https://colab.research.google.com/github/{path}/blob/main/notebooks/{notebook_name}"
    return f"[![Open in Colab](img/open_in_colab.svg)]({target})"


def bootstrap(address: str) -> str:
    """The bootstrap cell: on Colab it installs the library and what Colab lacks, and replaces nothing that is there.

    pip leaves alone what is new enough, and the floors in pyproject.toml are no higher than what Colab has (a test
    compares). Should that ever change, the versions named again make pip fail instead of replacing Colab's PyTorch.
    """
    return f"""\
import importlib.util
import subprocess
import sys
from importlib.metadata import version

if importlib.util.find_spec("aacn_lib") is None:  # on Colab; a local installation has it already
    library = "git+{address}"
    keep = [f"{{name}}=={{version(name)}}" for name in ("torch", "torchvision", "numpy", "ipywidgets")]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", library, *keep], check=True)"""


def refresh(notebook: dict, name: str, address: str) -> None:
    """Write badge, bootstrap cell, cell ids and kernel name into the notebook, in place."""
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    for position, cell in enumerate(notebook["cells"]):
        # From the position alone: an edit of one cell does not change the ids of others in a diff.
        cell["id"] = hashlib.sha256(f"{name}/{position}".encode()).hexdigest()[:8]
        tags = cell["metadata"].get("tags", [])
        cell["metadata"] = {"tags": tags} if tags else {}
        if "bootstrap" in tags:
            cell["source"] = bootstrap(address)
    first = notebook["cells"][0]
    title, *rest = first["source"].split("\n", 1)
    body = BADGE.sub("", rest[0] if rest else "").strip("\n")
    first["source"] = f"{title}\n\n{badge(name, address)}\n\n{body}".rstrip()


def clean(notebook: dict) -> None:
    """Remove from an executed notebook what differs from run to run without meaning: times, progress, widget state."""
    notebook["metadata"].pop("widgets", None)
    notebook["metadata"]["language_info"] = {"name": "python"}
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        cell["metadata"] = {"tags": tags} if tags else {}
        if cell["cell_type"] == "code":
            cell["outputs"] = [out for out in map(_clean_output, _joined(cell["outputs"])) if out is not None]


def _joined(outputs: list[dict]) -> list[dict]:
    """Neighbouring pieces of one stream as one: where the kernel cuts what is printed is an accident of timing."""
    joined = []
    for output in outputs:
        last = joined[-1] if joined else {}
        if output["output_type"] == "stream" == last.get("output_type") and output["name"] == last["name"]:
            last["text"] += output["text"]
        else:
            joined.append(output)
    return joined


def _clean_output(output: dict) -> dict | None:
    if output["output_type"] == "stream":
        # What a terminal would show: the text after the last carriage return of each line.
        lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in output["text"].split("\n")]
        output["text"] = "\n".join(lines)
        return output if output["text"].strip() else None
    if "data" in output:
        if "application/vnd.jupyter.widget-view+json" in output["data"]:
            return None  # without its state a stored widget shows an error; it appears when its cell is run
        output.get("metadata", {}).pop("needs_background", None)
        if "image/png" in output["data"]:
            output["data"]["image/png"] = small_png(output["data"]["image/png"])
    return output


def small_png(encoded: str) -> str:
    """The same picture in at most 255 colours, about a third of the bytes; as it was where that saves nothing."""
    from PIL import Image

    before = base64.b64decode(encoded)
    drawn = Image.open(io.BytesIO(before))
    if drawn.mode == "P":
        return encoded
    after = io.BytesIO()
    whole = Image.new("RGBA", drawn.size, "white")  # a figure may be transparent outside its axes: paper is white
    whole.alpha_composite(drawn.convert("RGBA"))
    whole.convert("RGB").quantize(255, dither=Image.Dither.NONE).save(after, "PNG", optimize=True)
    return encoded if after.tell() >= len(before) else base64.b64encode(after.getvalue()).decode() + "\n"


def execute(path: Path, address: str) -> float:
    """Run one lesson and write it back; the seconds it took. The file stays as it was if a cell fails."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    refresh(notebook, path.name, address)
    start = time.perf_counter()
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    seconds = time.perf_counter() - start
    clean(notebook)
    nbformat.validate(notebook)
    with whole_file(path) as file:
        file.write((nbformat.writes(notebook) + "\n").encode())
    return seconds


def choose(names: list[str], folder: Path) -> list[Path]:
    """The lessons whose file name starts with one of `names` (paths work too); all without names."""
    every = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not names:
        return every
    chosen = []
    for name in names:
        path = Path(name)
        found = [path] if path.suffix == ".ipynb" and path.exists() else [p for p in every if p.name.startswith(name)]
        if not found:
            raise ValueError(f"no lesson begins with {name!r}; there are {', '.join(p.stem for p in every) or 'none'}")
        chosen += found
    return list(dict.fromkeys(chosen))


def main(arguments: list[str] | None = None) -> int:
    wait_politely()  # the kernels inherit it
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="lessons, such as 00 or 04_relative_positions; all without any")
    try:
        paths = choose(parser.parse_args(arguments).names, NOTEBOOKS)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    os.environ["AACN_PROGRESS"] = "0"  # no progress bars in stored outputs
    failed = []
    for path in paths:
        print(f"{path.name:45}", end=" ", flush=True)
        try:
            print(f"{execute(path, repository_address()):6.1f} s", flush=True)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            failed.append(path.name)
            print(f"FAILED, left as it was\n{error}", flush=True)
    if failed:
        print(f"FAILED: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
