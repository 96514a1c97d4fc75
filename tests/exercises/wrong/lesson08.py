"""Wrong answers to the exercises of lesson 08: title → (source, words that the message must hold)."""

COUNT = """\
def se_parameters(channels, reduction):
    hidden = {}
    return {}
"""
HIDDEN = "max(1, channels // reduction)"
TOTAL = "2 * channels * hidden + hidden + channels"

KINDS = {"a": "ge", "b": "mixing", "c": "spatial", "d": "se", "e": "cbam"}
OPEN = """\
def kind_of(letter):
    return {"a": "ge", "b": ..., "c": "spatial", "d": ..., "e": ...}[letter]
"""

EXCITE = """\
def squeeze_excite(x, down, up):
    means = x.mean(dim=(2, 3))
    hidden = (means @ down.T).relu()
    weights = (hidden @ up.T).sigmoid()
    return x * weights[:, :, None, None]
"""

PIXELS = """\
def spatial_weights(x, kernel):
    mean = x.mean(dim=1, keepdim=True)
    maximum = x.amax(dim=1, keepdim=True)
    summary = torch.cat([mean, maximum], dim=1)
    padding = kernel.shape[-1] // 2
    return F.conv2d(summary, kernel, padding=padding).sigmoid()
"""


def _changed(source, *changes):
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in source, old
        source = source.replace(old, new)
    return source


def _said(**words):
    return f"def kind_of(letter):\n    return {KINDS | words!r}[letter]"


def _excite(*changes):
    return _changed(EXCITE, *changes)


def _pixels(*changes):
    return _changed(PIXELS, *changes)


