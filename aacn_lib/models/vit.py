"""The vision transformer (Dosovitskiy et al. 2021): pictures cut into patches, then attention and nothing else."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacn_lib.expect import expect, expect_count, expect_one_of
from aacn_lib.layers import StochasticDepth

POOLS = ("token", "mean")


class VisionTransformer(nn.Module):
    """A transformer over the patches of a picture (Dosovitskiy et al. 2021, section 3.1).

    Each patch becomes one token by a linear map (a convolution whose stride is its kernel). Learned absolute positions
    are added, `depth` encoder layers let all tokens look at one another, and the class is read from an extra class
    token, or from the mean over the patches. The defaults are the small network that circulates for CIFAR.

    Pictures of another size than the network was made for work too: the positions of the patches are interpolated over
    the picture, as in section 3.2 (here bicubically), and the class token's stays. The encoder's linear layers start
    Xavier-uniform and positions from N(0, 0.02²), as in the authors' code; patches and head start as PyTorch does it.

    Args:
        in_channels: channels of the pictures.
        num_classes: number of outputs.
        image_size: (H, W) of the pictures, multiples of `patch_size`.
        patch_size: side of a patch in pixels (P).
        depth: number of encoder layers (L).
        width: channels of a token (D), a multiple of `num_heads`.
        num_heads: heads of each attention.
        mlp_width: channels between the two linear layers of each MLP.
        dropout: share of numbers set to zero after the positions, each attention and each layer of the MLPs.
        stochastic_depth: share of the pictures that skip a branch of the last encoder layer in training; layer l of L
            gets l / L of it (Huang et al. 2016, eq. 4).
        pool: "token" to read the class from the class token, "mean" for the mean over the patches, without a token.

    Raises:
        ValueError: for options that cannot be built and sizes that are no multiple of the patch.

    Attributes:
        token: (width,) the class token, or None.
        positions: (tokens, width), the class token's first if there is one, then the patches' in row-major order.
        layers: the encoder layers.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        image_size: tuple[int, int],
        *,
        patch_size: int = 4,
        depth: int = 12,
        width: int = 256,
        num_heads: int = 8,
        mlp_width: int = 512,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        pool: str = "token",
    ):
        super().__init__()
        owner = type(self).__name__
        counts = {"patch_size": patch_size, "depth": depth, "width": width, "num_heads": num_heads}
        for name, value in (counts | {"mlp_width": mlp_width}).items():
            expect_count(owner, name, value)
        expect(width % num_heads == 0, owner, "width", f"a multiple of num_heads = {num_heads}", width)
        for name, value in (("dropout", dropout), ("stochastic_depth", stochastic_depth)):
            is_share = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
            expect(is_share, owner, name, "a share from 0 to below 1", value)
        expect_one_of(owner, "pool", POOLS, pool)

        self.patch_size, self.in_channels = patch_size, in_channels
        self.grid = self._grid_of(*image_size)
        self.patches = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)
        self.register_parameter("token", nn.Parameter(torch.empty(width)) if pool == "token" else None)
        extra = 0 if self.token is None else 1
        self.positions = nn.Parameter(torch.empty(extra + math.prod(self.grid), width))
        self.dropout = nn.Dropout(dropout)
        shares = [stochastic_depth * layer / depth for layer in range(1, depth + 1)]
        self.layers = nn.Sequential(*(EncoderLayer(width, num_heads, mlp_width, dropout, share) for share in shares))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)
        nn.init.normal_(self.positions, std=0.02)
        if self.token is not None:
            nn.init.zeros_(self.token)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, num_classes) logits."""
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"expected input of shape (B, {self.in_channels}, H, W), got {tuple(x.shape)}")
        grid = self._grid_of(*x.shape[2:])
        tokens = self.patches(x).flatten(2).transpose(1, 2)  # (B, patches, width)
        if self.token is not None:
            tokens = torch.cat([self.token.expand(len(x), 1, -1), tokens], dim=1)  # (B, 1 + patches, width)
        tokens = self.norm(self.layers(self.dropout(tokens + self.positions_for(grid))))
        return self.head(tokens.mean(dim=1) if self.token is None else tokens[:, 0])

    def positions_for(self, grid: tuple[int, int]) -> Tensor:
        """Positions for `grid` = (rows, columns) of patches: the trained ones, resized if the grid is another."""
        if grid == self.grid:
            return self.positions
        patches = math.prod(self.grid)
        token, learned = self.positions.split([len(self.positions) - patches, patches])
        as_map = learned.transpose(0, 1).unflatten(1, self.grid)[None]  # (1, width, rows, columns)
        exact = as_map.to(torch.promote_types(as_map.dtype, torch.float32))  # half precision has no such kernel on CPUs
        resized = F.interpolate(exact, size=grid, mode="bicubic", antialias=True)[0].to(as_map.dtype)
        return torch.cat([token, resized.flatten(1).transpose(0, 1)])

    def _grid_of(self, H: int, W: int) -> tuple[int, int]:
        """Rows and columns of patches in a picture of H×W pixels."""
        P = self.patch_size
        expect(
            min(H, W) >= P and H % P == W % P == 0,
            type(self).__name__,
            "image size",
            f"multiples of patch_size = {P} pixels",
            f"{H}×{W}",
        )
        return H // P, W // P


class EncoderLayer(nn.Module):
    """Self-attention, then an MLP, each on normalised tokens and added to what came in (Dosovitskiy et al., eq. 2, 3).

    The function of `nn.TransformerEncoderLayer(norm_first=True, activation="gelu", batch_first=True)`, whose weights it
    takes under other names (`in_proj` is `qkv`); but there is no dropout on the attention weights, as in the authors'
    networks.
    """

    def __init__(self, width: int, num_heads: int, mlp_width: int, dropout: float = 0.0, stochastic_depth: float = 0.0):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width, num_heads)
        self.dropout = nn.Dropout(dropout)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp_width, width),
            nn.Dropout(dropout),
        )
        self.drop = StochasticDepth(stochastic_depth)
        for linear in (self.mlp[0], self.mlp[3]):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, width) → the same shape."""
        x = x + self.drop(self.dropout(self.attention(self.norm1(x))))
        return x + self.drop(self.mlp(self.norm2(x)))


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens (Vaswani et al. 2017; Dosovitskiy et al. 2021, appendix A).

    Attributes:
        qkv: linear map to 3 · width numbers a token, in the order q, k, v, head-major within each.
        output: linear map width → width of the merged heads.
    """

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        for square in (*self.qkv.weight.chunk(3), self.output.weight):  # q, k and v are three maps, each with its scale
            nn.init.xavier_uniform_(square)
        for linear in (self.qkv, self.output):
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, width) → the same shape."""
        heads = F.scaled_dot_product_attention(*self.qkv_heads(x))  # (B, heads, tokens, d)
        return self.output(heads.transpose(1, 2).flatten(2))  # merged: (B, tokens, heads · d)

    def attention_weights(self, x: Tensor) -> Tensor:
        """How each token attends to each other, for `x` (B, tokens, width): (B, heads, tokens, tokens), rows sum to 1.

        For looking at attention; `forward` computes no such tensor.
        """
        q, k, _ = self.qkv_heads(x)
        return (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)

    def qkv_heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, heads, tokens, d) of `x` (B, tokens, width)."""
        return self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
