"""The check of a learner's own encoder layer against the library's: which step of it went wrong."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacn_lib.exercises.compare import difference
from aacn_lib.exercises.grading import NotAttempted, Wrong, has_blank, primes
from aacn_lib.models import EncoderLayer

_PARTS = ("norm1", "norm2", "qkv", "output", "mlp")

# The library's names for the parameters, and those that the exercise asks for.
_NAMES = {"attention.qkv": "qkv", "attention.output": "output", "mlp.3": "mlp.2"}


def _heads(qkv: Tensor, num_heads: int) -> Tensor:
    """(B, N, 3 · width) → q, k and v in one tensor (3, B, heads, N, d)."""
    return qkv.unflatten(-1, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)


def _raw_split(qkv: Tensor, num_heads: int) -> Tensor:
    B, N, _ = qkv.shape
    return torch.stack([part.reshape(B, num_heads, N, -1) for part in qkv.chunk(3, dim=-1)])


def _merge(heads: Tensor) -> Tensor:
    return heads.transpose(1, 2).flatten(2)  # (B, heads, N, d) → (B, N, width)


def _raw_merge(heads: Tensor) -> Tensor:
    B, num_heads, N, d = heads.shape
    return heads.reshape(B, N, num_heads * d)


def _attention(
    layer: EncoderLayer,
    x: Tensor,
    *,
    scale=lambda d, heads: d**-0.5,
    split=_heads,
    merge=_merge,
    order=(0, 1, 2),
    over: int = -1,
    project: bool = True,
) -> Tensor:
    num_heads = layer.attention.num_heads
    parts = split(layer.attention.qkv(x), num_heads)
    q, k, v = (parts[part] for part in order)
    logits = q @ k.mT * scale(q.shape[-1], num_heads)
    out = merge(logits.softmax(over) @ v)
    return layer.attention.output(out) if project else out


def _block(layer: EncoderLayer, x: Tensor, pre_norm: bool, **options) -> Tensor:
    """The block, written out in full so that each step can be replaced by a mistake."""
    activation = options.pop("activation", F.gelu)
    wiring = options.pop("wiring", None) or (_pre if pre_norm else _post)
    first, second = (
        lambda t: _attention(layer, t, **options),
        lambda t: layer.mlp[3](activation(layer.mlp[0](t))),
    )
    return wiring(x, layer.norm1, first, layer.norm2, second)


def _pre(x, norm1, attention, norm2, mlp):
    x = x + attention(norm1(x))
    return x + mlp(norm2(x))


def _post(x, norm1, attention, norm2, mlp):
    x = norm1(x + attention(x))
    return norm2(x + mlp(x))


def _around_normalised(x, norm1, attention, norm2, mlp):
    x = norm1(x)
    x = x + attention(x)
    x = norm2(x)
    return x + mlp(x)


def _parallel(x, norm1, attention, norm2, mlp):
    return x + attention(norm1(x)) + mlp(norm2(x))


def _normalised_branch(x, norm1, attention, norm2, mlp):
    x = x + norm1(attention(x))
    return x + norm2(mlp(x))


# message → how the block is wired then, for both settings of pre_norm or for one; a learner may err in one of two only
_WIRINGS = {
    "pre_norm has no effect: with pre_norm=False the norms stand after the sums, norm1(x + attention(x))": {
        False: _pre,
        True: _pre,
    },
    "pre_norm has no effect: with pre_norm=True each branch gets norm(x), and the sum itself is not normalised": {
        False: _post,
        True: _post,
    },
    "pre_norm is the wrong way round: True means that a branch gets norm(x), False that the sum is normalised": {
        False: _pre,
        True: _post,
    },
    "with pre_norm=True the branch is added to norm(x): it is added to x as it came in, so that the sum passes "
    "through all layers unchanged": {True: _around_normalised},
    "the branch was normalised before it was added, x + norm(branch(x)): with pre_norm=True the norm stands before the "
    "branch, x + branch(norm(x)), with pre_norm=False after the sum, norm(x + branch(x))": {
        True: _normalised_branch,
        False: _normalised_branch,
    },
    "both residuals are missing: each branch is added to what came in": {
        True: lambda x, n1, a, n2, m: m(n2(a(n1(x)))),
        False: lambda x, n1, a, n2, m: n2(m(n1(a(x)))),
    },
    "the residual around attention is missing: add its output to what came in": {
        True: lambda x, n1, a, n2, m: (lambda y: y + m(n2(y)))(a(n1(x))),
        False: lambda x, n1, a, n2, m: (lambda y: n2(y + m(y)))(n1(a(x))),
    },
    "the residual around the MLP is missing: add its output to what came in": {
        True: lambda x, n1, a, n2, m: m(n2(x + a(n1(x)))),
        False: lambda x, n1, a, n2, m: n2(m(n1(x + a(x)))),
    },
    "attention and MLP both look at the layer's input: the MLP comes after attention and sees its sum": {
        True: _parallel
    },
    "norm1 is used twice and norm2 never: each branch has a norm of its own": {
        True: lambda x, n1, a, n2, m: _pre(x, n1, a, n1, m),
        False: lambda x, n1, a, n2, m: _post(x, n1, a, n1, m),
    },
    "no norm is used: with pre_norm=True each branch gets norm(x), with pre_norm=False each sum is normalised": {
        True: lambda x, n1, a, n2, m: (lambda y: y + m(y))(x + a(x)),
        False: lambda x, n1, a, n2, m: (lambda y: y + m(y))(x + a(x)),
    },
    "the MLP comes before attention: attention is first": {
        True: lambda x, n1, a, n2, m: _pre(x, n2, m, n1, a),
        False: lambda x, n1, a, n2, m: _post(x, n2, m, n1, a),
    },
}

_STEPS = {
    "the logits are not divided by √d, so the softmax is too sharp": {"scale": lambda d, heads: 1.0},
    "the logits are divided by √width: the scale belongs to one head, √(width / num_heads)": {
        "scale": lambda d, heads: (d * heads) ** -0.5
    },
    "the logits are divided by d instead of its square root": {"scale": lambda d, heads: 1 / d},
    "the heads are merged without a transpose: (B, heads, N, d) was reshaped to (B, N, heads·d), which mixes tokens "
    "with channels": {"merge": _raw_merge},
    "the heads are split without a transpose: (B, N, heads·d) was reshaped to (B, heads, N, d), which mixes tokens "
    "with channels": {"split": _raw_split},
    "heads are split and merged by bare reshapes: the shapes are right, tokens and channels are scrambled": {
        "split": _raw_split,
        "merge": _raw_merge,
    },
    "q, k and v were taken head by head: qkv holds all queries first, then all keys, then all values": {
        "split": lambda qkv, heads: qkv.unflatten(-1, (heads, 3, -1)).permute(3, 0, 2, 1, 4)
    },
    "the heads are interleaved: channel h·d + i is component i of head h": {
        "split": lambda qkv, heads: qkv.unflatten(-1, (3, -1, heads)).permute(2, 0, 4, 1, 3)
    },
    "queries and keys are exchanged: qkv holds queries first, then keys, then values": {"order": (1, 0, 2)},
    "the values were taken from the front: qkv holds queries first, then keys, then values": {"order": (1, 2, 0)},
    "the softmax goes over the queries: for each query the weights of all keys must sum to 1, so dim=-1": {"over": -2},
    "the output projection is left out: the merged heads pass self.output before they are added": {"project": False},
    "the MLP has a ReLU: its activation is GELU": {"activation": F.relu},
    "the MLP has the tanh approximation of GELU: use nn.GELU() as it is": {
        "activation": lambda t: F.gelu(t, approximate="tanh")
    },
    "the MLP has no activation: two linear maps after one another are one linear map": {"activation": lambda t: t},
}


def check_block(answer: object, generator: torch.Generator) -> None:
    """Raise `Wrong` unless the class `answer` is the encoder layer: parameters, outputs and gradients, both norms."""
    if not isinstance(answer, type):
        raise Wrong("expected the class itself, EncoderBlock, without brackets: the check builds it in many sizes")
    cases = []
    for pre_norm in (True, False, True, False):
        reference, x = _draw_layer(generator)
        attention, mlp_width = reference.attention, reference.mlp[0].out_features
        block = _build(answer, x.shape[-1], attention.num_heads, mlp_width, pre_norm)
        _check_parts(block, reference)
        block.double().load_state_dict(_renamed(reference.state_dict()))
        out = _output(block, x, pre_norm)
        complaint = difference(out, x, float("inf"))
        if complaint:
            raise Wrong(f"input {tuple(x.shape)}: {complaint}")
        cases.append((reference, block, x, out.detach(), pre_norm))
    _name_mistake(cases)
    for reference, block, x, out, pre_norm in cases:
        complaint = difference(out, _block(reference, x, pre_norm), 1e-9)
        if complaint:
            raise Wrong(f"with the library's weights, pre_norm={pre_norm}, input {tuple(x.shape)}: {complaint}")
        if _differ(block(x), out):
            raise Wrong("two calls with the same input differ: is something drawn at random in forward?")
        _check_gradients(reference, block, x, pre_norm)


def _name_mistake(cases: list[tuple]) -> None:
    """Raise the message of the first mistake that explains every wrong output, if there are any.

    If no mistake explains both settings of pre_norm, one is looked for that explains one of them.
    """
    wrong = {pre for layer, _, x, out, pre in cases if _differ(out, _block(layer, x, pre))}
    if not wrong:
        return
    _name_wiring(cases, wrong)
    for message, options in _STEPS.items():
        if not any(_differ(out, _block(layer, x, pre, **options)) for layer, _, x, out, pre in cases):
            raise Wrong(message)
    for pre_norm in sorted(wrong):
        _name_wiring(cases, {pre_norm})


def _name_wiring(cases: list[tuple], settings: set[bool]) -> None:
    """Raise the message of the first wiring that explains the outputs under these settings of pre_norm."""
    told = [(layer, x, out, pre) for layer, _, x, out, pre in cases if pre in settings]
    for message, wirings in _WIRINGS.items():
        if settings <= wirings.keys() and not any(
            _differ(out, _block(layer, x, pre, wiring=wirings[pre])) for layer, x, out, pre in told
        ):
            one = "" if len(settings) == 2 or "pre_norm" in message else f" (with pre_norm={min(settings)})"
            raise Wrong(message + one)


def _draw_layer(generator: torch.Generator) -> tuple[EncoderLayer, Tensor]:
    """The library's layer with weights large enough that every mistake shows, and its input, in float64."""
    num_heads, d, mlp_width, tokens = primes(generator, 4, low=3, high=13)
    layer = EncoderLayer(num_heads * d, num_heads, mlp_width).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(drawn / math.sqrt(parameter.shape[-1]) if parameter.ndim == 2 else 0.5 + 0.5 * drawn)
    return layer, 2 * torch.randn(2, tokens, num_heads * d, generator=generator, dtype=torch.float64)


