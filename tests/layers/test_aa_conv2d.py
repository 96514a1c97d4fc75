import copy
import math

import pytest
import torch
import torch.nn.functional as F
from oracle import loop_attention, loop_logits
from torch import nn

from aacn_lib.layers import AAConv2d, merge_heads, split_heads
from aacn_lib.ops import resize_table, sine_encoding


def small(in_channels=3, out_channels=11, **changes) -> AAConv2d:
    options = {"depth_k": 10, "depth_v": 4, "num_heads": 2, "feature_size": (5, 7)} | changes
    return AAConv2d(in_channels, out_channels, **options).double()


def seen_by_attention(layer: AAConv2d, x: torch.Tensor) -> torch.Tensor:
    """What the q/k/v projection reads: the strided pixels, averaged over windows, with positions."""
    B, C, H, W = x.shape
    strided = torch.stack(
        [torch.stack([x[:, :, i, j] for j in range(0, W, layer.stride)], 2) for i in range(0, H, layer.stride)], 2
    )  # (B, C, ⌈H/stride⌉, ⌈W/stride⌉)
    H, W = strided.shape[2:]
    p = layer.attention_pool
    h, w = math.ceil(H / p), math.ceil(W / p)
    seen = torch.zeros(B, C, h, w, dtype=x.dtype)
    for i in range(h):
        for j in range(w):
            window = [
                strided[:, :, y, z] for y in range(i * p, min(i * p + p, H)) for z in range(j * p, min(j * p + p, W))
            ]
            seen[:, :, i, j] = sum(window) / len(window)
    if layer.position_encoding == "sine":
        seen = seen + sine_encoding(C, h, w, dtype=x.dtype)
    elif layer.position_encoding == "coordconv":
        rows = [-1 + 2 * i / (h - 1) if h > 1 else 0 for i in range(h)]
        columns = [-1 + 2 * j / (w - 1) if w > 1 else 0 for j in range(w)]
        extra = torch.tensor([[[r] * w for r in rows], [columns] * h], dtype=x.dtype)
        seen = torch.cat([seen, extra.expand(B, 2, h, w)], dim=1)
    return seen


def enlarge(x: torch.Tensor, H: int, W: int) -> torch.Tensor:
    """(B, C, h, w) → (B, C, H, W): bilinear between the centres of the small map's pixels, constant beyond them."""

    def axis(x, size):  # along the last axis
        small, columns = x.shape[-1], []
        for i in range(size):
            at = min(max((i + 0.5) * small / size - 0.5, 0), small - 1)
            left = min(int(at), small - 1)
            right = min(left + 1, small - 1)
            columns.append((1 - (at - left)) * x[..., left] + (at - left) * x[..., right])
        return torch.stack(columns, -1)

    return axis(axis(x, W).transpose(2, 3), H).transpose(2, 3)


def by_hand(layer: AAConv2d, x: torch.Tensor) -> torch.Tensor:
    """The layer from its weights: plain loops for attention, plain indexing for heads."""
    qkv = layer.qkv(seen_by_attention(layer, x))
    heads, d_k, d_v = layer.num_heads, layer.depth_k // layer.num_heads, layer.depth_v // layer.num_heads

    def of_head(first, d, h):
        return qkv[:, first + h * d : first + (h + 1) * d].permute(0, 2, 3, 1)  # (B, H, W, d)

    q, k, v = (
        torch.stack([of_head(first, d, h) for h in range(heads)], dim=1)
        for first, d in ((0, d_k), (layer.depth_k, d_k), (2 * layer.depth_k, d_v))
    )
    H, W = q.shape[2:4]
    tables = (None, None) if layer.rel_h is None else (resize_table(layer.rel_h, H), resize_table(layer.rel_w, W))
    out = loop_attention(q, k, v, *tables)
    merged = torch.cat([out[:, h].permute(0, 3, 1, 2) for h in range(heads)], dim=1)  # (B, d_v, H, W)
    attended = layer.output(merged)
    if layer.attention_pool > 1:
        attended = enlarge(attended, *(math.ceil(side / layer.stride) for side in x.shape[2:]))
    return attended if layer.conv is None else torch.cat([layer.conv(x), attended], dim=1)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(5, 7), (7, 5), (11, 4), (1, 3)])
