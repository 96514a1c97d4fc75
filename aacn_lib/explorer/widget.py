"""The explorers as a widget: the same page, which Python can follow and lead, and to which own pictures can be added.

Needs the package anywidget; `Explorer.widget` is the way here.
"""

import json
from collections.abc import Sequence
from importlib.resources import files

import anywidget
import torch
import traitlets
from torch import Tensor

from aacn_lib.expect import expect
from aacn_lib.explorer.networks import shape_of
from aacn_lib.explorer.own_picture import MOST_BYTES, picture_from_bytes, short_name
from aacn_lib.explorer.selection import (
    changed_selection,
    changed_tables_selection,
    first_panels,
    first_selection,
    first_tables_selection,
)

MOST_OWN = 8
ASSETS = files("aacn_lib.explorer") / "static"


def _assets(*names: str) -> str:
    return "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in names)


class Selection(traitlets.TraitType):
    """A dict that the widget completes and checks. A bad one is refused at once, and the old one stays."""

    info_text = "a dict with what is chosen"

    def validate(self, widget, value):
        new = widget._completed(value)
        widget._current = dict(new)  # a copy: a change of the dict in place shall not count
        return new


class ExplorerWidget(anywidget.AnyWidget):
    """An explorer in a notebook, while its kernel runs.

    Its JavaScript is that of the page on disk, sent over by the kernel: nothing is fetched. Where there is no kernel
    (GitHub, a notebook not trusted yet, an export to HTML without saved widget state) the still picture stands instead;
    a trusted notebook that is opened again shows nothing until its cell runs. For a page that lives without a kernel
    show the `Explorer` itself.

    Attributes:
        selection: what the reader has chosen, as a dict, to read, to set and to `observe`. For `explore`: picture
            (its number in the chooser), view ("attention", "content", "position"), panel (the network last touched: 0
            or 1) and its layer and head ("mean" or a number), row and column on that layer's map, pinned. For
            `explore_tables`: row, column, head, mean, pinned. Assign a dict with what is to change:
            `widget.selection = {"row": 3, "column": 5}`; changing the dict in place is not noticed. What the page
            does not have raises a `ValueError`, and the old selection stays. While the mouse moves the page tells at
            most 20 times a second, and always the last state.

    Own pictures come after those of `explore`. The last MOST_OWN of them stay, and together they take at most the
    `limit_bytes` of `explore` (beside what the page takes); the oldest goes first, the newest always stays. The
    networks look at them as they are then; tables of positions that have changed since `explore` are an error.
    """

    _esm = _assets("drawing.js", "explorer.js", "tables.js", "widget.js")
    _css = _assets("explorer.css")
    # ipywidgets 7 has one that would hide the still picture.
    _ipython_display_ = None

    selection = Selection().tag(sync=True)
    _kind = traitlets.Unicode().tag(sync=True)
    _data = traitlets.Dict().tag(sync=True)
    _own = traitlets.List().tag(sync=True)  # of Networks.one_more
    _panels = traitlets.List().tag(sync=True)  # {layer, head} of each network
    _upload = traitlets.Dict().tag(sync=True)  # what files the page may send; empty for none

    def __init__(self, explorer):  # an Explorer: its file makes this class, so it is not imported here
        self._explorer = explorer
        attention = explorer.networks is not None
        selection = first_selection(explorer.data) if attention else first_tables_selection(explorer.data)
        self._current = dict(selection)  # the last good one: what a change starts from
        super().__init__(
            selection=selection,
            _kind=explorer.kind,
            _data=explorer.data,
            _panels=first_panels(explorer.data) if attention else [],
            _upload={"mostBytes": MOST_BYTES} if attention else {},
        )
        self.on_msg(self._receive)

    def _completed(self, wanted: dict) -> dict:
        """The present selection with the changes `wanted`; a `ValueError` for what the page does not have."""
        data, old = self._explorer.data, self._current
        if self._explorer.networks is None:
            return changed_tables_selection(data, old, wanted)
        pictures = len(data["pictures"]) + len(self._own)
        return changed_selection(data, pictures, self._panels or first_panels(data), old, wanted)

    @traitlets.observe("selection")
    def _remember(self, change) -> None:
        if self._panels:
            new, panels = change["new"], list(self._panels)
            panels[new["panel"]] = {key: new[key] for key in ("layer", "head")}
            self._panels = panels

    def add_pictures(self, images: Tensor, labels: Sequence[int] | Tensor | None = None) -> None:
        """Add pictures to the chooser and select the last of them.

        Args:
            images: uint8 (N, C, H, W), N at most MOST_OWN, of the size that `explore` got.
            labels: the N true classes.

        Raises:
            ValueError: for other pictures or labels, and of `explore_tables`.
        """
        self._add(images, labels, None)

    def _add(self, images: Tensor, labels: Sequence[int] | Tensor | None, name: str | None) -> None:
        networks, data = self._explorer.networks, self._explorer.data
        expect(networks is not None, "add_pictures", "explorer", "one made by explore()", self._explorer.title)
        good = isinstance(images, Tensor) and images.dtype == torch.uint8 and images.shape[1:] == networks.shape
        wanted = f"uint8 (N, {', '.join(map(str, networks.shape))}), N from 1 to {MOST_OWN}"
        expect(good and 1 <= len(images) <= MOST_OWN, "add_pictures", "images", wanted, shape_of(images))
        labels = [None] * len(images) if labels is None else [int(label) for label in labels]
        expect(len(labels) == len(images), "add_pictures", "labels", f"{len(images)} numbers", labels)
        # Everything that can go wrong goes wrong before anything is changed.
        new = [networks.one_more(data, image, label, name) for image, label in zip(images, labels, strict=True)]
        own = [*self._own, *new][-MOST_OWN:]
        while len(own) > 1 and sum(len(json.dumps(one)) for one in own) > self._explorer.limit_bytes:
            own = own[1:]
        with self.hold_sync():  # one message: no page sees a selection without its picture
            self._own = own
            self.selection = {"picture": len(data["pictures"]) + len(own) - 1}

    def _receive(self, _, content: object, buffers: Sequence[memoryview]) -> None:
        """A file from the page: {kind: "picture", name, view}, with its bytes; the view gets an answer."""
        if not (isinstance(content, dict) and content.get("kind") == "picture" and self._upload):
            return
        name, answer = short_name(content.get("name", "")), {"kind": "answer", "view": content.get("view")}
        channels, *size = self._explorer.networks.shape
        try:
            expect(len(buffers) == 1, "picture", "message", "the bytes of one file", len(buffers))
            image = picture_from_bytes(name, bytes(buffers[0]), tuple(size), channels)
            self._add(image[None], None, name)
        except Exception as error:
            # A ValueError is about the file; anything else is a defect, which Jupyter's log shall show too.
            sentence = str(error) if isinstance(error, ValueError) else f"{name} cannot be shown: {error}"
            self.send({**answer, "sentence": sentence})
            if not isinstance(error, ValueError):
                raise
        else:
            self.send({**answer, "sentence": ""})

    def _repr_mimebundle_(self, **options) -> tuple[dict, dict] | None:
        bundle = super()._repr_mimebundle_(**options)
        if bundle is not None:
            bundle[0]["image/png"] = self._explorer.png
        return bundle

    def __repr__(self) -> str:
        return f"ExplorerWidget({self._explorer.title!r})"
