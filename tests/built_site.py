"""The course as a web site, built once for all tests, and what its pages refer to."""

import json
import shutil
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import nbformat

# The lesson is not one of the course: it holds what some lessons will hold.
EXTRA_LESSON = "99_explorer"
EXTRA_TEXT = """# 99 · An explorer

Half of it is $\\frac{1}{2}$. Back to [lesson 04](04_relative_positions.ipynb#two-dimensions).

<details><summary>Solution</summary>

```python
answer = "a solution"
```

</details>
"""
# Attributes by which a page makes a browser fetch something unasked; a link (<a href>) is followed by a reader only.
LOADING = {"src", "srcset", "poster", "data", "background", "xlink:href"}


@dataclass
class Page:
    """What stands in one HTML file: ids, the targets of its links, and what it loads."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id" or (name == "name" and tag == "a"):
                self.page.ids.add(value)
            elif name == "href" and tag == "a":
                self.page.links.append(value)
            elif name in LOADING or (name == "href" and tag not in {"a", "base"}):
                self.page.loads.append(value)


def read_page(path: Path) -> Page:
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader.page


def lessons_with_an_explorer(source: Path, folder: Path, explorer) -> Path:
    """A copy of the lessons in `folder`, with one more that holds an explorer."""
    shutil.copytree(source, folder)
    # As Jupyter stores it: what an output's picture holds is base64.
    bundle = explorer._repr_mimebundle_() | {"image/png": explorer.to_html().split("base64,")[1].split('"')[0]}
    output = nbformat.v4.new_output("execute_result", data=bundle, execution_count=1)
    cells = [
        nbformat.v4.new_markdown_cell(EXTRA_TEXT),
        nbformat.v4.new_code_cell("explore(model)", outputs=[output], execution_count=1),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    (folder / f"{EXTRA_LESSON}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    return folder
