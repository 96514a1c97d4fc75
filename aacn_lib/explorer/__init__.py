"""Interactive pages that show where a network looks."""

from aacn_lib.explorer.explore import explore, explore_tables
from aacn_lib.explorer.fields import explore_receptive_field
from aacn_lib.explorer.page import Explorer

__all__ = [
    "Explorer",
    "explore",
    "explore_receptive_field",
    "explore_tables",
]
