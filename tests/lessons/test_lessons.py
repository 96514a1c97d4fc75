"""Every lesson keeps the rules of CONTRIBUTING.md, and every rule finds the lesson that breaks it."""

import base64
import copy
import io
import json
import re
from importlib.metadata import version
from pathlib import Path

import lesson_rules
import nbformat
import numpy as np
import pytest
from lesson_numbers import unsupported_numbers
from PIL import Image
from run_notebooks import NOTEBOOKS, badge, bootstrap, choose, clean, execute, main, refresh, repository_address
from toy_lesson import ADDRESS, NAME, code, markdown, toy_lesson

EXPLORER = NOTEBOOKS.parent / "aacn_lib" / "explorer" / "static"
LESSONS = sorted(NOTEBOOKS.glob("*.ipynb"))


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson_keeps_the_rules(path):
    notebook = nbformat.read(path, as_version=4)
    complaints = lesson_rules.complaints_about(notebook, path.name, repository_address(), NOTEBOOKS)
    if path.stat().st_size > lesson_rules.MAX_BYTES:
        complaints.append(f"{path.stat().st_size:,} bytes on disk")
    assert not complaints, f"{path.name}:\n" + "\n".join(complaints)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_stored_explorers_are_those_of_the_library(path):
    """An explorer carries its script and its style: those of an older library would show something else."""
    scripts = {file.name: file.read_text(encoding="utf-8") for file in EXPLORER.iterdir()}
    pages = (name for name in scripts if name.endswith(".js") and name not in ("drawing.js", "widget.js"))
    current = [(scripts["drawing.js"] + "\n" + scripts[name]).replace("EXPLORER_ID", "") for name in pages]
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            page = output.get("data", {}).get("text/html", "")
            if "aacn-explorer" in page:
                assert f"<style>\n{scripts['explorer.css']}</style>" in page, "make notebooks brings it up to date"
                script = re.sub(r"aacn-[0-9a-f]{12}", "", page)
                assert any(text in script for text in current), "make notebooks brings it up to date"


def complaints(notebook: dict, folder: Path = NOTEBOOKS) -> list[str]:
    return lesson_rules.complaints_about(notebook, NAME, ADDRESS, folder)


def cell_with(notebook: dict, text: str) -> dict:
    return next(cell for cell in notebook["cells"] if text in cell["source"])


def replace(old: str, new: str):
    def change(notebook):
        cell = cell_with(notebook, old)
        cell["source"] = cell["source"].replace(old, new)

    return change


def remove(text: str):
    return lambda notebook: notebook["cells"].remove(cell_with(notebook, text))


def swap(first: str, second: str):
    def change(notebook):
        cells = notebook["cells"]
        i, j = cells.index(cell_with(notebook, first)), cells.index(cell_with(notebook, second))
        cells[i], cells[j] = cells[j], cells[i]

    return change


def outputs(text: str, value: list):
    return lambda notebook: cell_with(notebook, text).update(outputs=value)


def untag(tag: str):
    def change(notebook):
        for cell in notebook["cells"]:
            if tag in cell["metadata"].get("tags", []):
                cell["metadata"]["tags"].remove(tag)

    return change


def html(text: str) -> list[dict]:
    return [{"output_type": "display_data", "metadata": {}, "data": {"text/html": text}}]


