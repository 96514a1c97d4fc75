"""Makes the embedded fashion-mini data set from the full Fashion-MNIST.

    python scripts/make_fashion_mini.py SOURCE [--out FOLDER]

SOURCE holds the four original files (train-images-idx3-ubyte.gz and so on); Debian's package dataset-fashion-mnist
puts them in /usr/share/datasets/fashion-mnist. From every class, 1,200 training and 200 test pictures are chosen: those
with the smallest SHA-256 of the salt and the picture's bytes. That is a fixed draw which depends on nothing but the
pictures. Running it twice gives the same pictures in the same order.
"""

import argparse
import gzip
import hashlib
import json
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from aacn_lib.data.fashion_mini import CARD, FOLDER, TILE, to_mosaic
from aacn_lib.data.splits import part_digest
from aacn_lib.whole_file import whole_file

SALT = b"fashion-mini"  # the seed of the draw
PER_CLASS = {"train": 1200, "test": 200}
FILES = {"train": "train", "test": "t10k"}
CLASSES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)

LICENCE = """\
The pictures in this folder (fashion-mini-*.webp) are 14,000 of the 70,000 pictures of Fashion-MNIST, unchanged.
Source: https://github.com/zalandoresearch/fashion-mnist

The MIT License (MIT)

Copyright (c) 2017 Zalando SE, https://tech.zalando.com

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def read_idx(path: Path, num_dimensions: int) -> np.ndarray:
    """Reads a gzipped idx file of unsigned bytes: two zero bytes, type 8, rank, big-endian sizes, then the data."""
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    start = 4 + 4 * num_dimensions
    shape = tuple(np.frombuffer(data[4:start], dtype=">u4").tolist())
    if data[:4] != bytes([0, 0, 8, num_dimensions]) or len(data) - start != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{path} is not an idx file of unsigned bytes with {num_dimensions} dimensions")
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)


def choose(images: np.ndarray, labels: np.ndarray, label: int, count: int) -> np.ndarray:
    """The `count` pictures of one class with the smallest salted digests, in the order of their digests."""
    members = images[labels == label]
    if len(members) < count:
        raise ValueError(f"class {label} has {len(members)} pictures, expected at least {count}")
    order = sorted(range(len(members)), key=lambda i: hashlib.sha256(SALT + members[i].tobytes()).digest())
    return members[order[:count]]


def encode(mosaic: np.ndarray, folder: Path, effort: int) -> bytes:
    """Lossless WebP: three per cent smaller than PNG. `exact` and the read-back guard against a lossy surprise."""
    with tempfile.TemporaryFile(dir=folder) as file:
        Image.fromarray(mosaic).convert("RGB").save(file, "WEBP", lossless=True, exact=True, quality=100, method=effort)
        file.seek(0)
        with Image.open(file) as image:
            if not np.array_equal(np.asarray(image.convert("RGB"))[..., 0], mosaic):
                raise ValueError("the WebP encoder of this Pillow changed a pixel")
        file.seek(0)
        return file.read()


def make(source: Path, out: Path, effort: int = 5) -> int:
    """Writes everything to `out` and returns the number of bytes; `effort` is the WebP encoder's, 0 to 6."""
    parts = {}
    for part, prefix in FILES.items():
        images = read_idx(source / f"{prefix}-images-idx3-ubyte.gz", 3)
        labels = read_idx(source / f"{prefix}-labels-idx1-ubyte.gz", 1)
        if images.shape[1:] != (TILE, TILE) or len(images) != len(labels):
            raise ValueError(f"{source}: expected {part} pictures of 28×28 and as many labels, "
                             f"got {images.shape} and {labels.shape}")  # fmt: skip
        parts[part] = [choose(images, labels, label, PER_CLASS[part]) for label in range(len(CLASSES))]

    out.mkdir(parents=True, exist_ok=True)
    card = {"classes": CLASSES, "mosaics": [], "sha256": {}}
    files = {}
    for label in range(len(CLASSES)):
        name = f"fashion-mini-{label}.webp"
        files[name] = encode(to_mosaic(np.concatenate([parts["train"][label], parts["test"][label]])), out, effort)
        card["mosaics"].append({"file": name, **PER_CLASS})
    for part, pictures in parts.items():
        labels = np.repeat(np.arange(len(CLASSES), dtype=np.int64), PER_CLASS[part])
        card["sha256"][part] = part_digest(np.concatenate(pictures), labels)
    files[CARD] = (json.dumps(card, indent=1) + "\n").encode()
    files["LICENSE-fashion-mini"] = LICENCE.encode()
    for name, data in files.items():
        with whole_file(out / name) as file:
            file.write(data)
    return sum(map(len, files.values()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the folder of the four idx.gz files")
    parser.add_argument("--out", type=Path, default=FOLDER, help="default: the package's own folder, %(default)s")
    arguments = parser.parse_args()
    try:
        size = make(arguments.source, arguments.out)
    except (OSError, ValueError) as error:
        print(f"make_fashion_mini: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.out}: {size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
