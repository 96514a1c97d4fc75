"""Wrong answers to the exercises of lesson 13: title → (source, words that the message must hold)."""

PATCHIFY = """\
def patchify(x, patch_size):
    B, C, H, W = x.shape
    P, rows, columns = patch_size, H // patch_size, W // patch_size
    {}
"""

FIRST = """\
def first_input(patches, token, positions):
    first = token.expand(len(patches), 1, -1)
    return {}
"""

BLOCK = """\
class EncoderBlock(nn.Module):
    def __init__(self, width, num_heads, mlp_width, pre_norm=True):
        super().__init__()
        self.num_heads, self.pre_norm = num_heads, pre_norm
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_width), nn.GELU(), nn.Linear(mlp_width, width))

    def split(self, t):
        return t.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    def merge(self, heads):
        return heads.transpose(1, 2).flatten(2)

    def attention(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = self.split(q), self.split(k), self.split(v)
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(dim=-1)
        return self.output(self.merge(weights @ v))

    def forward(self, x):
        if self.pre_norm:
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.mlp(x))
"""

COUNT = """\
def vit_parameters(image_size, patch_size, in_channels, num_classes, depth, width, mlp_width):
    tokens = 1 + (image_size // patch_size) ** 2
    patches = (in_channels * patch_size**2 + 1) * width
    norm = 2 * width
    attention = (width + 1) * 3 * width + (width + 1) * width
    mlp = (width + 1) * mlp_width + (mlp_width + 1) * width
    head = (width + 1) * num_classes
    return patches + width + tokens * width + depth * (2 * norm + attention + mlp) + norm + head
"""


def _changed(source, *changes):
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in source, old
        source = source.replace(old, new)
    return source


def _tokens(tokens="1 + (224 // patch) ** 2", pairs="n * n"):
    lines = (f"patch = {p}\nn = tokens_{p} = {tokens}\npairs_{p} = {pairs}\n" for p in (16, 8))
    return "".join(lines)


def _block(*changes):
    return _changed(BLOCK, *changes)


def _count(*changes):
    return _changed(COUNT, *changes)


PRE = """\
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))
"""
POST = """\
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.mlp(x))
"""
NORMALISED = """\
        x = x + self.norm1(self.attention(x))
        return x + self.norm2(self.mlp(x))
"""
BARE = """\
        x = x + self.attention(x)
        return x + self.mlp(x)
"""
RAW_SPLIT = (
    "t.unflatten(2, (self.num_heads, -1)).transpose(1, 2)",
    "t.reshape(len(t), self.num_heads, t.shape[1], -1)",
)
RAW_MERGE = ("heads.transpose(1, 2).flatten(2)", "heads.reshape(len(heads), heads.shape[2], -1)")

