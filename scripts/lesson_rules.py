"""The rules of CONTRIBUTING.md for a lesson, as functions from a notebook (a dict) to a list of complaints."""

import ast
import json
import re
from pathlib import Path

from lesson_exercises import HEADING, find_exercises, tags
from lesson_numbers import unsupported_numbers
from run_notebooks import badge, bootstrap

MAX_BYTES = 600_000
MAX_CODE_LINES = 300
MAX_CELL_LINES = 40
WORDS = (1_500, 3_500)
OBJECTIVES = (3, 5)
MIN_EXERCISES = 3

_FENCE = re.compile(r"^(?:```|~~~).*?^(?:```|~~~)\s*$", re.DOTALL | re.MULTILINE)
_NETWORK = re.compile(
    r"https?://|ftp://|\burllib\.request|\burlopen|\burlretrieve|\brequests\.|\bhttpx\.|\bsocket\.|\bwget\b|\bcurl\b"
    r"|pip[\"', ]+install|load_state_dict_from_url|hf_hub_download"
)
_REMOTE = re.compile(
    r"!\[[^\]]*\]\(\s*(?:https?:)?//[^)]*\)|<(?:img|script|iframe|link)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//[^>]*>"
)
_LOCAL_PATHS = re.compile(r"/(?:home|root|Users|work)/\w|/tmp/ipykernel|[A-Z]:\\\\?Users")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def complaints_about(notebook: dict, name: str, address: str, folder: Path) -> list[str]:
    """Everything that is wrong with one lesson."""
    return [
        *wrong_parts(notebook, name, address),
        *wrong_exercises(notebook, name),
        *wrong_sizes(notebook),
        *wrong_execution(notebook),
        *wrong_network_use(notebook, name, address),
        *wrong_markup(notebook, folder),
        *unsupported_numbers(notebook),
    ]


def wrong_parts(notebook: dict, name: str, address: str) -> list[str]:
    """Title, badge, card, bootstrap cell, objectives and the sections, in their order."""
    cells, number, complaints = notebook["cells"], name[:2], []
    first = cells[0]["source"] if cells and cells[0]["cell_type"] == "markdown" else ""
    if not re.match(rf"# {number} · \S", first):
        complaints.append(f"the first cell does not begin with `# {number} · Title`")
    if badge(name, address) not in first:
        complaints.append("the first cell has not the badge that `make notebooks` writes")
    start = next((i for i, cell in enumerate(cells) if "bootstrap" in tags(cell)), None)
    if start is None:
        return [*complaints, "no cell is tagged bootstrap"]
    opening = "\n".join(cell["source"] for cell in cells[:start])
    if "?" not in opening.replace(badge(name, address), ""):
        complaints.append("the lesson's question is missing before the bootstrap cell")
    card = "\n".join(line for line in opening.splitlines() if line.lstrip().startswith("|"))
    complaints += [
        f"the card (a table before the bootstrap cell) does not say {word}"
        for word in ("CPU", "T4", "H200", "needs", "downloads")
        if word.lower() not in card.lower()
    ]
    if any(cell["cell_type"] == "code" for cell in cells[:start]):
        complaints.append("a code cell stands before the bootstrap cell")
    if cells[start]["source"] != bootstrap(address):
        complaints.append("the bootstrap cell is not the one `make notebooks` writes")
    if sum("bootstrap" in tags(cell) for cell in cells) > 1:
        complaints.append("two cells are tagged bootstrap")
    return complaints + _wrong_sections(cells[start:], number)


