"""Wrong answers to the exercises of lesson 04: title → (source, words that the message must hold)."""

import torch
from harness import raised

INDEX = """\
def relative_index(size):
    pixels = torch.arange(size)
    return {}
"""

ROW = """\
def row_logits(q, table):
    heads, W, d = q.shape
    logits = torch.zeros(heads, W, W)
    for h in range(heads):
        for i in range(W):
            for j in range(W):
                logits[h, i, j] = {}
    return logits
"""

SKEW = """\
def skew(scores):
    heads, L, _ = scores.shape
    {}
"""

IMAGE = """\
def image_logits(q, rel_h, rel_w):
    heads, H, W, d = q.shape
    vertical = torch.einsum("nyxd,yad->nyxa", q, rel_h[aacn.relative_index(H)])
    horizontal = torch.einsum("nyxd,xbd->nyxb", q, rel_w[aacn.relative_index(W)])
    pairs = vertical[..., :, None] + horizontal[..., None, :]
    {}
"""

IMAGE_LOOPS = """\
def image_logits(q, rel_h, rel_w):
    heads, H, W, d = q.shape
    logits = torch.zeros(heads, H * W, H * W)
    for iy, ix in np.ndindex(H, W):
        for jy, jx in np.ndindex(H, W):
            vector = {}
            logits[:, iy * W + ix, jy * W + jx] = q[:, iy, ix] @ vector
    return logits
"""

LAYER = """\
class PositionLogits(nn.Module):
    def __init__(self, height, width, depth):
        super().__init__()
        {}

    def forward(self, q):
        {}
"""
TABLES = """\
self.rel_h = nn.Parameter(torch.randn(2 * height - 1, depth) * depth**-0.5)
        self.rel_w = nn.Parameter(torch.randn(2 * width - 1, depth) * depth**-0.5)"""
FORWARD = "return aacn.relative_logits(q, self.rel_h, self.rel_w)"


def _tables(old, new):
    assert old in TABLES
    return LAYER.format(TABLES.replace(old, new), FORWARD)


