"""The attention explorer in a real headless Chromium, opened from disk with the network closed: what it shows."""

import pytest
import torch
from explorer_pages import (
    CLASSES,
    MEAN,
    NEEDS_CHROMIUM,
    SIZE,
    STD,
    assert_same_weights,
    hover,
    one_layer,
    pictures,
    read,
    screenshot,
    show,
    strong,
    three_layers,
)
from torch import nn

from aacn_lib import attention_maps, create_model, normalise
from aacn_lib.layers import AAConv2d
from aacn_lib.models import logit_parts

# The colours that a canvas holds, row after row.
PIXELS = """canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)"""

pytestmark = NEEDS_CHROMIUM


def test_hovering_shows_the_attention_of_the_query_under_the_mouse(open_page):
    model, images = one_layer(), pictures()
    page = open_page(show(model, images, labels=[2, 3], classes=CLASSES))
    weights = attention_maps(model, normalise(images, MEAN, STD))["mix"].weights[0]  # (heads, N, N)
    assert read(page)["query"] == [6, 10]
    for row, column in ((0, 19), (7, 3), (11, 0)):
        hover(page, ".aacn-over", row, column, SIZE)
        found, query = read(page), row * SIZE[1] + column
        assert (found["query"], found["head"], found["view"]) == ([row, column], "mean", "attention")
        assert_same_weights(found["values"], weights[:, query].mean(0))
        for head in range(2):
            assert_same_weights(found["heads"][head], weights[head, query])
        # What is drawn is what was computed: the strongest place is the brightest, and the map over the picture is too.
        mean = weights[:, query].mean(0)
        drawn = torch.tensor(page.locator(".aacn-map").evaluate(PIXELS)).reshape(-1, 4)
        over = torch.tensor(page.locator(".aacn-over").evaluate(PIXELS)).reshape(-1, 4)
        assert drawn.shape == over.shape == (SIZE[0] * SIZE[1], 4)
        assert drawn[mean.argmax(), 1] == drawn[:, 1].max()  # cividis: the brighter, the more green
        assert len(drawn.unique(dim=0)) > 20
        assert (drawn[:, 3] == 255).all()
        assert (over[:, 3] < 255).all()
    screenshot(page, "hover")


def test_the_read_outs(open_page):
    model, images = one_layer(), pictures()
    page = open_page(show(model, images))
    page.get_by_label("head of").select_option("head 1")
    hover(page, ".aacn-grid", 2, 5, SIZE)
    weights = attention_maps(model, normalise(images, MEAN, STD))["mix"].weights[0, 1, 2 * 20 + 5]
    y, x = torch.meshgrid(torch.arange(12), torch.arange(20), indexing="ij")
    distance = (weights * torch.hypot(y - 2.0, x - 5.0).flatten()).sum().item()
    entropy = -(weights * weights.log2()).sum().item()
    found = read(page)
    assert found["distance"] == pytest.approx(distance, rel=0.01)
    assert found["entropy"] == pytest.approx(entropy, rel=0.01)
    text = page.locator(".aacn-panel > .aacn-readout").inner_text()
    assert f"distance {found['distance']:.1f} px" in text
    assert f"entropy {found['entropy']:.2f} bits" in text
    cells = page.locator(".aacn-panel tbody tr td:first-child").all_inner_texts()
    best = [divmod(place, 20) for place in weights.topk(5).indices.tolist()]
    assert cells == [f"{row}, {column}" for row, column in best]
    parts = logit_parts(model, normalise(images, MEAN, STD))["mix"]
    row = page.locator(".aacn-panel tbody tr").first.locator("td").all_inner_texts()
    for text, logits in zip(row[2:], (parts.content, parts.position), strict=True):
        value = logits[0, 1, 45, weights.argmax()].item()
        assert float(text.replace("−", "-")) == pytest.approx(value, abs=0.011)


def test_the_map_is_read_without_moving_the_query(open_page):
    model, images = one_layer(), pictures()
    page = open_page(show(model, images))
    page.get_by_label("head of").select_option("head 1")
    hover(page, ".aacn-over", 2, 5, SIZE)
    hover(page, ".aacn-map", 7, 3, SIZE)
    weights = attention_maps(model, normalise(images, MEAN, STD))["mix"].weights[0, 1, 2 * 20 + 5]
    assert read(page)["query"] == [2, 5]
    caption = page.locator("figcaption").nth(1)
    assert caption.inner_text() == f"row 7, column 3: {100 * weights[7 * 20 + 3]:.2f} %"
    page.mouse.down()
    page.mouse.up()
    assert (read(page)["query"], read(page)["pinned"]) == ([2, 5], False)
    page.mouse.move(2, 2)
    assert caption.inner_text() == "attention, head 1: point to read a cell"


