import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aacn_lib.models import EncoderLayer, SelfAttention, VisionTransformer
from aacn_lib.weights import create_model

TINY = {"patch_size": 2, "depth": 2, "width": 10, "num_heads": 2, "mlp_width": 7}


def tiny(size=(6, 10), in_channels=3, num_classes=5, **changes) -> VisionTransformer:
    return VisionTransformer(in_channels, num_classes, size, **(TINY | changes)).double().eval()


# PyTorch's names for the weights of an encoder layer, and ours.
ENCODER_NAMES = {
    "self_attn.in_proj_weight": "attention.qkv.weight",
    "self_attn.in_proj_bias": "attention.qkv.bias",
    "self_attn.out_proj.weight": "attention.output.weight",
    "self_attn.out_proj.bias": "attention.output.bias",
    "linear1.weight": "mlp.0.weight",
    "linear1.bias": "mlp.0.bias",
    "linear2.weight": "mlp.3.weight",
    "linear2.bias": "mlp.3.bias",
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
}


@pytest.mark.parametrize(("tokens", "width", "num_heads", "mlp_width"), [(7, 15, 3, 11), (1, 6, 2, 13), (17, 5, 1, 3)])
def test_encoder_layer_equals_pytorchs_in_outputs_and_gradients(tokens, width, num_heads, mlp_width):
    reference = nn.TransformerEncoderLayer(
        width, num_heads, mlp_width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).double()
    for parameter in reference.parameters():  # norms and biases start at one and zero: any two of them would be equal
        nn.init.normal_(parameter, std=0.5)
    layer = EncoderLayer(width, num_heads, mlp_width).double()
    layer.load_state_dict({ENCODER_NAMES[name]: weight for name, weight in reference.state_dict().items()})
    inputs = [torch.randn(2, tokens, width, dtype=torch.float64).requires_grad_() for _ in range(2)]
    inputs[1].data.copy_(inputs[0].data)
    slope = torch.randn(2, tokens, width, dtype=torch.float64)
    outputs = [layer(inputs[0]), reference(inputs[1])]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-12, atol=1e-12)
    for out in outputs:
        out.backward(slope)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-11, atol=1e-11)
    found = dict(layer.named_parameters())
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(found[ENCODER_NAMES[name]].grad, parameter.grad, rtol=1e-11, atol=1e-11)


