"""The first five minutes in a real browser: JupyterLab opens on lesson 00 and every cell runs, offline and unasked."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from explorer_pages import CHROMIUM, NEEDS_LAB

ROOT = Path(__file__).resolve().parents[2]
LESSON = "00_start_here.ipynb"
TOKEN = "course"
SERVER_SECONDS, CELLS_SECONDS = 60, 300
QUIET = ["disable-gpu", "disable-background-networking", "disable-quic", "no-first-run", "disable-component-update"]
CHROMIUM_OPTIONS = [f"--{option}" for option in ("no-sandbox", *QUIET, "disable-sync")]
ALL_DONE = """() => {
    const status = [...document.querySelectorAll('.jp-Notebook-ExecutionIndicator')].map(e => e.dataset.status);
    const prompts = [...document.querySelectorAll('.jp-NotebookPanel .jp-InputPrompt')].map(e => e.textContent);
    return status.includes('idle') && !prompts.some(text => text.includes('*'));
}"""

pytestmark = NEEDS_LAB


def lab_command() -> list[str]:
    """What `make lab` runs, so that the test and the command cannot drift apart."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    text = subprocess.run(
        ["make", "--no-print-directory", "-n", "lab"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    words = next(line for line in text.splitlines() if "jupyter lab " in line)
    words = shlex.split(words)
    start = words.index("lab")
    return [sys.executable, "-m", "jupyterlab", *words[start + 1 :]]


@contextlib.contextmanager
def lab_server(folder: Path) -> Iterator[str]:
    """JupyterLab on `folder`/notebooks, with fresh configuration, data and runtime folders; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fresh = {
        name: str(folder / name.lower())
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR")
    }
    fresh["JUPYTERLAB_WORKSPACES_DIR"] = str(folder / "workspaces")
    options = [
        "--no-browser",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={TOKEN}",
    ]
    log = open(folder / "server.log", "w+")  # noqa: SIM115 (open as long as the server)
    server = subprocess.Popen(
        [*lab_command(), *options], cwd=folder, env=os.environ | fresh, stdout=log, stderr=log, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + SERVER_SECONDS
        while True:
            assert server.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, (folder / "server.log").read_text()
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=2).close()
                break
            time.sleep(0.2)
        yield address
    finally:
        # Kernels are the server's children: SIGTERM lets it end them. The second signal is for a server that hangs.
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        log.close()


@contextlib.contextmanager
def browser_page():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        try:
            yield browser.new_page(viewport={"width": 1280, "height": 900})
        finally:
            browser.close()


def run_all_cells(page, address: str) -> tuple[list[str], list[str]]:
    """Open the lesson, run it through the menu, save it. Returns failed requests and the dialogs that came up."""
    failed, dialogs = [], []
    # JupyterLab gives up a save of its layout when the next one is due: its own choice, and no request that failed.
    layout = f"{address}/lab/api/workspaces/"
    page.on("requestfailed", lambda r: None if r.url.startswith(layout) else failed.append(f"{r.url} {r.failure}"))
    page.on(
        "request",
        lambda r: failed.append(f"{r.url} is remote") if not r.url.startswith((address, "data:", "blob:")) else None,
    )
    page.on("response", lambda r: failed.append(f"{r.url} answered {r.status}") if r.status >= 400 else None)
    # The root sends the browser on to the lesson named on the command line, as a click on the printed address does.
    page.goto(f"{address}/?token={TOKEN}", wait_until="domcontentloaded")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=60_000)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=60_000)
    time.sleep(2)  # the news question would come up about now
    dialogs += page.locator(".jp-Dialog, .jp-toast-message, .Toastify__toast").all_inner_texts()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name=re.compile("^Run All Cells")).click()
    page.wait_for_function(ALL_DONE, timeout=CELLS_SECONDS * 1000)
    dialogs += page.locator(".jp-Dialog, .jp-toast-message, .Toastify__toast").all_inner_texts()
    return failed, dialogs


def save(page) -> None:
    page.keyboard.press("Escape")
    page.keyboard.press("Control+s")


def screenshot(page, name: str) -> None:
    folder = os.environ.get("AACN_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def code_cells(path: Path) -> list[dict]:
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:  # read while it was being saved
        return []
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def executed_lesson(page, address: str, path: Path) -> list[dict]:
    """Run every cell and wait until the saved notebook holds them all."""
    # The stored counts would pass for executed ones.
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell.update(execution_count=None, outputs=[])
    path.write_text(json.dumps(notebook), encoding="utf-8")
    failed, dialogs = run_all_cells(page, address)
    deadline = time.monotonic() + CELLS_SECONDS
    while True:
        save(page)
        time.sleep(1)
        cells = code_cells(path)
        errors = [out for cell in cells for out in cell["outputs"] if out["output_type"] == "error"]
        if errors or (cells and all(cell["execution_count"] for cell in cells)):
            break
        assert time.monotonic() < deadline, "the lesson was not executed in time"
    screenshot(page, f"lab_{path.stem}{'_error' if errors else ''}")
    assert not errors, errors
    assert not failed, failed
    assert not dialogs, dialogs
    return cells


@pytest.fixture
def course(tmp_path) -> Path:
    """A folder with a copy of the lesson, as `make lab` finds it in the repository."""
    (tmp_path / "notebooks").mkdir()
    lesson = ROOT / "notebooks" / LESSON
    if not lesson.exists():
        pytest.fail(f"notebooks/{LESSON}, which `make lab` opens, does not exist")
    shutil.copy(lesson, tmp_path / "notebooks")
    if (ROOT / "notebooks" / "img").exists():
        shutil.copytree(ROOT / "notebooks" / "img", tmp_path / "notebooks" / "img")
    return tmp_path


def test_lesson_00_runs_in_jupyterlab(course):
    with lab_server(course) as address, browser_page() as page:
        cells = executed_lesson(page, address, course / "notebooks" / LESSON)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))


def test_an_error_in_a_cell_is_found(course):
    """The proof that the test above can fail."""
    path = course / "notebooks" / LESSON
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cell = {"cell_type": "code", "id": "broken", "metadata": {}, "outputs": [], "execution_count": None}
    notebook["cells"] = [cell | {"source": "1 / 0"}]
    path.write_text(json.dumps(notebook), encoding="utf-8")
    with (
        lab_server(course) as address,
        browser_page() as page,
        pytest.raises(AssertionError, match="ZeroDivisionError"),
    ):
        executed_lesson(page, address, path)
