"""Every network by name, whole: minutes on a laptop, so only with AACN_PROFILE=full. test_models.py tests thin ones."""

import os

import pytest
import torch
from safetensors.torch import load_model, save_model

from aacn_lib.models import list_models
from aacn_lib.weights import create_model

pytestmark = [
    pytest.mark.skipif(os.environ.get("AACN_PROFILE") != "full", reason="takes half an hour: set AACN_PROFILE=full"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # torch's own, while it traces
]


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_learns_is_saved_exported_and_compiled(name, size, tmp_path):
    torch.manual_seed(0)
    model, x = create_model(name, 7, size), torch.randn(2, 3, *size)
    model(x).square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    model.eval()
    with torch.no_grad():
        expected = model(x)
        assert expected.shape == (2, 7)
        save_model(model, tmp_path / "weights.safetensors")
        other = create_model(name, 7, size).eval()
        load_model(other, tmp_path / "weights.safetensors")
        assert torch.equal(other(x), expected)
        exported = torch.export.export(model, (x,)).module()
        # Exported and compiled networks take attention by another form: sums in another order, through many layers.
        torch.testing.assert_close(exported(x), expected, rtol=1e-3, atol=1e-3)
        torch.compiler.reset()
        compiled = torch.compile(model, backend="aot_eager")
        torch.testing.assert_close(compiled(x), expected, rtol=1e-3, atol=1e-3)
