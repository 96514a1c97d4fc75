"""Wrong answers to the exercises of lesson 10: title → (source, words that the message must hold)."""

BLOCK = """\
def wide_block_parameters(in_channels, channels, stride):
    norms = 2 * in_channels + 2 * channels
    convolutions = 9 * in_channels * channels + 9 * channels * channels
    shortcut = in_channels * channels if stride > 1 or in_channels != channels else 0
    return norms + convolutions + shortcut
"""

SCORES = """\
def bytes_of_scores(batch_size, num_heads, height, width, precision):
    bytes_each = {"float32": 4, "bfloat16": 2, "float16": 2}[precision]
    return batch_size * num_heads * (height * width) ** 2 * bytes_each
"""

SETTINGS = """\
def settings_for(batch_size, learning_rate, devices, capability, memory, fixed_bytes, picture_bytes):
    share = -(-batch_size // devices)
    at_once = (memory - fixed_bytes) // picture_bytes
    return {
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "accumulate": -(-share // at_once),
        "precision": "bfloat16" if capability[0] >= 8 else "float16",
    }
"""

ACCUMULATE = """\
def accumulate_gradients(model, images, labels, size):
    model.zero_grad()
    total = 0.0
    for x, y in zip(images.split(size), labels.split(size), strict=True):
        loss = F.cross_entropy(model(x), y, reduction="sum") / len(images)
        loss.backward()
        total += loss.item()
    return total
"""


def _changed(source, *changes):
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in source, old
        source = source.replace(old, new)
    return source


def _block(*changes):
    return _changed(BLOCK, *changes)


def _scores(*changes):
    return _changed(SCORES, *changes)


def _settings(*changes):
    return _changed(SETTINGS, *changes)


def _accumulate(*changes):
    return _changed(ACCUMULATE, *changes)


