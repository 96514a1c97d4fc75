"""Wrong answers to the exercises of lesson 05: title → (source, words that the message must hold)."""

DEPTHS = """\
def depths(out_channels, key_ratio, value_ratio, num_heads):
    depth_k = {}
    depth_v = {}
    return depth_k, depth_v
"""
KEYS = "num_heads * max(20, round(key_ratio * out_channels / num_heads))"
VALUES = "num_heads * max(1, round(value_ratio * out_channels / num_heads))"

COUNT = """\
def parameters(in_channels, out_channels, kernel_size, depth_k, depth_v, num_heads, height, width):
    conv = (in_channels * kernel_size**2 + 1) * (out_channels - depth_v)
    qkv = (in_channels + 1) * (2 * depth_k + depth_v)
    output = (depth_v + 1) * depth_v
    tables = ((2 * height - 1) + (2 * width - 1)) * (depth_k // num_heads)
    return conv + qkv + output + tables
"""

MERGE = """\
def merge_heads(x, height, width):
    B, heads, _, d = x.shape
    return {}
"""

LAYER = """\
class StridedAAConv2d(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, depth_k, depth_v, num_heads, feature_size, stride):
        super().__init__()
        self.depth_k, self.depth_v, self.num_heads = depth_k, depth_v, num_heads
        (H, W), depth = feature_size, depth_k // num_heads
        padding = kernel_size // 2
        self.conv = nn.Conv2d(in_channels, out_channels - depth_v, kernel_size, stride, padding)
        self.qkv = nn.Conv2d(in_channels, 2 * depth_k + depth_v, 1, stride)
        self.output = nn.Conv2d(depth_v, depth_v, 1)
        self.rel_h = nn.Parameter(torch.randn(2 * H - 1, depth))
        self.rel_w = nn.Parameter(torch.randn(2 * W - 1, depth))

    def heads(self, t):
        return t.unflatten(1, (self.num_heads, -1)).permute(0, 1, 3, 4, 2)

    def merge(self, heads):
        return heads.permute(0, 1, 4, 2, 3).flatten(1, 2)

    def forward(self, x):
        rel_h, rel_w = self.rel_h, self.rel_w
        q, k, v = self.qkv(x).split([self.depth_k, self.depth_k, self.depth_v], dim=1)
        q, k, v = self.heads(q), self.heads(k), self.heads(v)
        position = aacn.relative_logits(q, rel_h, rel_w)
        logits = q.flatten(2, 3) @ k.flatten(2, 3).transpose(2, 3)
        logits = (logits + position) / q.shape[-1] ** 0.5
        weights = logits.softmax(dim=-1)
        attended = self.merge((weights @ v.flatten(2, 3)).unflatten(2, q.shape[2:4]))
        return torch.cat([self.conv(x), self.output(attended)], dim=1)
"""


def _changed(source, *changes):
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in source, old
        source = source.replace(old, new)
    return source


def _count(*changes):
    return _changed(COUNT, *changes)


def _layer(*changes):
    return _changed(LAYER, *changes)


RAW_MERGE = ("heads.permute(0, 1, 4, 2, 3).flatten(1, 2)", "heads.reshape(len(heads), self.depth_v, *heads.shape[2:4])")
RAW_SPLIT = (
    "t.unflatten(1, (self.num_heads, -1)).permute(0, 1, 3, 4, 2)",
    "t.reshape(len(t), self.num_heads, *t.shape[2:], -1)",
)
TABLES = """\
        self.rel_h = nn.Parameter(torch.randn(2 * H - 1, depth))
        self.rel_w = nn.Parameter(torch.randn(2 * W - 1, depth))
"""