@pytest.mark.parametrize("relative", [True, False])
def test_layer_equals_its_definition_and_conv2d_in_shape(kernel_size, stride, size, relative):
    out_size = tuple(math.ceil(side / stride) for side in size)
    layer = small(kernel_size=kernel_size, stride=stride, feature_size=out_size, relative=relative)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    out = layer(x)
    assert out.shape == nn.Conv2d(3, 11, kernel_size, stride, padding=kernel_size // 2)(x.float()).shape
    torch.testing.assert_close(out, by_hand(layer, x), rtol=1e-11, atol=1e-11)


def test_strided_queries_are_the_centres_of_the_strided_kernel():
    layer = small(stride=2, feature_size=(3, 4))
    x = torch.randn(1, 3, 5, 7, dtype=torch.float64)
    q, _, _ = layer.qkv_heads(x)
    strided = F.conv2d(x, layer.qkv.weight, layer.qkv.bias, stride=2)  # (1, 24, 3, 4)
    torch.testing.assert_close(merge_heads(q), strided[:, :10])
    layer.conv.weight.data.zero_()
    layer.conv.weight.data[:, :, 1, 1] = 1  # the centre of the kernel only
    layer.conv.bias.data.zero_()
    torch.testing.assert_close(layer.conv(x)[0, 0], x[0, :, ::2, ::2].sum(0))


@pytest.mark.parametrize("position_encoding", ["relative", "none", "sine", "coordconv"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("pool", [1, 2, 3])
@pytest.mark.parametrize("size", [(5, 7), (11, 4), (1, 3)])
def test_every_position_encoding_and_pooling_equals_its_definition(position_encoding, stride, pool, size):
    out_size = tuple(math.ceil(side / stride) for side in size)
    layer = small(position_encoding=position_encoding, stride=stride, attention_pool=pool, feature_size=out_size)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    out = layer(x)
    assert out.shape == (2, 11, *out_size)
    torch.testing.assert_close(out, by_hand(layer, x), rtol=1e-11, atol=1e-11)
    out.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_pooled_attention_has_a_smaller_map_and_smaller_tables():
    layer = small(attention_pool=2, feature_size=(5, 8))
    assert layer.rel_h.shape == (2 * 3 - 1, 5)
    assert layer.rel_w.shape == (2 * 4 - 1, 5)
    weights = layer.attention_weights(torch.randn(2, 3, 5, 8, dtype=torch.float64))
    assert weights.shape == (2, 2, 12, 12)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 12, dtype=torch.float64))


def test_pooling_the_input_is_pooling_queries_keys_and_values():
    layer, x = small(attention_pool=2, position_encoding="none"), torch.randn(2, 3, 5, 7, dtype=torch.float64)
    pooled = F.avg_pool2d(layer.qkv(x), 2, ceil_mode=True)
    torch.testing.assert_close(merge_heads(layer.qkv_heads(x)[0]), pooled[:, :10])


def test_encodings_tell_places_apart_and_their_absence_does_not():
    """Turn the picture by 180°: without positions, and with a 1×1 kernel, the output turns with it."""
    x = torch.randn(1, 3, 5, 7, dtype=torch.float64)
    for encoding, turns in (("none", True), ("relative", False), ("sine", False), ("coordconv", False)):
        layer = small(kernel_size=1, position_encoding=encoding)
        assert torch.allclose(layer(x.flip(2, 3)), layer(x).flip(2, 3)) == turns, encoding


def test_only_relative_positions_need_a_map_size_and_only_coordinates_need_weights():
    count = {
        encoding: sum(p.numel() for p in AAConv2d(**(GOOD | changes), position_encoding=encoding).parameters())
        for encoding, changes in [
            ("relative", {}),
            ("none", {"feature_size": None}),
            ("sine", {"feature_size": None}),
            ("coordconv", {"feature_size": None}),
        ]
    }
    assert count["relative"] - count["none"] == 2 * 9 * 2
    assert count["sine"] == count["none"]
    assert count["coordconv"] - count["none"] == 2 * (2 * 8 + 8)


def test_relative_is_the_short_form_of_two_encodings():
    for relative, encoding in ((True, "relative"), (False, "none")):
        for options in ({"relative": relative}, {"position_encoding": encoding}):
            assert AAConv2d(**GOOD, **options).position_encoding == encoding
        assert AAConv2d(**GOOD, relative=relative, position_encoding=encoding).position_encoding == encoding
    assert AAConv2d(**GOOD).position_encoding == "relative"


def test_repr_names_what_is_not_the_default():
    assert repr(AAConv2d(**GOOD)).splitlines()[1].endswith("feature_size=(5, 5), relative=True")
    text = repr(AAConv2d(**GOOD, position_encoding="sine", attention_pool=2))
    assert "relative=False, position_encoding='sine', attention_pool=2" in text


def test_heads_are_split_and_merged_with_a_transpose():
    x = torch.arange(2 * 6 * 3 * 5).view(2, 6, 3, 5)
    heads = split_heads(x, 2)
    assert heads.shape == (2, 2, 3, 5, 3)
    assert heads[1, 1, 2, 4, 0] == x[1, 3, 2, 4]
    assert heads[0, 0, 1, 3, 2] == x[0, 2, 1, 3]
    assert torch.equal(merge_heads(heads), x)


def test_with_attention_to_oneself_only_the_output_is_the_value():
    """Queries that find only their own position: heads must come out as the values went in, nothing scrambled."""
    layer = small(relative=True)
    with torch.no_grad():
        layer.qkv.weight[:10] = 0
        layer.qkv.bias[:10] = 100.0  # queries all (100, …, 100); keys whatever they are
        layer.qkv.weight[10:20] = 0
        for table in (layer.rel_h, layer.rel_w):
            table.zero_()
            table[len(table) // 2] = 100.0  # "here" wins by far
        layer.output.weight.copy_(torch.eye(4)[..., None, None])
        layer.output.bias.zero_()
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(layer(x)[:, -4:], layer.qkv(x)[:, 20:])


def test_convolution_comes_first_and_attention_last():
    layer = small()
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(layer(x)[:, :7], layer.conv(x))


def test_heads_with_different_queries_get_different_maps_of_positions():
    layer = small()
    q, k, _ = layer.qkv_heads(torch.randn(1, 3, 5, 7, dtype=torch.float64))
    logits = loop_logits(q, torch.zeros_like(k), layer.rel_h, layer.rel_w)
    assert not torch.allclose(logits[:, 0], logits[:, 1], atol=1e-3)


def test_attention_weights_of_the_layer():
    layer = small()
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    q, k, _ = layer.qkv_heads(x)
    expected = (loop_logits(q, k, layer.rel_h, layer.rel_w) / math.sqrt(5)).softmax(-1)
    torch.testing.assert_close(layer.attention_weights(x), expected)


def test_tables_are_trained_saved_and_the_same_in_every_call():
    layer = small()
    assert {"rel_h", "rel_w"} <= dict(layer.named_parameters()).keys()
    assert layer.rel_h.shape == (9, 5)
    assert layer.rel_w.shape == (13, 5)
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    layer(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in (layer.rel_h, layer.rel_w))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    other = small()
    assert not torch.equal(other(x), layer(x))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))


