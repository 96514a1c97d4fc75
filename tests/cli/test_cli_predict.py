"""`aacn eval` and `aacn predict` on a small trained network and a part of fashion-mini."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from aacn_lib import Training
from aacn_lib.cli import networks
from aacn_lib.cli.main import make_parser
from aacn_lib.cli.predict import VIEWS
from aacn_lib.data import Split, load_dataset, normalise
from aacn_lib.data.loose_pictures import read_picture
from aacn_lib.evaluation import METHODS, compare, ensemble, measure, predict_probabilities, read_probabilities
from aacn_lib.evaluation.predict import candidate_probabilities
from aacn_lib.training import Recipe
from aacn_lib.weights import create_model, load_trained, save_trained, trained_info

OPTIONS = {"depth": 1, "width": 16, "num_heads": 2, "mlp_width": 32, "patch_size": 8}
CPU = ["--device", "cpu"]


def shortened(split, count):
    return Split(split.images[:count], split.labels[:count])


@pytest.fixture(scope="module")
def data():
    whole = load_dataset("fashion-mini")
    return replace(
        whole,
        train=shortened(whole.train, 640),
        validation=shortened(whole.validation, 200),
        test=shortened(whole.test, 90),
    )


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """Two runs of the same small network with different seeds, good enough to be right on some pictures."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        torch.manual_seed(seed)
        recipe = Recipe("tiny", "a test", "vit", "fashion-mini", OPTIONS, Training(augment=True, seed=seed))
        model = create_model("vit", 10, (32, 32), 1, **OPTIONS)
        optimiser = torch.optim.Adam(model.parameters(), 1e-2)
        for images, labels in zip(data.train.images.split(64) * 6, data.train.labels.split(64) * 6, strict=True):
            loss = F.cross_entropy(model(normalise(images, data.mean, data.std)), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        save_trained(folder / f"seed{seed}", model, trained_info(recipe, data))
    return [str(folder / f"seed{seed}") for seed in (0, 1)]


@pytest.fixture(autouse=True)
def loads(data, monkeypatch):
    """The data set that the commands load; a test may put another in its place."""
    place = {"data": data}
    monkeypatch.setattr(networks, "load_dataset", lambda name, image_size=None: place["data"])
    return place


def run(*arguments):
    options = make_parser().parse([*map(str, arguments), *CPU])
    options.run(options)


def test_eval_measures_the_validation_part(runs, data, capsys, tmp_path):
    run("eval", runs[0], "--json", tmp_path / "new" / "m.json")
    network = load_trained(runs[0], "cpu")
    probabilities = predict_probabilities(network.model, data.validation.images, data.mean, data.std)
    expected = measure(probabilities, data.validation.labels, data.classes)
    assert 0.3 < expected.top1.value < 1
    out = capsys.readouterr().out
    assert "validation part of fashion-mini, 200 pictures" in out
    low, high = expected.top1.interval
    assert f"top-1 {expected.top1.value:.2%} (95 % interval {low:.2%} to {high:.2%})" in out
    assert all(name in out for name in data.classes)
    report = json.loads((tmp_path / "new" / "m.json").read_text())
    assert report["measures"]["top1"]["hits"] == expected.top1.hits
    assert report["measures"]["confusion"] == [list(row) for row in expected.confusion]
    assert report["network"]["recipe"]["name"] == "tiny"
    assert report["part"] == "validation"


def test_eval_reads_the_test_part_only_when_asked(runs, data, loads, capsys):
    class Closed:
        def __getattr__(self, name):
            raise AssertionError("the test part was touched")

    loads["data"] = replace(data, test=Closed())
    run("eval", runs[0])
    with pytest.raises(AssertionError, match="touched"):
        run("eval", runs[0], "--part", "test")
    loads["data"] = data
    run("eval", runs[0], "--part", "test")
    assert "test part of fashion-mini, 90 pictures" in capsys.readouterr().out


def test_eval_compares_two_networks_on_the_same_pictures(runs, data, capsys, tmp_path):
    run("eval", runs[0], "--against", runs[1], "--json", tmp_path / "m.json")
    guesses = []
    for path in runs:
        network = load_trained(path, "cpu")
        guesses.append(predict_probabilities(network.model, data.validation.images, data.mean, data.std).argmax(1))
    expected = compare(*guesses, data.validation.labels)
    out = capsys.readouterr().out
    assert f"{100 * expected.difference:+.2f} points" in out
    assert f"only A {expected.agreement.only_a}, only B {expected.agreement.only_b}" in out
    stored = json.loads((tmp_path / "m.json").read_text())["against"]["comparison"]
    assert stored["p_value"] == expected.p_value
    assert expected.agreement.only_a != expected.agreement.only_b


def test_eval_draws_its_figures(runs, tmp_path):
    record = {
        "epochs": [dict.fromkeys(("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"), 0.5)]
    }
    run("eval", runs[0], "--figures", tmp_path / "f")
    names = ["class_f1.png", "confusion.png", "predictions.png", "reliability.png"]
    assert sorted(file.name for file in (tmp_path / "f").iterdir()) == names
    with_record = tmp_path / "run"
    with_record.mkdir()
    (with_record / "record.json").write_text(json.dumps(record))
    network = load_trained(runs[0], "cpu")
    save_trained(with_record, network.model, network.info)
    run("eval", with_record, "--figures", tmp_path / "g")
    assert sorted(file.name for file in (tmp_path / "g").iterdir()) == [*names, "training.png"]


@pytest.fixture
def direct(runs, data):
    """What each method says of the test pictures, computed without the command."""
    network = load_trained(runs[0], "cpu")
    return candidate_probabilities(network.model, data.test.images, data.mean, data.std)


def predicted(path):
    return read_probabilities(path).probabilities


def test_predict_single_and_tta(runs, data, direct, tmp_path, capsys):
    run("predict", runs[0], "--data", "fashion-mini", "--out", tmp_path / "single.csv")
    found = read_probabilities(tmp_path / "single.csv")
    assert torch.equal(found.probabilities, direct["single"])
    assert found.classes == data.classes
    assert found.names == tuple(f"test {n}" for n in range(90))
    assert "cost: 1.00 forward passes" in capsys.readouterr().out
    # trained with flips: flipped views are the default
    run("predict", runs[0], "--data", "fashion-mini", "--method", "tta", "--out", tmp_path / "tta.csv")
    assert torch.allclose(predicted(tmp_path / "tta.csv"), direct["flip-shift"], atol=1e-6)
    assert "cost: 10.00 forward passes" in capsys.readouterr().out
    arguments = ("--method", "tta", "--views", "flip-shift-log", "--out", tmp_path / "log.csv")
    run("predict", runs[0], "--data", "fashion-mini", *arguments)
    assert torch.allclose(predicted(tmp_path / "log.csv"), direct["flip-shift-log"], atol=1e-6)
    assert not torch.allclose(direct["flip-shift-log"], direct["flip-shift"], atol=1e-3)


def test_a_network_trained_without_flips_is_not_shown_any(runs, tmp_path, direct, capsys):
    network = load_trained(runs[0], "cpu")
    network.recipe["training"]["augment"] = {"flip": False, "crop": 4}
    save_trained(tmp_path, network.model, network.info)
    run("predict", tmp_path, "--data", "fashion-mini", "--method", "tta", "--out", tmp_path / "p.csv")
    assert torch.allclose(predicted(tmp_path / "p.csv"), direct["shift"], atol=1e-6)
    capsys.readouterr()
    run("predict", tmp_path, "--data", "fashion-mini", "--method", "class-specialised", "--out", tmp_path / "p.csv")
    assert "flip" not in capsys.readouterr().out


def test_predict_ensemble(runs, data, tmp_path, capsys):
    run("predict", *runs, "--data", "fashion-mini", "--method", "ensemble", "--out", tmp_path / "p.csv")
    networks = [load_trained(path, "cpu") for path in runs]
    each = [predict_probabilities(network.model, data.test.images, data.mean, data.std) for network in networks]
    assert torch.equal(predicted(tmp_path / "p.csv"), ensemble(each))
    assert "cost: 2.00 forward passes" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["adaptive", "class-specialised"])
