import os
from types import SimpleNamespace

import pytest

from aacn_lib.processes import wait_politely

wait_politely()  # before torch is loaded

import torch  # noqa: E402

torch.set_num_threads(1)  # tiny tensors: a second thread costs more than it brings


def pytest_configure(config):
    if os.environ.get("AACN_WARNINGS") == "error":
        config.addinivalue_line("filterwarnings", "error")


@pytest.fixture(autouse=True)
def _seeded():
    """Each test starts from the same random state, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The web site, built once: its `folder`, its `source`, Sphinx's `exit_code` and `messages`."""
    for name in ("sphinx", "myst_nb", "furo", "latex2mathml"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install -e .[site]")
    from built_site import lessons_with_an_explorer
    from make_site import NOTEBOOKS, build, fill

    from aacn_lib import create_model, explore

    images = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    model = create_model("aa_cnn", 5, 8, widths=(5, 12), depth_k=8, depth_v=4, num_heads=2)
    explorer = explore(model, images, mean=torch.zeros(3), std=torch.ones(3))
    base = tmp_path_factory.mktemp("site")
    fill(base / "source", lessons_with_an_explorer(NOTEBOOKS, base / "lessons", explorer))
    with open(base / "messages", "w+", encoding="utf-8") as messages:
        exit_code = build(base / "source", base / "html", messages)
        messages.seek(0)
        return SimpleNamespace(
            folder=base / "html", source=base / "source", exit_code=exit_code, messages=messages.read()
        )
