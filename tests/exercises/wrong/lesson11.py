"""Wrong answers to the exercises of lesson 11: title → (source, words that the message must hold)."""

DISTANCE = """\
def mean_distance(weights, height, width):
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).float()
    distance = torch.cdist(places, places)
    return (weights * distance).sum(dim=-1).mean(dim=-1)
"""

PLACES = """\
def effective_places(weights):
    logs = weights.clamp(min=1e-30).log2()
    entropy = -(weights * logs).sum(dim=-1)
    return 2**entropy
"""

SHARE = """\
def position_share(content, position):
    content = content - content.mean(dim=-1, keepdim=True)
    position = position - position.mean(dim=-1, keepdim=True)
    total = content + position
    return (position * total).mean(dim=(1, 2)) / (total**2).mean(dim=(1, 2))
"""

KINDS = {"a": "keys", "b": "both", "c": "uniform", "d": "position", "e": "content"}
OPEN = """\
def kind_of(letter):
    return {"a": "keys", "b": ..., "c": "uniform", "d": ..., "e": ...}[letter]
"""

REMOVE = """\
def without_head(layer, head, average):
    edited = copy.deepcopy(layer)
    d = layer.depth_v // layer.num_heads
    channels = slice(head * d, (head + 1) * d)
    weight = layer.output.weight.detach().clone()
    bias = weight[:, channels, 0, 0] @ average
    if layer.output.bias is not None:
        bias = bias + layer.output.bias.detach()
    weight[:, channels] = 0
    edited.output = torch.nn.Conv2d(layer.depth_v, layer.depth_v, 1)
    edited.output.weight, edited.output.bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
    return edited
"""

HOOK = """\
def without_head(layer, head, average):
    edited = copy.deepcopy(layer)
    d = layer.depth_v // layer.num_heads

    def hook(module, given):
        x = given[0].clone()
        x[:, head * d : (head + 1) * d] = average[:, None, None]
        return x

    edited.output.register_forward_pre_hook(hook)
    return edited
"""


def _changed(source, *changes):
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in source, old
        source = source.replace(old, new)
    return source


def _said(**words):
    return f"def kind_of(letter):\n    return {KINDS | words!r}[letter]"


