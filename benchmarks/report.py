"""What was measured as tables of plain text, and what became of the marks."""

from collections.abc import Iterable
from dataclasses import asdict

from benchmarks.layers.cases import LAYER, MARKS, Case, Mark
from benchmarks.layers.memory import fit

NOTHING = "—"
AGAINST = {"conv": "÷ conv", "public": "÷ public", "no positions": "÷ no pos."}
LEGEND = """÷: the number of a row divided by that of another variant. IQR: interquartile range.
error: largest difference of output and gradients from the float64 definition, relative to the largest number.
auto: what AAConv2d chooses by itself. public: q, k, v by a 3×3 convolution, as public layers have it.
no positions: attention without relative positions, another function: the cost if positions were free."""


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    """Columns as wide as their contents: the first to the left, the others to the right."""
    rows = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


def timings_text(mode: str, timings: dict) -> str:
    return "\n\n".join([*(layer_text(mode, layer) for layer in timings["layers"]), networks_text(mode, timings)])


def layer_text(mode: str, result: dict) -> str:
    """One table: times, spread and ratios of all variants, in inference and in training."""
    header = [
        "",
        *(title for when in ("infer", "train") for title in (f"{when} ms", "IQR", *AGAINST.values())),
        "error",
    ]
    rows = []
    for name in result["training"]:
        row = [name + (" (auto)" if name == result["auto"] else "")]
        for when in ("inference", "training"):
            times = {variant: timing["median"] for variant, timing in result[when].items()}
            row += [milliseconds(times[name]), milliseconds(result[when][name]["iqr"]), *ratios(times, name)]
        rows.append([*row, share(result["differences"].get(name))])
    text = [f"Layer, {mode}, {result['dtype']}: {Case(**result['case'])}", table(header, rows)]
    if "peak" in result:
        text += ["Peak memory of the GPU in training", peak_table(result["peak"])]
    return "\n".join([*text, *(f"{name} left out: {reason}" for name, reason in result["left_out"].items())])


def networks_text(mode: str, timings: dict) -> str:
    rows, left_out = [], []
    for pair in timings["networks"]:
        if "left_out" in pair:
            left_out.append(f"{pair['augmented']} against {pair['plain']} left out: {pair['left_out']}")
            continue
        plain, augmented = (pair["training"][pair[kind]] for kind in ("plain", "augmented"))
        cells = [text for t in (plain, augmented) for text in (milliseconds(t["median"]), milliseconds(t["iqr"]))]
        title = f"{pair['augmented']} against {pair['plain']}"
        ratio = f"{augmented['median'] / plain['median']:.2f}"
        rows.append([title, pair["dtype"], str(pair["batch"]), *cells, ratio])
    header = ["", "dtype", "batch", "plain ms", "IQR", "augmented ms", "IQR", "augmented ÷ plain"]
    return "\n".join([f"Networks, {mode}: training", table(header, rows), *left_out])


def memory_text(memory: dict) -> str:
    if not memory:
        return "Peak memory: not measured on this system"
    text = [
        f"Peak memory, default allocator: {Case(**memory['case'])}, training, beyond model and input",
        peak_table(memory["peak"]),
    ]
    pixels = [str(point[0]) for point in next(iter(memory["curve"].values()))]
    rows = []
    for name, points in memory["curve"].items():
        line = fit(points)
        cells = [f"{line['slope'] / 1024:.2f}", f"{line['r2']:.4f}", f"{line['exponent']:.2f}"]
        rows.append([name, *(mebibytes(taken) for _, taken in points), *cells])
    header = ["MiB by pixels of the map", *pixels, "slope KiB/pixel", "R² of a line", "exponent"]
    return "\n".join([*text, "", table(header, rows)])


def peak_table(peaks: dict[str, int]) -> str:
    header = ["", "MiB", *AGAINST.values()]
    return table(header, ([name, mebibytes(taken), *ratios(peaks, name)] for name, taken in peaks.items()))


def judge(results: dict) -> list[dict]:
    """The marks with what was measured of them: None where this run did not measure it."""
    judged = []
    for mark in MARKS:
        ratio = measured(mark, results)
        reached = [
            None if ratio is None else (ratio >= bound if mark.at_least else ratio <= bound)
            for bound in (mark.bound, mark.hope)
        ]
        judged.append(asdict(mark) | {"measured": ratio, "reached": reached[0], "hope_reached": reached[1]})
    return judged


def measured(mark: Mark, results: dict) -> float | None:
    """The ratio that `mark` speaks of, None where it was not measured."""
    mode = results["modes"].get(mark.mode, {"layers": [], "networks": []})
    if mark.what == "peak":
        memory = results["memory"]
        numbers = memory["peak"] if memory and memory["case"] == asdict(LAYER) else {}
        auto = memory.get("auto")
    elif mark.what == "layer":
        found = [r for r in mode["layers"] if r["case"] == asdict(LAYER) and r["dtype"] == mark.dtype]
        numbers = {name: timing["median"] for r in found for name, timing in r[mark.when].items()}
        auto = found[0]["auto"] if found else None
    else:
        found = [r for r in mode["networks"] if r["dtype"] == mark.dtype and "left_out" not in r]
        numbers = {name: timing["median"] for r in found for name, timing in r[mark.when].items()}
        auto = None
    over, under = (auto if name == "auto" else name for name in (mark.over, mark.under))
    return numbers[over] / numbers[under] if over in numbers and under in numbers else None


def marks_text(judged: list[dict]) -> str:
    rows = []
    for mark in judged:
        found = NOTHING if mark["measured"] is None else f"{mark['measured']:.3g}"
        sign = "≥" if mark["at_least"] else "≤"
        rows.append([mark["text"], mark["mode"], mark["dtype"], found])
        for bound, reached in (("bound", "reached"), ("hope", "hope_reached")):
            rows[-1] += [f"{sign} {mark[bound]:.3g}", {None: NOTHING, True: "yes", False: "no"}[mark[reached]]]
    header = ["", "allocator", "dtype", "measured", "goal", "reached", "hope", "reached"]
    return "Marks\n" + table(header, rows)


def ratios(numbers: dict[str, float], name: str) -> list[str]:
    """How many times the number of each of AGAINST the number of `name` is."""
    return [f"{numbers[name] / numbers[other]:.2f}" if other in numbers else NOTHING for other in AGAINST]


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}" if seconds < 0.1 else f"{seconds * 1e3:.0f}"


def mebibytes(count: int) -> str:
    return f"{count / 2**20:.1f}"


def share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0e}"
