"""Times of layers and networks, all variants side by side in one process.

All variants of a case take turns, so that whatever else the machine does meets all of them. PyTorch's own timer runs a
statement untimed before it samples it: the first call after idling may take four times as long. A child process of
`make bench` runs this file: its allocator is set by its environment.
"""

from collections.abc import Callable
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.benchmark import Measurement, Timer

from aacn_lib import create_model, list_models
from aacn_lib.training import machine
from benchmarks.child import answer, tell
from benchmarks.layers.cases import PLANS, VARIANTS, Case, Network
from benchmarks.layers.steps import inference_step, mixed_precision, training_step
from benchmarks.layers.variants import auto_choice, build, check_equal, why_left_out


def take_turns(steps: dict[str, Callable[[], None]], rounds: int, shortest: float) -> dict[str, dict]:
    """Seconds a call of each step: median and interquartile range over `rounds` samples, taken in turn.

    Calls faster than `shortest` seconds are repeated until they have taken so long.
    """
    threads = torch.get_num_threads()
    timers = {name: Timer("step()", globals={"step": step}, num_threads=threads) for name, step in steps.items()}
    samples = {name: [] for name in steps}
    if torch.cuda.is_initialized():  # on a GPU, what is compiled at first use is compiled now
        for step in steps.values():
            step()
    for _ in range(rounds):
        for name, timer in timers.items():
            samples[name].append(timer.blocked_autorange(min_run_time=shortest))
    return {name: summary(*Measurement.merge(taken)) for name, taken in samples.items()}


def summary(measurement: Measurement) -> dict:
    return {"median": measurement.median, "iqr": measurement.iqr, "samples": len(measurement.times)}


def measure_case(case: Case, device: str, dtype: str, *, rounds: int, shortest: float) -> dict:
    """Assert that all variants compute the same function, then time them."""
    kind, names = getattr(torch, dtype), VARIANTS[device]
    left_out = {name: reason for name in names if (reason := why_left_out(name, case, device))}
    layers = {name: build(name, case).to(device) for name in names if name not in left_out}
    result = {
        "case": asdict(case),
        "dtype": dtype,
        "auto": auto_choice(case, device),
        "left_out": left_out,
        "differences": check_equal(layers, case, device, kind),
    }
    for when, make_step in (("inference", inference_step), ("training", training_step)):
        steps = {name: make_step(layer, case, device, kind) for name, layer in layers.items()}
        result[when] = take_turns(steps, rounds, shortest)
    if device == "cuda":
        result["peak"] = {name: cuda_peak(step) for name, step in steps.items()}
    return result


def cuda_peak(step: Callable[[], None]) -> int:
    """Bytes that a call takes on the GPU beyond what was there before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def measure_network(pair: Network, device: str, dtype: str, *, rounds: int, shortest: float) -> dict:
    """Forward and backward of a network without and with attention."""
    batch = pair.batch_cuda if device == "cuda" else pair.batch_cpu
    result = {"plain": pair.plain, "augmented": pair.label, "batch": batch, "dtype": dtype}
    missing = [name for name in (pair.plain, pair.augmented) if name not in list_models()]
    if missing:
        return result | {"left_out": f"{' and '.join(missing)}: not in this version"}
    torch.manual_seed(0)
    images = torch.randn(batch, 3, pair.image_size, pair.image_size, device=device)
    labels = torch.randint(100, (batch,), device=device)
    options = {} if pair.stages is None else {"attention_stages": pair.stages}
    steps = {
        pair.plain: network_step(pair.plain, images, labels, getattr(torch, dtype)),
        pair.label: network_step(pair.augmented, images, labels, getattr(torch, dtype), **options),
    }
    return result | {"image_size": pair.image_size, "training": take_turns(steps, rounds, shortest)}


def network_step(name: str, images: Tensor, labels: Tensor, dtype: torch.dtype, **options) -> Callable[[], None]:
    model = create_model(name, 100, images.shape[-1], **options).to(images.device).train()
    parameters = list(model.parameters())

    def step():
        with mixed_precision(images.device.type, dtype):
            loss = F.cross_entropy(model(images), labels)
        torch.autograd.grad(loss, parameters)

    return step


def measure(plan: str, device: str, dtypes: list[str], rounds: int, threads: int) -> dict:
    torch.set_num_threads(threads)
    layers, networks = [], []
    sampling = {"rounds": rounds, "shortest": PLANS[plan].shortest_sample}
    for dtype in dtypes:
        for case in PLANS[plan].cases:
            tell(f"{dtype}, layer {case}")
            layers.append(measure_case(case, device, dtype, **sampling))
        for pair in PLANS[plan].networks:
            tell(f"{dtype}, {pair.label} and {pair.plain}")
            networks.append(measure_network(pair, device, dtype, **sampling))
    return {"machine": machine(torch.device(device)), "layers": layers, "networks": networks}


if __name__ == "__main__":
    answer(measure)
