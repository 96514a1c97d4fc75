"""The check of a learner's own attention-augmented convolution against `AAConv2d`: which step of it went wrong."""

import torch
from torch import Tensor, nn

from aacn_lib.exercises.compare import difference
from aacn_lib.exercises.grading import NotAttempted, Wrong, call, primes
from aacn_lib.layers import AAConv2d, merge_heads, split_heads
from aacn_lib.ops import relative_logits

_PARTS = ("conv", "qkv", "output", "rel_h", "rel_w")


def _positions_by_column(q: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Position logits of somebody who takes pixel number n for row n % H, column n // H."""
    H, W = q.shape[2:4]
    n = torch.arange(H * W)
    y, x = n % H, n // H
    vectors = rel_h[y[None, :] - y[:, None] + H - 1] + rel_w[x[None, :] - x[:, None] + W - 1]
    return torch.einsum("bhid,ijd->bhij", q.flatten(2, 3), vectors)


def _layer_output(
    layer: AAConv2d,
    x: Tensor,
    *,
    scale=lambda d, heads: d**-0.5,
    scale_content_only: bool = False,
    split=split_heads,
    merge=merge_heads,
    positions=relative_logits,
    order=(0, 1, 2),
    over: int = -1,
    project: bool = True,
    attention_first: bool = False,
) -> Tensor:
    """The layer's output, written out in full so that each step can be replaced by a mistake."""
    heads, (dk, dv) = layer.num_heads, (layer.depth_k, layer.depth_v)
    sizes = [(dk, dk, dv)[part] for part in order]
    parts = dict(zip(order, layer.qkv(layer.attention_input(x)).split(sizes, dim=1), strict=True))
    q, k, v = (split(parts[part], heads) for part in range(3))
    H, W, d = q.shape[2:]
    content = q.flatten(2, 3) @ k.flatten(2, 3).mT
    position = positions(q, layer.rel_h, layer.rel_w) if positions else 0
    factor = scale(d, heads)
    logits = content * factor + position if scale_content_only else (content + position) * factor
    out = merge((logits.softmax(over) @ v.flatten(2, 3)).unflatten(2, (H, W)))
    branches = [layer.conv(x), layer.output(out) if project else out]
    return torch.cat(branches[::-1] if attention_first else branches, dim=1)


def _raw_merge(x: Tensor) -> Tensor:
    B, heads, H, W, d = x.shape
    return x.reshape(B, heads * d, H, W)


def _raw_split(x: Tensor, heads: int) -> Tensor:
    B, C, H, W = x.shape
    return x.reshape(B, heads, H, W, C // heads)


def _interleaved(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(1, (-1, heads)).permute(0, 2, 3, 4, 1)


_MISTAKES = {
    "the logits are not divided by √d_kh, so the softmax is too sharp": {"scale": lambda d, heads: 1.0},
    "the logits are divided by √depth_k: the scale belongs to one head, √(depth_k / num_heads)": {
        "scale": lambda d, heads: (d * heads) ** -0.5
    },
    "the logits are divided by d_kh instead of its square root": {"scale": lambda d, heads: 1 / d},
    "only the content logits are divided by √d_kh: the position logits are added first, then the sum is divided": {
        "scale_content_only": True
    },
    "the heads are merged without a transpose: (B, heads, H, W, d) was reshaped to (B, heads·d, H, W), which mixes "
    "pixels with channels": {"merge": _raw_merge},
    "the heads are split without a transpose: (B, heads·d, H, W) was reshaped to (B, heads, H, W, d), which mixes "
    "pixels with channels": {"split": _raw_split},
    "heads are split and merged by bare reshapes: the shapes are right, pixels and channels are scrambled": {
        "split": _raw_split,
        "merge": _raw_merge,
    },
    "the heads are interleaved: channel h·d + i is component i of head h, so unflatten to (num_heads, d), not to "
    "(d, num_heads)": {"split": _interleaved},
    "rows and columns are swapped in the positions: pixel number n lies in row n // W, column n % W": {
        "positions": _positions_by_column
    },
    "the position logits are mirrored: the row of a table is key - query + size - 1, not query - key": {
        "positions": lambda q, rel_h, rel_w: relative_logits(q, rel_h.flip(0), rel_w.flip(0))
    },
    "the position logits are transposed: the query asks, so it is its vector that meets the table": {
        "positions": lambda q, rel_h, rel_w: relative_logits(q, rel_h, rel_w).mT
    },
    "the positions have no effect: rel_h and rel_w are there, but their logits are not added": {"positions": None},
    "rel_w has no effect: both tables give logits, and they are added": {
        "positions": lambda q, rel_h, rel_w: relative_logits(q, rel_h, None)
    },
    "rel_h has no effect: both tables give logits, and they are added": {
        "positions": lambda q, rel_h, rel_w: relative_logits(q, None, rel_w)
    },
    "the softmax goes over the queries: for each query the weights of all keys must sum to 1, so dim=-1": {"over": -2},
    "queries and keys are exchanged: the channels of qkv are queries first, then keys, then values": {
        "order": (1, 0, 2)
    },
    "the values were taken from the front: the channels of qkv are queries first, then keys, then values": {
        "order": (2, 0, 1)
    },
    "the output projection is left out: the merged heads pass self.output before they are concatenated": {
        "project": False
    },
    "attention comes first in the output: the convolution's channels come first, attention's last": {
        "attention_first": True
    },
    "the heads are merged without a transpose, and attention comes first in the output": {
        "merge": _raw_merge,
        "attention_first": True,
    },
}


def check_layer(answer: object, generator: torch.Generator) -> None:
    """Raise `Wrong` unless the class `answer` is the AAConv2d of the library: parameters, outputs and gradients."""
    if not isinstance(answer, type):
        raise Wrong("expected the class itself, StridedAAConv2d, without brackets: the check builds it in many sizes")
    cases = []
    for kernel_size, stride in ((3, 1), (3, 2), (5, 2), (1, 1)):
        reference, x = _draw_layer(generator, kernel_size, stride)
        layer = answer(
            reference.in_channels,
            reference.out_channels,
            kernel_size,
            reference.depth_k,
            reference.depth_v,
            reference.num_heads,
            reference.feature_size,
            stride,
        )
        _check_parts(layer, reference)
        layer.load_state_dict(reference.state_dict())
        try:
            out = call(layer, x)
        except (RuntimeError, ValueError):  # relative_logits raises the latter where the tables do not fit the queries
            _explain_crash(layer, reference)
            raise
        _check_shape(out, reference, x)
        cases.append((reference, layer, x, out.detach()))
    right = [reference(x).detach() for reference, _, x, _ in cases]
    outs = [out for *_, out in cases]
    if any(map(_differ, outs, right)):
        for message, options in _MISTAKES.items():
            if not any(_differ(out, _layer_output(r, x, **options)) for r, _, x, out in cases):
                raise Wrong(message)
        for (reference, _, x, out), wanted in zip(cases, right, strict=True):
            _say_which_branch(out, wanted, reference, x)
    for reference, layer, x, out in cases:
        if _differ(call(layer, x), out):
            raise Wrong("two calls with the same input differ: is something drawn at random in forward?")
        _check_gradients(layer, reference, x)


def _draw_layer(generator: torch.Generator, kernel_size: int, stride: int) -> tuple[AAConv2d, Tensor]:
    """The library's layer with weights large enough that every mistake shows, and an input with H ≠ W."""
    heads, d_k, d_v, channels = primes(generator, 4, high=7)
    H, W = primes(generator, 2, low=5, high=11)
    size = (-(-H // stride), -(-W // stride))
    layer = AAConv2d(
        channels,
        heads * d_v + 3,
        kernel_size,
        depth_k=heads * d_k,
        depth_v=heads * d_v,
        num_heads=heads,
        feature_size=size,
        stride=stride,
    )
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.25)
    return layer, torch.randn(2, channels, H, W, generator=generator)


def _check_parts(layer: object, reference: AAConv2d) -> None:
    """The names and shapes of the parameters, with a reason where they differ."""
    if not isinstance(layer, nn.Module):
        raise Wrong("the class is not a torch.nn.Module: write class StridedAAConv2d(nn.Module)")
    if any(getattr(layer, part, None) is ... for part in _PARTS):
        raise NotAttempted
    wanted, got = reference.state_dict(), layer.state_dict()
    for table in ("rel_h", "rel_w"):
        if table in got and table not in dict(layer.named_parameters()):
            raise Wrong(f"{table} is a buffer: it is saved, but no optimiser will train it; use nn.Parameter")
        if table not in got and isinstance(getattr(layer, table, None), Tensor):
            raise Wrong(f"{table} is a plain tensor: it is neither trained nor saved; wrap it in nn.Parameter")
        if table not in got:
            raise Wrong(
                f"the layer has no {table} after it was built: a table made in forward is drawn anew at every call, "
                "never trained and never saved; make it in __init__ as an nn.Parameter"
            )
    if wanted.keys() != got.keys():
        missing, extra = sorted(wanted.keys() - got.keys()), sorted(got.keys() - wanted.keys())
        raise Wrong(
            "the parameters must be those of AAConv2d: "
            + "; ".join(f"{word} {names}" for word, names in (("missing", missing), ("not expected", extra)) if names)
        )
    if all(wanted[name].shape == got[name].shape for name in wanted):
        return
    reasons = {
        ("rel_h", wanted["rel_w"].shape): "height and width are swapped: rel_h has 2·H - 1 rows, rel_w has 2·W - 1",
        ("rel_h", (wanted["rel_h"].shape[0], reference.depth_k)): (
            "a row of the tables is as long as the query of one head, depth_k / num_heads, not depth_k"
        ),
        ("conv.weight", (reference.out_channels, *wanted["conv.weight"].shape[1:])): (
            "conv makes all out_channels: it makes out_channels - depth_v, attention makes the rest"
        ),
        ("qkv.weight", (wanted["qkv.weight"].shape[0], *wanted["conv.weight"].shape[1:])): (
            "qkv has the k×k kernel of the convolution: q, k and v come from a 1×1 convolution, neighbourhoods are the "
            "other branch's work"
        ),
        ("qkv.weight", (3 * reference.depth_k, *wanted["qkv.weight"].shape[1:])): (
            "qkv gives 3 · depth_k channels: queries and keys have depth_k each, the values depth_v"
        ),
        ("output.weight", (reference.out_channels, *wanted["output.weight"].shape[1:])): (
            "output makes out_channels: it projects depth_v channels to depth_v"
        ),
    }
    for (name, shape), reason in reasons.items():
        if tuple(got[name].shape) == tuple(shape) != tuple(wanted[name].shape):
            raise Wrong(reason)
    for name in wanted:
        if wanted[name].shape != got[name].shape:
            raise Wrong(
                f"{name} has shape {tuple(got[name].shape)}, expected {tuple(wanted[name].shape)} for kernel_size "
                f"{reference.kernel_size}, depth_k {reference.depth_k}, depth_v {reference.depth_v}, "
                f"{reference.num_heads} heads and feature_size {reference.feature_size}"
            )


def _explain_crash(layer: nn.Module, reference: AAConv2d) -> None:
    """Raise `Wrong` if stride or padding is why the branches do not fit together; else return."""
    conv, qkv = layer.conv, layer.qkv
    if not (isinstance(conv, nn.Conv2d) and isinstance(qkv, nn.Conv2d)):
        return
    if conv.stride != qkv.stride:
        raise Wrong(
            f"conv has stride {conv.stride[0]} and qkv has stride {qkv.stride[0]}: both branches must shrink the map "
            "alike, or their outputs cannot be put side by side"
        )
    if conv.padding != reference.conv.padding:
        raise Wrong(
            f"conv has padding {conv.padding[0]} with kernel_size {reference.kernel_size}: kernel_size // 2 keeps the "
            "size of the map for every odd kernel"
        )
    if conv.stride != reference.conv.stride:
        raise Wrong(f"conv and qkv have stride {conv.stride[0]}, expected {reference.stride}")


def _check_shape(out: object, reference: AAConv2d, x: Tensor) -> None:
    complaint = difference(out, reference(x).detach(), float("inf"))
    if complaint:
        raise Wrong(
            f"kernel_size {reference.kernel_size}, stride {reference.stride}, input {tuple(x.shape)}: {complaint}"
        )


def _say_which_branch(out: Tensor, wanted: Tensor, reference: AAConv2d, x: Tensor) -> None:
    """Raise with the branch in which the first difference lies."""
    if not _differ(out, wanted):
        return
    border = reference.out_channels - reference.depth_v
    names = {"convolution": slice(0, border), "attention": slice(border, None)}
    wrong = [name for name, part in names.items() if _differ(out[:, part], wanted[:, part])]
    others = "; the other branch is right" if len(wrong) == 1 else ""
    part = names[wrong[0]]
    raise Wrong(
        f"the shapes are right, but with AAConv2d's weights the {' and the '.join(wrong)} channels differ{others} "
        f"(kernel_size {reference.kernel_size}, stride {reference.stride}, input {tuple(x.shape)}): "
        f"{difference(out[:, part], wanted[:, part], 1e-4)}"
    )


def _check_gradients(layer: nn.Module, reference: AAConv2d, x: Tensor) -> None:
    for module in (layer, reference):
        module.train()
        module.zero_grad(set_to_none=True)
        module(x).square().mean().backward()
    wanted = dict(reference.named_parameters())
    for name, parameter in layer.named_parameters():
        if parameter.grad is None:
            raise Wrong(f"the output is right, but no gradient reaches {name}: was it detached or copied?")
        if _differ(parameter.grad, wanted[name].grad):
            raise Wrong(f"the output is right, but the gradient of {name} is not that of AAConv2d")


def _differ(got: Tensor, wanted: Tensor) -> bool:
    return difference(got, wanted, 1e-4, dtype=False) is not None
