"""Finds the exercises of a lesson: heading, stub, check and solution."""

import ast
import re
from dataclasses import dataclass

HEADING = re.compile(r"^### Exercise (\d\d)\.(\d+) · \S", re.MULTILINE)
SOLUTION = re.compile(r"<details>\s*<summary>Solution</summary>(.*?)</details>", re.DOTALL)
HINT = re.compile(r"<details>\s*<summary>Hint</summary>.*?</details>", re.DOTALL)
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class LessonExercise:
    """One exercise as it stands in a lesson. `answer` is the expression that the check cell passes."""

    name: str
    answer: str
    context: str  # imports and definitions of the code cells before the stub
    stub: str
    solution: str


def tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def find_exercises(notebook: dict) -> tuple[list[LessonExercise], list[str]]:
    """The exercises of a notebook, and complaints about those that are not built as CONTRIBUTING.md asks."""
    cells, found, complaints = notebook["cells"], [], []
    for i, cell in enumerate(cells):
        if cell["cell_type"] == "markdown" and HEADING.search(cell["source"]):
            stub = cells[i + 1] if i + 1 < len(cells) else None
            if stub is None or stub["cell_type"] != "code" or "exercise" not in tags(stub):
                complaints.append(f"cell {i}: an exercise's heading is not followed by a cell tagged exercise")
            text = cell["source"]
            if not re.search(r"●○○|●●○|●●●", text) or not re.search(r"\d+ min", text):
                complaints.append(f"cell {i}: the exercise has no line with difficulty (●○○ to ●●●) and minutes")
        if "exercise" not in tags(cell):
            continue
        before, check, after = (cells[j] if 0 <= j < len(cells) else None for j in (i - 1, i + 1, i + 2))
        if before is None or before["cell_type"] != "markdown" or not HEADING.search(before["source"]):
            complaints.append(f"cell {i}: the stub does not follow a `### Exercise NN.k · title` cell")
        if "..." not in cell["source"]:
            complaints.append(f"cell {i}: the stub has no blank `...`")
        call = check_call(check)
        if call is None:
            complaints.append(f'cell {i}: the stub is not followed by a cell check("NN.name", answer)')
            continue
        if after is None or after["cell_type"] != "markdown" or not HINT.search(after["source"]):
            complaints.append(f"cell {i + 2}: no <details> with a hint after the check of {call[0]}")
        solution = solution_of(after)
        if solution is None:
            complaints.append(f"cell {i + 2}: no solution with one fenced python block after the check of {call[0]}")
            continue
        found.append(LessonExercise(*call, definitions(cells[:i]), cell["source"], solution))
    return found, complaints


def check_call(cell: dict | None) -> tuple[str, str] | None:
    """(name, answer expression) of a check cell."""
    if cell is None or cell["cell_type"] != "code":
        return None
    for node in ast.walk(_parse(cell["source"])):
        if isinstance(node, ast.Call) and len(node.args) == 2 and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function == "check":
                return node.args[0].value, ast.unparse(node.args[1])
    return None


def solution_of(cell: dict | None) -> str | None:
    found = SOLUTION.search(cell["source"]) if cell is not None and cell["cell_type"] == "markdown" else None
    blocks = PYTHON_BLOCK.findall(found[1]) if found else []
    return blocks[0] if len(blocks) == 1 else None


def definitions(cells: list[dict]) -> str:
    """Imports, functions and classes of code cells: what an exercise may use without the lesson having been run."""
    kept = []
    for cell in cells:
        if cell["cell_type"] == "code" and not {"bootstrap", "exercise"} & set(tags(cell)):
            kinds = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef
            kept += [ast.unparse(node) for node in _parse(cell["source"]).body if isinstance(node, kinds)]
    return "\n".join(kept)


def _parse(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError:  # reported by lesson_rules.wrong_execution
        return ast.Module(body=[], type_ignores=[])
