import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aacn_lib.data import Dataset, Split
from aacn_lib.training import Training, fit, load_checkpoint, subset_indexes
from aacn_lib.training import loop as train_module
from aacn_lib.training.batches import draw_batches
from aacn_lib.training.checkpoint import save_checkpoint
from aacn_lib.training.loop import evaluate
from aacn_lib.weights import create_model


def toy_data(count=50, channels=2) -> Dataset:
    """Pictures of 7×5 pixels whose class is the brighter one of the first two channels: easy to learn."""
    generator = torch.Generator().manual_seed(3)

    def part(size):
        labels = torch.arange(size) % 2
        images = torch.randint(0, 100, (size, channels, 7, 5), generator=generator, dtype=torch.uint8)
        images[torch.arange(size), labels] += 100
        return Split(images, labels)

    return Dataset(
        "toy", ("first", "second"), part(count), part(12), part(20), torch.full((channels,), 0.3), torch.ones(channels)
    )


def toy_model() -> nn.Module:
    torch.manual_seed(5)
    options = {"widths": (8, 8), "depth_k": 4, "depth_v": 4, "num_heads": 2}
    return nn.Sequential(create_model("aa_cnn", 2, (7, 5), 2, **options), nn.Dropout(0.1))


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("optimiser", ["adam", "sgd", "muon"])
@pytest.mark.parametrize("schedule", ["constant", "one_cycle", "cosine"])
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


RUNS = {
    "plain": {"augment": True},
    "one cycle": {"augment": True, "schedule": "one_cycle"},
    "muon": {"optimiser": "muon", "schedule": "cosine", "warmup_epochs": 0.5, "ema_decay": 0.9, "mixup": 0.2},
    "sam": {"optimiser": "sgd", "sam_radius": 0.05, "cutmix": 1.0, "clip_norm": 1.0, "accumulate": 2},
    "steps": {"optimiser": "sgd", "schedule": "multi_step", "milestones": (1,), "precision": "bfloat16"},
}


@pytest.mark.parametrize("stop_after", [1, 3, 7, 8, 12])
@pytest.mark.parametrize("run", RUNS)
def test_a_stopped_run_resumes_to_a_bitwise_equal_end(tmp_path, monkeypatch, stop_after, run):
    training = Training(epochs=2, batch_size=8, learning_rate=0.01, **RUNS[run])
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
    ("content", "message"), [(b"", "could not read"), (b"no checkpoint at all", "could not read"), (None, "cut short")]
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


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    fit(toy_model(), toy_data(), Training(epochs=1), checkpoint=path, progress=False)
    other = nn.Sequential(nn.Flatten(), nn.Linear(70, 2))
    with pytest.raises(ValueError, match=r"checkpoint\.pt belongs to another run: model does not fit"):
        fit(other, toy_data(), Training(epochs=1), checkpoint=path, progress=False)


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
    assert torch.equal(load_checkpoint(path, {"run": 1})["x"], torch.ones(2))


def draw(data, training, epoch=0, **options):
    return list(draw_batches(data, training, epoch, torch.device("cpu"), **options))


def test_every_picture_is_drawn_once_an_epoch_and_in_another_order_the_next():
    data = toy_data()
    numbered = Split(data.train.images, torch.arange(50))
    data = replace(data, train=numbered)
    orders = [torch.cat([batch.labels for batch in draw(data, Training(batch_size=8), epoch)]) for epoch in (0, 1, 0)]
    assert all(sorted(order.tolist()) == list(range(50)) for order in orders)
    assert not torch.equal(orders[0], orders[1])
    assert torch.equal(orders[0], orders[2])


EVERYTHING = {
    "augment": {"crop": 1, "flip": True, "policy": "trivial_augment_wide", "cutout": 2},
    "mixup": 0.5,
    "cutmix": 1.0,
}


