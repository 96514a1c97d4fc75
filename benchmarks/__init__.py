"""How fast the library is and how much memory it takes; the rooms are those of `aacn_lib`.

`make bench` runs it. In `layers`, `cases` says what is measured, `variants` builds the layers and asserts that they
compute one function, `timings` and `memory` measure, each in processes of their own (`child`), and `report` prints.
`training.loop` compares `fit` with the bare network.
"""
