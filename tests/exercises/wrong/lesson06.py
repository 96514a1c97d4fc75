"""Wrong answers to the exercises of lesson 06: title → (source, words that the message must hold)."""

COUNT = """\
def attention_flops(height, width, num_heads, depth_k, depth_v):
    return {}
"""

PIECES = """\
def attend_in_pieces(pieces):
    top, total, weighted = torch.tensor(-torch.inf), 0.0, 0.0
    for logits, values in pieces:
        new_top = torch.maximum(top, logits.max())
        shrink = torch.exp(top - new_top)
        weights = torch.exp(logits - new_top)
        total = total * shrink + weights.sum()
        weighted = weighted * shrink + weights @ values
        top = new_top
    mean = weighted / total
    log_sum = top + torch.log(total)
    return mean, log_sum
"""

POWER = """\
def power_of_two(x):
    n = torch.round(x)
    rest = x - n
    whole = ((n.to(torch.int32) + 127) * 2**23).view(torch.float32)
    y, series, term = rest * math.log(2), 1.0, 1.0
    for k in range(1, 7):
        term = term * y / k
        series = series + term
    return whole * series
"""

LONGER = """\
def augmented_query_key(q, k, rel_h, rel_w):
    H, W, d = q.shape
    rows = torch.einsum("yxd,yjd->yxj", q, rel_h[aacn.relative_index(H)])
    columns = torch.einsum("yxd,xjd->yxj", q, rel_w[aacn.relative_index(W)])
    at_row = torch.eye(H)[:, None, :].expand(H, W, H)
    at_column = torch.eye(W)[None, :, :].expand(H, W, W)
    longer_q = torch.cat([q, rows, columns], dim=2).flatten(0, 1)
    longer_k = torch.cat([k, at_row, at_column], dim=2).flatten(0, 1)
    return longer_q, longer_k
"""


def _changed(source, *changes):
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in source, old
        source = source.replace(old, new)
    return source


def _pieces(*changes):
    return _changed(PIECES, *changes)


def _power(*changes):
    return _changed(POWER, *changes)


def _longer(*changes):
    return _changed(LONGER, *changes)