def test_tables_start_with_variance_one_over_their_depth():
    torch.manual_seed(1)
    layer = AAConv2d(3, 64, depth_k=64, depth_v=8, num_heads=2, feature_size=97)
    assert layer.rel_h.std().item() == pytest.approx(32**-0.5, rel=0.05)
    assert abs(layer.rel_w.mean().item()) < 0.02


def test_nothing_is_stored_on_the_module():
    layer = small()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    attributes = set(vars(layer))
    layer(torch.randn(2, 3, 5, 7, dtype=torch.float64)).sum().backward()
    layer.attention_weights(torch.randn(2, 3, 5, 7, dtype=torch.float64))
    assert set(vars(layer)) == attributes
    assert layer.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


@pytest.mark.parametrize("size", [(3, 11), (5, 7), (13, 2), (1, 1)])
def test_maps_of_other_sizes_use_resized_tables(size):
    layer = small()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    out = layer(x)
    assert out.shape == (2, 11, *size)
    torch.testing.assert_close(out, by_hand(layer, x), rtol=1e-11, atol=1e-11)
    out.sum().backward()
    assert layer.rel_w.grad is not None


def test_relative_positions_are_translation_equivariant_away_from_the_border():
    """A patch on an empty picture: shift the patch and what its pixels give to one another shifts with it."""
    layer = small(depth_v=4, kernel_size=1, feature_size=(11, 13))
    with torch.no_grad():
        layer.qkv.bias.zero_()  # empty pixels have no key and no value
    x = torch.zeros(1, 3, 11, 13, dtype=torch.float64)
    x[..., 2:5, 3:5] = torch.randn(1, 3, 3, 2, dtype=torch.float64)
    q, k, _ = layer.qkv_heads(x)
    moved = torch.roll(x, (4, 5), dims=(2, 3))
    q2, k2, _ = layer.qkv_heads(moved)
    here = loop_logits(q, k, layer.rel_h, layer.rel_w).view(1, 2, 11, 13, 11, 13)
    there = loop_logits(q2, k2, layer.rel_h, layer.rel_w).view(1, 2, 11, 13, 11, 13)
    torch.testing.assert_close(here[:, :, 2:5, 3:5, 2:5, 3:5], there[:, :, 6:9, 8:10, 6:9, 8:10])
    assert not torch.allclose(here[:, :, 2:5, 3:5, 2:5, 3:5], here[:, :, 2:5, 3:5, 3:6, 3:5])


