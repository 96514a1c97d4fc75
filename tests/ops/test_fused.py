"""The compiled kernel against the loops, and everything it must hand on, refuse or survive."""

import gc
import math

import pytest
import torch
from oracle import loop_attention, random_inputs
from torch.utils.data import DataLoader, Dataset

import aacn_lib.ops.fused
from aacn_lib.ops import IMPLEMENTATIONS, attention, choose_implementation, why_unavailable
from aacn_lib.ops.operator import FUSED_FROM

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=f"{why_unavailable()}")

# Neither a multiple of 4 queries nor of 64 keys; one row; one column; whole blocks; two chunks of keys, and three.
SMALL, LARGE = [(1, 1), (1, 7), (5, 1), (3, 5), (7, 11), (8, 8)], [(37, 41), (13, 173)]
CASES = [(H, W, tables) for H, W in SMALL for tables in ("hw", "h", "w", "")] + [(H, W, "hw") for H, W in LARGE]


def tables_and_grads(H, W, dtype=torch.float32, **options):
    inputs = random_inputs(H, W, dtype=dtype, **options)
    return inputs, [t for t in inputs if t is not None]


def exact(inputs, slope):
    """Output and gradients in float64: by loops for small maps, by the form that equals them for large ones."""
    wide = [t if t is None else t.detach().double().requires_grad_() for t in inputs]
    H, W = inputs[0].shape[2:4]
    out = loop_attention(*wide) if H * W < 40 else attention(*wide, implementation="skew")
    return out, torch.autograd.grad(out, [t for t in wide if t is not None], slope.double())


def relative_error(found, wanted):
    """Largest difference as a share of the largest number: of sums in which numbers of size 1 and more cancel."""
    return ((found.double() - wanted).abs().max() / wanted.abs().max().clamp_min(1)).item()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("H", "W", "tables"), CASES)
def test_equals_the_loops_forward_and_backward(H, W, tables, threads):
    inputs, given = tables_and_grads(H, W, tables=tables, grad=True, B=1, heads=4)
    slope = torch.randn(inputs[2].shape)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        out = attention(*inputs, implementation="fused")
        found = torch.autograd.grad(out, given, slope)
    finally:
        torch.set_num_threads(before)
    wanted_out, wanted = exact(inputs, slope)
    # float32 has 6e-8; sums over up to 2,249 keys, in any order, lose one to two digits of that.
    assert relative_error(out, wanted_out) < 5e-6
    for name, a, b in zip([n for n in ("q", "k", "v", "h", "w") if n in "qkv" + tables], found, wanted, strict=True):
        assert relative_error(a, b) < 2e-5, name


@pytest.mark.parametrize(("depth_k", "depth_v"), [(1, 1), (2, 9), (9, 2), (20, 4)])
def test_odd_and_even_depths(depth_k, depth_v):
    inputs, given = tables_and_grads(5, 7, depth_k=depth_k, depth_v=depth_v, grad=True)
    slope = torch.randn(inputs[2].shape)
    out = attention(*inputs, implementation="fused")
    wanted_out, wanted = exact(inputs, slope)
    assert relative_error(out, wanted_out) < 5e-6
    for a, b in zip(torch.autograd.grad(out, given, slope), wanted, strict=True):
        assert relative_error(a, b) < 2e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once_at_the_end(dtype):
    inputs, given = tables_and_grads(7, 11, dtype=dtype, grad=True)
    slope = torch.randn(inputs[2].shape).to(dtype)
    out = attention(*inputs, implementation="fused")
    assert out.dtype == dtype
    wanted_out, wanted = exact(inputs, slope)
    # Half a unit in the last place of the largest number: everything before the last rounding is float32.
    eps = torch.finfo(dtype).eps
    assert relative_error(out, wanted_out) < eps
    for a, b in zip(torch.autograd.grad(out, given, slope), wanted, strict=True):
        assert relative_error(a, b) < 2 * eps


def test_float64_is_not_rounded():
    inputs, _ = tables_and_grads(5, 7, dtype=torch.float64)
    out = attention(*inputs, implementation="fused")
    torch.testing.assert_close(out, loop_attention(*inputs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e25])
