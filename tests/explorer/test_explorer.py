import base64
import io
import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest
import torch
from PIL import Image
from torch import nn

from aacn_lib import attention_maps, create_model, explore, explore_tables, normalise
from aacn_lib.explorer.data import CARRIER_BYTES, LARGEST_ERROR, dequantised, largest_error, layer_data, reduce_to
from aacn_lib.layers import AAConv2d
from aacn_lib.models import LogitParts
from aacn_lib.ops import relative_logits

MEAN, STD = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.25])
CLASSES = ["cat", "dog", "eel", "fox", "gnu", "hen", "ibis"]
EVIL = """"><img src=x onerror='alert(1)'></script><script>alert(2)</script>"""


def pictures(count=2, size=(11, 13)) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8)


def network(size=(11, 13), **options) -> nn.Module:
    return create_model("aa_cnn", 7, size, widths=(5, 12), depth_k=8, depth_v=4, num_heads=2, **options)


def three_layers(size=(12, 20)) -> nn.Module:
    return create_model("three_aa_conv", 7, size)


def show(models, images, **options):
    return explore(models, images, mean=MEAN, std=STD, **options)


def data_of(html: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" class="aacn-data">(.*?)</script>', html, re.S)[1])


def decoded(layer: dict, picture: int) -> LogitParts:
    H, W = layer["size"]
    shape = (layer["heads"], layer["tokens"] + H * W, layer["depth"])
    q, k = (dequantised(layer["maps"][picture][name], shape)[None] for name in "qk")
    tables = (
        layer[name] and torch.frombuffer(bytearray(base64.b64decode(layer[name])), dtype=torch.float32)
        for name in ("relH", "relW")
    )
    return LogitParts(q, k, *(t if t is None else t.reshape(-1, layer["depth"]) for t in tables), (H, W))


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (lambda: network(), (11, 13)),
        (lambda: three_layers(), (12, 20)),
        (lambda: create_model("content_cnn", 7, (5, 7)), (5, 7)),
        (lambda: create_model("vit", 7, (8, 12), depth=2, width=12, num_heads=3, mlp_width=5), (8, 12)),
    ],
)
def test_the_page_holds_what_gives_the_attention(model, size):
    model, images = model().train(), pictures(2, size)
    html = show(model, images).to_html()
    data, maps = data_of(html), attention_maps(model, normalise(images, MEAN, STD))
    (shown,) = data["models"]
    assert [layer["name"] for layer in shown["layers"]] == list(maps)
    assert model.training
    for layer, (name, true) in zip(shown["layers"], maps.items(), strict=True):
        assert (tuple(layer["size"]), layer["tokens"]) == (true.size, true.tokens), name
        for picture in range(2):
            parts = decoded(layer, picture)
            error = ((parts.content + parts.position).softmax(-1)[0] - true.weights[picture]).abs().amax(-1)
            assert (error / true.weights[picture].amax(-1)).max() < LARGEST_ERROR / 4
    assert data["notes"] == []


def test_large_logits_are_kept_well_enough_and_measured():
    torch.manual_seed(1)
    q, k = 12 * torch.randn(1, 2, 35, 20), 12 * torch.randn(1, 2, 35, 20)  # logits of several hundred
    parts = LogitParts(q, k, torch.randn(9, 20), torch.randn(13, 20), (5, 7))
    assert (parts.content + parts.position).abs().max() > 300
    error = largest_error(parts, layer_data("x", parts, 1, 2))
    again = decoded(layer_data("x", parts, 1, 2), 0)
    true, found = ((p.content + p.position).softmax(-1) for p in (parts, again))
    assert error == pytest.approx(((true - found).abs().amax(-1) / true.amax(-1)).max().item(), rel=1e-3)
    assert error > 0


def test_a_note_tells_when_16_bits_are_too_few():
    model = network()
    with torch.no_grad():
        model.mix.qkv.weight.mul_(300)
    (note,) = show(model, pictures()).notes
    assert re.fullmatch(r"mix: weights are off by up to \d+\.\d% of their query's largest\.", note)


