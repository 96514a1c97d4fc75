"""The explorer where readers meet it: in JupyterLab, and in a notebook that was exported to a page on disk."""

import base64
import html

import nbformat
import pytest
import torch
from explorer_pages import NEEDS_CHROMIUM, NEEDS_LAB, one_layer, pictures, read, screenshot, show
from test_lab import LESSON, browser_page, executed_lesson, lab_server

pytestmark = NEEDS_CHROMIUM


def needs_lab(test):
    for mark in NEEDS_LAB:
        test = mark(test)
    return test


CELL = """import torch
from aacn_lib import create_model, explore
torch.manual_seed(0)
model = create_model("aa_cnn", 5, 8, widths=(5, 12), depth_k=8, depth_v=4, num_heads=2)
images = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
explore(model, images, mean=torch.zeros(3), std=torch.ones(3))"""


@needs_lab
def test_in_jupyterlab(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in ("1", CELL, "2")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = tmp_path / "notebooks" / LESSON
    path.parent.mkdir()
    nbformat.write(notebook, path)
    with lab_server(tmp_path) as address, browser_page() as page:
        _, cell, _ = executed_lesson(page, address, path)
        data = cell["outputs"][0]["data"]
        assert set(data) == {"text/html", "image/png", "text/plain"}
        page.wait_for_selector(".aacn-body")
        light = page.evaluate("document.querySelector('[data-jp-theme-light]').dataset.jpThemeLight")
        assert light == "true"
        page.locator(".aacn-grid").first.click()
        query = read(page)["query"]
        for key in ("ArrowUp", "ArrowRight", "b"):
            page.keyboard.press(key)
        assert read(page)["query"] == [query[0] - 1, query[1] + 1]
        # The keys are the explorer's: JupyterLab has neither moved to another cell nor made one.
        page.get_by_label("head of").focus()
        page.keyboard.press("ArrowDown")
        assert read(page)["head"] == 0
        active = page.locator(".jp-Notebook-cell").evaluate_all("all => all.map(n => n.matches('.jp-mod-active'))")
        assert active == [False, True, False]
        assert sum(read(page)["values"]) == pytest.approx(1, abs=1e-3)


@needs_lab
def test_a_notebook_that_is_not_trusted_shows_the_still_picture(tmp_path):
    """Opened, not run: its outputs come from somebody else, and JupyterLab takes scripts out of them."""
    explorer = show(one_layer(), pictures(1))
    bundle = explorer._repr_mimebundle_() | {"image/png": base64.b64encode(explorer.png).decode()}
    output = nbformat.v4.new_output("execute_result", data=bundle, execution_count=1)
    cell = nbformat.v4.new_code_cell("explore(…)", outputs=[output], execution_count=1)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = tmp_path / "notebooks" / LESSON
    path.parent.mkdir()
    nbformat.write(notebook, path)
    with lab_server(tmp_path) as address, browser_page() as page:
        page.goto(f"{address}/?token=course", wait_until="domcontentloaded")
        page.wait_for_selector(".jp-OutputArea-output img")
        width = page.locator(".jp-OutputArea-output img").evaluate(
            "image => image.decode().then(() => image.naturalWidth)"
        )
        assert width > 300
        assert page.locator(".aacn-body").count() == 0  # the script has not run
        screenshot(page, "untrusted")


def test_in_an_exported_notebook(browser, tmp_path):
    nbconvert = pytest.importorskip("nbconvert")
    bundle = show(one_layer(), pictures(1))._repr_mimebundle_()
    bundle["image/png"] = ""  # Jupyter holds it as base64; the page shows the HTML
    output = nbformat.v4.new_output("execute_result", data=bundle, execution_count=1)
    cell = nbformat.v4.new_code_cell("explore(…)", outputs=[output], execution_count=1)
    text, _ = nbconvert.HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    path = tmp_path / "exported.html"
    path.write_text(text, encoding="utf-8")
    context = browser.new_context(offline=True)  # nbconvert's own scripts come from the network: ours do not
    page = context.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector(".aacn-body")
    page.locator(".aacn-grid").first.hover(position={"x": 3, "y": 3})
    assert read(page)["query"] == [0, 0]
    assert torch.tensor(read(page)["heads"]).sum(1).tolist() == pytest.approx([1, 1], abs=1e-3)
    context.close()


def test_in_a_frame_that_may_run_scripts_and_nothing_else(browser):
    """As Colab does it: each output stands in a sandboxed frame of its own, whose origin is nobody's."""
    context = browser.new_context(offline=True)
    page = context.new_page()
    text = html.escape(show(one_layer(), pictures(1)).to_html())
    page.set_content(f'<iframe sandbox="allow-scripts" width="900" height="900" srcdoc="{text}"></iframe>')
    frame = page.frame_locator("iframe")
    frame.locator(".aacn-grid").first.hover(position={"x": 3, "y": 3})
    assert frame.locator(".aacn-readout").first.inner_text().startswith("Query row 0, column 0,")
    assert frame.locator("canvas").count() > 3
    context.close()


@pytest.mark.parametrize("where", ["output", "document.body"])
def test_scripts_that_are_made_again(browser, where):
    """As VS Code and JupyterLab do it: HTML is set as text, which runs no script, then each script is made anew."""
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.set_content("<div id='output'></div>")
    page.evaluate(
        """([text, where]) => {
            const output = document.getElementById("output");
            output.innerHTML = text;
            for (const old of output.querySelectorAll("script:not([type])")) {
                const script = document.createElement("script");
                script.textContent = old.textContent;
                if (where === "output") old.replaceWith(script);
                else document.body.append(script);
            }
        }""",
        [show(one_layer(), pictures(1)).to_html(), where],
    )
    page.locator(".aacn-grid").first.hover(position={"x": 3, "y": 3})
    assert read(page)["query"] == [0, 0]
    assert page.locator(".aacn-body").count() == 1
    context.close()
