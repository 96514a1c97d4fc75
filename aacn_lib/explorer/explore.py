"""Explorers: pages that show where attention looks while the mouse moves, with no kernel, no server and no network.

`explore` shows the attention of one or two networks on a few pictures, `explore_tables` the position logits of one
layer. Both give an `Explorer`, which reaches the reader in one of two ways. In a notebook it shows itself, and `save`
writes a page that opens from disk: that is self-contained HTML. `widget()` gives the same page as a widget, for as long
as a kernel runs: Python then knows what the reader has chosen and can choose too, and a reader can add an own picture.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from aacn_lib.expect import expect
from aacn_lib.explorer.data import (
    cost_of,
    floats,
    layer_data,
    notes_on,
    png_address,
    quantised,
    reduce_to,
)
from aacn_lib.explorer.networks import (
    Networks,
    class_name,
    expect_pictures,
    finite,
    named_networks,
    rounding_notes,
    shape_of,
)
from aacn_lib.explorer.page import LIMIT_BYTES, Explorer
from aacn_lib.layers import AAConv2d
from aacn_lib.models import LogitParts, evaluation_mode


def explore(
    models: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module],
    images: Tensor,
    *,
    mean: Tensor,
    std: Tensor,
    labels: Sequence[int] | Tensor | None = None,
    classes: Sequence[str] | None = None,
    layers: str | Iterable[str] | Mapping[str, Iterable[str]] | None = None,
    limit_bytes: int = LIMIT_BYTES,
) -> Explorer:
    """Where one network looks, or two side by side, on a few pictures, from any query that the reader points at.

    Args:
        models: a network with `AAConv2d` or a vision transformer, or up to two: a list, or {name: network}. They are
            left as they were.
        images: uint8 (N, C, H, W), C 1 or 3.
        mean, std: (C,), as in `Dataset`.
        labels: the N true classes.
        classes: K names, in the order of the outputs.
        layers: names out of `attention_layers(model)`; of two networks, {name: names} or names that both have. None
            takes all.
        limit_bytes: what the page may take; pictures, layers and heads are left out by the rule of
            `explorer.data.reduce_to` until it fits, and the page says which.

    Returns:
        An `Explorer`. Attention weights in its page are off by at most 1/255 of their query's largest; where a layer's
        logits are so large that 16 bits cannot keep this, a note says how much it is. Its `widget()` holds on to the
        networks; own pictures are shown with the layers and heads of the page.

    Raises:
        ValueError: for networks without attention, unknown layers, pictures and labels that do not fit, outputs that
            are not finite, and a limit that nothing fits.
    """
    named = named_networks(models)
    expect_pictures("explore", images)
    labels = None if labels is None else [int(label) for label in labels]
    expect(labels is None or len(labels) == len(images), "explore", "labels", f"{len(images)} numbers", labels)

    networks = Networks(named, mean=mean, std=std, classes=classes, layers=layers, shape=images.shape[1:])
    seen, predictions, outputs = networks.look(images)
    good = labels is None or all(0 <= label < outputs for label in labels)
    expect(good, "explore", "labels", f"0 to {outputs - 1}", labels)

    sources = [png_address(image) for image in images]
    costs = {(number, layer): cost_of(parts) for number, found in enumerate(seen) for layer, parts in found.items()}
    kept = reduce_to(limit_bytes, [len(source) for source in sources], costs)
    notes = notes_on(kept, len(images), costs, list(named))
    if notes:
        notes.insert(0, f"Kept under {limit_bytes / 1e6:g} MB.")
    data = {
        "pictureSize": list(images.shape[2:]),
        "pictures": [
            {"source": source, "label": None if labels is None else class_name(classes, labels[number])}
            for number, source in enumerate(sources[: kept.pictures])
        ],
        "models": [],
        "notes": notes,
    }
    for number, name in enumerate(named):
        shown = []
        for layer, parts in seen[number].items():
            if (number, layer) in kept.heads:
                shown.append(layer_data(layer, parts, kept.pictures, kept.heads[number, layer]))
                notes += rounding_notes(parts, shown[-1])
        data["models"].append({"name": name, "predictions": predictions[number][: kept.pictures], "layers": shown})

    def draw() -> bytes:
        from aacn_lib.explorer.still import still_of_attention

        return still_of_attention(images[0], data, seen)

    return Explorer("explorer", data, draw, f"Attention explorer: {' and '.join(named)}", networks, limit_bytes)


def explore_tables(
    layer: AAConv2d, inputs: Tensor | None = None, *, image: Tensor | None = None, name: str = "relative tables"
) -> Explorer:
    """How the tables of relative positions answer a query, and which of their rows it uses, as it is dragged about.

    Args:
        layer: with relative positions.
        inputs: (in_channels, H, W), what the layer sees of one picture (`feature_maps` gives it). Each place then asks
            with its own query, or all with their mean, as the reader chooses. Without inputs every place asks with the
            query that the layer's bias gives, on the map that the layer was made for.
        image: uint8 (C, H, W), C 1 or 3, the picture that the inputs were made from, to be shown beside the map.
        name: a title.

    Raises:
        ValueError: for a layer without tables, or with neither inputs nor a bias, and for an image of another kind.
    """
    expect(isinstance(layer, AAConv2d), "explore_tables", "layer", "an AAConv2d", type(layer).__name__)
    expect(layer.rel_h is not None, "explore_tables", "layer", "relative positions", layer.position_encoding)
    good = isinstance(image, Tensor) and image.ndim == 3 and image.shape[0] in (1, 3) and image.dtype == torch.uint8
    expect(image is None or good, "explore_tables", "image", "uint8 (C, H, W), C 1 or 3", shape_of(image))
    with torch.no_grad(), evaluation_mode(layer):
        if inputs is None:
            expect(layer.qkv.bias is not None, "explore_tables", "inputs", "what a layer without bias sees", inputs)
            size = [(len(table) + 1) // 2 for table in (layer.rel_h, layer.rel_w)]
            bias = layer.qkv.bias[: layer.depth_k].unflatten(0, (layer.num_heads, -1))  # (heads, d_kh)
            q = bias[:, None].expand(-1, size[0] * size[1], -1)
        else:
            expect(inputs.ndim == 3, "explore_tables", "inputs", "(in_channels, H, W)", tuple(inputs.shape))
            q = layer.qkv_heads(inputs[None].to(layer.rel_h.device))[0][0]  # (heads, H, W, d_kh)
            size, q = list(q.shape[1:3]), q.flatten(1, 2)
        rel_h, rel_w = (table.detach().float().cpu() for table in layer.tables(*size))
    q = q.detach().float().cpu()  # (heads, HW, d_kh)
    parts = finite(name, LogitParts(q[None], q[None], rel_h, rel_w, tuple(size)))
    data = {
        "name": name,
        "size": size,
        "heads": q.shape[0],
        "depth": q.shape[2],
        "relH": floats(rel_h),
        "relW": floats(rel_w),
        "q": quantised(q),
        "ownQueries": inputs is not None,
        "picture": None if image is None else png_address(image),
        "notes": [],
    }

    def draw() -> bytes:
        from aacn_lib.explorer.still import still_of_tables

        return still_of_tables(name, parts)

    return Explorer("tables", data, draw, f"Position explorer: {name}")