def test_predictions_labels_and_pictures():
    model, images = network(), pictures(3)
    data = show(model, images, labels=torch.tensor([2, 0, 6]), classes=CLASSES).data
    assert [picture["label"] for picture in data["pictures"]] == ["eel", "cat", "ibis"]
    share = model.eval()(normalise(images, MEAN, STD)).softmax(1)
    for picture, best in enumerate(data["models"][0]["predictions"]):
        assert len(best) == 5
        assert [CLASSES.index(name) for name, _ in best] == share[picture].topk(5).indices.tolist()
        torch.testing.assert_close(torch.tensor([p for _, p in best]), share[picture].topk(5).values)
        png = base64.b64decode(data["pictures"][picture]["source"].partition(",")[2])
        pixels = torch.tensor(list(Image.open(io.BytesIO(png)).tobytes()), dtype=torch.uint8)
        assert torch.equal(pixels.reshape(11, 13, 3).permute(2, 0, 1), images[picture])
    assert show(model, images, labels=[1, 2, 3]).data["pictures"][1]["label"] == "class 2"


def test_grey_pictures():
    model = create_model("aa_cnn", 3, (5, 7), in_channels=1, widths=(5, 12), depth_k=8, depth_v=4, num_heads=2)
    images = torch.randint(0, 256, (1, 1, 5, 7), dtype=torch.uint8)
    explorer = explore(model, images, mean=MEAN[:1], std=STD[:1])
    png = base64.b64decode(explorer.data["pictures"][0]["source"].partition(",")[2])
    assert Image.open(io.BytesIO(png)).mode == "L"
    assert explorer.png.startswith(b"\x89PNG")


def test_two_networks_and_chosen_layers():
    models, images = {"first": three_layers(), "second": network((12, 20))}, pictures(1, (12, 20))
    data = show(models, images, layers={"first": ["features.8", "features.4"], "second": "mix"}).data
    assert [model["name"] for model in data["models"]] == ["first", "second"]
    assert [layer["name"] for layer in data["models"][0]["layers"]] == ["features.8", "features.4"]
    assert [layer["name"] for layer in data["models"][1]["layers"]] == ["mix"]
    names = [model["name"] for model in show(list(models.values()), images).data["models"]]
    assert names == ["network 1", "network 2"]


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]


def test_the_page_needs_nothing_from_elsewhere(tmp_path):
    explorer = show(network(), pictures())
    page = explorer.save(tmp_path / "folder" / "page.html").read_text(encoding="utf-8")
    assert explorer.to_html() in page
    tags = Tags(page)
    assert {"html", "title", "style", "script", "img"} <= set(tags.found)
    assert all(address.startswith("data:") for address in tags.addresses)
    for elsewhere in ("http:", "https:", "//cdn", "require(", "import(", "fetch(", "@import", "url("):
        assert elsewhere not in page, elsewhere
    assert "default-src 'none'" in page


def test_the_same_data_give_the_same_text_and_other_data_another_name():
    model, images = network(), pictures()
    first, again = show(model, images), show(model, images)
    assert first.to_html() == again.to_html()
    assert first.png == again.png
    other = show(model, images.flip(0)).to_html()
    name = r'data-explorer="(aacn-[0-9a-f]{12})"'
    assert re.search(name, other)[1] != re.search(name, first.to_html())[1]
    assert "EXPLORER_ID" not in other


def test_what_a_notebook_gets():
    explorer = show(network(), pictures())
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/html"] == explorer.to_html()
    assert explorer.size_bytes == len(explorer.to_html().encode())
    image = Image.open(io.BytesIO(bundle["image/png"]))
    assert 300 < image.width < 1100
    assert len(bundle["image/png"]) < 60_000
    assert re.fullmatch(r"Explorer\('Attention explorer: PooledCNN', 0\.\d\d MB\)", bundle["text/plain"])


def test_the_still_picture_shows_no_second_figure_in_a_notebook():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    assert show([network(), network()], pictures(), classes=["$x_{"] * 7).png
    assert plt.get_fignums() == before