WRONG = {
    "13.tokens": {
        "no class token": (_tokens("(224 // patch) ** 2"), "tokens_16: the class token is missing: it is one token"),
        "one side": (_tokens("224 // patch"), "along one side: the patches"),
        "one side and the token": (_tokens("1 + 224 // patch"), "along one side, and the class token"),
        "divided once": (_tokens("224**2 // patch"), "divided by the patch's side: a patch"),
        "divided once, with the token": (_tokens("1 + 224**2 // patch"), "and the class token added"),
        "a token a pixel": (_tokens("224**2"), "one token a pixel"),
        "pixels of a patch": (_tokens("patch**2"), "pixels in one patch"),
        "squared with the token": (_tokens("(1 + 224 // patch) ** 2"), "the class token was squared too"),
        "rubbish": (_tokens("12"), "tokens_16: 12 is not the answer"),
        "twice the tokens at patch 8": (
            "tokens_16, pairs_16, tokens_8, pairs_8 = 197, 197**2, 2 * 197, 394**2",
            "tokens_8: 394 is not the answer",
        ),
        "pairs without itself": (_tokens(pairs="n * (n - 1)"), "pairs_16: a token asks itself too"),
        "pairs without order": (_tokens(pairs="n * (n - 1) // 2"), "nothing is halved"),
        "pairs without order, with itself": (_tokens(pairs="n * (n + 1) // 2"), "do not halve"),
        "pairs of patches": (_tokens(pairs="(n - 1) ** 2"), "the class token is missing in the pairs"),
        "pairs of patches and one": (_tokens(pairs="(n - 1) ** 2 + 1"), "the class token meets every patch"),
        "pairs are tokens": (_tokens(pairs="n"), "the number of tokens again"),
        "pairs are two a token": (_tokens(pairs="2 * n"), "square them"),
        "pairs times four at patch 8": (
            "tokens_16, pairs_16, tokens_8, pairs_8 = 197, 197**2, 785, 4 * 197**2",
            "pairs_8: 155236 is not the answer",
        ),
        "a float": (_tokens("1 + (224 / patch) ** 2"), "no whole number"),
    },
    "13.patchify": {
        "bare reshape": (PATCHIFY.format("return x.reshape(B, rows * columns, C * P * P)"), "a bare reshape"),
        "channels last": (
            PATCHIFY.format(
                "return x.reshape(B, C, rows, P, columns, P).permute(0, 2, 4, 3, 5, 1).reshape(B, rows * columns, -1)"
            ),
            "channels come last",
        ),
        "column by column": (
            PATCHIFY.format(
                "return x.reshape(B, C, rows, P, columns, P).permute(0, 4, 2, 1, 3, 5).reshape(B, rows * columns, -1)"
            ),
            "column by column",
        ),
        "patches transposed": (
            PATCHIFY.format(
                "return x.reshape(B, C, rows, P, columns, P).permute(0, 2, 4, 1, 5, 3).reshape(B, rows * columns, -1)"
            ),
            "each patch is transposed",
        ),
        "every P-th pixel": (
            PATCHIFY.format(
                "return x.reshape(B, C, P, rows, P, columns).permute(0, 3, 5, 1, 2, 4).reshape(B, rows * columns, -1)"
            ),
            "grid and patch are exchanged",
        ),
        "unfold as it is": (PATCHIFY.format("return F.unfold(x, P, stride=P)"), "the two last axes are exchanged"),
        "on a grid": (
            PATCHIFY.format("return F.unfold(x, P, stride=P).transpose(1, 2).reshape(B, rows, columns, -1)"),
            "still on a grid",
        ),
        "channels apart": (
            PATCHIFY.format(
                "return x.reshape(B, C, rows, P, columns, P).transpose(3, 4).reshape(B, C * rows * columns, P * P)"
            ),
            "each channel became a token",
        ),
        "mean of channels": (
            PATCHIFY.format("return F.unfold(x.mean(1, keepdim=True), P, stride=P).transpose(1, 2)"),
            "averaged over its channels",
        ),
        "overlapping patches": (PATCHIFY.format("return F.unfold(x, P).transpose(1, 2)"), "got shape"),
        "detached": (
            PATCHIFY.format("return F.unfold(x.detach(), P, stride=P).transpose(1, 2)"),
            "no gradient reaches",
        ),
    },
    "13.class_token": {
        "token last": (FIRST.format("torch.cat([patches, first], dim=1) + positions"), "stands at the end"),
        "token last, positions right": (
            FIRST.format("torch.cat([patches + positions[1:], first + positions[:1]], dim=1)"),
            "in the right places",
        ),
        "token added": (FIRST.format("patches + first + positions[1:]"), "added to every patch"),
        "token without a position": (
            FIRST.format("torch.cat([first, patches + positions[1:]], dim=1)"),
            "the class token got no position",
        ),
        "no positions": (FIRST.format("torch.cat([first, patches], dim=1)"), "the positions are missing"),
        "positions shifted": (
            FIRST.format("torch.cat([first, patches], dim=1) + torch.cat([positions[-1:], positions[:-1]])"),
            "shifted by one",
        ),
        "no token": (FIRST.format("patches + positions[1:]"), "it comes before the patches"),
        "positions concatenated": (
            FIRST.format(
                "torch.cat([torch.cat([first, patches], dim=1), positions.expand(len(patches), -1, -1)], dim=2)"
            ),
            "behind the channels",
        ),
        "positions multiplied": (FIRST.format("torch.cat([first, patches], dim=1) * positions"), "were multiplied"),
        "detached token": (
            FIRST.format("torch.cat([first.detach(), patches], dim=1) + positions"),
            "no gradient reaches `token`",
        ),
    },
    "13.encoder_block": {
        "only pre-norm": (_block("if self.pre_norm", "if True"), "the norms stand after the sums"),
        "only post-norm": (_block("if self.pre_norm", "if False"), "the sum itself is not normalised"),
        "the wrong way round": (_block("if self.pre_norm", "if not self.pre_norm"), "the wrong way round"),
        "residual of the normalised": (
            _block(
                PRE,
                "            x = self.norm1(x)\n            x = x + self.attention(x)\n"
                "            x = self.norm2(x)\n            return x + self.mlp(x)\n",
            ),
            "the branch is added to norm(x)",
        ),
        "no residuals": (
            _block("x + self.attention", "self.attention", "x + self.mlp", "self.mlp"),
            "both residuals are missing",
        ),
        "no residuals in pre-norm": (
            _block(PRE, PRE.replace("x + self.attention", "self.attention").replace("x + self.mlp", "self.mlp")),
            "both residuals are missing: each branch is added to what came in (with pre_norm=True)",
        ),
        "no residuals in post-norm": (
            _block(POST, POST.replace("x + self.attention", "self.attention").replace("x + self.mlp", "self.mlp")),
            "both residuals are missing: each branch is added to what came in (with pre_norm=False)",
        ),
        "branches normalised": (
            _block(PRE, NORMALISED.replace("        ", "            "), POST, NORMALISED),
            "x + norm(branch(x))",
        ),
        "branches normalised in post-norm": (_block(POST, NORMALISED), "x + norm(branch(x))"),
        "branches normalised in pre-norm": (
            _block(PRE, NORMALISED.replace("        ", "            ")),
            "x + norm(branch(x))",
        ),
        "no first residual": (_block("x + self.attention", "self.attention"), "around attention is missing"),
        "no second residual": (_block("x + self.mlp", "self.mlp"), "around the MLP is missing"),
        "in parallel": (
            _block(PRE, "            return x + self.attention(self.norm1(x)) + self.mlp(self.norm2(x))\n"),
            "both look at the layer's input",
        ),
        "one norm": (
            _block("self.mlp(self.norm2(x))", "self.mlp(self.norm1(x))", "return self.norm2(", "return self.norm1("),
            "norm1 is used twice",
        ),
        "one norm in pre-norm": (
            _block("self.mlp(self.norm2(x))", "self.mlp(self.norm1(x))"),
            "norm1 is used twice and norm2 never: each branch has a norm of its own (with pre_norm=True)",
        ),
        "one norm in post-norm": (
            _block("return self.norm2(", "return self.norm1("),
            "norm1 is used twice and norm2 never: each branch has a norm of its own (with pre_norm=False)",
        ),
        "no norm": (_block("(self.norm1(x))", "(x)", "(self.norm2(x))", "(x)"), "no norm is used"),
        "no norm at all": (
            _block(PRE, BARE.replace("        ", "            "), POST, BARE),
            "no norm is used",
        ),
        "two mistakes": (
            _block(PRE, PRE.replace("x + self.mlp", "self.mlp"), "return self.norm2(", "return self.norm1("),
            "(with pre_norm=False)",
        ),
        "MLP first": (
            _block(
                PRE,
                "            x = x + self.mlp(self.norm2(x))\n            return x + self.attention(self.norm1(x))\n",
                POST,
                "        x = self.norm2(x + self.mlp(x))\n        return self.norm1(x + self.attention(x))\n",
            ),
            "the MLP comes before attention",
        ),
        "no scale": (_block(" / math.sqrt(q.shape[-1])", ""), "not divided by √d"),
        "scale of all heads": (_block("math.sqrt(q.shape[-1])", "math.sqrt(x.shape[-1])"), "divided by √width"),
        "no root": (_block("math.sqrt(q.shape[-1])", "q.shape[-1]"), "instead of its square root"),
        "raw split": (_block(*RAW_SPLIT), "the heads are split without a transpose"),
        "raw merge": (_block(*RAW_MERGE), "the heads are merged without a transpose"),
        "raw split and merge": (_block(*RAW_SPLIT, *RAW_MERGE), "by bare reshapes"),
        "interleaved heads": (
            _block(RAW_SPLIT[0], "t.unflatten(2, (-1, self.num_heads)).permute(0, 3, 1, 2)"),
            "interleaved",
        ),
        "q, k and v head by head": (
            _block(
                "q, k, v = self.qkv(x).chunk(3, dim=-1)\n        q, k, v = self.split(q), self.split(k), self.split(v)",
                "q, k, v = self.split(self.qkv(x)).chunk(3, dim=-1)",
            ),
            "head by head",
        ),
        "keys before queries": (_block("q, k, v = self.qkv", "k, q, v = self.qkv"), "queries and keys are exchanged"),
        "values first": (_block("q, k, v = self.qkv", "v, q, k = self.qkv"), "taken from the front"),
        "softmax over queries": (_block("dim=-1)\n        return", "dim=-2)\n        return"), "over the queries"),
        "no projection": (
            _block("self.output(self.merge(weights @ v))", "self.merge(weights @ v)"),
            "output projection is left out",
        ),
        "ReLU": (_block("nn.GELU()", "nn.ReLU()"), "has a ReLU"),
        "tanh": (_block("nn.GELU()", "nn.GELU(approximate='tanh')"), "tanh approximation"),
        "no activation": (_block("nn.GELU()", "nn.Identity()"), "no activation"),
        "sums instead of means of heads": (_block("weights @ v)", "2 * weights @ v)"), "with the library's weights"),
        "no bias": (_block("3 * width)", "3 * width, bias=False)"), "missing ['qkv.bias']"),
        "MLP without its activation's place": (_block("nn.GELU(), ", ""), "missing ['mlp.2.bias'"),
        "qkv of one head": (_block("3 * width)", "3 * width // num_heads)"), "qkv.weight has shape"),
        "detached": (_block("weights = (q @ k.mT", "weights = (q.detach() @ k.mT"), "gradient"),
        "dropout": (
            _block("nn.GELU(), nn.Linear(mlp_width, width)", "nn.GELU(), nn.Linear(mlp_width, width), nn.Dropout(0.5)"),
            "differ",
        ),
        "no return": (_block("return x + self.mlp", "return None and self.mlp"), "returned None"),
        "a blank norm": (_block("nn.LayerNorm(width)\n", "...\n"), "is left in __init__: self.norm2"),
        "two blanks": (
            _block("nn.Linear(width, width)", "...", "3 * width)", "3 * width) and ..."),
            "is left in __init__: self.qkv, self.output",
        ),
        "a blank in the MLP": (_block("nn.GELU(), ", "..., "), "a blank ... is left in __init__"),
        "a blank post-norm": (
            _block(POST, "        return ...\n"),
            "left in forward, or in what it calls: met with pre_norm=F",
        ),
        "a blank pre-norm": (_block(PRE, "            return ...\n"), "met with pre_norm=True"),
        "a blank branch": (
            _block("return self.norm2(x + self.mlp(x))", "return self.norm2(x + ...)"),
            "is left in forward",
        ),
        "a blank attention": (
            _block("return self.output(self.merge(weights @ v))", "return ..."),
            "is left in forward",
        ),
        "a blank forward": (
            _block(PRE, "            return ...\n", POST, "        return ...\n"),
            "is left in forward",
        ),
        "an instance": (BLOCK + "\nEncoderBlock = EncoderBlock(12, 3, 20)\n", "the class itself"),
    },
    "13.vit_parameters": {
        "no class token": (_count("patches + width +", "patches +"), "width numbers are missing"),
        "no position of the token": (_count("1 + (image_size", "(image_size"), "width numbers are missing"),
        "no last norm": (_count(" + norm + head", " + head"), "the norm before the head"),
        "no positions": (_count("+ tokens * width ", ""), "the positions are missing"),
        "positions in every layer": (
            _count("tokens * width + depth * (", "depth * (tokens * width + "),
            "counted in every layer",
        ),
        "patches of one side": (
            _count("(image_size // patch_size) ** 2", "image_size // patch_size"),
            "the square of that",
        ),
        "a position a pixel": (_count("(image_size // patch_size) ** 2", "image_size**2"), "one position a pixel"),
        "one number a patch": (_count("patch_size**2 + 1", "patch_size + 1"), "a patch has patch_size² pixels"),
        "no channels": (_count("in_channels * patch_size**2", "patch_size**2"), "in_channels is missing"),
        "one layer": (_count("depth * (2", "(2"), "only one layer"),
        "one norm a layer": (_count("(2 * norm + attention", "(norm + attention"), "a layer has two norms"),
        "no norms in layers": (_count("(2 * norm + attention", "(attention"), "the norms of the layers are missing"),
        "norms without biases": (_count("norm = 2 * width", "norm = width"), "a norm has a bias"),
        "one map for q, k, v": (_count("(width + 1) * 3 * width", "(width + 1) * width"), "counted as one map"),
        "no projection": (_count(" + (width + 1) * width\n", "\n"), "output projection of attention is missing"),
        "half an MLP": (_count(" + (mlp_width + 1) * width", ""), "the MLP has two linear maps"),
        "no biases": (
            _count("patch_size**2 + 1)", "patch_size**2)", "(width + 1)", "width", "(mlp_width + 1)", "mlp_width"),
            "all biases of linear maps",
        ),
        "no biases in layers": (
            _count(
                "(width + 1) * 3",
                "width * 3",
                "3 * width + (width + 1)",
                "3 * width + width",
                "(width + 1) * mlp_width + (mlp_width + 1)",
                "width * mlp_width + mlp_width",
            ),
            "the biases of the layers' linear maps",
        ),
        "no bias of q, k, v": (_count("(width + 1) * 3 * width", "3 * width * width"), "3 · width · depth numbers"),
        "no bias of the projection": (
            _count(" + (width + 1) * width\n", " + width * width\n"),
            "width · depth numbers",
        ),
        "no bias of the MLP's first map": (
            _count("(width + 1) * mlp_width", "width * mlp_width"),
            "mlp_width · depth numbers",
        ),
        "no head": (_count(" + norm + head", " + norm"), "the head is missing"),
        "a float": (_count("image_size // patch_size", "image_size / patch_size"), "no whole number"),
        "two class tokens": (_count("patches + width +", "patches + 3 * width +"), "for vit_parameters("),
    },
}