def test_fitted_methods_know_nothing_of_test_labels(method, runs, data, loads, tmp_path, capsys):
    def predict_with(name, part=None):
        loads["data"] = data
        if part:
            split = getattr(data, part)
            order = torch.randperm(len(split.labels), generator=torch.Generator().manual_seed(3))
            loads["data"] = replace(data, **{part: Split(split.images, split.labels[order])})
        run("predict", runs[0], "--data", "fashion-mini", "--method", method, "--out", tmp_path / name)
        return (tmp_path / name).read_bytes(), capsys.readouterr().out.replace(name, "")

    expected = predict_with("a.csv")
    assert "fitted on 200 validation pictures of fashion-mini" in expected[1]
    assert predict_with("b.csv", "test") == expected
    # The check can fail: where labels are used, shuffling them shows.
    assert predict_with("c.csv", "validation") != expected


def test_adaptive_reports_its_cost(runs, direct, tmp_path, capsys):
    arguments = ("--method", "adaptive", "--views", "flip", "--out", tmp_path / "p.csv")
    run("predict", runs[0], "--data", "fashion-mini", *arguments)
    out = capsys.readouterr().out
    threshold = float(out.split("at most ")[1].split()[0])
    confidence = direct["single"].max(1).values
    assert (confidence - threshold).abs().min() > 5e-5  # the printed digits decide every picture
    unsure = confidence <= threshold
    assert f"cost: {1 + unsure.double().mean().item():.2f} forward passes" in out
    expected = torch.where(unsure[:, None], direct["flip"], direct["single"])
    assert torch.allclose(predicted(tmp_path / "p.csv"), expected, atol=1e-6)


