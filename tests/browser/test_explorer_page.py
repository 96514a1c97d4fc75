"""The explorers' pages in a real headless Chromium, opened from disk with the network closed."""

import os
import shutil
import statistics
from pathlib import Path

import pytest
import torch
from torch import nn

from aacn_lib import attention_maps, create_model, explore, explore_tables, normalise
from aacn_lib.explorer_data import LARGEST_ERROR
from aacn_lib.features import logit_parts
from aacn_lib.layers import AAConv2d
from aacn_lib.relative import relative_logits

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
HOVER_SECONDS = 0.020
MEAN, STD = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.25])
CLASSES = ["cat", "dog", "eel", "fox", "gnu", "hen", "ibis"]
EVIL = "<img src=x onerror='window.hit=1'></script><script>window.hit=2</script>"
SIZE = (12, 20)
# The colours that a canvas holds, row after row.
PIXELS = """canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found (chromium, chromium-browser, google-chrome)"),
]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, tmp_path):
    """A function that opens an explorer from disk; at the end no request, error or warning may have come up."""
    contexts, wrong = [], []

    def open_explorer(explorer, width=1100, height=900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, offline=True, **options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else wrong.append(r.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.goto(explorer.save(tmp_path / "page.html").as_uri())
        page.wait_for_selector(".aacn-body")
        return page

    yield open_explorer
    for context in contexts:
        context.close()
    assert wrong == []


def strong(model: nn.Module) -> nn.Module:
    """Attention that differs from place to place, as a trained network's does."""
    torch.manual_seed(7)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, AAConv2d):
                layer.qkv.weight.normal_(std=1.5 / layer.in_channels**0.5)
    return model.eval()


def one_layer() -> nn.Module:
    return strong(create_model("aa_cnn", 7, SIZE, widths=(5, 12), depth_k=8, depth_v=4, num_heads=2))


def three_layers() -> nn.Module:
    return strong(create_model("three_aa_conv", 7, SIZE))


def pictures(count=2) -> torch.Tensor:
    torch.manual_seed(5)
    return torch.randint(0, 256, (count, 3, *SIZE), dtype=torch.uint8)


def show(models, images, **options):
    return explore(models, images, mean=MEAN, std=STD, **options)


def read(page, panel=0) -> dict:
    return page.evaluate("panel => document.querySelector('.aacn-explorer').explorer.read(panel)", panel)


def hover(page, selector: str, row: int, column: int, size: tuple[int, int], number=0) -> None:
    """Move the mouse onto the middle of a cell."""
    box = page.locator(selector).nth(number).bounding_box()
    page.mouse.move(
        box["x"] + (column + 0.5) * box["width"] / size[1], box["y"] + (row + 0.5) * box["height"] / size[0]
    )


def assert_same_weights(values: list[float], true: torch.Tensor) -> None:
    assert (torch.tensor(values) - true).abs().max() <= LARGEST_ERROR * true.max()


