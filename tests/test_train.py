import copy

import pytest
import torch
from torch import nn

from aacn_lib import train as train_module
from aacn_lib.checkpoint import load_checkpoint, save_checkpoint
from aacn_lib.models import create_model
from aacn_lib.splits import Dataset, Split
from aacn_lib.train import Training, draw_batches, evaluate, fit


def toy_data(count=50) -> Dataset:
    """Pictures of 7×5 pixels whose class is the brighter one of two colour channels: easy to learn."""
    generator = torch.Generator().manual_seed(3)

    def part(size):
        labels = torch.arange(size) % 2
        images = torch.randint(0, 100, (size, 2, 7, 5), generator=generator, dtype=torch.uint8)
        images[torch.arange(size), labels] += 100
        return Split(images, labels)

    return Dataset("toy", ("first", "second"), part(count), part(12), part(20), torch.full((2,), 0.3), torch.ones(2))


def toy_model() -> nn.Module:
    torch.manual_seed(5)
    options = {"widths": (8, 8), "depth_k": 4, "depth_v": 4, "num_heads": 2}
    return nn.Sequential(create_model("aa_cnn", 2, (7, 5), 2, **options), nn.Dropout(0.1))


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_fit_learns_and_tells_what_happened(optimiser, schedule):
    data, model = toy_data(), toy_model()
    training = Training(epochs=4, batch_size=8, optimiser=optimiser, schedule=schedule, learning_rate=0.02)
    history = fit(model, data, training, progress=False)
    assert [row["epoch"] for row in history.epochs] == [1, 2, 3, 4]
    assert len(history.step_loss) == 4 * 7  # 50 pictures in batches of 8: the last one holds two
    first, last = history.epochs[0], history.epochs[-1]
    assert last["train_loss"] < first["train_loss"]
    assert last["validation_accuracy"] >= 0.9
    assert evaluate(model, data.test, data.mean, data.std).accuracy >= 0.9
    assert last["seconds"] > 0


def test_train_figures_are_those_of_the_steps():
    history = fit(toy_model(), toy_data(), Training(epochs=1, batch_size=25), progress=False)
    assert history.epochs[0]["train_loss"] == pytest.approx(sum(history.step_loss) / 2)


def test_one_seed_gives_one_result_and_another_seed_another():
    models = []
    for seed in (0, 0, 1):
        models.append(toy_model())
        torch.manual_seed(7)  # dropout
        fit(models[-1], toy_data(), Training(epochs=1, batch_size=8, augment=True, seed=seed), progress=False)
    assert same_weights(models[0], models[1])
    assert not same_weights(models[0], models[2])


@pytest.mark.parametrize("stop_after", [1, 3, 7, 8, 12])
@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_a_stopped_run_resumes_to_a_bitwise_equal_end(tmp_path, monkeypatch, stop_after, schedule):
    training = Training(epochs=2, batch_size=8, augment=True, schedule=schedule, learning_rate=0.01)
    whole = toy_model()
    torch.manual_seed(7)
    expected = fit(whole, toy_data(), training, progress=False)

    class Stop(Exception):
        pass

    saves = 0
    real_save = train_module.save_checkpoint

    def save_then_stop(*arguments):
        nonlocal saves
        real_save(*arguments)
        saves += 1
        if saves == stop_after:
            raise Stop

    monkeypatch.setattr(train_module, "save_checkpoint", save_then_stop)
    path = tmp_path / "run" / "checkpoint.pt"
    stopped = toy_model()
    torch.manual_seed(7)
    with pytest.raises(Stop):
        fit(stopped, toy_data(), training, checkpoint=path, checkpoint_every=1, progress=False)
    monkeypatch.undo()

    resumed = toy_model()
    for parameter in resumed.parameters():
        nn.init.zeros_(parameter)  # whatever it holds, the checkpoint replaces it
    torch.manual_seed(99)
    history = fit(resumed, toy_data(), training, checkpoint=path, checkpoint_every=1, progress=False)
    assert same_weights(whole, resumed)
    assert history.step_loss == expected.step_loss
    drop_time = [{k: v for k, v in row.items() if k != "seconds"} for row in history.epochs]
    assert drop_time == [{k: v for k, v in row.items() if k != "seconds"} for row in expected.epochs]


