"""How fast the attention-augmented layer is, and how much memory it takes, beside everything a user might have instead.

`make bench` runs it. `cases` says what is measured, `variants` builds the layers and asserts that they compute one
function, `timings` and `memory` measure, each in processes of their own, and `report` prints.
"""
