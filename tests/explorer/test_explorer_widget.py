import base64
import builtins
import io
import json
import struct
import sys
import warnings
import zlib

import nbformat
import pytest
import torch
from ipykernel.kernelbase import Kernel
from PIL import Image
from test_explorer import CLASSES, EVIL, MEAN, STD, decoded, network, pictures, show, three_layers
from torch import nn

from aacn_lib import attention_maps, create_model, explore, explore_tables, normalise
from aacn_lib.explorer.data import LARGEST_ERROR
from aacn_lib.explorer.own_picture import LONGEST_NAME, MOST_BYTES, MOST_PIXELS, picture_from_bytes
from aacn_lib.explorer.widget import MOST_OWN
from aacn_lib.layers import AAConv2d

FIRST = {
    "picture": 0,
    "view": "attention",
    "row": 5,
    "column": 6,
    "layer": "mix",
    "head": "mean",
    "pinned": False,
    "panel": 0,
}


def file_of(image: Image.Image, kind="PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(width=26, height=22, seed=3) -> Image.Image:
    torch.manual_seed(seed)
    return Image.fromarray(torch.randint(0, 256, (height, width, 3), dtype=torch.uint8).numpy())


class Page:
    """What a page does with a widget, by the messages that it would send."""

    def __init__(self, widget):
        self.widget, self.sent = widget, []
        if hasattr(widget.comm, "kernel"):  # ipywidgets 7 sends nothing where there is none
            widget.comm.kernel = Kernel()
        widget._send = lambda message, buffers=None: self.sent.append(message)

    def says(self, **state):
        self._message({"method": "update", "state": state, "buffer_paths": []})

    def uploads(self, data: bytes, name="cat.png", **more) -> str:
        """The sentence that comes back; empty when the file was taken."""
        before = len(self.sent)
        content = {"kind": "picture", "name": name, "view": "0.5", **more}
        self._message({"method": "custom", "content": content}, [memoryview(data)])
        (answer,) = (message["content"] for message in self.sent[before:] if message["method"] == "custom")
        assert (answer["kind"], answer["view"]) == ("answer", "0.5")
        return answer["sentence"]

    def _message(self, data, buffers=()):
        self.widget._handle_msg({"content": {"data": data}, "buffers": list(buffers)})


def maps_of(widget, picture: int, layer=0, model=0) -> torch.Tensor:
    """(heads, N, N): what a page computes for an own picture."""
    shown = widget._data["models"][model]["layers"][layer]
    own = widget._own[picture]["models"][model]["maps"][shown["name"]]
    parts = decoded(shown | {"maps": [own]}, 0)
    return (parts.content + parts.position).softmax(-1)[0]


def assert_true_maps(found: torch.Tensor, model: nn.Module, image: torch.Tensor, layer="mix") -> None:
    true = attention_maps(model, normalise(image[None], MEAN, STD))[layer].weights[0]
    assert ((found - true).abs().amax(-1) / true.amax(-1)).max() < LARGEST_ERROR


def test_the_selection_starts_in_the_middle_and_takes_changes():
    widget = show(network(), pictures()).widget()
    assert widget.selection == FIRST
    seen = []
    widget.observe(lambda change: seen.append((change["old"]["row"], change["new"]["row"])), "selection")
    widget.selection = {"row": 3, "head": 1}
    assert widget.selection == FIRST | {"row": 3, "head": 1}
    widget.selection = {"picture": 1, "view": "position", "pinned": True, "column": torch.tensor([12])[0].item()}
    assert widget.selection == FIRST | {
        "row": 3, "head": 1, "picture": 1, "view": "position", "pinned": True, "column": 12
    }  # fmt: skip
    assert seen == [(5, 3), (3, 3)]


def test_another_layer_keeps_the_place_and_the_head_where_they_exist():
    torch.manual_seed(0)
    widget = show(three_layers(), pictures(2, (12, 20))).widget()
    widget.selection = {"row": 11, "column": 7, "head": 1}
    widget.selection = {"layer": "features.8"}
    layer = widget._data["models"][0]["layers"][2]
    assert layer["size"] == [3, 5]
    assert (widget.selection["row"], widget.selection["column"], widget.selection["head"]) == (2, 1, 1)
    with pytest.raises(ValueError, match="selection: row: expected 0 to 2, got 7"):
        widget.selection = {"row": 7}


def test_each_of_two_networks_keeps_its_own_layer_and_head():
    models = {"first": three_layers(), "second": network((12, 20))}
    widget = show(models, pictures(1, (12, 20))).widget()
    widget.selection = {"layer": "features.4", "head": 1}
    widget.selection = {"panel": 1}
    assert (widget.selection["layer"], widget.selection["head"]) == ("mix", "mean")
    assert widget._panels == [{"layer": "features.4", "head": 1}, {"layer": "mix", "head": "mean"}]
    widget.selection = {"panel": 0}
    assert (widget.selection["layer"], widget.selection["head"]) == ("features.4", 1)
    with pytest.raises(ValueError, match=r"layer: expected one of \['mix'\], got 'features.4'"):
        widget.selection = {"panel": 1, "layer": "features.4"}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"row": 11}, "selection: row: expected 0 to 10, got 11"),
        ({"row": -1}, "selection: row: expected 0 to 10, got -1"),
        ({"column": 1.5}, "selection: column: expected 0 to 12, got 1.5"),
        ({"colum": 1}, "selection: keys: expected some of ['picture', 'view', 'row', 'column',"),
        ({"layer": "mixx"}, "selection: layer: expected one of ['mix'], got 'mixx'"),
        ({"layer": ["mix"]}, "selection: layer: expected one of ['mix'], got ['mix']"),
        ({"view": "weights"}, "selection: view: expected one of ['attention', 'content', 'position'], got 'weights'"),
        ({"head": 2}, "selection: head: expected 0 to 1, got 2"),
        ({"head": "max"}, "selection: head: expected 'mean' or 0 to 1, got 'max'"),
        ({"head": True}, "selection: head: expected 0 to 1, got True"),
        ({"picture": 2}, "selection: picture: expected 0 to 1, got 2"),
        ({"panel": 1}, "selection: panel: expected 0 to 0, got 1"),
        ({"pinned": 1}, "selection: pinned: expected True or False, got 1"),
        (None, "selection: value: expected a dict"),
    ],
)
def test_a_bad_selection_is_named_and_the_old_one_stays(wanted, message):
    widget = show(network(), pictures()).widget()
    widget.selection = {"row": 3}
    page = Page(widget)
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is compared next)
        widget.selection = wanted
    assert message in str(error.value)
    assert widget.selection == FIRST | {"row": 3}
    assert page.sent == []
    page.says(selection=wanted)  # ipywidgets writes the error to Jupyter's log
    assert widget.selection == FIRST | {"row": 3}


