"""The explorer as a widget in a live JupyterLab, in a headless Chromium with the network closed."""

import io
import json
import time
from pathlib import Path

import nbformat
import pytest
import torch
from explorer_pages import (
    HOVER_SECONDS,
    MEAN,
    NEEDS_LAB,
    SIZE,
    STD,
    assert_same_weights,
    hover,
    pictures,
    read,
    seconds_of_moves,
    seeded_layers,
)
from PIL import Image
from test_lab import LESSON, browser_page, executed_lesson, lab_server, screenshot

from aacn_lib import attention_maps, normalise
from aacn_lib.explorer.own_picture import picture_from_bytes

TESTS = Path(__file__).resolve().parents[1]
EVIL = "<img src=x onerror='window.hit=1'>.png"
SECONDS = 20
CELL = f"""import json, sys
sys.path[:0] = [{str(TESTS / "browser")!r}]
from explorer_pages import CLASSES, pictures, seeded_layers, show
widget = show(seeded_layers(), pictures(), labels=[2, 3], classes=CLASSES).widget()
told = []
widget.observe(lambda change: told.append(change["new"]), "selection")
widget"""

pytestmark = NEEDS_LAB


class Lab:
    """The page with the widget, and its kernel."""

    def __init__(self, page, client):
        self.page, self.client, self.maps = page, client, {}

    def run(self, code: str) -> None:
        """Run Python in the kernel of the notebook; the page hears of it as it hears of a cell."""
        reply = self.client.execute_interactive(code, timeout=SECONDS, output_hook=lambda message: None)
        assert reply["content"]["status"] == "ok", reply["content"]

    def value(self, expression: str):
        reply = self.client.execute(
            "", user_expressions={"x": f"json.dumps({expression})"}, reply=True, timeout=SECONDS
        )
        found = reply["content"]["user_expressions"]["x"]
        assert found["status"] == "ok", found
        return json.loads(eval(found["data"]["text/plain"]))  # the repr of a text

    def wait_for(self, expression: str, value) -> None:
        deadline = time.monotonic() + SECONDS
        while (found := self.value(expression)) != value:
            assert time.monotonic() < deadline, f"{expression}: {found}, expected {value}"
            time.sleep(0.05)

    def wait_for_page(self, what: str) -> None:
        self.page.wait_for_function(f"() => {{ const read = (n = 0) => document.querySelectorAll('.aacn-explorer')[n]"
                                    f".explorer.read(); return {what}; }}", timeout=1000 * SECONDS)  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    from jupyter_client import BlockingKernelClient

    folder = tmp_path_factory.mktemp("lab")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in (CELL, "widget", "1")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = folder / "notebooks" / LESSON
    path.parent.mkdir()
    nbformat.write(notebook, path)
    wrong = []
    with lab_server(folder) as address, browser_page() as page:
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on(
            "request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else wrong.append(f"{r.url}")
        )
        cells = executed_lesson(page, address, path)
        assert set(cells[0]["outputs"][0]["data"]) == {
            "application/vnd.jupyter.widget-view+json",
            "image/png",
            "text/plain",
        }
        page.wait_for_function("() => document.querySelectorAll('.aacn-body').length === 2")
        (connection,) = (folder / "jupyter_runtime_dir").glob("kernel-*.json")
        client = BlockingKernelClient(connection_file=str(connection))
        client.load_connection_file()
        client.start_channels()
        client.wait_for_ready(timeout=SECONDS)
        yield Lab(page, client)
        client.stop_channels()
    assert wrong == []


@pytest.fixture(autouse=True)
def at_the_start(lab):
    """Each test begins with the same selection and without own pictures."""
    lab.page.mouse.move(0, 0)
    lab.run("widget.selection = dict(picture=0, view='attention', row=6, column=10, layer='features.0', head='mean', "
            "pinned=False)\nwidget._own = []\ntold.clear()")  # fmt: skip
    lab.wait_for_page("read().query[0] === 6 && read(1).picture === 0 && read(1).query[1] === 10")
    lab.page.locator(".aacn-explorer").first.scroll_into_view_if_needed()


def true_maps(image: torch.Tensor, layer: str) -> torch.Tensor:
    return attention_maps(seeded_layers(), normalise(image[None], MEAN, STD))[layer].weights[0]


def test_what_the_reader_points_at_arrives_in_python(lab):
    hover(lab.page, ".aacn-grid", 2, 15, SIZE)
    lab.wait_for("[widget.selection[k] for k in ('row', 'column', 'layer', 'pinned')]", [2, 15, "features.0", False])
    lab.page.mouse.down()
    lab.page.mouse.up()
    lab.page.get_by_label("head of").first.select_option("head 1")
    lab.page.get_by_role("button", name="picture 2: fox").first.click()
    lab.page.get_by_role("button", name="content logits").first.click()
    lab.page.get_by_label("layer of").first.select_option("features.4")
    expected = dict(picture=1, view="content", row=1, column=7, layer="features.4", head=1, pinned=True, panel=0)
    lab.wait_for("widget.selection", expected)
    assert lab.page.evaluate("document.querySelector('.aacn-explorer').explorer.selection()") == expected
    # The second view of the widget follows.
    lab.wait_for_page("read(1).layer === 'features.4' && read(1).view === 'content' && read(1).head === 1")


