"""README.md says what is true: its results are the records', its code runs, its links lead somewhere."""

import re
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import write_readme  # noqa: E402

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_results_are_those_of_the_records():
    assert write_readme.fill(README, {"results": write_readme.results_table()}) == README


def test_the_picture_is_the_one_of_the_lesson():
    assert write_readme.PICTURE.read_bytes() == write_readme.picture()


def test_fill_replaces_what_is_marked_and_nothing_else():
    text = "a\n<!-- x begin -->\nold\nold\n<!-- x end -->\nb"
    assert write_readme.fill(text, {"x": "new"}) == "a\n<!-- x begin -->\nnew\n<!-- x end -->\nb"
    assert write_readme.fill("<!-- x begin -->\n<!-- x end -->", {"x": "n"}) == "<!-- x begin -->\nn\n<!-- x end -->"
    with pytest.raises(ValueError, match="expected the markers"):
        write_readme.fill("nothing", {"x": "new"})


def test_the_layer_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(example, names)
    assert names["logits"].shape == torch.Size([8, 10])
    layer = next(m for m in names["net"] if isinstance(m, names["AAConv2d"]))
    assert (layer.out_channels - layer.depth_v, layer.depth_v) == (96, 32)


def test_every_command_of_the_terminal_section_exists():
    from aacn_lib.cli.main import main
    from aacn_lib.training import list_recipes

    for command in re.findall(r"^aacn (\w+)", README, re.MULTILINE):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
    for recipe in re.findall(r"^aacn train (\w+)", README, re.MULTILINE):
        assert recipe in list_recipes()


def test_links_lead_somewhere_and_every_lesson_is_listed():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://arxiv.org/") or (ROOT / target).exists(), target
    for lesson in sorted((ROOT / "notebooks").glob("*.ipynb")):
        assert f"notebooks/{lesson.name}" in README