def test_names_never_become_markup(tmp_path):
    model, images = network(), pictures(1)
    page = show({EVIL: model}, images, classes=[EVIL] * 7, labels=[0]).save(tmp_path / "page.html").read_text()
    harmless = show({"x": model}, images, classes=["x"] * 7, labels=[0]).save(tmp_path / "page.html").read_text()
    assert Tags(page).found == Tags(harmless).found
    assert data_of(page)["models"][0]["name"] == EVIL
    assert data_of(page)["pictures"][0]["label"] == EVIL


@pytest.mark.parametrize("name", ["drawing.js", "explorer.js", "tables.js", "widget.js"])
def test_the_scripts_write_no_markup_and_cannot_end_their_element(name):
    text = (files("aacn_lib.explorer") / "static" / name).read_text(encoding="utf-8")
    for wrong in ("innerHTML", "insertAdjacentHTML", "outerHTML", "document.write", "eval(", "</script", "<!--"):
        assert wrong not in text, wrong


def test_what_is_left_out_and_in_which_order():
    layers = {(0, "a"): (4, 100, 10), (0, "b"): (2, 50, 10), (1, "c"): (2, 90, 10)}
    # Of n pictures: 10 n + n (4 · 100 + 2 · 50 + 2 · 90) + 30 bytes beside the carrier.
    cases = [
        (2790, 4, {(0, "a"): 4, (0, "b"): 2, (1, "c"): 2}),
        (2789, 3, {(0, "a"): 4, (0, "b"): 2, (1, "c"): 2}),
        (1410, 2, {(0, "a"): 4, (0, "b"): 2, (1, "c"): 2}),
        (1409, 2, {(0, "b"): 2, (1, "c"): 2}),
        (600, 2, {(0, "b"): 2, (1, "c"): 2}),
        (599, 1, {(0, "b"): 2, (1, "c"): 2}),
        (310, 1, {(0, "b"): 2, (1, "c"): 2}),
        (309, 1, {(0, "b"): 2, (1, "c"): 1}),
        (219, 1, {(0, "b"): 1, (1, "c"): 1}),
    ]
    for limit, count, heads in cases:
        assert reduce_to(CARRIER_BYTES + limit, [10] * 4, layers) == (count, heads), limit
    with pytest.raises(ValueError, match=f"expected at least {CARRIER_BYTES + 170} for one head of one picture"):
        reduce_to(CARRIER_BYTES + 169, [10] * 4, layers)


@pytest.mark.parametrize(("limit", "left"), [(550_000, 3), (230_000, 2), (170_000, 1)])
def test_a_page_keeps_its_limit_and_says_what_it_left_out(limit, left):
    explorer = show(three_layers(), pictures(4, (12, 20)), limit_bytes=limit)
    assert explorer.size_bytes <= limit
    (model,) = explorer.data["models"]
    names = ["features.0", "features.4", "features.8"]  # the largest map first
    assert [layer["name"] for layer in model["layers"]] == names[-left:]
    count = len(explorer.data["pictures"])
    assert count < 4
    gone = [f"Layers left out: {', '.join(names[:-left])}."] if left < 3 else []
    assert list(explorer.notes) == [f"Kept under {limit / 1e6:g} MB.", f"{count} of 4 pictures shown.", *gone]
    assert len(model["predictions"]) == len(model["layers"][0]["maps"]) == count
    assert explorer.png


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.rand(2, 3, 11, 13)}, r"images: expected uint8 \(N, C, H, W\).*got 'torch.float32"),
        ({"images": pictures()[:0]}, "images: expected uint8"),
        ({"labels": [1]}, r"labels: expected 2 numbers, got \[1\]"),
        ({"labels": [1, 7]}, r"labels: expected 0 to 6, got \[1, 7\]"),
        ({"classes": ["a", "b"]}, "classes: expected 7 names"),
        ({"layers": "mixx"}, "got 'mixx'; did you mean 'mix'?"),
        ({"layers": []}, "layers: expected at least one"),
        ({"layers": {"other": "mix"}}, "layers: expected an entry for 'PooledCNN'"),
        ({"models": create_model("plain_cnn", 7, (11, 13))}, "expected networks with AAConv2d"),
        ({"models": []}, "models: expected one network or two"),
        ({"models": [network(), network(), network()]}, "models: expected one network or two"),
        ({"limit_bytes": 1000}, "limit_bytes: expected at least"),
        ({"mean": MEAN[:1]}, "mean and std must have shape"),
    ],
)
def test_what_cannot_be_shown_is_named(change, message):
    arguments = {"models": network(), "images": pictures(), "mean": MEAN, "std": STD} | change
    with pytest.raises(ValueError, match=message):
        explore(arguments.pop("models"), arguments.pop("images"), **arguments)


