"""Wrong answers to the exercises of lesson 09: title → (source, words that the message must hold)."""

RATE = """\
def linear_rate(step, total_steps, warmup, peak):
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return peak * (total_steps - step) / (total_steps - warmup)
"""

LOSS = """\
def mixed_loss(logits, labels, partners, share, smoothing):
    K = logits.shape[1]
    own, other = F.one_hot(labels, K), F.one_hot(partners, K)
    target = share[:, None] * own + (1 - share[:, None]) * other
    target = (1 - smoothing) * target + smoothing / K
    return -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
"""

BOX = """\
def cutmix_box(kept, row, column, height, width):
    half = 0.5 * (1 - kept) ** 0.5
    reach_y, reach_x = int(half * height), int(half * width)
    top, bottom = max(0, row - reach_y), min(height, row + reach_y)
    left, right = max(0, column - reach_x), min(width, column + reach_x)
    own = 1 - (bottom - top) * (right - left) / (height * width)
    return top, left, bottom, right, own
"""
CUT_ROWS = "max(0, row - reach_y), min(height, row + reach_y)"
CUT_COLUMNS = "max(0, column - reach_x), min(width, column + reach_x)"

AVERAGE = """\
def moving_average(weights, decay):
    average = weights[0]
    for n, row in enumerate(weights[1:], start=1):
        keep = min(decay, (1 + n) / (10 + n))
        average = keep * average + (1 - keep) * row
    return average
"""

BROKEN = """\
def broken(letter):
    words = {"a": "average", "b": "clipping", "c": "none", "d": "mixing", "e": "augmentation", "f": "schedule"}
    return words[letter]
"""

VERDICT = """\
def verdict(control, arm):
    chance = 2 / math.comb(len(control) + len(arm), len(arm))
    if min(arm) > max(control):
        return "above all", chance
    if max(arm) < min(control):
        return "below all", chance
    return "within the noise", chance
"""


def _changed(source, *changes):
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in source, old
        source = source.replace(old, new)
    return source


def _rate(*changes):
    return _changed(RATE, *changes)


def _loss(*changes):
    return _changed(LOSS, *changes)


def _box(*changes):
    return _changed(BOX, *changes)


def _average(*changes):
    return _changed(AVERAGE, *changes)


def _broken(*changes):
    return _changed(BROKEN, *changes)


def _verdict(*changes):
    return _changed(VERDICT, *changes)


