"""The receptive-field explorer: what one output of stacked convolutions sees of a picture, and what it does not."""

from collections.abc import Sequence

from torch import Tensor

from aacn_lib.expect import expect, is_count
from aacn_lib.explorer.data import png_address
from aacn_lib.explorer.networks import expect_pictures
from aacn_lib.explorer.page import Explorer


def explore_receptive_field(
    images: Tensor, layers: Sequence[tuple[int, ...]], *, labels: Sequence[str] | None = None
) -> Explorer:
    """The square of pixels that each output of stacked convolutions or poolings depends on, as the mouse moves.

    Args:
        images: uint8 (N, C, H, W), C 1 or 3, at least one.
        layers: of each layer (kernel size, stride) or (kernel size, stride, padding), the first one first. Without
            padding given it is (kernel size - 1) // 2: "same" for odd kernels, none for the usual 2×2 pooling.
        labels: N names of the pictures.

    Raises:
        ValueError: for other pictures, labels that are not N, and layers that do not fit on the picture.
    """
    owner = "explore_receptive_field"
    expect_pictures(owner, images)
    fits = labels is None or len(labels) == len(images)
    expect(fits, owner, "labels", f"{len(images)} names", labels)
    expect(len(layers) > 0, owner, "layers", "at least one", list(layers))
    seen, size, field, step, start = [], list(images.shape[2:]), 1, 1, 0
    for number, layer in enumerate(layers, start=1):
        floors = (1, 1, 0)
        sound = len(layer) in (2, 3) and all(map(is_count, layer, floors))
        expect(sound, owner, "layers", "(kernel size, stride) or (kernel size, stride, padding)", layer)
        kernel, stride, padding = (*layer, (layer[0] - 1) // 2)[:3]
        # A walk through the layers: the first pixel that output 0 depends on, and how far the next output's lies off.
        start -= padding * step
        field += (kernel - 1) * step
        step *= stride
        size = [(count + 2 * padding - kernel) // stride + 1 for count in size]
        expect(min(size) >= 1, owner, "layers", "a map of at least one output", f"{size} after layer {number}")
        name = f"layer {number} (kernel {kernel}, stride {stride})"
        seen.append({"name": name, "size": size, "field": field, "step": step, "start": start})
    names = [None if labels is None else str(labels[number]) for number in range(len(images))]
    data = {
        "pictureSize": list(images.shape[2:]),
        "pictures": [{"source": png_address(x), "label": name} for x, name in zip(images, names, strict=True)],
        "layers": seen,
        "notes": [],
    }

    def draw() -> bytes:
        from aacn_lib.explorer.still import still_of_field

        return still_of_field(images[0], seen[-1])

    return Explorer("fields", data, draw, f"Receptive field of {len(layers)} layer{'s' if len(layers) > 1 else ''}")
