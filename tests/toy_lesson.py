"""A small lesson that keeps every rule: tests break it in one place and expect one complaint."""

import copy

from run_notebooks import badge, bootstrap

NAME = "04_toy.ipynb"
ADDRESS = "https://github.com/SOMEBODY/toy"


def markdown(source: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def code(source: str, *tags: str, printed: str = "") -> dict:
    outputs = [{"output_type": "stream", "name": "stdout", "text": printed}] if printed else []
    return {"cell_type": "code", "metadata": {"tags": list(tags)}, "source": source, "outputs": outputs}


def exercise(number: int, name: str, stub: str, answer: str, solution: str) -> list[dict]:
    return [
        markdown(f"### Exercise 04.{number} · Toy\n\n●○○ · 15 minutes\n\nWrite it. Done when the check says so."),
        code(stub, "exercise"),
        code(f'check("{name}", {answer})', printed=f"○ {name}: not attempted yet\n"),
        markdown(
            "<details><summary>Hint</summary>\n\nThink.\n\n</details>\n\n"
            f"<details><summary>Solution</summary>\n\n```python\n{solution}\n```\n\n</details>"
        ),
    ]


def toy_lesson() -> dict:
    cells = [
        markdown(f"# 04 · Toy\n\n{badge(NAME, ADDRESS)}\n\nWhat does a toy do?"),
        markdown("| CPU | T4 | H200 | Needs | Downloads |\n|---|---|---|---|---|\n| 77 s | - | - | 03 | none |"),
        code(bootstrap(ADDRESS), "bootstrap"),
        markdown("## You will be able to\n\n- add\n- subtract\n- stop"),
        markdown("## A section\n\n" + "plain words here " * 500 + "\n\nIt has 1,024 parts, which is 27.5 % of all."),
        code("import math\n\n\ndef twice(x):\n    return 2 * x\n\n\nprint(twice(512), 0.275)", printed="1024 0.275\n"),
        code("print(twice(4))", "nbval-check-output", printed="8\n"),
        markdown("## Exercises"),
        *exercise(1, "04.add", "def add(a, b):\n    return ...", "add", "def add(a, b):\n    return a + b"),
        *exercise(2, "04.root", "root = ...", "root", "root = math.sqrt(twice(8))"),
        *exercise(3, "04.third", "third = ...", "third", "third = 3"),
        markdown("## Experiment\n\nNothing to train."),
        markdown("## Recap\n\nYou can add, see [the section](#A-section)."),
        markdown("## References\n\nSomebody, 31415."),
    ]
    count = 0
    for cell in cells:
        if cell["cell_type"] == "code":
            count += 1
            cell["execution_count"] = count
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return copy.deepcopy({"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})
