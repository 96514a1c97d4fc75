"""Optimisers and learning rates: AdamW, SGD, Muon for convolution kernels, the extra step of SAM, and the schedules.

`training` is a `Training` everywhere; only the fields that a docstring names are read.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from aacn_lib.expect import expect, expect_one_of
from aacn_lib.layers import AAConv1d, AAConv2d

OPTIMISERS = ("adam", "sgd", "muon")
SCHEDULES = ("constant", "one_cycle", "cosine", "multi_step")
_MATRIX_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def make_optimiser(model: nn.Module, training) -> torch.optim.Optimizer:
    """The optimiser that `training` names, over all parameters of `model`.

    "adam" is `torch.optim.AdamW`, "sgd" is `torch.optim.SGD` with Nesterov momentum, "muon" is `MuonWithAdamW` with the
    kernels of `hidden_kernels` as its matrices.

    Args:
        model: any network.
        training: its `optimiser`, `learning_rate`, `weight_decay`, `decay_norms` and, but for "adam", `momentum`.

    Raises:
        ValueError: for an unknown optimiser, and for "muon" on a network without hidden layers.
    """
    rate, momentum, decay = training.learning_rate, training.momentum, training.weight_decay
    expect_one_of("make_optimiser", "optimiser", OPTIMISERS, training.optimiser)
    if training.optimiser == "muon":
        kernels = hidden_kernels(model)
        expect(kernels, "make_optimiser", "model", "hidden layers, which muon is for", type(model).__name__)
        chosen = set(kernels)
        others = _decay_groups([p for p in model.parameters() if p not in chosen], training)
        return MuonWithAdamW(kernels, others, lr=rate, momentum=momentum, weight_decay=decay)
    parameters = _decay_groups(list(model.parameters()), training)
    if training.optimiser == "adam":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=rate, momentum=momentum, nesterov=momentum > 0, weight_decay=decay)


def _decay_groups(parameters: list[nn.Parameter], training) -> list[dict]:
    """One group of all, or with `decay_norms` False a second one, never decayed, of those of fewer than two dimensions.

    These are the scales and shifts of norms, biases, and the class token of a vision transformer.
    """
    if training.decay_norms:
        return [{"params": parameters}]
    matrices = {"params": [p for p in parameters if p.ndim >= 2]}
    vectors = {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}
    return [group for group in (matrices, vectors) if group["params"]]


def hidden_kernels(model: nn.Module) -> list[nn.Parameter]:
    """Weights of the linear and convolution layers of `model` that Muon takes: those between the first and the last.

    Muon's authors say: all convolution kernels but the first, and the hidden matrices of transformers; AdamW for
    embeddings, classifier, norms and biases (README of github.com/KellerJordan/Muon; github.com/KellerJordan/
    cifar10-airbench does so too). Position tables are embeddings. First and last are those in `model.modules()`, the
    order in which layers were assigned; an attention-augmented convolution that reads the pictures is one layer.

    Two more kinds stay with AdamW, since there is no matrix to make orthogonal: kernels that make a single map, such as
    that of CBAM's spatial gate, and those of grouped and depthwise convolutions, which are many small matrices.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _MATRIX_LAYERS)]
    first = next((m for m in model.modules() if isinstance(m, (*_MATRIX_LAYERS, AAConv2d, AAConv1d))), model)
    left_out = {*first.parameters(), *(layers[-1].parameters() if layers else ())}
    kernels = dict.fromkeys(layer.weight for layer in layers if getattr(layer, "groups", 1) == 1)  # shared ones once
    return [w for w in kernels if w not in left_out and w.requires_grad and min(w.flatten(1).shape) > 1]


