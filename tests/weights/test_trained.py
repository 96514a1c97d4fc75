"""Trained networks on disk: all that predicting needs comes back, and a bad file is named."""

import json
import struct

import pytest
import torch
from safetensors.torch import save
from torch import nn

from aacn_lib import whole_file
from aacn_lib.data import Dataset, Split
from aacn_lib.training import Recipe
from aacn_lib.weights import create_model, load_trained, save_trained, trained, trained_info
from aacn_lib.weights.trained import FILE

CLASSES = ("red, or so", 'a "quoted" one', "ünïcode")


def toy_data(H=5, W=7):
    images = torch.randint(0, 256, (6, 3, H, W), dtype=torch.uint8)
    split = Split(images, torch.arange(6) % 3)
    return Dataset(
        "toy", CLASSES, split, split, split, torch.tensor([0.1, 1 / 3, 0.7]), torch.tensor([0.2, 0.3, 1 / 7])
    )


@pytest.fixture
def saved(tmp_path):
    data = toy_data()
    recipe = Recipe("tiny", "a test", "aa_cnn", "toy", {"widths": [4, 8], "depth_k": 4, "depth_v": 4, "num_heads": 2})
    model = create_model("aa_cnn", 3, (5, 7), **recipe.model_options)
    return save_trained(tmp_path / "run", model, trained_info(recipe, data)), model, data


def test_a_trained_network_comes_back_with_all_that_predicting_needs(saved):
    path, model, data = saved
    before = torch.get_rng_state()
    back = load_trained(path.parent, "cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert path.name == FILE
    assert (back.classes, back.image_size, back.in_channels, back.data) == (CLASSES, (5, 7), 3, "toy")
    assert torch.equal(back.mean, data.mean)
    assert torch.equal(back.std, data.std)
    assert back.recipe["model_options"]["num_heads"] == 2
    assert back.recipe["training"]["epochs"] == 1
    assert back.info["seed"] == 0
    assert not any(module.training for module in back.model.modules())
    assert back.model.state_dict().keys() == model.state_dict().keys()
    x = torch.randn(2, 3, 5, 7)
    assert torch.equal(back.model(x), model.eval()(x))
    assert torch.equal(load_trained(path, "cpu").model(x), model(x))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("column", torch.arange(12.0).reshape(3, 4).t())  # not contiguous
        self.register_buffer("part", torch.arange(100.0)[10:12])  # a view into a larger tensor


def test_shared_and_strided_tensors_are_written(saved, monkeypatch, tmp_path):
    path, _, _ = saved
    info = load_trained(path, "cpu").info
    model = Tied()
    save_trained(tmp_path, model, info)
    monkeypatch.setattr(trained, "build_network", lambda *arguments, **options: Tied())
    back = load_trained(tmp_path, "cpu").model
    assert back.first.weight is back.second.weight
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor)


def test_a_crash_while_writing_leaves_the_old_file(saved, monkeypatch):
    path, model, _ = saved
    old, info = path.read_bytes(), load_trained(path, "cpu").info
    nn.init.zeros_(next(model.parameters()))
    monkeypatch.setattr(whole_file.os, "fsync", lambda number: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_trained(path.parent, model, info)
    assert path.read_bytes() == old
    assert [file.name for file in path.parent.iterdir()] == [FILE]


def test_a_missing_file_is_named_with_what_may_be_meant(saved):
    path, _, _ = saved
    with pytest.raises(ValueError, match=r"nowhere: expected a folder with weights\.safetensors"):
        load_trained(path.parent / "nowhere")
    with pytest.raises(ValueError, match=r"did you mean .*run\?"):
        load_trained(path.parent.parent)


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, -1])
def test_a_truncated_file_is_refused(saved, kept):
    path, _, _ = saved
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged or no safetensors file"):
        load_trained(path, "cpu")


def test_foreign_files_are_refused(saved):
    path, _, _ = saved
    path.write_bytes(save({"weight": torch.zeros(2)}))
    with pytest.raises(ValueError, match="was not written by save_trained"):
        load_trained(path, "cpu")
    path.write_bytes(save({"weight": torch.zeros(2)}, {"aacn": "{"}))
    with pytest.raises(ValueError, match="is not JSON"):
        load_trained(path, "cpu")
    path.write_bytes(b"PK\x03\x04 a pickle" * 50)
    with pytest.raises(ValueError, match="no safetensors file"):
        load_trained(path, "cpu")


def rewrite(path, **changes):
    """The same file with another description."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    info = json.loads(header["__metadata__"]["aacn"]) | changes
    header["__metadata__"]["aacn"] = json.dumps(info)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2, this library knows format 1"),
        ({"classes": ["a", "a", "b"]}, "classes: expected a list of different names"),
        ({"classes": ["a", "b"]}, "the weights do not fit the network 'aa_cnn'"),
        ({"mean": [0.1]}, "mean: expected a list of 3 numbers"),
        ({"std": [0.1, 0.0, 0.1]}, "std: expected numbers above 0"),
        ({"std": [0.1, "x", 0.1]}, "std: expected a list of 3 numbers"),
        ({"image_size": [5]}, r"image_size: expected a list \[H, W\]"),
        ({"in_channels": True}, "in_channels: expected a whole number"),
        ({"recipe": {"model": "aa_cnn"}}, "recipe: expected a table"),
        ({"data": 3}, "data: expected a name"),
        ({"recipe": {"name": "", "model": "no_cnn", "data": "", "model_options": {}, "training": {}}}, "no_cnn"),
    ],
)
def test_a_description_that_cannot_be_used_is_named(saved, changes, message):
    path, _, _ = saved
    rewrite(path, seed=5)
    assert load_trained(path, "cpu").info["seed"] == 5  # rewriting itself breaks nothing
    rewrite(path, **changes)
    with pytest.raises(ValueError, match=message):
        load_trained(path, "cpu")


def test_what_could_not_be_read_back_is_not_written(saved, tmp_path):
    path, model, _ = saved
    info = load_trained(path, "cpu").info
    for change, message in (({"mean": None}, "mean"), ({"extra": object()}, "plain data"), ({"x": math_nan()}, "JSON")):
        with pytest.raises(ValueError, match=message):
            save_trained(tmp_path / "new", model, info | change)
    del info["classes"]
    with pytest.raises(ValueError, match="info lacks classes"):
        save_trained(tmp_path / "new", model, info)
    assert not (tmp_path / "new").exists()


def math_nan():
    return float("nan")
