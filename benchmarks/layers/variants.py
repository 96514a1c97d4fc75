"""The variants of the layer, all with the same weights, and the proof that they compute the same function."""

import contextlib
import math
import os
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aacn_lib import AAConv2d
from aacn_lib.layers import merge_heads
from aacn_lib.ops import IMPLEMENTATIONS, choose_implementation, why_unavailable
from benchmarks.layers.cases import Case
from benchmarks.layers.public_layer import PublicAAConv2d
from benchmarks.layers.steps import inputs, mixed_precision

# The definition looks up a vector for every pair of pixels: (HW)² · d_kh numbers a table. Timed up to the first limit
# (16×16 pixels), used as the reference up to the second (32×32).
TIMED_DEFINITION = 1 << 22
REFERENCE_DEFINITION = 1 << 25

# Forms that write (HW)² logits for each picture and head: so many tensors of that size at once in training, with room.
MATERIALISED = {"public": 4, "public 1×1": 4, "skew": 4, "definition": 8}

# Largest difference from the float64 reference, as a share of the largest number in the reference's tensor.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}


class NoPositions(AAConv2d):
    """`AAConv2d(relative=False)` by PyTorch's fused attention, fed as it is fastest: contiguous, one head size."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv_heads(x)  # (B, heads, H, W, d)
        (H, W), depth_k, depth_v = q.shape[2:4], q.shape[-1], v.shape[-1]
        width = max(depth_k, depth_v)  # with two head sizes a CPU falls back to materialised attention
        q, k, v = (F.pad(t, (0, width - t.shape[-1])).flatten(2, 3).contiguous() for t in (q, k, v))
        heads = F.scaled_dot_product_attention(q, k, v, scale=1 / math.sqrt(depth_k))[..., :depth_v]
        return torch.cat([self.conv(x), self.output(merge_heads(heads.unflatten(2, (H, W))))], dim=1)


def ours(case: Case, implementation: str, *, relative: bool = True, kind: type[AAConv2d] = AAConv2d) -> AAConv2d:
    return kind(
        case.in_channels,
        case.out_channels,
        depth_k=case.depth_k,
        depth_v=case.depth_v,
        num_heads=case.num_heads,
        feature_size=(case.H, case.W),
        relative=relative,
        implementation=implementation,
    )


def public(case: Case, qkv_kernel_size: int) -> PublicAAConv2d:
    return PublicAAConv2d(
        case.in_channels,
        case.out_channels,
        depth_k=case.depth_k,
        depth_v=case.depth_v,
        num_heads=case.num_heads,
        feature_size=(case.H, case.W),
        qkv_kernel_size=qkv_kernel_size,
    )


BUILDERS: dict[str, Callable[[Case], nn.Module]] = {
    "conv": lambda case: nn.Conv2d(case.in_channels, case.out_channels, 3, padding=1),
    "public": partial(public, qkv_kernel_size=3),
    "public 1×1": partial(public, qkv_kernel_size=1),
    "no positions": partial(ours, implementation="augmented", relative=False, kind=NoPositions),
    **{name: partial(ours, implementation=name) for name in IMPLEMENTATIONS},
}


def build(name: str, case: Case) -> nn.Module:
    """The variant `name` on the CPU; all but the plain convolution have the same weights for the same case."""
    layer = BUILDERS[name](case)
    if name == "conv":
        return layer
    weights, mine = weights_of(case), layer.state_dict()
    if mine["qkv.weight"].shape[-1] == 3:  # the same function: the 1×1 weights at the centre, zeros around them
        weights["qkv.weight"] = F.pad(weights["qkv.weight"], (1, 1, 1, 1))
    layer.load_state_dict({key: weights[key] for key in mine})
    return layer


def weights_of(case: Case) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return ours(case, "tiled").state_dict()


def why_left_out(name: str, case: Case, device: str) -> str | None:
    """None where `name` can be measured, else the reason in one line."""
    if name not in BUILDERS:
        return "not in this version"
    if name == "fused" and why_unavailable():
        return why_unavailable()
    pixels = case.H * case.W
    vectors = pixels**2 * (case.depth_k // case.num_heads)
    if name == "definition" and vectors > TIMED_DEFINITION:
        return f"(HW)²·d_kh = {vectors:,} numbers a table, the limit is {TIMED_DEFINITION:,}"
    needed = 4 * case.batch * case.num_heads * pixels**2 * MATERIALISED.get(name, 0)
    if needed > memory_of(device) / 2:
        return f"B·heads·(HW)² logits, {MATERIALISED[name]} times, are {needed >> 20:,} MiB: over half of the memory"
    return None


def auto_choice(case: Case, device: str) -> str:
    """What `AAConv2d` chooses by itself for this case."""
    return choose_implementation(torch.empty(case.batch, case.num_heads, case.H, case.W, 1, device=device))


def memory_of(device: str) -> int:
    """Bytes of the machine or of the GPU; 8 GiB where a machine does not tell."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[1]
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 8 << 30


