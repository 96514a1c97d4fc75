"""Small networks, pictures and hands for the tests of the explorers' pages."""

import os
import shutil
import statistics
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from aacn_lib import create_model, explore
from aacn_lib.explorer.data import LARGEST_ERROR
from aacn_lib.layers import AAConv2d

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDS_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found (chromium, chromium-browser, google-chrome)"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="playwright is not installed"),
]
NEEDS_LAB = [
    *NEEDS_CHROMIUM,
    pytest.mark.skipif(find_spec("jupyterlab") is None, reason="JupyterLab is not installed"),
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed"),
]
MEAN, STD = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.25])
CLASSES = ["cat", "dog", "eel", "fox", "gnu", "hen", "ibis"]
SIZE = (12, 20)
HOVER_SECONDS = 0.020  # a frame at 60 Hz takes 16.7 ms, so most of this is waiting for the screen
MOVES = """async ([H, W]) => {
    const grid = document.querySelector('.aacn-grid'), box = grid.getBoundingClientRect(), times = [];
    for (let i = 0; i < 60; i++) {
        // A hand moves at any time between two frames.
        await new Promise((resume) => requestAnimationFrame(() => setTimeout(resume, i % 16)));
        const at = (i * 37) % (H * W);
        const start = performance.now();
        grid.dispatchEvent(new PointerEvent('pointermove', {
            bubbles: true,
            clientX: box.left + (at % W + 0.5) * box.width / W,
            clientY: box.top + (Math.floor(at / W) + 0.5) * box.height / H,
        }));
        const drawn = performance.now();
        await new Promise(requestAnimationFrame);
        times.push([drawn - start, performance.now() - start]);
    }
    return times;
}"""


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


def seeded_layers() -> nn.Module:
    """Three layers, the same ones in every process."""
    torch.manual_seed(11)
    return three_layers()


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


def seconds_of_moves(page, size: tuple[int, int]) -> tuple[float, float]:
    """Medians of 60 moves of the mouse: until it is computed and drawn, and until the next frame.

    The query then stands at 59 · 37 mod H · W.
    """
    times = page.evaluate(MOVES, list(size))
    computed, painted = (statistics.median(column) / 1000 for column in zip(*times, strict=True))
    return computed, painted


def assert_same_weights(values: list[float], true: torch.Tensor) -> None:
    assert (torch.tensor(values) - true).abs().max() <= LARGEST_ERROR * true.max()


def screenshot(page, name: str) -> None:
    folder = os.environ.get("AACN_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"explorer_{name}.png"), full_page=True)
