"""The explorers' pages in a real headless Chromium: small windows, dark themes, odd names, speed, and the tables."""

import pytest
import torch
from explorer_pages import (
    HOVER_SECONDS,
    NEEDS_CHROMIUM,
    SIZE,
    hover,
    one_layer,
    pictures,
    read,
    screenshot,
    seconds_of_moves,
    show,
    strong,
    three_layers,
)

from aacn_lib import create_model, explore_tables
from aacn_lib.layers import AAConv2d
from aacn_lib.ops import relative_logits

EVIL = """"><img src=x onerror='window.hit=1'></script><script>window.hit=2</script>"""

pytestmark = NEEDS_CHROMIUM


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


@pytest.mark.parametrize(("width", "beside"), [(1200, True), (800, False)])
def test_the_heads_stand_beside_the_map_where_there_is_room(open_page, width, beside):
    page = open_page(show(one_layer(), pictures()), width=width)
    picture, heads = (page.locator(name).first.bounding_box() for name in (".aacn-grid", ".aacn-heads"))
    assert picture["width"] > 250
    assert (heads["y"] < picture["y"] + picture["height"]) == beside


@pytest.mark.parametrize(
    ("system", "attribute", "dark"),
    [
        ("light", None, False),
        ("dark", None, True),
        ("dark", ("data-jp-theme-light", "true"), False),
        ("light", ("data-jp-theme-light", "false"), True),
        ("dark", ("data-theme", "light"), False),
        ("light", ("data-theme", "dark"), True),
        ("light", ("data-theme", "auto"), False),
        ("dark", ("data-theme", "auto"), True),
    ],
)
def test_light_and_dark(open_page, system, attribute, dark):
    """JupyterLab and web sites say on an element around the explorer which theme the reader chose."""
    page = open_page(show(one_layer(), pictures(1)), color_scheme=system)
    if attribute:
        page.evaluate("([name, value]) => document.body.setAttribute(name, value)", attribute)
    ink, paper = page.evaluate("""() => {
        const style = getComputedStyle(document.querySelector('.aacn-explorer'));
        return [style.color, style.backgroundColor].map((text) => text.match(/\\d+/g).slice(0, 3).map(Number));
    }""")
    assert (sum(paper) < 150, sum(ink) > 600) == (dark, dark)
    screenshot(page, f"{'dark' if dark else 'light'}_{'_'.join(attribute or ('system',))}")


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
    computed, painted = seconds_of_moves(page, (16, 16))
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
    image = torch.randint(0, 256, (3, 10, 14), dtype=torch.uint8)
    page = open_page(explore_tables(layer, x, image=image))
    q = layer.qkv_heads(x[None])[0]
    true = relative_logits(q, layer.rel_h, layer.rel_w)[0] / 5**0.5  # (heads, N, N)
    page.get_by_label("head", exact=True).select_option("head 1")
    hover(page, ".aacn-picture", 1, 4, (5, 7))
    assert read(page)["query"] == [1, 4]
    box = page.locator(".aacn-map").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    for row, column in ((0, 0), (3, 2), (4, 6)):
        hover(page, ".aacn-map", row, column, (5, 7))
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
    page.locator(".aacn-grid[tabindex]").press("ArrowUp")
    assert read(page)["query"] == [3, 6]
    assert read(page)["answers"] == here  # one query for all places: only the window moves
    mean = q[0, 1].mean(dim=(0, 1)) @ layer.rel_h.T / 5**0.5
    torch.testing.assert_close(torch.tensor(here["relH"]), mean, rtol=0, atol=1e-3)
    screenshot(page, "tables")
