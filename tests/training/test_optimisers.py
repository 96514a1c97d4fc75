import io
import math
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, MultiStepLR, OneCycleLR

from aacn_lib.layers import AAConv2d
from aacn_lib.training import MuonWithAdamW, make_optimiser, make_schedule
from aacn_lib.training.optimisers import frozen_statistics, hidden_kernels, sam_ascend
from aacn_lib.weights import create_model


@dataclass(frozen=True)
class Settings:
    """The fields of `Training` that the optimisers and schedules read."""

    optimiser: str = "adam"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    decay_norms: bool = True
    schedule: str = "constant"
    warmup_epochs: float = 0.0
    milestones: tuple = ()
    drop: float = 0.2


def network() -> nn.Module:
    """All kinds of parameters: kernels, relative tables, norms, biases and a classifier."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        AAConv2d(5, 7, 3, depth_k=4, depth_v=4, num_heads=2, feature_size=(5, 3)),
        nn.Flatten(),
        nn.Linear(7 * 5 * 3, 3),
    )


def batch(number: int = 0) -> tuple:
    generator = torch.Generator().manual_seed(number)
    return torch.randn(11, 2, 5, 3, generator=generator), torch.randint(0, 3, (11,), generator=generator)


def differentiate(model, number=0):
    images, labels = batch(number)
    model.zero_grad()
    F.cross_entropy(model(images), labels).backward()


def train(model, optimiser, schedule=None, steps=range(6)):
    for number in steps:
        differentiate(model, number)
        optimiser.step()
        if schedule is not None:
            schedule.step()


def saved_and_read(state):
    """What a checkpoint file does to `state`."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def names(model, parameters) -> set:
    known = {parameter: name for name, parameter in model.named_parameters()}
    return {known[parameter] for parameter in parameters}


# AdamW and SGD


@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_adam_and_sgd_are_torchs_bit_for_bit(name, schedule):
    settings = Settings(optimiser=name, weight_decay=0.1, schedule=schedule)
    ours, theirs = network(), network()
    optimiser = make_optimiser(ours, settings)
    if name == "adam":
        expected = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.1)
    else:
        expected = torch.optim.SGD(theirs.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1)
    rates = make_schedule(optimiser, settings, 3, 6)
    one_cycle = schedule == "one_cycle"
    expected_rates = (
        OneCycleLR(expected, 0.01, total_steps=6) if one_cycle else ConstantLR(expected, factor=1.0, total_iters=0)
    )
    for number in range(6):
        assert optimiser.state_dict()["param_groups"] == expected.state_dict()["param_groups"]
        train(ours, optimiser, rates, [number])
        train(theirs, expected, expected_rates, [number])
    assert same(ours, theirs)


def test_momentum_is_that_of_sgd_and_none_is_plain_descent():
    parameter = nn.Parameter(torch.tensor([1.0]))
    model = nn.ParameterList([parameter])
    optimiser = make_optimiser(model, Settings(optimiser="sgd", learning_rate=0.5, momentum=0.0))
    for _ in range(2):
        parameter.grad = torch.tensor([0.25])
        optimiser.step()
    assert parameter.item() == 0.75
    optimiser = make_optimiser(model, Settings(optimiser="sgd", learning_rate=0.5, momentum=0.5))
    for _ in range(2):  # Nesterov: steps of 0.5 · (0.25 + 0.5 · 0.25) and 0.5 · (0.25 + 0.5 · 0.375)
        parameter.grad = torch.tensor([0.25])
        optimiser.step()
    assert parameter.item() == 0.75 - 0.1875 - 0.21875


@pytest.mark.parametrize("name", ["adam", "sgd", "muon"])
def test_without_decay_of_norms_only_matrices_and_kernels_shrink(name):
    for decay_norms in (True, False):
        model = network()
        nn.init.constant_(model[1].bias, 0.3)
        optimiser = make_optimiser(model, Settings(optimiser=name, weight_decay=0.1, decay_norms=decay_norms))
        assert sum(len(group["params"]) for group in optimiser.param_groups) == len(list(model.parameters()))
        before = {p: p.detach().clone() for p in model.parameters()}
        for parameter in model.parameters():  # no gradient to follow: decay alone is left
            parameter.grad = torch.zeros_like(parameter)
        optimiser.step()
        shrunk = names(model, [p for p in before if p.norm() < before[p].norm()])
        kept = names(model, [p for p in before if torch.equal(p, before[p])])
        vectors = {name for name, p in model.named_parameters() if p.ndim < 2}
        assert len(vectors) == 7
        assert kept == (set() if decay_norms else vectors)
        assert shrunk == {name for name, _ in model.named_parameters()} - kept


