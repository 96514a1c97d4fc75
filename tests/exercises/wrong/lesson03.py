"""Wrong answers to the exercises of lesson 03: {exercise: {title: (source, fragment of the message)}}."""


def _mha(*, scale="q.shape[-1] ** 0.5", dim="-1", order="q, k, v", split=None, merge=None, project=True) -> str:
    """The solution of 03.multi_head_attention with parts exchanged."""
    split = split or "t.unflatten(1, (num_heads, -1)).flatten(3).transpose(2, 3)"
    merge = merge or "heads.transpose(2, 3).flatten(1, 2).unflatten(2, (H, W))"
    returned = 'torch.einsum("oc,bchw->bohw", output_weight, merged)' if project else "merged"
    return (
        "def multi_head_attention(x, qkv_weight, output_weight, num_heads, depth_k, depth_v):\n"
        "    B, _, H, W = x.shape\n"
        '    channels = torch.einsum("oc,bchw->bohw", qkv_weight, x)\n'
        "    parts = channels.split([depth_k, depth_k, depth_v], dim=1)\n"
        f"    {order} = ({split} for t in parts)\n"
        f"    heads = (q @ k.transpose(-1, -2) / ({scale})).softmax(dim={dim}) @ v\n"
        f"    merged = {merge}\n"
        f"    return {returned}"
    )


def _places(shuffled: str, compared: str = "torch.allclose(layer(shuffled(x)), shuffled(layer(x)), atol=1e-5)") -> str:
    """A solution of 03.ignores_places with another shuffle or comparison."""
    return (
        "def ignores_places(layer, x):\n"
        "    B, C, H, W = x.shape\n"
        "    order, rows, columns = torch.randperm(H * W), torch.randperm(H), torch.randperm(W)\n"
        "    def shuffled(t):\n"
        f"        return {shuffled}\n"
        f"    return {compared}"
    )


_ALL_PIXELS = "t.flatten(2)[..., order].unflatten(2, t.shape[2:])"

