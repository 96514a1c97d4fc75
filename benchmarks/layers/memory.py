"""Peak memory of a training step on the CPU, each in a fresh process, and how it grows with the map."""

import math
import statistics
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from benchmarks.child import answer, ask, tell
from benchmarks.layers.cases import PLANS, Case
from benchmarks.layers.steps import training_step
from benchmarks.layers.variants import auto_choice, build, why_left_out

STATUS = Path("/proc/self/status")


def measure_memory(plan: str, threads: int) -> dict:
    """Peaks in bytes by variant, and against the map's size. {} where the system does not tell them."""
    if sys.platform == "win32":
        return {}
    case, variants = PLANS[plan].memory
    curve, curve_variants = PLANS[plan].curve
    variants = [name for name in variants if not why_left_out(name, case, "cpu")]
    curve_variants = [name for name in curve_variants if not why_left_out(name, curve[0], "cpu")]
    return {
        "case": asdict(case),
        "auto": auto_choice(case, "cpu"),
        "peak": {name: ask_peak(name, case, threads) for name in variants},
        "curve": {name: [[c.H * c.W, ask_peak(name, c, threads)] for c in curve] for name in curve_variants},
    }


def ask_peak(variant: str, case: Case, threads: int) -> int:
    tell(f"peak memory of {variant}, {case}")
    return ask("benchmarks.layers.memory", variant=variant, case=asdict(case), threads=threads)["bytes"]


def peak_of_training(variant: str, case: dict, threads: int) -> dict:
    """In a fresh process: bytes of one forward and backward pass beyond the model, the input and the loaded libraries.

    A call on a small map comes first, so that libraries, compiled code and threads are there before the count begins.
    """
    torch.set_num_threads(threads)
    case = Case(**case)
    small = replace(case, H=4, W=4, batch=2)
    step = training_step(build(variant, case), case, "cpu", torch.float32)
    training_step(build(variant, small), small, "cpu", torch.float32)()
    before = start_counting()
    step()
    return {"bytes": peak_resident() - before}


def start_counting() -> int:
    """Forget the largest resident size so far where the system can (Linux); bytes to count from."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return peak_resident()
    return peak_resident()


def peak_resident() -> int:
    """The largest resident size of this process so far, in bytes.

    On Linux not `ru_maxrss`: a child inherits that from the process that started it, however large it was.
    """
    for line in STATUS.read_text().splitlines() if STATUS.exists() else []:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    import resource  # not on Windows

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def fit(points: list[list[int]]) -> dict[str, float]:
    """Least squares through (pixels, bytes): slope (bytes a pixel) and R² of a line, exponent of a power law."""
    pixels, taken = zip(*points, strict=True)
    line = statistics.linear_regression(pixels, taken)
    power = statistics.linear_regression(list(map(math.log, pixels)), list(map(math.log, taken)))
    return {"slope": line.slope, "r2": statistics.correlation(pixels, taken) ** 2, "exponent": power.slope}


if __name__ == "__main__":
    answer(peak_of_training)