# Muon


def orthogonal(matrix):
    """Five Newton–Schulz steps of X → aX + (bA + cA²)X, A = XXᵀ, in double precision (Jordan et al. 2024)."""
    X = matrix.double() / matrix.double().norm()
    for _ in range(5):
        A = X @ X.T
        X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
    return X


@pytest.mark.parametrize("shape", [(5, 3, 2, 2), (13, 2, 1, 3), (7, 3, 2), (6, 4)])  # broad and tall
def test_muon_steps_as_the_definition_says(shape):
    kernel = nn.Parameter(torch.randn(shape))
    gradients = [torch.randn(shape), torch.randn(shape)]
    optimiser = MuonWithAdamW([kernel], [], lr=0.1, momentum=0.8, weight_decay=0.5)
    expected, average = kernel.detach().double().flatten(1), torch.zeros(shape[0], math.prod(shape[1:]))
    scale = 0.1 * 0.2 * max(average.shape) ** 0.5
    for gradient in gradients:
        kernel.grad = gradient.clone()
        optimiser.step()
        average = 0.8 * average + 0.2 * gradient.flatten(1)
        step = scale * orthogonal(0.8 * average + 0.2 * gradient.flatten(1))
        expected = expected * (1 - 0.1 * 0.5) - step
        error = (kernel.detach().double().flatten(1) - expected).norm() / step.norm()
        assert error < 0.03  # torch computes in bfloat16, of 8 bits
        expected = kernel.detach().double().flatten(1)
        assert torch.equal(kernel.grad, gradient)


def test_muon_moves_entries_by_about_a_fifth_of_the_rate():
    """So one rate serves Muon and AdamW (Liu et al. 2025): the middle of a run, gradients alike from step to step."""
    for shape in [(16, 8, 3, 3), (64, 8, 1, 1), (8, 64)]:
        kernel = nn.Parameter(torch.zeros(shape))
        kernel.grad = torch.randn(shape)
        MuonWithAdamW([kernel], [], lr=0.01).step()
        assert 0.15 < kernel.detach().square().mean().sqrt() / 0.01 < 0.25


def test_kernels_in_channels_last_order_step_as_others():
    plain = nn.Parameter(torch.randn(5, 3, 2, 2))
    last = nn.Parameter(plain.detach().clone().to(memory_format=torch.channels_last))
    assert not last.is_contiguous()
    ours, theirs = MuonWithAdamW([last], []), MuonWithAdamW([plain], [])
    for _ in range(3):
        plain.grad = torch.randn(5, 3, 2, 2)
        last.grad = plain.grad.to(memory_format=torch.channels_last)
        before = last.detach().clone()
        ours.step()
        theirs.step()
        assert torch.equal(last, plain)
        assert not torch.equal(last, before)
    assert not last.is_contiguous()


def test_all_but_muons_kernels_step_as_adamw_alone_would():
    settings = Settings(optimiser="muon", weight_decay=0.1, decay_norms=False)
    ours, theirs = network(), network()
    optimiser, adamw = make_optimiser(ours, settings), make_optimiser(theirs, replace(settings, optimiser="adam"))
    differentiate(ours)
    differentiate(theirs)
    optimiser.step()
    adamw.step()
    kernels = names(ours, hidden_kernels(ours))
    assert kernels == {"3.conv.weight", "3.qkv.weight", "3.output.weight"}
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b) == (name not in kernels)


@pytest.mark.parametrize(
    ("model", "options", "left_to_adamw"),
    [
        ("plain_cnn", {}, {"stem.0.weight", "head.weight"}),
        ("aa_cnn", {}, {"stem.0.weight", "head.weight", "mix.rel_h", "mix.rel_w"}),
        ("cbam_cnn", {}, {"stem.0.weight", "mix.1.spatial.conv.weight", "head.weight"}),
        ("vit", {"depth": 1}, {"patches.weight", "positions", "head.weight"}),
        (
            "three_aa_conv",
            {"widths": (16, 16, 16)},
            {"head.weight"}
            | {f"features.0.{part}.weight" for part in ("conv", "qkv", "output")}
            | {f"features.{layer}.rel_{side}" for layer in (0, 4, 8) for side in "hw"},
        ),
    ],
)
def test_muon_takes_the_hidden_kernels(model, options, left_to_adamw):
    model = create_model(model, 3, 8, 3, **options)
    matrices = {name for name, p in model.named_parameters() if p.ndim >= 2}
    assert names(model, hidden_kernels(model)) == matrices - left_to_adamw
    groups = make_optimiser(model, Settings(optimiser="muon")).param_groups
    assert names(model, groups[0]["params"]) == matrices - left_to_adamw
    assert len(groups) == 2