def test_a_page_s_selection_arrives_and_is_not_said_back():
    widget = show({"a": three_layers(), "b": three_layers()}, pictures(2, (12, 20))).widget()
    page, seen = Page(widget), []
    widget.observe(lambda change: seen.append(change["new"]), "selection")
    new = {**widget.selection, "layer": "features.4", "row": 1, "column": 2, "panel": 1, "head": 1}
    panels = [{"layer": "features.8", "head": "mean"}, {"layer": "features.4", "head": 1}]
    page.says(_panels=panels, selection=new)
    assert widget.selection == new
    assert widget._panels == panels
    assert seen == [new]
    # ipywidgets 8 repeats what came ("echo_update"), which a page knows to ignore; an "update" would be news.
    assert [message for message in page.sent if message["method"] == "update"] == []


def test_a_dict_changed_in_place_leads_nowhere():
    widget = show(network(), pictures()).widget()
    widget.selection["row"] = 99
    widget.selection = {"column": 2}
    assert widget.selection == FIRST | {"column": 2}


def test_pictures_added_from_python():
    models, images = [three_layers(), network((12, 20))], pictures(2, (12, 20))
    widget = show(models, images, labels=[1, 2], classes=CLASSES).widget()
    widget.selection = {"row": 2, "view": "content"}
    page, more = Page(widget), pictures(2, (12, 20))
    widget.add_pictures(more, labels=[0, 6])
    assert (widget.selection["picture"], widget.selection["row"], widget.selection["view"]) == (3, 2, "content")
    (message,) = page.sent  # at once: no page sees a selection without its picture
    assert set(message["state"]) == {"_own", "selection"}
    assert [own["picture"]["label"] for own in widget._own] == ["cat", "ibis"]
    for number, image in enumerate(more):
        for layer, shown in enumerate(widget._data["models"][0]["layers"]):
            assert_true_maps(maps_of(widget, number, layer), models[0], image, shown["name"])
        assert_true_maps(maps_of(widget, number, model=1), models[1], image)
        best = widget._own[number]["models"][1]["prediction"]
        share = models[1].eval()(normalise(image[None], MEAN, STD)).softmax(1)[0]
        assert [CLASSES.index(name) for name, _ in best] == share.topk(5).indices.tolist()
        png = base64.b64decode(widget._own[number]["picture"]["source"].partition(",")[2])
        assert Image.open(io.BytesIO(png)).tobytes() == image.permute(1, 2, 0).numpy().tobytes()
    assert len(widget._data["pictures"]) == 2  # those of explore() are sent once


