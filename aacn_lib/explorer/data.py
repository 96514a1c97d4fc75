"""What the explorers send to the browser: queries, keys and tables, from which the page computes any map.

A map of N pixels has N² attention weights a head, its queries and keys only 2 · N · d_kh numbers. So those are sent, as
16-bit integers with one scale a head and picture, and the page computes softmax(content + position) for the query that
is pointed at. What the rounding does to the weights is measured for every map that is sent.
"""

import base64
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aacn_lib.models import LogitParts

LARGEST_CODE = 32767
# An attention weight in the page may be off by this share of the largest weight of its query, one step of 8 bits.
LARGEST_ERROR = 1 / 255
CARRIER_BYTES = 150_000  # set aside for the script, the style and the still picture


class Kept(NamedTuple):
    """What is sent: the first `pictures` pictures, and of each layer (model, name) the first `heads[layer]` heads."""

    pictures: int
    heads: dict[tuple[int, str], int]


def reduce_to(limit: int, pictures: Sequence[int], layers: dict[tuple[int, str], tuple[int, int, int]]) -> Kept:
    """Leave out as little as brings a page under `limit` bytes.

    The rule, one step after the other until it fits: the last picture, until two are left; the largest layer (of two
    models, of the one that has more than one left), until each model has one; the second picture; the last head of the
    largest layer, until each layer has one.

    Args:
        limit: bytes.
        pictures: bytes of each picture itself.
        layers: {(model, name): (heads, bytes of one head of one picture, bytes of its tables)}.

    Raises:
        ValueError: if one head of one layer of one picture is too large.
    """
    count, heads = len(pictures), {layer: number for layer, (number, *_) in layers.items()}

    def size(layer: tuple[int, str]) -> int:
        _, of_a_head, of_tables = layers[layer]
        return count * heads[layer] * of_a_head + of_tables

    def whole() -> int:
        return CARRIER_BYTES + sum(pictures[:count]) + sum(map(size, heads))

    while whole() > limit:
        models = [model for model, _ in heads]
        spare_layers = [layer for layer in heads if models.count(layer[0]) > 1]
        spare_heads = [layer for layer in heads if heads[layer] > 1]
        if count > 2:
            count -= 1
        elif spare_layers:
            del heads[max(spare_layers, key=size)]
        elif count > 1:
            count -= 1
        elif spare_heads:
            heads[max(spare_heads, key=size)] -= 1
        else:
            raise ValueError(
                f"explore: limit_bytes: expected at least {whole()} for one head of one picture, got {limit}; "
                "choose a layer with a smaller map"
            )
    return Kept(count, heads)


def notes_on(kept: Kept, pictures: int, layers: dict[tuple[int, str], tuple], names: Sequence[str]) -> list[str]:
    """One sentence for each kind of thing that `reduce_to` left out."""

    def called(layer: tuple[int, str]) -> str:
        return f"{layer[1]} of {names[layer[0]]}" if len(names) > 1 else layer[1]

    found = []
    if kept.pictures < pictures:
        found.append(f"{kept.pictures} of {pictures} pictures shown.")
    gone = [called(layer) for layer in layers if layer not in kept.heads]
    if gone:
        found.append(f"Layers left out: {', '.join(gone)}.")
    for layer, heads in kept.heads.items():
        if heads < layers[layer][0]:
            found.append(f"{called(layer)}: the first {heads} of {layers[layer][0]} heads; the mean is over these.")
    return found


def cost_of(parts: LogitParts) -> tuple[int, int, int]:
    """Heads of a layer, bytes in the page of the queries and keys of one head of one picture, bytes of the tables."""
    tables = sum(_base64_length(4 * table.numel()) for table in (parts.rel_h, parts.rel_w) if table is not None)
    scales = 60  # two numbers as text
    return parts.q.shape[1], 2 * _base64_length(2 * math.prod(parts.q.shape[2:])) + scales, tables + 200


def layer_data(name: str, parts: LogitParts, pictures: int, heads: int) -> dict:
    """One layer as plain data, for the page."""
    q, k = parts.q[:pictures, :heads], parts.k[:pictures, :heads]
    return {
        "name": name,
        "size": list(parts.size),
        "tokens": parts.tokens,
        "heads": heads,
        "depth": q.shape[-1],
        "relH": floats(parts.rel_h),
        "relW": floats(parts.rel_w),
        "maps": [{"q": quantised(q[picture]), "k": quantised(k[picture])} for picture in range(pictures)],
    }


def quantised(x: Tensor) -> dict:
    """(heads, N, d) as 16-bit integers: x ≈ code · scale, off by at most scale / 2 = the head's largest / 65534."""
    scale = x.abs().amax(dim=(1, 2)) / LARGEST_CODE  # (heads,)
    codes = (x / scale.clamp(min=torch.finfo(x.dtype).tiny)[:, None, None]).round()
    return {"codes": _base64(codes.to(torch.int16)), "scale": scale.tolist()}


def dequantised(data: dict, shape: tuple[int, ...]) -> Tensor:
    """What the page makes of `quantised`: float32 of `shape` (heads, N, d)."""
    codes = torch.frombuffer(bytearray(base64.b64decode(data["codes"])), dtype=torch.int16)
    return codes.reshape(shape).float() * torch.tensor(data["scale"])[:, None, None]


def largest_error(parts: LogitParts, data: dict) -> float:
    """How far a weight computed from `data` is from the true one, as a share of its query's largest; the worst case."""
    worst, heads = 0.0, data["heads"]
    for picture, codes in enumerate(data["maps"]):
        q, k = (dequantised(codes[name], (heads, *parts.q.shape[2:])) for name in "qk")
        for head in range(heads):  # one at a time: N² numbers each
            true = _weights(parts, parts.q[picture, head], parts.k[picture, head])
            error = (_weights(parts, q[head], k[head]) - true).abs().amax(dim=-1) / true.amax(dim=-1)
            worst = max(worst, error.max().item())
    return worst


def floats(table: Tensor | None) -> str | None:
    """float32, row after row."""
    return None if table is None else _base64(table.detach().float().cpu())


def png_address(image: Tensor) -> str:
    """A picture, uint8 (C, H, W) with C 1 or 3, as a `data:` address."""
    from PIL import Image

    array = image.cpu().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(file, "PNG", optimize=True)
    return address_of(file.getvalue())


def address_of(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _weights(parts: LogitParts, q: Tensor, k: Tensor) -> Tensor:
    one = parts._replace(q=q[None, None], k=k[None, None])
    return (one.content + one.position).softmax(dim=-1)[0, 0]  # (N, N)


def _base64(x: Tensor) -> str:
    """Little-endian bytes, which is also what a browser's typed arrays hold."""
    array = x.contiguous().numpy()
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()


def _base64_length(count: int) -> int:
    return 4 * math.ceil(count / 3)
