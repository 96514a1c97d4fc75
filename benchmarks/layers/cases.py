"""What is measured: sizes, variants, networks, allocators and the marks to reach. Data only."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A layer with its input: (batch, in_channels, H, W) → (batch, out_channels, H, W)."""

    H: int
    W: int
    batch: int
    depth_k: int = 40
    depth_v: int = 40
    num_heads: int = 4
    in_channels: int = 64
    out_channels: int = 128

    def __str__(self) -> str:
        return (
            f"{self.in_channels} → {self.out_channels} channels, {self.H}×{self.W} pixels, batch {self.batch}, "
            f"{self.num_heads} heads, d_k {self.depth_k}, d_v {self.depth_v}"
        )


@dataclass(frozen=True)
class Network:
    """A network without and with attention, for 100 classes; batches differ with what a device needs to be busy.

    Attributes:
        stages: `attention_stages` of the augmented one, None for its default.
    """

    plain: str
    augmented: str
    image_size: int = 32
    batch_cpu: int = 32
    batch_cuda: int = 256
    stages: tuple[int, ...] | None = None

    @property
    def label(self) -> str:
        """The augmented network's name in tables and records."""
        return self.augmented if self.stages is None else f"{self.augmented}, stages {list(self.stages)}"


# One line a pair. A pair whose names `list_models` does not know is reported and left out.
NETWORKS = (
    Network("plain_cnn", "aa_cnn"),
    Network("resnet18", "aa_resnet18", batch_cpu=8),
    Network("wide_resnet28_10", "aa_wide_resnet28_10", batch_cpu=4, batch_cuda=128, stages=(2, 3)),
    Network("wide_resnet28_10", "aa_wide_resnet28_10", batch_cpu=4, batch_cuda=128, stages=(1, 2, 3)),
)

# "public" takes queries, keys and values from a 3×3 convolution, "public 1×1" from a 1×1 one as AAConv2d does.
# "no positions" is another function, attention without relative positions: what the layer would cost if they were free.
VARIANTS = {
    "cpu": (
        *("conv", "public", "public 1×1"),
        *("definition", "skew", "augmented", "tiled", "fused"),
        "no positions",
    ),
    "cuda": ("conv", "public", "public 1×1", "skew", "augmented", "flex", "no positions"),
}

DTYPES = {"cpu": ("float32",), "cuda": ("float32", "bfloat16", "float16")}

LAYER = Case(32, 32, batch=32)


@dataclass(frozen=True)
class Plan:
    """All that one run measures.

    Attributes:
        cases: layers to time.
        networks: pairs of networks to time.
        memory: the layer whose peak is measured, and the variants.
        curve: layers that differ in their map's size only, and the variants whose peak is fitted against it.
        shortest_sample: seconds; faster calls are repeated until they have taken so long.
    """

    cases: tuple[Case, ...]
    networks: tuple[Network, ...]
    memory: tuple[Case, tuple[str, ...]]
    curve: tuple[tuple[Case, ...], tuple[str, ...]]
    shortest_sample: float


PLANS = {
    "full": Plan(
        cases=(LAYER, *(Case(side, side, batch, depth_k=80) for side, batch in ((8, 16), (16, 8), (32, 4), (64, 1)))),
        networks=NETWORKS,
        memory=(LAYER, VARIANTS["cpu"]),
        curve=(tuple(Case(side, side, batch=2) for side in (16, 24, 32, 48, 64, 96)), ("conv", "tiled", "fused")),
        shortest_sample=0.1,
    ),
    # Seconds, not minutes: to see that everything works. Its times say nothing.
    "quick": Plan(
        cases=(Case(5, 7, batch=3, depth_k=4, depth_v=6, num_heads=2, in_channels=6, out_channels=11),),
        networks=(Network("plain_cnn", "aa_cnn", image_size=8, batch_cpu=2, batch_cuda=2),),
        memory=(Case(16, 16, batch=2), ("tiled",)),
        curve=(tuple(Case(side, side, batch=2) for side in (16, 32, 48)), ("tiled",)),
        shortest_sample=0.005,
    ),
}

# glibc hands every tensor above 32 MiB back to the system and pays page faults for the next one. "kept" switches that
# off: then a form that makes large tensors is as fast as it can be, so ratios against it are the careful ones.
ALLOCATORS = {
    "default": {},
    "kept": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(64 << 30)},
}


@dataclass(frozen=True)
class Mark:
    """A goal of this project: a ratio of two measured numbers, the bound that it shall keep, and the one hoped for.

    Attributes:
        what: "layer", "peak" or "network".
        mode: the allocator, or "cuda".
        over, under: names of the two variants or networks; "auto" is what `AAConv2d` chooses by itself.
        bound, hope: the goal, and what would be far better than it.
        at_least: whether the ratio shall be at least so large, else at most.
    """

    text: str
    what: str
    over: str
    under: str
    bound: float
    hope: float
    at_least: bool = False
    mode: str = "kept"
    when: str = "training"
    dtype: str = "float32"


# The harder reading of the paper: attention on the full 32×32 map as well.
EVERY_STAGE = NETWORKS[-1].label

MARKS = (
    Mark("layer, training: times faster than public 1×1", "layer", "public 1×1", "auto", 1.5, 5, at_least=True),
    Mark(
        "layer, training: times faster than public 1×1",
        *("layer", "public 1×1", "auto", 3.9, 10),
        at_least=True,
        mode="default",
    ),
    Mark(
        "layer, inference: times faster than public 1×1",
        *("layer", "public 1×1", "auto", 2.2, 6),
        at_least=True,
        when="inference",
    ),
    Mark("layer, training: time of attention without positions", "layer", "auto", "no positions", 1.5, 0.5),
    Mark("layer, training: peak memory of public 1×1", "peak", "auto", "public 1×1", 1 / 14, 1 / 14, mode="default"),
    Mark("AA-WRN-28-10, all stages, training: time of WRN-28-10", "network", EVERY_STAGE, "wide_resnet28_10", 2.8, 1.5),
    Mark(
        "AA-WRN-28-10, all stages, training: time of WRN-28-10",
        *("network", EVERY_STAGE, "wide_resnet28_10", 1.5, 1.15),
        mode="cuda",
        dtype="bfloat16",
    ),
)
