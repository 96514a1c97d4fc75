"""Checks of lesson 07, an attention-augmented ResNet: maps, parameters, which stages, and augmenting a network."""

import itertools
from collections.abc import Callable, Sequence

import torch

from aacn_lib.exercises.augmented_resnet import check_augment
from aacn_lib.exercises.grading import free_exercise, function_exercise, primes

# --- 07.map_sizes


def map_sizes(side: int, stem: str, halve: Callable = lambda n: (n + 1) // 2, halvings: int = 2) -> list[int]:
    for _ in range(halvings if stem == "large" else 0):
        side = halve(side)
    sizes = [side]
    for _ in range(3):
        sizes.append(halve(sizes[-1]))
    return sizes


def _draw_sides(generator: torch.Generator) -> list[tuple]:
    """Odd and even sides; 64 · n + 1 is odd after each halving that rounds down."""
    numbers = torch.randint(2, 7, (3,), generator=generator).tolist()
    sides = [64 * numbers[0] + 1, 32 * numbers[1], 64 * numbers[2] - 3]
    return [(side, stem) for side in sides for stem in ("small", "large")]


function_exercise(
    "07.map_sizes",
    map_sizes,
    _draw_sides,
    mistakes={
        "rounded down: a strided layer with padding keeps the odd pixel, so 7 becomes 4; use (side + 1) // 2": (
            lambda side, stem: map_sizes(side, stem, halve=lambda n: n // 2)
        ),
        "the sides are no whole numbers: divide with //, rounding up": (
            lambda side, stem: map_sizes(side, stem, halve=lambda n: n / 2)
        ),
        "the max-pool of the large stem is missing: it halves the map once more": (
            lambda side, stem: map_sizes(side, stem, halvings=1)
        ),
        "the stems are exchanged: the large one halves the map twice, the small one keeps it": (
            lambda side, stem: map_sizes(side, {"small": "large", "large": "small"}[stem])
        ),
        "the stem is missing: the large one halves the map twice, and `stem` says which one it is": (
            lambda side, stem: map_sizes(side, "small")
        ),
        "the small stem was treated as a large one: it keeps the resolution": (
            lambda side, stem: map_sizes(side, "large")
        ),
        "stage 1 was halved, too: its blocks have stride 1, only stages 2, 3 and 4 halve": (
            lambda side, stem: map_sizes((side + 1) // 2, stem)
        ),
        "a fifth entry: only the maps of the four stages are asked for, without that of the stem or of the picture": (
            lambda side, stem: [side, *map_sizes(side, stem)]
        ),
        "the order is that of the network, stage 1 first": lambda side, stem: map_sizes(side, stem)[::-1],
        "that is the number of pixels, not the side": lambda side, stem: [n * n for n in map_sizes(side, stem)],
    },
    tolerance=0,
)


# --- 07.bottleneck_parameters


def bottleneck_parameters(
    in_channels: int, channels: int, depth_k: int, depth_v: int, num_heads: int, height: int, width: int
) -> int:
    out_channels = 4 * channels
    down_and_up = in_channels * channels + channels * out_channels
    conv = 9 * channels * (channels - depth_v)
    attention = channels * (2 * depth_k + depth_v) + depth_v * depth_v
    tables = ((2 * height - 1) + (2 * width - 1)) * (depth_k // num_heads)
    norms = 2 * (channels + channels + out_channels)
    shortcut = in_channels * out_channels + 2 * out_channels if in_channels != out_channels else 0
    return down_and_up + conv + attention + tables + norms + shortcut


def _draw_bottlenecks(generator: torch.Generator) -> list[tuple]:
    """Blocks with and without a 1×1 convolution on the shortcut."""
    cases = []
    for projected in (True, False, True, False):
        heads, height, width, key, value = primes(generator, 5, high=17)
        depth_v = heads * value
        channels = depth_v + int(torch.randint(11, 40, (), generator=generator))
        in_channels = 2 * channels + 1 if projected else 4 * channels
        cases.append((in_channels, channels, heads * key, depth_v, heads, height, width))
    return cases


def _off_by(change: Callable) -> Callable:
    """The mistake that misses the right count by `change`."""
    return lambda *sizes: bottleneck_parameters(*sizes) + change(*sizes)


def _projected(c: int, m: int) -> int:
    """1 where the shortcut is a convolution."""
    return int(c != 4 * m)


function_exercise(
    "07.bottleneck_parameters",
    bottleneck_parameters,
    _draw_bottlenecks,
    mistakes={
        "the shortcut's convolution is missing: where channels differ, x passes a 1×1 convolution and a batch norm": (
            _off_by(lambda c, m, k, v, n, h, w: -_projected(c, m) * (c + 2) * 4 * m)
        ),
        "the shortcut's batch norm is missing: it follows the 1×1 convolution": (
            _off_by(lambda c, m, k, v, n, h, w: -_projected(c, m) * 8 * m)
        ),
        "every shortcut was counted as a convolution: where 4 · channels go in, it is the identity and has none": (
            _off_by(lambda c, m, k, v, n, h, w: (1 - _projected(c, m)) * (c + 2) * 4 * m)
        ),
        "the batch norms are missing: each has two numbers a channel": (
            _off_by(lambda c, m, k, v, n, h, w: -12 * m - _projected(c, m) * 8 * m)
        ),
        "a batch norm has two numbers a channel, a scale and a shift; looks as if one was counted": (
            _off_by(lambda c, m, k, v, n, h, w: -6 * m - _projected(c, m) * 4 * m)
        ),
        "the running means and variances were counted: they are buffers, no gradient trains them": (
            _off_by(lambda c, m, k, v, n, h, w: 12 * m + _projected(c, m) * 8 * m)
        ),
        "biases were counted: no convolution of the block has one, since batch norm follows": (
            _off_by(lambda c, m, k, v, n, h, w: m + (m - v) + (2 * k + v) + v + 4 * m + _projected(c, m) * 4 * m)
        ),
        "the tables are missing: two, of 2·height - 1 and 2·width - 1 rows": (
            _off_by(lambda c, m, k, v, n, h, w: -(2 * h + 2 * w - 2) * (k // n))
        ),
        "the tables were counted once for every head: the heads share them, and a row is as long as one head's query": (
            _off_by(lambda c, m, k, v, n, h, w: (2 * h + 2 * w - 2) * (k - k // n))
        ),
        "the tables have 2·height - 1 and 2·width - 1 rows: distance 0 occurs once an axis": (
            _off_by(lambda c, m, k, v, n, h, w: 2 * (k // n))
        ),
        "both tables were sized by the height: one has 2·height - 1 rows, the other 2·width - 1": (
            _off_by(lambda c, m, k, v, n, h, w: 2 * (h - w) * (k // n))
        ),
        "one table of (2·height - 1)·(2·width - 1) rows was counted: there are two, one an axis, and their rows add": (
            _off_by(lambda c, m, k, v, n, h, w: ((2 * h - 1) * (2 * w - 1) - (2 * h + 2 * w - 2)) * (k // n))
        ),
        "the 3×3 convolution was counted with all channels: it makes channels - depth_v, attention makes the rest": (
            _off_by(lambda c, m, k, v, n, h, w: 9 * m * v)
        ),
        "the 3×3 kernel has nine weights for each pair of channels; looks as if three were counted": (
            _off_by(lambda c, m, k, v, n, h, w: -6 * m * (m - v))
        ),
        "the attention branch is missing: qkv, the output projection and the tables": (
            _off_by(lambda c, m, k, v, n, h, w: -m * (2 * k + v) - v * v - (2 * h + 2 * w - 2) * (k // n))
        ),
        "the output projection is missing: a 1×1 convolution from depth_v to depth_v channels": (
            _off_by(lambda c, m, k, v, n, h, w: -v * v)
        ),
        "the output projection was counted to `channels`: it leads from depth_v to depth_v channels": (
            _off_by(lambda c, m, k, v, n, h, w: v * (m - v))
        ),
        "the last 1×1 convolution was counted to `channels`: it leads to 4 · channels": (
            _off_by(lambda c, m, k, v, n, h, w: -3 * m * m)
        ),
        "qkv was counted from in_channels: it stands after the first 1×1 convolution and reads `channels`": (
            _off_by(lambda c, m, k, v, n, h, w: (c - m) * (2 * k + v))
        ),
        "queries were counted, keys were not: qkv gives 2 · depth_k + depth_v channels": (
            _off_by(lambda c, m, k, v, n, h, w: -m * k)
        ),
    },
    tolerance=0,
)


# --- 07.affordable_stages


def affordable_stages(
    sizes: Sequence[tuple[int, int]],
    blocks: Sequence[int],
    num_heads: int,
    batch_size: int,
    budget: int,
    *,
    stage_bytes: Callable = lambda pixels, blocks, heads, batch: 4 * blocks * batch * heads * pixels**2,
) -> list[int]:
    chosen = []
    for stage in range(len(sizes), 0, -1):
        H, W = sizes[stage - 1]
        budget -= stage_bytes(H * W, blocks[stage - 1], num_heads, batch_size)
        if budget < 0:
            break
        chosen.insert(0, stage)
    return chosen


def _draw_budgets(generator: torch.Generator) -> list[tuple]:
    """Budgets on the border, by the right bill and by each wrong one, so that no mistake is taken for another.

    On the border means: what the stages from k on need together, or what stage k needs alone; and one byte less.
    """
    cases = []
    for first, halving in itertools.product((1, 2, 3, 4), (True, False)):
        for bill in (_need, *_WRONG_BILLS.values()):
            case = _draw_network(generator, halving)
            costs = _bills(*case, bill)[first - 1 :]
            cases += [(*case, border - less) for border in (sum(costs), costs[0]) for less in (0, 1)]
    # One factor at a time, the others 1: which one is missing shows.
    for heads, batch, blocks in ((5, 1, [1] * 4), (1, 7, [1] * 4), (1, 1, [3, 4, 6, 5]), (1, 1, [1] * 4)):
        case = ([(5 * 2**n, 3 * 2**n) for n in (3, 2, 1, 0)], blocks, heads, batch)
        cases.append((*case, sum(_bills(*case)[2:]) - 1))
    # Three stages of equal cost, exactly enough: a bill twice as high loses two of them, "<" in place of "≤" one.
    case = ([(24, 56), (3, 7), (3, 7), (3, 7)], [2] * 4, 3, 5)
    cases.append((*case, sum(_bills(*case)[1:])))
    # Stage 3 is dearer than stage 2, and does not fit: the rule stops there.
    heads, batch, h, w = primes(generator, 4, low=3, high=13)
    case = ([(8 * h, 8 * w), (2 * h, 2 * w), (2 * h, 2 * w), (h, w)], [1, 2, 7, 3], heads, batch)
    costs = _bills(*case)
    cases += [(*case, costs[3] + costs[1]), (*case, costs[3] + costs[2] - 1)]
    # Equal maps: the last two stages fit one by one, not together, and the first two only where a factor is missing.
    h, w, heads, batch = primes(generator, 4, low=3, high=13)
    cases.append(([(h, w)] * 4, [9, 8, 2, 2], heads, batch, 3 * _need(h * w, 1, heads, batch)))
    # A few MiB, of which stage 4 needs half: read as a number of MiB, they hold everything.
    return [*cases, ([(48, 40), (24, 20), (24, 20), (32, 16)], [2, 3, 4, 2], 2, 1, 8 * 2**20)]


def _draw_network(generator: torch.Generator, halving: bool) -> tuple:
    """(sizes, blocks, num_heads, batch_size), all-different primes for map, heads and batch; maps may stay equal.

    On equal maps a sum is far more than any of its parts.
    """
    heads, batch, h, w = primes(generator, 4, low=3, high=13)
    blocks = torch.randint(2, 9, (4,), generator=generator).tolist()
    return [(h * 2**n, w * 2**n) for n in ((3, 2, 1, 0) if halving else (0, 0, 0, 0))], blocks, heads, batch


def _need(pixels: int, blocks: int, heads: int, batch: int) -> int:
    return 4 * blocks * batch * heads * pixels**2


_WRONG_BILLS = {
    "the pixels must be squared: there is a logit for each *pair* of pixels": (
        lambda pixels, blocks, heads, batch: 4 * blocks * batch * heads * pixels
    ),
    "twice the pixels is not their square: write pixels**2, there is a logit for each *pair* of pixels": (
        lambda pixels, blocks, heads, batch: 4 * blocks * batch * heads * pixels * 2
    ),
    "the 4 bytes of a number are missing": lambda pixels, blocks, heads, batch: blocks * batch * heads * pixels**2,
    "the heads are missing: each has logits of its own": (
        lambda pixels, blocks, heads, batch: 4 * blocks * batch * pixels**2
    ),
    "the batch is missing: each picture has logits of its own": (
        lambda pixels, blocks, heads, batch: 4 * blocks * heads * pixels**2
    ),
    "the heads and the batch are missing: each picture and each head has logits of its own": (
        lambda pixels, blocks, heads, batch: 4 * blocks * pixels**2
    ),
    "the blocks are missing: each block of a stage keeps logits of its own": (
        lambda pixels, blocks, heads, batch: 4 * batch * heads * pixels**2
    ),
}


def _bills(sizes: Sequence, blocks: Sequence, num_heads: int, batch_size: int, bill: Callable = _need) -> list[int]:
    return [bill(H * W, count, num_heads, batch_size) for (H, W), count in zip(sizes, blocks, strict=True)]


def _with_bytes(stage_bytes: Callable) -> Callable:
    """The rule with another bill of a stage."""
    return lambda *case: affordable_stages(*case, stage_bytes=stage_bytes)


def _each_alone(bill: Callable, stop: bool = False) -> Callable:
    """Every stage compared with the whole budget, none added to another."""

    def choose(sizes: Sequence, blocks: Sequence, num_heads: int, batch_size: int, budget: int) -> list[int]:
        costs = _bills(sizes, blocks, num_heads, batch_size, bill)
        fitting = [stage for stage, cost in enumerate(costs, start=1) if cost <= budget]
        first = max((stage for stage in range(1, len(costs) + 1) if stage not in fitting), default=0)
        return [stage for stage in fitting if stage > first or not stop]

    return choose


def _from_the_front(sizes: Sequence, blocks: Sequence, num_heads: int, batch_size: int, budget: int) -> list[int]:
    count = len(affordable_stages(sizes[::-1], blocks[::-1], num_heads, batch_size, budget))
    return list(range(1, count + 1))


def _skipping(sizes: Sequence, blocks: Sequence, num_heads: int, batch_size: int, budget: int) -> list[int]:
    chosen = []
    for stage, cost in reversed(list(enumerate(_bills(sizes, blocks, num_heads, batch_size), start=1))):
        if cost <= budget:
            budget -= cost
            chosen.insert(0, stage)
    return chosen


def _one_too_many(*case: object) -> list[int]:
    count = min(len(affordable_stages(*case)) + 1, len(case[0]))
    return list(range(len(case[0]) - count + 1, len(case[0]) + 1))


function_exercise(
    "07.affordable_stages",
    affordable_stages,
    _draw_budgets,
    mistakes={
        "the stages are right, in falling order: return them in rising order": (
            lambda *case: affordable_stages(*case)[::-1]
        ),
        "stages were numbered from 0: the first is stage 1": lambda *case: [n - 1 for n in affordable_stages(*case)],
        "that is the number of stages: return their numbers, such as [3, 4]": (
            lambda *case: len(affordable_stages(*case))
        ),
        "from the front: begin with the last stage, whose map is the smallest": _from_the_front,
        "a stage that did not fit was skipped and an earlier one taken: stop at the first that does not fit": (
            _skipping
        ),
        "the stage that no longer fits was taken along: stop before it is added": _one_too_many,
        "each stage was compared with the whole budget: all of them together must fit": _each_alone(_need),
        "no stage was taken off the budget before the next was compared with it: all of them together must fit": (
            _each_alone(_need, stop=True)
        ),
        "a budget that is used up to the last byte still holds everything: compare with ≤, not <": (
            lambda s, b, n, p, budget: affordable_stages(s, b, n, p, budget - 1)
        ),
        "the budget was read as MiB: it is a number of bytes": (
            lambda s, b, n, p, budget: affordable_stages(s, b, n, p, budget * 2**20)
        ),
        **{message: _with_bytes(bill) for message, bill in _WRONG_BILLS.items()},
        **{
            f"two things: {message}; and each stage was compared with the whole budget": _each_alone(bill)
            for message, bill in _WRONG_BILLS.items()
        },
    },
    tolerance=0,
)


# --- 07.augment

free_exercise("07.augment")(check_augment)