BROKEN = {
    "title without number": (replace("# 04 · Toy", "# Toy"), "does not begin with"),
    "title of another lesson": (replace("# 04 · Toy", "# 05 · Toy"), "does not begin with"),
    "badge of another address": (replace("SOMEBODY/toy/blob", "SOMEBODY/else/blob"), "badge"),
    "no question": (replace("What does a toy do?", "A toy."), "question is missing"),
    "no card": (remove("| CPU"), "does not say CPU"),
    "card without T4": (replace("| T4 |", "| GPU |"), "does not say T4"),
    "no bootstrap": (untag("bootstrap"), "no cell is tagged bootstrap"),
    "bootstrap edited": (replace(", *keep]", "]"), "bootstrap cell is not the one"),
    "code before bootstrap": (lambda n: n["cells"].insert(1, code("x = 1")), "before the bootstrap"),
    "two bootstraps": (lambda n: n["cells"].append(n["cells"][2]), "two cells are tagged bootstrap"),
    "no objectives section": (remove("## You will be able to"), "`## You will be able to` is missing"),
    "two objectives": (replace("- add\n", ""), "2 objectives"),
    "six objectives": (replace("- add\n", "- add\n- a\n- b\n- c\n"), "6 objectives"),
    "no recap": (remove("## Recap"), "`## Recap` is missing"),
    "no references": (remove("## References"), "`## References` is missing"),
    "no experiment": (remove("## Experiment"), "`## Experiment` is missing"),
    "recap before experiment": (swap("## Recap", "## Experiment"), "stand in the order"),
    "section after references": (lambda n: n["cells"].append(markdown("## More")), "not the last"),
    "no own section": (replace("## A section\n", ""), "no section of its own"),
    "heading in a code block is none": (replace("## Recap", "```\n## Recap\n```"), "`## Recap` is missing"),
    "two exercises": (remove('check("04.third"'), "2 complete exercises"),
    "exercise of another lesson": (replace("04.third", "05.third"), "05.third does not belong"),
    "exercises misnumbered": (replace("Exercise 04.3", "Exercise 04.4"), "numbered"),
    "stub without tag": (lambda n: cell_with(n, "third = ...")["metadata"].clear(), "not followed by a cell tagged"),
    "stub without blank": (replace("third = ...", "third = 0"), "no blank"),
    "stub without heading": (replace("### Exercise 04.3 · Toy", "Toy"), "does not follow"),
    "no difficulty": (replace("●○○ · 15 minutes", "15 minutes"), "difficulty"),
    "no minutes": (replace("●○○ · 15 minutes", "●○○"), "minutes"),
    "no hint": (replace("<summary>Hint</summary>", "<summary>Help</summary>"), "no <details> with a hint"),
    "no solution": (replace("<summary>Solution</summary>", "<summary>Answer</summary>"), "no solution"),
    "long cell": (replace("print(twice(4))", "x = 1\n" * 40 + "print(twice(4))"), "41 lines, at most 40"),
    "much code": (lambda n: n["cells"].extend(code("x = 1\n" * 40) for _ in range(8)), "lines of code, at most 300"),
    "few words": (replace("plain words here " * 100, ""), "words of prose"),
    "many words": (replace("plain words here", "plain words here and here and here and here"), "words of prose"),
    "too big": (outputs("print(twice(4))", html("x" * 600_000)), "bytes with outputs"),
    "not executed": (lambda n: cell_with(n, "print(twice(4))").update(execution_count=None), "not executed once"),
    "executed out of order": (lambda n: cell_with(n, "print(twice(4))").update(execution_count=9), "not executed once"),
    "error kept": (outputs("print(twice(4))", [{"output_type": "error", "ename": "E"}]), "holds an error output"),
    "output stripped": (outputs("print(twice(4))", []), "has no output"),
    "path in an output": (outputs("print(twice(4))", html("/home/me/x")), "path of the machine"),
    "nothing checked by nbval": (untag("nbval-check-output"), "no cell is tagged nbval-check-output"),
    "foreign kernel": (lambda n: n["metadata"]["kernelspec"].update(name="conda-x"), "kernel is not python3"),
    "magic": (replace("print(twice(4))", "%matplotlib inline"), "shell command or magic"),
    "shell": (replace("print(twice(4))", "!wget x"), "uses the network: wget"),
    "download": (replace("twice(4)", 'urlopen("http" + "s:")'), "uses the network: urlopen"),
    "address in code": (replace("twice(4)", '"https://example.org"'), "uses the network: https://"),
    "pip in code": (replace("twice(4)", '["pip", "install"]'), "uses the network: pip"),
    "remote picture": (replace("Nothing to train", "![x](https://example.org/x.png)"), "remote picture"),
    "remote img": (replace("Nothing to train", '<img src="https://example.org/x.png">'), "remote picture"),
    "remote script": (outputs("print(twice(4))", html('<script src="https://x/y.js"></script>')), "an output loads"),
    "details open": (replace("Nothing to train", "<details><summary>x</summary>"), "<details> is not closed"),
    "summary open": (replace("Nothing to train", "<details><summary>x</details>"), "<summary> is not closed"),
    "dead link": (replace("#A-section", "99_missing.ipynb#x"), "leads nowhere"),
    "unsupported number": (replace("Nothing to train", "We reach 93.1 %"), "93.1 stands in no cell"),
}


def test_the_toy_lesson_keeps_the_rules():
    assert complaints(toy_lesson()) == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_lesson_is_found(name):
    change, fragment = BROKEN[name]
    notebook = toy_lesson()
    change(notebook)
    assert any(fragment in complaint for complaint in complaints(notebook)), complaints(notebook)