def test_own_pictures_have_the_layers_and_heads_of_the_page():
    images = pictures(4, (12, 20))
    widget = show(three_layers(), images, limit_bytes=170_000).widget()
    widget.add_pictures(images[3:])
    assert list(widget._own[0]["models"][0]["maps"]) == ["features.8"]


def test_the_oldest_own_picture_makes_room():
    model, images = network(), pictures(MOST_OWN + 2)
    widget = show(model, images[:1]).widget()
    widget.add_pictures(images[:2])
    widget.add_pictures(images[2:])
    assert len(widget._own) == MOST_OWN
    assert widget.selection["picture"] == MOST_OWN
    for number in range(MOST_OWN):
        assert_true_maps(maps_of(widget, number), model, images[number + 2])


def test_own_pictures_keep_the_limit_of_the_page():
    model, images = network((24, 40)), pictures(6, (24, 40))
    widget = show(model, images[:1], limit_bytes=210_000).widget()
    widget.add_pictures(images)  # more than 40 kB each
    count = len(widget._own)
    assert 1 < count < 6
    assert len(json.dumps(widget._own)) <= 210_000
    assert widget.selection["picture"] == count
    for number in range(count):
        assert_true_maps(maps_of(widget, number), model, images[6 - count + number])


def test_a_note_tells_of_an_own_picture_that_16_bits_cannot_keep():
    model = network()
    with torch.no_grad():
        model.mix.qkv.weight.mul_(300)
    widget = show(model, pictures()).widget()
    widget.add_pictures(pictures(1))
    assert "weights are off by up to" in widget._own[0]["notes"][0]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (pictures(1, (11, 12)), None, r"images: expected uint8 \(N, 3, 11, 13\), N from 1 to 8, got 'torch.uint8"),
        (pictures(1).float(), None, "images: expected uint8"),
        (pictures(1)[:0], None, "N from 1 to 8"),
        (pictures(MOST_OWN + 1), None, "N from 1 to 8"),
        (torch.tensor(1, dtype=torch.uint8), None, "images: expected uint8"),
        ("cat.png", None, "images: expected uint8"),
        (pictures(2), [1], r"labels: expected 2 numbers, got \[1\]"),
        (pictures(2), [1, 7], "labels: expected 0 to 6, got 7"),
    ],
)
def test_pictures_that_do_not_fit_change_nothing(images, labels, message):
    widget = show(network(), pictures()).widget()
    with pytest.raises(ValueError, match=message):
        widget.add_pictures(images, labels)
    assert (widget._own, widget.selection) == ([], FIRST)


def test_a_network_that_learned_on_since_is_noticed():
    model = network()
    widget = show(model, pictures()).widget()
    with torch.no_grad():
        model.mix.rel_h.add_(1)
    with pytest.raises(ValueError, match=r"mix: expected the tables that explore\(\) saw"):
        widget.add_pictures(pictures(1))
    assert "explore again" in Page(widget).uploads(file_of(photo()))
    assert widget._own == []


def test_an_uploaded_file_is_shown_as_the_network_sees_it():
    model = network()
    widget = show(model, pictures(), labels=[1, 2]).widget()
    page = Page(widget)
    assert page.uploads(file_of(photo(26, 22))) == ""
    # Twice as large in both directions: each pixel a weighted mean, and nothing is cropped.
    image = picture_from_bytes("x", file_of(photo(26, 22)), (11, 13), 3)
    shrunk = photo(26, 22).resize((13, 11), Image.Resampling.BILINEAR)
    assert torch.equal(
        image, torch.tensor(list(shrunk.tobytes()), dtype=torch.uint8).reshape(11, 13, 3).permute(2, 0, 1)
    )
    assert (widget._own[0]["picture"]["name"], widget._own[0]["picture"]["label"]) == ("cat.png", None)
    assert widget.selection == FIRST | {"picture": 2}
    assert_true_maps(maps_of(widget, 0), model, image)