def screenshot(page, name: str) -> None:
    folder = os.environ.get("AACN_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"explorer_{name}.png"), full_page=True)


def test_hovering_shows_the_attention_of_the_query_under_the_mouse(open_page):
    model, images = one_layer(), pictures()
    page = open_page(show(model, images, labels=[2, 3], classes=CLASSES))
    weights = attention_maps(model, normalise(images, MEAN, STD))["mix"].weights[0]  # (heads, N, N)
    assert read(page)["query"] == [6, 10]
    for selector, row, column in ((".aacn-grid", 0, 19), (".aacn-map", 7, 3), (".aacn-over", 11, 0)):
        hover(page, selector, row, column, SIZE)
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
        assert drawn[mean.argmax(), 1] == drawn[:, 1].max()  # viridis: the brighter, the more green
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
    assert f"distance {found['distance']:.2f} px" in text
    assert f"entropy {found['entropy']:.2f} bits" in text
    cells = page.locator(".aacn-panel tbody tr td:first-child").all_inner_texts()
    best = [divmod(place, 20) for place in weights.topk(5).indices.tolist()]
    assert cells == [f"{row}, {column}" for row, column in best]
    parts = logit_parts(model, normalise(images, MEAN, STD))["mix"]
    row = page.locator(".aacn-panel tbody tr").first.locator("td").all_inner_texts()
    for text, logits in zip(row[2:], (parts.content, parts.position), strict=True):
        value = logits[0, 1, 45, weights.argmax()].item()
        assert float(text.replace("−", "-")) == pytest.approx(value, abs=0.011)


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
    assert_same_weights(found["values"], maps["features.4"].weights[1, 2, 59])
    assert page.locator(".aacn-prediction").inner_text() != before
    share, number = model(normalise(images, MEAN, STD)).softmax(1)[1].max(0)
    verdict = page.locator(".aacn-tables .aacn-readout").inner_text()
    assert verdict.startswith(f"{CLASSES[number]} with {100 * share:.1f} %")
    assert ("it is fox" in verdict) == (number != 3)
    drawn = page.locator(".aacn-head canvas").nth(1).evaluate(PIXELS)
    page.get_by_label("each head on its own scale").check()
    own = torch.tensor(page.locator(".aacn-head canvas").nth(1).evaluate(PIXELS)).reshape(-1, 4)
    assert own[:, 0].max() == 253  # the brightest of viridis
    assert own.flatten().tolist() != drawn
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


@pytest.mark.parametrize("carrier", ["attention", "tables"])
def test_a_narrow_window_needs_no_sideways_scrolling_and_takes_a_finger(open_page, carrier):
    layer = AAConv2d(3, 12, depth_k=10, depth_v=4, num_heads=2, feature_size=SIZE)
    explorer = (
        show({"a network with a rather long name": one_layer(), "b" * 60: three_layers()}, pictures())
        if carrier == "attention"
        else explore_tables(layer, name="n" * 80)
    )
    page = open_page(explorer, width=400, has_touch=True, is_mobile=True)
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [400, 400]
    box = page.locator(".aacn-grid").first.bounding_box()
    assert box["x"] >= 0
    assert 150 < box["width"] <= 400
    page.touchscreen.tap(box["x"] + box["width"] * 3.5 / 20, box["y"] + box["height"] * 2.5 / 12)
    assert (read(page)["query"], read(page)["pinned"]) == ([2, 3], True)
    screenshot(page, f"narrow_{carrier}")


@pytest.mark.parametrize(
    ("system", "jupyter", "dark"),
    [("light", None, False), ("dark", None, True), ("dark", "true", False), ("light", "false", True)],
)
def test_light_and_dark(open_page, system, jupyter, dark):
    page = open_page(show(one_layer(), pictures(1)), color_scheme=system)
    if jupyter:
        page.evaluate("value => document.body.setAttribute('data-jp-theme-light', value)", jupyter)
    ink, paper = page.evaluate("""() => {
        const style = getComputedStyle(document.querySelector('.aacn-explorer'));
        return [style.color, style.backgroundColor].map((text) => text.match(/\\d+/g).slice(0, 3).map(Number));
    }""")
    assert (sum(paper) < 150, sum(ink) > 600) == (dark, dark)
    screenshot(page, f"{'dark' if dark else 'light'}_{jupyter}")


def test_names_are_harmless(open_page):
    page = open_page(show({EVIL: one_layer()}, pictures(1), labels=[1], classes=[EVIL] * 7))
    assert page.locator(".aacn-name").inner_text() == EVIL
    assert EVIL in page.locator(".aacn-class").first.inner_text()
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("window.hit") is None
    page = open_page(explore_tables(AAConv2d(3, 8, depth_k=4, depth_v=4, num_heads=2, feature_size=5), name=EVIL))
    assert page.locator(".aacn-name").inner_text() == EVIL
    assert page.evaluate("window.hit") is None


def test_the_page_is_alive_in_time(open_page):
    """From a move of the mouse to the frame that shows it: 8 heads of 16×16, as in the middle of an AA-ResNet-18."""
    model = strong(create_model("aa_cnn", 7, (16, 16), widths=(5, 12), depth_k=160, depth_v=8, num_heads=8))
    images = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    page = open_page(show(model, images))
    times = page.evaluate("""async () => {
        const grid = document.querySelector('.aacn-grid'), box = grid.getBoundingClientRect(), times = [];
        for (let i = 0; i < 60; i++) {
            // A hand moves at any time between two frames.
            await new Promise((resume) => requestAnimationFrame(() => setTimeout(resume, i % 16)));
            const at = (i * 37) % 256;
            const start = performance.now();
            grid.dispatchEvent(new PointerEvent('pointermove', {
                bubbles: true,
                clientX: box.left + (at % 16 + 0.5) * box.width / 16,
                clientY: box.top + (Math.floor(at / 16) + 0.5) * box.height / 16,
            }));
            const drawn = performance.now();
            await new Promise(requestAnimationFrame);
            times.push([drawn - start, performance.now() - start]);
        }
        return times;
    }""")
    computed, painted = (statistics.median(column) / 1000 for column in zip(*times, strict=True))
    print(f"hover: computed and drawn in {1000 * computed:.1f} ms, next frame after {1000 * painted:.1f} ms (medians)")
    assert read(page)["query"] == list(divmod((59 * 37) % 256, 16))
    # A frame at 60 Hz takes 16.7 ms, so most of this is waiting for the screen.
    assert painted <= HOVER_SECONDS


def test_two_copies_of_one_output_live_side_by_side(open_page, tmp_path):
    explorer = show(one_layer(), pictures(1))
    page = open_page(explorer)
    page.goto(explorer.save(tmp_path / "page.html").as_uri())
    (tmp_path / "both.html").write_text(f"<body>{explorer.to_html()}{explorer.to_html()}</body>", encoding="utf-8")
    page.goto((tmp_path / "both.html").as_uri())
    assert page.locator(".aacn-body").count() == 2
    assert page.locator(".aacn-still").count() == 0


def test_without_scripts_the_still_picture_stays(open_page, browser, tmp_path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(show(one_layer(), pictures(1)).save(tmp_path / "page.html").as_uri())
    still = page.locator(".aacn-still")
    assert still.bounding_box()["width"] > 300
    assert still.get_attribute("alt") == "Attention explorer: PooledCNN"
    context.close()


def test_the_tables_explorer(open_page):
    layer = AAConv2d(3, 12, depth_k=10, depth_v=4, num_heads=2, feature_size=(5, 7))
    x = torch.randn(3, 5, 7)
    page = open_page(explore_tables(layer, x))
    q = layer.qkv_heads(x[None])[0]
    true = relative_logits(q, layer.rel_h, layer.rel_w)[0] / 5**0.5  # (heads, N, N)
    page.get_by_label("head", exact=True).select_option("head 1")
    box = page.locator(".aacn-grid").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    for row, column in ((0, 0), (3, 2), (4, 6)):
        hover(page, ".aacn-grid", row, column, (5, 7))
        found = read(page)
        assert (found["query"], found["head"]) == ([row, column], 1)
        torch.testing.assert_close(torch.tensor(found["values"]), true[1, row * 7 + column], rtol=0, atol=1e-3)
        assert found["rowsInUse"] == {"relH": [4 - row, 8 - row], "relW": [6 - column, 12 - column]}
        answers = torch.tensor(found["answers"]["relW"])
        torch.testing.assert_close(answers, layer.rel_w @ q[0, 1, row, column] / 5**0.5, rtol=0, atol=1e-3)
        frame = page.locator(".aacn-window").nth(1).bounding_box()
        strip = page.locator(".aacn-strip").nth(1).bounding_box()
        assert (frame["x"] - strip["x"]) / strip["width"] == pytest.approx((6 - column) / 13, abs=0.01)
        assert frame["width"] / strip["width"] == pytest.approx(7 / 13, abs=0.01)
    page.mouse.up()
    page.get_by_label("every place asks with the mean query").check()
    here = read(page)["answers"]
    page.locator(".aacn-grid").press("ArrowUp")
    assert read(page)["query"] == [3, 6]
    assert read(page)["answers"] == here  # one query for all places: only the window moves
    mean = q[0, 1].mean(dim=(0, 1)) @ layer.rel_h.T / 5**0.5
    torch.testing.assert_close(torch.tensor(here["relH"]), mean, rtol=0, atol=1e-3)
    screenshot(page, "tables")