def test_lesson_00_needs_neither_exercises_nor_experiment():
    notebook = toy_lesson()
    start = notebook["cells"].index(cell_with(notebook, "## Exercises"))
    end = notebook["cells"].index(cell_with(notebook, "## Recap"))
    del notebook["cells"][start:end]
    replace("# 04 · Toy", "# 00 · Toy")(notebook)
    replace(NAME, "00_toy.ipynb")(notebook)
    found = lesson_rules.complaints_about(notebook, "00_toy.ipynb", ADDRESS, NOTEBOOKS)
    assert not any("exercise" in c.lower() or "Experiment" in c for c in found), found


SUPPORTED = [
    *(
        "1024 parts",
        "1,024 parts",
        "1\u2009024 in",
        "27.5 %",
        "27.5\u202f%",
        "$27.5\\%$",
        "0.275",
        "−1024",
        "$n = 1024$",
    ),
    *(
        "seven of 10",
        "in 2019",
        "lesson 13",
        "lessons 11 and 12",
        "section 14.2",
        "equations (12) and (13)",
        "Table 15",
    ),
    *("ResNet-18 and CIFAR-100", "a T400 or conv2d", "`77` in code", "```\n77\n```", "$d_{77}$", "$x_{11}$"),
    *("# 77 things", "●●○ · 77 minutes", "12. the twelfth", "[a link](x77.ipynb)", "https://x.org/77"),
    "<b class='77'>x</b>",
]
UNSUPPORTED = [
    *("77 parts", "1,025 parts", "28 %", "7 %", "0.27", "1024.5", "about 77k", "77×3", "$d = 77$", "(77)", "2 or 77"),
    *("77-dimensional", "512.0001", "3 million", "between 11 and 512", "1e-3", "0.275 and 11", "in 2519"),
]


def _with_prose(text: str) -> dict:
    notebook = toy_lesson()
    notebook["cells"].insert(-1, markdown(text))
    return notebook


@pytest.mark.parametrize("text", SUPPORTED)
def test_supported_numbers(text):
    assert unsupported_numbers(_with_prose(text)) == []


@pytest.mark.parametrize("text", UNSUPPORTED)
def test_unsupported_numbers(text):
    assert len(unsupported_numbers(_with_prose(text))) == 1, unsupported_numbers(_with_prose(text))


def test_numbers_in_outputs_and_rounded_units_are_known():
    notebook = _with_prose("75k weights, 4.9 million parameters, 88 points and 99 pixels")
    cell_with(notebook, "print(twice(4))")["outputs"] += html('<b width="99">88</b>')
    cell_with(notebook, "print(twice(4))")["source"] += "\nprint(75_000, 4_900_000, float77)"
    assert [c.split()[2] for c in unsupported_numbers(notebook)] == ["99"]


def test_bootstrap_is_short_and_does_nothing_where_the_library_is():
    source = bootstrap(ADDRESS)
    assert len([line for line in source.splitlines() if line.strip()]) <= 8
    assert f"git+{ADDRESS}" in source
    exec(source, {})  # where the library is installed it does nothing


def test_bootstrap_installs_where_the_library_is_missing(monkeypatch):
    calls = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("subprocess.run", lambda command, check: calls.append((command, check)))
    exec(bootstrap(ADDRESS), {})
    (command, checked), *more = calls
    kept = [f"{name}=={version(name)}" for name in ("torch", "torchvision", "numpy", "ipywidgets")]
    assert command[1:] == ["-m", "pip", "install", "-q", f"git+{ADDRESS}", *kept]
    assert checked
    assert not more


def _write(path: Path, *cells) -> bytes:
    notebook = nbformat.v4.new_notebook(cells=list(cells))
    nbformat.write(notebook, path)
    return path.read_bytes()


def _title():
    return nbformat.v4.new_markdown_cell(
        "# 04 · Toy\n\n[![old](http://x)](https://colab.research.google.com/y)\n\nWhy?"
    )