def test_parameter_count_is_the_papers_formula():
    for F_in, F_out, k, d_k, d_v, heads, (H, W) in [(3, 11, 3, 10, 4, 2, (5, 7)), (64, 128, 3, 40, 40, 4, (32, 32))]:
        layer = AAConv2d(F_in, F_out, k, depth_k=d_k, depth_v=d_v, num_heads=heads, feature_size=(H, W), bias=False)
        convolutions = k * k * F_in * (F_out - d_v) + F_in * (2 * d_k + d_v) + d_v * d_v
        tables = (2 * (H + W) - 2) * d_k // heads
        assert sum(p.numel() for p in layer.parameters()) == convolutions + tables


def test_fully_attentional_layer_has_no_convolution():
    layer = small(out_channels=4, depth_v=4)
    assert layer.conv is None
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(layer(x), by_hand(layer, x), rtol=1e-11, atol=1e-11)
    layer(x).sum().backward()


@pytest.mark.parametrize(
    ("channels", "options", "expected"),
    [
        (640, {"key_ratio": 0.2, "value_ratio": 0.1, "num_heads": 8}, (160, 64)),  # 128 is below 20 a head
        (2560, {"key_ratio": 0.2, "value_ratio": 0.1, "num_heads": 8}, (512, 256)),
        (128, {"key_ratio": 0.2, "value_ratio": 0.1, "num_heads": 8}, (160, 16)),  # 12.8 is nearest to 2 a head
        (128, {"key_ratio": 0.2, "value_ratio": 0.1, "num_heads": 8, "min_depth_k_per_head": 1}, (24, 16)),
        (10, {"key_ratio": 0.2, "value_ratio": 0.01, "num_heads": 2, "min_depth_k_per_head": 1}, (2, 2)),
        (64, {"key_ratio": 1.0, "value_ratio": 1.0, "num_heads": 4}, (80, 64)),
    ],
)
def test_depths_from_ratios(channels, options, expected):
    layer = AAConv2d(3, channels, feature_size=5, **options)
    assert (layer.depth_k, layer.depth_v) == expected


def test_the_papers_ratio_is_not_read_as_two():
    """κ = 2υ = 0.2 means κ = 0.2: a "κ of 2" is refused."""
    with pytest.raises(ValueError, match=r"key_ratio: expected a share .* got 2"):
        AAConv2d(3, 64, key_ratio=2, value_ratio=0.2, feature_size=5)


GOOD = {"in_channels": 3, "out_channels": 16, "depth_k": 8, "depth_v": 8, "num_heads": 4, "feature_size": 5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 0}, "in_channels: expected a whole number of at least 1, got 0"),
        ({"out_channels": 2.5}, "out_channels: expected a whole number of at least 1, got 2.5"),
        ({"num_heads": 0}, "num_heads: expected a whole number of at least 1, got 0"),
        ({"kernel_size": 4}, "kernel_size: expected an odd number, got 4"),
        ({"kernel_size": (3, 3)}, r"kernel_size: expected an odd number, got \(3, 3\)"),
        ({"stride": 0}, "stride: expected a whole number of at least 1, got 0"),
        ({"depth_k": 10}, "depth_k: expected a multiple of num_heads = 4, above 0, got 10"),
        ({"depth_v": 0}, "depth_v: expected a multiple of num_heads = 4, above 0, got 0"),
        ({"depth_v": 20}, "depth_v: expected at most out_channels = 16, got 20"),
        ({"depth_k": None}, "exactly one of depth_k and key_ratio, got depth_k=None, key_ratio=None"),
        ({"key_ratio": 0.5}, "exactly one of depth_k and key_ratio, got depth_k=8, key_ratio=0.5"),
        ({"depth_v": None, "value_ratio": 0}, "value_ratio: expected a share"),
        ({"depth_v": None, "value_ratio": 1.5}, r"value_ratio: expected a share .* got 1.5"),
        ({"feature_size": None}, r"feature_size: expected the \(H, W\) of the output map when relative=True, got None"),
        ({"feature_size": (5, 0)}, r"feature_size: expected an int or \(H, W\), at least 1 each, got \(5, 0\)"),
        ({"feature_size": 2.5}, "feature_size: expected an int"),
        ({"implementation": "fast"}, "implementation: expected one of .* got 'fast'"),
        ({"attention_pool": 0}, "attention_pool: expected a whole number of at least 1, got 0"),
        ({"position_encoding": "cosine"}, r"position_encoding: expected one of \['relative', .* got 'cosine'"),
        (
            {"relative": True, "position_encoding": "sine"},
            "position_encoding: expected 'relative' with relative=True, got 'sine'",
        ),
        (
            {"relative": False, "position_encoding": "sine"},
            "position_encoding: expected 'none' with relative=False, got 'sine'",
        ),
        ({"depth_k": None, "key_ratio": 0.5, "min_depth_k_per_head": 0}, "min_depth_k_per_head: expected a whole"),
    ],
)
def test_wrong_arguments_are_named(changes, message):
    AAConv2d(**GOOD)
    with pytest.raises(ValueError, match=message):
        AAConv2d(**(GOOD | changes))