def test_distances_are_in_pixels_of_the_picture(open_page):
    """On a map whose cells are 4 pixels high and 2 wide."""
    layer = AAConv2d(3, 7, depth_k=8, depth_v=4, num_heads=2, feature_size=(3, 10))
    model = strong(nn.Sequential(nn.AvgPool2d((4, 2)), layer, nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    images = pictures(1)
    page = open_page(show(model, images))
    hover(page, ".aacn-grid", 1, 2, (3, 10))
    weights = attention_maps(model, normalise(images, MEAN, STD))["1"].weights[0, :, 12].mean(0)
    y, x = torch.meshgrid(4.0 * torch.arange(3), 2.0 * torch.arange(10), indexing="ij")
    assert read(page)["distance"] == pytest.approx((weights * torch.hypot(y - 4, x - 4).flatten()).sum().item(), 0.01)


def test_the_two_parts_add_up_to_what_the_softmax_sees(open_page):
    model, images = one_layer(), pictures()
    page = open_page(show(model, images))
    hover(page, ".aacn-grid", 4, 9, SIZE)
    parts = logit_parts(model, normalise(images, MEAN, STD))["mix"]
    found = {}
    for view, button in (("content", "content logits"), ("position", "position logits"), ("attention", "attention")):
        page.get_by_role("button", name=button, exact=True).click()
        assert read(page)["view"] == view
        found[view] = torch.tensor(read(page)["heads"])
    query = 4 * 20 + 9
    torch.testing.assert_close(found["content"], parts.content[0, :, query], rtol=0, atol=0.01)
    torch.testing.assert_close(found["position"], parts.position[0, :, query], rtol=0, atol=0.01)
    assert found["position"].std() > 0.1
    total = (found["content"] + found["position"]).softmax(-1)
    torch.testing.assert_close(total, found["attention"], rtol=1e-4, atol=1e-7)


def test_pinning(open_page):
    page = open_page(show(one_layer(), pictures()))
    hover(page, ".aacn-grid", 4, 9, SIZE)
    page.mouse.down()
    page.mouse.up()
    hover(page, ".aacn-grid", 8, 2, SIZE)
    assert (read(page)["query"], read(page)["pinned"]) == ([4, 9], True)
    assert page.locator(".aacn-pinned").count() == 2
    page.mouse.down()  # a click elsewhere moves the pin; a drag carries it along
    hover(page, ".aacn-grid", 9, 7, SIZE)
    page.mouse.up()
    hover(page, ".aacn-grid", 1, 1, SIZE)
    assert (read(page)["query"], read(page)["pinned"]) == ([9, 7], True)
    hover(page, ".aacn-grid", 9, 7, SIZE)
    page.mouse.down()
    page.mouse.up()
    assert not read(page)["pinned"]
    hover(page, ".aacn-grid", 1, 1, SIZE)
    assert read(page)["query"] == [1, 1]


def test_the_keyboard_alone(open_page):
    model, images = one_layer(), pictures()
    page = open_page(show(model, images))
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('aacn-grid')"):
            break
    else:
        pytest.fail("the picture cannot be reached with Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    for key in ("ArrowUp", "ArrowUp", "ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
    assert read(page)["query"] == [5, 9]
    page.keyboard.press("Enter")
    assert read(page)["pinned"]
    assert page.get_by_role("status").inner_text().startswith("Query row 5, column 9 (pinned), mean:")
    page.keyboard.press("Escape")
    assert not read(page)["pinned"]
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    assert read(page)["query"] == [5, 19]  # the edge holds
    weights = attention_maps(model, normalise(images, MEAN, STD))["mix"].weights[0, :, 5 * 20 + 19]
    assert_same_weights(read(page)["heads"][1], weights[1])


def test_every_control_has_a_name(open_page):
    page = open_page(show([one_layer(), three_layers()], pictures(), labels=[0, 1]))
    for role in ("button", "combobox", "slider", "checkbox", "application"):
        nodes = page.get_by_role(role)
        assert nodes.count() > 0, role
        for node in nodes.all():
            # A label's text, an aria-label or text of its own; a title alone would not be read everywhere.
            name = node.evaluate("n => n.ariaLabel || (n.labels && n.labels[0]?.textContent) || n.textContent")
            assert name.strip(), node.evaluate("n => n.outerHTML")


def test_layers_heads_pictures_and_scales(open_page):
    model, images = three_layers(), pictures()
    page = open_page(show(model, images, labels=[2, 3], classes=CLASSES))
    maps = attention_maps(model, normalise(images, MEAN, STD))
    hover(page, ".aacn-grid", 5, 9, SIZE)
    page.get_by_label("layer of").select_option("features.4")
    hover(page, ".aacn-grid", 5, 9, (6, 10))
    page.locator(".aacn-head").nth(3).click()  # the mean stands first
    found = read(page)
    assert (found["layer"], found["size"], found["head"], found["query"]) == ("features.4", [6, 10], 2, [5, 9])
    assert_same_weights(found["values"], maps["features.4"].weights[0, 2, 59])
    assert page.get_by_label("head of").input_value() == "2"
    before = page.locator(".aacn-prediction").inner_text()
    page.get_by_role("button", name="picture 2: fox").click()
    found = read(page)
    assert found["picture"] == 1
    page.keyboard.press("ArrowUp")  # a click on a button gives the keys back to the picture
    assert read(page)["query"] == [4, 9]
    page.keyboard.press("ArrowDown")
    assert_same_weights(found["values"], maps["features.4"].weights[1, 2, 59])
    assert page.locator(".aacn-prediction").inner_text() != before
    share, number = model(normalise(images, MEAN, STD)).softmax(1)[1].max(0)
    verdict = page.locator(".aacn-tables .aacn-readout").inner_text()
    right = "right" if number == 3 else "wrong, it is fox"
    assert verdict == f"{CLASSES[number]}, {100 * share:.1f} %: {right}"
    large = torch.tensor(page.locator(".aacn-map").evaluate(PIXELS)).reshape(-1, 4)
    assert large[:, 0].max() == 254  # the brightest of cividis: the large map fills its scale, which stands beside it
    assert large[:, 3].eq(255).all()
    # Over the picture each place is covered by the root of its share of the largest weight, the largest by 80 %.
    over = torch.tensor(page.locator(".aacn-over").evaluate(PIXELS)).reshape(-1, 4)[:, 3]
    weights = maps["features.4"].weights[1, 2, 59]
    assert (over - 0.8 * 255 * (weights / weights.max()).sqrt()).abs().max() <= 8
    every = maps["features.4"].weights[1, :, 59]
    weakest = every.amax(dim=1).argmin().item()
    small = page.locator(".aacn-head canvas").nth(1 + weakest)
    own = torch.tensor(small.evaluate(PIXELS)).reshape(-1, 4)
    assert own[:, 0].max() == 254
    page.get_by_label("each small map on its own scale").uncheck()
    common = torch.tensor(small.evaluate(PIXELS)).reshape(-1, 4)
    assert common[:, 0].max() < 254  # another head has the largest weight
    most = page.locator(".aacn-head").nth(1 + weakest).inner_text()
    assert f"most {100 * every[weakest].max():.2f} %" in most.replace("\n", " ")
    screenshot(page, "layers")


def test_two_networks_side_by_side(open_page):
    models, images = {"one": one_layer(), "three": three_layers()}, pictures()
    page = open_page(show(models, images))
    left, right = (panel.bounding_box() for panel in page.locator(".aacn-panel").all())
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    page.get_by_label("layer of three").select_option("features.8")
    hover(page, ".aacn-over", 11, 13, SIZE)
    # The same place of the picture, on each network's own map.
    for panel, (model, layer, query) in enumerate((("one", "mix", [11, 13]), ("three", "features.8", [2, 3]))):
        found = read(page, panel)
        assert (found["model"], found["layer"], found["query"]) == (model, layer, query)
        true = attention_maps(models[model], normalise(images, MEAN, STD))[layer]
        assert_same_weights(found["values"], true.weights[0, :, query[0] * true.size[1] + query[1]].mean(0))
    screenshot(page, "two")


def test_a_transformer(open_page):
    model = create_model("vit", 7, SIZE, depth=1, width=12, num_heads=3, mlp_width=5).eval()
    images = pictures(1)
    page = open_page(show(model, images))
    hover(page, ".aacn-over", 2, 1, (3, 5))
    true = attention_maps(model, normalise(images, MEAN, STD))["layers.0.attention"]
    for head in range(3):
        assert_same_weights(read(page)["heads"][head], true.between_pixels[0, head, 11])
    token = true.weights[0, :, 12, 0].mean()
    assert f"{100 * token:.2f} % of it on the class token" in page.locator(".aacn-panel > .aacn-readout").inner_text()
    page.get_by_role("button", name="position logits").click()
    assert page.get_by_text("this layer has no relative positions").is_visible()
