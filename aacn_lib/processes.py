"""How this process waits while it has nothing to do, so that others on the machine get on."""

import os
import sys

# How long threads of OpenMP may spin at the end of a parallel piece, waiting for the next one.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}


def wait_politely() -> None:
    """Let waiting threads sleep instead of spin, in this process and those it starts; what the user has set stays.

    Two processes of as many threads as there are cores otherwise take each other's time with waiting. OpenMP reads
    these variables when it is loaded: nothing is done in a process that has torch already.
    """
    if "torch" not in sys.modules:
        for name, value in WAITING.items():
            os.environ.setdefault(name, value)