def test_a_finished_run_is_not_trained_again(tmp_path):
    path, model = tmp_path / "checkpoint.pt", toy_model()
    first = fit(model, toy_data(), Training(epochs=1), checkpoint=path, progress=False)
    again = toy_model()
    assert fit(again, toy_data(), Training(epochs=1), checkpoint=path, progress=False) == first
    assert same_weights(model, again)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "could not read"), (b"no checkpoint at all", "could not read"), (None, "could not")]
)
def test_a_damaged_checkpoint_is_refused_and_left_alone(tmp_path, content, message):
    path = tmp_path / "checkpoint.pt"
    if content is None:  # a real one, cut short
        save_checkpoint(path, {}, {"weights": torch.zeros(1000)})
        content = path.read_bytes()[:-500]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        fit(toy_model(), toy_data(), checkpoint=path, progress=False)
    assert path.read_bytes() == content


def test_a_checkpoint_of_another_run_is_refused_by_what_differs(tmp_path):
    path = tmp_path / "checkpoint.pt"
    fit(toy_model(), toy_data(), Training(epochs=1), checkpoint=path, progress=False)
    with pytest.raises(ValueError, match=r"belongs to another run: expected .*'epochs': 2"):
        fit(toy_model(), toy_data(), Training(epochs=2), checkpoint=path, progress=False)


def test_a_failed_save_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"run": 1}, {"x": torch.ones(2)})

    def full_disk(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, {"run": 1}, {"x": torch.zeros(2)})
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert torch.equal(load_checkpoint(path, {"run": 1}, torch.device("cpu"))["x"], torch.ones(2))


def test_every_picture_is_drawn_once_an_epoch_and_in_another_order_the_next():
    train = Split(torch.arange(50, dtype=torch.uint8).view(50, 1, 1, 1), torch.arange(50))
    training = Training(batch_size=8)
    orders = [
        torch.cat([labels for _, labels in draw_batches(train, training, torch.Generator().manual_seed(seed))])
        for seed in (0, 1, 0)
    ]
    assert all(sorted(order.tolist()) == list(range(50)) for order in orders)
    assert not torch.equal(orders[0], orders[1])
    assert torch.equal(orders[0], orders[2])


def test_skipped_batches_leave_the_rest_as_it_was():
    data, training = toy_data(), Training(batch_size=8, augment=True)
    whole = list(draw_batches(data.train, training, torch.Generator().manual_seed(0)))
    rest = list(draw_batches(data.train, training, torch.Generator().manual_seed(0), skip=3))
    assert len(rest) == len(whole) - 3
    assert all(torch.equal(a, b) for x, y in zip(whole[3:], rest, strict=True) for a, b in zip(x, y, strict=True))


def test_evaluate_counts_every_picture_once_and_does_not_depend_on_the_batch_size():
    data, model = toy_data(), toy_model()
    model.train()
    results = [evaluate(model, data.test, data.mean, data.std, batch_size=size) for size in (1, 7, 512)]
    assert all(result.count == 20 for result in results)
    assert all(result.loss == pytest.approx(results[0].loss, rel=1e-5) for result in results)
    assert all(torch.equal(result.predictions, results[0].predictions) for result in results)
    expected = (results[0].predictions == data.test.labels).sum().item() / 20
    assert results[0].accuracy == pytest.approx(expected)
    assert model.training


def test_evaluate_changes_nothing():
    data, model = toy_data(), toy_model()
    before = copy.deepcopy(model.state_dict())
    evaluate(model, data.test, data.mean, data.std)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_fit_never_reads_the_test_part():
    data = toy_data()
    data = Dataset("toy", data.classes, data.train, data.validation, None, data.mean, data.std)
    fit(toy_model(), data, Training(epochs=1), progress=False)


def test_evaluate_refuses_an_empty_split():
    data = toy_data()
    with pytest.raises(ValueError, match="at least one picture"):
        evaluate(toy_model(), Split(data.test.images[:0], data.test.labels[:0]), data.mean, data.std)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs: expected a whole number of at least 1, got 0"),
        ({"batch_size": 2.5}, "batch_size: expected a whole number of at least 1, got 2.5"),
        ({"seed": -1}, "seed: expected a whole number of at least 0, got -1"),
        ({"optimiser": "adamax"}, r"optimiser: expected one of \['adam', 'sgd'\], got 'adamax'"),
        ({"schedule": "cosine"}, "schedule: expected one of .* got 'cosine'"),
        ({"learning_rate": 0}, "learning_rate: expected a number above 0, got 0"),
        ({"learning_rate": "0.1"}, "learning_rate: expected a number above 0, got '0.1'"),
        ({"weight_decay": -0.1}, "weight_decay: expected a number of at least 0, got -0.1"),
        ({"augment": 1}, "augment: expected true or false, got 1"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Training(**settings)
