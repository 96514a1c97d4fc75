"""Two processes that share a batch learn what one process learns from all of it."""

import copy

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from aacn_lib.layers import AAConv2d


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
    dist.destroy_process_group()


def test_gradients_of_two_processes_are_those_of_one(tmp_path):
    mp.spawn(one_process, (str(tmp_path / "meeting"), str(tmp_path / "grads.pt")), nprocs=2)
    found = torch.load(tmp_path / "grads.pt", weights_only=True)
    model = copy.deepcopy(network())
    model(pictures()).square().mean().backward()
    wanted = {name: p.grad for name, p in model.named_parameters()}
    assert found.keys() == wanted.keys()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
