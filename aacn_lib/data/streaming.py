"""Class folders too large for memory, ImageNet above all: pictures are read from their files when they are needed."""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from aacn_lib.data.dataset import Dataset, Split
from aacn_lib.data.image_folder import Listing, check_size, is_grey, list_image_folder, open_image, plain_image
from aacn_lib.data.splits import count_levels, hold_out, statistics_of_counts

MAX_IMAGES_IN_MEMORY = 20_000
MAX_BYTES_IN_MEMORY = 2_000_000_000
STATISTICS_SAMPLE = 2048  # training pictures that mean and deviation are taken from
BATCHES_AHEAD = 2  # that each worker process reads before they are asked for

CROP_AREA = (0.08, 1.0)  # share of the picture's area
CROP_RATIO = (3 / 4, 4 / 3)  # width / height
CROP_ATTEMPTS = 10
CENTRE_SHARE = 224 / 256  # of the short side that the centre crop keeps

Box = tuple[float, float, float, float]  # top, left, height, width, in pixels


@dataclass(frozen=True, eq=False)
class StreamedSplit:
    """One part of a data set whose pictures stay in their files.

    Attributes:
        folder: the part's folder.
        names: `class/file` of each picture below `folder`, as bytes in the file system's encoding, (N,). An array and
            not a list: worker processes share its memory, while a list of a million strings would be copied to each.
        labels: int64 (N,).
        picture_shape: (C, H, W) of a picture as it is read; C is 1 or 3.
    """

    folder: Path
    names: np.ndarray
    labels: Tensor
    picture_shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def paths(self) -> list[Path]:
        """The file of each picture; a new list every time."""
        return [self.path(index) for index in range(len(self))]

    def path(self, index: int) -> Path:
        """The file of one picture."""
        return self.folder / os.fsdecode(self.names[index])

    def take(self, indexes: Tensor) -> "StreamedSplit":
        """The part of those pictures, in that order: `indexes` is (n,)."""
        return replace(self, names=self.names[indexes.cpu().numpy()], labels=self.labels[indexes])

    def to(self, device: torch.device) -> "StreamedSplit":
        """The same part with its labels on `device`; its pictures stay in their files."""
        return replace(self, labels=self.labels.to(device))

    def read(self, batches: Iterable[Tensor], *, seed: int | None, workers: int, pin: bool = False) -> Iterator[Tensor]:
        """Reads the pictures of each tensor of indexes, batch after batch in the given order.

        With a seed this is the reading for training: a random part of each picture, as `draw_crop` draws it, is
        resized to H × W. The draw depends on the seed and the picture's index alone, so that neither the number of
        workers and processes nor a run that was stopped and resumed changes it: give every epoch a seed of its own.
        Mirroring is not part of it.

        Without a seed this is the reading for validation and test: the picture is resized until it covers
        256/224 of H × W, and the H × W in its centre are kept; at 224 pixels the short side becomes 256, as is usual.

        Both resize once, bilinear with antialiasing. JPEG files are decoded at 1/2, 1/4 or 1/8 of their size where
        that is still no smaller than what is needed; the pixels then differ a little from those of a full decoding.

        Args:
            batches: tensors of indexes, each (B,) int64. They are taken as they are needed, with workers
                `2 * workers` batches early.
            seed: a whole number of at least 0, or None.
            workers: processes that read; 0 reads in this one. The batches that wait are kept in shared memory.
            pin: put the batches into page-locked memory, from where copies to a GPU are faster. Ignored without one.

        Returns:
            An iterator over uint8 (B, C, H, W).

        Raises:
            ValueError: for arguments that are not as described, and, when its turn comes, for a broken file, which it
                names.
        """
        if seed is not None and not _is_whole(seed):
            raise ValueError(f"seed must be a whole number of at least 0, or None, got {seed!r}")
        if not _is_whole(workers):
            raise ValueError(f"workers must be a whole number of at least 0, got {workers!r}")
        return self._stream(batches, seed, workers, pin)

    def _stream(self, batches: Iterable[Tensor], seed: int | None, workers: int, pin: bool) -> Iterator[Tensor]:
        loader = DataLoader(
            _Pictures(self.folder, self.names, self.picture_shape, seed),
            batch_sampler=_Indexes(batches, len(self)),
            num_workers=workers,
            prefetch_factor=BATCHES_AHEAD if workers else None,
            collate_fn=_as_it_is,
            pin_memory=pin and torch.cuda.is_available(),
            # The loader draws a seed for its workers, which nothing here uses: not from the global generator.
            generator=torch.Generator(),
        )
        for batch in loader:
            # Raised in a worker, an error would arrive wrapped in that process's traceback; handed over, it is plain.
            if isinstance(batch, Exception):
                raise batch
            yield batch


