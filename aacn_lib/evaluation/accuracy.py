"""How good a network is on one part of a data set."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacn_lib.data import Split, normalise


class Evaluation(NamedTuple):
    """Mean loss, accuracy in [0, 1], predicted classes (N,) and number of pictures."""

    loss: float
    accuracy: float
    predictions: Tensor
    count: int


@torch.no_grad()
def evaluate(
    model: nn.Module,
    split: Split,
    mean: Tensor,
    std: Tensor,
    *,
    batch_size: int | None = None,
    precision: torch.dtype = torch.float32,
    workers: int = 0,
    accelerator=None,
) -> Evaluation:
    """Loss and accuracy of `model` on one part of a data set, on the model's device.

    Args:
        model: (B, C, H, W) → (B, num_classes); its training mode is left as it was.
        split: uint8 images (N, C, H, W) and int64 labels (N,), in memory or streamed.
        mean, std: (C,), those of the data set it was trained on.
        batch_size: pictures at a time; changes memory, not results. None is 512, or fewer where they are large.
        precision: of matrix products; float32 or, on a GPU, a half-width format.
        workers: processes that read a streamed part.
        accelerator: from `start_processes`: every process must call, takes its share of the pictures, and gets the
            result for all of them, each counted once.

    Raises:
        ValueError: if the split is empty.
    """
    if len(split.labels) == 0:
        raise ValueError("evaluate: expected at least one picture, got an empty split")
    process, processes = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    device = next(model.parameters()).device
    count = len(split.labels)
    C, H, W = split.picture_shape
    batch_size = batch_size or max(1, min(512, 2**22 // (C * H * W)))
    mine = torch.arange(process, count, processes)
    batches = mine.split(batch_size) if len(mine) else ()
    pictures = split.read((batch.to(split.labels.device) for batch in batches), seed=None, workers=workers)
    was_training, loss = model.training, torch.zeros((), dtype=torch.float64)
    predictions = torch.zeros(count, dtype=torch.int64)
    model.eval()
    for batch, images in zip(batches, pictures, strict=True):
        labels = split.labels[batch.to(split.labels.device)].to(device)
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            logits = model(normalise(images.to(device), mean, std))
        loss += F.cross_entropy(logits.float(), labels, reduction="sum").item()
        predictions[batch] = logits.argmax(dim=1).cpu()
    model.train(was_training)
    if processes > 1:  # every process filled in its own pictures and left zeros elsewhere
        loss = accelerator.reduce(loss.float().to(device), "sum").cpu()
        predictions = accelerator.reduce(predictions.to(device), "sum").cpu()
    accuracy = (predictions == split.labels.cpu()).float().mean().item()
    return Evaluation(loss.item() / count, accuracy, predictions, count)