@pytest.mark.parametrize("shape", [(2, 4, 5, 5), (3, 5, 5), (2, 3, 5, 5, 5)])
def test_wrong_input_is_named(shape):
    with pytest.raises(ValueError, match=r"expected input of shape \(B, 3, H, W\), got"):
        AAConv2d(**GOOD)(torch.zeros(shape))


def test_options_are_not_changed():
    options = dict(GOOD)
    AAConv2d(**options)
    AAConv2d(**options)
    assert options == GOOD


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision(dtype):
    layer = small().to(dtype)
    x = torch.randn(2, 3, 5, 7, dtype=dtype)
    out = layer(x)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), layer.double()(x.double()), rtol=0.05, atol=0.05)


def test_autocast():
    layer, x = small().float(), torch.randn(2, 3, 5, 7)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    out.float().sum().backward()
    assert layer.rel_h.grad.dtype == torch.float32
    torch.testing.assert_close(out.float(), layer(x), rtol=0.05, atol=0.05)


def test_channels_last_changes_memory_not_numbers():
    layer, x = small(), torch.randn(2, 3, 5, 7, dtype=torch.float64)
    expected = layer(x)
    out = layer.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(out, expected)


def test_deepcopy_and_a_file(tmp_path):
    layer, x = small(), torch.randn(2, 3, 5, 7, dtype=torch.float64)
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    other = small()
    other.load_state_dict(torch.load(tmp_path / "layer.pt", weights_only=True))
    assert torch.equal(other(x), layer(x))


def test_builds_on_the_meta_device_and_nothing_is_pinned_to_a_device():
    with torch.device("meta"):
        layer = AAConv2d(**GOOD)
        assert layer(torch.empty(2, 3, 5, 5)).shape == (2, 16, 5, 5)
    assert all(p.is_meta for p in layer.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device at hand")
def test_cpu_and_cuda_layers_side_by_side():
    layer, x = small(), torch.randn(2, 3, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(copy.deepcopy(layer).cuda()(x.cuda()).cpu(), layer(x))


OTHER_FORMS = [{}, {"position_encoding": "sine", "attention_pool": 2, "stride": 2}, {"position_encoding": "coordconv"}]


@pytest.mark.parametrize("options", OTHER_FORMS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it compiles
def test_compile_equals_eager_forward_and_backward(options):
    layer, x = small(**options), torch.randn(2, 3, 5, 7, dtype=torch.float64)
    compiled = torch.compile(copy.deepcopy(layer), fullgraph=True, backend="aot_eager")
    out = compiled(x)
    torch.testing.assert_close(out, layer(x))
    out.square().sum().backward()
    layer(x).square().sum().backward()
    for (name, found), wanted in zip(compiled.named_parameters(), layer.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("options", OTHER_FORMS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own, while it exports
def test_export_equals_eager(options):
    layer, x = small(**options).eval(), torch.randn(2, 3, 5, 7, dtype=torch.float64)
    exported = torch.export.export(layer, (x,)).module()
    torch.testing.assert_close(exported(x), layer(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own, while it exports
def test_onnx_equals_eager(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    layer, x = small().float().eval(), torch.randn(2, 3, 5, 7)
    torch.onnx.export(layer, (x,), dynamo=True, verbose=False).save(tmp_path / "layer.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "layer.onnx", providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(out), layer(x), rtol=1e-4, atol=1e-5)
