"""Wrong answers to the exercises of lesson 07: title → (source, words that the message must hold)."""

SIZES = """\
def map_sizes(side, stem):
    if stem == "large":
        side = ((side + 1) // 2 + 1) // 2
    sizes = [side]
    for _ in range(3):
        sizes.append((sizes[-1] + 1) // 2)
    return sizes
"""

COUNT = """\
def bottleneck_parameters(in_channels, channels, depth_k, depth_v, num_heads, height, width):
    out_channels = 4 * channels
    down_and_up = in_channels * channels + channels * out_channels
    conv = 9 * channels * (channels - depth_v)
    attention = channels * (2 * depth_k + depth_v) + depth_v * depth_v
    tables = ((2 * height - 1) + (2 * width - 1)) * (depth_k // num_heads)
    norms = 2 * (channels + channels + out_channels)
    shortcut = in_channels * out_channels + 2 * out_channels if in_channels != out_channels else 0
    return down_and_up + conv + attention + tables + norms + shortcut
"""

STAGES = """\
def affordable_stages(sizes, blocks, num_heads, batch_size, budget):
    chosen = []
    for stage in range(len(sizes), 0, -1):
        H, W = sizes[stage - 1]
        need = 4 * blocks[stage - 1] * batch_size * num_heads * (H * W) ** 2
        if need > budget:
            break
        budget -= need
        chosen.insert(0, stage)
    return chosen
"""

AUGMENT = """\
def augment(model, image_size, options):
    names = ["layer2", "layer3", "layer4"]
    maps = aacn.feature_maps(model, torch.zeros(1, 3, *image_size), ["conv1", "layer1", *names])
    for name in names:
        for block in getattr(model, name):
            size = tuple(maps[name].shape[2:])
            for which in ("conv1", "conv2", "conv3"):
                old = getattr(block, which, None)
                if old is not None and old.kernel_size == (3, 3):
                    settings = options | {"stride": old.stride[0], "feature_size": size, "bias": False}
                    setattr(block, which, aacn.AAConv2d(old.in_channels, old.out_channels, 3, **settings))
                    break
    return model
"""


def _changed(source, *changes):
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in source, old
        source = source.replace(old, new)
    return source


def _sizes(*changes):
    return _changed(SIZES, *changes)


def _count(*changes):
    return _changed(COUNT, *changes)


def _stages(*changes):
    return _changed(STAGES, *changes)


def _augment(*changes):
    return _changed(AUGMENT, *changes)


