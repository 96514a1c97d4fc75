"""The residual networks: counts of the papers, equality with torchvision, and where attention goes."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aacn_lib.layers import CBAM, AAConv2d, GatherExcite, SqueezeExcite, StochasticDepth
from aacn_lib.models import BasicBlock, Bottleneck, CBAMResNet, ResNet, WideBlock, WideResNet
from aacn_lib.weights import create_model


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def on_meta(*arguments, **overrides) -> nn.Module:
    """A network without memory: for counting."""
    with torch.device("meta"):
        return create_model(*arguments, **overrides)


def augmented(model: nn.Module) -> dict[str, AAConv2d]:
    return {name: module for name, module in model.named_modules() if isinstance(module, AAConv2d)}


def with_lively_norms(model: nn.Module) -> nn.Module:
    """Random affine parts and running statistics, so that forgetting a normalisation shows."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 1)
            nn.init.normal_(module.bias, std=0.3)
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


# ---- counts -------------------------------------------------------------------------------------------------------

IMAGENET = [
    # name, overrides, parameters with 1000 classes at 224 pixels, as printed in the paper (millions, None: not printed)
    ("resnet18", {}, 11_689_512, None),
    ("resnet34", {}, 21_797_672, "21.8"),
    ("resnet50", {}, 25_557_032, "25.6"),
    ("resnet101", {}, 44_549_160, "44.5"),
    ("resnet152", {}, 60_192_808, None),
    ("se_resnet50", {}, 28_088_024, "28.1"),
    ("ge_resnet50", {}, 25_557_032, None),
    ("aa_resnet34", {}, 20_749_552, "20.7"),
    ("aa_resnet50", {}, 25_781_872, "25.8"),
    ("aa_resnet101", {}, 45_359_208, "45.4"),
    ("aa_resnet152", {}, 61_558_496, None),
    ("aa_resnet50", {"key_ratio": 0.25, "value_ratio": 0.25}, 24_308_208, "24.3"),
    ("aa_resnet50", {"key_ratio": 0.5, "value_ratio": 0.5}, 22_347_160, "22.3"),
    ("aa_resnet50", {"key_ratio": 0.75, "value_ratio": 0.75}, 20_739_976, "20.7"),
    ("aa_resnet50", {"key_ratio": 1.0, "value_ratio": 1.0}, 19_388_040, "19.4"),
]


@pytest.mark.parametrize(("name", "overrides", "parameters", "printed"), IMAGENET)
def test_imagenet_networks_have_the_papers_parameters(name, overrides, parameters, printed):
    found = count(on_meta(name, 1000, 224, **overrides))
    assert found == parameters
    if printed is not None:
        assert f"{found / 1e6:.1f}" == printed


@pytest.mark.parametrize(
    ("depth", "nearest", "down"), [(50, 25.782, 25.814), (101, 45.359, 45.391), (152, 61.558, 61.622)]
)
def test_both_readings_of_a_value_ratio_that_divides_unevenly(depth, nearest, down):
    """υ = 0.1 of 128 and 256 channels is 12.8 and 25.6: with 8 heads the nearest multiples are 16 and 24, the ones
    below 8 and 24. The library takes the nearest; the paper's printed 25.8 and 45.4 fit both."""
    model = on_meta(f"aa_resnet{depth}", 1000, 224)
    assert round(count(model) / 1e6, 3) == nearest
    other = count(model)
    for layer in augmented(model).values():
        below = 8 * math.floor(0.1 * layer.out_channels / 8)
        options = {"depth_k": layer.depth_k, "depth_v": below, "feature_size": layer.feature_size, "bias": False}
        with torch.device("meta"):
            other += count(AAConv2d(layer.in_channels, layer.out_channels, **options)) - count(layer)
    assert round(other / 1e6, 3) == down
    if depth < 152:
        assert f"{other / 1e6:.1f}" == f"{nearest:.1f}"


