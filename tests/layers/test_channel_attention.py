import math

import pytest
import torch
from torch import nn

from aacn_lib.layers import CBAM, GATES, ChannelAttention, GatherExcite, SpatialAttention, SqueezeExcite, make_gate


def picture(B=2, C=11, H=5, W=7):
    return torch.randn(B, C, H, W, dtype=torch.float64)


def sigma(number: float) -> float:
    return 1 / (1 + math.exp(-float(number)))


def summaries(x, b):
    """Mean and maximum of each channel of picture b, by loops."""
    _, C, H, W = x.shape
    values = [[float(x[b, c, i, j]) for i in range(H) for j in range(W)] for c in range(C)]
    return [sum(v) / len(v) for v in values], [max(v) for v in values]


def mlp(numbers, first, second, bias_first=None, bias_second=None):
    """Two layers of weights (hidden, C) and (C, hidden) with ReLU between, by loops."""
    first, second = first.tolist(), second.tolist()
    bias_first = [0.0] * len(first) if bias_first is None else bias_first.tolist()
    bias_second = [0.0] * len(second) if bias_second is None else bias_second.tolist()
    hidden = []
    for row, bias in zip(first, bias_first, strict=True):
        hidden.append(max(0.0, bias + sum(w * n for w, n in zip(row, numbers, strict=True))))
    return [
        b + sum(w * h for w, h in zip(row, hidden, strict=True)) for row, b in zip(second, bias_second, strict=True)
    ]


def channel_weights(layer: ChannelAttention, x, b):
    mean, maximum = summaries(x, b)
    a, m = (mlp(s, layer.mlp[0].weight, layer.mlp[2].weight) for s in (mean, maximum))
    if layer.join == "sigmoid_of_sum":
        return [sigma(p + q) for p, q in zip(a, m, strict=True)]
    return [sigma(p) + sigma(q) for p, q in zip(a, m, strict=True)]


def spatial_weights(layer: SpatialAttention, x, b):
    _, C, H, W = x.shape
    kernel = layer.conv.weight[0].detach()  # (2, k, k)
    k = kernel.shape[-1]
    weights = torch.zeros(H, W, dtype=torch.float64)
    for i in range(H):
        for j in range(W):
            total = 0.0
            for di in range(k):
                for dj in range(k):
                    y, z = i + di - k // 2, j + dj - k // 2
                    if 0 <= y < H and 0 <= z < W:
                        pixel = [float(x[b, c, y, z]) for c in range(C)]
                        total += float(kernel[0, di, dj]) * sum(pixel) / C + float(kernel[1, di, dj]) * max(pixel)
            weights[i, j] = sigma(total)
    return weights


def test_squeeze_excite_equals_loops():
    layer, x = SqueezeExcite(11, reduction=3).double(), picture()
    expected = torch.empty_like(x)
    for b in range(2):
        mean, _ = summaries(x, b)
        weights = mlp(mean, layer.squeeze.weight, layer.excite.weight, layer.squeeze.bias, layer.excite.bias)
        for c in range(11):
            expected[b, c] = x[b, c] * sigma(weights[c])
    torch.testing.assert_close(layer(x), expected)


def test_squeeze_excite_by_hand():
    """Two channels with means 1 and 3, one hidden unit that adds them, weights σ(4 - 4) and σ(8 - 5)."""
    layer = SqueezeExcite(2, reduction=2)
    with torch.no_grad():
        layer.squeeze.weight.copy_(torch.tensor([[1.0, 1.0]]))
        layer.squeeze.bias.zero_()
        layer.excite.weight.copy_(torch.tensor([[1.0], [2.0]]))
        layer.excite.bias.copy_(torch.tensor([-4.0, -5.0]))
    x = torch.tensor([[[[0.0, 2.0]], [[3.0, 3.0]]]])  # (1, 2, 1, 2)
    out = layer(x)
    torch.testing.assert_close(out[0, 0, 0], torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(out[0, 1, 0], torch.tensor([3.0, 3.0]) * sigma(3))


@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(31, 16, 1), (64, 16, 4), (5, 16, 1), (62, 4, 15)])
def test_hidden_units(channels, reduction, hidden):
    assert SqueezeExcite(channels, reduction=reduction).squeeze.out_features == hidden
    assert ChannelAttention(channels, reduction=reduction).mlp[0].out_features == hidden
    assert CBAM(channels, hidden=7).channel.mlp[0].out_features == 7


def test_squeeze_excite_adds_what_the_paper_counts():
    """2 C² / r weights (Hu et al. 2018, eq. 5) and the biases of the two layers."""
    assert sum(p.numel() for p in SqueezeExcite(256).parameters()) == 2 * 256 * 16 + 16 + 256


