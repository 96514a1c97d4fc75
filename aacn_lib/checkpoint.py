"""Checkpoints: the state of a run in one file that is either whole or absent."""

from pathlib import Path

import torch

from aacn_lib.whole_file import whole_file


def save_checkpoint(path: str | Path, identity: dict, state: dict) -> None:
    """Write `state` so that a crash at any moment leaves the old file or the new one, never half of one."""
    with whole_file(path) as file:
        torch.save({"identity": identity, **state}, file)


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