WRONG = {
    "09.linear_rate": {
        "from zero": (_rate("(step + 1) / (warmup + 1)", "step / warmup"), "a step for nothing"),
        "peak too early": (_rate("(step + 1) / (warmup + 1)", "(step + 1) / warmup"), "one step too early"),
        "step not raised": (_rate("(step + 1) /", "step /"), "so add 1 to the step"),
        "down from step 0": (
            _rate("(total_steps - step) / (total_steps - warmup)", "(total_steps - step) / total_steps"),
            "counted from step 0",
        ),
        "divided by all": (
            _rate("(total_steps - step) / (total_steps - warmup)", "(1 - (step - warmup) / total_steps)"),
            "divided by all steps",
        ),
        "zero too early": (
            _rate(
                "(total_steps - step) / (total_steps - warmup)", "(total_steps - 1 - step) / (total_steps - 1 - warmup)"
            ),
            "zero at the last step",
        ),
        "constant": (_rate(" * (total_steps - step) / (total_steps - warmup)", ""), "does not come down"),
        "way done": (_rate("(total_steps - step) /", "(step - warmup) /"), "part of the way that is done"),
        "factors": (_rate("peak * ", ""), "`peak` is missing"),
        "no warm-up": (
            "def linear_rate(step, total_steps, warmup, peak):\n"
            "    return peak * min(1, (total_steps - step) / (total_steps - warmup))\n",
            "the warm-up is missing",
        ),
        "a cosine": (
            _rate(
                "peak * (total_steps - step) / (total_steps - warmup)",
                "peak * (1 + math.cos(math.pi * (step - warmup) / (total_steps - warmup))) / 2",
            ),
            "for linear_rate(",
        ),
    },
    "09.mixed_loss": {
        "labels exchanged": (
            _loss("* own + (1 - share[:, None]) * other", "* other + (1 - share[:, None]) * own"),
            "labels are exchanged",
        ),
        "no partners": (_loss("F.one_hot(partners, K)", "F.one_hot(labels, K)"), "partners' labels are missing"),
        "one share": (_loss("share[:, None]", "share.mean()"), "a share of its own"),
        "no smoothing": (_loss("(1 - smoothing) * target + smoothing / K", "target"), "smoothing is missing"),
        "others only": (
            _loss(
                "(1 - smoothing) * target + smoothing / K",
                "(1 - smoothing) * target + smoothing / (K - 1) * (share[:, None] * (1 - own) "
                "+ (1 - share[:, None]) * (1 - other))",
            ),
            "other classes only",
        ),
        "nothing given": (_loss(" + smoothing / K", ""), "sums to 1"),
        "one minus smoothing forgotten": (_loss("(1 - smoothing) * target", "target"), "more than 1"),
        "not divided": (_loss("smoothing / K", "smoothing"), "divided among the K classes"),
        "sum": (_loss(".sum(dim=1).mean()", ".sum()"), "losses were added"),
        "mean over all": (_loss(".sum(dim=1).mean()", ".mean()"), "add up over the classes"),
        "no mean": (_loss(".mean()", ""), "take their mean"),
        "sign": (_loss("return -", "return "), "minus the logarithm"),
        "softmax over the batch": (_loss("log_softmax(dim=1)", "log_softmax(dim=0)"), "over the batch"),
        "no softmax": (_loss(".log_softmax(dim=1)", ""), "are missing"),
        "no logarithm": (_loss("log_softmax", "softmax"), "logarithm is missing"),
        "detached": (_loss("* logits.", "* logits.detach()."), "no gradient reaches"),
    },
    "09.cutmix_box": {
        "drawn share": (
            _box("1 - (bottom - top) * (right - left) / (height * width)", "kept"),
            "count what was pasted",
        ),
        "partner's share": (_box("own = 1 - ", "own = "), "share of the partner"),
        "no root": (_box("(1 - kept) ** 0.5", "(1 - kept)"), "root is missing"),
        "area of kept": (_box("(1 - kept) **", "kept **"), "an area of `kept`"),
        "whole sides": (_box("half = 0.5 * ", "half = "), "half a side each way"),
        "rounded": (_box("int(half * height), int(half * width)", "round(half * height), round(half * width)"), "down"),
        "not cut off": (
            _box(CUT_ROWS, "row - reach_y, row + reach_y", CUT_COLUMNS, "column - reach_x, column + reach_x"),
            "does not cut the box off",
        ),
        "corner": (
            _box(
                CUT_ROWS,
                "row, min(height, row + 2 * reach_y)",
                CUT_COLUMNS,
                "column, min(width, column + 2 * reach_x)",
            ),
            "it is the centre",
        ),
        "sides swapped": (_box("column, height, width)", "column, width, height)"), "height and width are swapped"),
        "order": (_box("return top, left, bottom, right", "return top, bottom, left, right"), "the order is"),
        "last pixels": (_box("bottom, right, own", "bottom - 1, right - 1, own"), "row and column outside"),
        "one row short": (_box("min(height, ", "min(height - 1, ", "min(width, ", "min(width - 1, "), "at most height"),
        "floats": (_box("int(half * height)", "half * height // 1"), "no whole number"),
    },
    "09.moving_average": {
        "no ramp": (_average("min(decay, (1 + n) / (10 + n))", "decay"), "early ramp is missing"),
        "ramp only": (_average("min(decay, (1 + n) / (10 + n))", "(1 + n) / (10 + n)"), "never reached"),
        "larger": (_average("min(", "max("), "the larger"),
        "exchanged": (_average("keep * average + (1 - keep) * row", "(1 - keep) * average + keep * row"), "exchanged"),
        "n from 0": (_average("start=1", "start=0"), "starts at 0"),
        "n from 2": (_average("start=1", "start=2"), "starts at 2"),
        "zero at first": (
            _average("average = weights[0]", "average = torch.zeros_like(weights[0])", "weights[1:]", "weights"),
            "starts at zero",
        ),
        "zero at first, n from 0": (
            _average(
                *("average = weights[0]", "average = torch.zeros_like(weights[0])"),
                *("weights[1:], start=1", "weights, start=0"),
            ),
            "starts at zero",
        ),
        "zero at first, no ramp": (
            _average(
                *("average = weights[0]", "average = 0", "weights[1:]", "weights"),
                *("min(decay, (1 + n) / (10 + n))", "decay"),
            ),
            "starts at zero",
        ),
        "zero at first, first row lost": (
            _average("average = weights[0]", "average = torch.zeros_like(weights[0])"),
            "starts at zero",
        ),
        "first row twice": (_average("weights[1:]", "weights"), "came in twice"),
        "plain mean": ("def moving_average(weights, decay):\n    return weights.mean(dim=0)\n", "plain mean"),
        "last weights": ("def moving_average(weights, decay):\n    return weights[-1]\n", "last weights"),
        "in place": (
            _average("average = keep * average + (1 - keep) * row", "average.mul_(keep).add_((1 - keep) * row)"),
            "changes its input",
        ),
    },
    "09.broken": {
        "a and f exchanged": (
            _broken('"a": "average"', '"a": "schedule"', '"f": "schedule"', '"f": "average"'),
            "how much of the old average",
        ),
        "b and c exchanged": (
            _broken('"b": "clipping"', '"b": "none"', '"c": "none"', '"c": "clipping"'),
            "'b' is not right as it stands",
        ),
        "c broken": (_broken('"c": "none"', '"c": "mixing"', '"d": "mixing"', '"d": "none"'), "term by term"),
        "d and e exchanged": (
            _broken('"d": "mixing"', '"d": "augmentation"', '"e": "augmentation"', '"e": "mixing"'),
            "part of the picture that came from the partner",
        ),
        "e and f exchanged": (
            _broken('"e": "augmentation"', '"e": "schedule"', '"f": "schedule"', '"f": "augmentation"'),
            "how many pairs",
        ),
        "f wrong": (_broken('"f": "schedule"', '"f": "average"'), "how often does the schedule move"),
        "unknown word": (_broken('"mixing"', '"mixup"'), "expected one of"),
        "a letter missing": (_broken('"a": "average", ', ""), "no answer for 'a'"),
        "some left open": (_broken('"none"', "...", '"schedule"', "..."), "right so far; still open: 'c', 'f'"),
        "one open, one wrong": (
            _broken('"none"', "...", '"schedule"', '"average"'),
            "how often does the schedule move",
        ),
        "a dictionary": ('broken = {"a": "average"}\n', "expected the function"),
    },
    "09.verdict": {
        "means": (
            _verdict(
                *("min(arm) > max(control)", "mean(arm) > mean(control)"),
                *("max(arm) < min(control)", "mean(arm) < mean(control)"),
                *("def verdict", "from statistics import mean\n\n\ndef verdict"),
            ),
            "only the two means",
        ),
        "mean against the band": (
            _verdict("min(arm) >", "sum(arm) / len(arm) >", "max(arm) <", "sum(arm) / len(arm) <"),
            "control's extremes",
        ),
        "one is enough": (_verdict("min(arm)", "max(arm)", "max(arm) <", "min(arm) <"), "one accuracy beyond"),
        "ties": (_verdict(" > ", " >= ", " < ", " <= "), "does not lie above"),
        "one side": (_verdict("2 / math", "1 / math"), "one side only"),
        "ordered": (_verdict("comb", "perm"), "math.perm"),
        "from the control": (_verdict("len(control) + len(arm)", "len(control)"), "chosen from all"),
        "coins": (_verdict("2 / math.comb(len(control) + len(arm), len(arm))", "2 * 0.5 ** len(arm)"), "no coins"),
        "no chance": (_verdict('"above all", chance', '"above all"'), "for verdict("),
    },
}
