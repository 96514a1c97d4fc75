import copy
import math

import pytest
import torch
import torch.nn.functional as F
from oracle import loop_attention, loop_logits
from torch import nn

from aacn_lib.layers import AAConv1d, AAConv2d
from aacn_lib.ops import resize_table


def small(in_channels=3, out_channels=11, **changes) -> AAConv1d:
    options = {"depth_k": 10, "depth_v": 4, "num_heads": 2, "feature_size": 7} | changes
    return AAConv1d(in_channels, out_channels, **options).double()


def heads_by_hand(layer: AAConv1d, x: torch.Tensor) -> list[torch.Tensor]:
    """q, k, v (B, heads, 1, L, d) from the layer's weights, by plain indexing."""
    qkv = F.conv1d(x, layer.qkv.weight, layer.qkv.bias, stride=layer.stride)
    heads, d_k, d_v = layer.num_heads, layer.depth_k // layer.num_heads, layer.depth_v // layer.num_heads
    return [
        torch.stack([qkv[:, first + h * d : first + (h + 1) * d].transpose(1, 2)[:, None] for h in range(heads)], dim=1)
        for first, d in ((0, d_k), (layer.depth_k, d_k), (2 * layer.depth_k, d_v))
    ]


def by_hand(layer: AAConv1d, x: torch.Tensor) -> torch.Tensor:
    """The layer from its weights: plain loops for attention, plain indexing for heads."""
    q, k, v = heads_by_hand(layer, x)
    out = loop_attention(q, k, v, None, None if layer.rel is None else resize_table(layer.rel, q.shape[3]))
    merged = torch.cat([out[:, h, 0].transpose(1, 2) for h in range(layer.num_heads)], dim=1)  # (B, d_v, L)
    attended = layer.output(merged)
    return attended if layer.conv is None else torch.cat([layer.conv(x), attended], dim=1)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 7, 13])
@pytest.mark.parametrize("relative", [True, False])
def test_layer_equals_its_definition_and_conv1d_in_shape(kernel_size, stride, length, relative):
    out_length = math.ceil(length / stride)
    layer = small(kernel_size=kernel_size, stride=stride, feature_size=out_length, relative=relative)
    x = torch.randn(2, 3, length, dtype=torch.float64)
    out = layer(x)
    assert out.shape == nn.Conv1d(3, 11, kernel_size, stride, padding=kernel_size // 2)(x.float()).shape
    torch.testing.assert_close(out, by_hand(layer, x), rtol=1e-11, atol=1e-11)


def test_gradients_equal_those_of_the_definition():
    layer, x = small(), torch.randn(2, 3, 7, dtype=torch.float64)
    weights = list(layer.parameters())
    slope = torch.randn(2, 11, 7, dtype=torch.float64)
    found = torch.autograd.grad(layer(x), weights, slope)
    wanted = torch.autograd.grad(by_hand(layer, x), weights, slope)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("length", [7, 11])
def test_it_is_the_two_dimensional_layer_on_a_map_of_one_row(stride, length):
    layer = small(stride=stride, kernel_size=5)
    flat = AAConv2d(3, 11, 5, depth_k=10, depth_v=4, num_heads=2, feature_size=(1, 7), stride=stride).double()
    with torch.no_grad():
        flat.conv.weight[:, :, 2] = layer.conv.weight  # the other rows of the kernel see padding only
        flat.conv.bias.copy_(layer.conv.bias)
        flat.qkv.load_state_dict(
            {name: t.view_as(flat.qkv.get_parameter(name)) for name, t in layer.qkv.named_parameters()}
        )
        flat.output.weight.copy_(layer.output.weight[..., None])
        flat.output.bias.copy_(layer.output.bias)
        flat.rel_w.copy_(layer.rel)
    x = torch.randn(2, 3, length, dtype=torch.float64)
    torch.testing.assert_close(layer(x), flat(x[:, :, None])[:, :, 0], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(layer.attention_weights(x), flat.attention_weights(x[:, :, None]))


@pytest.mark.parametrize("length", [1, 3, 7, 13])
def test_sequences_of_other_lengths_use_a_resized_table(length):
    layer, x = small(), torch.randn(2, 3, length, dtype=torch.float64)
    out = layer(x)
    assert out.shape == (2, 11, length)
    torch.testing.assert_close(out, by_hand(layer, x), rtol=1e-11, atol=1e-11)
    out.sum().backward()
    assert layer.rel.grad is not None


def test_fully_attentional_layer_has_no_convolution():
    layer = small(out_channels=4, depth_v=4)
    assert layer.conv is None
    x = torch.randn(2, 3, 7, dtype=torch.float64)
    torch.testing.assert_close(layer(x), by_hand(layer, x), rtol=1e-11, atol=1e-11)
    layer(x).sum().backward()


def test_attention_weights_of_the_layer():
    layer, x = small(stride=2), torch.randn(2, 3, 13, dtype=torch.float64)
    q, k, _ = heads_by_hand(layer, x)
    expected = (loop_logits(q, k, None, layer.rel) / math.sqrt(5)).softmax(-1)
    torch.testing.assert_close(layer.attention_weights(x), expected)


def test_there_is_one_table_and_the_count_is_the_papers_formula():
    layer = small(bias=False)
    assert [name for name, _ in layer.named_parameters()] == ["rel", "conv.weight", "qkv.weight", "output.weight"]
    assert layer.rel.shape == (2 * 7 - 1, 5)
    convolutions = 3 * 3 * (11 - 4) + 3 * (2 * 10 + 4) + 4 * 4
    assert sum(p.numel() for p in layer.parameters()) == convolutions + (2 * 7 - 1) * 5
    assert small(relative=False).rel is None


def test_the_table_is_trained_saved_and_nothing_else_is_stored():
    layer, x = small(), torch.randn(2, 3, 7, dtype=torch.float64)
    before, attributes = list(layer.state_dict()), set(vars(layer))
    layer(x).square().sum().backward()
    layer.attention_weights(x)
    assert layer.rel.grad.abs().sum() > 0
    assert list(layer.state_dict()) == before
    assert set(vars(layer)) == attributes
    other = small()
    assert not torch.equal(other(x), layer(x))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))


