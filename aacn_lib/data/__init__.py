"""Data sets, in memory or streamed, and loose pictures."""

from aacn_lib.data.cache import DatasetUnavailable, data_dir
from aacn_lib.data.compass import (
    BACKGROUND,
    BORDER,
    DIRECTIONS,
    MARK_A,
    MARK_B,
    MAX_DISTANCE,
    MAX_SIDEWAYS,
    MIN_DISTANCE,
    NOISE,
    RECEPTIVE_FIELD,
    compass,
    paint_marks,
    place_marks,
    receptive_field,
)
from aacn_lib.data.dataset import Dataset, Part, Split
from aacn_lib.data.image_folder import fitted_pixels
from aacn_lib.data.load import DATASETS, list_datasets, load_dataset, normalise
from aacn_lib.data.loose_pictures import read_pictures, with_channels
from aacn_lib.data.streaming import StreamedSplit

__all__ = [
    "BACKGROUND",
    "BORDER",
    "DATASETS",
    "DIRECTIONS",
    "MARK_A",
    "MARK_B",
    "MAX_DISTANCE",
    "MAX_SIDEWAYS",
    "MIN_DISTANCE",
    "NOISE",
    "RECEPTIVE_FIELD",
    "Dataset",
    "DatasetUnavailable",
    "Part",
    "Split",
    "StreamedSplit",
    "compass",
    "data_dir",
    "fitted_pixels",
    "list_datasets",
    "load_dataset",
    "normalise",
    "paint_marks",
    "place_marks",
    "read_pictures",
    "receptive_field",
    "with_channels",
]