def _wrong_sections(cells: list[dict], number: str) -> list[str]:
    prose = "\n".join(_FENCE.sub("", cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    headings = re.findall(r"^## +(.*)$", prose, flags=re.MULTILINE)
    fixed = ["You will be able to", "Exercises", "Experiment", "Recap", "References"]
    optional = {"Exercises", "Experiment"} if number == "00" else set()
    complaints, order = [], []
    for part in fixed:
        places = [i for i, heading in enumerate(headings) if heading.startswith(part)]
        order += places[:1]
        if not places and part not in optional:
            complaints.append(f"the section `## {part}` is missing")
        if len(places) > 1:
            complaints.append(f"two sections are called `## {part}`")
    if order != sorted(order):
        complaints.append(
            f"the sections stand in the order {headings}, expected {fixed} with the lesson's own after the first"
        )
    elif not complaints:
        if order[0] != 0 or order[-1] != len(headings) - 1:
            complaints.append("`## You will be able to` is not the first section or `## References` not the last")
        if len(order) == len(headings):
            complaints.append("the lesson has no section of its own")
    objectives = re.search(r"^## You will be able to(.*?)(?=^## |\Z)", prose, flags=re.DOTALL | re.MULTILINE)
    count = len(re.findall(r"^(?:[-*]|\d+\.) ", objectives[1], flags=re.MULTILINE)) if objectives else 0
    if not OBJECTIVES[0] <= count <= OBJECTIVES[1]:
        complaints.append(f"{count} objectives, expected {OBJECTIVES[0]} to {OBJECTIVES[1]}")
    return complaints


def wrong_exercises(notebook: dict, name: str) -> list[str]:
    exercises, complaints = find_exercises(notebook)
    number = name[:2]
    if number != "00" and len(exercises) < MIN_EXERCISES:
        complaints.append(f"{len(exercises)} complete exercises, expected at least {MIN_EXERCISES}")
    complaints += [
        f"{e.name} does not belong to lesson {number}" for e in exercises if not e.name.startswith(f"{number}.")
    ]
    titles = [found.groups() for cell in notebook["cells"] for found in HEADING.finditer(cell["source"])]
    if titles != [(number, str(k + 1)) for k in range(len(titles))]:
        complaints.append(
            f"the exercises are numbered {['.'.join(t) for t in titles]}, expected {number}.1, {number}.2, …"
        )
    return complaints


def wrong_sizes(notebook: dict) -> list[str]:
    cells = [(i, cell) for i, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "code"]
    code = [(i, cell["source"]) for i, cell in cells if "bootstrap" not in tags(cell)]
    complaints = [
        f"cell {i}: {len(source.splitlines())} lines, at most {MAX_CELL_LINES}"
        for i, source in code
        if len(source.splitlines()) > MAX_CELL_LINES
    ]
    lines = sum(1 for _, source in code for line in source.splitlines() if line.strip())
    if lines > MAX_CODE_LINES:
        complaints.append(f"{lines} lines of code, at most {MAX_CODE_LINES}")
    prose = " ".join(_FENCE.sub(" ", c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown")
    words = len(re.findall(r"[^\W\d_][\w'’-]*", re.sub(r"<[^>]+>|\]\([^)]*\)", " ", prose)))
    if not WORDS[0] <= words <= WORDS[1]:
        complaints.append(f"{words} words of prose, expected {WORDS[0]:,} to {WORDS[1]:,}")
    size = len(json.dumps(notebook, indent=1, ensure_ascii=False).encode())
    if size > MAX_BYTES:
        complaints.append(f"{size:,} bytes with outputs, at most {MAX_BYTES:,}")
    return complaints


def wrong_execution(notebook: dict) -> list[str]:
    """Executed from top to bottom in a fresh kernel, without errors, with its outputs kept."""
    complaints = []
    code = [(i, cell) for i, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "code"]
    counts = [cell.get("execution_count") for _, cell in code]
    if counts != list(range(1, len(code) + 1)):
        complaints.append(f"not executed once from top to bottom (execution counts {counts}): run `make notebooks`")
    for i, cell in code:
        outputs = cell.get("outputs", [])
        complaints += [f"cell {i}: holds an error output" for out in outputs if out["output_type"] == "error"]
        if _LOCAL_PATHS.search(json.dumps(outputs)):
            complaints.append(f"cell {i}: an output holds a path of the machine it ran on")
        try:
            shows = _shows_something(ast.parse(cell["source"]))
        except SyntaxError:
            complaints.append(f"cell {i}: not plain Python (a magic or a shell command?)")
            continue
        if shows and not outputs:
            complaints.append(f"cell {i}: prints or draws, but has no output")
    if not any("nbval-check-output" in tags(cell) for _, cell in code):
        complaints.append("no cell is tagged nbval-check-output")
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3":
        complaints.append("the kernel is not python3")
    return complaints


def _shows_something(tree: ast.Module) -> bool:
    """Whether a print, check, display or plt.show stands among the statements that run for sure."""
    calls = [node.value for node in tree.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    names = {call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "") for call in calls}
    return bool(names & {"print", "check", "display", "show"})


def wrong_network_use(notebook: dict, name: str, address: str) -> list[str]:
    complaints = []
    for i, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "markdown":
            text = cell["source"].replace(badge(name, address), "")
            complaints += [f"cell {i}: remote picture {found[0]}" for found in _REMOTE.finditer(text)]
        elif "bootstrap" not in tags(cell):
            complaints += [f"cell {i}: uses the network: {found[0]}" for found in _NETWORK.finditer(cell["source"])]
            complaints += [
                f"cell {i}: shell command or magic: {line.strip()}"
                for line in cell["source"].splitlines()
                if line.lstrip().startswith(("!", "%"))
            ]
            for output in cell.get("outputs", []):
                html = output.get("data", {}).get("text/html", "")
                html = html if isinstance(html, str) else "".join(html)
                complaints += [f"cell {i}: an output loads {found[0][:80]}" for found in _REMOTE.finditer(html)]
    return complaints


def wrong_markup(notebook: dict, folder: Path) -> list[str]:
    """Unclosed <details> and links that lead nowhere."""
    complaints = []
    for i, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "markdown":
            continue
        text = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", cell["source"]))
        for tag in ("details", "summary"):
            if len(re.findall(rf"<{tag}\b", text)) != text.count(f"</{tag}>"):
                complaints.append(f"cell {i}: <{tag}> is not closed")
        for target in _LINK.findall(text):
            path = target.partition("#")[0]
            if path and not re.match(r"[a-z]+:", target) and not (folder / path).exists():
                complaints.append(f"cell {i}: the link {target} leads nowhere")
    return complaints
