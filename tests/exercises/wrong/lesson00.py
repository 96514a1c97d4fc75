"""Wrong answers to the exercise of lesson 00, and words of the message each must earn."""

WRONG = {
    "00.warm_up": {
        "one end only": ("steps = 5", "the query at one end"),
        "zero left out": ("steps = len([-4, -3, -2, -1, 1, 2, 3, 4])", "standing still was forgotten"),
        "zero twice": ("steps = 2 * 5", "counted twice"),
        "pairs": ("steps = 5 * 5", "the number of pairs"),
        "pairs of different pixels": ("steps = 5 * 4", "two different pixels"),
        "longest distance": ("steps = 5 - 1", "the longest distance"),
        "a guess": ("steps = 7", "7 is not the answer"),
        "a list": ("steps = list(range(-4, 5))", "expected an int"),
    },
}
