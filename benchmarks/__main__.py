"""`python -m benchmarks`: measure, print, write a record. `make bench` runs it."""

import argparse
import datetime
import importlib.metadata
import os
import platform
import re
import sys
from pathlib import Path

import torch

from aacn_lib.training import code_version, write_record
from benchmarks import report
from benchmarks.child import ROOT, ask
from benchmarks.layers.cases import ALLOCATORS, DTYPES
from benchmarks.layers.memory import measure_memory

SETTINGS = ("OMP_", "MKL_", "KMP_", "NUMBA_", "PYTORCH_")  # environment variables that change speed


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    plan = "quick" if options.quick else "full"
    results = {
        "plan": plan,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "code": code_version(),
        "platform": platform.platform(),
        "numpy": importlib.metadata.version("numpy"),
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith(SETTINGS)},
        "rounds": options.rounds,
        "modes": {},
        "memory": {},
    }
    say(report.LEGEND)
    for mode, environment in modes(options.device).items():
        say(f"{mode}: {explain(environment)}")
        question = {name: getattr(options, name) for name in ("device", "dtypes", "rounds", "threads")}
        timings = ask("benchmarks.layers.timings", environment=environment, plan=plan, **question)
        results["machine"] = timings.pop("machine")
        results["modes"][mode] = {"environment": environment, **timings}
        say(report.timings_text(mode, timings))
    if options.device == "cpu":
        results["memory"] = measure_memory(plan, options.threads)
        say(report.memory_text(results["memory"]))
    results["marks"] = report.judge(results)
    say(report.marks_text(results["marks"]))
    if path := options.out or (None if options.quick else record_path(results["machine"])):
        write_record(path, results)
        say(f"written to {path}")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, seconds; no record unless --out is given")
    parser.add_argument("--rounds", type=int, help="samples of each variant (default 4; 1 with --quick)")
    parser.add_argument("--device", choices=DTYPES, default="cpu")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES["cuda"], help="other than float32: mixed precision")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default %(default)s")
    parser.add_argument("--out", type=Path, help="the record's file (default benchmarks/records/<machine>.json)")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch finds no CUDA device")
    options.rounds = (1 if options.quick else 4) if options.rounds is None else options.rounds
    options.dtypes = options.dtypes or list(DTYPES[options.device])
    if options.rounds < 1 or options.threads < 1:
        parser.error("--rounds and --threads: expected at least 1")
    return options


def modes(device: str) -> dict[str, dict[str, str]]:
    """The allocators to measure with, by name: environment variables of the process that measures."""
    if device == "cuda":
        return {"cuda": {}}
    if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc":
        return ALLOCATORS
    say("kept: left out, its switches are glibc's on Linux")
    return {"default": ALLOCATORS["default"]}


def explain(environment: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in environment.items()) or "the allocator as users have it"


def record_path(machine: dict) -> Path:
    threads = f"-{machine['threads']}-threads" if machine["device"] == "cpu" else ""
    slug = re.sub(r"[^a-z0-9]+", "-", machine["name"].lower()).strip("-")
    return ROOT / "benchmarks" / "records" / f"{slug}{threads}.json"


def say(text: str) -> None:
    print(f"{text}\n", flush=True)


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:  # from a process that measures: it has said why
        sys.exit(f"benchmarks: {error}")
