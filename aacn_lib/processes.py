"""How this process waits while it has nothing to do, so that others on the machine get on."""

import os
import sys

# How often a thread of GNU's OpenMP, which PyTorch uses on Linux, looks for work before it sleeps; by default for long.
# Measured on two cores: lessons 01 and 02 side by side take 102 and 106 seconds by default, 37 and 39 with 1000, 35 and
# 37 with OMP_WAIT_POLICY=PASSIVE. Lesson 09 alone takes 50 to 54 by default, 51 with 1000, but 77 with PASSIVE.
WAITING = {"GOMP_SPINCOUNT": "1000"}


def wait_politely() -> None:
    """Let waiting threads soon sleep, in this process and those it starts; what the user has set stays.

    Two processes of as many threads as there are cores otherwise take each other's time with waiting. OpenMP reads
    these variables when it is loaded: nothing is done in a process that has torch already.
    """
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        for name, value in WAITING.items():
            os.environ.setdefault(name, value)
