"""Checkpoints: the state of a run in one file that is either whole or absent, and its predecessor beside it.

A file is one line of header with the SHA-256 of what follows, then what `torch.save` writes. Reading unpickles tensors
and plain data only (`weights_only=True`), so a file from elsewhere cannot run code.
"""

import contextlib
import hashlib
import io
import os
import warnings
from pathlib import Path

import torch

from aacn_lib.whole_file import leftovers, whole_file

MAGIC = b"aacn checkpoint 1 sha256 "


def save_checkpoint(path: str | Path, identity: dict, state: dict) -> None:
    """Write `state` so that a crash at any moment leaves a whole file; the one before it stays as `*.previous`.

    Raises:
        OSError: if the disk is full or the folder cannot be written to; the files that were there are left alone.
    """
    path = Path(path)
    buffer = io.BytesIO()
    torch.save({"identity": identity, **state}, buffer)
    content = buffer.getbuffer()
    with whole_file(path, keep=previous(path)) as file:
        file.write(MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n")
        file.write(content)


def load_checkpoint(path: str | Path, identity: dict) -> dict | None:
    """Read what `save_checkpoint` wrote, tensors on the CPU; None if there is nothing.

    A damaged file gives way, with a warning, to its predecessor if that is whole.

    Raises:
        ValueError: if the file is damaged and has no whole predecessor, or was written by a run with another
            `identity`. No file is changed.
    """
    path, older = Path(path), previous(Path(path))
    if not path.exists() and not older.exists():
        return None
    try:
        state = _read(path)
    except FileNotFoundError:
        state = _read(older)  # killed between the two renames of a save
    except ValueError as error:
        if not older.exists():
            raise
        state = _read(older)
        warnings.warn(f"{error}; going on from {older}", stacklevel=2)
    found = state["identity"]
    if found != identity:
        differing = sorted(key for key in {*found, *identity} if found.get(key) != identity.get(key))
        given = {key: identity.get(key) for key in differing}
        stored = {key: found.get(key) for key in differing}
        raise ValueError(f"{path} belongs to another run: expected {given}, the file has {stored}")
    return state


def previous(path: Path) -> Path:
    """Where the checkpoint before the one in `path` is kept."""
    return path.with_name(path.name + ".previous")


def remove_leftovers(path: str | Path) -> None:
    """Remove temporary files of processes that were killed while they saved to `path`."""
    for file in leftovers(Path(path)):
        with contextlib.suppress(OSError):
            os.unlink(file)


def _read(path: Path) -> dict:
    content = path.read_bytes()
    header, _, body = content.partition(b"\n")
    reason = None
    if not header.startswith(MAGIC):
        reason = "it does not begin like one"
    elif hashlib.sha256(body).hexdigest().encode() != header.removeprefix(MAGIC):
        reason = "its digest is wrong: it is cut short or damaged"
    if reason:
        raise ValueError(f"{path}: expected a checkpoint of this library, could not read it ({reason})")
    try:
        return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as error:  # a whole file of foreign content fails in any of zipfile, pickle and torch
        raise ValueError(f"{path}: expected a checkpoint of this library, could not read it ({error})") from error
