"""What happens to a run whose disk, folder or checkpoint fails it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from aacn_lib.training import load_checkpoint
from aacn_lib.training.checkpoint import previous, remove_leftovers, save_checkpoint


@pytest.fixture
def saved(tmp_path):
    """A folder with two saves: the newer holds 2, its predecessor 1."""
    path = tmp_path / "checkpoint.pt"
    for number in (1, 2):
        save_checkpoint(path, {"run": "a"}, {"x": torch.full((500,), float(number))})
    return path


def number_in(path) -> float:
    return load_checkpoint(path, {"run": "a"})["x"][0].item()


def test_two_checkpoints_are_kept_and_the_newer_is_read(saved):
    assert sorted(file.name for file in saved.parent.iterdir()) == ["checkpoint.pt", "checkpoint.pt.previous"]
    assert number_in(saved) == 2
    assert load_checkpoint(saved.with_name("none.pt"), {"run": "a"}) is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_checkpoint_gives_way_to_its_predecessor_with_a_warning(saved, damage):
    content = bytearray(saved.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1  # one bit
    broken = {"cut": content[:-9], "flipped": content, "empty": b"", "foreign": b"\x89PNG\r\n"}[damage]
    saved.write_bytes(broken)
    with pytest.warns(UserWarning, match=r"could not read it .* going on from .*checkpoint\.pt\.previous"):
        assert number_in(saved) == 1
    assert saved.read_bytes() == broken  # left for inspection


def test_without_a_whole_predecessor_damage_is_an_error(saved):
    saved.write_bytes(saved.read_bytes()[:-9])
    previous(saved).write_bytes(b"")
    with pytest.raises(ValueError, match=r"checkpoint\.pt\.previous: expected a checkpoint of this library"):
        number_in(saved)
    previous(saved).unlink()
    with pytest.raises(ValueError, match=r"checkpoint\.pt: expected a checkpoint .*cut short or damaged"):
        number_in(saved)


def test_killed_between_the_two_renames_of_a_save(saved):
    os.replace(saved, previous(saved))
    assert number_in(saved) == 2


def test_a_checkpoint_with_code_in_it_is_refused(saved, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "trapped",))

    import hashlib
    import io

    buffer = io.BytesIO()
    torch.save({"identity": {"run": "a"}, "x": Trap()}, buffer)
    body = buffer.getvalue()
    saved.write_bytes(b"aacn checkpoint 1 sha256 " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    previous(saved).unlink()
    with pytest.raises(ValueError, match="could not read it"):
        number_in(saved)
    assert not (tmp_path / "trapped").exists()


def test_a_checkpoint_of_another_run_is_refused_and_left(saved):
    before = saved.read_bytes()
    with pytest.raises(ValueError, match=r"another run: expected \{'run': 'b'\}, the file has \{'run': 'a'\}"):
        load_checkpoint(saved, {"run": "b"})
    assert saved.read_bytes() == before


def test_leftovers_of_killed_processes_are_removed_and_nothing_else(saved):
    leftover = saved.with_name(".checkpoint.pt.12345.tmp")
    other = saved.with_name(".other.pt.12345.tmp")
    for file in (leftover, other):
        file.write_bytes(b"half")
    remove_leftovers(saved)
    assert not leftover.exists()
    assert other.exists()
    assert number_in(saved) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux, whose /dev/full is a disk without space")
def test_on_a_full_disk_the_old_checkpoints_stay(saved, monkeypatch):
    real_open = open

    def on_a_full_disk(path, mode="r", **options):
        return real_open("/dev/full" if str(path).endswith(".tmp") else path, mode, **options)

    monkeypatch.setattr("builtins.open", on_a_full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(saved, {"run": "a"}, {"x": torch.zeros(100_000)})
    monkeypatch.undo()
    assert number_in(saved) == 2
    assert sorted(file.name for file in saved.parent.iterdir()) == ["checkpoint.pt", "checkpoint.pt.previous"]


def test_where_the_folder_cannot_be_written_to_the_old_checkpoints_stay(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")  # holds for the administrator too, unlike a folder's permissions
    with pytest.raises(OSError, match="file"):
        save_checkpoint(blocker / "checkpoint.pt", {}, {})
    assert blocker.read_text() == "not a folder"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, which this system lacks")
def test_killed_again_and_again_it_ends_where_it_should():
    script = Path(__file__).with_name("kill_loop.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), "--times", "20"], capture_output=True, text=True, env=environment, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20 of 20 resumable" in done.stdout
    assert "end bitwise equal: True" in done.stdout
    assert ", 0 killed during a save" not in done.stdout  # or the hardest moment was not tried
