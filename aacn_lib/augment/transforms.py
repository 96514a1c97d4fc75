"""Transforms of uint8 pictures (N, C, H, W) in which every picture of the batch has its own strength.

Each function takes the strengths as a tensor (N,), works on the pictures' device in one pass over the batch, and gives
what torchvision's function of the same purpose gives for one picture and one strength (within one grey level where a
floating-point result is cut off to a whole number).

Geometry is written as 3×3 matrices that take a place in the *result* to the place in the source to look at, in pixels
(x, y, 1) from the top left corner of the picture; the centre of the first pixel is at (0.5, 0.5).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# What `blend` pulls a picture towards (0) or away from (2): black, its mean grey, its own grey version.
BRIGHTNESS, CONTRAST, SATURATION = range(3)
HUE = 3  # in `jitter`, beside the three of `blend`
GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # ITU-R 601 luma, rounded as in torchvision


def flip(images: Tensor, flipped: Tensor) -> Tensor:
    """Mirrors left to right the pictures, uint8 or floating point, whose `flipped` (N,) is true."""
    return torch.where(flipped[:, None, None, None], images.flip(-1), images)


def crop(images: Tensor, top: Tensor, left: Tensor, padding: int, padding_mode: str) -> Tensor:
    """Cuts H × W pixels out of each picture, uint8 or floating point, padded by `padding` pixels on every side.

    Args:
        top, left: (N,), where the cut begins in the padded picture, 0 to 2 * padding.
        padding_mode: "zero" or "reflect".
    """
    N, _C, H, W = images.shape
    if padding_mode == "zero":
        padded = F.pad(images, (padding, padding, padding, padding))
    else:
        # By index, for uint8 too: … 2 1 0 1 2 … at the first row, … H-2 H-1 H-2 … at the last.
        rows, columns = (
            side - 1 - (side - 1 - torch.arange(-padding, side + padding, device=images.device).abs()).abs()
            for side in (H, W)
        )
        padded = images[:, :, rows[:, None], columns]
    # A view of every crop there is, so that one index per picture picks its own and nothing is copied before.
    crops = padded.unfold(2, H, 1).unfold(3, W, 1)  # (N, C, places, places, H, W)
    return crops[torch.arange(N, device=images.device), :, top, left]  # (N, C, H, W)


def cut_out(images: Tensor, centre: Tensor, side: int, fill: Tensor) -> Tensor:
    """Paints a square of `side` pixels in each picture over, or what of it lies inside.

    Args:
        centre: (N, 2), row and column; for an even side the pixel below and to the right of the middle.
        fill: grey levels (C,).
    """
    _N, _C, H, W = images.shape
    first = (centre - side // 2)[:, :, None]  # (N, 2, 1)
    rows, columns = (torch.arange(length, device=images.device) - first[:, axis] for axis, length in enumerate((H, W)))
    inside_rows, inside_columns = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)  # (N, H), (N, W)
    square = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]  # (N, 1, H, W)
    return torch.where(square, fill.to(images.device, images.dtype)[:, None, None], images)


def rotation_matrix(degrees: Tensor, H: int, W: int) -> Tensor:
    """Matrices (N, 3, 3) that turn pictures of H × W pixels about their centre, counter-clockwise for positive angles.

    Args:
        degrees: (N,).
    """
    angle = torch.deg2rad(degrees)
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    x, y = W / 2, H / 2
    # The rows run downwards, so that (cos, -sin; sin, cos) is clockwise; reading there turns the picture the other way.
    entries = [cos, -sin, x - (cos * x - sin * y), sin, cos, y - (sin * x + cos * y), zero, zero, one]
    return torch.stack(entries, dim=1).view(-1, 3, 3)


def perspective_matrix(corners: Tensor, H: int, W: int) -> Tensor:
    """Matrices (N, 3, 3) that move the four corners of pictures of H × W pixels to `corners`.

    The corners are the pixels (0, 0), (W - 1, 0), (W - 1, H - 1), (0, H - 1), as in torchvision. The map of the unit
    square onto four points is that of Heckbert, Fundamentals of Texture Mapping and Image Warping, 1989, chapter 2.

    Args:
        corners: (N, 4, 2), the x and y where top left, top right, bottom right and bottom left go.
    """
    size = torch.tensor([W - 1.0, H - 1.0], device=corners.device)
    (x0, x1, x2, x3), (y0, y1, y2, y3) = (corners / size).permute(2, 1, 0)  # each (N,), in units of the sides
    sum_x, sum_y = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    # All entries are multiplied by the determinant that the formula divides by: a homography has no scale, and four
    # points of which three lie on a line then need no special case.
    scale = (x1 - x2) * (y3 - y2) - (y1 - y2) * (x3 - x2)
    g = sum_x * (y3 - y2) - sum_y * (x3 - x2)
    h = (x1 - x2) * sum_y - (y1 - y2) * sum_x
    first = torch.stack([(x1 - x0) * scale + g * x1, (x3 - x0) * scale + h * x3, x0 * scale], dim=1)  # (N, 3)
    second = torch.stack([(y1 - y0) * scale + g * y1, (y3 - y0) * scale + h * y3, y0 * scale], dim=1)
    third = torch.stack([g, h, scale], dim=1)
    # From the result back to the source is the inverse, up to scale the adjugate: cross products of the rows.
    cross = torch.linalg.cross
    back = torch.stack([cross(second, third), cross(third, first), cross(first, second)], dim=2)  # (N, 3, 3)
    units = torch.cat([size, size.new_ones(1)])
    return back * units[:, None] / units


def warp(images: Tensor, *matrices: Tensor, mode: str = "bilinear") -> Tensor:
    """Moves the pixels as the matrices say, one after the other, in one look-up; outside the picture is black.

    Args:
        matrices: each (N, 3, 3), from a place in the result to a place in the source.
        mode: "bilinear" or "nearest".
    """
    matrix, *others = matrices
    for other in others:  # written as a sum: a matrix product may round differently for another number of pictures
        matrix = sum(matrix[:, :, k, None] * other[:, None, k] for k in range(3))
    _N, _C, H, W = images.shape
    x = torch.arange(W, device=images.device) + 0.5
    y = torch.arange(H, device=images.device)[:, None] + 0.5
    a, b, c = matrix.float()[..., None, None].unbind(dim=2)  # columns, each (N, 3, 1, 1)
    places = a * x + b * y + c  # (N, 3, H, W)
    places = places[:, :2] / places[:, 2:]
    # grid_sample wants -1 and 1 at the edges. Beyond ±3 all is outside; a point at infinity must not become an index.
    size = torch.tensor([W, H], device=images.device)[:, None, None]
    grid = (places * 2 / size - 1).nan_to_num(nan=3.0).clamp(-3, 3).permute(0, 2, 3, 1)  # (N, H, W, 2)
    sampled = F.grid_sample(images.float(), grid, mode=mode, padding_mode="zeros", align_corners=False)
    return sampled.round_().to(torch.uint8)


def blend(images: Tensor, kind: Tensor, factor: Tensor) -> Tensor:
    """Brightness, contrast or saturation times `factor`: 0 takes all of it, 1 changes nothing, 2 doubles it.

    Args:
        images: of 1 or 3 channels; grey pictures have no saturation to change.
        kind: (N,), BRIGHTNESS, CONTRAST or SATURATION.
        factor: (N,), at least 0.
    """
    _N, C, H, W = images.shape
    pixels = images.float()
    grey = pixels
    if C == 3:
        red, green, blue = pixels.split(1, dim=1)  # each (N, 1, H, W)
        # Products, then sums, here and below: a fused multiply-add would round differently in different places.
        grey = (red * GREY_WEIGHTS[0] + green * GREY_WEIGHTS[1] + blue * GREY_WEIGHTS[2]).floor_()
    else:
        factor = torch.where(kind == SATURATION, 1.0, factor)
    kind, factor = kind.view(-1, 1, 1, 1), factor.float().view(-1, 1, 1, 1)
    mean = grey.sum(dim=(1, 2, 3), keepdim=True) / (H * W)  # sums of whole numbers: exact in any order up to 256×256
    target = torch.where(kind == SATURATION, grey, torch.where(kind == CONTRAST, mean, 0.0))
    return (pixels * factor + target * (1 - factor)).clamp_(0, 255).to(torch.uint8)


def shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turns the colours around the colour circle, in HSV; grey pictures (one channel) have no hue.

    Args:
        images: of 1 or 3 channels.
        shift: (N,), in turns of the circle, from -0.5 to 0.5.
    """
    if images.shape[1] == 1:
        return images
    pixels = images.float() / 255
    red, green, blue = pixels.unbind(dim=1)  # each (N, H, W)
    lightest, darkest = pixels.amax(dim=1), pixels.amin(dim=1)
    chroma = lightest - darkest
    safe = torch.where(chroma == 0, 1.0, chroma)  # a grey pixel's hue does not matter, but must be a number
    hue = torch.where(
        lightest == red,
        (green - blue) / safe,
        torch.where(lightest == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )  # in sixths of a turn
    hue = hue + 6 * shift.float()[:, None, None]
    # Each channel is at its lightest for a third of the circle, at its darkest for a third, and in between linear.
    start = torch.tensor([5.0, 3.0, 1.0], device=images.device)[:, None, None]
    turned = (start + hue[:, None]) % 6  # (N, 3, H, W)
    down = torch.minimum(turned, 4 - turned).clamp_(0, 1)
    turned = lightest[:, None] - chroma[:, None] * down
    return (turned.clamp_(0, 1) * 255.999).to(torch.uint8)  # the float range in 256 equal parts, as torchvision does


def jitter(images: Tensor, factors: Tensor, order: Tensor, blends: bool = True, hue: bool = True) -> Tensor:
    """Changes brightness, contrast, saturation and hue, in an order of its own for each picture.

    Args:
        factors: (N, 4), the factors of the first three and the shift of the last.
        order: (N, 4), permutations of BRIGHTNESS, CONTRAST, SATURATION and HUE.
        blends, hue: whether the first three, and whether the last is done at all.
    """
    for kind in order.unbind(dim=1):
        factor = factors.gather(1, kind[:, None])[:, 0]
        if blends:
            images = blend(images, kind, torch.where(kind == HUE, 1.0, factor))
        if hue:
            rows = (kind == HUE).nonzero()[:, 0]
            images = images.index_copy(0, rows, shift_hue(images[rows], factor[rows]))
    return images


def sharpen(images: Tensor, factor: Tensor) -> Tensor:
    """Away from (factor above 1) or towards (below 1) a blurred version; pixels at the border stay as they are.

    Args:
        factor: (N,), at least 0.
    """
    N, C, H, W = images.shape
    if min(H, W) < 3:
        return images
    pixels = images.float()
    # Whole numbers until the division: exact in every precision that a convolution may use on a GPU.
    kernel = torch.tensor([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]], device=images.device)[None, None]
    blurred = F.conv2d(pixels.reshape(N * C, 1, H, W), kernel).div_(13).round_().view(N, C, H - 2, W - 2)
    inner = pixels[:, :, 1:-1, 1:-1]
    inner += (blurred - inner) * (1 - factor.float()).view(-1, 1, 1, 1)
    return pixels.clamp_(0, 255).to(torch.uint8)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keeps the `bits` (N,) highest bits of every pixel, 0 to 8."""
    keep = (256 - 2 ** (8 - bits.long())).to(torch.uint8)
    return images & keep.view(-1, 1, 1, 1)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Inverts the pixels that are at least `threshold` (N,)."""
    return torch.where(images >= threshold.float().view(-1, 1, 1, 1), 255 - images, images)