WRONG = {
    "05.paper_depths": {
        "kappa is 2": ("paper_depths = (2 * 512, 8 * 6)", "κ was read as 2: "),
        "kappa is 2, upsilon is 0.2": ("paper_depths = (2 * 512, 8 * 13)", "as in public code"),
        "upsilon is 0.2": ("paper_depths = (160, 104)", "υ was read as 0.2"),
        "no floor": ("paper_depths = (104, 48)", "below the floor"),
        "floor for values": ("paper_depths = (160, 160)", "for keys"),
        "values not rounded to heads": ("paper_depths = (160, 51)", "not a multiple of 8"),
        "rounded up": ("paper_depths = (160, 56)", "is 6, not 7"),
        "rounded down without the heads": ("paper_depths = (102, 51)", "plain shares"),
        "not rounded at all": ("paper_depths = (0.2 * 512, 0.1 * 512)", "bare products"),
        "exchanged": ("paper_depths = (48, 160)", "keys first"),
        "one head": ("paper_depths = (20, 6)", "one head"),
        "one number": ("paper_depths = 160", "expected"),
    },
    "05.depths": {
        "kappa times ten": (DEPTHS.format(KEYS.replace("key_ratio", "10 * key_ratio"), VALUES), "part 0"),
        "kappa is twice upsilon": (DEPTHS.format(KEYS.replace("key_ratio", "2 * value_ratio"), VALUES), "not a rule"),
        "not rounded to heads": (
            DEPTHS.format(
                "max(20 * num_heads, round(key_ratio * out_channels))",
                "max(num_heads, round(value_ratio * out_channels))",
            ),
            "multiple of num_heads",
        ),
        "no floor": (DEPTHS.format(KEYS.replace("20", "1"), VALUES), "the floor is missing"),
        "floor for values": (DEPTHS.format(KEYS, VALUES.replace("1,", "20,")), "to the values as well"),
        "floor for the sum": (
            DEPTHS.format("max(20, num_heads * round(key_ratio * out_channels / num_heads))", VALUES),
            "to all heads together",
        ),
        "rounded down": (DEPTHS.format(KEYS.replace("round", "int"), VALUES.replace("round", "int")), "rounded down"),
        "rounded up": (
            "import math\n\n\n"
            + DEPTHS.format(KEYS.replace("round", "math.ceil"), VALUES.replace("round", "math.ceil")),
            "rounded up",
        ),
        "floats": (
            DEPTHS.format(KEYS.replace("num_heads *", "1.0 * num_heads *"), VALUES),
            "no whole number",
        ),
        "no value channel": (
            DEPTHS.format(KEYS, "num_heads * round(value_ratio * out_channels / num_heads)"),
            "without a value channel",
        ),
        "one head": (
            DEPTHS.format(KEYS.replace("num_heads * max", "max"), VALUES.replace("num_heads * max", "max")),
            "multiply by num_heads",
        ),
        "exchanged": (DEPTHS.format(VALUES, KEYS), "keys first"),
        "values a share of the keys": (
            DEPTHS.format(KEYS, VALUES.replace("out_channels", "depth_k")),
            "shares of out_channels",
        ),
        "not rounded at all": (
            DEPTHS.format("max(20 * num_heads, key_ratio * out_channels)", "value_ratio * out_channels"),
            "for depths(",
        ),
    },
    "05.parameters": {
        "no tables": (_count("output + tables", "output"), "the tables are missing"),
        "tables a head": (_count("(depth_k // num_heads)", "depth_k"), "once for every head"),
        "tables of 2H and 2W": (_count("2 * height - 1", "2 * height", "2 * width - 1", "2 * width"), "distance 0"),
        "tables of values": (_count("(depth_k // num_heads)", "(depth_v // num_heads)"), "depth_v was divided"),
        "no projection": (_count("qkv + output", "qkv"), "the output projection is missing"),
        "no bias of the projection": (_count("(depth_v + 1) * depth_v", "depth_v**2"), "has a bias too"),
        "no biases": (
            _count("kernel_size**2 + 1", "kernel_size**2", "in_channels + 1", "in_channels", "depth_v + 1", "depth_v"),
            "all biases are missing",
        ),
        "convolution with all channels": (
            _count("* (out_channels - depth_v)", "* out_channels"),
            "counted with all out_channels",
        ),
        "qkv with the kernel": (
            _count("(in_channels + 1)", "(in_channels * kernel_size**2 + 1)"),
            "with the k×k kernel",
        ),
        "no keys": (_count("2 * depth_k + depth_v", "depth_k + depth_v"), "keys were not"),
        "three times the keys": (_count("2 * depth_k + depth_v", "3 * depth_k"), "3 · depth_k channels"),
        "projection to all channels": (
            _count("(depth_v + 1) * depth_v", "(depth_v + 1) * out_channels"),
            "from depth_v to out_channels",
        ),
        "one number a kernel": (_count("kernel_size**2", "kernel_size"), "the square is missing"),
        "one joint table": (
            _count("((2 * height - 1) + (2 * width - 1))", "(2 * height - 1) * (2 * width - 1)"),
            "their rows are added",
        ),
        "a float": (_count("depth_k // num_heads", "depth_k / num_heads"), "no whole number"),
        "the batch counted": (_count("conv + qkv", "2 * conv + qkv"), "for parameters("),
    },
    "05.merge_heads": {
        "bare reshape": (MERGE.format("x.reshape(B, heads * d, height, width)"), "a bare reshape"),
        "as for a sentence": (
            MERGE.format(
                "x.transpose(1, 2).reshape(B, height * width, heads * d).reshape(B, heads * d, height, width)"
            ),
            "as for a sentence",
        ),
        "component by component": (
            MERGE.format("x.permute(0, 3, 1, 2).reshape(B, heads * d, height, width)"),
            "in the wrong order",
        ),
        "width before height": (
            MERGE.format("x.transpose(2, 3).reshape(B, heads * d, width, height)"),
            "height and width are swapped",
        ),
        "column by column": (
            MERGE.format("x.unflatten(2, (width, height)).permute(0, 1, 4, 3, 2).flatten(1, 2)"),
            "column by column",
        ),
        "pixels in a row": (MERGE.format("x.transpose(2, 3).flatten(1, 2)"), "still in one row"),
        "heads apart": (MERGE.format("x.transpose(2, 3).unflatten(3, (height, width))"), "still apart"),
        "mean of heads": (MERGE.format("x.mean(1).transpose(1, 2).unflatten(2, (height, width))"), "were averaged"),
        "sum of heads": (MERGE.format("x.sum(1).transpose(1, 2).unflatten(2, (height, width))"), "were added"),
        "detached": (
            MERGE.format("x.detach().transpose(2, 3).reshape(B, heads * d, height, width)"),
            "no gradient reaches",
        ),
    },
    "05.aa_conv": {
        "no scale": (_layer(" / q.shape[-1] ** 0.5", ""), "not divided by √d_kh"),
        "scale of all heads": (_layer("q.shape[-1] ** 0.5", "self.depth_k ** 0.5"), "√depth_k"),
        "no root": (_layer("q.shape[-1] ** 0.5", "q.shape[-1]"), "instead of its square root"),
        "only the contents scaled": (
            _layer("(logits + position) / q.shape[-1] ** 0.5", "logits / q.shape[-1] ** 0.5 + position"),
            "only the content logits",
        ),
        "tables in forward": (
            _layer(
                TABLES,
                "        self.size = feature_size\n",
                "        rel_h, rel_w = self.rel_h, self.rel_w\n",
                "        rel_h, rel_w = (torch.randn(2 * n - 1, self.depth_k // self.num_heads) for n in self.size)\n",
            ),
            "a table made in forward",
        ),
        "tables drawn anew over the parameters": (
            _layer(
                "rel_h, rel_w = self.rel_h, self.rel_w",
                "rel_h, rel_w = map(torch.randn_like, (self.rel_h, self.rel_w))",
            ),
            "the attention channels differ; the other branch is right",
        ),
        "tables as plain tensors": (
            _layer("nn.Parameter(torch.randn(2 * W - 1, depth))", "torch.randn(2 * W - 1, depth)"),
            "rel_w is a plain tensor",
        ),
        "tables as buffers": (
            _layer(TABLES, TABLES.replace("self.rel_h = nn.Parameter(", 'self.register_buffer("rel_h", ')),
            "rel_h is a buffer",
        ),
        "raw merge": (_layer(*RAW_MERGE), "merged without a transpose"),
        "raw split": (_layer(*RAW_SPLIT), "split without a transpose"),
        "raw split and merge": (_layer(*RAW_SPLIT, *RAW_MERGE), "by bare reshapes"),
        "interleaved heads": (
            _layer(RAW_SPLIT[0], "t.unflatten(1, (-1, self.num_heads)).permute(0, 2, 3, 4, 1)"),
            "interleaved",
        ),
        "height and width swapped in the tables": (
            _layer(
                "2 * H - 1", "2 * rows - 1", "2 * W - 1", "2 * columns - 1", "(H, W), depth", "(columns, rows), depth"
            ),
            "height and width are swapped",
        ),
        "pixels counted by column": (
            _layer(
                "position = aacn.relative_logits(q, rel_h, rel_w)",
                "H, W = q.shape[2:4]\n"
                "        n = torch.arange(H * W)\n"
                "        y, x_ = n % H, n // H\n"
                "        table = rel_h[y[None] - y[:, None] + H - 1] + rel_w[x_[None] - x_[:, None] + W - 1]\n"
                '        position = torch.einsum("bnid,ijd->bnij", q.flatten(2, 3), table)',
            ),
            "rows and columns are swapped",
        ),
        "mirrored": (
            _layer("rel_h, rel_w = self.rel_h, self.rel_w", "rel_h, rel_w = self.rel_h.flip(0), self.rel_w.flip(0)"),
            "mirrored",
        ),
        "keys meet the tables": (_layer("(q, rel_h, rel_w)", "(q, rel_h, rel_w).mT"), "transposed"),
        "no positions": (_layer("logits + position", "logits"), "the positions have no effect"),
        "no vertical positions": (_layer("(q, rel_h, rel_w)", "(q, None, rel_w)"), "rel_h has no effect"),
        "no horizontal positions": (_layer("(q, rel_h, rel_w)", "(q, rel_h, None)"), "rel_w has no effect"),
        "softmax over queries": (_layer("dim=-1", "dim=-2"), "over the queries"),
        "keys before queries": (_layer("q, k, v = self.qkv(x)", "k, q, v = self.qkv(x)"), "exchanged"),
        "values first": (
            _layer(
                "q, k, v = self.qkv(x).split([self.depth_k, self.depth_k, self.depth_v]",
                "v, q, k = self.qkv(x).split([self.depth_v, self.depth_k, self.depth_k]",
            ),
            "from the front",
        ),
        "no projection": (_layer("self.output(attended)", "attended"), "output projection is left out"),
        "attention first": (
            _layer("[self.conv(x), self.output(attended)]", "[self.output(attended), self.conv(x)]"),
            "attention comes first",
        ),
        "qkv with the kernel": (
            _layer("2 * depth_k + depth_v, 1, stride", "2 * depth_k + depth_v, kernel_size, stride, padding"),
            "qkv has the k×k kernel",
        ),
        "conv with all channels": (_layer("out_channels - depth_v,", "out_channels,"), "conv makes all out_channels"),
        "tables as long as depth_k": (_layer("depth_k // num_heads", "depth_k"), "not depth_k"),
        "stride in one branch": (_layer("1, stride)", "1)"), "qkv has stride 1"),
        "no stride": (
            _layer("kernel_size, stride, padding", "kernel_size, 1, padding", "1, stride)", "1)"),
            "expected 2",
        ),
        "padding fixed": (_layer("kernel_size // 2", "1"), "padding 1 with kernel_size 5"),
        "no sqrt of the projection's size": (
            _layer("nn.Conv2d(depth_v, depth_v, 1)", "nn.Linear(1, 1)"),
            "output.weight",
        ),
        "no bias": (_layer("1, stride)", "1, stride, bias=False)"), "missing ['qkv.bias']"),
        "detached": (_layer("weights = logits.softmax", "weights = logits.detach().softmax"), "gradient"),
        "no return": (_layer("return torch.cat", "torch.cat"), "returned None"),
        "an instance": (
            LAYER + "\nStridedAAConv2d = StridedAAConv2d(3, 11, 3, 6, 4, 2, (5, 7), 1)\n",
            "the class itself",
        ),
    },
}
