import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from aacn_lib.layers import AAConv2d
from aacn_lib.models import list_models
from aacn_lib.weights import create_model

SMALL_NETWORKS = ("plain_cnn", "content_cnn", "aa_cnn", "three_conv", "three_aa_conv")


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def thin(name: str) -> dict:
    """Options that make the network of this name small enough to try quickly; its depth stays."""
    if "wide_resnet" in name:
        return {"width": 1}
    if name == "cbam_resnet":
        return {"width": 4}
    if "resnet" in name:
        return {"width": 8}
    return {"depth": 2, "width": 16, "num_heads": 2, "mlp_width": 8} if name == "vit" else {}


def test_the_circulating_network_has_75036_parameters_plus_its_trained_tables():
    model = create_model("aa_cnn", 100, 32)
    tables = 2 * (2 * 32 - 1) * 10
    assert count(model) == 75_036 + tables
    assert count(create_model("content_cnn", 100, 32)) == 75_036
    # conv 3→64, BN, conv 64→128, linear, all with bias
    assert count(create_model("plain_cnn", 100, 32)) == 1_792 + 128 + 73_856 + 12_900


def test_three_layer_networks_have_the_named_widths():
    for name in ("three_conv", "three_aa_conv"):
        model = create_model(name, 100, 32)
        norms = [layer.num_features for layer in model.features if isinstance(layer, nn.BatchNorm2d)]
        assert norms == [64, 128, 192]
    attention = [layer.feature_size for layer in model.features if isinstance(layer, AAConv2d)]
    assert attention == [(32, 32), (16, 16), (8, 8)]


@pytest.mark.parametrize("name", SMALL_NETWORKS)
@pytest.mark.parametrize(("size", "channels"), [((11, 13), 1), (17, 3)])
def test_every_small_network_runs_forward_and_backward_and_every_parameter_learns(name, size, channels):
    model = create_model(name, 7, size, channels)
    H, W = (size, size) if isinstance(size, int) else size
    out = model(torch.randn(2, channels, H, W))
    assert out.shape == (2, 7)
    out.square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("name", list_models())
def test_every_name_builds_in_full_on_the_meta_device_and_runs(name):
    with torch.device("meta"):
        model = create_model(name, 7, (32, 48), 1)
        assert model(torch.empty(2, 1, 32, 48)).shape == (2, 7)
    assert all(tensor.is_meta for tensor in model.state_dict().values())


@pytest.mark.parametrize("name", list_models())
def test_every_name_is_saved_and_loaded(name, tmp_path):
    model, other = (create_model(name, 7, (8, 12), **thin(name)).eval() for _ in range(2))
    x = torch.randn(2, 3, 8, 12)
    with torch.no_grad():
        before = model(x)
        assert not torch.equal(before, other(x))
        save_file(model.state_dict(), tmp_path / "weights.safetensors")
        other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        assert torch.equal(before, other(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own
@pytest.mark.parametrize("name", ["aa_cnn", "three_aa_conv"])
def test_small_networks_compile_and_export(name):
    model, x = create_model(name, 7, 8).eval(), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = model(x)
        exported = torch.export.export(model, (x,)).module()
        torch.testing.assert_close(exported(x), expected, rtol=1e-4, atol=1e-5)
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), expected, rtol=1e-4, atol=1e-5)


def test_the_variants_differ_in_the_second_layer_only():
    plain, content, relative = (create_model(name, 10, 16) for name in ("plain_cnn", "content_cnn", "aa_cnn"))
    assert isinstance(plain.mix, nn.Conv2d)
    assert content.mix.rel_h is None
    assert relative.mix.rel_h is not None
    assert count(plain.stem) == count(content.stem) == count(relative.stem)
    assert count(plain.head) == count(content.head) == count(relative.head)


def test_norm_after_adds_what_the_paper_puts_after_an_augmented_convolution():
    model = create_model("aa_cnn", 10, 16, norm_after=True)
    assert [type(layer) for layer in model.after] == [nn.BatchNorm2d, nn.ReLU]
    assert count(model) == count(create_model("aa_cnn", 10, 16)) + 2 * 128


def test_list_models_filters():
    assert list_models("three_*") == ["three_aa_conv", "three_conv"]
    assert set(list_models()) >= {*SMALL_NETWORKS, "cbam_resnet", "vit"}
    depths = ["101", "152", "18", "34", "50"]
    for prefix in ("", "se_", "ge_", "cbam_", "aa_"):
        assert list_models(f"{prefix}resnet[0-9]*") == [f"{prefix}resnet{depth}" for depth in depths]
    for prefix in ("", "se_", "ge_", "aa_"):
        assert list_models(f"{prefix}wide_*") == [f"{prefix}wide_resnet{size}" for size in ("16_4", "28_10", "40_2")]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("aacnn", 10, 32), {}, "got 'aacnn'; did you mean 'aa_cnn'"),
        (("aa_resnet-50", 10, 32), {}, "got 'aa_resnet-50'; did you mean 'aa_resnet50'"),
        (("wide_resnet28x10", 10, 32), {}, "did you mean 'wide_resnet28_10'"),
        (("xyz", 10, 32), {}, r"got 'xyz'; the names are \['aa_cnn', 'aa_resnet101', "),
        (("aa_cnn", 0, 32), {}, "num_classes: expected a whole number of at least 1, got 0"),
        (("aa_cnn", 10, 32, 0), {}, "in_channels: expected a whole number of at least 1, got 0"),
        (("aa_cnn", 10, (32, 0)), {}, r"image_size: expected an int or \(H, W\), at least 1 each, got \(32, 0\)"),
        (("aa_cnn", 10, "32"), {}, "image_size: expected an int"),
        (("aa_cnn", 10, 2.5), {}, "image_size: expected an int .* got 2.5"),
        (("aa_cnn", True, 32), {}, "num_classes: expected a whole number of at least 1, got True"),
        (("aa_cnn", 10, 32), {"heads": 4}, "aa_cnn has no option 'heads'; did you mean 'num_heads'"),
        (("aa_resnet50", 10, 32), {"keyratio": 1}, "has no option 'keyratio'; did you mean 'key_ratio'"),
        (("aa_cnn", 10, 32), {"mixing": "magic"}, "mixing: expected one of .* got 'magic'"),
        (("three_conv", 10, 3), {}, "image_size: expected at least 4 pixels a side"),
        (("resnet18", 10, 32), {"pretrained": True}, "pretrained: .* whose weights ship, .*got 'resnet18'"),
    ],
)
def test_wrong_arguments_are_named(arguments, options, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        create_model(*arguments, **options)
