"""Wrong answers to the exercises of lesson 12: title → (source, words that the message must hold)."""

WILSON = """\
def wilson(correct, count):
    z = 1.959964
    s, e = correct / count, z**2 / count
    half = z * (s * (1 - s) / count + e / (4 * count)) ** 0.5
    return (s + e / 2 - half) / (1 + e), (s + e / 2 + half) / (1 + e)
"""

MACRO = """\
def macro_f1(confusion):
    pictures, predictions, hits = confusion.sum(dim=1), confusion.sum(dim=0), confusion.diag()
    occurs = (pictures + predictions) > 0
    f1 = 2 * hits[occurs] / (pictures + predictions)[occurs]
    return f1.mean().item()
"""

P_VALUE = """\
import math


def p_value(a, b, labels):
    only_a = ((a == labels) & (b != labels)).sum().item()
    only_b = ((a != labels) & (b == labels)).sum().item()
    n, k = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    return min(1.0, 2 * tail)
"""

FIT = """\
import torch


def fit_threshold(single, refined, labels):
    confidence, predicted = single.max(dim=1)
    before, after = predicted == labels, refined.argmax(dim=1) == labels
    goal = max(before.sum(), after.sum())
    for threshold in [0.0, *confidence.sort().values.tolist()]:
        right = torch.where(confidence <= threshold, after, before).sum()
        if right >= goal:
            return threshold
"""

VERDICTS = {
    "a": "maximum reported",
    "b": "honest",
    "c": "seen in training",
    "d": "chosen on test",
    "e": "chosen on test",
}


def _changed(source, *changes):
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in source, old
        source = source.replace(old, new)
    return source


def _wilson(*changes):
    return _changed(WILSON, *changes)


def _macro(*changes):
    return _changed(MACRO, *changes)


def _p(*changes):
    return _changed(P_VALUE, *changes)


def _fit(*changes):
    return _changed(FIT, *changes)


def _said(**words):
    return f"verdicts = {VERDICTS | words!r}"