def test_attention_weights_are_those_that_pytorch_returns_and_those_that_forward_uses():
    layer = SelfAttention(15, 3).double()
    nn.init.normal_(layer.qkv.bias)
    x = torch.randn(2, 7, 15, dtype=torch.float64)
    before = set(vars(layer))
    weights = layer.attention_weights(x)
    assert set(vars(layer)) == before
    reference = nn.MultiheadAttention(15, 3, batch_first=True).double()
    names = {name.removeprefix("self_attn."): ours for name, ours in ENCODER_NAMES.items() if "attn" in name}
    weights_of = layer.state_dict()
    reference.load_state_dict({name: weights_of[ours.removeprefix("attention.")] for name, ours in names.items()})
    _, expected = reference(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(weights, expected)
    v = layer.qkv_heads(x)[2]
    torch.testing.assert_close(layer.output((weights @ v).transpose(1, 2).flatten(2)), layer(x))


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_the_network_step_by_step(pool):
    """Patches cut by plain loops and mapped by a matrix; then tokens, positions, layers and the head."""
    model, x = tiny(pool=pool), torch.randn(3, 3, 6, 10, dtype=torch.float64)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    matrix = model.patches.weight.flatten(1)  # (width, channels · P · P)
    patches = [x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten(1) for i in range(3) for j in range(5)]
    tokens = [patch @ matrix.T + model.patches.bias for patch in patches]
    if pool == "token":
        tokens = [model.token.expand(3, -1), *tokens]
    tokens = torch.stack(tokens, dim=1) + model.positions
    for layer in model.layers:
        tokens = layer(tokens)
    tokens = F.layer_norm(tokens, (10,), model.norm.weight, model.norm.bias)
    read = tokens[:, 0] if pool == "token" else tokens.mean(dim=1)
    torch.testing.assert_close(model(x), read @ model.head.weight.T + model.head.bias)


def test_the_default_is_the_circulating_network():
    model = create_model("vit", 10, 32)
    assert model.grid == (8, 8)
    assert len(model.layers) == 12
    # qkv, output, two norms, MLP: 256² · 3 + 256 · 3, 256² + 256, 2 · 2 · 256, 256 · 512 + 512, 512 · 256 + 256
    layer = 197_376 + 65_792 + 1_024 + 131_584 + 131_328
    outside = 3 * 4 * 4 * 256 + 256 + 256 + 65 * 256 + 2 * 256 + 256 * 10 + 10  # patches, token, positions, norm, head
    assert sum(p.numel() for p in model.parameters()) == 12 * layer + outside
    first = model.layers[0]
    assert isinstance(first.mlp[1], nn.GELU)
    assert first.mlp[0].weight.shape == (512, 256)
    assert first.attention.num_heads == 8


def test_weights_start_as_the_docstring_says():
    model = VisionTransformer(3, 10, (32, 32), width=240, depth=1, num_heads=8)
    assert model.positions.std().item() == pytest.approx(0.02, rel=0.05)
    assert not model.token.any()
    bound = math.sqrt(6 / (240 + 240))  # Xavier-uniform for each of q, k and v; for all three as one it would be less
    largest = model.layers[0].attention.qkv.weight.abs().max().item()
    assert 0.99 * bound < largest <= bound
    assert not model.layers[0].attention.qkv.bias.any()


def test_positions_tell_where_a_patch_is():
    model, x = tiny(), torch.randn(1, 3, 6, 10, dtype=torch.float64)
    nn.init.normal_(model.positions)
    swapped = x.clone()
    swapped[..., :2, :2], swapped[..., 4:6, 8:10] = x[..., 4:6, 8:10], x[..., :2, :2]
    assert not torch.allclose(model(swapped), model(x), atol=1e-3)
    nn.init.zeros_(model.positions)
    torch.testing.assert_close(model(swapped), model(x))


@pytest.mark.parametrize("pool", ["token", "mean"])
@pytest.mark.parametrize("size", [(6, 10), (10, 6), (2, 14), (2, 2)])
def test_pictures_of_other_sizes_use_resized_positions(size, pool):
    model = tiny(pool=pool)
    out = model(torch.randn(2, 3, *size, dtype=torch.float64))
    assert out.shape == (2, 5)
    out.square().sum().backward()
    assert model.positions.grad.abs().sum() > 0


def test_resized_positions_keep_the_token_and_stretch_the_grid():
    model = tiny(size=(8, 10))
    with torch.no_grad():
        rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(5.0), indexing="ij")
        model.positions[0] = 7.0
        model.positions[1:, 0] = rows.flatten()
        model.positions[1:, 1] = columns.flatten()
    assert model.positions_for((4, 5)) is model.positions
    larger = model.positions_for((8, 15))
    assert larger.shape == (1 + 8 * 15, 10)
    assert torch.equal(larger[0], model.positions[0])
    grid = larger[1:].detach().unflatten(0, (8, 15))
    # Away from the border cubic interpolation is exact on a slope. Pixel centres: row r lies at (r + 0.5)/2 - 0.5.
    torch.testing.assert_close(grid[3, :, 0], torch.full((15,), 1.25, dtype=torch.float64))
    torch.testing.assert_close(grid[:, 7, 1], torch.full((8,), 2.0, dtype=torch.float64))
    assert (grid[1:, :, 0] > grid[:-1, :, 0]).all()
    assert (grid[:, 1:, 1] > grid[:, :-1, 1]).all()