class MuonWithAdamW(torch.optim.Optimizer):
    """`torch.optim.Muon` on kernels of any number of dimensions, `torch.optim.AdamW` on all else, as one optimiser.

    Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) replaces the momentum of a weight matrix by the nearest
    matrix with orthonormal rows or columns. Torch's takes matrices only, so it is handed each kernel
    (out, in, kh, kw) as (out, in · kh · kw), the view that Jordan et al. use.

    One learning rate serves both: with "match_rms_adamw" a matrix (A, B) moves by 0.2 √max(A, B) times the orthogonal
    one, whose entries have a root mean square of 1 / √max(A, B): by 0.2 · rate an entry. AdamW moves them by 0.2 to 0.4
    of its rate (Liu et al. 2025, arXiv 2502.16982, section 2.2), so rates and decays that suit it are the place to
    start from. The stacked kernel of queries, keys and values counts as one matrix.

    The first of `param_groups` is Muon's. The state is kept here; the two optimisers are made anew for each step, so
    nothing of theirs can fall out of date when a state is loaded or the model moves to another device.

    Args:
        kernels: of two or more dimensions.
        others: parameter groups for AdamW; may be empty.
        lr: learning rate of both.
        momentum: of Muon, with Nesterov's step. Jordan et al. advise 0.95. AdamW keeps its own defaults.
        weight_decay: decoupled, of both, unless a group says otherwise.
    """

    def __init__(
        self,
        kernels: Iterable[nn.Parameter],
        others: Iterable[dict],
        *,
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ):
        muon = {"params": list(kernels), "momentum": momentum, "adjust_lr_fn": "match_rms_adamw"}
        super().__init__([muon, *others], {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        """One step from the gradients at hand; parameters without one stay. Returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        group, *others = self.param_groups
        kernels = [kernel for kernel in group["params"] if kernel.grad is not None]
        matrices = [kernel.detach().flatten(1) for kernel in kernels]  # views of the same memory
        for kernel, matrix in zip(kernels, matrices, strict=True):
            matrix.grad = kernel.grad.flatten(1)

        muon = torch.optim.Muon([{**group, "params": matrices}])
        muon.state = {matrix: self.state[kernel] for kernel, matrix in zip(kernels, matrices, strict=True)}
        muon.step()
        for kernel, matrix in zip(kernels, matrices, strict=True):
            if not kernel.is_contiguous():  # in channels_last order, where the matrix is a copy
                kernel.copy_(matrix.view_as(kernel))

        if others:
            adamw = torch.optim.AdamW([dict(other) for other in others])
            adamw.state = self.state
            adamw.step()
        return loss


@contextmanager
def sam_ascend(model: nn.Module, radius: float) -> Iterator[None]:
    """Sharpness-aware minimisation: within this context the weights stand where the loss nearby is highest.

    Foret et al. 2021 (arXiv 2010.01412, equation 2 and algorithm 1, p = 2): the weights move by radius · g / ‖g‖, the
    norm taken over all parameters. The gradient at that place is then used for a step from the old one:

        loss(model(images), labels).backward()
        with sam_ascend(model, radius):
            optimiser.zero_grad()
            loss(model(images), labels).backward()
        optimiser.step()

    On leaving, also by an error, the weights are what they were, bit for bit: they are kept, not computed back. Running
    statistics of batch norm are frozen within, see `frozen_statistics`: the weights they would describe are no weights
    that the network ever has. Dropout and the like draw anew.

    Args:
        model: a network with the gradients g; parameters without one stay. A common factor on all of them, as from loss
            scaling, changes nothing, so they need not be unscaled. All zero: nothing moves.
        radius: ρ, the length of the move; the paper's default is 0.05.
    """
    moved = [(p, p.detach().clone()) for p in model.parameters() if p.grad is not None]
    with torch.no_grad():
        scale = radius / (torch.nn.utils.get_total_norm([p.grad for p, _ in moved]) + 1e-12)  # no 0 / 0
        for parameter, _ in moved:
            parameter.add_(parameter.grad * scale)
    try:
        with frozen_statistics(model):
            yield
    finally:
        with torch.no_grad():
            for parameter, old in moved:
                parameter.copy_(old)


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Within this context batch norm does not change its running mean, variance and count.

    Layers in training mode still normalise with the mean and variance of the batch, so the gradients are the same.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def make_schedule(optimiser: torch.optim.Optimizer, training, steps_per_epoch: int, total_steps: int) -> LRScheduler:
    """The learning rate over the whole run; call its `step` after each step of the optimiser.

    With s = 0, 1, … the steps done, S all of them and w those of the warm-up, the rate is `learning_rate` times

        constant     1
        cosine       (1 + cos(π · (s − w) / (S − w))) / 2 from s = w on (Loshchilov & Hutter 2017, without restarts)
        multi_step   drop to the power of the number of milestones passed

    and, while s < w, times (s + 1) / (w + 1): from a little above zero up to the full rate at s = w; cosine then
    stands at its peak. Warm-up and milestones are given in epochs, fractions allowed, and rounded to whole steps.

    "one_cycle" is torch's `OneCycleLR` with its defaults: up for the first 30 % of the steps, then down. It also moves
    the momentum of "sgd" (β₁ of "adam") from 0.95 to 0.85 and back; a `momentum` of "sgd" other than the default 0.9 is
    left alone, and so is that of "muon".

    Args:
        optimiser: all its parameter groups follow the schedule.
        training: its `schedule`, `optimiser`, `learning_rate`, `momentum`, `warmup_epochs`, `milestones` and `drop`.
        steps_per_epoch, total_steps: steps of the optimiser, not pieces of an accumulated batch.

    Raises:
        ValueError: for an unknown schedule, a warm-up with "one_cycle", or one that is not shorter than the run.
    """
    owner, name = "make_schedule", training.schedule
    expect_one_of(owner, "schedule", SCHEDULES, name)
    if name == "one_cycle":
        warmup_epochs = training.warmup_epochs
        expect(warmup_epochs == 0, owner, "warmup_epochs", "0 with one_cycle, which warms up", warmup_epochs)
        cycles = training.optimiser == "adam" or (training.optimiser == "sgd" and training.momentum == 0.9)
        return OneCycleLR(optimiser, training.learning_rate, total_steps=total_steps, cycle_momentum=cycles)

    warmup = round(training.warmup_epochs * steps_per_epoch)
    shorter = f"less than the run's {total_steps / steps_per_epoch:g} epochs"
    expect(warmup < total_steps or warmup == 0, owner, "warmup_epochs", shorter, training.warmup_epochs)
    milestones = [round(epoch * steps_per_epoch) for epoch in training.milestones]

    def factor(step: int) -> float:
        rising = min(1.0, (step + 1) / (warmup + 1))
        if name == "cosine":
            done = (step - warmup) / (total_steps - warmup)
            return rising * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0))) / 2
        if name == "multi_step":
            return rising * training.drop ** sum(step >= milestone for milestone in milestones)
        return rising

    return LambdaLR(optimiser, factor)