WRONG = {
    "11.mean_distance": {
        "rows plus columns": (
            _changed(DISTANCE, "torch.cdist(places, places)", "torch.cdist(places, places, p=1)"),
            "rows and columns were added",
        ),
        "squared": (_changed(DISTANCE, "* distance)", "* distance**2)"), "squared"),
        "height and width exchanged": (
            _changed(
                DISTANCE, "torch.arange(height), torch.arange(width)", "torch.arange(width), torch.arange(height)"
            ),
            "height and width are exchanged",
        ),
        "the farthest place": (_changed(DISTANCE, "* distance)", "* distance.max())"), "the largest distance"),
        "not weighted": (
            _changed(DISTANCE, "(weights * distance).sum(dim=-1).mean(dim=-1)", "distance.mean().expand(len(weights))"),
            "the mean of the distances themselves",
        ),
        "sum over queries": (_changed(DISTANCE, ".mean(dim=-1)", ".sum(dim=-1)"), "the distances of all queries"),
        "mean over keys": (_changed(DISTANCE, ".sum(dim=-1)", ".mean(dim=-1)"), "averaged over keys"),
        "one number a query": (_changed(DISTANCE, ".mean(dim=-1)", ""), "that is one distance a query"),
        "in pixels": (
            _changed(DISTANCE, "torch.cdist(places, places)", "32 / height * torch.cdist(places, places)"),
            "in pixels",
        ),
        "one number in all": (_changed(DISTANCE, ".mean(dim=-1)", ".mean()"), "one number for all heads"),
    },
    "11.effective_places": {
        "nan at zeros": (_changed(PLACES, ".clamp(min=1e-30)", ""), "which is nan"),
        "entropy in bits": (_changed(PLACES, "2**entropy", "entropy"), "that is the entropy: the effective number"),
        "entropy in nats": (
            _changed(PLACES, "2**entropy", "entropy", "log2", "log"),
            "(with the natural logarithm): the effective number is e to",
        ),
        "logarithms mixed": (_changed(PLACES, "log2", "log"), "goes with e"),
        "no sign": (_changed(PLACES, "-(weights", "(weights"), "the sign is missing"),
        "inverse sum of squares": (
            "def effective_places(weights):\n    return 1 / (weights**2).sum(dim=-1)",
            "another measure of the same kind",
        ),
        "counted": ("def effective_places(weights):\n    return (weights > 0).float().sum(dim=-1)", "were counted"),
        "mean over queries": (_changed(PLACES, "2**entropy", "(2**entropy).mean(dim=-1)"), "one number a query"),
        "divided by N": (_changed(PLACES, "2**entropy", "2**entropy / weights.shape[-1]"), "divided by N"),
        "sum over queries": (_changed(PLACES, "sum(dim=-1)", "sum(dim=-2)"), "the sum runs over queries"),
    },
    "11.position_share": {
        "of the content": (_changed(SHARE, "(position * total)", "(content * total)"), "the share of the content"),
        "not centred": (
            _changed(
                SHARE,
                "content - content.mean(dim=-1, keepdim=True)",
                "content",
                "position - position.mean(dim=-1, keepdim=True)",
                "position",
            ),
            "not centred",
        ),
        "centred over queries": (_changed(SHARE, "dim=-1", "dim=-2"), "the mean was taken over queries"),
        "centred over the map": (_changed(SHARE, "dim=-1", "dim=(-2, -1)"), "one mean was taken off the whole map"),
        "centred over all": (
            _changed(SHARE, "dim=-1, keepdim=True", "dim=(0, 1, 2), keepdim=True"),
            "off all heads together",
        ),
        "no covariance": (_changed(SHARE, "(position * total)", "(position**2)"), "the covariance is missing: divided"),
        "variances added": (
            _changed(SHARE, "(position * total)", "(position**2)", "(total**2)", "(content**2 + position**2)"),
            "do not add up",
        ),
        "mean of shares": (
            _changed(
                SHARE,
                "(position * total).mean(dim=(1, 2)) / (total**2).mean(dim=(1, 2))",
                "((position * total).mean(dim=2) / (total**2).mean(dim=2)).mean(dim=1)",
            ),
            "the shares of single queries were averaged",
        ),
        "one number in all": (_changed(SHARE, "dim=(1, 2)", "dim=(0, 1, 2)"), "got shape"),
    },
    "11.which_head": {
        "keys taken for content": (_said(a="content"), "two queries: they are the same"),
        "content taken for keys": (_said(e="keys"), "two queries: they differ"),
        "position taken for content": (_said(d="content"), "its map does not change"),
        "both taken for content": (_said(b="content"), "is not shuffled along"),
        "content taken for both": (_said(e="both"), "its map is shuffled along"),
        "uniform taken for position": (_said(c="position"), "they are the same"),
        "keys taken for uniform": (_said(a="uniform"), "its map changes"),
        "a word that is none": (_said(a="sink"), "expected one of"),
        "right so far": (OPEN, "right so far; still open: 'b', 'd', 'e'"),
    },
    "11.without_head": {
        "zeros": (_changed(REMOVE, "0, 0] @ average", "0, 0] @ (0 * average)"), "brings zeros"),
        "no bias at all": (
            _changed(REMOVE, "torch.nn.Parameter(bias)", "torch.nn.Parameter(0 * bias)"),
            "the new bias is zero",
        ),
        "bias lost": (_changed(REMOVE, "bias + layer.output.bias.detach()", "bias"), "the bias of `output` was lost"),
        "every so many channels": (
            _changed(REMOVE, "slice(head * d, (head + 1) * d)", "slice(head, None, layer.num_heads)"),
            "channels of all heads",
        ),
        "counted from one": (
            _changed(REMOVE, "slice(head * d, (head + 1) * d)", "slice((head - 1) * d, head * d)"),
            "the head before it",
        ),
        "rows": (
            "def without_head(layer, head, average):\n"
            "    edited = copy.deepcopy(layer)\n"
            "    d = layer.depth_v // layer.num_heads\n"
            "    rows = slice(head * d, (head + 1) * d)\n"
            "    old = 0 if layer.output.bias is None else layer.output.bias.detach()\n"
            "    bias = torch.zeros(layer.depth_v) + old\n"
            "    weight = layer.output.weight.detach().clone()\n"
            "    weight[rows], bias[rows] = 0, average\n"
            "    edited.output = torch.nn.Conv2d(layer.depth_v, layer.depth_v, 1)\n"
            "    edited.output.weight, edited.output.bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)\n"
            "    return edited\n",
            "rows of the weight are output channels",
        ),
        "the given layer": (_changed(REMOVE, "copy.deepcopy(layer)", "layer"), "the layer that was given has changed"),
        "a hook": (HOOK, "a saved state would lose it"),
        "all heads": (_changed(REMOVE, "weight[:, channels] = 0", "weight[:] = 0"), "for a layer with"),
        "no layer": (_changed(REMOVE, "return edited", "return edited.output.weight"), "expected a layer, got"),
    },
}
