"""Run records: what a run was and what came out, written by runs only and cited by lessons."""

import datetime
import importlib.metadata
import json
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from aacn_lib import __version__
from aacn_lib.evaluation import Evaluation, wilson_interval
from aacn_lib.expect import expect_one_of
from aacn_lib.training.devices import peak_memory
from aacn_lib.training.recipe import Recipe, list_recipes, load_recipe
from aacn_lib.training.state import History
from aacn_lib.whole_file import whole_file

FOLDER = Path(__file__).parents[1] / "assets" / "records"


def make_record(
    recipe: Recipe,
    model: nn.Module,
    history: History,
    test: Evaluation | None,
    *,
    flops: float | None = None,
    processes: int = 1,
) -> dict:
    """Everything that is worth knowing of a run, as plain data.

    Args:
        test: the one reading of the test set at the end of the run, or None while it is unfinished.
        flops: of one picture, forward, a multiply-add counted as two.
        processes: how many took part.
    """
    seconds = sorted(row["seconds"] for row in history.epochs)
    device = next(model.parameters()).device
    return {
        "format": 2,
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
        "machine": machine(device),
        "flops": flops,
        "processes": processes,
        "peak_memory_bytes": peak_memory(device),
        "step_loss": thin_out(history.step_loss),
    }


def thin_out(numbers: list[float], most: int = 300) -> list[float]:
    """Means of equal stretches of `numbers`, at most `most` of them: a curve, small enough for a record."""
    stretch = max(1, -(-len(numbers) // most))
    parts = [numbers[start : start + stretch] for start in range(0, len(numbers), stretch)]
    return [sum(part) / len(part) for part in parts]


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


def missing_records(folder: Path = FOLDER) -> list[tuple[str, int]]:
    """(recipe, seed) of every run that the course wants and has no complete record of, the most wanted first."""
    missing = []
    for name in list_recipes():
        recipe = load_recipe(name)
        for seed in recipe.seeds:
            path = folder / name / f"seed{seed}.json"
            if not path.is_file() or not json.loads(path.read_text(encoding="utf-8"))["complete"]:
                missing.append((recipe.rank, seed, name))
    return [(name, seed) for _, seed, name in sorted(missing)]


VALUES = {
    "test_accuracy": lambda record: record["test"]["accuracy"],
    "test_loss": lambda record: record["test"]["loss"],
    "validation_accuracy": lambda record: record["epochs"][-1]["validation_accuracy"],
    "seconds_per_epoch": lambda record: record["seconds_per_epoch"],
    "parameters": lambda record: record["parameters"],
}


def values(name: str, what: str) -> dict[int, float]:
    """One number of every complete run of recipe `name` that comes with the library, by seed.

    Args:
        what: "test_accuracy", "test_loss", "validation_accuracy" (after the last epoch), "seconds_per_epoch" or
            "parameters".

    Raises:
        ValueError: for an unknown recipe or number.
    """
    if what not in VALUES:
        expect_one_of("records", "value", VALUES, what)
    if name not in list_recipes():
        expect_one_of("records", "recipe", list_recipes(), name)
    records = {int(path.stem.removeprefix("seed")): path for path in (FOLDER / name).glob("seed*.json")}
    records = {seed: json.loads(path.read_text(encoding="utf-8")) for seed, path in sorted(records.items())}
    return {seed: VALUES[what](record) for seed, record in records.items() if record["complete"]}


def cite(name: str, what: str) -> str:
    """The same as text for a lesson: the mean, and the lowest and highest seed where there are several.

    Accuracies are in per cent; one seed's test accuracy comes with its 95 % interval. "no record" if there is none.
    """
    found = list(values(name, what).values())
    if not found:
        return "no record"
    show = "{:.2%}".format if "accuracy" in what else "{:,.0f}".format if what == "parameters" else "{:.3g}".format
    mean = show(sum(found) / len(found))
    if len(found) > 1:
        return (
            mean if len(set(found)) == 1 else f"{mean} ({show(min(found))} to {show(max(found))}, {len(found)} seeds)"
        )
    if what == "test_accuracy":
        seed = next(iter(values(name, what)))
        low, high = read_record(name, seed)["test"]["interval_95"]
        return f"{mean} (95 % interval {low:.2%} to {high:.2%}, one seed)"
    return mean


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