def _build(answer: type, *arguments: object) -> object:
    try:
        return answer(*arguments)
    except (TypeError, AttributeError) as error:
        if "ellipsis" in str(error).lower():
            raise Wrong(f"a blank ... is left in __init__: {error}") from error
        raise


def _output(block: nn.Module, x: Tensor, pre_norm: bool) -> object:
    """What the learner's layer returns; a blank that is left in it is named, for only a part of the work is missing."""
    try:
        out = block(x)
    except (TypeError, AttributeError) as error:
        if "ellipsis" not in str(error).lower():
            raise
        out = ...
    if has_blank(out):
        raise Wrong(f"a blank ... is left in forward, or in what it calls: met with pre_norm={pre_norm}")
    if out is None:
        raise Wrong(f"forward returned None with pre_norm={pre_norm}: is the `return` missing?")
    return out


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in state.items():
        module, _, kind = name.rpartition(".")
        renamed[f"{_NAMES.get(module, module)}.{kind}"] = value
    return renamed


def _check_parts(block: object, reference: EncoderLayer) -> None:
    """The names and shapes of the parameters, with a reason where they differ."""
    if not isinstance(block, nn.Module):
        raise Wrong("the class is not a torch.nn.Module: write class EncoderBlock(nn.Module)")
    blanks = [part for part in _PARTS if getattr(block, part, None) is ...]
    if len(blanks) == len(_PARTS):
        raise NotAttempted
    if blanks:
        raise Wrong(f"a blank ... is left in __init__: self.{', self.'.join(blanks)}")
    wanted, got = _renamed(reference.state_dict()), block.state_dict()
    width, mlp_width = reference.norm1.normalized_shape[0], reference.mlp[0].out_features
    sizes = f"width {width}, {reference.attention.num_heads} heads and mlp_width {mlp_width}"
    if wanted.keys() != got.keys():
        missing, extra = sorted(wanted.keys() - got.keys()), sorted(got.keys() - wanted.keys())
        parts = (("missing", missing), ("not expected", extra))
        raise Wrong(
            "the parameters must be those of norm1, norm2, qkv, output, and mlp with linear maps at 0 and 2: "
            + "; ".join(f"{word} {names}" for word, names in parts if names)
        )
    for name, value in wanted.items():
        if got[name].shape != value.shape:
            raise Wrong(f"{name} has shape {tuple(got[name].shape)}, expected {tuple(value.shape)} for {sizes}")


def _check_gradients(reference: EncoderLayer, block: nn.Module, x: Tensor, pre_norm: bool) -> None:
    slope = torch.linspace(0.5, 1.5, x.numel(), dtype=x.dtype).view_as(x)
    for module in (block, reference):
        module.train()
        module.zero_grad(set_to_none=True)
    (block(x) * slope).sum().backward()
    (_block(reference, x, pre_norm) * slope).sum().backward()
    wanted = _renamed({name: parameter.grad for name, parameter in reference.named_parameters()})
    for name, parameter in block.named_parameters():
        if parameter.grad is None:
            raise Wrong(f"the output is right, but no gradient reaches {name}: was it detached or copied?")
        if _differ(parameter.grad, wanted[name]):
            raise Wrong(f"the output is right, but the gradient of {name} is not that of the library's layer")


def _differ(got: Tensor, wanted: Tensor) -> bool:
    return difference(got, wanted, 1e-7, dtype=False) is not None