WRONG = {
    "08.se_parameters": {
        "no biases": (COUNT.format(HIDDEN, "2 * channels * hidden"), "both layers have biases"),
        "no bias in the hidden layer": (COUNT.format(HIDDEN, "2 * channels * hidden + channels"), "hidden layer has a"),
        "no bias at the end": (COUNT.format(HIDDEN, "2 * channels * hidden + hidden"), "the second layer has a bias"),
        "no hidden unit left": (COUNT.format("channels // reduction", TOTAL), "one hidden unit is left, not none"),
        "rounded to the nearest": (COUNT.format("max(1, round(channels / reduction))", TOTAL), "not to the nearest"),
        "rounded up": (COUNT.format("-(-channels // reduction)", TOTAL), "not up"),
        "not rounded": (COUNT.format("channels / reduction", TOTAL), "must become a whole number"),
        "not rounded, with a minimum": (COUNT.format("max(1, channels / reduction)", TOTAL), "has the minimum, but"),
        "not rounded, with a minimum, no biases": (
            COUNT.format("max(1, channels / reduction)", "2 * channels * hidden"),
            "and the biases are missing",
        ),
        "2C² / r and biases": (
            COUNT.format(HIDDEN, "2 * channels**2 // reduction + hidden + channels"),
            "be whole first",
        ),
        "2C² / r, rounded down": (COUNT.format("None", "2 * channels**2 // reduction"), "2C² / r, rounded down"),
        "2C² / r, at least one": (COUNT.format("None", "max(1, 2 * channels**2 // reduction)"), "without biases"),
        "2C² / r": (COUNT.format("None", "2 * channels**2 / reduction"), "that is 2C² / r: the paper's"),
        "one layer": (COUNT.format(HIDDEN, "channels * hidden + hidden"), "only one layer"),
        "as a 3×3 convolution": (COUNT.format(HIDDEN, TOTAL.replace("2 *", "18 *")), "no kernel size"),
        "reduction as hidden units": (COUNT.format("reduction", TOTAL), "it divides the channels"),
        "a float": (COUNT.format(HIDDEN, "1.0 * (" + TOTAL + ")"), "no whole number"),
        "twice": (COUNT.format(HIDDEN, "2 * (" + TOTAL + ")"), "for se_parameters("),
    },
    "08.which_gate": {
        "SE and GE exchanged": (_said(a="se", d="ge"), "change channel 1 only"),
        "SE where a channel decides alone": (_said(a="se"), "in this layer nothing happens there"),
        "GE where channels decide together": (_said(d="ge"), "in this layer its weight changes"),
        "content attention taken for SE": (_said(b="se"), "come out shuffled, as with 'se', but values move"),
        "content attention taken for GE": (_said(b="ge"), "come out shuffled, as with 'ge', but values move"),
        "content attention taken for CBAM": (_said(b="cbam"), "'cbam': values move: set all pixels but one to zero"),
        "content attention taken for spatial": (_said(b="spatial"), "count the pixels that are not zero"),
        "spatial taken for CBAM": (_said(c="cbam"), "the same for all channels of a pixel"),
        "CBAM taken for spatial": (_said(e="spatial"), "differ between the channels of one pixel"),
        "CBAM taken for SE": (_said(e="se"), "differ between the pixels of one channel"),
        "SE taken for spatial": (_said(d="spatial"), "the same at all pixels of a channel"),
        "a gate taken for mixing": (_said(e="mixing"), "a pixel of zeros stays zero"),
        "another word": (_said(e="attention"), "expected one of"),
        "some left open": (OPEN, "right so far; still open: 'b', 'd', 'e'"),
        "some left open, one wrong": (OPEN.replace('"spatial"', '"se"'), "'c' is not 'se'"),
        "a letter forgotten": ('def kind_of(letter):\n    return {"a": "ge"}[letter]', "no answer for 'b'"),
        "a dictionary": (f"kind_of = {KINDS}", "expected the function"),
    },
    "08.squeeze_excite": {
        "no ReLU": (_excite(".relu()", ""), "the ReLU between"),
        "sigmoid inside": (_excite(".relu()", ".sigmoid()"), "a sigmoid stands between"),
        "maximum": (_excite("x.mean(", "x.amax("), "takes the maximum"),
        "sum": (_excite("x.mean(", "x.sum("), "takes the sum"),
        "mean over the batch": (
            _excite("x.mean(dim=(2, 3))", "x.mean(dim=(0, 2, 3)).expand(len(x), -1)"),
            "over the pictures of the batch",
        ),
        "softmax": (_excite("(hidden @ up.T).sigmoid()", "(hidden @ up.T).softmax(dim=1)"), "softmax makes channels"),
        "no sigmoid": (_excite("(hidden @ up.T).sigmoid()", "hidden @ up.T"), "the last sigmoid is missing"),
        "ReLU at the end": (_excite("up.T).sigmoid()", "up.T).relu()"), "a ReLU stands at the end"),
        "weights alone": (_excite("x * weights[:, :, None, None]", "weights"), "multiply the input by them"),
        "weights alone, four axes": (_excite("x * weights", "weights"), "multiply the input by them (and"),
        "added": (_excite("x * weights", "x + weights"), "were added to the input"),
        "shortcut inside": (_excite("return x *", "return x + x *"), "the shortcut is the block's"),
        "biases": (_excite("down.T)", "down.T + 1)"), "entry ["),
        "second ReLU": (_excite("up.T).sigmoid()", "up.T).relu().sigmoid()"), "a second ReLU"),
        "down not transposed": (_excite("down.T", "down"), "so it is means @ down.T"),
        "up not transposed": (_excite("up.T", "up"), "so it is hidden @ up.T"),
        "neither transposed": (_excite("down.T", "down", "up.T", "up"), "both must be transposed"),
        "axes missing": (_excite("weights[:, :, None, None]", "weights"), "need two axes of size one"),
        "means detached": (_excite("means = x.mean", "means = x.detach().mean"), "the means were detached"),
        "picture detached": (_excite("x * weights", "x.detach() * weights"), "gradient of `x` is not"),
        "in place": (
            _excite("return x * weights[:, :, None, None]", "return x.mul_(weights[:, :, None, None])"),
            "in place",
        ),
    },
    "08.spatial_weights": {
        "maximum first": (_pixels("[mean, maximum]", "[maximum, mean]"), "the maximum came first"),
        "sum": (_pixels("x.mean(", "x.sum("), "the sum over channels"),
        "minimum": (_pixels("x.amax(", "x.amin("), "the minimum"),
        "mean of absolute values": (_pixels("x.mean(", "x.abs().mean("), "mean of the absolute values"),
        "maximum of absolute values": (_pixels("x.amax(", "x.abs().amax("), "maximum of the absolute values"),
        "mean over the pixels": (
            _pixels(
                "x.mean(dim=1, keepdim=True)",
                "x.mean(dim=(2, 3), keepdim=True).expand_as(x).mean(dim=1, keepdim=True)",
                "x.amax(dim=1, keepdim=True)",
                "x.mean(dim=(2, 3), keepdim=True).expand_as(x).amax(dim=1, keepdim=True)",
            ),
            "run over the pixels",
        ),
        "mean over the batch": (
            _pixels("x.mean(dim=1, keepdim=True)", "x.mean(dim=(0, 1), keepdim=True).expand(len(x), -1, -1, -1)"),
            "over the pictures of the batch",
        ),
        "no sigmoid": (_pixels(".sigmoid()", ""), "the sigmoid is missing"),
        "no padding": (_pixels("kernel.shape[-1] // 2", "0"), "the padding is missing"),
        "padding of one": (_pixels("kernel.shape[-1] // 2", "1"), "padding=1 fits a kernel of 3 only"),
        "padding of three": (_pixels("kernel.shape[-1] // 2", "3"), "padding=3 fits a kernel of 7 only"),
        "border repeated": (
            _pixels(
                "F.conv2d(summary, kernel, padding=padding)",
                "F.conv2d(F.pad(summary, [padding] * 4, mode='replicate'), kernel)",
            ),
            "were repeated outside the picture",
        ),
        "values and places": (_pixels("x.amax(", "x.max("), "gives a pair, the maxima and where they stand"),
        "kernel turned": (_pixels("(summary, kernel,", "(summary, kernel.flip(2, 3),"), "half a turn"),
        "kernel transposed": (_pixels("(summary, kernel,", "(summary, kernel.mT,"), "rows and columns are swapped"),
        "scaled picture": (_pixels("return F", "return x * F"), "times the weights"),
        "softmax over pixels": (
            _pixels(".sigmoid()", ".flatten(2).softmax(dim=-1).unflatten(2, x.shape[2:])"),
            "entry [",
        ),
        "detached": (_pixels("maximum = x.amax", "maximum = x.detach().amax"), "gradient of `x`"),
    },
}
