"""The web site in a real headless Chromium, from disk and with the network closed."""

import pytest
from built_site import EXTRA_LESSON
from explorer_pages import NEEDS_CHROMIUM, hover, read, screenshot

pytestmark = NEEDS_CHROMIUM
PAPER = "getComputedStyle(document.querySelector('.aacn-explorer')).backgroundColor"
GROUND = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture
def open_file(browser, site):
    """A function that opens a page of the site; at the end no request, error or warning may have come up."""
    contexts, wrong = [], []

    def open_it(name, query="", width=1400, height=1000, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, offline=True, **options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else wrong.append(r.url))
        page.on("requestfailed", lambda r: wrong.append(f"{r.url} {r.failure}"))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda m: wrong.append(m.text) if m.type in {"error", "warning"} else None)
        page.goto((site.folder / name).as_uri() + query)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert wrong == []


def brightness(page, what: str) -> int:
    return sum(map(int, page.evaluate(f"{what}.match(/\\d+/g).slice(0, 3)")))


@pytest.mark.parametrize(("name", "size"), [("index.html", (20, 20)), (f"notebooks/{EXTRA_LESSON}.html", (8, 8))])
def test_an_explorer_answers(open_file, name, size):
    page = open_file(name)
    page.wait_for_selector(".aacn-body")
    for row, column in ((2, 3), (5, 1)):
        hover(page, ".aacn-grid", row, column, size)
        assert read(page)["query"] == [row, column]
        assert sum(read(page)["values"]) == pytest.approx(1, abs=1e-3)
    pictures = page.locator(".aacn-grid").first.locator("canvas")
    box = pictures.first.bounding_box()
    assert box["width"] / box["height"] == pytest.approx(1, abs=0.02)
    assert box["width"] > 200
    assert page.locator(".aacn-still").count() == 0
    screenshot(page, f"site_{name.replace('/', '_')}")


def test_the_explorer_follows_the_site_s_own_switch(open_file):
    """The site goes from the system's theme to light, dark and back; the explorer stands on paper like the page's."""
    page = open_file("index.html", color_scheme="light")
    page.wait_for_selector(".aacn-body")
    seen = []
    for _ in range(3):
        dark = brightness(page, GROUND) < 300
        assert (brightness(page, PAPER) < 300) == dark
        seen.append(dark)
        page.locator(".theme-toggle-content .theme-toggle").click()
    assert set(seen) == {True, False}


@pytest.mark.parametrize("name", ["index", "notebooks/04_relative_positions", "api", "results", "library"])
def test_no_window_needs_sideways_scrolling(open_file, name):
    """Narrow, and on both sides of every width at which the layout changes."""
    page = open_file(f"{name}.html", width=400)
    screenshot(page, f"site_narrow_{name.replace('/', '_')}")
    for width in (400, 730, 750, 1000, 1020, 1300, 1320, 1450, 1460, 2000):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, width


@pytest.mark.parametrize("name", ["02_what_a_cnn_cannot_see", "04_relative_positions"])
def test_formulas_are_drawn(open_file, name):
    """A fraction stands higher than a line, and is not squeezed to nothing."""
    page = open_file(f"notebooks/{name}.html")
    box = page.locator("math mfrac").first.bounding_box()
    assert box["height"] > 30
    assert box["width"] > 10
    page.locator("math").first.scroll_into_view_if_needed()
    screenshot(page, f"site_formula_{name}")


def test_solutions_open(open_file):
    page = open_file("notebooks/04_relative_positions.html")
    solution = page.locator("details", has=page.get_by_text("Solution", exact=True)).first
    code = solution.locator(".highlight")
    assert not code.is_visible()
    solution.locator("summary").click()
    assert code.is_visible()


def test_search_finds_a_lesson_from_disk(open_file):
    page = open_file("search.html", query="?q=permutation")
    page.wait_for_selector("#search-results li a")
    found = page.locator("#search-results li a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert any("03_attention_over_an_image.html" in target for target in found), found