def test_wide_resnets_have_the_papers_parameters():
    plain = on_meta("wide_resnet28_10", 100, 32)
    assert count(plain) == 36_536_884
    assert count(on_meta("wide_resnet28_10", 10, 32)) == 36_479_194  # Zagoruyko and Komodakis 2016, table 4: 36.5M
    assert count(on_meta("ge_wide_resnet28_10", 100, 32)) == count(plain)
    assert count(on_meta("se_wide_resnet28_10", 100, 32)) == 36_810_444
    # Bello et al. print 36.3M for the plain network: what is left without the 1×1 convolutions of the three shortcuts.
    shortcuts = [m.shortcut for m in plain.modules() if isinstance(m, WideBlock) and m.shortcut is not None]
    assert len(shortcuts) == 3
    assert count(plain) - sum(map(count, shortcuts)) == 36_278_324
    # Their augmented network has 36.2M.
    assert count(on_meta("aa_wide_resnet28_10", 100, 32)) == 36_312_660
    assert count(on_meta("aa_wide_resnet28_10", 100, 32, attention_stages=(1, 2, 3))) == 36_312_660
    assert count(on_meta("aa_wide_resnet28_10", 100, 32, attention_stages=(2, 3))) == 36_206_324
    assert count(on_meta("wide_resnet16_4", 10, 32)) == 2_748_890  # table 4: 2.7M
    assert count(on_meta("wide_resnet40_2", 10, 32)) == 2_243_546  # table 4: 2.2M
    assert count(on_meta("wide_resnet28_10", 10, 32, depth=40, width=4)) == 8_949_210  # table 4: 8.9M


def test_the_circulating_cbam_network_has_4913705_parameters():
    model = on_meta("cbam_resnet", 10, 32)
    assert count(model) == 4_913_705
    assert count(on_meta("cbam_resnet", 10, 32, join="sum_of_sigmoids")) == 4_913_705
    widths = [model.conv1.out_channels, *(getattr(model, f"layer{n}")[0].conv1.out_channels for n in (1, 2, 3, 4))]
    assert widths == [31, 62, 124, 248, 248]
    hidden = [m.channel.mlp[0].out_features for m in model.modules() if isinstance(m, CBAM)]
    assert hidden == [15, 15, 17, 17, 16, 16, 16, 16]