def test_stochastic_depth_grows_with_depth_and_acts_on_both_branches():
    assert [layer.drop.share for layer in tiny(depth=4, stochastic_depth=0.4).layers] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4]
    )
    layer = EncoderLayer(6, 2, 7, stochastic_depth=1 - 1e-9)  # as good as certain
    x = torch.randn(3, 4, 6)
    assert torch.equal(layer.train()(x), x)
    assert not torch.equal(layer.eval()(x), x)


def test_dropout_acts_in_training_only():
    model, x = tiny(dropout=0.5), torch.randn(2, 3, 6, 10, dtype=torch.float64)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))
    used = []
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda dropout, inputs, output: used.append(dropout.p))
    model(x)
    assert used == [0.5] * (1 + 2 * 3)  # after the positions, each attention, and each of two layers of each MLP


@pytest.mark.parametrize(("size", "channels"), [((8, 12), 1), (16, 3)])
def test_every_parameter_learns(size, channels):
    model = create_model("vit", 7, size, channels, depth=2)
    out = model(torch.randn(2, channels, *((size, size) if isinstance(size, int) else size)))
    assert out.shape == (2, 7)
    out.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 0}, "VisionTransformer: patch_size: expected a whole number of at least 1, got 0"),
        ({"depth": 1.5}, "depth: expected a whole number of at least 1, got 1.5"),
        ({"width": 9}, "width: expected a multiple of num_heads = 2, got 9"),
        ({"num_heads": True}, "num_heads: expected a whole number of at least 1, got True"),
        ({"mlp_width": "7"}, "mlp_width: expected a whole number of at least 1, got '7'"),
        ({"dropout": 1}, "dropout: expected a share from 0 to below 1, got 1"),
        ({"stochastic_depth": -0.1}, "stochastic_depth: expected a share from 0 to below 1, got -0.1"),
        ({"pool": "max"}, r"pool: expected one of \['token', 'mean'\], got 'max'"),
        ({"size": (6, 9)}, "image size: expected multiples of patch_size = 2 pixels, got '6×9'"),
        ({"size": (0, 6)}, "image size: expected multiples of patch_size = 2 pixels, got '0×6'"),
    ],
)
def test_wrong_options_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 4, 6, 10), r"expected input of shape \(B, 3, H, W\), got \(2, 4, 6, 10\)"),
        ((3, 6, 10), r"expected input of shape \(B, 3, H, W\), got \(3, 6, 10\)"),
        ((2, 3, 6, 11), "image size: expected multiples of patch_size = 2 pixels, got '6×11'"),
    ],
)
def test_wrong_input_is_named(shape, message):
    with pytest.raises(ValueError, match=message):
        tiny()(torch.zeros(shape, dtype=torch.float64))


def test_autocast():
    model, x = tiny().float(), torch.randn(2, 3, 6, 10)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(x)
    out.float().sum().backward()
    assert model.positions.grad.dtype == torch.float32
    torch.testing.assert_close(out.float(), model(x), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [(6, 10), (10, 4)])
def test_low_precision(dtype, size):
    model = tiny().to(dtype)
    x = torch.randn(2, 3, *size, dtype=dtype)
    out = model(x)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), model.double()(x.double()), rtol=0.05, atol=0.05)


def test_a_saved_network_is_the_same_network():
    model, other, x = tiny(), tiny(), torch.randn(2, 3, 6, 10, dtype=torch.float64)
    assert not torch.equal(other(x), model(x))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))
    assert torch.equal(copy.deepcopy(model)(x), model(x))


def test_builds_on_the_meta_device():
    with torch.device("meta"):
        model = create_model("vit", 10, 32)
        assert model(torch.empty(2, 3, 48, 32)).shape == (2, 10)
    assert all(p.is_meta for p in model.parameters())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own, while it exports
def test_export_equals_eager():
    model, x = tiny(), torch.randn(2, 3, 6, 10, dtype=torch.float64)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))