def test_gather_excite_of_the_whole_map_equals_loops():
    layer, x = GatherExcite(), picture()
    assert list(layer.parameters()) == []
    expected = torch.empty_like(x)
    for b in range(2):
        mean, _ = summaries(x, b)
        for c in range(11):
            expected[b, c] = x[b, c] * sigma(mean[c])
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("extent", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(4, 12), (5, 7)])
def test_gather_excite_of_windows_equals_loops(extent, size):
    layer, x = GatherExcite(extent=extent), picture(1, 3, *size)
    H, W = size
    rows, columns = math.ceil(H / extent), math.ceil(W / extent)
    gathered = torch.zeros(3, rows, columns, dtype=torch.float64)
    for c in range(3):
        for i in range(rows):
            for j in range(columns):
                window = [
                    float(x[0, c, y, z])
                    for y in range(i * extent - extent + 1, i * extent + extent)
                    for z in range(j * extent - extent + 1, j * extent + extent)
                    if 0 <= y < H and 0 <= z < W
                ]
                gathered[c, i, j] = sum(window) / len(window)
    expected = torch.empty_like(x)
    for c in range(3):
        for y in range(H):
            for z in range(W):
                weight = gathered[c, y * rows // H, z * columns // W]
                expected[0, c, y, z] = x[0, c, y, z] * sigma(weight)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("join", ["sigmoid_of_sum", "sum_of_sigmoids"])
def test_channel_attention_equals_loops(join):
    layer, x = ChannelAttention(11, reduction=3, join=join).double(), picture()
    expected = torch.stack(
        [x[b] * torch.tensor(channel_weights(layer, x, b), dtype=torch.float64)[:, None, None] for b in range(2)]
    )
    torch.testing.assert_close(layer(x), expected)


def test_the_two_joins_share_their_weights_and_differ_in_what_they_give():
    paper, other = ChannelAttention(11).double(), ChannelAttention(11, join="sum_of_sigmoids").double()
    other.load_state_dict(paper.state_dict())
    x = picture()
    assert not torch.allclose(paper(x), other(x))
    with torch.no_grad():
        for layer in (paper, other):
            layer.mlp[2].weight.zero_()
    torch.testing.assert_close(paper(x), x / 2)
    torch.testing.assert_close(other(x), x)


@pytest.mark.parametrize("kernel_size", [1, 3, 7])
def test_spatial_attention_equals_loops(kernel_size):
    layer, x = SpatialAttention(kernel_size).double(), picture()
    expected = torch.stack([x[b] * spatial_weights(layer, x, b) for b in range(2)])
    torch.testing.assert_close(layer(x), expected)


def test_cbam_is_channel_then_spatial_attention():
    layer, x = CBAM(11, reduction=3).double(), picture(B=1)
    channel = x * torch.tensor(channel_weights(layer.channel, x, 0), dtype=torch.float64)[:, None, None]
    expected = channel * spatial_weights(layer.spatial, channel, 0)
    torch.testing.assert_close(layer(x), expected)
    assert not torch.allclose(layer.channel(layer.spatial(x)), layer(x))


@pytest.mark.parametrize("kind", list(GATES))
def test_gradients(kind):
    layer = make_gate(kind, 5).double()
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))
    layer(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("kind", list(GATES))
def test_a_branch_of_zeros_stays_zero(kind):
    assert torch.equal(make_gate(kind, 5)(torch.zeros(2, 5, 3, 4)), torch.zeros(2, 5, 3, 4))


def test_gates_by_name():
    assert {kind: type(make_gate(kind, 5)) for kind in GATES} == {"se": SqueezeExcite, "ge": GatherExcite, "cbam": CBAM}
    assert make_gate("cbam", 8, kernel_size=3).spatial.conv.kernel_size == (3, 3)
    assert make_gate("se", 8, reduction=2).squeeze.out_features == 4
    assert isinstance(make_gate("ge", 8, extent=2), nn.Module)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SqueezeExcite(0), "SqueezeExcite: channels: expected a whole number of at least 1, got 0"),
        (lambda: SqueezeExcite(8, reduction=0), "SqueezeExcite: reduction: expected a whole number .* got 0"),
        (lambda: GatherExcite(extent=0), "GatherExcite: extent: expected a whole number of at least 1, got 0"),
        (lambda: ChannelAttention(8, hidden=2.5), "ChannelAttention: hidden: expected a whole number .* got 2.5"),
        (lambda: ChannelAttention(8, join="max"), r"join: expected one of \['sigmoid_of_sum', .* got 'max'"),
        (lambda: SpatialAttention(4), "SpatialAttention: kernel_size: expected an odd number, got 4"),
        (lambda: make_gate("eca", 8), r"gate: expected one of \['se', 'ge', 'cbam'\], got 'eca'"),
        (lambda: make_gate("se", 8, extent=2), r"gate: 'se' has no option 'extent'; it has \['reduction'\]"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
