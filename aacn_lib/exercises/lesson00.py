"""The warm-up of lesson 00: it shows how an exercise and its check work."""

from aacn_lib.exercises.grading import value_exercise

value_exercise(
    "00.warm_up",
    9,
    mistakes={
        "5 is what the query at one end of the row sees: now put the query at the other end, where the same steps are "
        "negative": 5,
        "standing still was forgotten: the key may be the query itself, which is 0 steps": 8,
        "standing still was counted twice, once as 0 to the left and once as 0 to the right": 10,
        "25 is the number of pairs: several pairs are the same number of steps apart": 25,
        "20 pairs have two different pixels, but several pairs are the same number of steps apart": 20,
        "that is the longest distance, or the count of distances without their direction: left and right differ, and a "
        "pixel may look at itself": 4,
    },
)
