"""`Explorer`: a page that holds all it needs, as HTML, as a file and as a widget."""

import hashlib
import html
import json
from collections.abc import Callable
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from aacn_lib.expect import expect
from aacn_lib.explorer.data import address_of
from aacn_lib.explorer.networks import Networks
from aacn_lib.whole_file import whole_file

LIMIT_BYTES = 3_000_000
# What each page's script calls itself.
BUILD = {"explorer": "buildExplorer", "tables": "buildTables", "fields": "buildFields"}


class Explorer:
    """A page that needs nothing but a browser.

    In a notebook it is shown by being a cell's last expression: as `text/html`, which works while the script may run,
    and as `image/png`, a still picture with the same message, for places that take scripts away. The same data give
    the same text: executing a cell again changes nothing.

    Attributes:
        data: what the page shows, as plain data (see the scripts in static).
        notes: what was left out to stay small, in sentences; the page shows them too.
        kind: "explorer", "tables" or "fields": which script builds the page.
        title: what the page is called.
        networks: of `explore`, for pictures that come later; None of `explore_tables`.
        limit_bytes: what was asked of the page.
    """

    def __init__(
        self,
        kind: str,
        data: dict,
        draw: Callable[[], bytes],
        title: str,
        networks: Networks | None = None,
        limit_bytes: int = LIMIT_BYTES,
    ):
        self.data, self.notes, self.title = data, tuple(data["notes"]), title
        self.kind, self.networks, self.limit_bytes = kind, networks, limit_bytes
        self._draw = draw

    @cached_property
    def png(self) -> bytes:
        """The still picture."""
        return self._draw()

    @cached_property
    def _fragment(self) -> str:
        folder = files("aacn_lib.explorer") / "static"
        style, *scripts = (
            (folder / name).read_text(encoding="utf-8") for name in ("explorer.css", "drawing.js", f"{self.kind}.js")
        )
        # Inside a script element only "<" could end it: names come from anywhere, so none reaches the page as markup.
        data = json.dumps(self.data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
        digest = hashlib.sha256("".join([data, style, *scripts]).encode()).hexdigest()[:12]
        script = "\n".join(scripts).replace("EXPLORER_ID", f"aacn-{digest}")
        return (
            f'<div class="aacn-explorer" data-explorer="aacn-{digest}">\n<style>\n{style}</style>\n'
            f'<img class="aacn-still" alt="{html.escape(self.title)}" src="{address_of(self.png)}">\n'
            f'<script type="application/json" class="aacn-data">{data}</script>\n'
            f'<script>\n(() => {{\n"use strict";\n{script}\nmount({BUILD[self.kind]});\n}})();\n</script>\n</div>\n'
        )

    def to_html(self) -> str:
        """The explorer as a piece of HTML that holds all it needs."""
        return self._fragment

    def save(self, path: str | Path) -> Path:
        """Write a whole page to `path`, which a browser opens from disk; returns the path."""
        page = (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            # The browser itself is told that the page may load nothing.
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
            "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
            '<link rel="icon" href="data:,">\n'
            f"<title>{html.escape(self.title)}</title>\n</head>\n<body>\n{self._fragment}</body>\n</html>\n"
        )
        with whole_file(path) as file:
            file.write(page.encode())
        return Path(path)

    def widget(self):
        """The explorer as a new `ExplorerWidget` (see `aacn_lib.explorer.widget`), which talks to a running kernel.

        Raises:
            ValueError: if the package anywidget is not installed, and of `explore_receptive_field`.
        """
        expect(self.kind != "fields", "widget", "explorer", "one made by explore() or explore_tables()", self.title)
        try:
            from aacn_lib.explorer.widget import ExplorerWidget
        except ImportError as error:
            raise ValueError(
                f"widget: expected the package anywidget to be installed, got: {error} (pip install anywidget)"
            ) from error
        return ExplorerWidget(self)

    @property
    def size_bytes(self) -> int:
        """Bytes of `to_html()`."""
        return len(self._fragment.encode())

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/html": self._fragment, "image/png": self.png, "text/plain": repr(self)}

    def __repr__(self) -> str:
        return f"Explorer({self.title!r}, {self.size_bytes / 1e6:.2f} MB)"
