"""In which way one result differs from another, in a few words a learner can act on."""

import math
from numbers import Number

import numpy as np
import torch
from torch import Tensor


def difference(got: object, expected: object, tolerance: float, *, dtype: bool = True) -> str | None:
    """None if `got` equals `expected` within `tolerance` (absolute plus relative), else the first difference, short.

    Args:
        dtype: whether the dtypes of tensors must agree.
    """
    if isinstance(expected, np.ndarray):
        expected = torch.from_numpy(expected)
        got = torch.from_numpy(got) if isinstance(got, np.ndarray) else got
    if isinstance(expected, Tensor):
        return _tensor_difference(got, expected, tolerance, dtype)
    if isinstance(got, Tensor | np.ndarray | np.generic) and isinstance(expected, Number) and got.ndim == 0:
        got = got.item()  # a tensor of one number is as good as the number
    if isinstance(expected, tuple | list):
        return _sequence_difference(got, expected, tolerance, dtype)
    if isinstance(expected, dict):
        if not isinstance(got, dict):
            return f"got {_a(got)}, expected a dict"
        if got.keys() != expected.keys():
            return f"got the keys {sorted(map(str, got))}, expected {sorted(map(str, expected))}"
        return _first({f"at key {k!r}": (got[k], expected[k]) for k in expected}, tolerance, dtype)
    if isinstance(expected, Number):
        if not isinstance(got, Number) or isinstance(got, bool) != isinstance(expected, bool):
            return f"got {_short(got)} ({type(got).__name__}), expected {_a(expected)}"
        if not (got == expected or abs(got - expected) <= tolerance * (1 + abs(expected))):
            return f"got {_short(got)}, expected {_short(expected)}"
        return None
    if type(got) is not type(expected):
        return f"got {_a(got)}, expected {_a(expected)}"
    return None if got == expected else f"got {_short(got)}, expected {_short(expected)}"


def _tensor_difference(got: object, expected: Tensor, tolerance: float, dtype: bool) -> str | None:
    shape = tuple(expected.shape)
    if not isinstance(got, Tensor):
        return f"got {_a(got)}, expected a tensor of shape {shape}"
    if tuple(got.shape) != shape:
        return f"got shape {tuple(got.shape)}, expected {shape}"
    if dtype and got.dtype != expected.dtype:
        return f"got dtype {_dtype(got)}, expected {_dtype(expected)}"
    if got.layout != torch.strided:
        return "got a sparse tensor, expected a dense one"
    if got.is_complex() or expected.is_complex():
        agree = torch.isclose(got.to(torch.complex128), expected.to(torch.complex128), tolerance, tolerance)
    else:
        got, expected = got.detach().cpu().double(), expected.detach().cpu().double()
        agree = torch.isclose(got, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    if agree.all():
        return None
    index = tuple((~agree).nonzero()[0].tolist())
    where = f"[{', '.join(map(str, index))}]" if index else ""
    value, right = got[index].item(), expected[index].item()
    if isinstance(value, float) and not math.isfinite(value) and expected.isfinite().all():
        return f"entry {where} is {value}, expected {right:.4g}" if where else f"got {value}, expected {right:.4g}"
    count = f" ({int((~agree).sum())} of {agree.numel()} entries differ)"
    return f"entry {where} is {_pair(value, right)}{count}" if where else f"got {_pair(value, right)}"


def _sequence_difference(got: object, expected: tuple | list, tolerance: float, dtype: bool) -> str | None:
    if not isinstance(got, tuple | list):
        return f"got {_a(got)}, expected {_a(expected)} of {len(expected)}"
    if len(got) != len(expected):
        return f"got {len(got)} parts, expected {len(expected)}"
    parts = {f"part {i} of the result": pair for i, pair in enumerate(zip(got, expected, strict=True))}
    return _first(parts, tolerance, dtype)


def _first(pairs: dict[str, tuple[object, object]], tolerance: float, dtype: bool) -> str | None:
    for where, (got, expected) in pairs.items():
        complaint = difference(got, expected, tolerance, dtype=dtype)
        if complaint:
            return f"{where}: {complaint}"
    return None


def _pair(got: float, expected: float) -> str:
    """Two numbers with as many digits as it takes to see that they differ."""
    for digits in (4, 7, 12, 17):
        left, right = f"{got:.{digits}g}", f"{expected:.{digits}g}"
        if left != right:
            break
    return f"{left}, expected {right}"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"


def _a(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
