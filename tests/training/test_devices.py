import random

import numpy as np
import pytest
import torch

from aacn_lib.training import pick_device, pick_precision
from aacn_lib.training.devices import peak_memory, random_states, restore_random_states, start_processes

CPU = torch.device("cpu")


def test_all_global_generators_come_back():
    states = random_states(CPU)
    first = torch.rand(3).tolist(), random.random(), np.random.rand()  # noqa: NPY002
    restore_random_states(states, CPU)
    assert (torch.rand(3).tolist(), random.random(), np.random.rand()) == first  # noqa: NPY002


def test_random_states_survive_a_file_read_without_code(tmp_path):
    states = random_states(CPU)
    expected = torch.rand(2), random.random(), np.random.rand()  # noqa: NPY002
    torch.save(states, tmp_path / "states.pt")
    restore_random_states(torch.load(tmp_path / "states.pt", weights_only=True), CPU)
    assert torch.equal(torch.rand(2), expected[0])
    assert (random.random(), np.random.rand()) == expected[1:]  # noqa: NPY002


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_auto_precision_goes_by_what_the_gpu_has_in_hardware(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)  # a T4 says so, too
    assert pick_precision("auto", torch.device("cuda")) == expected


def test_auto_precision_is_full_on_a_cpu_and_a_named_one_is_taken():
    assert pick_precision("auto", CPU) == torch.float32
    assert pick_precision("bfloat16", CPU) == torch.bfloat16


@pytest.mark.parametrize("device", ["cuda:97", "gpu", "tpu0", 3.5])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(ValueError, match=f"device: expected one that this machine has, got {device!r}"):
        pick_device(device)
    with pytest.raises(ValueError, match="device: expected one that this machine has"):
        start_processes(device)


def test_one_process_can_start_again_and_again():
    for _ in range(2):
        accelerator = start_processes("cpu")
        assert accelerator.device.type == "cpu"
        assert (accelerator.num_processes, accelerator.is_main_process) == (1, True)


def test_peak_memory_is_at_least_what_is_held():
    held = torch.ones(30_000_000)
    assert peak_memory(CPU) > held.numel() * 4
