import pytest
import torch
from oracle import loop_attention, loop_logits, random_inputs

import aacn_lib.ops.tiled
from aacn_lib.ops import IMPLEMENTATIONS, attention, attention_weights, choose_implementation

SIZES = [(1, 1), (1, 7), (5, 1), (2, 3), (5, 3), (3, 7)]
# float64 throughout: what computes in float32 has tests of its own, test_fused.py and test_flexible.py ("fused" hands
# float64 on, which is tested here).
EVERY = [*(name for name in IMPLEMENTATIONS if name != "flex"), "auto"]


@pytest.fixture(params=["one tile", "many tiles"])
def tile_size(request, monkeypatch):
    """Small maps fit one tile; a buffer of 40 numbers makes them need many, of unequal size."""
    if request.param == "many tiles":
        monkeypatch.setattr(aacn_lib.ops.tiled, "BUFFER", 40)


@pytest.mark.usefixtures("tile_size")
@pytest.mark.parametrize("implementation", EVERY)
@pytest.mark.parametrize(("H", "W"), SIZES)
@pytest.mark.parametrize("tables", ["hw", "h", "w", ""])
def test_every_implementation_equals_the_loops_forward_and_backward(implementation, H, W, tables):
    inputs = random_inputs(H, W, tables=tables, grad=True)
    given = [t for t in inputs if t is not None]
    expected = loop_attention(*inputs)
    slope = torch.randn(expected.shape, dtype=torch.float64)
    out = attention(*inputs, implementation=implementation)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    wanted = torch.autograd.grad(expected, given, slope)
    found = torch.autograd.grad(out, given, slope)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("implementation", EVERY)
def test_gradients_by_finite_differences(implementation):
    inputs = random_inputs(2, 3, B=1, heads=2, depth_k=3, depth_v=2, grad=True)
    torch.autograd.gradcheck(lambda *t: attention(*t, implementation=implementation), inputs)


@pytest.mark.parametrize("implementation", EVERY)
@pytest.mark.parametrize(("depth_k", "depth_v"), [(3, 11), (11, 3), (1, 1)])
def test_value_depth_may_differ_from_key_depth(implementation, depth_k, depth_v):
    inputs = random_inputs(3, 5, depth_k=depth_k, depth_v=depth_v)
    out = attention(*inputs, implementation=implementation)
    torch.testing.assert_close(out, loop_attention(*inputs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("implementation", EVERY)
def test_strided_inputs_and_strided_gradients(implementation):
    q, k, v, rel_h, rel_w = random_inputs(5, 3)
    strided = [t.transpose(2, 3).contiguous().transpose(2, 3).requires_grad_() for t in (q, k, v)]
    out = attention(*strided, rel_h, rel_w, implementation=implementation)
    torch.testing.assert_close(out, loop_attention(q, k, v, rel_h, rel_w), rtol=1e-12, atol=1e-12)
    expanded = torch.ones((), dtype=q.dtype).expand(out.shape)  # what .sum().backward() sends
    plain = [t.clone().requires_grad_() for t in (q, k, v)]
    wanted = torch.autograd.grad(loop_attention(*plain, rel_h, rel_w), plain, expanded)
    torch.testing.assert_close(torch.autograd.grad(out, strided, expanded), wanted, rtol=1e-11, atol=1e-11)


def test_weights_are_the_softmax_of_the_scaled_logits():
    q, k, _, rel_h, rel_w = random_inputs(5, 3)
    weights = attention_weights(q, k, rel_h, rel_w)
    expected = (loop_logits(q, k, rel_h, rel_w) / 5**0.5).softmax(-1)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 15, dtype=torch.float64))


def test_a_hand_computed_value():
    # One head, one row of two pixels, one channel. Logits of pixel 0: q·k + q·rel = 1·0 + 1·0 and 1·ln 2 + 1·ln 2.
    ln2 = torch.tensor(2.0, dtype=torch.float64).log()
    q = torch.ones(1, 1, 1, 2, 1, dtype=torch.float64)
    k = torch.stack([0 * ln2, ln2]).view(1, 1, 1, 2, 1)
    v = torch.tensor([10.0, 20.0], dtype=torch.float64).view(1, 1, 1, 2, 1)
    rel_w = torch.stack([0 * ln2, 0 * ln2, ln2]).view(3, 1)  # distances -1, 0, +1
    for implementation in EVERY:
        out = attention(q, k, v, None, rel_w, implementation=implementation).flatten()
        # weights of pixel 0: 1/5, 4/5; of pixel 1: 1/3, 2/3
        torch.testing.assert_close(out, torch.tensor([18.0, 50 / 3], dtype=torch.float64))