def test_the_table_starts_with_variance_one_over_its_depth():
    layer = AAConv1d(3, 64, depth_k=64, depth_v=8, num_heads=2, feature_size=97)
    assert layer.rel.std().item() == pytest.approx(32**-0.5, rel=0.05)
    assert abs(layer.rel.mean().item()) < 0.02


def test_depths_from_ratios():
    layer = AAConv1d(3, 128, key_ratio=0.2, value_ratio=0.1, num_heads=8, feature_size=5)
    assert (layer.depth_k, layer.depth_v) == (160, 16)


GOOD = {"in_channels": 3, "out_channels": 16, "depth_k": 8, "depth_v": 8, "num_heads": 4, "feature_size": 5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 0}, "in_channels: expected a whole number of at least 1, got 0"),
        ({"out_channels": 2.5}, "out_channels: expected a whole number of at least 1, got 2.5"),
        ({"num_heads": 0}, "num_heads: expected a whole number of at least 1, got 0"),
        ({"kernel_size": 4}, "kernel_size: expected an odd number, got 4"),
        ({"stride": 0}, "stride: expected a whole number of at least 1, got 0"),
        ({"depth_k": 10}, "depth_k: expected a multiple of num_heads = 4, above 0, got 10"),
        ({"depth_v": 20}, "depth_v: expected at most out_channels = 16, got 20"),
        ({"depth_k": None}, "exactly one of depth_k and key_ratio, got depth_k=None, key_ratio=None"),
        ({"depth_v": None, "value_ratio": 1.5}, r"value_ratio: expected a share .* got 1.5"),
        ({"feature_size": None}, "feature_size: expected the length of the output, .* when relative=True, got None"),
        ({"feature_size": 0, "relative": False}, "feature_size: expected the length of the output, at least 1, got 0"),
        ({"feature_size": (5, 7)}, r"feature_size: expected the length of the output.* got \(5, 7\)"),
        ({"implementation": "fast"}, "implementation: expected one of .* got 'fast'"),
    ],
)
def test_wrong_arguments_are_named(changes, message):
    AAConv1d(**GOOD)
    with pytest.raises(ValueError, match=message):
        AAConv1d(**(GOOD | changes))


@pytest.mark.parametrize("shape", [(2, 4, 5), (3, 5), (2, 3, 1, 5)])
def test_wrong_input_is_named(shape):
    with pytest.raises(ValueError, match=r"expected input of shape \(B, 3, L\), got"):
        AAConv1d(**GOOD)(torch.zeros(shape))


def test_builds_on_the_meta_device():
    with torch.device("meta"):
        assert AAConv1d(**GOOD, stride=2)(torch.empty(2, 3, 11)).shape == (2, 16, 6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own, while it exports
def test_export_equals_eager():
    layer, x = small().eval(), torch.randn(2, 3, 7, dtype=torch.float64)
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), layer(x))
