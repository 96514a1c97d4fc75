"""The check of a learner's own `augment(model, image_size, options)` against the library's augmented ResNets."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from aacn_lib.exercises.compare import difference
from aacn_lib.exercises.grading import Wrong, call
from aacn_lib.layers import AAConv2d
from aacn_lib.models import ResNet

_PLACES = {18: "conv1", 50: "conv2"}  # depth -> the 3×3 convolution of a block that carries the stride


def check_augment(answer: object, generator: torch.Generator) -> None:
    """Raise `Wrong` unless `answer` turns plain ResNets into the library's augmented ones and keeps their weights."""
    if not callable(answer):
        raise Wrong("expected the function itself, augment, without calling it")
    # H ≠ W, sides odd at some stages; both kinds of blocks and both stems.
    for depth, size, stem in ((18, (19, 37), "small"), (50, (37, 21), "small"), (18, (75, 107), "large")):
        _check_network(answer, ResNet(3, 7, size, depth=depth, width=4, stem=stem), depth, size, generator)
    import torchvision  # here, so that the library does without it

    try:
        _check_network(answer, torchvision.models.resnet18(num_classes=7), 18, (69, 101), generator)
    except Wrong as wrong:
        raise Wrong(f"with torchvision's resnet18, where the library's networks came out right: {wrong}") from None


def _check_network(
    answer: Callable, plain: nn.Module, depth: int, size: tuple[int, int], generator: torch.Generator
) -> None:
    num_heads = int(torch.randint(2, 4, (), generator=generator))
    # Values of six channels go into the narrowest augmented layer, of eight.
    options = {"depth_k": 5 * num_heads, "depth_v": num_heads, "num_heads": num_heads}
    _liven(plain, generator)
    result = _call(answer, copy.deepcopy(plain), size, dict(options))
    if not isinstance(result, nn.Module):
        raise Wrong(f"expected a network back, got a {type(result).__name__}: is it `return model`?")
    _check_places(result, plain, depth)
    _check_layers(result, plain, depth, size, options)
    _check_kept(result, plain)
    _check_outputs(result, plain, depth, size, options, generator)


def _call(answer: Callable, given: nn.Module, size: tuple[int, int], options: dict) -> object:
    """What the answer returns; two refusals of AAConv2d are told in the words of the exercise."""
    try:
        return call(answer, given, size, options)
    except ValueError as error:
        if "exactly one of depth_k and key_ratio" in str(error) and "None" in str(error):
            raise Wrong("AAConv2d was built without `options`: pass them all on, AAConv2d(…, **options)") from None
        if "stride: expected a whole number" in str(error):
            raise Wrong(
                "AAConv2d wants one number as its stride, and the `stride` of an nn.Conv2d is a pair: old.stride[0]"
            ) from None
        raise


