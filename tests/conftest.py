import pytest
import torch

torch.set_num_threads(1)  # tiny tensors: a second thread costs more than it brings


@pytest.fixture(autouse=True)
def _seeded():
    """Each test starts from the same random state, whatever ran before it."""
    torch.manual_seed(0)
