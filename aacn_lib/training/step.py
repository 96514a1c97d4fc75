"""One step of training: gradients of a batch, and what the optimiser makes of them."""

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacn_lib.training.batches import Batch
from aacn_lib.training.optimisers import sam_ascend
from aacn_lib.training.state import TrainState


def train_step(state: TrainState, batch: Batch) -> None:
    """Change the weights once, by one batch."""
    training, model, optimiser, scaler = state.training, state.model, state.optimiser, state.scaler
    sums = add_gradients(state, batch)
    if training.sam_radius:
        with sam_ascend(model, training.sam_radius):
            optimiser.zero_grad(set_to_none=True)
            add_gradients(state, batch)
    if training.clip_norm:
        scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
    scale = scaler.get_scale()
    scaler.step(optimiser)
    scaler.update()
    optimiser.zero_grad(set_to_none=True)
    if scaler.get_scale() >= scale:  # a lower one says that float16 overflowed and the step was left out
        state.schedule.step()
    if state.average:
        state.average.update_parameters(model)
    state.end_step(sums)


def add_gradients(state: TrainState, batch: Batch) -> Tensor:
    """Add the gradients of a batch, piece by piece. Returns this process's sums (3,): loss, correct, pictures."""
    training, network = state.training, state.network
    sums = torch.zeros(3, device=batch.labels.device)
    pieces = batch.images.tensor_split(min(training.accumulate, len(batch.labels)))
    start = 0
    for number, images in enumerate(pieces):
        rows = slice(start, start + len(images))
        start = rows.stop
        last = number == len(pieces) - 1
        # Processes exchange gradients once a step, with the last piece.
        with contextlib.nullcontext() if last or state.processes == 1 else network.no_sync():
            if training.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast(images.device.type, state.precision, enabled=state.precision != torch.float32):
                logits = network(images)
            logits, labels = logits.float(), batch.labels[rows]
            loss = _loss(logits, batch, rows, training.label_smoothing)
            # Gradients are averaged over processes: times their number, they are those of the whole batch's mean.
            state.scaler.scale(loss * (state.processes / batch.total)).backward()
        right = (logits.argmax(dim=1) == labels) * batch.weight[rows]
        sums += torch.stack([loss.detach(), right.sum(), batch.weight[rows].sum()])
    return sums


def _loss(logits: Tensor, batch: Batch, rows: slice, label_smoothing: float) -> Tensor:
    """The sum of the losses of some rows of a batch."""
    options = {"reduction": "none", "label_smoothing": label_smoothing}
    loss = F.cross_entropy(logits, batch.labels[rows], **options)
    if batch.partners is not None:  # the loss of a mixed target is the mixture of the two losses
        other = F.cross_entropy(logits, batch.partners[rows], **options)
        loss = torch.lerp(other, loss, batch.share[rows])
    return (loss * batch.weight[rows]).sum()
