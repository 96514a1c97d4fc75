"""Kill a training run at random moments, again and again, and see whether it still ends bitwise where it should.

    python tests/kill_loop.py --times 20

Each round forks a process that trains, saving after every step, waits until it has begun to save, and kills it with
SIGKILL a random time later. At the end the run goes on undisturbed and its weights are compared with those of a run
that was never killed. Exit code 1 if they differ, or a round could not go on from what the round before left.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

import aacn_lib as aacn
from aacn_lib.data import Dataset, Split
from aacn_lib.training import load_checkpoint
from aacn_lib.training.checkpoint import previous

TRAINING = aacn.Training(
    epochs=60, batch_size=16, optimiser="sgd", learning_rate=0.01, schedule="cosine", augment=True, ema_decay=0.99
)


def make_run() -> tuple[nn.Module, Dataset]:
    """A network whose saving takes longer than its steps, so that many kills fall into a save."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (128, 1, 8, 8), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.arange(128) % 4)
    data = Dataset("noise", ("a", "b", "c", "d"), split, split, split, torch.full((1,), 0.5), torch.ones(1))
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4000), nn.ReLU(), nn.Dropout(0.1), nn.Linear(4000, 4)), data


def train(path: Path) -> nn.Module:
    model, data = make_run()
    torch.manual_seed(5)  # dropout
    aacn.fit(model, data, TRAINING, device="cpu", checkpoint=path, checkpoint_every=1, progress=False)
    return model


def signs(path: Path) -> set[tuple[str, int]]:
    """Names and times of the files in the run's folder: new ones mean that a save has begun."""
    found = set()
    for file in path.parent.iterdir():
        with contextlib.suppress(FileNotFoundError):  # renamed between the two looks
            found.add((file.name, file.stat().st_mtime_ns))
    return found


def kill_once(path: Path, seconds: float) -> int | None:
    """Train in a forked process until so long after its first save begins. None, or its exit code if it ended."""
    before = signs(path)
    child = os.fork()
    if child == 0:
        try:
            train(path)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    deadline = None
    while deadline is None or time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if deadline is None and signs(path) - before:
            deadline = time.monotonic() + seconds
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # forked processes cannot use the threads of their parent
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        kills, in_save = 0, 0
        import accelerate  # noqa: F401  here, or each round would spend its time on it

        while kills < options.times:
            code = kill_once(path, draw.uniform(0, 0.15))
            if code is not None:
                print(f"the run ended by itself with code {code} after {kills} kills", flush=True)
                return 1
            kills += 1
            left = list(Path(folder).glob(".*.tmp"))
            in_save += bool(left)
            state = None  # reading raises an error, and ends this, where nothing whole is left
            if path.exists() or previous(path).exists():
                _, data = make_run()
                identity = {"training": asdict(TRAINING), "data": data.name, "pictures": len(data.train.labels)}
                state = load_checkpoint(path, identity)
            where = f"epoch {state['epoch'] + 1}, step {state['step']}" if state else "before the first save"
            print(f"kill {kills:>2}: {where}, {'during a save' if left else 'between saves'}", flush=True)
        ended = train(path)
        expected = train(Path(folder) / "undisturbed.pt")
        same = all(
            torch.equal(a, b) for a, b in zip(ended.state_dict().values(), expected.state_dict().values(), strict=True)
        )
        print(f"{kills} of {options.times} resumable, {in_save} killed during a save, end bitwise equal: {same}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
