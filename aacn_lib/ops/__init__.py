"""Attention over images as functions: one definition, several ways to compute it, positions."""

from aacn_lib.ops.fused import why_unavailable
from aacn_lib.ops.operator import IMPLEMENTATIONS, attention, attention_weights, choose_implementation
from aacn_lib.ops.positions import coordinates, sine_encoding, with_coordinates
from aacn_lib.ops.relative import (
    axis_logits,
    axis_logits_skew,
    check_tables,
    logits_by_axis,
    relative_index,
    relative_logits,
    relative_logits_definition,
    resize_table,
)

__all__ = [
    "IMPLEMENTATIONS",
    "attention",
    "attention_weights",
    "axis_logits",
    "axis_logits_skew",
    "check_tables",
    "choose_implementation",
    "coordinates",
    "logits_by_axis",
    "relative_index",
    "relative_logits",
    "relative_logits_definition",
    "resize_table",
    "sine_encoding",
    "why_unavailable",
    "with_coordinates",
]
