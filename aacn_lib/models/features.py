"""Look inside a network: the maps and the attention of chosen layers, with nothing stored on its modules.

Both calls run the network once as it predicts (evaluation mode, no gradients), watch it by forward hooks and take the
hooks away again, also when the network raises. Hooks see any network. The other way, torchvision's
`create_feature_extractor`, first traces the network, and tracing stops at the first `if` that depends on the input:
`AAConv2d`, which checks the shape it gets, has one.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aacn_lib.expect import did_you_mean
from aacn_lib.layers import AAConv1d, AAConv2d
from aacn_lib.models.vit import SelfAttention, VisionTransformer
from aacn_lib.ops import relative_logits


class AttentionMap(NamedTuple):
    """Where one layer looks.

    Attributes:
        weights: (B, heads, N, N): queries on the third axis, keys on the fourth, rows sum to 1. The N places are the
            class token, if there is one, then the H · W pixels (or patches) in row-major order.
        size: (H, W) of the map that attention runs on; (1, L) for a sequence.
    """

    weights: Tensor
    size: tuple[int, int]

    @property
    def tokens(self) -> int:
        """How many places stand before the pixels: 1 with a class token, else 0."""
        return self.weights.shape[-1] - self.size[0] * self.size[1]

    @property
    def between_pixels(self) -> Tensor:
        """(B, heads, HW, HW): the weights without the class token. If there is one, rows sum to less than 1."""
        return self.weights[..., self.tokens :, self.tokens :]


class LogitParts(NamedTuple):
    """What one layer's attention is made of: softmax of `content` + `position`.

    Both are computed when they are asked for. Queries, keys and tables say the same in far fewer numbers.

    Attributes:
        q, k: (B, heads, N, d_kh) queries and keys; the N places are those of `AttentionMap`.
        rel_h, rel_w: tables (2H - 1, d_kh) and (2W - 1, d_kh) that fit the map, or None for none.
        size: (H, W) of the map that attention runs on; (1, L) for a sequence.
    """

    q: Tensor
    k: Tensor
    rel_h: Tensor | None
    rel_w: Tensor | None
    size: tuple[int, int]

    @property
    def tokens(self) -> int:
        """How many places stand before the pixels: 1 with a class token, else 0."""
        return self.q.shape[2] - self.size[0] * self.size[1]

    @property
    def content(self) -> Tensor:
        """(B, heads, N, N): q_i · k_j / √d_kh."""
        return self.q @ self.k.transpose(-1, -2) / math.sqrt(self.q.shape[-1])

    @property
    def position(self) -> Tensor:
        """(B, heads, N, N): (q_i · rel_h[jy - iy + H - 1] + q_i · rel_w[jx - ix + W - 1]) / √d_kh, 0 without tables."""
        if self.rel_h is None and self.rel_w is None:
            return self.q.new_zeros(*self.q.shape[:3], self.q.shape[2])
        return relative_logits(self.q.unflatten(2, self.size), self.rel_h, self.rel_w) / math.sqrt(self.q.shape[-1])


def feature_maps(model: nn.Module, x: Tensor, layers: str | Iterable[str]) -> dict[str, Tensor]:
    """What chosen layers put out while `model` sees `x`.

    Args:
        model: any network. It is left as it was, its training mode included.
        x: its input, such as (B, C, H, W), on its device.
        layers: names of modules, such as "stem" or "layers.3.mlp" (`model.named_modules()` lists them).

    Returns:
        {name: output} in the order asked for; copies, which later layers that work in place do not change.

    Raises:
        ValueError: for an unknown name (the nearest are named), a module that does not run exactly once, and one whose
            output is not a tensor.
    """

    def output_of(name: str) -> Callable:
        def look(module: nn.Module, inputs: tuple, output: object) -> Tensor:
            if not isinstance(output, Tensor):
                raise ValueError(f"{name!r}: expected a module that puts out a tensor, got {type(output).__name__}")
            return output.clone()

        return look

    names = _chosen(layers, [name for name, _ in model.named_modules() if name], "layers of the network")
    return _watch(model, x, {name: output_of(name) for name in names})


def attention_layers(model: nn.Module) -> list[str]:
    """Names of the layers that `attention_maps` can show: each `AAConv2d`, `AAConv1d` and the attention of a ViT."""
    return [name for name, module in model.named_modules() if isinstance(module, AAConv2d | AAConv1d | SelfAttention)]


def attention_maps(model: nn.Module, x: Tensor, layers: str | Iterable[str] | None = None) -> dict[str, AttentionMap]:
    """Where chosen layers look while `model` sees `x`.

    Args:
        model: any network. It is left as it was, its training mode included.
        x: its input, such as (B, C, H, W), on its device.
        layers: names out of `attention_layers(model)`, or None for all. Each takes B · heads · (HW)² numbers.

    Returns:
        {name: AttentionMap} in the order asked for.

    Raises:
        ValueError: for an unknown name (the nearest are named) and a layer that does not run exactly once.
    """
    return _watch_attention(model, x, layers, _weights_and_size)


def logit_parts(model: nn.Module, x: Tensor, layers: str | Iterable[str] | None = None) -> dict[str, LogitParts]:
    """What attention is made of in chosen layers while `model` sees `x`: the content's part and the position's.

    The logit of a pair is the sum of both (Bello et al. 2019, eq. 3); `attention_maps` is its softmax.

    Args, errors: as in `attention_maps`. Queries and keys take 2 · B · heads · HW · d_kh numbers.

    Returns:
        {name: LogitParts} in the order asked for.
    """
    return _watch_attention(model, x, layers, _parts)


def _watch_attention(model: nn.Module, x: Tensor, layers: str | Iterable[str] | None, look: Callable) -> dict:
    """{name: look(...)} of layers with attention; what a look returns has a field `size`."""
    known = attention_layers(model)
    names = known if layers is None else _chosen(layers, known, "layers with attention")
    # A transformer's layer sees a row of tokens: how they lie in the picture shows where they are cut.
    cut_by = {}
    for owner, module in model.named_modules():
        if isinstance(module, VisionTransformer):
            prefix = f"{owner}." if owner else ""
            cut_by |= {name: f"{prefix}patches" for name in names if name.startswith(prefix)}
    seen = _watch(
        model,
        x,
        {name: look for name in names} | {name: _size_of_output for name in cut_by.values()},
    )
    for name, patches in cut_by.items():
        seen[name] = seen[name]._replace(size=seen[patches])
    return {name: seen[name] for name in names}


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put `model` in evaluation mode; afterwards each of its modules is in the mode that it was in before."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _weights_and_size(layer: nn.Module, inputs: tuple, output: Tensor) -> AttentionMap:
    weights = layer.attention_weights(*inputs)
    if isinstance(layer, SelfAttention):
        return AttentionMap(weights, (1, weights.shape[-1]))
    return AttentionMap(weights, tuple(layer.qkv_heads(*inputs)[0].shape[2:4]))


def _parts(layer: nn.Module, inputs: tuple, output: Tensor) -> LogitParts:
    q, k, _ = layer.qkv_heads(*inputs)
    if isinstance(layer, SelfAttention):
        return LogitParts(q, k, None, None, (1, q.shape[2]))
    size = tuple(q.shape[2:4])
    tables = layer.tables(*size) if isinstance(layer, AAConv2d) else (None, layer.table(size[1]))
    return LogitParts(q.flatten(2, 3), k.flatten(2, 3), *tables, size)


def _size_of_output(patches: nn.Module, inputs: tuple, output: Tensor) -> tuple[int, int]:
    return tuple(output.shape[2:4])


@torch.no_grad()
def _watch(model: nn.Module, x: Tensor, looks: dict[str, Callable]) -> dict:
    """Run the network once and return {name: look(module, inputs, output)} for each module named."""
    seen = {}

    def note(name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            if name in seen:
                raise ValueError(f"{name!r} runs more than once in a pass: which of its outputs is meant is not clear")
            seen[name] = looks[name](module, inputs, output)

        return hook

    with ExitStack() as undo:
        undo.enter_context(evaluation_mode(model))
        for name in looks:
            undo.callback(model.get_submodule(name).register_forward_hook(note(name)).remove)
        model(x)
    for name in looks:
        if name not in seen:
            raise ValueError(f"{name!r} does not run when the network sees this input")
    return {name: seen[name] for name in looks}


def _chosen(names: str | Iterable[str], known: list[str], what: str) -> list[str]:
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known, most=3) or f"; there are {known}"
            raise ValueError(f"expected {what}, got {name!r}{hint}")
    return names