def test_muon_leaves_grouped_frozen_and_tied_kernels_right():
    layers = [nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)]
    layers[3].weight = layers[2].weight
    frozen = nn.Conv2d(4, 4, 1).requires_grad_(False)
    assert hidden_kernels(nn.Sequential(*layers[:-1], frozen, layers[-1])) == [layers[2].weight]


def test_a_parameter_without_gradient_stays_and_has_no_state():
    model = network()
    optimiser = make_optimiser(model, Settings(optimiser="muon", weight_decay=0.1))
    differentiate(model)
    kernel, bias = model[3].qkv.weight, model[3].qkv.bias
    kernel.grad = bias.grad = None
    before = kernel.detach().clone(), bias.detach().clone()
    optimiser.step()
    assert torch.equal(kernel, before[0])
    assert torch.equal(bias, before[1])
    assert kernel not in optimiser.state
    assert bias not in optimiser.state
    assert model[3].conv.weight in optimiser.state


def test_muon_carries_out_a_closure_and_clears_gradients():
    model, twin = network(), network()
    optimiser = make_optimiser(model, Settings(optimiser="muon"))
    loss = optimiser.step(lambda: differentiate(model) or "the loss")
    assert loss == "the loss"
    train(twin, make_optimiser(twin, Settings(optimiser="muon")), steps=[0])
    assert same(model, twin)
    optimiser.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_muon_works_behind_a_gradient_scaler():
    model, twin = network(), network()
    optimiser = make_optimiser(model, Settings(optimiser="muon"))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)  # a power of two changes no bit
    images, labels = batch()
    for weight in (1.0, float("inf")):  # the second step overflows and is left out
        optimiser.zero_grad()
        scaler.scale(weight * F.cross_entropy(model(images), labels)).backward()
        with frozen_statistics(model):
            scaler.unscale_(optimiser)
            scaler.step(optimiser)
            scaler.update()
        if weight == 1.0:
            train(twin, make_optimiser(twin, Settings(optimiser="muon")), steps=[0])
            assert same(model, twin)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_a_resumed_muon_run_ends_bitwise_equal(schedule):
    settings = Settings(optimiser="muon", schedule=schedule, weight_decay=0.1, decay_norms=False)

    def start():
        model = network()
        optimiser = make_optimiser(model, settings)
        return model, optimiser, make_schedule(optimiser, settings, 3, 6)

    whole = start()
    train(*whole)
    stopped = start()
    train(*stopped, range(3))
    states = saved_and_read([part.state_dict() for part in stopped])
    resumed = start()
    train(*resumed, range(1))  # whatever state there is, the one read takes its place
    for part, state in zip(resumed, states, strict=True):
        part.load_state_dict(state)
    train(*resumed, range(3, 6))
    assert same(whole[0], resumed[0])
    assert not same(whole[0], stopped[0])
    flat = [saved_and_read(optimiser.state_dict()) for _, optimiser, _ in (whole, resumed)]
    assert flat[0]["param_groups"] == flat[1]["param_groups"]
    torch.testing.assert_close(flat[0]["state"], flat[1]["state"], rtol=0, atol=0)
    assert len(flat[0]["state"]) == len(list(whole[0].parameters()))


# SAM


def test_sam_on_a_quadratic_by_hand():
    """L = (w₁² + 2 w₂²) / 2 at (3, 2): g = (3, 4) of norm 5; 0.5 along it lies (3.3, 2.4), with gradient (3.3, 4.8)."""
    weight = nn.Parameter(torch.tensor([3.0, 2.0], dtype=torch.float64))
    model = nn.ParameterList([weight])
    curvature = torch.tensor([1.0, 2.0], dtype=torch.float64)
    optimiser = make_optimiser(model, Settings(optimiser="sgd", learning_rate=0.1, momentum=0.0))
    (weight.square() @ curvature / 2).backward()
    with sam_ascend(model, 0.5):
        torch.testing.assert_close(weight.tolist(), [3.3, 2.4])
        optimiser.zero_grad()
        (weight.square() @ curvature / 2).backward()
    assert weight.tolist() == [3.0, 2.0]
    optimiser.step()
    torch.testing.assert_close(weight.tolist(), [3 - 0.33, 2 - 0.48])