WRONG = {
    "06.count_flops": {
        "multiply-adds": (COUNT.format("(height * width) ** 2 * (depth_k + depth_v)"), "two FLOPs"),
        "times the heads": (
            COUNT.format("2 * num_heads * (height * width) ** 2 * (depth_k + depth_v)"),
            "heads were counted twice",
        ),
        "one head": (COUNT.format("2 * (height * width) ** 2 * (depth_k + depth_v) // num_heads"), "one head"),
        "no square": (COUNT.format("2 * height * width * (depth_k + depth_v)"), "square is missing"),
        "only the width squared": (COUNT.format("2 * height * width**2 * (depth_k + depth_v)"), "one side"),
        "only the height squared": (COUNT.format("2 * height**2 * width * (depth_k + depth_v)"), "one side"),
        "height plus width": (
            COUNT.format("2 * (height + width) ** 2 * (depth_k + depth_v)"),
            "not height + width",
        ),
        "logits only": (COUNT.format("2 * (height * width) ** 2 * depth_k"), "weighted sums are missing"),
        "sums only": (COUNT.format("2 * (height * width) ** 2 * depth_v"), "logits are missing"),
        "depths multiplied": (COUNT.format("2 * (height * width) ** 2 * depth_k * depth_v"), "are added"),
        "keys counted again": (
            COUNT.format("2 * (height * width) ** 2 * (2 * depth_k + depth_v)"),
            "one product of a query with a key",
        ),
        "with the backward pass": (
            COUNT.format("3 * 2 * (height * width) ** 2 * (depth_k + depth_v)"),
            "for attention_flops(",
        ),
    },
    "06.running_softmax": {
        "never scaled": (
            _pieces("total * shrink", "total", "weighted * shrink", "weighted"),
            "not scaled when the maximum rises",
        ),
        "weighted sum not scaled": (_pieces("weighted * shrink", "weighted"), "weighted sum of the values must, too"),
        "sum not scaled": (_pieces("total * shrink", "total"), "sum of exponentials must, too"),
        "scaled the wrong way": (
            _pieces("torch.exp(top - new_top)", "torch.exp(new_top - top)"),
            "grow where they must shrink",
        ),
        "no maximum": (
            _pieces("new_top = torch.maximum(top, logits.max())", "top = new_top = torch.tensor(0.0)"),
            "overflow",
        ),
        "the maximum of the piece only": (
            _pieces("torch.maximum(top, logits.max())", "logits.max()"),
            "the latest piece alone",
        ),
        "the maximum begins at 0": (_pieces("torch.tensor(-torch.inf)", "torch.tensor(0.0)"), "begins at 0"),
        "a mean of means": (
            "def attend_in_pieces(pieces):\n"
            "    means, sums = [], []\n"
            "    for logits, values in pieces:\n"
            "        means.append(logits.softmax(0) @ values)\n"
            "        sums.append(logits.logsumexp(0))\n"
            "    return torch.stack(means).mean(0), torch.stack(sums).logsumexp(0)\n",
            "were averaged",
        ),
        "not divided": (_pieces("weighted / total", "weighted"), "not divided by the sum"),
        "log of the sum": (_pieces("top + torch.log(total)", "torch.log(total)"), "the maximum is missing"),
        "the maximum": (_pieces("top + torch.log(total)", "top"), "that is the maximum"),
        "the sum": (_pieces("top + torch.log(total)", "total"), "not its logarithm"),
        "maximum subtracted": (_pieces("top + torch.log(total)", "torch.log(total) - top"), "must be added"),
        "exchanged": (_pieces("return mean, log_sum", "return log_sum, mean"), "the order is"),
        "only the last piece": (
            _pieces(
                "total * shrink + ", "", "weighted * shrink + ", "", "torch.maximum(top, logits.max())", "logits.max()"
            ),
            "only the last piece",
        ),
        "return in the loop": (
            _pieces(
                "    mean =",
                "        mean =",
                "    log_sum =",
                "        log_sum =",
                "    return mean",
                "        return mean",
            ),
            "inside the loop",
        ),
        "all pieces kept": (
            "def attend_in_pieces(pieces):\n"
            "    logits, values = (torch.cat(parts) for parts in zip(*pieces))\n"
            "    return logits.softmax(0) @ values, logits.logsumexp(0)\n",
            "still held",
        ),
        "two walks": (
            "def attend_in_pieces(pieces):\n"
            "    log_sum = torch.tensor(-torch.inf)\n"
            "    for logits, _ in pieces:\n"
            "        log_sum = torch.logaddexp(log_sum, logits.logsumexp(0))\n"
            "    mean = sum(torch.exp(logits - log_sum) @ values for logits, values in pieces)\n"
            "    return mean, log_sum\n",
            "walked through twice",
        ),
        "a slip in log_sum": (_pieces("top + torch.log(total)", "top + torch.log(total) + 0.1"), "): log_sum: got"),
        "a slip in the mean": (_pieces("weighted / total", "weighted / total + 0.1"), "): mean: entry"),
        "mean only": (_pieces("return mean, log_sum", "return mean"), "expected a tuple"),
    },
    "06.power_of_two": {
        "no bias": (_power(" + 127", ""), "bias is missing"),
        "bias of 128": (_power("127", "128"), "not 128"),
        "bias of 126": (_power("127", "126"), "not 126"),
        "another shift": (_power("2**23", "2**22"), "begins at bit 23"),
        "number instead of bits": (_power(".view(torch.float32)", ".to(torch.float32)"), "keeps the bits"),
        "number instead of bits, split by floor": (
            _power("torch.round", "torch.floor", ".view(torch.float32)", ".float()", "range(1, 7)", "range(1, 12)"),
            "`.float()` and `.to` convert",
        ),
        "shift first": (
            _power("(n.to(torch.int32) + 127) * 2**23", "(n.to(torch.int32) * 2**23 + 127)"),
            "add 127 first",
        ),
        "shift first, split by floor": (
            _power(
                "torch.round", "torch.floor", "(n.to(torch.int32) + 127) * 2**23", "((n.to(torch.int32) << 23) + 127)"
            ),
            "add 127 first",
        ),
        "64 bits": (_power("torch.int32", "torch.int64"), "torch.int32"),
        "left as whole numbers": (
            _power(".view(torch.float32)", "", "return whole * series", "return whole"),
            "expected float32",
        ),
        "e instead of 2": (_power("rest * math.log(2)", "rest"), "factor ln 2"),
        "log2 of e": (_power("rest * math.log(2)", "rest / math.log(2)"), "log₂ e"),
        "whole part only": (_power("return whole * series", "return whole"), "rest is left out"),
        "whole part below": (
            _power("torch.round", "torch.floor", "return whole * series", "return whole"),
            "next whole n below",
        ),
        "sign of the rest": (_power("rest = x - n", "rest = n - x"), "wrong sign"),
        "two roundings": (_power("rest = x - n", "rest = x - torch.floor(x)"), "another whole number"),
        "no factorials": (
            _power("term = term * y / k", "term = y**k / k", "range(1, 7)", "range(1, 12)"),
            "k!",
        ),
        "two terms": (_power("range(1, 7)", "range(1, 2)"), "too short"),
        "five terms": (_power("range(1, 7)", "range(1, 5)"), "too short"),
        "few terms and a rest up to one": (
            _power("torch.round", "torch.floor", "range(1, 7)", "range(1, 5)"),
            "too short",
        ),
        "exp2": ("def power_of_two(x):\n    return torch.exp2(x)\n", "uses exp2"),
        "a power": ("def power_of_two(x):\n    return 2**x\n", "exponent"),
        "torch.pow": ("def power_of_two(x):\n    return torch.pow(torch.tensor(2.0), x)\n", "exponent"),
        "exp of the rest": (_power("return whole * series", "return whole * torch.exp(y)"), "uses exp"),
        "another constant": (_power("rest * math.log(2)", "rest * 0.7"), "relative error is up to"),
        "in place": (
            "def power_of_two(x):\n    n = torch.round(x)\n" + POWER.split("\n", 2)[2].replace("x - n", "x.sub_(n)"),
            "in place",
        ),
        "no return": (_power("return whole", "whole"), "returned None"),
    },
    "06.augmented_query_key": {
        "one-hots exchanged": (_longer("[k, at_row, at_column]", "[k, at_column, at_row]"), "different orders"),
        "numbered by column": (
            _longer(
                "torch.eye(H)[:, None, :].expand(H, W, H)",
                "torch.eye(H)[torch.arange(H * W) % H].unflatten(0, (H, W))",
                "torch.eye(W)[None, :, :].expand(H, W, W)",
                "torch.eye(W)[torch.arange(H * W) // H].unflatten(0, (H, W))",
            ),
            "column by column",
        ),
        "positions only": (
            _longer("[q, rows", "[torch.zeros_like(q), rows"),
            "content is missing",
        ),
        "no rows": (_longer("[q, rows", "[q, torch.zeros_like(rows)"), "row logits are missing"),
        "no columns": (_longer("columns], dim", "0 * columns], dim"), "column logits are missing"),
        "mirrored": (
            _longer("relative_index(H)", "relative_index(H).T", "relative_index(W)", "relative_index(W).T"),
            "both tables",
        ),
        "rel_h mirrored": (_longer("relative_index(H)", "relative_index(H).T"), "rel_h is mirrored"),
        "rel_w mirrored": (_longer("relative_index(W)", "relative_index(W).T"), "rel_w is mirrored"),
        "not relative": (
            _longer(
                'torch.einsum("yxd,yjd->yxj", q, rel_h[aacn.relative_index(H)])',
                "q @ rel_h[H - 1 :].T",
                'torch.einsum("yxd,xjd->yxj", q, rel_w[aacn.relative_index(W)])',
                "q @ rel_w[W - 1 :].T",
            ),
            "as if it were the first pixel",
        ),
        "keys ask": (
            _longer('yxj", q, rel_h', 'yxj", k, rel_h', 'yxj", q, rel_w', 'yxj", k, rel_w'),
            "the query that asks",
        ),
        "exchanged": (
            _longer("return longer_q, longer_k", "return longer_k, longer_q"),
            "queries and keys are exchanged",
        ),
        "scaled": (_longer("return longer_q,", "return d**-0.5 * longer_q,"), "divided by √d: here they are"),
        "content scaled": (_longer("[q, rows", "[d**-0.5 * q, rows"), "only the content"),
        "positions scaled": (
            _longer("[q, rows, columns]", "[q, d**-0.5 * rows, d**-0.5 * columns]"),
            "only the position logits",
        ),
        "dropped without subtracting": (
            _longer(
                "[q, rows, columns]",
                "[q, rows[..., 1:], columns[..., 1:]]",
                "[k, at_row, at_column]",
                "[k, at_row[..., 1:], at_column[..., 1:]]",
            ),
            "were not subtracted",
        ),
        "not flattened": (_longer(".flatten(0, 1)", ""), "flatten them"),
        "all logits as a query": (
            _longer(
                "longer_k = torch.cat",
                "unused = torch.cat",
                "return longer_q, longer_k",
                "return longer_q @ unused.T, torch.eye(H * W)",
            ),
            "two columns less",
        ),
        "the whole tables": (
            _longer(
                "rel_h[aacn.relative_index(H)]",
                "rel_h.expand(H, -1, d)",
                "rel_w[aacn.relative_index(W)]",
                "rel_w.expand(W, -1, d)",
                "torch.eye(H)[:, None, :].expand(H, W, H)",
                "torch.eye(2 * H - 1)[:H, None, :].expand(H, W, 2 * H - 1)",
                "torch.eye(W)[None, :, :].expand(H, W, W)",
                "torch.eye(2 * W - 1)[None, :W, :].expand(H, W, 2 * W - 1)",
            ),
            "pick for each query the H rows",
        ),
        "without k": (_longer("[k, at_row, at_column]", "[at_row, at_column]"), "a part is missing"),
        "one tensor": (_longer("return longer_q, longer_k", "return longer_q @ longer_k.T"), "expected a pair"),
        "detached": (_longer("q, rel_h[", "q, rel_h.detach()["), "no gradient reaches `rel_h`"),
        "in place": (_longer("    rows =", "    q *= 2\n    q /= 2\n    q += 1\n    q -= 1\n    rows ="), "in place"),
        "no return": (_longer("return longer_q", "longer_q"), "returned None"),
    },
}