WRONG = {
    "03.attention_weights": {
        "no scale": ("def attention_weights(q, k):\n    return (q @ k.mT).softmax(-1)", "the scale is missing"),
        "over the queries": (
            'def attention_weights(q, k):\n    logits = torch.einsum("bhid,bhjd->bhij", q, k)\n'
            "    return torch.softmax(logits / q.shape[-1] ** 0.5, dim=2)",
            "runs over the queries",
        ),
        "divided by d": (
            "def attention_weights(q, k):\n    return torch.softmax(q / q.size(-1) @ k.transpose(2, 3), -1)",
            "not by its square root",
        ),
        "depth of all heads": (
            "def attention_weights(q, k):\n    depth = q.shape[1] * q.shape[-1]\n"
            "    return (q @ k.transpose(-1, -2) / math.sqrt(depth)).softmax(-1)",
            "depth of all heads together",
        ),
        "scaled afterwards": (
            "def attention_weights(q, k):\n    return (q @ k.transpose(-1, -2)).softmax(-1) / math.sqrt(q.shape[-1])",
            "after the softmax",
        ),
        "swapped": (
            "def attention_weights(q, k):\n    return (k @ q.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)",
            "queries and keys are swapped",
        ),
        "detached": (
            "def attention_weights(q, k):\n"
            "    return (q.detach() @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)",
            "no gradient reaches `q`",
        ),
    },
    "03.split_heads": {
        "reshape": (
            "def split_heads(x, num_heads):\n    B, C, H, W = x.shape\n"
            "    return x.view(B, num_heads, H * W, C // num_heads)",
            "a reshape without a transpose",
        ),
        "columns first": (
            "def split_heads(x, num_heads):\n    B, C, H, W = x.shape\n"
            "    x = x.reshape(B, num_heads, C // num_heads, H, W).permute(0, 1, 4, 3, 2)\n"
            "    return x.reshape(B, num_heads, W * H, C // num_heads)",
            "rows and columns were swapped",
        ),
        "head-minor": (
            "def split_heads(x, num_heads):\n    B, C, H, W = x.shape\n"
            "    return x.reshape(B, C // num_heads, num_heads, H * W).permute(0, 2, 3, 1)",
            "head and component are swapped",
        ),
        "no transpose": (
            "def split_heads(x, num_heads):\n    B, C, H, W = x.shape\n"
            "    return x.reshape(B, num_heads, C // num_heads, H * W)",
            "the transpose is missing",
        ),
        "pixels first": (
            "def split_heads(x, num_heads):\n    B, C, H, W = x.shape\n"
            "    return x.permute(0, 2, 3, 1).reshape(B, num_heads, H * W, C // num_heads)",
            "cuts the picture into pieces",
        ),
    },
    "03.merge_heads": {
        "reshape": (
            "def merge_heads(x, H, W):\n    B, heads, N, d = x.shape\n    return x.reshape(B, heads * d, H, W)",
            "a reshape without a transpose",
        ),
        "rows and columns swapped": (
            "def merge_heads(x, H, W):\n    B, heads, N, d = x.shape\n"
            "    x = x.reshape(B, heads, W, H, d)\n"
            "    return x.permute(0, 1, 4, 3, 2).reshape(B, heads * d, H, W)",
            "rows and columns were swapped",
        ),
        "W and H swapped": (
            "def merge_heads(x, H, W):\n    B, heads, N, d = x.shape\n"
            "    return x.transpose(2, 3).reshape(B, heads * d, W, H)",
            "W pixels high and H wide",
        ),
        "head-minor": (
            "def merge_heads(x, H, W):\n    B, heads, N, d = x.shape\n"
            "    return x.permute(0, 3, 1, 2).reshape(B, d * heads, H, W)",
            "head and component are swapped",
        ),
        "as for text": (
            "def merge_heads(x, H, W):\n    B, heads, N, d = x.shape\n"
            "    return x.permute(0, 2, 1, 3).reshape(B, heads * d, H, W)",
            "the merge for text",
        ),
    },
    "03.multi_head_attention": {
        "no scale": (_mha(scale="1"), "the scale is missing"),
        "depth of all heads": (_mha(scale="depth_k ** 0.5"), "the depth of all heads together"),
        "divided by the depth": (_mha(scale="depth_k / num_heads"), "not by its square root"),
        "over the queries": (_mha(dim="2"), "over the queries"),
        "merged by reshape": (_mha(merge="heads.reshape(B, depth_v, H, W)"), "merged by a reshape"),
        "split by reshape": (_mha(split="t.reshape(B, num_heads, H * W, -1)"), "split by a reshape"),
        "both by reshape": (
            _mha(split="t.reshape(B, num_heads, H * W, -1)", merge="heads.reshape(B, depth_v, H, W)"),
            "split and merged by a reshape",
        ),
        "keys first": (_mha(order="k, q, v"), "queries and keys are swapped"),
        "no projection": (_mha(project=False), "output projection is missing"),
        "columns first": (
            _mha(merge="heads.transpose(2, 3).reshape(B, depth_v, W, H).transpose(2, 3)"),
            "rows and columns are swapped",
        ),
    },
    "03.ignores_places": {
        "invariance": (
            _places(_ALL_PIXELS, "torch.allclose(layer(shuffled(x)), layer(x), atol=1e-5)"),
            "(invariance)",
        ),
        "a new order for the output": (
            _places("t.flatten(2)[..., torch.randperm(H * W)].unflatten(2, t.shape[2:])"),
            "a new order is drawn for the output",
        ),
        "a new order, output first": (
            "def ignores_places(layer, x):\n"
            "    def shuffled(t):\n"
            "        order = torch.randperm(t[0, 0].numel())\n"
            "        return t.flatten(2)[:, :, order].reshape(t.shape)\n"
            "    right = shuffled(layer(x))\n"
            "    return torch.allclose(right, layer(shuffled(x)), atol=1e-5)",
            "a new order is drawn for the output",
        ),
        "a new order, not from randperm": (
            _places("t.flatten(2)[..., torch.rand(H * W).argsort()].unflatten(2, t.shape[2:])"),
            "Or was a new order drawn for the output? Use one order for both",
        ),
        "exactly equal": (
            _places(_ALL_PIXELS, "torch.equal(layer(shuffled(x)), shuffled(layer(x)))"),
            "compares too strictly",
        ),
        "all equal": (
            _places(_ALL_PIXELS, "(layer(shuffled(x)) == shuffled(layer(x))).all().item()"),
            "compares too strictly",
        ),
        "default tolerance": (
            _places(_ALL_PIXELS, "torch.allclose(layer(shuffled(x)), shuffled(layer(x)))"),
            "compares too strictly",
        ),
        "tolerance 1": (
            _places(_ALL_PIXELS, "torch.allclose(layer(shuffled(x)), shuffled(layer(x)), atol=1.0)"),
            "compares too loosely",
        ),
        "tolerance 0.1": (
            _places(_ALL_PIXELS, "torch.allclose(layer(shuffled(x)), shuffled(layer(x)), atol=0.1)"),
            "compares too loosely",
        ),
        "tolerance 0.01": (
            _places(_ALL_PIXELS, "torch.allclose(layer(shuffled(x)), shuffled(layer(x)), atol=0.01)"),
            "compares too loosely",
        ),
        "no tolerance at all": (
            _places(_ALL_PIXELS, "torch.allclose(layer(shuffled(x)), shuffled(layer(x)), atol=1e3)"),
            "with a small tolerance",
        ),
        "an order a channel": (
            "def ignores_places(layer, x):\n"
            "    B, C, H, W = x.shape\n"
            "    order = torch.stack([torch.randperm(H * W) for _ in range(C)]).expand(B, C, H * W)\n"
            "    def shuffled(t):\n"
            "        return t.flatten(2).gather(2, order).unflatten(2, (H, W))\n"
            "    return torch.allclose(layer(shuffled(x)), shuffled(layer(x)), atol=1e-5)",
            "one for all channels",
        ),
        "pixels of all pictures": (
            "def ignores_places(layer, x):\n"
            "    B, C, H, W = x.shape\n"
            "    order = torch.randperm(B * H * W)\n"
            "    def shuffled(t):\n"
            "        return t.transpose(0, 1).flatten(1)[:, order].reshape(C, B, H, W).transpose(0, 1)\n"
            "    return torch.allclose(layer(shuffled(x)), shuffled(layer(x)), atol=1e-5)",
            "each picture by itself",
        ),
        "columns only": (_places("t[..., columns]"), "the mean of its row"),
        "a shift": (_places("t.roll((2, 3), (2, 3))"), "a shift or a flip is not a shuffle"),
        "rows only": (_places("t[:, :, rows]"), "the mean of its row"),
        "rows and columns": (_places("t[:, :, rows][..., columns]"), "with one permutation"),
        "flip": (_places("t.flip(-1)"), "a shift or a flip is not a shuffle"),
        "means compared": (
            _places(_ALL_PIXELS, "torch.allclose(layer(shuffled(x)).mean((2, 3)), layer(x).mean((2, 3)), atol=1e-5)"),
            "not their mean",
        ),
        "pictures shuffled": (_places("t.roll(1, 0)"), "not the pictures of the batch"),
        "no single answer": (
            _places(_ALL_PIXELS, "torch.isclose(layer(shuffled(x)), shuffled(layer(x)), atol=1e-5)"),
            "expected True or False",
        ),
    },
}
