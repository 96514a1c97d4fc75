"""`Training`: how a network is trained, as plain settings that a recipe file or a lesson writes down."""

from dataclasses import dataclass

from aacn_lib.augment import Augmentation, to_augmentation
from aacn_lib.expect import expect_one_of, is_count
from aacn_lib.training.devices import PRECISIONS
from aacn_lib.training.optimisers import OPTIMISERS, SCHEDULES

CHOICES = {
    "optimiser": OPTIMISERS,
    "schedule": SCHEDULES,
    "precision": ("auto", *PRECISIONS),
}
# name: (lowest value, is that value itself allowed, value that it must stay below)
RANGES = {
    "learning_rate": (0, False, None),
    "momentum": (0, True, 1),
    "weight_decay": (0, True, None),
    "sam_radius": (0, True, None),
    "warmup_epochs": (0, True, None),
    "drop": (0, False, 1),
    "clip_norm": (0, True, None),
    "label_smoothing": (0, True, 1),
    "mixup": (0, True, None),
    "cutmix": (0, True, None),
    "ema_decay": (0, True, 1),
}


@dataclass(frozen=True)
class Training:
    """How a network is trained. All there is to know, so that a run can be repeated from it.

    Attributes:
        epochs: passes over the training part.
        batch_size: pictures a step, over all devices together; a last smaller batch is trained on too.
        optimiser: "adam" (AdamW), "sgd" (Nesterov), or "muon" (Muon for matrices and kernels, AdamW for the rest).
        learning_rate: the constant rate, or the peak of the schedule.
        momentum: of "sgd" and "muon".
        weight_decay: decoupled for "adam" and "muon", the classic L2 term for "sgd".
        decay_norms: False leaves parameters of fewer than two dimensions (norms, biases) undecayed.
        sam_radius: of sharpness-aware minimisation (Foret et al. 2021); 0 is without. Each step then costs two.
        schedule: "constant"; "one_cycle": up for the first 30 % of the steps, then down to nearly zero; "cosine": down
            to zero; "multi_step": times `drop` at each of `milestones`.
        warmup_epochs: the rate rises linearly from nearly zero over these, fractions allowed; not with "one_cycle".
        milestones: epochs, rising.
        drop: factor of "multi_step".
        clip_norm: gradients longer than this, over all parameters, are shortened to it; 0 is without.
        accumulate: pieces a batch is cut into, one after another through the network, for less memory. The step is
            that of the whole batch, but batch norm sees one piece at a time.
        label_smoothing: share of the target spread over all classes (Szegedy et al. 2016).
        mixup, cutmix: parameter of the Beta distribution that shares are drawn from, for each picture; 0 is without.
            With both, a fair coin decides for each picture.
        ema_decay: of the moving average of the weights, which then is what is validated and handed back; it starts
            lower, at (1 + n) / (10 + n) after n steps. 0 is without.
        precision: of the network's matrix products. "auto": bfloat16 on a GPU that has it in hardware (compute
            capability 8 and up), float16 with loss scaling on other GPUs, float32 on a CPU.
        channels_last: memory layout that convolutions on a GPU are fastest in.
        compile: pass the network through torch.compile.
        augment: False; True for random flips and 4-pixel padded crops; or an `Augmentation`, or a dictionary of its
            fields. Drawn for each picture.
        train_subset: train on this many pictures only, a fixed choice with equal classes where possible; 0 is all.
        seed: of the order of pictures and of augmentation. Weights are drawn where the model is created.

    Raises:
        ValueError: for a value outside its range; the message names the setting.
    """

    epochs: int = 1
    batch_size: int = 128
    optimiser: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "constant"
    augment: bool | Augmentation = False
    seed: int = 0
    momentum: float = 0.9
    decay_norms: bool = True
    sam_radius: float = 0.0
    warmup_epochs: float = 0.0
    milestones: tuple[float, ...] = ()
    drop: float = 0.2
    clip_norm: float = 0.0
    accumulate: int = 1
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema_decay: float = 0.0
    precision: str = "auto"
    channels_last: bool = False
    compile: bool = False
    train_subset: int = 0

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            expect_one_of("Training", name, allowed, getattr(self, name))
        for name in ("epochs", "batch_size", "accumulate", "seed", "train_subset"):
            value, floor = getattr(self, name), 0 if name in ("seed", "train_subset") else 1
            if not is_count(value, floor):
                raise ValueError(f"Training: {name}: expected a whole number of at least {floor}, got {value!r}")
        for name in ("decay_norms", "channels_last", "compile"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"Training: {name}: expected true or false, got {getattr(self, name)!r}")
        for name, bounds in RANGES.items():
            _check_range(name, getattr(self, name), *bounds)
        self._check_milestones()
        if self.schedule == "one_cycle" and self.warmup_epochs:
            raise ValueError(
                f"Training: warmup_epochs: expected 0 with one_cycle, which warms up, got {self.warmup_epochs}"
            )
        if self.sam_radius and self.precision == "float16":
            raise ValueError(
                "Training: sam_radius: expected 0 with float16, whose scaled gradients may overflow before "
                f"the second pass, got {self.sam_radius}"
            )
        if not isinstance(self.augment, bool):
            object.__setattr__(self, "augment", to_augmentation(self.augment))

    def _check_milestones(self) -> None:
        marks = self.milestones
        fine = isinstance(marks, tuple | list) and all(_is_number(mark) and 0 < mark < self.epochs for mark in marks)
        if not fine or list(marks) != sorted(set(marks)):
            raise ValueError(
                f"Training: milestones: expected rising numbers between 0 and epochs={self.epochs}, got {marks!r}"
            )
        if bool(marks) != (self.schedule == "multi_step"):
            raise ValueError(
                "Training: milestones: expected some with schedule multi_step and none with another, "
                f"got {marks!r} with {self.schedule!r}"
            )
        object.__setattr__(self, "milestones", tuple(marks))  # a list from a TOML file


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _check_range(name: str, value, low, low_allowed: bool, high) -> None:
    text = f"of at least {low}" if low_allowed else f"above {low}"
    if high is not None:
        text += f" and below {high}"
    fine = _is_number(value) and (value >= low if low_allowed else value > low) and value != float("inf")
    if not fine or (high is not None and value >= high):
        raise ValueError(f"Training: {name}: expected a number {text}, got {value!r}")