def check_equal(layers: dict[str, nn.Module], case: Case, device: str, dtype: torch.dtype) -> dict[str, float]:
    """Compare output and all gradients of each layer, for two pictures, with the float64 reference.

    Returns:
        For each layer the largest difference, as a share of the largest number in the reference's tensor.

    Raises:
        AssertionError: if a difference is above `TOLERANCE`; it names the layer and the tensor.
    """
    x, slope = (t.detach()[:2] for t in inputs(case, device))
    references, largest = {}, {}
    for name, layer in layers.items():
        if name == "conv":
            continue
        relative = name != "no positions"
        if relative not in references:
            references[relative] = output_and_gradients(
                reference(case, relative).to(device), x.double(), slope.double()
            )
        with exact_convolutions(), mixed_precision(device, dtype):
            found = output_and_gradients(layer, x, slope)
        differences = {key: difference(found[key], wanted) for key, wanted in references[relative].items()}
        worst = max(differences, key=differences.get)
        if not differences[worst] <= TOLERANCE[dtype]:  # NaN is not equal either
            raise AssertionError(
                f"{name}: {worst} differs from the definition by {differences[worst]:.1e} of its largest number, "
                f"{TOLERANCE[dtype]:.0e} is allowed ({case}, {dtype})"
            )
        largest[name] = differences[worst]
    return largest


def reference(case: Case, relative: bool) -> AAConv2d:
    """The literal definition in float64; where that is too large, tiles in float64."""
    small = (case.H * case.W) ** 2 * (case.depth_k // case.num_heads) <= REFERENCE_DEFINITION
    layer = ours(case, "definition" if small else "tiled", relative=relative)
    layer.load_state_dict(weights_of(case), strict=relative)
    return layer.double()


def output_and_gradients(layer: nn.Module, x: Tensor, slope: Tensor) -> dict[str, Tensor]:
    """float64 tensors by name: the output, the input's gradient and each parameter's, a 3×3 qkv's at its centre."""
    x = x.detach().requires_grad_()
    parameters = dict(layer.named_parameters())
    out = layer(x)
    gradients = torch.autograd.grad(out, [x, *parameters.values()], slope.to(out.dtype))
    found = {"output": out.detach()} | dict(zip(["gradient of the input", *parameters], gradients, strict=True))
    if found["qkv.weight"].shape[-1] == 3:
        found["qkv.weight"] = found["qkv.weight"][:, :, 1:2, 1:2]
    return {key: tensor.double() for key, tensor in found.items()}


def difference(found: Tensor, wanted: Tensor) -> float:
    if found.shape != wanted.shape:
        return math.inf
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


@contextlib.contextmanager
def exact_convolutions():
    """float32 convolutions with all their bits on a GPU, where cuDNN by default rounds inputs to TF32."""
    convolutions = torch.backends.cudnn.conv
    before, convolutions.fp32_precision = convolutions.fp32_precision, "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = before