def test_execute_refreshes_and_repeats_byte_for_byte(tmp_path, monkeypatch):
    monkeypatch.setenv("AACN_PROGRESS", "0")
    path = tmp_path / NAME
    old = nbformat.v4.new_code_cell("old()", metadata={"tags": ["bootstrap"], "execution": {"iopub": "t"}})
    progress = nbformat.v4.new_code_cell(r"print('10%\r100%'); import os; print(os.environ['AACN_PROGRESS'])")
    _write(path, _title(), old, progress)
    execute(path, ADDRESS)
    first = path.read_bytes()
    execute(path, ADDRESS)
    assert path.read_bytes() == first
    assert b"\r" not in first
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[0].source == f"# 04 · Toy\n\n{badge(NAME, ADDRESS)}\n\nWhy?"
    assert notebook.cells[1].source == bootstrap(ADDRESS)
    assert notebook.cells[1].metadata == {"tags": ["bootstrap"]}
    assert notebook.cells[2].outputs[0].text == "100%\n0\n"
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2]
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_lesson_is_left_as_it_was(tmp_path, monkeypatch, capsys):
    path = tmp_path / NAME
    before = _write(path, _title(), nbformat.v4.new_code_cell("1 / 0"))
    monkeypatch.setenv("AACN_PROGRESS", "0")
    assert main([str(path)]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_choose_names_lessons(tmp_path):
    for name in ("00_a.ipynb", "01_b.ipynb", "draft.ipynb"):
        (tmp_path / name).touch()
    assert [p.name for p in choose([], tmp_path)] == ["00_a.ipynb", "01_b.ipynb"]
    assert [p.name for p in choose(["01", "01_b"], tmp_path)] == ["01_b.ipynb"]
    with pytest.raises(ValueError, match="no lesson begins with '07'; there are 00_a, 01_b"):
        choose(["07"], tmp_path)


def test_refresh_and_clean_keep_tags_and_drop_noise():
    notebook = nbformat.from_dict(toy_lesson())
    notebook.metadata["widgets"] = {"x": 1}
    notebook.cells[5].metadata["collapsed"] = True
    refresh(notebook, NAME, ADDRESS)
    clean(notebook)
    assert "widgets" not in notebook.metadata
    assert notebook.cells[5].metadata == {}
    assert notebook.cells[6].metadata == {"tags": ["nbval-check-output"]}
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    nbformat.validate(notebook)


def test_clean_joins_what_a_slow_kernel_printed_in_pieces():
    notebook = nbformat.from_dict(toy_lesson())
    pieces = [("stdout", "4"), ("stdout", "\n"), ("stderr", "careful\n"), ("stdout", "5\n")]
    cell_with(notebook, "print(twice(4))")["outputs"] = [
        nbformat.v4.new_output("stream", name=name, text=text) for name, text in pieces
    ]
    clean(notebook)
    outputs = cell_with(notebook, "print(twice(4))")["outputs"]
    assert [(out["name"], out["text"]) for out in outputs] == [
        ("stdout", "4\n"),
        ("stderr", "careful\n"),
        ("stdout", "5\n"),
    ]


def test_clean_makes_pictures_small():
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 4), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    notebook = nbformat.from_dict(toy_lesson())
    picture = {"image/png": base64.b64encode(file.getvalue()).decode()}
    cell_with(notebook, "print(twice(4))")["outputs"] = [nbformat.v4.new_output("display_data", data=picture)]
    clean(notebook)
    (output,) = cell_with(notebook, "print(twice(4))")["outputs"]
    small = Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"])))
    assert (small.mode, small.size) == ("P", (40, 40))
    again = copy.deepcopy(notebook)
    clean(again)
    assert again == notebook


def test_clean_drops_stored_widgets_and_keeps_what_stands_beside_them():
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "interactive(...)"}
    notebook = nbformat.from_dict(toy_lesson())
    cell_with(notebook, "print(twice(4))")["outputs"] = [
        nbformat.v4.new_output("display_data", data=view),
        nbformat.v4.new_output("display_data", data={"text/plain": "kept"}),
    ]
    clean(notebook)
    assert [out["data"] for out in cell_with(notebook, "print(twice(4))")["outputs"]] == [{"text/plain": "kept"}]


def test_the_map_in_lesson_00_shows_what_there_is():
    lesson = json.loads((NOTEBOOKS / "00_start_here.ipynb").read_text(encoding="utf-8"))
    text = "".join("".join(cell["source"]) for cell in lesson["cells"] if cell["cell_type"] == "markdown")
    others = {path.name for path in NOTEBOOKS.glob("[0-9]*.ipynb")} - {"00_start_here.ipynb"}
    assert set(re.findall(r"^\| \[[^|\]]*\d\d[^|\]]*\]\(([^)]*)\) \|", text, re.MULTILINE)) == others
    planned = re.findall(r"^\| lesson (\d\d), .* planned \|$", text, re.MULTILINE)
    assert not {name[:2] for name in others} & set(planned)
    assert len(others) + len(planned) == 14