# ---- equality with torchvision ------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_plain_resnets_are_torchvisions(depth):
    import torchvision

    theirs = getattr(torchvision.models, f"resnet{depth}")(num_classes=7)
    with_lively_norms(theirs)
    ours = create_model(f"resnet{depth}", 7, (65, 71))
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 65, 71)
    ours.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
        fresh = create_model(f"resnet{depth}", 7, (65, 71)).eval()
        theirs.load_state_dict(fresh.state_dict())
        torch.testing.assert_close(fresh(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_gradients_of_resnet18_are_torchvisions():
    import torchvision

    theirs = torchvision.models.resnet18(num_classes=7).double()
    ours = create_model("resnet18", 7, 66).double()
    ours.load_state_dict(theirs.state_dict())
    x, labels = torch.randn(2, 3, 66, 66, dtype=torch.float64), torch.tensor([3, 5])
    for model in (ours, theirs):
        nn.functional.cross_entropy(model(x), labels).backward()
    wanted = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad, msg=lambda text, name=name: f"{name}: {text}")
    torch.testing.assert_close(ours.bn1.running_mean, theirs.bn1.running_mean)


# ---- the other networks, written out ------------------------------------------------------------------------------


class Weights:
    """Convolution and normalisation of a picture by the weights of a state dict, named by their path."""

    def __init__(self, model: nn.Module):
        self.state = model.state_dict()

    def conv(self, x, path, stride=1):
        weight = self.state[f"{path}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(self, x, path):
        mean, var, weight, bias = (
            self.state[f"{path}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def head(self, x):
        return x.mean(dim=(2, 3)) @ self.state["fc.weight"].T + self.state["fc.bias"]


def test_wide_resnet_written_out():
    model = with_lively_norms(create_model("wide_resnet16_4", 7, (11, 13), width=1)).double()
    x = torch.randn(2, 3, 11, 13, dtype=torch.float64)
    out, w = model(x), Weights(model)
    x = w.conv(x, "conv1")
    for stage in (1, 2, 3):
        for number in (0, 1):
            path, stride = f"layer{stage}.{number}", 2 if stage > 1 and number == 0 else 1
            activated = w.norm(x, f"{path}.bn1").clamp(min=0)
            branch = w.norm(w.conv(activated, f"{path}.conv1", stride), f"{path}.bn2").clamp(min=0)
            if stride == 2:
                x = w.conv(activated, f"{path}.shortcut", 2)
            x = x + w.conv(branch, f"{path}.conv2")
    torch.testing.assert_close(out, w.head(w.norm(x, "bn").clamp(min=0)))


@pytest.mark.parametrize("join", ["sigmoid_of_sum", "sum_of_sigmoids"])
def test_cbam_resnet_written_out(join):
    model = with_lively_norms(create_model("cbam_resnet", 7, (11, 13), width=5, join=join)).double()
    x = torch.randn(2, 3, 11, 13, dtype=torch.float64)
    out, w = model(x), Weights(model)

    def mlp(summary, path):
        return (summary @ w.state[f"{path}.0.weight"].T).clamp(min=0) @ w.state[f"{path}.2.weight"].T

    x = w.norm(w.conv(x, "conv1"), "bn1").clamp(min=0)
    for stage, first_stride in ((1, 1), (2, 2), (3, 2), (4, 1)):
        for number in (0, 1):
            path, stride = f"layer{stage}.{number}", 1 if number else first_stride
            branch = w.norm(w.conv(x, f"{path}.conv1", stride), f"{path}.bn1").clamp(min=0)
            branch = w.norm(w.conv(branch, f"{path}.conv2"), f"{path}.bn2")
            mean, maximum = (mlp(s, f"{path}.gate.channel.mlp") for s in (branch.mean((2, 3)), branch.amax((2, 3))))
            weights = (mean + maximum).sigmoid() if join == "sigmoid_of_sum" else mean.sigmoid() + maximum.sigmoid()
            branch = branch * weights[:, :, None, None]
            summary = torch.stack([branch.mean(1), branch.amax(1)], dim=1)
            branch = branch * w.conv(summary, f"{path}.gate.spatial.conv").sigmoid()
            if number == 0 and stage < 4:
                x = w.norm(w.conv(x, f"{path}.downsample.0", stride), f"{path}.downsample.1")
            x = (x + branch).clamp(min=0)
    torch.testing.assert_close(out, w.head(w.norm(w.conv(x, "conv2"), "bn2").clamp(min=0)))


@pytest.mark.parametrize("name", ["wide_resnet16_4", "cbam_resnet"])
def test_dropout_is_drawn_in_training_only(name):
    x = torch.randn(4, 3, 9, 7)
    for share, same in ((0.0, True), (0.5, False)):
        model = create_model(name, 7, (9, 7), width=4, dropout=share)
        assert torch.equal(model(x), model(x)) == same
        model.eval()
        assert torch.equal(model(x), model(x))


def test_convolutions_start_as_in_resnets_and_attention_as_in_pytorch():
    model = create_model("aa_resnet50", 10, 32, attention_stages=(4,))
    plain, layer = model.layer3[1].conv2.weight, model.layer4[1].conv2
    assert plain.std().item() == pytest.approx(math.sqrt(2 / (9 * 256)), rel=0.02)
    assert layer.conv.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * layer.conv.out_channels)), rel=0.02)
    for own in (layer.qkv.weight, layer.output.weight):  # uniform in ± 1/√fan_in
        bound = own.shape[1] ** -0.5
        assert 0.9 * bound < own.abs().max().item() <= bound


# ---- where attention goes -----------------------------------------------------------------------------------------


def test_the_augmented_convolution_is_the_one_that_strides():
    model = on_meta("aa_resnet34", 10, 224)
    expected = {f"layer{stage}.{n}.conv1" for stage, blocks in ((2, 4), (3, 6), (4, 3)) for n in range(blocks)}
    assert augmented(model).keys() == expected
    model = on_meta("aa_resnet50", 10, 224)
    assert augmented(model).keys() == {name.replace("conv1", "conv2") for name in expected}
    for name, layer in augmented(model).items():
        assert layer.stride == (2 if ".0." in name else 1)
        assert layer.kernel_size == 3
        assert layer.num_heads == 8
        assert layer.depth_k // 8 >= 20
        assert layer.feature_size == {"2": (28, 28), "3": (14, 14), "4": (7, 7)}[name[5]]
    wide = augmented(on_meta("aa_wide_resnet28_10", 100, 32))
    assert wide.keys() == {f"layer{stage}.{n}.conv1" for stage in (1, 2, 3) for n in range(4)}
    assert {name[5]: layer.feature_size for name, layer in wide.items()} == {"1": (32, 32), "2": (16, 16), "3": (8, 8)}
    assert {(layer.depth_k, layer.depth_v) for layer in wide.values()} == {(160, 16), (160, 32), (160, 64)}


def test_defaults_of_the_ratios():
    for name, ratios in (("aa_resnet18", (0.25, 0.25)), ("aa_resnet34", (0.25, 0.25)), ("aa_resnet101", (0.2, 0.1))):
        model = on_meta(name, 10, 224)
        named = on_meta(name, 10, 224, key_ratio=ratios[0], value_ratio=ratios[1])
        for (name, layer), other in zip(augmented(model).items(), augmented(named).values(), strict=True):
            assert (layer.depth_k, layer.depth_v) == (other.depth_k, other.depth_v), name


@pytest.mark.parametrize("name", ["aa_resnet18", "aa_resnet50", "aa_wide_resnet16_4"])
@pytest.mark.parametrize("stages", [(1,), (3,), (1, 3), (3, 2), (1, 2, 3)])
def test_stage_switches_change_exactly_the_expected_modules(name, stages):
    model, plain = on_meta(name, 10, 32, attention_stages=stages), on_meta(name.removeprefix("aa_"), 10, 32)
    changed = augmented(model)
    assert {int(name[5]) for name in changed} == set(stages)
    for stage in stages:
        blocks = len(getattr(model, f"layer{stage}"))
        assert sum(name.startswith(f"layer{stage}.") for name in changed) == blocks

    def kept(network):
        return {
            key: tensor.shape
            for key, tensor in network.state_dict().items()
            if not any(key.startswith(f"{name}.") for name in changed)
        }

    assert kept(model) == kept(plain)


@pytest.mark.parametrize(
    ("prefix", "kind", "own"), [("se", SqueezeExcite, True), ("ge", GatherExcite, False), ("cbam", CBAM, True)]
)
def test_gates_stand_in_every_block_or_in_the_stages_named(prefix, kind, own):
    plain = on_meta("resnet50", 10, 224)
    for stages, blocks in ((None, 16), ((4,), 3), ((1, 2), 7)):
        model = on_meta(f"{prefix}_resnet50", 10, 224, attention_stages=stages)
        gates = {name: module for name, module in model.named_modules() if isinstance(module, kind)}
        assert len(gates) == blocks
        assert all(name.endswith(".gate") for name in gates)
        if stages is not None:
            assert {int(name[5]) for name in gates} == set(stages)
        assert count(model) == count(plain) + sum(map(count, gates.values()))
        assert (count(model) > count(plain)) == own


def test_the_gate_scales_the_branch_after_its_last_normalisation_and_before_the_sum():
    for block in (BasicBlock(8, 8, attention="se"), Bottleneck(8, 2, attention="se"), WideBlock(8, 8, attention="se")):
        block.eval()
        x = torch.randn(2, 8, 5, 7)
        seen = {}
        last = [module for module in block.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
        last = (
            block.conv2 if isinstance(block, WideBlock) else (block.bn3 if isinstance(block, Bottleneck) else block.bn2)
        )
        last.register_forward_hook(lambda module, inputs, output, seen=seen: seen.update(last=output))
        out = block(x)
        expected = x + block.gate(seen["last"])
        torch.testing.assert_close(out, expected if isinstance(block, WideBlock) else expected.relu())


def test_gate_options_reach_the_gates():
    model = on_meta("ge_resnet18", 10, 32, gate_options={"extent": 2})
    assert {m.extent for m in model.modules() if isinstance(m, GatherExcite)} == {2}
    model = on_meta("se_wide_resnet16_4", 10, 32, gate_options={"reduction": 4})
    assert model.layer1[0].gate.squeeze.out_features == 16


def test_augmentation_options_reach_the_layers():
    options = {"num_heads": 2, "min_depth_k_per_head": 3, "position_encoding": "sine", "implementation": "skew"}
    model = on_meta("aa_resnet18", 10, 32, key_ratio=0.1, attention_stages=[3, 2], attention_pool=[1, 2], **options)
    for name, layer in augmented(model).items():
        assert (layer.num_heads, layer.position_encoding, layer.implementation) == (2, "sine", "skew")
        assert layer.depth_k == 2 * max(3, round(0.05 * layer.out_channels))
        assert layer.attention_pool == (1 if name.startswith("layer3") else 2)
    model = on_meta("aa_wide_resnet16_4", 10, 32, attention_pool=2)
    assert {layer.attention_pool for layer in augmented(model).values()} == {2}
    assert model.layer2[0].conv1.rel_h.shape == (2 * 8 - 1, 20)


def test_fully_attentional():
    model = on_meta("aa_resnet50", 10, 64, value_ratio=1.0, attention_stages=(1, 2, 3, 4))
    assert len(augmented(model)) == 16
    assert all(layer.conv is None for layer in augmented(model).values())
    spatial = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    assert spatial == [model.conv1]


@pytest.mark.parametrize(
    ("name", "size", "options", "maps"),
    [
        ("aa_resnet18", (65, 71), {}, {"1": (17, 18), "2": (9, 9), "3": (5, 5), "4": (3, 3)}),
        ("aa_resnet18", (65, 71), {"stem": "small"}, {"1": (65, 71), "2": (33, 36), "3": (17, 18), "4": (9, 9)}),
        ("aa_resnet50", (33, 64), {}, {"1": (33, 64), "2": (17, 32), "3": (9, 16), "4": (5, 8)}),
        ("aa_resnet50", (33, 64), {"stem": "large"}, {"1": (9, 16), "2": (5, 8), "3": (3, 4), "4": (2, 2)}),
        ("aa_wide_resnet16_4", (31, 47), {}, {"1": (31, 47), "2": (16, 24), "3": (8, 12)}),
    ],
)
def test_feature_sizes_are_the_maps_that_the_layers_see(name, size, options, maps):
    model = on_meta(name, 10, size, attention_stages=tuple(int(stage) for stage in maps), **options)
    seen = {}
    for path, layer in augmented(model).items():
        layer.register_forward_hook(lambda module, inputs, output, path=path: seen.update({path: output.shape[2:]}))
    with torch.device("meta"):
        model(torch.empty(1, 3, *size))
    for path, layer in augmented(model).items():
        assert layer.feature_size == maps[path[5]] == tuple(seen[path]), path


def test_stem_follows_the_larger_side():
    for size, small in ((64, True), ((32, 64), True), (65, False), ((32, 65), False)):
        model = on_meta("resnet18", 10, size)
        assert (model.conv1.kernel_size, model.conv1.stride) == (((3, 3), (1, 1)) if small else ((7, 7), (2, 2)))
        assert isinstance(model.maxpool, nn.Identity) == small


# ---- training helpers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["none", "se", "ge", "cbam", "aa"])
@pytest.mark.parametrize("block", [BasicBlock, Bottleneck, WideBlock])
def test_zero_init_last_makes_a_block_the_identity(block, attention):
    options = (
        {"key_ratio": 0.5, "value_ratio": 0.5, "num_heads": 2, "feature_size": (5, 7)} if attention == "aa" else {}
    )
    x = torch.randn(2, 16, 5, 7).relu()
    made = block(16, 16 // block.expansion, attention=attention, options=options, zero_init_last=True)
    torch.testing.assert_close(made(x), x)
    made = block(16, 16 // block.expansion, attention=attention, options=options)
    assert not torch.allclose(made(x), x, atol=1e-3)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "wide_resnet16_4", "cbam_resnet"])
def test_zero_init_last_reaches_every_block(name):
    blocks = BasicBlock | Bottleneck | WideBlock
    for wanted in (True, False):
        model = create_model(name, 10, 32, zero_init_last=wanted, width=4)
        lasts = [getattr(m, "bn3", m.bn2) for m in model.modules() if isinstance(m, blocks)]
        assert lasts
        assert all(bool((last.weight == 0).all()) == wanted for last in lasts)


def test_stochastic_depth_grows_linearly_to_its_largest_share():
    model = on_meta("resnet50", 10, 32, stochastic_depth=0.32)
    shares = [m.share for m in model.modules() if isinstance(m, StochasticDepth)]
    assert shares == pytest.approx([0.02 * block for block in range(1, 17)])
    model = on_meta("aa_wide_resnet16_4", 10, 32, stochastic_depth=0.6)
    assert [m.share for m in model.modules() if isinstance(m, StochasticDepth)] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    )
    model = on_meta("cbam_resnet", 10, 32)
    assert [m.share for m in model.modules() if isinstance(m, StochasticDepth)] == [0] * 8


def test_stochastic_depth_drops_whole_pictures_and_keeps_the_mean():
    layer, x = StochasticDepth(0.3), torch.rand(20_000, 2, 1, 1) + 1
    out = layer(x)
    kept = (out != 0).flatten(1)
    assert torch.equal(kept[:, 0], kept[:, 1])
    assert kept[:, 0].float().mean().item() == pytest.approx(0.7, abs=0.015)  # 4.6 standard deviations
    torch.testing.assert_close(out[kept[:, 0]], x[kept[:, 0]] / 0.7)
    assert out.mean().item() == pytest.approx(x.mean().item(), rel=0.02)
    assert not torch.equal(layer(x), out)


def test_stochastic_depth_is_off_at_prediction_and_at_zero():
    x = torch.randn(3, 2, 5, 7)
    assert StochasticDepth(0.9).eval()(x) is x
    assert StochasticDepth(0.0)(x) is x
    block = BasicBlock(8, 8, drop=0.999)
    pictures = torch.randn(4, 8, 5, 7).relu()
    assert torch.equal(block(pictures), pictures)
    block.eval()
    assert not torch.equal(block(pictures), pictures)


# ---- every family, every attention --------------------------------------------------------------------------------

FAMILIES = {
    "resnet18": {"width": 16},
    "resnet50": {"width": 16},
    "wide_resnet16_4": {"depth": 10, "width": 2},
}
VARIANTS = [
    (prefix + family, options | ({"gate_options": {"reduction": 2}} if prefix in ("se_", "cbam_") else {}))
    for family, options in FAMILIES.items()
    for prefix in ("", "se_", "ge_", "cbam_", "aa_")
    if (prefix, family) != ("cbam_", "wide_resnet16_4")
]
VARIANTS.append(("cbam_resnet", {"width": 5}))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.parametrize("size", [(11, 13), (17, 8)])
def test_every_variant_runs_forward_and_backward_and_every_parameter_learns(name, options, size):
    model = create_model(name, 7, size, 1, **options)
    out = model(torch.randn(3, 1, *size))
    assert out.shape == (3, 7)
    out.square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize("name", ["aa_resnet18", "aa_wide_resnet16_4"])
def test_an_augmented_network_takes_pictures_of_another_size(name):
    options = FAMILIES[name.removeprefix("aa_")]
    model = create_model(name, 7, (11, 13), **options).eval()
    assert model(torch.randn(2, 3, 16, 9)).shape == (2, 7)


ONE_A_FAMILY = [
    ("aa_resnet18", {"width": 8}),
    ("aa_wide_resnet16_4", {"depth": 10, "width": 1}),
    ("cbam_resnet", {"width": 4}),
]


@pytest.mark.parametrize(("name", "options"), ONE_A_FAMILY)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
def test_compile_equals_eager(name, options):
    model = create_model(name, 7, (11, 13), **options).eval()
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 3, 11, 13)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "options"), ONE_A_FAMILY)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own, while it exports
def test_export_equals_eager(name, options):
    model, x = create_model(name, 7, (11, 13), **options).eval(), torch.randn(2, 3, 11, 13)
    with torch.no_grad():
        exported = torch.export.export(model, (x,)).module()
        torch.testing.assert_close(exported(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNet(3, 10, (32, 32), depth=51), r"ResNet: depth: expected one of \[18, 34, .* got 51"),
        (
            lambda: ResNet(3, 10, (32, 32), stem="tiny"),
            r"ResNet: stem: expected one of \['auto', 'small', 'large'\], got 'tiny'",
        ),
        (lambda: ResNet(3, 10, (32, 32), width=0), "ResNet: width: expected a whole number of at least 1, got 0"),
        (lambda: ResNet(3, 10, (32, 32), attention="eca"), r"attention: expected one of \['none', 'se', .* got 'eca'"),
        (
            lambda: ResNet(3, 10, (32, 32), key_ratio=0.5),
            "key_ratio: of no use with attention 'none', got 0.5",
        ),
        (
            lambda: ResNet(3, 10, (32, 32), attention="se", attention_pool=2),
            "attention_pool: of no use with attention 'se', got 2",
        ),
        (
            lambda: ResNet(3, 10, (32, 32), attention="aa", gate_options={}),
            "gate_options: of no use with attention 'aa'",
        ),
        (lambda: ResNet(3, 10, (32, 32), attention_stages=(1,)), "attention_stages: of no use with attention 'none'"),
        (
            lambda: ResNet(3, 10, (32, 32), attention="aa", attention_stages=(2, 5)),
            r"attention_stages: expected different numbers from 1 to 4, got \(2, 5\)",
        ),
        (
            lambda: WideResNet(3, 10, (32, 32), attention="aa", attention_stages=(2, 2)),
            r"attention_stages: expected different numbers from 1 to 3, got \(2, 2\)",
        ),
        (
            lambda: WideResNet(3, 10, (32, 32), attention="aa", attention_stages="23"),
            "attention_stages: expected different numbers from 1 to 3, got '23'",
        ),
        (
            lambda: ResNet(3, 10, (32, 32), attention="aa", attention_pool=(2, 1)),
            r"attention_pool: expected one number, or 3 for the stages \[2, 3, 4\], got \(2, 1\)",
        ),
        (lambda: ResNet(3, 10, (32, 32), stochastic_depth=1.0), "stochastic_depth: expected a probability .* got 1.0"),
        (lambda: WideResNet(3, 10, (32, 32), depth=29), r"WideResNet: depth: expected 6n \+ 4 such as .* got 29"),
        (lambda: WideResNet(3, 10, (32, 32), width=1.5), "WideResNet: width: expected a whole number .* got 1.5"),
        (lambda: CBAMResNet(3, 10, (32, 32), width=0), "CBAMResNet: width: expected a whole number .* got 0"),
        (lambda: CBAMResNet(3, 10, (32, 32), join="max"), "ChannelAttention: join: expected one of"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        make()