WRONG = {
    "10.wide_block_parameters": {
        "norms after the convolutions": (_block("2 * in_channels + 2", "2 * channels + 2"), "before the first"),
        "second norm on in_channels": (_block("+ 2 * channels", "+ 2 * in_channels"), "between the convolutions"),
        "no norms": (_block("norms + ", ""), "norms are missing"),
        "one number a channel": (_block("2 * in_channels + 2 * channels", "in_channels + channels"), "a shift"),
        "buffers": (_block("2 * in_channels + 2 * channels", "4 * (in_channels + channels)"), "buffers"),
        "no shortcut": (_block(" + shortcut\n", "\n"), "the shortcut is missing"),
        "always a shortcut": (_block(" if stride > 1 or in_channels != channels else 0", ""), "every shortcut"),
        "stride ignored": (_block("stride > 1 or ", ""), "on the stride, too"),
        "channels ignored": (_block(" or in_channels != channels", ""), "on the channels, too"),
        "norm on the shortcut": (
            _block("in_channels * channels if", "in_channels * channels + 2 * channels if"),
            "no batch norm",
        ),
        "biases": (_block("norms + conv", "norms + 2 * channels + (channels if shortcut else 0) + conv"), "biases"),
        "biases of the two 3×3": (_block("norms + conv", "norms + 2 * channels + conv"), "neither 3×3"),
        "second convolution from in_channels": (
            _block("9 * channels * channels", "9 * in_channels * channels"),
            "the second convolution reads",
        ),
        "one convolution": (_block(" + 9 * channels * channels", ""), "has two"),
    },
    "10.bytes_of_scores": {
        "pixels not squared": (_scores("(height * width) ** 2", "height * width"), "squared: there is a score"),
        "one side squared": (_scores("(height * width) ** 2", "height * width ** 2"), "only one side"),
        "a square map of the height": (_scores("(height * width) ** 2", "height**4"), "not height²"),
        "a square map of the width": (_scores("(height * width) ** 2", "width**4"), "not width²"),
        "no heads": (_scores(" * num_heads", ""), "heads are missing"),
        "no batch": (_scores("batch_size * num_heads", "num_heads"), "batch is missing"),
        "numbers": (_scores(" * bytes_each", ""), "numbers, not bytes"),
        "bits": (_scores("bytes_each\n", "8 * bytes_each\n"), "those are bits"),
        "four bytes always": (_scores(": 2", ": 4"), "was left out"),
        "bfloat16 of four bytes": (_scores('"bfloat16": 2', '"bfloat16": 4'), "as well"),
        "two bytes always": (_scores(": 4", ": 2"), "float32 takes"),
        "half of the pairs": (_scores("bytes_each\n", "bytes_each // 2\n"), "not symmetric"),
        "a share of the memory": (_scores("return ", "return 3 * "), "for bytes_of_scores("),
    },
    "10.settings_for": {
        "batch of one device": (_settings('"batch_size": batch_size', '"batch_size": share'), "by the devices"),
        "batch of one device, rounded down": (
            _settings('"batch_size": batch_size', '"batch_size": batch_size // devices'),
            "leave it whole",
        ),
        "batch of one piece": (
            _settings('"batch_size": batch_size', '"batch_size": -(-batch_size // -(-share // at_once))'),
            "you do not",
        ),
        "batch that fits": (_settings('"batch_size": batch_size', '"batch_size": devices * at_once'), "another one"),
        "rate divided": (_settings(": learning_rate", ": learning_rate / -(-share // at_once)"), "divided by accum"),
        "rate times pieces": (_settings(": learning_rate", ": learning_rate * -(-share // at_once)"), "did not grow"),
        "rate times devices": (_settings(": learning_rate", ": learning_rate * devices"), "by the devices"),
        "always bfloat16": (_settings(' if capability[0] >= 8 else "float16"', ""), "in software"),
        "always float16": (_settings('"bfloat16" if capability[0] >= 8 else ', ""), "in hardware"),
        "exchanged": (_settings(">= 8", "< 8"), "exchanged"),
        "float32 on a T4": (_settings('else "float16"', 'else "float32"'), "half the memory"),
        "auto": (_settings('"bfloat16" if capability[0] >= 8 else "float16"', '"auto"'), "write the format out"),
        "nothing fixed": (_settings("(memory - fixed_bytes)", "memory"), "fixed bytes are missing"),
        "devices forgotten": (_settings("-(-batch_size // devices)", "batch_size"), "devices are missing"),
        "rounded down": (_settings("-(-share // at_once)", "max(1, share // at_once)"), "rounded down"),
        "share rounded down": (_settings("-(-batch_size // devices)", "batch_size // devices"), "one picture more"),
        "equal pieces": (
            _settings(
                "-(-share // at_once)",
                "next(k for k in range(1, share + 1) if share % k == 0 and share // k <= at_once)",
            ),
            "need not be equal",
        ),
        "one too many": (_settings("-(-share // at_once)", "share // at_once + 1"), "one piece too many"),
        "picture by picture": (_settings("-(-share // at_once)", "share"), "as small as possible"),
        "what fits": (_settings("-(-share // at_once)", "at_once"), "number of pieces"),
        "an entry forgotten": (_settings('        "learning_rate": learning_rate,\n', ""), "the keys"),
    },
    "10.accumulate_gradients": {
        "old gradients kept": (_accumulate("    model.zero_grad()\n", ""), "not forgotten"),
        "zeroed in the loop": (
            _accumulate("        loss = ", "        model.zero_grad()\n        loss = "),
            "not into the loop",
        ),
        "zeroed in the loop, means": (
            _accumulate(
                "        loss = ", "        model.zero_grad()\n        loss = ", ', reduction="sum") / len(images)', ")"
            ),
            "not into the loop",
        ),
        "sum of means": (_accumulate(', reduction="sum") / len(images)', ")"), "without a division"),
        "mean of means": (
            _accumulate(', reduction="sum") / len(images)', ") / len(images.split(size))"),
            "mean of the pieces' means",
        ),
        "sum of all": (_accumulate(" / len(images)", ""), "not divided by the number"),
        "divided by size": (_accumulate("/ len(images)", "/ size"), "divided by `size`"),
        "no backward": (_accumulate("        loss.backward()\n", ""), "backward()"),
        "nothing zeroed, no backward": (
            _accumulate("        loss.backward()\n", "", "    model.zero_grad()\n", ""),
            "the old ones",
        ),
        "the whole batch": (_accumulate("images.split(size)", "[images]", "labels.split(size)", "[labels]"), "at once"),
        "the last piece dropped": (
            _accumulate(
                "        loss = ",
                "        if len(y) < size and len(images) > size:\n            continue\n        loss = ",
            ),
            "smaller piece counts",
        ),
        "one backward at the end": (
            _accumulate(
                "        loss.backward()\n        total += loss.item()\n    return total",
                "        total += loss\n    total.backward()\n    return total.item()",
            ),
            "after each piece",
        ),
        "each piece twice": (_accumulate("loss = ", "model(x)\n        loss = "), "once is enough"),
        "takes the step": (
            _accumulate("    return total", "    torch.optim.SGD(model.parameters(), lr=0.1).step()\n    return total"),
            "weights have moved",
        ),
        "loss of the last piece": (
            _accumulate("return total", "return loss.item() * len(images) / len(y)"),
            "last piece",
        ),
        "share of the last piece": (_accumulate("return total", "return loss.item()"), "last piece's share"),
        "summed loss": (_accumulate("return total", "return total * len(images)"), "divide by their number"),
        "other loss": (_accumulate("return total", "return total + 1"), "expected"),
        "nothing returned": (_accumulate("    return total\n", ""), "return"),
    },
}
