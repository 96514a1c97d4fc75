"""Two processes that share a batch learn what one process learns from all of it."""

import copy
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

import aacn_lib as aacn
from aacn_lib.data import Dataset, Split
from aacn_lib.layers import AAConv2d
from aacn_lib.training.devices import start_processes


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        AAConv2d(3, 8, 3, depth_k=4, depth_v=4, num_heads=2, feature_size=(15, 17)), nn.Flatten(), nn.Linear(8 * 255, 1)
    )


def pictures():
    return torch.randn(4, 3, 15, 17, generator=torch.Generator().manual_seed(1))


def one_process(rank, port_file, out):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{port_file}", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(network())
    model(pictures()[2 * rank : 2 * rank + 2]).square().mean().backward()
    if rank == 0:
        torch.save({name: p.grad for name, p in model.module.named_parameters()}, out)
    dist.barrier()  # nobody hangs up while the other may still listen
    dist.destroy_process_group()


def test_gradients_of_two_processes_are_those_of_one(tmp_path):
    mp.spawn(one_process, (str(tmp_path / "meeting"), str(tmp_path / "grads.pt")), nprocs=2)
    found = torch.load(tmp_path / "grads.pt", weights_only=True)
    model = copy.deepcopy(network())
    model(pictures()).square().mean().backward()
    wanted = {name: p.grad for name, p in model.named_parameters()}
    assert found.keys() == wanted.keys()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def flat_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(4 * 5 * 3, 2))  # no batch statistics


RUN = aacn.Training(
    batch_size=9, optimiser="sgd", learning_rate=0.1, schedule="cosine", augment={"crop": 1, "flip": True}, mixup=0.5,
    cutmix=1.0, label_smoothing=0.1, clip_norm=1.0, ema_decay=0.5, accumulate=2,
)  # fmt: skip
COUNT = 41  # five steps; the last batch holds five pictures, and neither size is even


def toy_data():
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (COUNT, 2, 7, 5), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.randint(0, 2, (COUNT,), generator=generator))
    return Dataset("toy", ("a", "b"), split, split, split, torch.full((2,), 0.5), torch.ones(2))


def fit_in_one_of_two(rank, port, out):
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    model, epochs = flat_network(), []
    path = Path(out).with_name("checkpoint.pt")
    on_epoch = lambda history: epochs.append(rank)  # noqa: E731
    history = aacn.fit(model, toy_data(), RUN, device="cpu", checkpoint=path, on_epoch=on_epoch, progress=False)
    again = aacn.fit(flat_network(), toy_data(), RUN, device="cpu", checkpoint=path, progress=False)
    assert again.step_loss == history.step_loss  # of the seconds, those of the first process were kept
    assert epochs == ([0] if rank == 0 else [])
    accelerator = start_processes("cpu")
    data = toy_data()
    # Three pictures for two processes, then one: each counted once.
    for count in (3, 1):
        few = Split(data.test.images[:count], data.test.labels[:count])
        alone = aacn.evaluate(model, few, data.mean, data.std)
        shared = aacn.evaluate(model, few, data.mean, data.std, accelerator=accelerator)
        assert shared.count == count
        assert torch.equal(shared.predictions, alone.predictions)
        assert abs(shared.loss - alone.loss) < 1e-6
    torch.save({"weights": model.state_dict(), "losses": history.step_loss, "epoch": history.epochs[0]}, f"{out}{rank}")
    dist.destroy_process_group()


def test_two_processes_fit_as_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(fit_in_one_of_two, (port, str(tmp_path / "result")), nprocs=2)
    model = flat_network()
    history = aacn.fit(model, toy_data(), RUN, device="cpu", progress=False)
    assert len(history.step_loss) == 5
    untrained = flat_network().state_dict()
    for rank in (0, 1):
        found = torch.load(tmp_path / f"result{rank}", weights_only=True)
        for name, weight in model.state_dict().items():
            assert (found["weights"][name] - weight).abs().max() < 1e-6
            assert (untrained[name] - weight).abs().max() > 1e-3  # something was learned
        torch.testing.assert_close(torch.tensor(found["losses"]), torch.tensor(history.step_loss), rtol=1e-5, atol=1e-6)
        for key in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
            assert abs(found["epoch"][key] - history.epochs[0][key]) < 1e-6, key


RECIPE = """
about = "a test run"
model = "plain_cnn"
data = "compass"

[model_options]
widths = [4, 4]

[training]
batch_size = 640
train_subset = 1280
"""


def test_the_command_line_runs_on_two_processes(tmp_path):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    # On machines without GPUs `accelerate launch` starts one process; torch's own launcher starts two.
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    launch += ["-m", "aacn_lib", "train", str(recipe), "--runs", str(tmp_path / "runs"), "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "AACN_PROGRESS": "0"}
    done = subprocess.run(launch, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy") == 1  # one of the two speaks
    record = json.loads((tmp_path / "runs/tiny/seed0/record.json").read_text())
    assert record["processes"] == 2
    assert record["test"]["count"] == 2000
    assert (tmp_path / "runs/tiny/seed0/weights.safetensors").exists()
