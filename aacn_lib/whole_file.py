"""Files that are either whole or not there."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(path: str | Path, keep: Path | None = None) -> Iterator[BinaryIO]:
    """Open `path` for writing bytes; it appears, or replaces the old file, only when the block has ended well.

    A temporary file in the same folder is written, synced and renamed, so a crash at any moment leaves the old file or
    the new one. An exception, Ctrl-C included, removes the temporary file. Missing parent folders are made.

    Args:
        keep: the old file is renamed to this one instead of being replaced. A crash between the two renames leaves
            nothing in `path` and the old file in `keep`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def leftovers(path: Path) -> list[Path]:
    """Temporary files that killed processes left behind while they wrote `path`."""
    return sorted(path.parent.glob(f".{path.name}.*.tmp"))


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system can (Windows cannot open folders)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