@pytest.mark.parametrize("which", range(5))
def test_what_may_overflow_is_computed_as_everywhere_else(bad, which):
    """The kernel's loops assume finite numbers: others must come out as the tiles say, not as garbage."""
    inputs, _ = tables_and_grads(3, 5)
    inputs[which].flatten()[7] = bad
    found = attention(*inputs, implementation="fused")
    wanted = attention(*inputs, implementation="tiled")
    torch.testing.assert_close(found, wanted, equal_nan=True, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_gradients_that_may_overflow_are_computed_as_everywhere_else(bad):
    grads = []
    for implementation in ("fused", "tiled"):
        inputs, given = tables_and_grads(3, 5, grad=True)
        slope = torch.ones(inputs[2].shape)
        slope.flatten()[7] = bad
        grads.append(torch.autograd.grad(attention(*inputs, implementation=implementation), given, slope))
    torch.testing.assert_close(grads[0], grads[1], equal_nan=True, rtol=1e-4, atol=1e-4)
    assert not all(g.abs().max() < 1e10 for g in grads[0])


def test_large_logits_pick_one_key():
    inputs, _ = tables_and_grads(7, 11)
    inputs[0] *= 1e3
    out = attention(*inputs, implementation="fused")
    wanted, _ = exact(inputs, torch.ones_like(out))
    assert relative_error(out, wanted) < 1e-3  # logits near 3,000 are known to 2e-4 in float32


def test_a_map_with_too_many_distances_goes_to_the_tiles():
    inputs, _ = tables_and_grads(1, 515, B=1, heads=1)
    assert not aacn_lib.ops.fused.can_fuse(inputs[2])
    out = attention(*inputs, implementation="fused")
    torch.testing.assert_close(out, attention(*inputs, implementation="tiled"))


def test_an_empty_batch():
    inputs, _ = tables_and_grads(5, 7, B=0)
    assert attention(*inputs, implementation="fused").shape == inputs[2].shape


def test_second_derivatives_are_refused():
    inputs, given = tables_and_grads(2, 3, grad=True)
    with pytest.raises(RuntimeError, match="choose implementation='skew'"):
        torch.autograd.grad(attention(*inputs, implementation="fused").sum(), given, create_graph=True)


def test_two_runs_are_equal_bit_by_bit():
    def run():
        inputs, given = tables_and_grads(7, 11, grad=True)
        out = attention(*inputs, implementation="fused")
        return out, *torch.autograd.grad(out.square().sum(), given)

    for a, b in zip(run(), run(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("implementation", ["tiled", "fused"])
def test_what_is_kept_for_the_backward_pass_grows_with_the_pixels_not_with_their_square(implementation):
    def kept(side):
        inputs, _ = tables_and_grads(side, side, B=1, heads=1, grad=True)
        total = 0

        def pack(t):
            nonlocal total
            total += t.numel()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            attention(*inputs, implementation=implementation)
        return total / side**2  # numbers a pixel

    # Tiles keep H + W position logits a pixel besides q, k and v; the kernel keeps none.
    growth = kept(48) / kept(16)
    assert growth < (3.2 if implementation == "tiled" else 1.1)


def test_auto_takes_the_kernel_for_large_maps_in_single_precision_only():
    def chosen(H, W, dtype=torch.float32):
        return choose_implementation(torch.empty(1, 1, H, W, 3, dtype=dtype))

    side = math.isqrt(FUSED_FROM - 1) + 1
    assert chosen(side, side) == "fused"
    assert chosen(side, side, torch.bfloat16) == "fused"
    assert chosen(side, side - 1) == "tiled"
    assert chosen(32, 32, torch.float64) == "tiled"
    assert chosen(1, 600) == "tiled"


def test_without_numba_everything_works_and_the_kernel_says_what_to_install(monkeypatch):
    monkeypatch.setattr(aacn_lib.ops.fused, "why_unavailable", lambda: "Numba cannot be imported")
    inputs, _ = tables_and_grads(16, 17, B=1, heads=1)
    assert choose_implementation(inputs[2]) == "tiled"
    torch.testing.assert_close(attention(*inputs), attention(*inputs, implementation="tiled"))
    with pytest.raises(ValueError, match="implementation 'fused': Numba cannot be imported"):
        attention(*inputs, implementation="fused")


def test_numba_switched_off_or_missing_is_noticed(monkeypatch):
    import numba

    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    why_unavailable.cache_clear()
    assert why_unavailable() == "Numba is switched off by NUMBA_DISABLE_JIT"
    monkeypatch.setitem(__import__("sys").modules, "numba", None)  # what makes `import numba` fail
    why_unavailable.cache_clear()
    assert "pip install 'aacn-lib[fast]'" in why_unavailable()
    monkeypatch.undo()
    why_unavailable.cache_clear()
    assert why_unavailable() is None


class Attended(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        inputs, _ = tables_and_grads(15, 17, B=1, heads=2)
        return attention(*inputs, implementation="fused")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # Python 3.12 on any fork
def test_in_the_workers_of_a_dataloader_after_threads_were_used():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = Attended()[0]
        loader = DataLoader(Attended(), batch_size=2, num_workers=2, multiprocessing_context="fork", timeout=60)
        for batch in loader:
            torch.testing.assert_close(batch[0], expected)
    finally:
        torch.set_num_threads(before)
        gc.collect()


def test_every_form_that_auto_may_choose_is_in_the_table():
    assert {"fused", "tiled", "augmented"} <= IMPLEMENTATIONS.keys()