def test_a_moving_mouse_is_followed_in_time_and_the_last_state_arrives(lab):
    computed, painted = seconds_of_moves(lab.page, SIZE)
    row, column = divmod((59 * 37) % 240, 20)
    lab.wait_for("[widget.selection['row'], widget.selection['column']]", [row, column])
    print(f"computed and drawn in {1000 * computed:.1f} ms, next frame after {1000 * painted:.1f} ms (medians)")
    # By the next frame JupyterLab and the second view are redrawn too: test_explorer_widget_views.py times it alone.
    assert computed <= HOVER_SECONDS


def test_a_selection_made_in_python_moves_the_page(lab):
    lab.run("widget.selection = {'layer': 'features.4', 'row': 2, 'column': 9, 'head': 3, 'picture': 1}")
    for view in range(2):
        lab.wait_for_page(f"read({view}).layer === 'features.4' && read({view}).query[1] === 9")
    found = read(lab.page)
    assert (found["query"], found["head"], found["picture"]) == ([2, 9], 3, 1)
    assert_same_weights(found["values"], true_maps(pictures()[1], "features.4")[3, 2 * 10 + 9])
    assert lab.value("len(told)") == 1  # the page does not say it back
    lab.run("try:\n    widget.selection = {'row': 6}\nexcept ValueError as error:\n    refused = str(error)")
    assert lab.value("refused") == "selection: row: expected 0 to 5, got 6"
    assert read(lab.page)["query"] == [2, 9]


def test_an_own_picture(lab):
    torch.manual_seed(8)
    file = io.BytesIO()
    Image.fromarray(torch.randint(0, 256, (31, 41, 3), dtype=torch.uint8).numpy()).save(file, "PNG")
    upload = lab.page.locator(".aacn-upload input").first
    upload.set_input_files({"name": EVIL, "mimeType": "image/png", "buffer": file.getvalue()})
    lab.wait_for_page("read().picture === 2 && read(1).picture === 2")
    image = picture_from_bytes("x", file.getvalue(), SIZE, 3)
    hover(lab.page, ".aacn-grid", 7, 4, SIZE)
    weights = true_maps(image, "features.0")
    for head in range(2):
        assert_same_weights(read(lab.page)["heads"][head], weights[head, 7 * 20 + 4])
    button = lab.page.get_by_role("button", name=f"picture 3: {EVIL}").first
    assert button.get_attribute("aria-pressed") == "true"
    share, number = seeded_layers()(normalise(image[None], MEAN, STD)).softmax(1)[0].max(0)
    name = ["cat", "dog", "eel", "fox", "gnu", "hen", "ibis"][number]
    verdict = lab.page.locator(".aacn-tables .aacn-readout").first.inner_text()
    assert verdict == f"{name}, {100 * share:.1f} %"
    assert lab.page.locator(".aacn-explorer img[src=x]").count() == 0
    assert lab.page.evaluate("window.hit") is None
    assert lab.page.locator(".aacn-upload .aacn-note").first.text_content() == ""
    lab.page.locator(".aacn-explorer").first.scroll_into_view_if_needed()
    screenshot(lab.page, "widget_own_picture")
    lab.run("widget.add_pictures(pictures(1), labels=[6])")
    lab.wait_for_page("read().picture === 3")
    assert lab.page.locator(".aacn-thumb").count() == 2 * 4
    assert_same_weights(read(lab.page)["heads"][1], true_maps(pictures(1)[0], "features.0")[1, 7 * 20 + 4])


def test_a_bad_file_gives_a_sentence_and_changes_nothing(lab):
    upload = lab.page.locator(".aacn-upload input").first
    upload.set_input_files({"name": EVIL, "mimeType": "image/png", "buffer": b"<html>"})
    alert = lab.page.get_by_role("alert").filter(has_text="is not a picture")
    alert.wait_for(timeout=1000 * SECONDS)
    assert alert.count() == 1  # the view that asked, not the other one
    assert alert.inner_text().startswith(f"{EVIL} is not a picture that can be read, expected one of JPEG, PNG")
    screenshot(lab.page, "widget_bad_file")
    upload.set_input_files({"name": "large.png", "mimeType": "image/png", "buffer": bytes(8_000_001)})
    lab.page.get_by_text("large.png has 8.0 MB, expected at most 8 MB.").wait_for(timeout=1000 * SECONDS)
    upload.set_input_files({"name": "none.png", "mimeType": "image/png", "buffer": b""})
    lab.page.get_by_text("none.png is empty, expected a picture.").wait_for(timeout=1000 * SECONDS)
    assert lab.page.locator(".aacn-thumb").count() == 2 * 2
    assert lab.value("[len(widget._own), widget.selection['picture']]") == [0, 0]
    assert lab.page.evaluate("window.hit") is None
