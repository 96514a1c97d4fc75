"""`python -m benchmarks.training.loop`: what `fit` costs beside the network's own forward and backward pass.

Both are timed in turns in one process. Bare: forward, loss, backward and a step of the same optimiser on pictures that
are ready, normalised. `fit`: one epoch as a run does it, with shuffling, random flips and crops, normalising, records
of the loss and accuracy; validation is not counted in either.
"""

import argparse
import dataclasses
import statistics
import time

import torch
import torch.nn.functional as F

import aacn_lib as aacn
from aacn_lib.data import Split
from aacn_lib.training import make_optimiser

PICTURES = 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="aa_resnet18")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device")
    options = parser.parse_args()

    data = aacn.load_dataset("fashion-mini")
    few = Split(data.train.images[:PICTURES], data.train.labels[:PICTURES])
    one = Split(data.validation.images[:1], data.validation.labels[:1])
    data = dataclasses.replace(data, train=few, validation=one)
    training = aacn.Training(epochs=1, batch_size=128, augment=True)
    model = aacn.create_model(options.model, data.num_classes, data.image_size, data.in_channels, width=options.width)
    aacn.fit(model, data, training, device=options.device, progress=False)  # warm up, compile kernels
    device = next(model.parameters()).device
    optimiser = make_optimiser(model, training)
    images = aacn.normalise(few.images.to(device), data.mean, data.std).split(128)
    labels = few.labels.to(device).split(128)

    bare, loop, processor = [], [], []
    for _ in range(options.rounds):
        model.train()
        started, began = time.perf_counter(), time.process_time()
        for x, y in zip(images, labels, strict=True):
            optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(model(x), y).backward()
            optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        bare.append(time.perf_counter() - started)
        middle = time.process_time()
        history = aacn.fit(model, data, training, device=device, progress=False)
        loop.append(history.epochs[0]["seconds"])
        processor.append((time.process_time() - middle) / (middle - began))
    ratios = [b / a for a, b in zip(bare, loop, strict=True)]
    print(f"{options.model}, width {options.width}, {device}, {torch.get_num_threads()} threads, {PICTURES} pictures")
    print(
        f"bare {PICTURES / statistics.median(bare):.0f} images/s, fit {PICTURES / statistics.median(loop):.0f} images/s"
    )
    print(f"fit / bare: median {statistics.median(ratios):.3f}, each {' '.join(f'{r:.3f}' for r in ratios)}")
    # Processor time is steadier where other work takes turns; it holds all of `fit`, its start and validation included.
    print(f"in processor time: median {statistics.median(processor):.3f}, {' '.join(f'{r:.3f}' for r in processor)}")


if __name__ == "__main__":
    main()
