"""Where a run takes place: its processes, devices and number formats."""

import random
import sys

import torch

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def start_processes(device: str | torch.device | None):
    """The accelerate `Accelerator` of this process; its `device` is where the model and the data go.

    Started by `accelerate launch` or `notebook_launcher` there are several processes, each with a device of its own
    that accelerate chooses. Otherwise there is one, on `device`; None is a GPU if there is one.

    Raises:
        ValueError: for a device that torch does not know or this machine does not have.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # accelerate keeps one state a process; without this a second run could not choose another device than the first.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    chosen = pick_device(device)
    accelerator = Accelerator(cpu=chosen.type == "cpu", mixed_precision="no")
    if accelerator.num_processes == 1:
        accelerator.state.device = chosen
    return accelerator


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """`device`, or a GPU if there is one and None is given.

    Raises:
        ValueError: for a device that torch does not know or this machine does not have.
    """
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device: expected one that this machine has, got {device!r} ({reason})") from error
    return chosen


def pick_precision(precision: str, device: torch.device) -> torch.dtype:
    """The number format of matrix products and convolutions that `Training.precision` means on `device`.

    "auto" is bfloat16 on a GPU of compute capability 8 and up. Older ones say that they support it, but compute it in
    software, slower than float32: they get float16. Everything else gets float32.
    """
    if precision != "auto":
        return PRECISIONS[precision]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16


def random_states(device: torch.device) -> dict:
    """States of all global generators of this process: torch on CPU and GPU, Python, NumPy. Plain data and tensors."""
    import numpy as np

    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002  a model may use the global one
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(keys.astype("int64")), *rest],
    }


def restore_random_states(states: dict, device: torch.device) -> None:
    """Put back what `random_states` returned. A GPU's state is left alone where there was none or is none."""
    import numpy as np

    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype("uint32"), *rest))  # noqa: NPY002


def peak_memory(device: torch.device) -> int | None:
    """Most bytes in use so far: allocated by torch on a GPU, resident in this process on a CPU; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