@pytest.mark.parametrize("factor", [1.0, 65536.0])
def test_sam_moves_by_the_radius_along_the_gradient_and_back_bit_for_bit(factor):
    model = network()
    differentiate(model)
    unused = model[3].output.bias
    unused.grad = None
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad *= factor  # as loss scaling does
    old = [p.detach().clone() for p in model.parameters()]
    with sam_ascend(model, 0.37):
        moves = torch.cat([(p - q).detach().flatten() for p, q in zip(model.parameters(), old, strict=True)])
        gradient = torch.cat(
            [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in model.parameters()]
        )
        torch.testing.assert_close(moves.norm().item(), 0.37, rtol=1e-4, atol=0)
        torch.testing.assert_close(moves, 0.37 * gradient / gradient.norm(), rtol=0, atol=1e-6)
        differentiate(model, 1)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), old, strict=True))


def test_sam_goes_back_after_an_error_too():
    model = network()
    differentiate(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="in the middle"), sam_ascend(model, 0.1):
        raise RuntimeError("in the middle")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model[1].track_running_stats


def test_sam_without_a_gradient_moves_nothing():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for zero in (False, True):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter) if zero else None
        with sam_ascend(model, 0.1):
            assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_running_statistics_are_frozen_in_sams_second_pass_only():
    model = network()
    statistics = (model[1].running_mean, model[1].running_var, model[1].num_batches_tracked)
    fresh = [value.clone() for value in statistics]
    differentiate(model)
    first = [value.clone() for value in statistics]
    assert not any(torch.equal(a, b) for a, b in zip(fresh, first, strict=True))
    with sam_ascend(model, 0.1):
        differentiate(model, 1)
        assert all(torch.equal(a, b) for a, b in zip(statistics, first, strict=True))
    differentiate(model, 1)
    assert not any(torch.equal(a, b) for a, b in zip(statistics, first, strict=True))