def auto_contrast(images: Tensor) -> Tensor:
    """Stretches every channel to 0 … 255; a channel of one value stays as it is."""
    pixels = images.float()
    darkest, lightest = pixels.amin(dim=(2, 3), keepdim=True), pixels.amax(dim=(2, 3), keepdim=True)
    flat = darkest == lightest
    scale = torch.where(flat, 1.0, (lightest - darkest) * (1 / 255))
    return ((pixels - torch.where(flat, 0.0, darkest)) / scale).clamp_(0, 255).to(torch.uint8)


def equalize(images: Tensor) -> Tensor:
    """Spreads the values of every channel evenly over 0 … 255, by the rule of Pillow's ImageOps.equalize."""
    N, C, H, W = images.shape
    values = images.reshape(N * C, H * W).long()
    histogram = values.new_zeros(N * C, 256).scatter_add_(1, values, torch.ones_like(values))
    last = histogram.gather(1, values.amax(dim=1, keepdim=True))  # pixels of the lightest value: not counted
    step = (H * W - last) // 255
    up_to = histogram.cumsum(dim=1) - histogram  # pixels that are darker than each value
    table = ((up_to + step // 2) // step.clamp(min=1)).clamp_(0, 255)
    equalized = table.gather(1, values).to(torch.uint8).view(N, C, H, W)
    return torch.where((step == 0).view(N, C, 1, 1), images, equalized)  # fewer than 255 pixels: nothing to spread
