"""Explorers: pages that show where attention looks while the mouse moves, with no kernel, no server and no network.

`explore` shows the attention of one or two networks on a few pictures, `explore_tables` the position logits of one
layer. Both give an `Explorer`, which reaches the reader in one of two ways. In a notebook it shows itself, and `save`
writes a page that opens from disk: that is self-contained HTML. `widget()` gives the same page as a widget, for as long
as a kernel runs: Python then knows what the reader has chosen and can choose too, and a reader can add an own picture.
"""

import hashlib
import html
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor, nn

from aacn_lib.expect import expect
from aacn_lib.explorer.data import (
    address_of,
    cost_of,
    floats,
    layer_data,
    notes_on,
    png_address,
    quantised,
    reduce_to,
)
from aacn_lib.explorer.networks import (
    Networks,
    class_name,
    expect_pictures,
    finite,
    named_networks,
    rounding_notes,
    shape_of,
)
from aacn_lib.layers import AAConv2d
from aacn_lib.models import LogitParts, evaluation_mode
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


def explore(
    models: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module],
    images: Tensor,
    *,
    mean: Tensor,
    std: Tensor,
    labels: Sequence[int] | Tensor | None = None,
    classes: Sequence[str] | None = None,
    layers: str | Iterable[str] | Mapping[str, Iterable[str]] | None = None,
    limit_bytes: int = LIMIT_BYTES,
) -> Explorer:
    """Where one network looks, or two side by side, on a few pictures, from any query that the reader points at.

    Args:
        models: a network with `AAConv2d` or a vision transformer, or up to two: a list, or {name: network}. They are
            left as they were.
        images: uint8 (N, C, H, W), C 1 or 3.
        mean, std: (C,), as in `Dataset`.
        labels: the N true classes.
        classes: K names, in the order of the outputs.
        layers: names out of `attention_layers(model)`; of two networks, {name: names} or names that both have. None
            takes all.
        limit_bytes: what the page may take; pictures, layers and heads are left out by the rule of
            `explorer.data.reduce_to` until it fits, and the page says which.

    Returns:
        An `Explorer`. Attention weights in its page are off by at most 1/255 of their query's largest; where a layer's
        logits are so large that 16 bits cannot keep this, a note says how much it is. Its `widget()` holds on to the
        networks; own pictures are shown with the layers and heads of the page.

    Raises:
        ValueError: for networks without attention, unknown layers, pictures and labels that do not fit, outputs that
            are not finite, and a limit that nothing fits.
    """
    named = named_networks(models)
    expect_pictures("explore", images)
    labels = None if labels is None else [int(label) for label in labels]
    expect(labels is None or len(labels) == len(images), "explore", "labels", f"{len(images)} numbers", labels)

    networks = Networks(named, mean=mean, std=std, classes=classes, layers=layers, shape=images.shape[1:])
    seen, predictions, outputs = networks.look(images)
    good = labels is None or all(0 <= label < outputs for label in labels)
    expect(good, "explore", "labels", f"0 to {outputs - 1}", labels)

    sources = [png_address(image) for image in images]
    costs = {(number, layer): cost_of(parts) for number, found in enumerate(seen) for layer, parts in found.items()}
    kept = reduce_to(limit_bytes, [len(source) for source in sources], costs)
    notes = notes_on(kept, len(images), costs, list(named))
    if notes:
        notes.insert(0, f"Kept under {limit_bytes / 1e6:g} MB.")
    data = {
        "pictureSize": list(images.shape[2:]),
        "pictures": [
            {"source": source, "label": None if labels is None else class_name(classes, labels[number])}
            for number, source in enumerate(sources[: kept.pictures])
        ],
        "models": [],
        "notes": notes,
    }
    for number, name in enumerate(named):
        shown = []
        for layer, parts in seen[number].items():
            if (number, layer) in kept.heads:
                shown.append(layer_data(layer, parts, kept.pictures, kept.heads[number, layer]))
                notes += rounding_notes(parts, shown[-1])
        data["models"].append({"name": name, "predictions": predictions[number][: kept.pictures], "layers": shown})

    def draw() -> bytes:
        from aacn_lib.explorer.still import still_of_attention

        return still_of_attention(images[0], data, seen)

    return Explorer("explorer", data, draw, f"Attention explorer: {' and '.join(named)}", networks, limit_bytes)


def explore_tables(
    layer: AAConv2d, inputs: Tensor | None = None, *, image: Tensor | None = None, name: str = "relative tables"
) -> Explorer:
    """How the tables of relative positions answer a query, and which of their rows it uses, as it is dragged about.

    Args:
        layer: with relative positions.
        inputs: (in_channels, H, W), what the layer sees of one picture (`feature_maps` gives it). Each place then asks
            with its own query, or all with their mean, as the reader chooses. Without inputs every place asks with the
            query that the layer's bias gives, on the map that the layer was made for.
        image: uint8 (C, H, W), C 1 or 3, the picture that the inputs were made from, to be shown beside the map.
        name: a title.

    Raises:
        ValueError: for a layer without tables, or with neither inputs nor a bias, and for an image of another kind.
    """
    expect(isinstance(layer, AAConv2d), "explore_tables", "layer", "an AAConv2d", type(layer).__name__)
    expect(layer.rel_h is not None, "explore_tables", "layer", "relative positions", layer.position_encoding)
    good = isinstance(image, Tensor) and image.ndim == 3 and image.shape[0] in (1, 3) and image.dtype == torch.uint8
    expect(image is None or good, "explore_tables", "image", "uint8 (C, H, W), C 1 or 3", shape_of(image))
    with torch.no_grad(), evaluation_mode(layer):
        if inputs is None:
            expect(layer.qkv.bias is not None, "explore_tables", "inputs", "what a layer without bias sees", inputs)
            size = [(len(table) + 1) // 2 for table in (layer.rel_h, layer.rel_w)]
            bias = layer.qkv.bias[: layer.depth_k].unflatten(0, (layer.num_heads, -1))  # (heads, d_kh)
            q = bias[:, None].expand(-1, size[0] * size[1], -1)
        else:
            expect(inputs.ndim == 3, "explore_tables", "inputs", "(in_channels, H, W)", tuple(inputs.shape))
            q = layer.qkv_heads(inputs[None].to(layer.rel_h.device))[0][0]  # (heads, H, W, d_kh)
            size, q = list(q.shape[1:3]), q.flatten(1, 2)
        rel_h, rel_w = (table.detach().float().cpu() for table in layer.tables(*size))
    q = q.detach().float().cpu()  # (heads, HW, d_kh)
    parts = finite(name, LogitParts(q[None], q[None], rel_h, rel_w, tuple(size)))
    data = {
        "name": name,
        "size": size,
        "heads": q.shape[0],
        "depth": q.shape[2],
        "relH": floats(rel_h),
        "relW": floats(rel_w),
        "q": quantised(q),
        "ownQueries": inputs is not None,
        "picture": None if image is None else png_address(image),
        "notes": [],
    }

    def draw() -> bytes:
        from aacn_lib.explorer.still import still_of_tables

        return still_of_tables(name, parts)

    return Explorer("tables", data, draw, f"Position explorer: {name}")