def test_skipped_batches_leave_the_rest_as_it_was():
    data, training = toy_data(channels=3), Training(batch_size=8, **EVERYTHING)
    whole, rest = draw(data, training), draw(data, training, skip=3)
    assert len(rest) == len(whole) - 3
    for x, y in zip(whole[3:], rest, strict=True):
        for a, b in zip(x[:5], y[:5], strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("processes", [2, 3])
def test_the_rows_of_all_processes_are_the_batches_of_one(processes):
    data, training = toy_data(channels=3), Training(batch_size=8, **EVERYTHING)  # the last batch holds two pictures
    whole = draw(data, training)
    shares = [draw(data, training, process=process, processes=processes) for process in range(processes)]
    for number, batch in enumerate(whole):
        parts = [share[number] for share in shares]
        assert all(part.total == batch.total for part in parts)
        for process, part in enumerate(parts):
            counted = part.weight.bool()
            for name in ("images", "labels", "partners", "share"):
                mine = getattr(batch, name)[process::processes]
                assert torch.equal(getattr(part, name)[counted], mine), name
        assert sum(part.weight.sum().item() for part in parts) == batch.total
        assert all(len(part.labels) >= 1 for part in parts)  # every process has something to do


def test_a_subset_is_fixed_and_has_equal_classes():
    labels = torch.tensor([0] * 6 + [1] * 3 + [2] * 5)
    chosen = subset_indexes(labels, 7)
    assert labels[chosen].bincount().tolist() in ([3, 2, 2], [2, 3, 2], [2, 2, 3])
    assert torch.equal(chosen, chosen.unique())
    assert len(subset_indexes(labels, 14)) == 14
    assert labels[subset_indexes(labels, 12)].bincount().tolist() == [5, 3, 4]
    with pytest.raises(ValueError, match="train_subset: expected at most 14, got 15"):
        subset_indexes(labels, 15)


def test_fit_trains_on_the_subset_only():
    history = fit(toy_model(), toy_data(), Training(batch_size=8, train_subset=20), progress=False)
    assert len(history.step_loss) == 3


def test_accumulated_pieces_make_the_step_of_the_whole_batch():
    results = []
    for pieces in (1, 3):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(70, 2)).double()  # no batch norm, no dropout
        settings = {"batch_size": 16, "optimiser": "sgd", "learning_rate": 0.1, "accumulate": pieces}
        fit(Double(model), toy_data(), Training(**settings, mixup=1.0, label_smoothing=0.1), progress=False)
        results.append(model[1].weight)
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-8)


