"""A headless Chromium without network, for the tests of pages."""

import pytest
from explorer_pages import CHROMIUM

OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


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
