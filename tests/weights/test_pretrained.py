"""The weights that come with the library: they are what their cards and records say, and load for what they fit."""

import pytest
import ship_weights
import torch

import aacn_lib as aacn
from aacn_lib.cli.main import main
from aacn_lib.training import read_record
from aacn_lib.weights import list_pretrained, load_pretrained, model_card
from aacn_lib.weights.pretrained import FOLDER

NAMES = list_pretrained()
MOST_BYTES = 12_000_000
EMBEDDED = {"fashion-mini", "compass"}  # data sets that need no download


def test_some_weights_ship_and_they_are_small():
    assert {"compass_aa_cnn", "aa_resnet18_fashion_mini_long", "aa_resnet18_thin_cifar100_long"} <= set(NAMES)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= MOST_BYTES
    assert list_pretrained("compass_*") == ["compass_aa_cnn"]


@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_what_file_and_record_say(name):
    """The card holds the file's digest and the record's numbers."""
    assert model_card(name) == ship_weights.card(name), "python scripts/ship_weights.py writes it again"


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_those_of_the_record(name):
    """The validation accuracy of the last epoch, counted again. The test pictures stay unseen."""
    trained = load_pretrained(name, "cpu")
    record = read_record(name, trained.info["seed"])
    assert record["complete"]
    assert record["recipe"]["model_options"] == trained.recipe["model_options"]
    assert record["recipe"]["training"] == trained.recipe["training"]
    assert sum(p.numel() for p in trained.model.parameters()) == record["parameters"]
    if trained.data not in EMBEDDED:
        try:
            data = aacn.load_dataset(trained.data, download=False)
        except (OSError, ValueError) as error:
            pytest.skip(f"{trained.data} is not here: {error}")
    else:
        data = aacn.load_dataset(trained.data)
    assert trained.classes == data.classes
    part = data.validation
    found = aacn.evaluate(trained.model, part, trained.mean, trained.std)
    wanted = record["epochs"][-1]["validation_accuracy"]
    assert abs(found.accuracy - wanted) * len(part.labels) < 2.5  # another machine may round two pictures differently


def test_a_trained_network_by_its_model_name():
    trained = load_pretrained("compass_aa_cnn", "cpu")
    before = torch.get_rng_state()
    model = aacn.create_model("aa_cnn", 4, 20, in_channels=1, pretrained=True)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    for key, value in trained.model.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)
    same = aacn.create_model("aa_cnn", 4, 20, in_channels=1, pretrained="compass_aa_cnn", widths=(16, 32), num_heads=4)
    x = torch.randn(2, 1, 20, 20)
    assert torch.equal(same.eval()(x), model.eval()(x))


def test_another_size_stretches_the_tables():
    model = aacn.create_model("aa_cnn", 4, (26, 30), in_channels=1, pretrained=True).eval()
    assert model(torch.randn(2, 1, 26, 30)).shape == (2, 4)


def test_another_number_of_classes_gets_a_fresh_last_layer():
    torch.manual_seed(0)
    model = aacn.create_model("aa_resnet18", 7, 32, in_channels=1, pretrained=True)
    trained = load_pretrained("aa_resnet18_fashion_mini_long", "cpu").model.state_dict()
    assert model.fc.weight.shape == (7, trained["fc.weight"].shape[1])
    for key, value in model.state_dict().items():
        assert key.startswith("fc.") or torch.equal(value, trained[key])
    torch.manual_seed(0)
    again = aacn.create_model("aa_resnet18", 7, 32, in_channels=1, pretrained="aa_resnet18_fashion_mini_long")
    assert torch.equal(again.fc.weight, model.fc.weight)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            ("resnet152", 10, 32),
            {"pretrained": True},
            "one of the networks whose weights ship, .*aa_",
        ),
        (("aa_resnet18", 10, 32, 2), {"pretrained": True}, r"in_channels: expected one of \[1, 3\].*, got 2"),
        (("aa_resnet18", 10, 32, 1), {"pretrained": "compass_aa_cnn"}, "weights of 'aa_resnet18', not of 'aa_cnn'"),
        (
            ("aa_resnet18", 10, 32, 3),
            {"pretrained": "aa_resnet18_fashion_mini_long"},
            "in_channels: expected in_channels=1 for aa_resnet18_fashion_mini_long, got 3",
        ),
        (("aa_cnn", 4, 20, 1), {"pretrained": "compass_aa_cn"}, "did you mean 'compass_aa_cnn'"),
        (("aa_cnn", 4, 20, 1), {"pretrained": True, "num_heads": 2}, "num_heads: expected the 4 that .*, got 2"),
        (
            ("aa_cnn", 4, 20, 1),
            {"pretrained": True, "gate_options": {}},
            "gate_options: expected nothing: the default, got",
        ),
        (("aa_cnn", 4, 20, 1), {"pretrained": True, "depth_kk": 2}, "no option 'depth_kk'"),
    ],
)
def test_what_does_not_fit_is_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        aacn.create_model(*arguments, **options)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"load_pretrained: .*got 'compas_aa_cnn'; did you mean 'compass_aa_cnn'"):
        load_pretrained("compas_aa_cnn")
    with pytest.raises(ValueError, match=r"model_card: .*there are \['aa_resnet18"):
        model_card("xyz")


def test_an_unfinished_run_does_not_ship(tmp_path):
    (tmp_path / "record.json").write_text(
        '{"complete": false, "epochs_done": 1, "recipe": {"name": "x", "data": "compass", "training": {"seed": 0}}}'
    )
    with pytest.raises(ValueError, match="expected a finished run, got 1 epochs"):
        ship_weights.ship(tmp_path)
    assert not (FOLDER / "x.safetensors").exists()


def test_the_command_line_knows_them(capsys, tmp_path):
    assert main(["weights"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == NAMES
    assert main(["weights", "compass_aa_cnn"]) == 0
    assert capsys.readouterr().out == model_card("compass_aa_cnn")
    assert main(["weights", "compass"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["eval", "compass_aa_cnn", "--device", "cpu"]) == 0
    assert "top-1 100.00%" in capsys.readouterr().out
