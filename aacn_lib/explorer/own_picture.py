"""A picture file that a reader brings: bytes from anywhere, made into what a network sees, or refused in a sentence."""

import io
import warnings

from torch import Tensor

from aacn_lib.data import fitted_pixels, with_channels

# Jupyter closes a connection that sends more than 10 MiB at once.
MOST_BYTES = 8_000_000
MOST_PIXELS = 50_000_000  # what a small file may unpack to
# Not all that Pillow opens: some kinds start other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
LONGEST_NAME = 60


def picture_from_bytes(name: str, data: bytes, image_size: tuple[int, int], channels: int) -> Tensor:
    """The picture in a file, upright, cropped to the shape of `image_size` in its centre: uint8 (channels, H, W).

    Transparent parts are white. A colour network gets a grey picture three times, a grey network of a colour picture
    the brightness. Of a moving picture it is the first one.

    Args:
        name: the file's, for the sentence.
        data: its bytes.
        image_size: (H, W) in pixels.
        channels: 1 or 3.

    Raises:
        ValueError: for a file that is empty, too large, of too many pixels, damaged, or not a picture.
    """
    from PIL import Image, UnidentifiedImageError

    name = short_name(name)
    if not data:
        raise ValueError(f"{name} is empty, expected a picture.")
    if len(data) > MOST_BYTES:
        raise ValueError(f"{name} has {len(data) / 1e6:.1f} MB, expected at most {MOST_BYTES / 1e6:g} MB.")
    Image.init()
    formats = [known for known in FORMATS if known in Image.OPEN]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nobody would see them; the number of pixels is looked at here
            with Image.open(io.BytesIO(data), formats=formats) as opened:
                pixels = opened.width * opened.height
                too_many = pixels > MOST_PIXELS
                array = None if too_many else fitted_pixels(opened, image_size)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        if isinstance(error, Image.DecompressionBombError):
            raise ValueError(f"{name} has far too many pixels, expected at most {MOST_PIXELS:,}.") from error
        raise ValueError(f"{name} is not a picture that can be read, expected one of {', '.join(formats)}.") from error
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise ValueError(f"{name} cannot be read as a picture: {error}.") from error
    if too_many:
        raise ValueError(f"{name} has {pixels:,} pixels, expected at most {MOST_PIXELS:,}.")
    return with_channels(array, channels)


def short_name(name: object) -> str:
    """A file's name as it stands in the page: on one line, and not for ever."""
    text = " ".join(str(name).split()) or "The file"
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"