@pytest.mark.parametrize("implementation", EVERY)
def test_without_positions_attention_is_permutation_equivariant_and_with_them_it_is_not(implementation):
    q, k, v, rel_h, rel_w = random_inputs(5, 3)
    order = torch.randperm(15)

    def shuffle(t):
        return t.flatten(2, 3)[:, :, order].unflatten(2, (5, 3))

    plain = attention(q, k, v, implementation=implementation)
    torch.testing.assert_close(attention(*map(shuffle, (q, k, v)), implementation=implementation), shuffle(plain))
    placed = attention(q, k, v, rel_h, rel_w, implementation=implementation)
    moved = attention(*map(shuffle, (q, k, v)), rel_h, rel_w, implementation=implementation)
    assert not torch.allclose(moved, shuffle(placed), atol=1e-3)


@pytest.mark.parametrize("implementation", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_stays_near_the_exact_result(implementation, dtype):
    exact = random_inputs(5, 7)
    rounded = [t.to(dtype).requires_grad_() for t in exact]
    out = attention(*rounded, implementation=implementation)
    out.float().square().sum().backward()
    assert out.dtype == dtype
    # Inputs are rounded before and logits within: a few units in the last place of numbers of size about 3.
    tolerance = 16 * torch.finfo(dtype).eps
    expected = loop_attention(*(t.detach().double() for t in rounded))
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)
    assert all(t.grad is not None and t.grad.isfinite().all() for t in rounded)


def test_large_logits_do_not_overflow():
    inputs = random_inputs(3, 5, dtype=torch.float32)
    inputs[0] = inputs[0] * 1e4
    for implementation in EVERY:
        out = attention(*inputs, implementation=implementation)
        assert out.isfinite().all(), implementation
        assert out.abs().max() <= inputs[2].abs().max() * (1 + 1e-5)


def test_tiles_hold_no_square_tensor():
    """The largest tensor that a training step of the tiled form makes is its buffer, not (HW)²."""
    inputs = random_inputs(37, 41, B=1, heads=1, dtype=torch.float32, grad=True)
    with torch.profiler.profile(profile_memory=True, record_shapes=False) as profile:
        attention(*inputs, implementation="tiled").sum().backward()
    largest = max(event.self_device_memory_usage or event.self_cpu_memory_usage for event in profile.events())
    assert largest <= 4 * aacn_lib.ops.tiled.BUFFER < 4 * (37 * 41) ** 2


@pytest.mark.parametrize("implementation", EVERY)
def test_a_changed_output_is_not_used_silently_in_backward(implementation):
    """An in-place change after attention either leaves the gradients right or raises."""
    inputs = random_inputs(3, 5, grad=True)
    wanted = torch.autograd.grad(2 * loop_attention(*inputs).sum(), inputs)
    out = attention(*inputs, implementation=implementation)
    try:
        found = torch.autograd.grad(out.mul_(2).sum(), inputs)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)  # noqa: PT017 - either outcome is right
    else:
        torch.testing.assert_close(found, wanted)


def test_second_derivatives_are_right_or_refused():
    inputs = random_inputs(2, 3, B=1, heads=2, depth_k=3, depth_v=2, grad=True)
    with pytest.raises(RuntimeError, match="choose implementation='skew'"):
        torch.autograd.grad(attention(*inputs, implementation="tiled").sum(), inputs, create_graph=True)
    torch.autograd.gradgradcheck(lambda *t: attention(*t, implementation="skew"), inputs)


def test_auto_is_tiled_on_a_cpu():
    assert choose_implementation(random_inputs(5, 3)[0]) == "tiled"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device at hand")
@pytest.mark.parametrize("implementation", EVERY)
def test_on_cuda(implementation):
    inputs = [t.cuda() for t in random_inputs(5, 3)]
    out = attention(*inputs, implementation=implementation)
    torch.testing.assert_close(out.cpu(), loop_attention(*(t.cpu() for t in inputs)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, k, v: (q, k[..., :4], v), r"keys of the queries' shape \(2, 3, 5, 3, 5\), got \(2, 3, 5, 3, 4\)"),
        (lambda q, k, v: (q, k, v.transpose(2, 3)), r"values of shape \(2, 3, 5, 3, 'd_vh'\), got \(2, 3, 3, 5, 7\)"),
        (lambda q, k, v: (q[0], k[0], v[0]), r"expected queries of shape \(B, heads, H, W, d_kh\)"),
    ],
)
def test_shapes_that_do_not_fit_are_named(change, message):
    q, k, v, rel_h, rel_w = random_inputs(5, 3)
    with pytest.raises(ValueError, match=message):
        attention(*change(q, k, v), rel_h, rel_w)


def test_an_unknown_implementation_is_named():
    with pytest.raises(ValueError, match=r"expected one of .*'auto'.*got 'fast'"):
        attention(*random_inputs(5, 3), implementation="fast")