def test_frozen_statistics_change_neither_gradients_nor_evaluation():
    frozen, usual = network(), network()
    differentiate(usual)
    with frozen_statistics(frozen):
        differentiate(frozen)
    for a, b in zip(frozen.parameters(), usual.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    images, _ = batch()
    usual.eval()
    expected = usual(images)
    with frozen_statistics(usual):
        assert torch.equal(usual(images), expected)


def test_norms_that_never_track_stay_so():
    norm = nn.BatchNorm2d(3, track_running_stats=False)
    with frozen_statistics(norm):
        pass
    assert not norm.track_running_stats


# Schedules


def rates(settings, steps_per_epoch, total_steps):
    """The rate of each step, and the one after the last, of every parameter group."""
    model = network()
    optimiser = make_optimiser(model, settings)
    schedule = make_schedule(optimiser, settings, steps_per_epoch, total_steps)
    found = []
    for _ in range(total_steps):
        found.append([group["lr"] for group in optimiser.param_groups])
        optimiser.step()
        schedule.step()
    found.append([group["lr"] for group in optimiser.param_groups])
    assert all(len(set(groups)) == 1 for groups in found)
    return [groups[0] for groups in found]


@pytest.mark.parametrize(
    ("settings", "factors"),
    [
        ({}, [1] * 9),
        ({"warmup_epochs": 0.75}, [1 / 4, 2 / 4, 3 / 4, 1, 1, 1, 1, 1, 1]),
        (
            {"schedule": "cosine", "warmup_epochs": 0.5},
            [1 / 3, 2 / 3, 1, *((1 + math.cos(math.pi * k / 6)) / 2 for k in range(1, 6)), 0],
        ),
        ({"schedule": "multi_step", "milestones": (0.5, 1.25)}, [1, 1, 0.2, 0.2, 0.2, 0.04, 0.04, 0.04, 0.04]),
        (
            {"schedule": "multi_step", "milestones": (1,), "drop": 0.1, "warmup_epochs": 0.25},
            [1 / 2, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1],
        ),
    ],
)
@pytest.mark.parametrize("optimiser", ["sgd", "muon"])
def test_rates_are_those_of_the_formula(settings, factors, optimiser):
    settings = Settings(optimiser=optimiser, learning_rate=0.5, decay_norms=False, **settings)
    torch.testing.assert_close(rates(settings, 4, 8), [0.5 * factor for factor in factors], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["cosine", "multi_step", "one_cycle"])
def test_rates_are_those_of_torchs_schedulers(name):
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3, momentum=0.9)
    schedule = {
        "cosine": lambda: CosineAnnealingLR(optimiser, 15),
        "multi_step": lambda: MultiStepLR(optimiser, [3, 11], gamma=0.2),
        "one_cycle": lambda: OneCycleLR(optimiser, 0.3, total_steps=15),
    }[name]()
    expected = []
    for _ in range(15):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    milestones = (0.6, 2.2) if name == "multi_step" else ()
    for optimiser_name in ("adam", "sgd", "muon"):
        settings = Settings(optimiser=optimiser_name, learning_rate=0.3, schedule=name, milestones=milestones)
        settings = replace(settings, decay_norms=False)
        torch.testing.assert_close(rates(settings, 5, 15)[:15], expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(
    ("optimiser", "momentum", "expected"),
    [("sgd", 0.9, 0.85), ("sgd", 0.8, 0.8), ("adam", 0.9, 0.85), ("adam", 0.8, 0.85), ("muon", 0.9, 0.9)],
)
def test_one_cycle_moves_the_default_momentum_only(optimiser, momentum, expected):
    settings = Settings(optimiser=optimiser, momentum=momentum, schedule="one_cycle")
    built = make_optimiser(network(), settings)
    schedule = make_schedule(built, settings, 10, 10)
    for _ in range(2):  # to the top of the cycle: 30 % of ten steps, less one
        built.step()
        schedule.step()
    group = built.param_groups[0]
    assert (group["betas"][0] if optimiser == "adam" else group["momentum"]) == expected
    assert group["lr"] == 0.01


@pytest.mark.parametrize("name", ["constant", "one_cycle", "cosine", "multi_step"])
def test_a_schedule_read_back_goes_on_where_it_was(name):
    settings = Settings(
        schedule=name,
        milestones=(1, 2.5) if name == "multi_step" else (),
        warmup_epochs=0 if name == "one_cycle" else 1,
    )
    expected = rates(settings, 4, 12)
    states = []
    for first, last in ((0, 3), (3, 7), (7, 12)):  # stopped twice, once within the warm-up
        optimiser = make_optimiser(network(), settings)
        schedule = make_schedule(optimiser, settings, 4, 12)
        for part, state in zip((optimiser, schedule), states, strict=bool(states)):
            part.load_state_dict(state)
        for step in range(first, last):
            assert optimiser.param_groups[0]["lr"] == expected[step]
            optimiser.step()
            schedule.step()
        states = saved_and_read([optimiser.state_dict(), schedule.state_dict()])


@pytest.mark.parametrize("name", ["constant", "cosine", "one_cycle"])
def test_a_run_of_one_step_has_a_rate(name):
    assert rates(Settings(schedule=name), 1, 1)[0] > 0


# Errors


def test_unknown_optimisers_and_schedules_are_named():
    with pytest.raises(ValueError, match=r"optimiser: expected one of \['adam', 'sgd', 'muon'\], got 'adamax'"):
        make_optimiser(network(), Settings(optimiser="adamax"))
    with pytest.raises(ValueError, match=r"schedule: expected one of \['constant', .*\], got 'linear'"):
        make_schedule(make_optimiser(network(), Settings()), Settings(schedule="linear"), 1, 1)


@pytest.mark.parametrize(
    "layers", [[nn.Linear(4, 2)], [nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4, 2)], [nn.ReLU()]]
)
def test_muon_refuses_a_network_without_hidden_layers(layers):
    with pytest.raises(ValueError, match="expected hidden layers, which muon is for, got 'Sequential'"):
        make_optimiser(nn.Sequential(*layers), Settings(optimiser="muon"))


@pytest.mark.parametrize("schedule", ["constant", "cosine", "multi_step"])
def test_a_warm_up_is_shorter_than_the_run(schedule):
    optimiser = make_optimiser(network(), Settings())
    settings = Settings(schedule=schedule, warmup_epochs=1.75, milestones=(1,))
    assert make_schedule(optimiser, settings, 4, 8) is not None
    for epochs in (2, 2.5):
        with pytest.raises(ValueError, match=rf"warmup_epochs: expected less than the run's 2 epochs, got {epochs}"):
            make_schedule(optimiser, replace(settings, warmup_epochs=epochs), 4, 8)


def test_one_cycle_has_its_own_warm_up():
    settings = Settings(schedule="one_cycle", warmup_epochs=0.5)
    with pytest.raises(ValueError, match=r"warmup_epochs: expected 0 with one_cycle, which warms up, got 0\.5"):
        make_schedule(make_optimiser(network(), settings), settings, 4, 8)
