"""The receptive-field explorer in a real browser."""

import pytest
import torch
from explorer_pages import NEEDS_CHROMIUM, hover, read, screenshot

from aacn_lib import explore_receptive_field

pytestmark = NEEDS_CHROMIUM
SEEN = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)"


def test_it_shows_what_an_output_sees(open_page):
    torch.manual_seed(0)
    images = torch.randint(0, 256, (2, 1, 12, 20), dtype=torch.uint8)
    page = open_page(explore_receptive_field(images, [(3, 1), (2, 2), (3, 1)], labels=["one", "<img src=x>"]))
    hover(page, ".aacn-grid", 3, 7, (6, 10))
    found = read(page)
    # After (3, 1), (2, 2), (3, 1): 8 pixels a side, neighbours 2 apart, the first begins at -1 - 2 = -3.
    assert (found["query"], found["size"]) == ([3, 7], [6, 10])
    assert (found["top"], found["left"], found["field"], found["padding"]) == (3, 11, 8, 0)
    seen = torch.tensor(page.locator(".aacn-map").evaluate(SEEN)).reshape(64, 64, 4)[4::8, 4::8, 0]
    assert torch.equal(seen, images[0, 0, 3:11, 11:19].long())
    picture, field = (page.locator(f".aacn-{name}").bounding_box() for name in ("grid", "field"))
    assert (field["x"] - picture["x"]) / picture["width"] == pytest.approx(11 / 20, abs=0.01)
    assert field["height"] / picture["height"] == pytest.approx(8 / 12, abs=0.01)
    page.get_by_label("layer").select_option("0")
    found = read(page)
    assert (found["query"], found["size"]) == ([7, 15], [12, 20])  # the same place on a finer map
    page.get_by_role("button", name="picture 2").click()
    page.locator(".aacn-grid").click(position={"x": 2, "y": 2})
    found = read(page)
    assert (found["query"], found["top"], found["field"], found["padding"]) == ([0, 0], -1, 3, 5)
    assert found["pinned"]
    assert "5 of these 9 places are padding" in page.locator(".aacn-readout").inner_text()
    page.locator(".aacn-grid").press("Escape")
    page.locator(".aacn-grid").press("ArrowDown")
    assert read(page)["query"] == [1, 0]
    screenshot(page, "fields")