def load_streamed(path: str | Path, image_size: int | tuple[int, int]) -> Dataset:
    """Class folders of images as a data set that reads its pictures when they are needed.

    The folder is laid out as for `read_image_folder`: `PATH/<class>/*` or `PATH/{train,validation,test}/<class>/*`
    (`val` is accepted for `validation`). Each part is ordered by the SHA-256 of `class/file name`, which is as good as
    random and the same everywhere; from a part that is not there a tenth of each class of the training part is taken,
    at least one picture.

    Mean and deviation are those of the first 2,048 training pictures in that order (all if there are fewer), read
    without a seed. The pictures are grey only if all files are; to find that out, headers are read until the first
    that is not.

    Args:
        path: the folder.
        image_size: (H, W) or one integer for both, in pixels: the size at which pictures are read.

    Raises:
        ValueError: for a folder that is not laid out like this, or a broken file among those that are read; it names
            the path.
    """
    size = check_size(image_size)
    if size is None:
        raise ValueError(f"pictures that are streamed from {path} need image_size=(H, W)")
    listing = list_image_folder(Path(path).expanduser())
    names, labels = {}, {}
    for part in listing.folders:
        names[part], labels[part] = _in_digest_order(listing, part)
    C = 1 if _all_grey(listing) else 3
    parts = {
        part: StreamedSplit(listing.folders[part], names[part], labels[part], (C, *size)) for part in listing.folders
    }
    absent = listing.absent()
    if absent:
        # `hold_out` moves whatever stands beside the labels: here the numbers of the files.
        files = Split(torch.arange(len(parts["train"])), parts["train"].labels)
        for part, (chosen, chosen_labels) in zip([*absent, "train"], hold_out(files, len(absent)), strict=True):
            parts[part] = StreamedSplit(
                listing.folders["train"], names["train"][chosen.numpy()], chosen_labels, (C, *size)
            )

    sample = torch.arange(min(len(parts["train"]), STATISTICS_SAMPLE))
    counts = sum(count_levels(batch) for batch in parts["train"].read(sample.split(64), seed=None, workers=0))
    mean, std = statistics_of_counts(counts)
    return Dataset(f"folder:{path}", listing.classes, **parts, mean=mean, std=std)


def is_large(root: Path, image_size: tuple[int, int]) -> bool:
    """Whether a folder holds more than 20,000 images, or more than 2 GB of them as uint8 (3, H, W)."""
    listing = list_image_folder(root)
    count = sum(len(names) for part in listing.files.values() for names in part)
    H, W = image_size
    return count > MAX_IMAGES_IN_MEMORY or count * 3 * H * W > MAX_BYTES_IN_MEMORY


def draw_crop(H: int, W: int, seed: int, index: int) -> Box:
    """The random crop of picture number `index` of H × W pixels: top, left, height and width, whole pixels inside it.

    The area is uniform between 8 % and 100 % of the picture's, the logarithm of width / height between those of 3/4
    and 4/3, and so is the place. What does not fit is drawn again, ten times at most; then it is the largest part in
    the centre with a proportion between the two. These are the rules of torchvision's `RandomResizedCrop.get_params`;
    the crop is that of Szegedy et al., "Going deeper with convolutions" (2015), section 6.

    The numbers come from a generator seeded by (seed, index): no other picture and no order of reading changes them.
    """
    low, high = (math.log(ratio) for ratio in CROP_RATIO)
    for area, ratio, top, left in np.random.default_rng((seed, index)).random((CROP_ATTEMPTS, 4)).tolist():
        area = H * W * (CROP_AREA[0] + area * (CROP_AREA[1] - CROP_AREA[0]))
        ratio = math.exp(low + ratio * (high - low))
        height, width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < height <= H and 0 < width <= W:
            return int(top * (H - height + 1)), int(left * (W - width + 1)), height, width
    height, width = min(H, round(W / CROP_RATIO[0])), min(W, round(H * CROP_RATIO[1]))
    return (H - height) // 2, (W - width) // 2, height, width


def centre_crop(H: int, W: int, image_size: tuple[int, int]) -> Box:
    """The part of a picture of H × W pixels that is left when it is resized to cover 256/224 of `image_size` and
    cropped to `image_size` in the centre: top, left, height and width, in pixels of the picture.
    """
    shrink = min(H / image_size[0], W / image_size[1]) * CENTRE_SHARE  # pixels of the picture for one of the result
    height, width = image_size[0] * shrink, image_size[1] * shrink
    return (H - height) / 2, (W - width) / 2, height, width


