"""Training: recipes and settings, the loop, checkpoints, run records."""

from aacn_lib.training.batches import subset_indexes
from aacn_lib.training.checkpoint import load_checkpoint
from aacn_lib.training.devices import pick_device, pick_precision
from aacn_lib.training.loop import fit
from aacn_lib.training.optimisers import MuonWithAdamW, make_optimiser, make_schedule
from aacn_lib.training.recipe import Recipe, apply_change, list_recipes, load_recipe
from aacn_lib.training.records import (
    cite,
    code_version,
    list_records,
    machine,
    make_record,
    missing_records,
    read_record,
    values,
    write_record,
)
from aacn_lib.training.run import build_model, run_folder, run_recipe
from aacn_lib.training.settings import Training
from aacn_lib.training.state import History

__all__ = [
    "History",
    "MuonWithAdamW",
    "Recipe",
    "Training",
    "apply_change",
    "build_model",
    "cite",
    "code_version",
    "fit",
    "list_recipes",
    "list_records",
    "load_checkpoint",
    "load_recipe",
    "machine",
    "make_optimiser",
    "make_record",
    "make_schedule",
    "missing_records",
    "pick_device",
    "pick_precision",
    "read_record",
    "run_folder",
    "run_recipe",
    "subset_indexes",
    "values",
    "write_record",
]
