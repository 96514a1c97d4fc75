"""What a run is while it goes on: the network and all that changes with it."""

from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from aacn_lib.evaluation import Evaluation
from aacn_lib.training.devices import pick_precision, random_states, restore_random_states
from aacn_lib.training.optimisers import make_optimiser, make_schedule
from aacn_lib.training.settings import Training


@dataclass
class History:
    """What happened in a run: `epochs`, one dictionary an epoch, and `step_loss`, one number a step."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    step_loss: list[float] = field(default_factory=list)


class TrainState:
    """A network in training: all that a step changes, and all that must be kept to go on later as if nothing had been.

    Args:
        model: trained in place, moved to the accelerator's device.
        training: how.
        pictures: of one epoch, over all processes.
        accelerator: from `start_processes`.

    Attributes:
        network: `model` as it is called: shared out among processes, compiled, or the model itself.
        optimiser, schedule: see `optimisers`.
        scaler: of the loss, for float16; else it passes everything through.
        average: the moving average of the weights, or None.
        history: of the epochs and steps so far.
        epoch, step: that come next, from 0; `step` is within the epoch.
        seconds: that this epoch has taken so far.
    """

    def __init__(self, model: nn.Module, training: Training, pictures: int, accelerator):
        self.training, self.pictures, self.accelerator = training, pictures, accelerator
        # accelerate numbers CPUs, torch does not
        self.device = torch.device("cpu") if accelerator.device.type == "cpu" else accelerator.device
        self.precision = pick_precision(training.precision, self.device)
        self.steps_per_epoch = -(-pictures // training.batch_size)

        self.model = model.to(self.device)
        if training.channels_last:
            model.to(memory_format=torch.channels_last)
        self.optimiser = make_optimiser(model, training)
        self.schedule = make_schedule(
            self.optimiser, training, self.steps_per_epoch, training.epochs * self.steps_per_epoch
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)
        self.average = _make_average(model, training.ema_decay)
        network = accelerator.prepare_model(model) if self.processes > 1 else model
        self.network = torch.compile(network) if training.compile else network

        self.history, self.epoch, self.step, self.seconds = History(), 0, 0, 0.0
        self._sums = torch.zeros(2, dtype=torch.float64)  # of this epoch so far: loss, correct pictures
        self._recent: list[Tensor] = []  # sums of steps that are still on the device
        if accelerator.process_index:  # or dropout would leave out the same numbers in all processes
            torch.manual_seed(torch.initial_seed() + accelerator.process_index)

    @property
    def processes(self) -> int:
        return self.accelerator.num_processes

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and handed back: the average where there is one."""
        return self.average.module if self.average else self.model

    def end_step(self, sums: Tensor) -> None:
        """Count a step; `sums` (3,) are this process's loss, correct pictures and pictures, on the device."""
        self._recent.append(sums)
        self.step += 1

    def settle(self) -> None:
        """Fetch the losses that are still on the device: done seldom, because it waits for the device.

        Raises:
            ValueError: if one of them is not a number.
        """
        if not self._recent:
            return
        sums = torch.stack(self._recent)
        self._recent.clear()
        sums = self.accelerator.reduce(sums, "sum") if self.processes > 1 else sums
        sums = sums.double().cpu()
        self.history.step_loss.extend((sums[:, 0] / sums[:, 2]).tolist())
        self._sums += sums[:, :2].sum(0)
        if not sums.isfinite().all() and not self.scaler.is_enabled():  # the scaler skips such a step
            raise ValueError(
                f"training: the loss is no longer a number in epoch {self.epoch + 1}, at or before step {self.step}: "
                f"expected a rate that it stays finite at, got learning_rate={self.training.learning_rate}"
            )

    def end_epoch(self, validation: Evaluation) -> None:
        """Write the epoch into the history and begin the next one."""
        loss, correct = (self._sums / self.pictures).tolist()
        self.history.epochs.append(
            {
                "epoch": self.epoch + 1,
                "train_loss": loss,
                "train_accuracy": correct,
                "validation_loss": validation.loss,
                "validation_accuracy": validation.accuracy,
                "seconds": self.seconds,
            }
        )
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self._sums.zero_()

    def state(self) -> dict:
        """All of it as tensors and plain data. Every process must ask, because each has its own random state."""
        self.settle()
        position = {"epoch": self.epoch, "step": self.step, "sums": self._sums, "seconds": self.seconds}
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        random = _from_all_processes(random_states(self.device), self.accelerator)
        return {**parts, "history": asdict(self.history), **position, "random": random}

    def load(self, state: dict) -> None:
        """Go on from what `state` returned.

        Raises:
            ValueError: if it belongs to another network or optimiser; the message names the part.
        """
        for name, part in self._parts().items():
            try:
                part.load_state_dict(state[name])
            except (RuntimeError, ValueError) as error:
                raise ValueError(f"{name} does not fit ({error})") from error
        self.history, self._sums = History(**state["history"]), state["sums"]
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        mine = state["random"][self.accelerator.process_index % len(state["random"])]
        restore_random_states(mine, self.device)

    def _parts(self) -> dict:
        parts = {
            "model": self.model,
            "optimiser": self.optimiser,
            "schedule": self.schedule,
            "scaler": self.scaler,
        }
        return parts | ({"average": self.average} if self.average else {})


def _make_average(model: nn.Module, decay: float):
    """A moving average of all weights and statistics of `model`, or None."""
    if not decay:
        return None
    from torch.optim.swa_utils import AveragedModel

    @torch.no_grad()
    def move(averages: list[Tensor], values: list[Tensor], steps: Tensor) -> None:
        # A lower decay at first: otherwise the random initial weights stay in the average for 1 / (1 - decay) steps.
        weight = 1 - min(decay, (1 + float(steps)) / (10 + float(steps)))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value.to(average.dtype), weight)
            else:
                average.copy_(value)

    return AveragedModel(model, multi_avg_fn=move, use_buffers=True)


def _from_all_processes(states: dict, accelerator) -> list[dict]:
    """The states of every process, in the order of their numbers."""
    if accelerator.num_processes == 1:
        return [states]
    from accelerate.utils import gather_object

    return gather_object([states])