def read_part(path: Path, shape: tuple[int, int, int], choose: Callable[[int, int], Box]) -> np.ndarray:
    """The part of a picture that `choose(height, width)` names, resized: uint8 (H, W) or (H, W, 3) for a `shape` of
    (1, H, W) or (3, H, W).

    Raises:
        ValueError: for a file that cannot be read as an image; it names the file.
    """
    from PIL import ExifTags, Image

    C, H, W = shape
    with open_image(path) as opened:
        # Where its size is no multiple of 2, 4 or 8, a smaller decoded picture is padded at the right and the bottom.
        # Turned, the padding would move to the other sides: pictures to be turned are decoded at their full size.
        if opened.format in ("JPEG", "MPO") and opened.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            top, left, height, width = choose(opened.height, opened.width)
            smaller = _decode_smaller(opened, min(height / H, width / W))
            image = plain_image(opened)
        else:
            image = plain_image(opened)
            (top, left, height, width), smaller = choose(image.height, image.width), 1
        # Pillow refuses a box that is outside by a rounding error.
        right, bottom = min((left + width) / smaller, image.width), min((top + height) / smaller, image.height)
        box = (left / smaller, top / smaller, right, bottom)
        image = image.resize((W, H), Image.Resampling.BILINEAR, box)  # Pillow's bilinear antialiases
        return np.array(image.convert("L" if C == 1 else "RGB"))  # a copy: torch wants to own writable memory


def _decode_smaller(jpeg, shrink: float) -> int:
    """Tells the decoder of a Pillow JPEG image to make it 1, 2, 4 or 8 times smaller, at most `shrink` times.

    It does so within its cosine transform, for less than decoding at full size costs. Returns the number of times.
    """
    times = 2 ** int(math.log2(min(max(shrink, 1), 8)))
    if times > 1:
        jpeg.draft(None, (jpeg.width // times, jpeg.height // times))
    return times


class _Pictures(torch.utils.data.Dataset):
    """What a worker process gets: enough to read pictures, and no tensor of the caller's device."""

    def __init__(self, folder: Path, names: np.ndarray, shape: tuple[int, int, int], seed: int | None):
        self.folder, self.names, self.shape, self.seed = folder, names, shape, seed

    def __getitems__(self, indexes: list[int]) -> Tensor | ValueError:
        """uint8 (B, C, H, W), or the error that names a broken file."""
        batch = torch.empty(len(indexes), *self.shape, dtype=torch.uint8)
        for row, index in zip(batch, indexes, strict=True):

            def choose(H: int, W: int, index: int = index) -> Box:
                return centre_crop(H, W, self.shape[1:]) if self.seed is None else draw_crop(H, W, self.seed, index)

            try:
                pixels = read_part(self.folder / os.fsdecode(self.names[index]), self.shape, choose)
            except ValueError as error:
                return ValueError(str(error))  # without its traceback, which no process can hand to another
            # (H, W, 3) -> (3, H, W), or (H, W) -> (1, H, W)
            row.copy_(torch.from_numpy(pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None]))
        return batch


class _Indexes:
    """The batches as lists of numbers, which is how a DataLoader hands them to its workers."""

    def __init__(self, batches: Iterable[Tensor], count: int):
        self.batches, self.count = batches, count

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            if batch.ndim != 1 or batch.dtype != torch.int64:
                raise ValueError(f"a batch must be int64 indexes (B,), got {batch.dtype} {tuple(batch.shape)}")
            indexes = batch.tolist()
            if indexes and not 0 <= min(indexes) <= max(indexes) < self.count:
                wrong = min(indexes) if min(indexes) < 0 else max(indexes)
                raise ValueError(f"indexes must be from 0 to {self.count - 1}, got {wrong}")
            yield indexes


def _as_it_is(batch):
    return batch  # stacked already


def _in_digest_order(listing: Listing, part: str) -> tuple[np.ndarray, Tensor]:
    """Names `class/file` (N,) and labels (N,) of a part, ordered by the SHA-256 of the name."""
    keyed = [
        (hashlib.sha256(name).digest(), name, label)
        for label, (class_name, files) in enumerate(zip(listing.classes, listing.files[part], strict=True))
        for name in (os.fsencode(f"{class_name}/{file}") for file in files)
    ]
    keyed.sort()
    return np.array([name for _, name, _ in keyed]), torch.tensor([label for *_, label in keyed], dtype=torch.int64)


def _all_grey(listing: Listing) -> bool:
    for part, folder in listing.folders.items():
        for class_name, names in zip(listing.classes, listing.files[part], strict=True):
            for name in names:
                with open_image(folder / class_name / name) as image:
                    if not is_grey(image):
                        return False
    return True


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
