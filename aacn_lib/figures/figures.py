"""The few figures that lessons share: pictures, curves, a matrix with its numbers, and where attention looks.

matplotlib is imported when a figure is drawn, so `import aacn_lib` stays light. Every function draws one figure, calls
`plt.show()` and returns nothing. Colours are safe for colour-blind readers: Okabe and Ito's palette for lines, cividis
for amounts, blue to red around white for numbers of both signs.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

# Okabe and Ito's palette without its yellow, which is too pale for a line on white.
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", "-.", ":")  # a second sign beside the colour: the figure survives a grey printer
AMOUNTS = "cividis"
SIGNED = "RdBu_r"
QUERY_COLOUR = "#D55E00"
MAX_CELLS_WITH_NUMBERS = 400  # above this the digits would overlap


def show_images(images: Tensor, titles: Sequence[str] | None = None, columns: int = 8) -> None:
    """Draw pictures side by side.

    images: (N, C, H, W) or (N, H, W); C is 1 or 3; uint8, or floats of any range (stretched to black … white).
    titles: N texts, one above each picture. columns: pictures in a row.
    """
    images = torch.as_tensor(images)
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"images must be (N, C, H, W) or (N, H, W) with N ≥ 1, got {tuple(images.shape)}")
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"titles must hold one text a picture: {len(images)} pictures, {len(titles)} titles")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    drawable = [_drawable(image) for image in images]

    import matplotlib.pyplot as plt

    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    side = min(1.6, 10 / columns)  # inches: the whole figure fits a notebook's width
    height = side + (0.35 if titles is not None else 0.1)
    figure, axes = plt.subplots(
        rows, columns, figsize=(side * columns + 0.5, height * rows + 0.4), squeeze=False, layout="constrained"
    )
    for number, axis in enumerate(axes.flat):
        if number >= len(images):
            axis.set_axis_off()
            continue
        _draw_picture(axis, drawable[number])
        # Labels on the outer edge only: the pictures share their scale.
        first_in_row, nothing_below = number % columns == 0, number + columns >= len(images)
        axis.tick_params(labelsize=7, labelleft=first_in_row, labelbottom=nothing_below)
        if titles is not None:
            axis.set_title(titles[number], fontsize=8)
    figure.supxlabel("column (pixels)", fontsize=8)
    figure.supylabel("row (pixels)", fontsize=8)
    plt.show()


def plot_curves(
    curves: Mapping[str, Sequence[float]],
    xlabel: str,
    ylabel: str,
    chance: float | None = None,
    x: Sequence[float] | None = None,
) -> None:
    """Draw one line for each entry of `curves`, for example {"training": [...], "validation": [...]}.

    chance: where guessing would end, drawn as a dotted grey line. x: where the values lie (all curves then have that
    many values); without it the values are numbered 1, 2, 3, … as epochs and steps are.
    """
    if not curves:
        raise ValueError("curves must hold at least one entry, got none")
    for label, values in curves.items():
        if len(values) == 0:
            raise ValueError(f"the curve {label!r} holds no values")
        if x is not None and len(values) != len(x):
            raise ValueError(f"the curve {label!r} holds {len(values)} values, x holds {len(x)}")

    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    _, axis = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for number, (label, values) in enumerate(curves.items()):
        values = [float(value) for value in values]
        positions = [float(p) for p in x] if x is not None else list(range(1, len(values) + 1))
        marker = "o" if len(values) <= 30 else None  # one epoch is one point: without a marker nothing would show
        axis.plot(
            positions,
            values,
            color=LINE_COLOURS[number % len(LINE_COLOURS)],
            linestyle=LINE_STYLES[number % len(LINE_STYLES)],
            linewidth=1.6,
            marker=marker,
            markersize=4,
            label=label,
        )
    if chance is not None:
        axis.axhline(chance, color="0.45", linestyle=(0, (1, 2)), linewidth=1.5, label="chance")
    if x is None:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.grid(alpha=0.25)
    axis.legend(frameon=False)
    plt.show()


def show_matrix(
    matrix: Tensor,
    xlabel: str,
    ylabel: str,
    title: str | None = None,
    numbers: bool = True,
    *,
    xticks: Sequence[str] | None = None,
    yticks: Sequence[str] | None = None,
    limits: tuple[float, float] | None = None,
) -> None:
    """Draw a matrix as coloured cells, with the number in each cell as long as there are at most 400 of them.

    matrix: (rows, columns). All of one sign: dark to bright; both signs: blue to red, white at zero.
    xticks, yticks: names of the columns and rows in place of their numbers. limits: the smallest and largest value of
    the colour scale, so that two matrices can share one; without it those of the matrix.
    """
    matrix = torch.as_tensor(matrix).detach().cpu()
    if matrix.ndim != 2 or matrix.numel() == 0:
        raise ValueError(f"matrix must be (rows, columns) and not empty, got {tuple(matrix.shape)}")
    for name, ticks, count in (("xticks", xticks, matrix.shape[1]), ("yticks", yticks, matrix.shape[0])):
        if ticks is not None and len(ticks) != count:
            raise ValueError(f"{name} must hold {count} names for a matrix {tuple(matrix.shape)}, got {len(ticks)}")

    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    rows, columns = matrix.shape
    whole = not matrix.is_floating_point()
    values = matrix.double()
    low, high = limits if limits is not None else (values.min().item(), values.max().item())
    signed = low < 0 < high
    if signed:
        high = max(-low, high)
        low = -high
    cell = min(0.45, 7 / columns, 6 / rows)  # inches
    size = (max(3.2, cell * columns + 1.6), max(2.2, cell * rows + 1.0))
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    drawn = axis.imshow(values.numpy(), cmap=SIGNED if signed else AMOUNTS, vmin=low, vmax=high)
    if numbers and matrix.numel() <= MAX_CELLS_WITH_NUMBERS:
        digits = 5 if whole else 6
        for (row, column), value in _cells(values):
            red, green, blue, _ = drawn.to_rgba(value)
            bright = 0.3 * red + 0.59 * green + 0.11 * blue > 0.5
            text = f"{value:.0f}" if whole else f"{value:.2f}"
            size = min(10.0, cell * 72 / max(len(text), digits - 2) * 1.4)
            axis.text(column, row, text, ha="center", va="center", fontsize=size, color="black" if bright else "white")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if xticks is not None:
        axis.set_xticks(range(columns), xticks)
    if yticks is not None:
        axis.set_yticks(range(rows), yticks)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    if title is not None:
        axis.set_title(title, fontsize=10)
    figure.colorbar(drawn, ax=axis, fraction=0.05)
    plt.show()


def show_attention(
    image: Tensor, weights: Tensor, query: tuple[int, int], feature_size: tuple[int, int] | None = None
) -> None:
    """Draw where each head looks from one query position.

    image: (C, H, W), the picture. weights: (heads, HW, HW), the attention weights of this picture, [head, query, key];
    HW positions of the *attention's* map, which may be smaller than the picture. query: (row, column) on that map.
    feature_size: (height, width) of that map; without it the picture's size, or else a square, where that fits.

    Left the picture, the query's cell framed; then one map a head on one colour scale, so that heads can be compared.
    Each map sums to 1.
    """
    image, weights = torch.as_tensor(image), torch.as_tensor(weights).detach().float().cpu()
    if image.ndim != 3:
        raise ValueError(f"image must be one picture (C, H, W), got {tuple(image.shape)}")
    if weights.ndim != 3 or weights.shape[1] != weights.shape[2] or weights.numel() == 0:
        raise ValueError(f"weights must be (heads, HW, HW) of one picture, got {tuple(weights.shape)}")
    picture = _drawable(image)
    heads, positions, _ = weights.shape
    height, width = _feature_size(positions, tuple(image.shape[-2:]), feature_size)
    row, column = query
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(f"query must lie on the {height}×{width} map of the attention, got ({row}, {column})")
    maps = weights[:, row * width + column].reshape(heads, height, width)

    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    columns = min(heads + 1, 5)
    rows = math.ceil((heads + 1) / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.0 * columns + 0.6, 2.25 * rows + 0.1), squeeze=False, layout="constrained"
    )
    first, *others = axes.flat
    _draw_picture(first, picture)
    first.set_title("picture and query", fontsize=9)
    first.set(xlabel="column (pixels)", ylabel="row (pixels)")
    cell_height, cell_width = picture.shape[0] / height, picture.shape[1] / width
    corner = (column * cell_width - 0.5, row * cell_height - 0.5)
    first.add_patch(Rectangle(corner, cell_width, cell_height, fill=False, edgecolor=QUERY_COLOUR, linewidth=2))
    for head, axis in enumerate(others):
        if head >= heads:
            axis.set_axis_off()
            continue
        drawn = axis.imshow(maps[head].numpy(), cmap=AMOUNTS, vmin=0, vmax=maps.max().item())
        # Black under orange: the frame shows on dark and on bright cells.
        for colour, line in (("black", 3.5), (QUERY_COLOUR, 2)):
            frame = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=colour, linewidth=line)
            axis.add_patch(frame)
        axis.set_title(f"head {head}", fontsize=9)
        axis.set(xlabel="key column", ylabel="key row" if head == 0 else "")
    for axis in axes.flat:
        axis.tick_params(labelsize=7)
        axis.xaxis.label.set_size(8)
        axis.yaxis.label.set_size(8)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.03, pad=0.01)
    bar.set_label("attention weight", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    plt.show()


def _feature_size(positions: int, image_size: tuple[int, int], feature_size: tuple[int, int] | None) -> tuple[int, int]:
    """The (height, width) of the attention's map; a ValueError where it cannot be known or does not fit."""
    if feature_size is not None:
        height, width = feature_size
        if height * width != positions:
            raise ValueError(f"feature_size {height}×{width} has {height * width} positions, weights have {positions}")
        return height, width
    if image_size[0] * image_size[1] == positions:
        return image_size
    side = math.isqrt(positions)
    # A square map is a fair guess for a square picture only.
    if side * side == positions and image_size[0] == image_size[1]:
        return side, side
    raise ValueError(
        f"feature_size is needed: {positions} positions are not those of the {image_size[0]}×{image_size[1]} picture"
    )


def _drawable(image: Tensor):
    """(C, H, W) of any range as an (H, W) or (H, W, 3) array that imshow takes."""
    if image.shape[0] not in (1, 3):
        raise ValueError(f"a picture has 1 channel (grey) or 3 (red, green, blue), got {image.shape[0]}")
    image = image.detach().cpu()
    if image.dtype != torch.uint8:
        image = image.float()
        low, high = image.min(), image.max()
        image = (image - low) / (high - low).clamp(min=1e-12)
    return image[0].numpy() if image.shape[0] == 1 else image.permute(1, 2, 0).numpy()


def _draw_picture(axis, picture) -> None:
    # uint8 keeps its full scale: a dark picture stays dark.
    top = 255 if picture.dtype.kind == "u" else 1
    axis.imshow(picture, cmap="gray", vmin=0, vmax=top)
    axis.locator_params(integer=True, nbins=4)


def _cells(values: Tensor):
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            yield (row, column), values[row, column].item()
