import pytest
import torch
from oracle import loop_attention, random_inputs

from aacn_lib.ops import attention


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # the slow form, which we ask for
@pytest.mark.parametrize(("H", "W"), [(1, 1), (2, 3), (5, 3), (3, 7)])
@pytest.mark.parametrize("tables", ["hw", "h", "w", ""])
def test_equals_the_loops(H, W, tables):
    inputs = random_inputs(H, W, tables=tables, dtype=torch.float32)
    out = attention(*inputs, implementation="flex")
    torch.testing.assert_close(out, loop_attention(*inputs))


def test_gradients_on_a_cpu_are_refused():
    with pytest.raises(ValueError, match="implementation 'flex': PyTorch has no gradients for it on a CPU"):
        attention(*random_inputs(3, 5, grad=True), implementation="flex")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device at hand")
def test_gradients_on_cuda():
    inputs = [t.cuda().requires_grad_() for t in random_inputs(5, 7, depth_k=16, depth_v=16, dtype=torch.float32)]
    out = attention(*inputs, implementation="flex")
    wanted = attention(*inputs, implementation="skew")
    torch.testing.assert_close(out, wanted, rtol=1e-3, atol=1e-3)
    slope = torch.randn_like(out)
    found, expected = (torch.autograd.grad(t, inputs, slope) for t in (out, wanted))
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