def test_numbers_that_are_not_finite_are_refused():
    model = network()
    with torch.no_grad():
        model.mix.rel_h[0, 0] = float("nan")
    with pytest.raises(ValueError, match="mix: expected finite queries, keys and tables"):
        show(model, pictures())


def test_the_tables_of_a_layer():
    layer = AAConv2d(3, 12, depth_k=10, depth_v=4, num_heads=2, feature_size=(5, 7))
    x = torch.randn(3, 5, 7)
    data = data_of(explore_tables(layer, x, name=EVIL).to_html())
    assert (data["name"], data["size"], data["heads"], data["depth"], data["ownQueries"]) == (EVIL, [5, 7], 2, 5, True)
    q = dequantised(data["q"], (2, 35, 5))
    torch.testing.assert_close(q, layer.qkv_heads(x[None])[0][0].flatten(1, 2), rtol=0, atol=1e-4)
    rows = torch.frombuffer(bytearray(base64.b64decode(data["relW"])), dtype=torch.float32).reshape(13, 5)
    assert torch.equal(rows, layer.rel_w.detach())
    other = explore_tables(layer, torch.randn(3, 4, 9)).data  # a map that the tables are resized for
    assert other["size"] == [4, 9]


def test_the_tables_of_a_layer_without_a_picture():
    layer = AAConv2d(3, 12, depth_k=10, depth_v=4, num_heads=2, feature_size=(5, 7))
    explorer = explore_tables(layer)
    q = dequantised(explorer.data["q"], (2, 35, 5)).reshape(1, 2, 5, 7, 5)
    nothing = layer.qkv_heads(torch.zeros(1, 3, 5, 7))[0]
    torch.testing.assert_close(relative_logits(q, *layer.tables(5, 7)), relative_logits(nothing, *layer.tables(5, 7)),
                               rtol=0, atol=1e-4)  # fmt: skip
    assert not explorer.data["ownQueries"]
    assert explorer.png.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("layer", "inputs", "message"),
    [
        (nn.Conv2d(3, 3, 1), None, "expected an AAConv2d, got 'Conv2d'"),
        (AAConv2d(3, 8, depth_k=4, depth_v=4, num_heads=2, relative=False), None, "relative positions, got 'none'"),
        (
            AAConv2d(3, 8, depth_k=4, depth_v=4, num_heads=2, feature_size=5, bias=False),
            None,
            "inputs: expected what a layer without bias sees",
        ),
        (AAConv2d(3, 8, depth_k=4, depth_v=4, num_heads=2, feature_size=5), torch.rand(1, 3, 5, 5), "(in_channels"),
    ],
)
def test_tables_that_cannot_be_shown(layer, inputs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        explore_tables(layer, inputs)


def test_the_picture_of_the_tables_is_checked():
    layer = AAConv2d(3, 8, depth_k=4, depth_v=4, num_heads=2, feature_size=5)
    image = torch.randint(0, 256, (3, 10, 10), dtype=torch.uint8)
    assert explore_tables(layer, image=image).data["picture"].startswith("data:image/png;base64,")
    assert explore_tables(layer).data["picture"] is None
    with pytest.raises(ValueError, match=r"image: expected uint8 \(C, H, W\), C 1 or 3, got 'torch.float32 \(3,"):
        explore_tables(layer, image=image / 255)