def test_a_file_s_picture_is_upright_cropped_in_its_centre_and_opaque():
    plain = Image.new("RGB", (40, 11), "red")
    plain.paste("blue", (20, 0, 40, 11))
    left, right = picture_from_bytes("x", file_of(plain), (11, 20), 3)[:, 5, [5, 15]].T.tolist()
    assert (left, right) == ([255, 0, 0], [0, 0, 255])
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = picture_from_bytes("x", file_of(plain, "JPEG", exif=exif, quality=95), (11, 20), 3)
    assert turned[2, 5, 5] > 200
    assert turned[0, 5, 15] > 200
    clear = Image.new("RGBA", (13, 11), (0, 0, 0, 0))
    assert (picture_from_bytes("x", file_of(clear), (11, 13), 3) == 255).all()
    assert picture_from_bytes("x", file_of(Image.new("L", (13, 11), 7)), (11, 13), 3).unique().tolist() == [7]
    assert picture_from_bytes("x", file_of(Image.new("RGB", (13, 11), "red")), (11, 13), 1).unique().tolist() == [76]
    assert picture_from_bytes("x", file_of(photo(), "WEBP", lossless=True), (22, 26), 3).shape == (3, 22, 26)


def test_a_grey_network_takes_colour_files():
    model = create_model("aa_cnn", 3, (5, 7), in_channels=1, widths=(5, 12), depth_k=8, depth_v=4, num_heads=2)
    images = torch.randint(0, 256, (1, 1, 5, 7), dtype=torch.uint8)
    widget = explore(model, images, mean=MEAN[:1], std=STD[:1]).widget()
    assert Page(widget).uploads(file_of(photo())) == ""
    png = base64.b64decode(widget._own[0]["picture"]["source"].partition(",")[2])
    assert Image.open(io.BytesIO(png)).mode == "L"


