"""Wrong answers to the exercises of lesson 02: {exercise: {title: (source, fragment of the message)}}."""

WRONG = {
    "02.layers_to_cover": {
        "three pixels a layer": (
            "def layers_to_cover(distance, mark_size):\n    return math.ceil((distance + mark_size) / 3)",
            "counts 3 pixels for each layer",
        ),
        "centre to centre": (
            "def layers_to_cover(distance, mark_size):\n"
            "    layers = 0\n"
            "    while 1 + 2 * layers < distance + 1:\n"
            "        layers += 1\n"
            "    return layers",
            "half a mark stands out",
        ),
        "rounded down": (
            "def layers_to_cover(distance, mark_size):\n"
            "    field = distance + mark_size\n"
            "    return int((field - 1) / 2)",
            "rounds down",
        ),
        "touching is enough": (
            "def layers_to_cover(distance, mark_size):\n"
            "    gap = distance - mark_size  # empty pixels between the marks\n"
            "    return max(0, math.ceil((gap + 2 - 1) / 2))",
            "only touches both marks",
        ),
        "distance from edge to edge": (
            "def layers_to_cover(distance, mark_size):\n"
            "    needed = mark_size + distance + mark_size\n"
            "    return math.ceil((needed - 1) / 2)",
            "measured between the centres",
        ),
        "a number of pixels": (
            "def layers_to_cover(distance, mark_size):\n    return 2 * (distance + mark_size)",
            "expected",
        ),
    },
    "02.dilated_field": {
        "no dilation": (
            "def dilated_field(layers):\n    return receptive_field([(k, s) for k, s, gap in layers])",
            "dilation is ignored",
        ),
        "no stride": (
            "def dilated_field(layers):\n    return 1 + sum((kernel - 1) * dilation for kernel, _, dilation in layers)",
            "stride is ignored",
        ),
        "own stride first": (
            "def dilated_field(layers):\n"
            "    size, step = 1, 1\n"
            "    for kernel, stride, dilation in layers:\n"
            "        step *= stride\n"
            "        size += (kernel - 1) * dilation * step\n"
            "    return size",
            "own stride",
        ),
        "k gaps": (
            "def dilated_field(layers):\n"
            "    size, step = 1, 1\n"
            "    for kernel, stride, dilation in layers:\n"
            "        size += kernel * dilation * step\n"
            "        step *= stride\n"
            "    return size",
            "k - 1 of them",
        ),
        "starts at 0": (
            "def dilated_field(layers):\n"
            "    size, step = 0, 1\n"
            "    for kernel, stride, dilation in layers:\n"
            "        size += (kernel - 1) * dilation * step\n"
            "        step *= stride\n"
            "    return size",
            "starts from 0",
        ),
        "multiplied": (
            "def dilated_field(layers):\n"
            "    size = 1\n"
            "    for kernel, _, dilation in layers:\n"
            "        size *= (kernel - 1) * dilation + 1\n"
            "    return size",
            "multiplied",
        ),
        "dilation in the step": (
            "def dilated_field(layers):\n"
            "    size, step = 1, 1\n"
            "    for kernel, stride, dilation in layers:\n"
            "        step *= dilation\n"
            "        size += (kernel - 1) * step\n"
            "        step *= stride\n"
            "    return size",
            "the step takes the strides alone",
        ),
        "dilation is a gap": (
            "def dilated_field(layers):\n"
            "    size, step = 1, 1\n"
            "    for kernel, stride, dilation in layers:\n"
            "        size += (kernel - 1) * (1 + dilation) * step\n"
            "        step *= stride\n"
            "    return size",
            "dilation 1 is an ordinary convolution",
        ),
    },
    "02.farthest_shared": {
        "points": ("def farthest_shared(window, width_a, width_b):\n    return window - 1", "taken for points"),
        "whole marks": (
            "def farthest_shared(window, width_a, width_b):\n    return window - (width_a + width_b) // 2",
            "wholly inside",
        ),
        "first that does not": (
            "def farthest_shared(window, width_a, width_b):\n    return window + width_a // 2 + width_b // 2",
            "first distance at which no window",
        ),
        "whole widths": (
            "def farthest_shared(window, width_a, width_b):\n    return window + width_a + width_b - 2",
            "whole widths are added",
        ),
        "odd windows only": (
            "def farthest_shared(window, width_a, width_b):\n"
            "    half = window // 2\n"
            "    return half + width_a // 2 + half + width_b // 2",
            "right for odd windows only",
        ),
        "equal widths": (
            "def farthest_shared(window, width_a, width_b):\n    return window + width_a - 2",
            "the two widths can differ",
        ),
        "one side": (
            "def farthest_shared(window, width_a, width_b):\n    return (window - 1) // 2 + (width_a - 1) // 2",
            "one side of its centre",
        ),
    },
    "02.blind_pair": {
        "marks share a window": (
            "def blind_pair(size, window):\n"
            "    pictures = torch.full((2, 1, size, size), 0.5)\n"
            "    near, far = window - 1, 2 * window - 2\n"
            "    pictures[0, 0, near, near], pictures[0, 0, near, far] = 1.0, 2.0\n"
            "    pictures[1, 0, near, near], pictures[1, 0, near, far] = 2.0, 1.0\n"
            "    return pictures",
            "holds both of them",
        ),
        "half the border": (
            "def blind_pair(size, window):\n"
            "    pictures = torch.full((2, 1, size, size), 0.5)\n"
            "    near = window // 2\n"
            "    far = near + window\n"
            "    pictures[0, 0, near, near], pictures[0, 0, near, far] = 1.0, 2.0\n"
            "    pictures[1, 0, near, near], pictures[1, 0, near, far] = 2.0, 1.0\n"
            "    return pictures",
            "window // 2 is not enough",
        ),
        "in the corners": (
            "def blind_pair(size, window):\n"
            "    pictures = torch.full((2, 1, size, size), 0.5)\n"
            "    pictures[0, 0, 0, 0], pictures[0, 0, 0, -1] = 1.0, 2.0\n"
            "    pictures[1, 0, 0, 0], pictures[1, 0, 0, -1] = 2.0, 1.0\n"
            "    return pictures",
            "0 pixel(s) from the border",
        ),
        "the same picture twice": (
            "def blind_pair(size, window):\n"
            "    picture = torch.full((1, size, size), 0.5)\n"
            "    picture[0, window - 1, window - 1], picture[0, window - 1, 2 * window - 1] = 1.0, 2.0\n"
            "    return torch.stack([picture, picture])",
            "two pictures are equal",
        ),
        "transposed": (
            "def blind_pair(size, window):\n"
            "    pictures = torch.full((2, 1, size, size), 0.5)\n"
            "    near, far = window - 1, 2 * window - 1\n"
            "    pictures[0, 0, near, near], pictures[0, 0, far, near] = 1.0, 2.0\n"
            "    pictures[1, 0, near, near], pictures[1, 0, far, near] = 2.0, 1.0\n"
            "    return pictures",
            "rows and columns are swapped",
        ),
        "one picture": (
            "def blind_pair(size, window):\n    return torch.full((1, size, size), 0.5)",
            "got shape",
        ),
        "black background": (
            "def blind_pair(size, window):\n"
            "    pictures = torch.zeros(2, 1, size, size)\n"
            "    near, far = window - 1, 2 * window - 1\n"
            "    pictures[0, 0, near, near], pictures[0, 0, near, far] = 1.0, 2.0\n"
            "    pictures[1, 0, near, near], pictures[1, 0, near, far] = 2.0, 1.0\n"
            "    return pictures",
            "every pixel must be 0.5",
        ),
        "in the wrong order": (
            "def blind_pair(size, window):\n"
            "    pictures = torch.full((2, 1, size, size), 0.5)\n"
            "    near, far = window - 1, 2 * window - 1\n"
            "    pictures[0, 0, near, near], pictures[0, 0, near, far] = 2.0, 1.0\n"
            "    pictures[1, 0, near, near], pictures[1, 0, near, far] = 1.0, 2.0\n"
            "    return pictures",
            "in the wrong order",
        ),
    },
}