WRONG = {
    "04.relative_index": {
        "no shift": (INDEX.format("pixels[None, :] - pixels[:, None]"), "silently counts from the end"),
        "offset reversed": (INDEX.format("pixels[:, None] - pixels[None, :] + size - 1"), "the offset is reversed"),
        "shifted by size": (INDEX.format("pixels[None, :] - pixels[:, None] + size"), "one too large"),
        "absolute distance": (INDEX.format("(pixels[None, :] - pixels[:, None]).abs()"), "left and right share a row"),
        "clamped": (INDEX.format("(pixels[None, :] - pixels[:, None]).clamp(min=0)"), "were cut off at 0"),
        "floats": (INDEX.format("(pixels[None, :] - pixels[:, None] + size - 1).float()"), "got dtype float32"),
        "one row": (INDEX.format("pixels + size - 1"), "got shape"),
        "list": (INDEX.format("(pixels[None, :] - pixels[:, None] + size - 1).tolist()"), "got a list"),
    },
    "04.position_parameters": {
        "tables a head": (
            "def position_parameters(height, width, num_heads, depth_k):\n"
            "    return (2 * height - 1 + 2 * width - 1) * depth_k",
            "all heads of a layer share one pair",
        ),
        "2H and 2W rows": (
            "def position_parameters(height, width, num_heads, depth_k):\n"
            "    return (2 * height + 2 * width) * depth_k // num_heads",
            "distance 0 was counted twice",
        ),
        "one -1": (
            "def position_parameters(height, width, num_heads, depth_k):\n"
            "    return (2 * (height + width) - 1) * depth_k // num_heads",
            "only one of the two -1",
        ),
        "joint table": (
            "def position_parameters(height, width, num_heads, depth_k):\n"
            "    return (2 * height - 1) * (2 * width - 1) * depth_k // num_heads",
            "one joint table",
        ),
        "positions": (
            "def position_parameters(height, width, num_heads, depth_k):\n"
            "    return (height + width) * depth_k // num_heads",
            "not for every distance",
        ),
        "rows only": (
            "def position_parameters(height, width, num_heads, depth_k):\n    return 2 * (height + width) - 2",
            "number of rows of both tables",
        ),
        "float": (
            "def position_parameters(height, width, num_heads, depth_k):\n"
            "    return (2 * (height + width) - 2) * depth_k / num_heads",
            "176.0 is a float",
        ),
    },
    "04.row_logits": {
        "offset reversed": (ROW.format("q[h, i] @ table[i - j + W - 1]"), "the offset is reversed"),
        "transposed": (ROW.format("q[h, j] @ table[i - j + W - 1]"), "transposed"),
        "key asks": (ROW.format("q[h, j] @ table[j - i + W - 1]"), "the wrong pixel asks"),
        "no centre": (ROW.format("q[h, i] @ table[j - i]"), "silently count from the end"),
        "centre off by one": (ROW.format("q[h, i] @ table[j - i + W - 2]"), "wrong by one"),
        "2W rows": (ROW.format("q[h, i] @ table[j - i + W]"), "W was added instead of W - 1"),
        "absolute": (ROW.format("q[h, i] @ table[j]"), "positions of keys"),
        "scaled": (ROW.format("q[h, i] @ table[j - i + W - 1] / d**0.5"), "divided by the square root"),
        "summed over heads": (
            ROW.format("q[h, i] @ table[j - i + W - 1]").replace("return logits", "return logits.sum(0)"),
            "the heads were added up",
        ),
        "one row for all heads": (
            ROW.format("q[h, i] @ table[j - i + W - 1]").replace(
                "return logits", "return logits.sum(0, keepdim=True).repeat(heads, 1, 1)"
            ),
            "every head got the same logits",
        ),
        "detached": (ROW.format("(q[h, i] @ table[j - i + W - 1]).item()"), "no gradient reaches"),
    },
    "04.skew": {
        "last columns": (SKEW.format("return scores[:, :, L - 1 :]"), "no row slides"),
        "no padding column": (
            SKEW.format("return scores.flatten(1).reshape(heads, L, 2 * L - 1)[:, :, L - 1 :]"),
            "no row slides",
        ),
        "slides right": (
            SKEW.format("return torch.stack([scores[:, i, i : i + L] for i in range(L)], dim=1)"),
            "slides to the right",
        ),
        "mirrored": (
            SKEW.format("return torch.stack([scores[:, i, i : i + L].flip(1) for i in range(L)], dim=1)"),
            "is mirrored",
        ),
        "first columns": (
            SKEW.format(
                "flat = nn.functional.pad(nn.functional.pad(scores, (0, 1)).flatten(1), (0, L - 1))\n"
                "    return flat.reshape(heads, L + 1, 2 * L - 1)[:, :L, :L]"
            ),
            "first L columns",
        ),
        "padded in front": (
            SKEW.format(
                "flat = nn.functional.pad(nn.functional.pad(scores, (1, 0)).flatten(1), (0, L - 1))\n"
                "    return flat.reshape(heads, L + 1, 2 * L - 1)[:, :L, L - 1 :]"
            ),
            "in front of each row",
        ),
        "first line dropped": (
            SKEW.format(
                "flat = nn.functional.pad(nn.functional.pad(scores, (0, 1)).flatten(1), (0, L - 1))\n"
                "    return flat.reshape(heads, L + 1, 2 * L - 1)[:, 1:, L - 1 :]"
            ),
            "dropped instead of the last",
        ),
        "left-overs kept": (
            SKEW.format(
                "flat = nn.functional.pad(nn.functional.pad(scores, (0, 1)).flatten(1), (0, L - 1))\n"
                "    return flat.reshape(heads, L + 1, 2 * L - 1)[:, :, L - 1 :]"
            ),
            "got shape",
        ),
        "no second padding": (
            SKEW.format(
                "flat = nn.functional.pad(scores, (0, 1)).flatten(1)\n"
                "    return flat.reshape(heads, L + 1, 2 * L - 1)[:, :L, L - 1 :]"
            ),
            raised(lambda: torch.zeros(6).reshape(4, 2)),
        ),
        "transposed": (
            SKEW.format(
                "rows = [scores[:, i, L - 1 - i : 2 * L - 1 - i] for i in range(L)]\n"
                "    return torch.stack(rows, dim=2)"
            ),
            "transposed",
        ),
    },
    "04.image_logits": {
        "offsets reversed": (
            IMAGE_LOOPS.format("rel_h[iy - jy + H - 1] + rel_w[ix - jx + W - 1]"),
            "both offsets are reversed",
        ),
        "vertical reversed": (
            IMAGE_LOOPS.format("rel_h[iy - jy + H - 1] + rel_w[jx - ix + W - 1]"),
            "the vertical offset is reversed",
        ),
        "horizontal reversed": (
            IMAGE_LOOPS.format("rel_h[jy - iy + H - 1] + rel_w[ix - jx + W - 1]"),
            "the horizontal offset is reversed",
        ),
        "H and W swapped": (
            IMAGE_LOOPS.format("rel_w[jy - iy + H - 1] + rel_h[jx - ix + W - 1]"),
            "rows and columns were swapped",
        ),
        "vertical term only": (IMAGE_LOOPS.format("rel_h[jy - iy + H - 1]"), "the horizontal term is missing"),
        "horizontal term only": (IMAGE_LOOPS.format("rel_w[jx - ix + W - 1]"), "the vertical term is missing"),
        "column by column": (
            IMAGE.format("return pairs.permute(0, 2, 1, 4, 3).reshape(heads, H * W, H * W)"),
            "pixels are numbered column by column",
        ),
        "inserted axes exchanged": (
            IMAGE.replace("vertical[..., :, None]", "vertical[..., None, :]")
            .replace("horizontal[..., None, :]", "horizontal[..., :, None]")
            .format("return pairs.reshape(heads, H * W, H * W)"),
            "keys are numbered column by column, queries row by row",
        ),
        "scaled": (IMAGE.format("return pairs.reshape(heads, H * W, H * W) / d**0.5"), "divided by the square root"),
        "summed over heads": (IMAGE.format("return pairs.reshape(heads, H * W, H * W).sum(0)"), "were added up"),
        "one map for all heads": (
            IMAGE.format(
                "logits = pairs.reshape(heads, H * W, H * W).sum(0, keepdim=True)\n"
                "    return logits.repeat(heads, 1, 1)"
            ),
            "every head got the same logits",
        ),
        "transposed": (
            IMAGE.format("return pairs.reshape(heads, H * W, H * W).transpose(1, 2)"),
            "keys and queries are transposed",
        ),
        "axes mixed up": (
            IMAGE.format("return pairs.transpose(2, 3).reshape(heads, H * W, H * W)"),
            "entries differ",
        ),
        "detached": (IMAGE.format("return pairs.reshape(heads, H * W, H * W).detach()"), "no gradient reaches"),
    },
    "04.layer": {
        "tables made in forward": (
            LAYER.format(
                "self.size = height, width, depth",
                "H, W, d = self.size\n"
                "        rel_h, rel_w = torch.randn(2 * H - 1, d), torch.randn(2 * W - 1, d)\n"
                "        return aacn.relative_logits(q, rel_h * d**-0.5, rel_w * d**-0.5)",
            ),
            "drawn anew inside forward",
        ),
        "parameters made in forward": (
            LAYER.format(
                "pass",
                TABLES.replace("height", "q.shape[2]").replace("width", "q.shape[3]").replace("depth", "q.shape[4]")
                + "\n        "
                + FORWARD,
            ),
            "drawn anew inside forward",
        ),
        "plain tensors": (
            LAYER.format(TABLES.replace("nn.Parameter(", "(").replace("((", "("), FORWARD),
            "rel_h is a plain tensor",
        ),
        "buffer": (
            _tables(
                "self.rel_w = nn.Parameter(torch.randn(2 * width - 1, depth) * depth**-0.5)",
                'self.register_buffer("rel_w", torch.randn(2 * width - 1, depth) * depth**-0.5)',
            ),
            "rel_w is a buffer",
        ),
        "other names": (
            LAYER.format(
                TABLES.replace("rel_", "table_"),
                FORWARD.replace("rel_h,", "table_h,").replace("self.rel_w", "self.table_w"),
            ),
            "no parameter is named rel_h (parameters found: table_h, table_w)",
        ),
        "detached": (
            LAYER.format(TABLES, FORWARD.replace("self.rel_h", "self.rel_h.data")),
            "no gradient reaches rel_h",
        ),
        "reversed": (
            LAYER.format(
                TABLES, FORWARD.replace("self.rel_h", "self.rel_h.flip(0)").replace("self.rel_w", "self.rel_w.flip(0)")
            ),
            "the offsets are reversed",
        ),
        "scaled": (LAYER.format(TABLES, FORWARD + " / q.shape[-1] ** 0.5"), "divided by the square root"),
        "softmax": (LAYER.format(TABLES, FORWARD + ".softmax(-1)"), "the softmax comes later"),
        "summed over heads": (
            LAYER.format(TABLES, FORWARD + ".sum(1, keepdim=True).expand(-1, q.shape[1], -1, -1)"),
            "not those of layer.rel_h",
        ),
        "2H rows": (_tables("2 * height - 1", "2 * height"), "one too many: distance 0 exists only once"),
        "W rows": (_tables("2 * width - 1", "width"), "as many as positions"),
        "height and width swapped": (
            LAYER.format(TABLES.replace("height", "x").replace("width", "height").replace("x", "width"), FORWARD),
            "height and width were swapped",
        ),
        "zero tables": (LAYER.format(TABLES.replace("randn", "zeros"), FORWARD), "a standard deviation of 0.000"),
        "deviation one": (LAYER.format(TABLES.replace(" * depth**-0.5", ""), FORWARD), "standard deviation of"),
        "an instance": (
            LAYER.format(TABLES, FORWARD) + "\n\nPositionLogits = PositionLogits(3, 5, 4)",
            "the class itself",
        ),
    },
}
