"""`aacn explore`: a page from trained networks and pictures, or one clear line."""

import base64
import io
import json
import re
from functools import partial

import pytest
from PIL import Image

from aacn_lib.cli import networks
from aacn_lib.cli.main import main
from aacn_lib.data import load_dataset
from aacn_lib.weights import load_pretrained, save_trained

NAME = "compass_aa_cnn"
CPU = ["--device", "cpu"]


def data_of(path) -> dict:
    return json.loads(re.search(r'class="aacn-data">(.*?)</script>', path.read_text(), re.DOTALL)[1])


def test_a_page_from_a_data_set(tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["explore", NAME, "--data", "compass", "--count", "2", "--out", str(out), *CPU]) == 0
    assert re.fullmatch(rf"\d\.\d\d MB: {out}\n", capsys.readouterr().out)
    data = data_of(out)
    labels = load_dataset("compass").validation.labels
    assert [picture["label"] for picture in data["pictures"]] == [
        ("right", "left", "down", "up")[k] for k in labels[:2]
    ]
    assert [model["name"] for model in data["models"]] == [NAME]


def test_own_pictures_and_two_networks(tmp_path, capsys):
    network = load_pretrained(NAME, "cpu")
    run = tmp_path / "run"
    save_trained(run, network.model, network.info)
    for number in range(3):
        Image.new("RGB", (30, 40), (number * 60, 0, 0)).save(tmp_path / f"{number}.png")
    files = [str(tmp_path / f"{number}.png") for number in range(3)]
    out = tmp_path / "page.html"
    assert main(["explore", NAME, str(run), "--images", *files, "--layers", "mix", "--out", str(out), *CPU]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [f"picture {n + 1}: {file}" for n, file in enumerate(files)]
    data = data_of(out)
    assert len(data["pictures"]) == 3
    first, second = data["models"]
    assert second["name"] == run.as_posix()
    assert first["predictions"] == second["predictions"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_folder_of_pictures_of_any_size(tmp_path, monkeypatch, stream):
    """Pictures of 30×40 pixels, in memory or streamed, as the network's 20×20."""
    network = load_pretrained(NAME, "cpu")
    save_trained(tmp_path / "run", network.model, network.info | {"classes": ["a", "b", "c", "d"]})
    for part in ("train", "validation"):
        for number, label in enumerate("abcd"):
            folder = tmp_path / "pictures" / part / label
            folder.mkdir(parents=True)
            for copy in range(2):
                Image.new("L", (40, 30), 60 * number).save(folder / f"{copy}.png")
    out = tmp_path / "page.html"
    monkeypatch.setattr(networks, "load_dataset", partial(load_dataset, stream=stream))
    name = f"folder:{tmp_path / 'pictures'}"
    assert main(["explore", str(tmp_path / "run"), "--data", name, "--count", "3", "--out", str(out), *CPU]) == 0
    pictures = data_of(out)["pictures"]
    assert len(pictures) == 3
    for picture in pictures:  # of the label's brightness
        shown = Image.open(io.BytesIO(base64.b64decode(picture["source"].partition(",")[2])))
        assert shown.size == (20, 20)
        assert shown.getpixel((10, 10)) == 60 * "abcd".index(picture["label"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([NAME, NAME, "--data", "compass"], "two different RUNs, got compass_aa_cnn twice"),
        ([NAME, NAME, NAME, "--data", "compass"], "expected one RUN or two, got 3"),
        ([NAME, "--data", "compass", "--count", "0"], "--count: expected a whole number of at least 1, got '0'"),
        ([NAME, "--data", "compass", "--layers", "mixx"], "got 'mixx'; did you mean 'mix'?"),
        ([NAME, "--images", "absent.png"], "absent.png"),
        ([NAME, "--data", "fashion-mini"], "compass_aa_cnn was trained for other classes than those of fashion-mini"),
        (["nothing", "--data", "compass"], "nothing: expected a folder with weights.safetensors"),
        ([NAME, "aa_resnet18_fashion_mini_long", "--data", "compass"], "has other image_size than compass_aa_cnn"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, message, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["explore", *arguments, "--out", str(out), *CPU]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()
