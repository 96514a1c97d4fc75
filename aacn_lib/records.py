"""Run records: what a run was and what came out, written by runs only and cited by lessons."""

import datetime
import importlib.metadata
import json
import math
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from aacn_lib import __version__
from aacn_lib.recipe import Recipe
from aacn_lib.train import Evaluation, History
from aacn_lib.whole_file import whole_file

FOLDER = Path(__file__).parent / "assets" / "records"


def make_record(recipe: Recipe, model: nn.Module, history: History, test: Evaluation | None) -> dict:
    """Everything that is worth knowing of a run, as plain data.

    Args:
        test: the one reading of the test set at the end of the run, or None while it is unfinished.
    """
    seconds = sorted(row["seconds"] for row in history.epochs)
    return {
        "recipe": asdict(recipe),
        "complete": test is not None,
        "epochs_done": len(history.epochs),
        "parameters": sum(p.numel() for p in model.parameters()),
        "epochs": history.epochs,
        "seconds_per_epoch": seconds[len(seconds) // 2] if seconds else None,
        "test": test
        and {
            "accuracy": test.accuracy,
            "loss": test.loss,
            "count": test.count,
            "interval_95": wilson_interval(round(test.accuracy * test.count), test.count),
        },
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "code": code_version(),
        "machine": machine(next(model.parameters()).device),
    }


def write_record(path: str | Path, record: dict) -> None:
    """Write a record as JSON, whole or not at all."""
    with whole_file(path) as file:
        file.write((json.dumps(record, indent=1) + "\n").encode())


def read_record(name: str, seed: int = 0) -> dict:
    """The record of recipe `name` that comes with the library.

    Raises:
        ValueError: if there is none.
    """
    path = FOLDER / name / f"seed{seed}.json"
    if not path.is_file():
        raise ValueError(f"no record of recipe {name!r} with seed {seed}; there are {list_records()}")
    return json.loads(path.read_text(encoding="utf-8"))


def list_records() -> list[str]:
    """`recipe/seedN` of every record that comes with the library."""
    return sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/seed*.json"))


def wilson_interval(correct: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share, `correct` out of `count`: what another test set of this size may give (Wilson 1927)."""
    if count < 1 or not 0 <= correct <= count:
        raise ValueError(f"wilson_interval: expected 0 ≤ correct ≤ count and count ≥ 1, got {correct} of {count}")
    share, spread = correct / count, z * z / count
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def code_version() -> str:
    """The library's version, with the commit it stands at where it runs from a git checkout."""
    here = Path(__file__).parent
    ask = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+{answer}"


def machine(device: torch.device) -> dict:
    """Where a run took place: the device, its name, threads and versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return {
        "device": device.type,
        "name": name,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": _version("numba"),  # with it, attention on a CPU runs in another kernel
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
