"""Checkpoints: the state of a run in one file that is either whole or absent."""

import os
from pathlib import Path

import torch


def save_checkpoint(path: str | Path, identity: dict, state: dict) -> None:
    """Write `state` so that a crash at any moment leaves the old file or the new one, never half of one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            torch.save({"identity": identity, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: str | Path, identity: dict, device: torch.device) -> dict:
    """Read what `save_checkpoint` wrote.

    Raises:
        ValueError: if the file is damaged, or was written by a run with another `identity`.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        found = state["identity"]
    except Exception as error:  # a damaged file fails in any of zipfile, pickle and torch
        raise ValueError(f"{path}: expected a checkpoint of this library, could not read it ({error})") from error
    if found != identity:
        differing = sorted(key for key in {*found, *identity} if found.get(key) != identity.get(key))
        given = {key: identity.get(key) for key in differing}
        stored = {key: found.get(key) for key in differing}
        raise ValueError(f"{path} belongs to another run: expected {given}, the file has {stored}")
    return state
