"""The still pictures of the explorers: what their pages show first, for places that take scripts away."""

import io
import math

import torch
from torch import Tensor

from aacn_lib.models import LogitParts

MOST_HEADS = 8
QUERY_COLOUR = "#D55E00"


def still_of_attention(image: Tensor, data: dict, seen: list[dict[str, LogitParts]]) -> bytes:
    """The first picture with the query in its middle, and where the heads of each model's first layer look from there.

    image: uint8 (C, H, W). data, seen: of `explore`, what the page shows and what the networks gave.
    """
    rows = []
    for model, found in zip(data["models"], seen, strict=True):
        layer = model["layers"][0]
        H, W = layer["size"]
        parts, row, column = found[layer["name"]], H // 2, W // 2
        # One query of the first picture: its logits for every key.
        query = parts.tokens + row * W + column
        logits = (parts.content[:1] + parts.position[:1])[0, : layer["heads"], query]  # (heads, N)
        weights = logits.softmax(dim=-1)[:, parts.tokens :].unflatten(1, (H, W))
        cell = [pixels / places for pixels, places in zip(data["pictureSize"], (H, W), strict=True)]
        y, x = (torch.arange(n)[:, None] if n_axis == 0 else torch.arange(n) for n_axis, n in enumerate((H, W)))
        far = torch.hypot((y - row) * cell[0], (x - column) * cell[1])  # (H, W)
        maps = [("mean", weights.mean(dim=0)), *((f"head {h}", w) for h, w in enumerate(weights[:MOST_HEADS]))]
        titles = [f"{name}\n{(w * far).sum() / w.sum():.1f} px" for name, w in maps]
        best, share = model["predictions"][0][0]
        title = f"{model['name']}, {layer['name']}: it says {best} ({share:.0%})"
        rows.append((title, (row, column), [w for _, w in maps], titles))

    columns = 1 + max(len(maps) for _, _, maps, _ in rows)
    figure, subfigures = _figure(1.15 * columns + 0.6, 1.75, len(rows))
    for (title, query, maps, titles), part in zip(rows, subfigures, strict=True):
        first, *others = part.subplots(1, columns)
        part.suptitle(_plain(title), fontsize=8, x=0.01, ha="left")
        picture = image.permute(1, 2, 0).numpy()
        first.imshow(picture[..., 0] if picture.shape[2] == 1 else picture, cmap="gray", vmin=0, vmax=255)
        H, W = maps[0].shape
        height, width = (pixels / places for pixels, places in zip(picture.shape[:2], (H, W), strict=True))
        _frame(first, query[1] * width - 0.5, query[0] * height - 0.5, width, height)
        first.set_title("picture\nand query", fontsize=7)
        first.set_axis_off()
        largest = max(m.max().item() for m in maps)
        for axis in others:
            axis.set_axis_off()
        for axis, weights, name in zip(others, maps, titles, strict=False):
            drawn = axis.imshow(weights.numpy(), cmap="cividis", vmin=0, vmax=largest, aspect=height / width)
            _frame(axis, query[1] - 0.5, query[0] - 0.5, 1, 1)
            axis.set_title(name, fontsize=7)
        bar = part.colorbar(drawn, ax=[first, *others], fraction=0.02, pad=0.01)
        bar.set_label("attention weight", fontsize=7)
        bar.ax.tick_params(labelsize=6)
    return _png(figure)


def still_of_tables(name: str, parts: LogitParts) -> bytes:
    """The position logits of each head for the query in the middle of the map."""
    H, W = parts.size
    row, column = H // 2, W // 2
    maps = parts.position[0, :MOST_HEADS, row * W + column].unflatten(1, (H, W))
    figure, (part,) = _figure(1.3 * len(maps) + 1.2, 1.9, 1)
    axes = part.subplots(1, len(maps), squeeze=False)[0]
    part.suptitle(_plain(f"{name}: position logits, seen from row {row}, column {column}"), fontsize=8)
    largest = max(maps.abs().max().item(), 1e-12)
    for head, axis in enumerate(axes):
        drawn = axis.imshow(maps[head].numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest)
        _frame(axis, column - 0.5, row - 0.5, 1, 1)
        axis.set_title(f"head {head}", fontsize=7)
        axis.set_axis_off()
    part.colorbar(drawn, ax=list(axes), fraction=0.04, pad=0.02).ax.tick_params(labelsize=6)
    return _png(figure)


def still_of_field(image: Tensor, layer: dict) -> bytes:
    """A picture with the output in the middle of the map, its receptive field, and beside it all that it sees.

    image: uint8 (C, H, W). layer: as in the data of `explore_receptive_field`.
    """
    picture = image.permute(1, 2, 0).numpy()
    H, W = picture.shape[:2]
    row, column = (count // 2 for count in layer["size"])
    field, step, start = layer["field"], layer["step"], layer["start"]
    top, left = start + step * row, start + step * column
    figure, (part,) = _figure(5.6, 2.7, 1)
    whole, seen = part.subplots(1, 2)
    for axis in (whole, seen):
        axis.imshow(picture[..., 0] if picture.shape[2] == 1 else picture, cmap="gray", vmin=0, vmax=255)
        axis.set_axis_off()
    cell = H / layer["size"][0], W / layer["size"][1]
    _frame(whole, column * cell[1] - 0.5, row * cell[0] - 0.5, cell[1], cell[0])
    _frame(whole, left - 0.5, top - 0.5, field, field)
    whole.set_title(f"an output after {layer['name']}\nand its receptive field", fontsize=7)
    seen.set(xlim=(left - 0.5, left + field - 0.5), ylim=(top + field - 0.5, top - 0.5))
    seen.set_title(f"all that it sees:\n{field}×{field} pixels", fontsize=7)
    return _png(figure)


def _figure(width: float, height: float, rows: int):
    """A figure that pyplot does not know of, so that no notebook shows it a second time, and its rows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height * rows), layout="constrained", dpi=math.floor(min(110, 1000 / width)))
    return figure, list(figure.subfigures(rows, 1, squeeze=False)[:, 0])


def _frame(axis, x: float, y: float, width: float, height: float) -> None:
    from matplotlib.patches import Rectangle

    for colour, line in (("black", 2.5), (QUERY_COLOUR, 1.5)):  # black under orange shows on dark and on bright
        axis.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, linewidth=line))


def _plain(text: str) -> str:
    """A dollar sign in a name starts no formula."""
    return text.replace("$", r"\$")


def _png(figure) -> bytes:
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    # 255 colours say the same in a third of the bytes.
    Image.open(drawn).convert("RGB").quantize(255, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()