WRONG = {
    "07.map_sizes": {
        "rounded down": (
            _sizes("((side + 1) // 2 + 1) // 2", "side // 4", "(sizes[-1] + 1) // 2", "sizes[-1] // 2"),
            "rounded down",
        ),
        "floats": (
            _sizes("((side + 1) // 2 + 1) // 2", "side / 4", "(sizes[-1] + 1) // 2", "sizes[-1] / 2"),
            "no whole numbers",
        ),
        "no max-pool": (_sizes("((side + 1) // 2 + 1) // 2", "(side + 1) // 2"), "max-pool"),
        "no stem": (_sizes('stem == "large"', "False"), "the stem is missing"),
        "always the large stem": (_sizes('stem == "large"', "True"), "keeps the resolution"),
        "stems exchanged": (_sizes('"large"', '"small"'), "the stems are exchanged"),
        "stage 1 halved": (_sizes("[side]", "[(side + 1) // 2]"), "stage 1 was halved"),
        "the stem's map as well": (
            _sizes("sizes = [side]", "sizes = [side, side]").replace('stem == "large"', 'stem == "large" and side > 0'),
            "5 parts",
        ),
        "the picture as well": (
            _sizes("    if stem", "    picture = side\n    if stem", "return sizes", "return [picture, *sizes]"),
            "a fifth",
        ),
        "last first": (_sizes("return sizes", "return sizes[::-1]"), "stage 1 first"),
        "pixels": (_sizes("return sizes", "return [n * n for n in sizes]"), "number of pixels"),
        "three sizes": (_sizes("range(3)", "range(2)"), "3 parts"),
    },
    "07.bottleneck_parameters": {
        "no shortcut": (_count(" + shortcut\n", "\n"), "the shortcut's convolution is missing"),
        "no norm on the shortcut": (_count(" + 2 * out_channels if", " if"), "the shortcut's batch norm"),
        "always a convolution on the shortcut": (
            _count(" if in_channels != out_channels else 0", ""),
            "every shortcut",
        ),
        "no norms": (
            _count("2 * (channels + channels + out_channels)", "0", " + 2 * out_channels", ""),
            "norms are missing",
        ),
        "half a norm": (
            _count("2 * (channels + channels", "1 * (channels + channels", " + 2 * out_channels", " + out_channels"),
            "looks as if one was counted",
        ),
        "buffers counted": (
            _count(
                "2 * (channels + channels", "4 * (channels + channels", " + 2 * out_channels", " + 4 * out_channels"
            ),
            "buffers",
        ),
        "biases": (
            _count(
                "return down_and_up",
                "biases = channels + channels - depth_v + 2 * depth_k + depth_v + depth_v + out_channels\n"
                "    biases += out_channels if in_channels != out_channels else 0\n"
                "    return biases + down_and_up",
            ),
            "biases were counted",
        ),
        "no tables": (_count(" + tables", ""), "the tables are missing"),
        "tables a head": (_count("(depth_k // num_heads)", "depth_k"), "once for every head"),
        "tables of 2H and 2W": (_count("2 * height - 1", "2 * height", "2 * width - 1", "2 * width"), "distance 0"),
        "a full 3×3 convolution": (_count("(channels - depth_v)", "channels"), "with all channels"),
        "three weights a kernel": (_count("9 * channels", "3 * channels"), "nine weights"),
        "no attention": (_count(" + attention + tables", ""), "attention branch is missing"),
        "no projection": (_count(" + depth_v * depth_v", ""), "output projection is missing"),
        "qkv from in_channels": (
            _count("channels * (2 * depth_k + depth_v)", "in_channels * (2 * depth_k + depth_v)"),
            "qkv was counted from",
        ),
        "no keys": (_count("2 * depth_k + depth_v", "depth_k + depth_v"), "keys were not"),
        "tables both of the height": (_count("2 * width - 1", "2 * height - 1"), "sized by the height"),
        "one table": (
            _count("(2 * height - 1) + (2 * width - 1)", "(2 * height - 1) * (2 * width - 1)"),
            "one table of",
        ),
        "projection to all channels": (
            _count("depth_v * depth_v", "depth_v * channels"),
            "the output projection was counted to",
        ),
        "no way up": (
            _count("channels * out_channels\n", "channels * channels\n"),
            "the last 1×1 convolution was counted to",
        ),
        "no expansion": (
            _count("out_channels = 4 * channels", "out_channels = channels"),
            "for bottleneck_parameters(",
        ),
    },
    "07.affordable_stages": {
        "falling order": (_stages("chosen.insert(0, stage)", "chosen.append(stage)"), "in rising order"),
        "from 0": (_stages("chosen.insert(0, stage)", "chosen.insert(0, stage - 1)"), "numbered from 0"),
        "how many": (_stages("return chosen", "return len(chosen)"), "the number of stages"),
        "from the front": (
            _stages("range(len(sizes), 0, -1)", "range(1, len(sizes) + 1)", "insert(0, stage)", "append(stage)"),
            "from the front",
        ),
        "skips": (_stages("break", "continue"), "was skipped"),
        "each alone": (
            _stages("            break\n        budget -= need\n", "            continue\n"),
            "whole budget",
        ),
        "nothing taken off": (_stages("        budget -= need\n", ""), "taken off the budget"),
        "strictly less": (_stages("need > budget", "need >= budget"), "last byte"),
        "pixels not squared": (_stages("(H * W) ** 2", "H * W"), "squared"),
        "numbers, not bytes": (_stages("4 * blocks", "blocks"), "4 bytes"),
        "no heads": (_stages(" * num_heads", ""), "the heads are missing"),
        "no batch": (_stages(" * batch_size", ""), "the batch is missing"),
        "no blocks": (_stages(" * blocks[stage - 1]", ""), "the blocks are missing"),
        "twice the pixels": (_stages("(H * W) ** 2", "(H * W) * 2"), "twice the pixels"),
        "no heads, no batch": (_stages(" * batch_size * num_heads", ""), "the heads and the batch are missing"),
        "one too many": (
            _stages("            break\n", "            return [stage, *chosen]\n"),
            "taken along",
        ),
        "MiB": (_stages("(H * W) ** 2", "(H * W) ** 2 / 2**20"), "MiB"),
        "no blocks, each alone": (
            _stages(
                " * blocks[stage - 1]", "", "            break\n        budget -= need\n", "            continue\n"
            ),
            "the blocks are missing",
        ),
        "double precision": (_stages("4 * blocks", "8 * blocks"), "for affordable_stages("),
    },
    "07.augment": {
        "nothing returned": (_augment("    return model\n", ""), "return"),
        "nothing exchanged": (
            "def augment(model, image_size, options):\n    return model\n",
            "no layer is an AAConv2d",
        ),
        "a new network": (
            "def augment(model, image_size, options):\n"
            '    return aacn.create_model("aa_resnet18", 7, image_size, width=4, num_heads=2)\n',
            "not made with `options`",
        ),
        "all stages": (
            _augment('names = ["layer2"', 'names = ["layer1", "layer2"', '"layer1", *names', "*names"),
            "layer1 was augmented",
        ),
        "the last stage only": (
            _augment("for name in names:", "for name in names[2:]:"),
            "layer2.0.conv1 is not augmented",
        ),
        "both convolutions": (_augment("                    break\n", ""), "both 3×3 convolutions"),
        "the second convolution": (_augment('("conv1", "conv2", "conv3")', '("conv2",)'), "the second 3×3"),
        "always conv1": (
            _augment('("conv1", "conv2", "conv3")', '("conv1",)', "old.kernel_size == (3, 3)", "True"),
            "a 1×1 convolution was augmented",
        ),
        "basic blocks only": (_augment('("conv1", "conv2", "conv3")', '("conv1",)'), "with bottlenecks no layer"),
        "the first block only": (
            _augment("getattr(model, name):", "getattr(model, name)[:1]:"),
            "only the first block",
        ),
        "not the first block": (_augment("getattr(model, name):", "getattr(model, name)[1:]:"), "with the stride"),
        "no stride": (_augment("old.stride[0]", "1"), "has stride 1"),
        "another kernel": (_augment("old.out_channels, 3,", "old.out_channels, 5,"), "a kernel of size 5"),
        "biases": (_augment(', "bias": False', ""), "has biases"),
        "options forgotten": (
            _augment("settings = options | {", 'settings = {"key_ratio": 0.25, "value_ratio": 0.25, '),
            "`options`",
        ),
        "sizes of the picture": (_augment("tuple(maps[name].shape[2:])", "image_size"), "size of the picture"),
        "sizes of the input": (
            _augment(
                "            size = ",
                "            size = (2 * maps[name].shape[2], 2 * maps[name].shape[3])\n            _ = ",
            ),
            "*output* map",
        ),
        "height and width": (_augment("shape[2:]", "shape[:1:-1]"), "height and width are swapped"),
        "rounded down": (
            _augment(
                "            size = ",
                "            halvings = int(name[-1]) - 1 + (2 if model.conv1.kernel_size == (7, 7) else 0)\n"
                "            size = tuple(side // 2**halvings for side in image_size)\n            _ = ",
            ),
            "rounds up",
        ),
        "ran in training mode": (
            _augment(
                "    for name in names:", "    model.train()(torch.zeros(2, 3, *image_size))\n    for name in names:"
            ),
            "training mode",
        ),
        "weights drawn anew": (
            _augment("    for name in names:", "    model.fc.reset_parameters()\n    for name in names:"),
            "has other numbers",
        ),
        "another head": (
            _augment("    return model", "    model.fc = nn.Sequential(model.fc)\n    return model"),
            "added or taken away",
        ),
        "the library's blocks only": (
            _augment(
                "            for which in",
                "            first = isinstance(block, aacn.models.resnet.BasicBlock)\n            for which in",
                '("conv1", "conv2", "conv3")',
                '("conv1",) if first else ("conv2",)',
            ),
            "with torchvision's resnet18",
        ),
        "the library's gate": (
            _augment(
                "            size = ",
                "            gate = block.gate\n            size = ",
            ),
            "AttributeError",
        ),
        "a pair as stride": (_augment("old.stride[0]", "old.stride"), "a pair"),
        "no options": (_augment("options | {", "{"), "built without `options`"),
        "a class": ("augment = 'aa_resnet18'", "expected the function"),
    },
}
