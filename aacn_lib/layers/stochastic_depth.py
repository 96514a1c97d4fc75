"""Stochastic depth: in training, each picture skips some residual branches."""

from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """In training, set a residual branch to zero for a `share` of the pictures, drawn anew in every step.

    Huang et al. 2016 (Deep Networks with Stochastic Depth, section 3). They draw once for the whole batch and shrink
    the branch at prediction; here each picture draws for itself, and in training what stays is divided by 1 - share.
    The mean is the same either way, and prediction needs no correction.

    Args:
        share: probability that the branch is dropped, at least 0 and below 1.

    Raises:
        ValueError: for another share.
    """

    def __init__(self, share: float):
        super().__init__()
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
            raise ValueError(f"stochastic_depth: expected a probability of at least 0 and below 1, got {share!r}")
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) → the same shape."""
        if not self.training or self.share == 0:
            return x
        kept = x.new_empty(len(x), *[1] * (x.ndim - 1)).bernoulli_(1 - self.share)
        return x * (kept / (1 - self.share))

    def extra_repr(self) -> str:
        return f"share={self.share}"