def _liven(model: nn.Module, generator: torch.Generator) -> None:
    """Statistics of batch norm that are not the fresh ones, so that a forgotten or a changed one shows."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))


def _augmented(model: nn.Module) -> dict[str, AAConv2d]:
    return {name: module for name, module in model.named_modules() if isinstance(module, AAConv2d)}


def _wanted(plain: nn.Module, depth: int) -> list[str]:
    stages = ("layer2", "layer3", "layer4")
    return [f"{s}.{n}.{_PLACES[depth]}" for s in stages for n in range(len(getattr(plain, s)))]


def _check_places(result: nn.Module, plain: nn.Module, depth: int) -> None:
    wanted, got = _wanted(plain, depth), list(_augmented(result))
    if set(got) == set(wanted):
        return
    blocks = {18: "basic blocks", 50: "bottlenecks"}[depth]
    if not got:
        raise Wrong(f"with {blocks} no layer is an AAConv2d afterwards: is the new layer put into its block (setattr)?")
    if any("layer1" in name for name in got):
        raise Wrong("a block of layer1 was augmented: attention goes into layer2, layer3 and layer4")
    if any("." not in name for name in got):
        raise Wrong(f"{got[0]} was augmented: it belongs to the stem, attention goes into blocks")
    if any("downsample" in name for name in got):
        raise Wrong("a shortcut was augmented: downsample stays, the 3×3 convolution of the branch is exchanged")
    if depth == 18 and all(name.replace("conv1", "conv2") in got for name in wanted):
        both = set(wanted) <= set(got)
        what = "both 3×3 convolutions were augmented" if both else "the second 3×3 convolution was augmented"
        raise Wrong(f"in basic blocks {what}: only the first, which carries the stride, is exchanged")
    if depth == 50 and any(name.endswith(("conv1", "conv3")) for name in got):
        raise Wrong("in bottlenecks a 1×1 convolution was augmented: the 3×3, which carries the stride, is conv2")
    missing = [name for name in wanted if name not in got]
    if missing and all(".0." in name for name in got):
        raise Wrong(f"only the first block of each stage was augmented: {missing[0]} and others are missing")
    if missing and not any(".0." in name for name in got):
        raise Wrong(f"the first block of a stage is missing: {missing[0]}, with the stride, is augmented as well")
    if missing:
        raise Wrong(f"with {blocks} {missing[0]} is not augmented; every block of layer2, layer3 and layer4 is")
    raise Wrong(f"with {blocks} {next(name for name in got if name not in wanted)} was augmented and should not be")


def _check_layers(result: nn.Module, plain: nn.Module, depth: int, size: tuple[int, int], options: dict) -> None:
    reference = _augmented(_reference(plain, depth, size, options))
    for name, layer in _augmented(result).items():
        right, given = reference[name], f"for pictures of {size} {name}"
        if layer.stride != right.stride:
            raise Wrong(f"{name} has stride {layer.stride}, the convolution it replaces has {right.stride}")
        if layer.kernel_size != 3:
            raise Wrong(f"{name} has a kernel of size {layer.kernel_size}, expected 3")
        if layer.qkv.bias is not None:
            raise Wrong(f"{name} has biases: batch norm follows, so bias=False, as the convolution it replaces")
        if (layer.depth_k, layer.depth_v, layer.num_heads) != (right.depth_k, right.depth_v, right.num_heads):
            raise Wrong(f"{name} was not made with `options`: pass them all on, AAConv2d(…, **options)")
        if (layer.in_channels, layer.out_channels) != (right.in_channels, right.out_channels):
            raise Wrong(
                f"{name} leads from {layer.in_channels} to {layer.out_channels} channels, the convolution it replaces "
                f"from {right.in_channels} to {right.out_channels}"
            )
        if layer.feature_size != right.feature_size:
            H, W = right.feature_size
            if layer.feature_size == (W, H):
                raise Wrong(f"{given} has feature_size {layer.feature_size}: height and width are swapped")
            if layer.feature_size == size:
                raise Wrong(f"{name} has the size of the picture as feature_size: it is the size of the layer's map")
            reason = "feature_size is the size of the layer's *output* map, and halving rounds up"
            raise Wrong(f"{given} has feature_size {layer.feature_size}, expected {(H, W)}: {reason}")


def _check_kept(result: nn.Module, plain: nn.Module) -> None:
    """Every tensor outside of the augmented layers is as it was."""
    new = tuple(f"{name}." for name in _augmented(result))
    before = {name: tensor for name, tensor in plain.state_dict().items() if not name.startswith(new)}
    after = {name: tensor for name, tensor in result.state_dict().items() if not name.startswith(new)}
    if before.keys() != after.keys():
        other = sorted(before.keys() ^ after.keys())
        raise Wrong(f"besides the augmented convolutions other parts were added or taken away: {other[0]}")
    changed = [name for name, tensor in before.items() if difference(after[name], tensor, 0.0)]
    if changed and all("running_" in name or "num_batches" in name for name in changed):
        raise Wrong(
            "the statistics of batch norm have changed: the network ran in training mode to find its sizes; use "
            "aacn.feature_maps, or model.eval()"
        )
    if changed:
        raise Wrong(f"{changed[0]} has other numbers than before: all but the augmented layers keeps its weights")


def _check_outputs(
    result: nn.Module, plain: nn.Module, depth: int, size: tuple[int, int], options: dict, generator: torch.Generator
) -> None:
    reference = _reference(plain, depth, size, options)
    reference.load_state_dict(result.state_dict())
    x = torch.randn(2, 3, *size, generator=generator)
    with torch.no_grad():
        complaint = difference(_predict(result, x), _predict(reference, x), 1e-3)
    if complaint:
        raise Wrong(f"the parts are right, but not what the network computes with them: {complaint}")


def _predict(model: nn.Module, x: Tensor) -> Tensor:
    return copy.deepcopy(model).eval()(x)


def _reference(plain: nn.Module, depth: int, size: tuple[int, int], options: dict) -> nn.Module:
    """The library's network, with `options` in place of ratios."""
    reference = copy.deepcopy(plain)
    H, W = size
    if isinstance(plain.maxpool, nn.MaxPool2d):
        H, W = (-(-side // 4) for side in size)  # halved twice: ⌈⌈n/2⌉/2⌉ = ⌈n/4⌉
    for number in (2, 3, 4):
        H, W = -(-H // 2), -(-W // 2)
        for block in getattr(reference, f"layer{number}"):
            old = getattr(block, _PLACES[depth])
            new = AAConv2d(
                old.in_channels,
                old.out_channels,
                3,
                stride=old.stride[0],
                bias=False,
                feature_size=(H, W),
                **options,
            )
            setattr(block, _PLACES[depth], new)
    return reference