class Double(nn.Module):
    """Feeds float64 to a network, so that sums in another order differ by next to nothing."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images.double())


def test_a_step_is_the_one_written_out_by_hand():
    """Label smoothing, mixup, clipping, SGD with momentum and the moving average, on one linear layer."""
    data = toy_data()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(70, 2))
    by_hand = copy.deepcopy(model)
    training = Training(
        batch_size=25, optimiser="sgd", learning_rate=0.1, label_smoothing=0.2, mixup=1.0, clip_norm=0.05, ema_decay=0.9
    )
    fit(model, data, training, progress=False)

    speed = {name: torch.zeros_like(p) for name, p in by_hand.named_parameters()}
    average = copy.deepcopy(by_hand.state_dict())
    for number, batch in enumerate(draw(data, training)):
        target = F.one_hot(batch.labels, 2) * batch.share[:, None] + F.one_hot(batch.partners, 2) * (
            1 - batch.share[:, None]
        )
        target = 0.8 * target + 0.2 / 2
        loss = -(target * by_hand(batch.images).log_softmax(1)).sum(1).mean()
        by_hand.zero_grad()
        loss.backward()
        norm = torch.cat([p.grad.flatten() for p in by_hand.parameters()]).norm()
        assert norm > 0.05  # or clipping would not be tested
        with torch.no_grad():
            for name, p in by_hand.named_parameters():
                gradient = p.grad * (0.05 / norm)
                speed[name] = 0.9 * speed[name] + gradient
                p -= 0.1 * (gradient + 0.9 * speed[name])
                # torch copies the weights after the first step, then moves by (1 + n) / (10 + n)
                decay = 0.0 if number == 0 else (1 + number) / (10 + number)
                average[name] = decay * average[name] + (1 - decay) * p
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), average[name].detach(), rtol=1e-4, atol=1e-6)


def test_the_average_is_what_is_validated_and_handed_back():
    data, model = toy_data(), toy_model()
    training = Training(epochs=2, batch_size=8, learning_rate=0.02, ema_decay=0.99)
    history = fit(model, data, training, progress=False)
    assert evaluate(model, data.validation, data.mean, data.std).loss == pytest.approx(
        history.epochs[-1]["validation_loss"], rel=1e-5
    )
    plain = toy_model()
    fit(plain, data, replace(training, ema_decay=0.0), progress=False)
    assert not same_weights(model, plain)


def test_a_loss_that_is_no_number_ends_the_run_with_its_reason(tmp_path):
    training = Training(epochs=3, batch_size=8, optimiser="sgd", learning_rate=1e30)
    with pytest.raises(ValueError, match=r"loss is no longer a number in epoch 1.*learning_rate=1e\+30"):
        fit(toy_model(), toy_data(), training, checkpoint=tmp_path / "checkpoint.pt", progress=False)
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_precision_reaches_the_network_and_the_weights_stay_wide(precision):
    seen = set()

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(70, 2)

        def forward(self, images):
            logits = self.layer(images.flatten(1))
            seen.add(logits.dtype)
            return logits

    model = Watched()
    fit(model, toy_data(), Training(precision=precision), progress=False)
    assert seen == {getattr(torch, precision)}
    assert model.layer.weight.dtype == torch.float32


def test_compiled_training_is_training(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    compiled, plain = (nn.Sequential(nn.Flatten(), nn.Linear(70, 2)) for _ in range(2))
    compiled.load_state_dict(plain.state_dict())
    for model, compile in ((compiled, True), (plain, False)):
        fit(model, toy_data(), Training(batch_size=25, compile=compile), progress=False)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(compiled.state_dict(), plain.state_dict())


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
    data = replace(data, test=None)
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
        ({"optimiser": "adamax"}, r"optimiser: expected one of \['adam', 'sgd', 'muon'\], got 'adamax'"),
        ({"schedule": "cosines"}, "schedule: expected one of .* got 'cosines'"),
        ({"precision": "half"}, "precision: expected one of .* got 'half'"),
        ({"accumulate": 0}, "accumulate: expected a whole number of at least 1, got 0"),
        ({"train_subset": True}, "train_subset: expected a whole number of at least 0, got True"),
        ({"momentum": 1}, "momentum: expected a number of at least 0 and below 1, got 1"),
        ({"label_smoothing": 1.5}, "label_smoothing: expected a number of at least 0 and below 1, got 1.5"),
        ({"ema_decay": float("nan")}, "ema_decay: expected a number"),
        ({"clip_norm": float("inf")}, "clip_norm: expected a number of at least 0, got inf"),
        ({"channels_last": 1}, "channels_last: expected true or false, got 1"),
        ({"milestones": (1,)}, "milestones: expected .* got"),
        ({"schedule": "multi_step"}, "milestones: expected some with schedule multi_step"),
        ({"schedule": "multi_step", "epochs": 9, "milestones": (5, 3)}, "rising numbers between 0 and epochs=9"),
        ({"schedule": "one_cycle", "warmup_epochs": 1}, "warmup_epochs: expected 0 with one_cycle"),
        ({"sam_radius": 0.1, "precision": "float16"}, "sam_radius: expected 0 with float16"),
        ({"learning_rate": 0}, "learning_rate: expected a number above 0, got 0"),
        ({"learning_rate": "0.1"}, "learning_rate: expected a number above 0, got '0.1'"),
        ({"weight_decay": -0.1}, "weight_decay: expected a number of at least 0, got -0.1"),
        ({"augment": {"crops": 4}}, "crop"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Training(**settings)