def png_that_claims(width: int, height: int) -> bytes:
    """A small file whose header speaks of many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


GIF_THAT_IS_HTML = b"<html><script>alert(1)</script></html>"
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "cat.png is empty, expected a picture."),
        (GIF_THAT_IS_HTML, "cat.png is not a picture that can be read, expected one of JPEG, PNG, WEBP"),
        (POSTSCRIPT, "cat.png is not a picture that can be read"),  # Pillow would start Ghostscript
        (file_of(photo(200, 200))[:5000], "cat.png cannot be read as a picture: "),
        (png_that_claims(10_000, 9_000), f"cat.png has 90,000,000 pixels, expected at most {MOST_PIXELS:,}."),
        (png_that_claims(60_000, 60_000), f"cat.png has far too many pixels, expected at most {MOST_PIXELS:,}."),
        (bytes(MOST_BYTES + 1), "cat.png has 8.0 MB, expected at most 8 MB."),
        (file_of(Image.new("I", (9, 9)), "TIFF"), "cat.png cannot be read as a picture: 32-bit pixels"),
    ],
    ids=["empty", "markup", "PostScript", "cut", "many pixels", "a bomb", "many bytes", "32 bits"],
)
def test_a_bad_file_gives_one_sentence_and_changes_nothing(data, sentence):
    widget = show(network(), pictures()).widget()
    page = Page(widget)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = page.uploads(data)
    assert found.startswith(sentence)
    assert "\n" not in found
    assert len(found) < 200
    assert (widget._own, widget.selection) == ([], FIRST)


def test_a_file_s_name_is_text_and_short():
    widget = show(network(), pictures()).widget()
    page = Page(widget)
    assert page.uploads(file_of(photo()), name=EVIL[:LONGEST_NAME]) == ""
    assert widget._own[0]["picture"]["name"] == EVIL[:LONGEST_NAME]
    sentence = page.uploads(b"", name="a\nb" * 1000)
    assert sentence.startswith("a ba b")
    assert len(sentence) < 2 * LONGEST_NAME
    assert page.uploads(b"", name=["odd"]).startswith("['odd'] is empty")
    assert page.uploads(b"", name="").startswith("The file is empty")


def test_messages_of_another_kind_are_left_alone():
    widget = show(network(), pictures()).widget()
    page = Page(widget)
    for content in ("picture", None, {"kind": "other"}, {}):
        page._message({"method": "custom", "content": content})
    assert page.sent == []
    page._message({"method": "custom", "content": {"kind": "picture", "name": "x"}})  # without a file
    assert "expected the bytes of one file" in page.sent[-1]["content"]["sentence"]


def test_a_defect_is_told_in_the_page_and_raised():
    model = network()
    widget = show(model, pictures()).widget()
    page = Page(widget)
    model.forward = lambda x: 1 / 0
    content = {"kind": "picture", "name": "cat.png", "view": "1"}
    with pytest.raises(ZeroDivisionError):
        widget._receive(widget, content, [memoryview(file_of(photo()))])
    assert page.sent[-1]["content"]["sentence"] == "cat.png cannot be shown: division by zero"
    assert widget._own == []


def test_the_tables_have_a_selection_and_take_no_pictures():
    layer = AAConv2d(3, 12, depth_k=10, depth_v=4, num_heads=2, feature_size=(5, 7))
    widget = explore_tables(layer, torch.randn(3, 5, 7)).widget()
    assert widget.selection == {"row": 2, "column": 3, "head": 0, "mean": False, "pinned": False}
    widget.selection = {"head": 1, "mean": True, "row": 4}
    assert widget.selection == {"row": 4, "column": 3, "head": 1, "mean": True, "pinned": False}
    for wanted, message in (
        ({"head": "mean"}, "head: expected 0 to 1, got 'mean'"),
        ({"column": 7}, "column: expected 0 to 6, got 7"),
        ({"layer": "x"}, "keys: expected some of"),
        ({"mean": 0}, "mean: expected True or False"),
    ):
        with pytest.raises(ValueError, match=message):
            widget.selection = wanted
    with pytest.raises(ValueError, match="add_pictures: explorer: expected one made by explore"):
        widget.add_pictures(pictures(1))
    page = Page(widget)
    page._message({"method": "custom", "content": {"kind": "picture", "name": "x"}}, [memoryview(b"")])
    assert page.sent == []
    with pytest.raises(ValueError, match="mean: expected False, because every place asks with the query of the layer"):
        explore_tables(layer).widget().selection = {"mean": True}


def test_widgets_of_one_explorer_are_independent():
    explorer = show(network(), pictures())
    first, second = explorer.widget(), explorer.widget()
    first.selection = {"row": 0}
    first.add_pictures(pictures(1))
    assert (second.selection, second._own) == (FIRST, [])
    assert "own" not in str(explorer.data["models"][0].keys())
    assert len(explorer.data["pictures"]) == 2


def test_layers_that_can_be_read_once_only():
    widget = show([network(), network()], pictures(), layers={"network 1": iter(["mix"]), "network 2": "mix"}).widget()
    widget.add_pictures(pictures(1))
    assert len(widget._own) == 1
    widget = show(network(), pictures(), layers=iter(["mix"])).widget()
    widget.add_pictures(pictures(1))
    assert len(widget._own) == 1


def test_what_stands_where_no_kernel_is():
    nbconvert = pytest.importorskip("nbconvert")
    widget = show(network(), pictures()).widget()
    data, _ = widget._repr_mimebundle_()
    assert set(data) == {"text/plain", "application/vnd.jupyter.widget-view+json", "image/png"}
    assert data["text/plain"] == repr(widget) == "ExplorerWidget('Attention explorer: PooledCNN')"
    data["image/png"] = base64.b64encode(data["image/png"]).decode()
    output = nbformat.v4.new_output("execute_result", data=data, execution_count=1)
    cell = nbformat.v4.new_code_cell("explore(…).widget()", outputs=[output], execution_count=1)
    text, _ = nbconvert.HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    assert data["image/png"][:100] in text


def test_without_anywidget_the_error_says_what_to_install(monkeypatch):
    explorer = show(network(), pictures(1))
    monkeypatch.delitem(sys.modules, "aacn_lib.explorer.widget")
    original = builtins.__import__

    def refuse(name, *rest):
        if name == "anywidget":
            raise ImportError("No module named 'anywidget'")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ValueError, match=r"widget: expected the package anywidget.*pip install anywidget"):
        explorer.widget()


def test_the_widget_s_script_is_the_page_s_and_fetches_nothing():
    from importlib.resources import files

    widget = show(network(), pictures(1)).widget()
    folder = files("aacn_lib.explorer") / "static"
    for name in ("drawing.js", "explorer.js", "tables.js", "widget.js"):
        assert (folder / name).read_text(encoding="utf-8") in widget._esm
    assert widget._css == (folder / "explorer.css").read_text(encoding="utf-8")
    wrong = ("http:", "https:", "import ", "import(", "fetch(", "innerHTML", "insertAdjacentHTML", "eval(", "url(")
    for elsewhere in wrong:
        assert elsewhere not in widget._esm + widget._css, elsewhere