@pytest.fixture
def images(tmp_path):
    """A folder of pictures of several kinds: grey and colour, of different sizes, one in a subfolder."""
    folder = tmp_path / "pictures, mine"
    (folder / "sub").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.txt").write_text("no image")
    draw = np.random.default_rng(0)
    Image.fromarray(draw.integers(0, 256, (40, 50), dtype=np.uint8)).save(folder / "grey.png")
    Image.fromarray(draw.integers(0, 256, (20, 31, 3), dtype=np.uint8)).save(folder / "colour.png")
    Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / "sub" / "exact.png")
    return folder


def test_a_picture_is_matched_to_the_network(images):
    with Image.open(images / "sub" / "exact.png") as opened:
        grey = torch.from_numpy(np.array(opened.convert("L")))
        colour = torch.from_numpy(np.array(opened)).permute(2, 0, 1)
    assert torch.equal(read_picture(images / "sub" / "exact.png", (32, 32), 1)[0], grey)
    assert torch.equal(read_picture(images / "sub" / "exact.png", (32, 32), 3), colour)
    three = read_picture(images / "grey.png", (13, 11), 3)
    assert three.shape == (3, 13, 11)
    assert torch.equal(three[0], three[2])
    assert torch.equal(three[:1], read_picture(images / "grey.png", (13, 11), 1))
    with pytest.raises(ValueError, match="expects 2"):
        read_picture(images / "grey.png", (13, 11), 2)


def test_predict_a_folder_of_pictures(runs, data, images, tmp_path):
    run("predict", runs[0], "--images", images, images / "grey.png", "--out", tmp_path / "p.csv")
    found = read_probabilities(tmp_path / "p.csv")
    files = [images / "colour.png", images / "grey.png", images / "sub" / "exact.png", images / "grey.png"]
    assert found.names == tuple(file.as_posix() for file in files)
    model = load_trained(runs[0], "cpu").model
    pictures = torch.stack([read_picture(file, (32, 32), 1) for file in files])
    assert torch.equal(found.probabilities, predict_probabilities(model, pictures, data.mean, data.std))


def test_an_unreadable_picture_is_named_and_nothing_is_written(runs, images, tmp_path):
    (images / "sub" / "broken.png").write_bytes((images / "grey.png").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as an image"):
        run("predict", runs[0], "--images", images, "--out", tmp_path / "p.csv")
    assert not (tmp_path / "p.csv").exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="empty holds no files"):
        run("predict", runs[0], "--images", empty, "--out", tmp_path / "p.csv")
    with pytest.raises(ValueError, match=r"nothing\.png cannot be read"):
        run("predict", runs[0], "--images", tmp_path / "nothing.png", "--out", tmp_path / "p.csv")


def test_what_cannot_be_predicted_is_said(runs, data, loads, tmp_path):
    out = ("--out", tmp_path / "p.csv")
    from_data = ("--data", "fashion-mini", *out)
    with pytest.raises(ValueError, match="at least two RUNs"):
        run("predict", runs[0], "--method", "ensemble", *from_data)
    with pytest.raises(ValueError, match="expected one RUN, got 2"):
        run("predict", *runs, *from_data)
    with pytest.raises(ValueError, match="--views is for"):
        run("predict", runs[0], "--views", "flip", *from_data)
    with pytest.raises(ValueError, match=r"weights\.safetensors"):
        run("predict", tmp_path, *from_data)
    with pytest.raises(ValueError, match=r"--images.*--data"):
        run("predict", runs[0], "--data", "x", "--images", "y", *out)

    network = load_trained(runs[0], "cpu")
    save_trained(tmp_path / "other", network.model, network.info | {"classes": list("abcdefghij")})
    with pytest.raises(ValueError, match="has other classes than"):
        run("predict", runs[0], tmp_path / "other", "--method", "ensemble", *from_data)
    with pytest.raises(ValueError, match="trained for other classes than those of fashion-mini"):
        run("eval", tmp_path / "other")
    with pytest.raises(ValueError, match="trained for other classes"):
        run("eval", runs[0], "--against", tmp_path / "other")
    loads["data"] = replace(data, train=Split(data.train.images.expand(-1, 3, -1, -1), data.train.labels))
    with pytest.raises(ValueError, match="tiny expects pictures of 1 × 32 × 32, fashion-mini has 3 × 32 × 32"):
        run("predict", runs[0], *from_data)
    assert not (tmp_path / "p.csv").exists()


def test_every_views_choice_is_a_method():
    assert set(VIEWS) == set(METHODS) - {"single"}
