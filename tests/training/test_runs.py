"""Recipes, records and the command line, from a recipe file to a cited result."""

import json
import math

import pytest
import torch

from aacn_lib.cli.main import main
from aacn_lib.data import load_dataset
from aacn_lib.evaluation import evaluate, wilson_interval
from aacn_lib.models import list_models
from aacn_lib.training import list_recipes, list_records, load_recipe, read_record, records, run_recipe
from aacn_lib.weights import load_trained

TINY = """
about = "a test run"
model = "plain_cnn"
data = "compass"

[model_options]
widths = [4, 4]

[training]
epochs = 2
batch_size = 640
"""


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def test_every_recipe_of_the_library_is_well_formed():
    assert list_recipes()
    for name in list_recipes():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert recipe.model in list_models()
        assert recipe.about


def test_the_three_networks_of_the_comparison_share_one_recipe():
    plain, content, relative = (load_recipe(f"{name}_cnn_cifar100") for name in ("plain", "content", "aa"))
    assert plain.training == content.training == relative.training
    assert plain.data == content.data == relative.data


def test_changes_are_applied_on_top_of_the_file(tiny):
    recipe = load_recipe(tiny, ["training.epochs=7", "training.schedule=one_cycle", "model_options.depth_k = 4"])
    assert (recipe.training.epochs, recipe.training.schedule, recipe.model_options["depth_k"]) == (7, "one_cycle", 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["training.epoch=2"], "unknown key training.epoch; did you mean 'training.epochs'"),
        (["modle=aa_cnn"], "unknown key modle; did you mean 'model'"),
        (["name=other"], "unknown key name"),
        (["learning_rate=0.1"], "unknown key learning_rate; did you mean 'training.learning_rate'"),
        (["training.augment.crops=4"], "crop"),
        (["seeds=3"], "seeds: expected a list of whole numbers of at least 0, got 3"),
        (["rank=0"], "rank: expected a whole number of at least 1, got 0"),
        (["image_size=2.5"], "image_size: expected a whole number of at least 0, got 2.5"),
        (["training.epochs=two"], "epochs: expected a whole number of at least 1, got 'two'"),
        (["training=3"], "training: expected a table, got 3"),
        (["model=3"], "model: expected text, got 3"),
        (["epochs"], "expected KEY=VALUE"),
        (["model.depth=3"], "'model' is a value, not a table"),
    ],
)
def test_wrong_changes_are_named(tiny, changes, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(tiny, changes)


def test_a_file_that_is_no_recipe_is_named(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("about = ")
    with pytest.raises(ValueError, match=r"broken\.toml: expected a TOML file"):
        load_recipe(path)
    path.write_text('about = "x"\nmodel = "aa_cnn"\n')
    with pytest.raises(ValueError, match="recipe: data is missing"):
        load_recipe(path)
    with pytest.raises(ValueError, match=r"got 'nothing'; `aacn recipes` lists them"):
        load_recipe("nothing")


def test_from_recipe_to_record(tiny, tmp_path):
    recipe = load_recipe(tiny)
    record = run_recipe(recipe, tmp_path / "runs", device="cpu", progress=False)
    stored = json.loads((tmp_path / "runs/tiny/seed0/record.json").read_text())
    assert stored == json.loads(json.dumps(record))
    assert stored["complete"]
    assert stored["epochs_done"] == len(stored["epochs"]) == 2
    assert stored["test"]["count"] == 2000
    low, high = stored["test"]["interval_95"]
    assert 0 < low < stored["test"]["accuracy"] < high < 1
    assert stored["machine"]["torch"] == torch.__version__
    assert stored["recipe"]["training"]["batch_size"] == 640
    with pytest.raises(ValueError, match="holds a run already"):
        run_recipe(recipe, tmp_path / "runs", device="cpu", progress=False)
    again = run_recipe(recipe, tmp_path / "runs", resume=True, device="cpu", progress=False)
    assert again["test"] == record["test"]


# Every key of a record and the type of its value; records made before the second format lack those of `SECOND`.
SCHEMA = {
    "recipe": dict,
    "complete": bool,
    "epochs_done": int,
    "parameters": int,
    "epochs": list,
    "seconds_per_epoch": float,
    "test": dict | None,
    "date": str,
    "code": str,
    "machine": dict,
}
SECOND = {
    "format": int,
    "flops": int,
    "processes": int,
    "peak_memory_bytes": int | None,
    "step_loss": list,
}
EPOCH = {"epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "seconds"}


def complaints(record: dict) -> list[str]:
    schema = SCHEMA | SECOND if record.get("format") == 2 else SCHEMA
    wrong = [f"{key} is missing" for key in schema.keys() - record.keys()]
    wrong += [f"{key} is unknown" for key in record.keys() - schema.keys()]
    wrong += [f"{key}: {record[key]!r}" for key in schema.keys() & record.keys() if not is_a(record[key], schema[key])]
    wrong += [f"epoch {row}" for row in record["epochs"] if row.keys() != EPOCH]
    if record["test"] and record["test"].keys() != {"accuracy", "loss", "count", "interval_95"}:
        wrong.append(f"test {record['test']}")
    return wrong


def is_a(value, kind) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def test_records_follow_the_schema(tiny, tmp_path):
    record = run_recipe(load_recipe(tiny), tmp_path / "runs", device="cpu", progress=False)
    record = json.loads(json.dumps(record))
    assert record["format"] == 2
    assert not complaints(record)
    assert complaints({**record, "complete": 1})
    assert complaints({**record, "flops": "many"})
    assert complaints({key: value for key, value in record.items() if key != "code"})
    assert complaints({**record, "hand_written": True})
    for entry in list_records():
        name, seed = entry.rsplit("/seed", 1)
        assert not complaints(read_record(name, int(seed))), entry


def test_a_run_leaves_weights_that_give_the_recorded_accuracy(tiny, tmp_path):
    record = run_recipe(load_recipe(tiny), tmp_path / "runs", device="cpu", progress=False)
    trained = load_trained(tmp_path / "runs/tiny/seed0", "cpu")
    test = load_dataset("compass").test
    assert evaluate(trained.model, test, trained.mean, trained.std).accuracy == record["test"]["accuracy"]
    assert trained.recipe["training"]["batch_size"] == 640
    assert sorted(file.name for file in (tmp_path / "runs/tiny/seed0").iterdir()) == [
        "checkpoint.pt",
        "checkpoint.pt.previous",
        "record.json",
        "weights.safetensors",
    ]


def test_step_losses_are_thinned_by_means():
    assert records.thin_out([1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]
    assert records.thin_out([float(n) for n in range(7)], most=3) == [1.0, 4.0, 6.0]
    assert len(records.thin_out([0.0] * 1001)) <= 300


def test_missing_records_are_those_that_the_recipes_want(tmp_path):
    everything = records.missing_records(tmp_path)
    assert ("aa_wide_resnet16_4_cifar100", 4) in everything
    assert len(everything) == sum(len(load_recipe(name).seeds) for name in list_recipes())
    ranks = [load_recipe(name).rank for name, _ in everything]
    assert ranks == sorted(ranks)
    shipped = set(list_records())
    for name, seed in records.missing_records():
        entry = f"{name}/seed{seed}"
        assert entry not in shipped or not read_record(name, seed)["complete"]
    unfinished = {"complete": False}
    records.write_record(tmp_path / "compass_vit" / "seed0.json", unfinished)
    assert ("compass_vit", 0) in records.missing_records(tmp_path)
    records.write_record(tmp_path / "compass_vit" / "seed0.json", {"complete": True})
    assert ("compass_vit", 0) not in records.missing_records(tmp_path)


def test_records_are_cited(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    result = {"accuracy": 0.5, "loss": 1.0, "count": 100, "interval_95": [0.4, 0.6]}
    record = {"complete": True, "test": result, "parameters": 12345, "epochs": [{"validation_accuracy": 0.4}]}
    assert records.cite("compass_vit", "test_accuracy") == "no record"
    records.write_record(tmp_path / "compass_vit" / "seed3.json", record)
    text = records.cite("compass_vit", "test_accuracy")
    assert text == "50.00% (95 % interval 40.00% to 60.00%, one seed)"
    assert records.cite("compass_vit", "parameters") == "12,345"
    records.write_record(tmp_path / "compass_vit" / "seed10.json", {**record, "test": {**result, "accuracy": 0.7}})
    records.write_record(tmp_path / "compass_vit" / "seed11.json", {**record, "complete": False})
    assert records.values("compass_vit", "test_accuracy") == {3: 0.5, 10: 0.7}
    assert records.cite("compass_vit", "test_accuracy") == "60.00% (50.00% to 70.00%, 2 seeds)"
    with pytest.raises(ValueError, match=r"expected one of \['test_accuracy'.* got 'accuracy'"):
        records.values("compass_vit", "accuracy")
    with pytest.raises(ValueError, match="got 'nothing'"):
        records.values("nothing", "test_accuracy")


def test_an_unfinished_run_has_a_record_without_a_test_result(tiny, tmp_path, monkeypatch):
    from aacn_lib.training import run

    real_fit = run.fit

    def fit_one_epoch(*arguments, on_epoch, **options):
        def stop_after_first(history):
            on_epoch(history)
            raise KeyboardInterrupt

        return real_fit(*arguments, on_epoch=stop_after_first, **options)

    monkeypatch.setattr(run, "fit", fit_one_epoch)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(load_recipe(tiny), tmp_path, device="cpu", progress=False)
    stored = json.loads((tmp_path / "tiny/seed0/record.json").read_text())
    assert not stored["complete"]
    assert stored["test"] is None
    assert stored["epochs_done"] == 1


def test_shipped_records_are_whole_and_belong_to_shipped_recipes():
    for entry in list_records():
        name, seed = entry.rsplit("/seed", 1)
        record = read_record(name, int(seed))
        assert name in list_recipes()
        assert record["recipe"]["name"] == name
        assert record["recipe"]["training"]["seed"] == int(seed)
        assert len(record["epochs"]) == record["epochs_done"] <= record["recipe"]["training"]["epochs"]
        assert record["complete"] == (record["test"] is not None)
    with pytest.raises(ValueError, match="no record of recipe 'nothing'"):
        read_record("nothing")


def test_records_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "record.json"
    records.write_record(path, {"a": 1})
    with pytest.raises(TypeError):
        records.write_record(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_wilson_interval_by_hand():
    # centre 1/2, half width 1.96 · √(0.025 + 0.0096) / 1.38415: the textbook values for 5 of 10
    low, high = wilson_interval(5, 10)
    assert math.isclose(low, 0.2366, abs_tol=1e-4)
    assert math.isclose(high, 0.7634, abs_tol=1e-4)
    assert wilson_interval(0, 10)[0] == pytest.approx(0, abs=1e-12)
    assert wilson_interval(10, 10)[1] == pytest.approx(1)
    with pytest.raises(ValueError, match="got 3 of 2"):
        wilson_interval(3, 2)


def test_cli_trains_and_reports(tiny, tmp_path, capsys):
    runs = str(tmp_path / "runs")
    assert main(["train", str(tiny), "--runs", runs, "--device", "cpu", "--set", "training.epochs=1"]) == 0
    out = capsys.readouterr().out
    assert "epoch   1" in out
    assert "test accuracy" in out
    assert (tmp_path / "runs/tiny/seed0/record.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["models"], "aa_cnn"),
        (["models", "aa_cnn"], "76,296"),
        (["recipes"], "plain_cnn_cifar100"),
        (["data", "fashion-mini"], "10,800"),
        (["records"], "compass_aa_cnn/seed0"),
        (["records", "--missing"], "aacn train aa_wide_resnet28_10_cifar100 --set training.seed=0"),
    ],
)
def test_cli_tells(arguments, said, capsys):
    assert main(arguments) == 0
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "nothing"],
        ["train", "quick_fashion_mini", "--device", "cuda:97"],
        ["train", "quick_fashion_mini", "--checkpoint-every", "often"],
        ["models", "aacnn"],
        ["data", "fashon-mini"],
        ["data", "folder:/nowhere/at/all"],
    ],
)
def test_cli_answers_wrong_input_with_one_line_and_code_2(arguments, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("aacn: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