WRONG = {
    "12.wilson": {
        "quick interval": (
            "def wilson(correct, count):\n"
            "    s = correct / count\n"
            "    half = 1.959964 * (s * (1 - s) / count) ** 0.5\n"
            "    return s - half, s + half\n",
            "the quick interval",
        ),
        "centre not moved": (_wilson("s + e / 2", "s"), "the centre was not moved"),
        "not divided": (_wilson(" / (1 + e)", ""), "the division by 1 + e is missing"),
        "root not divided": (
            _wilson("(s + e / 2 - half) / (1 + e), (s + e / 2 + half) / (1 + e)", "c - half, c + half").replace(
                "    return", "    c = (s + e / 2) / (1 + e)\n    return"
            ),
            "the root is divided too",
        ),
        "centre not divided": (
            _wilson(
                "(s + e / 2 - half) / (1 + e), (s + e / 2 + half) / (1 + e)",
                "s + e / 2 - half / (1 + e), s + e / 2 + half / (1 + e)",
            ),
            "only the root was divided",
        ),
        "a quarter of e": (_wilson("e / (4 * count)", "e / 4"), "not e/4"),
        "no term under the root": (_wilson(" + e / (4 * count)", ""), "under the root is missing"),
        "no 4": (_wilson("(4 * count)", "count"), "with a 4"),
        "90 %": (_wilson("1.959964", "1.645"), "90 % interval"),
        "z not squared": (_wilson("z**2", "z"), "z² and z were mixed up"),
        "exchanged": (
            _wilson("/ 2 - half", "/ 2 ± half", "/ 2 + half", "/ 2 - half", "/ 2 ± half", "/ 2 + half"),
            "(low, high)",
        ),
        "percent": (_wilson("return (s", "return 100 * (s", ", (s", ", 100 * (s"), "in percent"),
        "z is 2": (_wilson("1.959964", "2"), "for wilson("),
        "one number": (WILSON.partition(", (s + e")[0] + "\n", "expected a tuple"),
    },
    "12.macro_f1": {
        "NaN": (
            _macro("hits[occurs] / (pictures + predictions)[occurs]", "(hits / predictions)[occurs]"),
            "divides 0 by 0",
        ),
        "NaN of F1": (
            "def macro_f1(confusion):\n"
            "    precision = confusion.diag() / confusion.sum(dim=0)\n"
            "    recall = confusion.diag() / confusion.sum(dim=1)\n"
            "    return (2 * precision * recall / (precision + recall)).mean().item()\n",
            "divides 0 by 0",
        ),
        "NaNs dropped": (
            "def macro_f1(confusion):\n"
            "    precision = confusion.diag() / confusion.sum(dim=0)\n"
            "    recall = confusion.diag() / confusion.sum(dim=1)\n"
            "    return (2 * precision * recall / (precision + recall)).nanmean().item()\n",
            "never predicted, or have no pictures, were left out",
        ),
        "never predicted left out": (_macro("(pictures + predictions) > 0", "predictions > 0"), "never predicted were"),
        "without pictures left out": (_macro("(pictures + predictions) > 0", "pictures > 0"), "classes without"),
        "absent classes counted": (
            _macro(
                "(pictures + predictions) > 0", "pictures >= 0", "predictions)[occurs]", "predictions).clamp(min=1)"
            ),
            "with neither pictures nor predictions were counted",
        ),
        "accuracy": (_macro("f1.mean()", "(hits.sum() / pictures.sum())"), "that is the accuracy"),
        "weighted": (
            _macro("f1.mean()", "((f1 * pictures[occurs]).sum() / pictures.sum())"),
            "weighted by their pictures",
        ),
        "F1 of means": (
            _macro(
                "return f1.mean().item()",
                "p = (hits / predictions.clamp(min=1))[occurs].mean()\n"
                "    r = (hits / pictures.clamp(min=1))[occurs].mean()\n"
                "    return (2 * p * r / (p + r)).item()",
            ),
            "of the mean precision and the mean recall",
        ),
        "precision": (_macro("f1.mean()", "(hits / predictions.clamp(min=1))[occurs].mean()"), "the mean precision"),
        "recall": (_macro("f1.mean()", "(hits / pictures.clamp(min=1))[occurs].mean()"), "the mean recall"),
        "no 2": (_macro("2 * hits", "hits"), "the factor 2 is missing"),
        "F1 of means over all classes": (
            _macro(
                "return f1.mean().item()",
                "p = (hits / predictions.clamp(min=1)).mean()\n"
                "    r = (hits / pictures.clamp(min=1)).mean()\n"
                "    return (2 * p * r / (p + r)).item()",
            ),
            "both over all classes",
        ),
        "F1 of means without NaN": (
            _macro(
                "return f1.mean().item()",
                "p, r = (hits / predictions).nanmean(), (hits / pictures).nanmean()\n"
                "    return (2 * p * r / (p + r)).item()",
            ),
            "where it is defined",
        ),
        "one F1 a class": (_macro(".mean().item()", ""), "one F1 a class: the mean"),
        "one F1 a class, a list": (_macro(".mean().item()", ".tolist()"), "expected a float"),
        "one F1 of every class": (
            _macro("predictions)[occurs]", "predictions).clamp(min=1)", "hits[occurs]", "hits", ".mean().item()", ""),
            "also of those that do not occur",
        ),
    },
    "12.p_value": {
        "above 1": (_p("min(1.0, 2 * tail)", "2 * tail"), "exceeds 1"),
        "one side": (_p("2 * tail", "tail"), "one side only"),
        "this result alone": (
            _p("sum(math.comb(n, i) for i in range(k + 1))", "math.comb(n, k)", "2 * tail", "tail"),
            "exactly this result",
        ),
        "k left out": (_p("range(k + 1)", "range(k)"), "up to and including k"),
        "all disagreements": (_p("n, k = only_a + only_b,", "n, k = (a != b).sum().item(),"), "two different wrong"),
        "all pictures": (_p("n, k = only_a + only_b,", "n, k = len(labels),"), "n is all pictures"),
        "numbers of right pictures": (
            _p(" & (b != labels)", "", "(a != labels) & ", ""),
            "right pictures were compared",
        ),
        "chi-squared": (
            _p("min(1.0, 2 * tail)", "math.erfc(abs(only_a - only_b) / math.sqrt(2 * n))"),
            "chi-squared approximation:",
        ),
        "chi-squared with correction": (
            _p("min(1.0, 2 * tail)", "math.erfc(max(abs(only_a - only_b) - 1, 0) / math.sqrt(2 * n))"),
            "with continuity correction",
        ),
        "larger side": (_p("min(only_a, only_b)", "max(only_a, only_b)"), "the larger count"),
        "always A": (_p("min(only_a, only_b)", "only_a"), "count of A alone"),
        "always B": (_p("min(only_a, only_b)", "only_b"), "count of B alone"),
        "a tuple": (_p("min(1.0, 2 * tail)", "only_a, only_b"), "expected a float"),
    },
    "12.fit_threshold": {
        "the luckiest": (
            _fit(
                "goal = max(before.sum(), after.sum())",
                "goal = max(\n"
                "        torch.where(confidence <= t, after, before).sum() for t in [0.0, *confidence.tolist()]\n"
                "    )",
            ),
            "the luckiest one",
        ),
        "goal of none": (_fit("max(before.sum(), after.sum())", "before.sum()"), "was the goal that of refining none"),
        "the largest, goal of all": (
            _fit(
                "max(before.sum(), after.sum())",
                "after.sum()",
                "*confidence.sort().values.tolist()]",
                "*confidence.sort().values.tolist()][::-1]",
            ),
            "largest",
        ),
        "the largest": (
            _fit("*confidence.sort().values.tolist()]", "*confidence.sort().values.tolist()][::-1]"),
            "largest",
        ),
        "below the threshold": (_fit("confidence <= threshold", "confidence < threshold"), "at most means ≤"),
        "the confident ones": (
            _fit("confidence <= threshold", "confidence > threshold"),
            "were the confident pictures refined",
        ),
        "confidence of the refined": (
            _fit("goal =", "confidence = refined.amax(dim=1)\n    goal ="),
            "taken from `refined`",
        ),
        "more than the goal": (
            _fit(
                "if right >= goal:\n            return threshold",
                "if right > goal:\n            break\n    return threshold",
            ),
            "accuracy of refining all was asked for",
        ),
        "more than the goal, at once": (
            _fit("right >= goal", "right > goal"),
            "accuracy of refining all was asked for",
        ),
        "more than refining all": (
            _fit("goal = max(before.sum(), after.sum())", "goal = after.sum()", "right >= goal", "right > goal"),
            "accuracy of refining all was asked for",
        ),
        "no 0.0": (
            _fit("[0.0, *confidence.sort().values.tolist()]", "confidence.sort().values.tolist()"),
            "0.0 was not",
        ),
        "not sorted": (_fit("*confidence.sort().values.tolist()", "*confidence.tolist()"), "for fit_threshold("),
        "the place": (
            _fit("in [0.0, *confidence", "in enumerate([0.0, *confidence", "tolist()]:", "tolist()]):")
            .replace("for threshold", "for place, threshold")
            .replace("return threshold", "return place"),
            "for fit_threshold(",
        ),
        "no return": (_fit("return threshold", "break"), "returned None"),
    },
    "12.find_the_leak": {
        "a honest": (_said(a="honest"), "the best of many epochs"),
        "a on test": (_said(a="chosen on test"), "no test label was read"),
        "a seen": (_said(a="seen in training"), "where the reported figure comes from"),
        "b chosen": (_said(b="chosen on test"), "a low figure is no fault"),
        "c honest": (_said(c="honest"), "the other four versions"),
        "d honest": (_said(d="honest"), "which of five numbers"),
        "d maximum": (_said(d="maximum reported"), "over which part"),
        "d seen": (_said(d="seen in training"), "which labels chose the number"),
        "e honest": (_said(e="honest"), "every epoch was a try"),
        "e maximum": (_said(e="maximum reported"), "by which part's labels"),
        "e seen": (_said(e="seen in training"), "which labels chose the epoch"),
        "another word": (_said(e="dishonest"), "expected one of"),
        "a letter forgotten": ('verdicts = {"b": "honest"}', "expected the letters"),
        "one letter": ('verdicts = "b"', "expected a dictionary"),
    },
}
