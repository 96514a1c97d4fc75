"""The web site: every lesson has its page, every link leads somewhere, and no page loads anything from elsewhere."""

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from built_site import EXTRA_LESSON, read_page

import aacn_lib

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
REMOTE = re.compile(r"(?:[a-z]+:)?//", re.IGNORECASE)
CSS_LOADS = re.compile(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)")


def test_it_builds_without_a_warning(site):
    assert (site.exit_code, site.messages) == (0, "")


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_every_lesson_has_a_page_with_all_it_holds(site, lesson):
    notebook = json.loads(lesson.read_text(encoding="utf-8"))
    html = (site.folder / "notebooks" / f"{lesson.stem}.html").read_text(encoding="utf-8")
    text = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    outputs = [output.get("data", {}) for cell in code for output in cell["outputs"]]
    figures = sum("image/png" in data and "text/html" not in data for data in outputs)
    explorers = sum("aacn-explorer" in "".join(data.get("text/html", "")) for data in outputs)
    assert html.count('class="cell_input ') == len(code)
    assert len(re.findall(r'<img[^>]*src="\.\./_images/[0-9a-f]{40,}\.png', html)) == figures
    assert html.count('class="aacn-explorer"') == explorers
    assert html.count("<math ") == text.count("$$") // 2
    # The code of hints and solutions is code on the page, too, not text.
    assert html.count("<summary>Solution</summary>") == text.count("<summary>Solution</summary>")
    assert html.count('<div class="highlight-python ') == len(code) + text.count("```python")
    assert "<p>```" not in html
    assert "open_in_colab.svg" in html
    assert 'href="https://colab.research.google.com/' in html


def test_the_bootstrap_cell_is_closed_and_nothing_else(site):
    html = (site.folder / "notebooks" / "04_relative_positions.html").read_text(encoding="utf-8")
    closed = re.findall(r'<div class="cell ([^"]*)">\s*<details class="[^"]*\bhide\b', html)
    assert len(closed) == len(re.findall(r'<details class="[^"]*\bhide\b', html)) == 1
    assert "tag_bootstrap" in closed[0]


def test_links_and_anchors_lead_somewhere(site):
    pages = {path.resolve(): read_page(path) for path in site.folder.rglob("*.html")}
    assert len(pages) > len(LESSONS)
    broken, outside = [], set()
    for path, page in pages.items():
        for target in page.links + page.loads:
            if re.match(r"[a-z]+:", target):
                outside.add(target.partition(":")[0])
                continue
            address, _, anchor = target.partition("#")
            file = (path.parent / unquote(address.partition("?")[0])).resolve() if address else path
            found = file in pages if file.suffix == ".html" else file.is_file()
            if not found or (
                anchor and file in pages and unquote(anchor) not in pages[file].ids | {"furo-main-content"}
            ):
                broken.append(f"{path.relative_to(site.folder.resolve())}: {target}")
    assert broken == []
    assert outside == {"https", "data"}


def test_nothing_is_loaded_from_elsewhere(site):
    remote = []
    for path in site.folder.rglob("*.html"):
        remote += [f"{path.name}: {target}" for target in read_page(path).loads if REMOTE.match(target)]
        inline = "".join(re.findall(r"<style[^>]*>(.*?)</style>", path.read_text(encoding="utf-8"), re.DOTALL))
        remote += [f"{path.name}: {found}" for found in _loaded_by(inline)]
    for path in site.folder.rglob("*.css"):
        remote += [f"{path.name}: {found}" for found in _loaded_by(path.read_text(encoding="utf-8"))]
    assert remote == []


def _loaded_by(css: str) -> list[str]:
    return [target for found in CSS_LOADS.findall(css) for target in found if REMOTE.match(target)]


def test_the_search_index_knows_the_lessons(site):
    text = (site.folder / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(re.fullmatch(r"Search\.setIndex\((.*)\)", text.strip())[1])
    places = index["terms"]["permut"]  # the stem of permute and permutation, as the page's own script makes it
    assert "notebooks/03_attention_over_an_image" in [index["docnames"][place] for place in places]
    assert "Relative positions" in " ".join(index["titles"])


def test_the_front_page(site):
    html = (site.folder / "index.html").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first = re.search(r"^A course .*?\.", readme, re.MULTILINE | re.DOTALL)[0].replace("\n", " ")
    assert first in re.sub(r"\s+", " ", html)
    for lesson in LESSONS:
        assert f'href="notebooks/{lesson.stem}.html"' in html
    for question in re.findall(r"^\| \[\d\d [^|]*\| ([^|]*) \|", readme, re.MULTILINE):
        assert question in html
    assert "git clone https://" in re.sub(r"<[^>]+>", "", html)
    assert "REPOSITORY" not in html
    assert html.count('class="aacn-explorer"') == 1


def test_results_are_those_of_the_readme(site):
    html = (site.folder / "results.html").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert rows
    assert re.findall(r'<tr class="row-\w+"><td><p><code[^>]*><span class="pre">(\w+)<', html) == rows


def test_the_reference_names_everything_public(site):
    html = (site.folder / "api.html").read_text(encoding="utf-8")
    names = re.findall(r'<dt class="sig sig-object py" id="aacn_lib\.(\w+)"', html)
    public = [name for name in aacn_lib.__all__ if not inspect.ismodule(getattr(aacn_lib, name))]  # without the rooms
    assert sorted(names) == sorted(public)
    assert names.index("AAConv2d") == 0
    assert names.index("create_model") < names.index("explore") < names.index("fit") < names.index("attention")


def test_a_lesson_with_an_explorer(site):
    html = (site.folder / "notebooks" / f"{EXTRA_LESSON}.html").read_text(encoding="utf-8")
    assert html.count('class="aacn-explorer"') == 1
    assert html.count("<math ") == 1
    assert 'href="04_relative_positions.html#two-dimensions"' in html


def test_a_broken_link_fails_the_build(site, tmp_path):
    from make_site import build

    source, messages = tmp_path / "source", tmp_path / "messages"
    source.mkdir()
    (source / "index.md").write_text("# A page\n\n[nowhere](no_such_lesson.ipynb)\n", encoding="utf-8")
    with open(messages, "w", encoding="utf-8") as file:
        assert build(source, tmp_path / "site", file) != 0
    (warning,) = messages.read_text(encoding="utf-8").splitlines()
    assert "no_such_lesson.ipynb" in warning


def test_a_missing_tool_is_named(tmp_path):
    """Where the site's tools are not installed, the command says how they come."""
    blocked = "import sys; sys.modules['sphinx'] = None; import make_site; sys.exit(make_site.main())"
    result = subprocess.run(
        [sys.executable, "-c", blocked], cwd=ROOT / "scripts", capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 2
    assert "make site" in result.stderr
