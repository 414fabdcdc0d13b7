"""Images one at a time, kept as tensors or read anew in each pass.

The inputs are the same, bit for bit, either way.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.extras import needed
from eigenforget.data.bundle import (
    Arrays,
    Data,
    check_range,
    class_labels,
    content_start,
    data_of,
    from_arrays,
    index_of,
    pixel_deviation,
    pixel_tables,
)
from eigenforget.data.normalisation import MeanAndDeviation, Normalisation
from eigenforget.data.sources import DatasetSource

if TYPE_CHECKING:
    from PIL import Image

Keep = Literal["auto", "memory", "disk"]
_GREY = ("L", "1")
_DEEP = ("I", "F")
"""First letter of Pillow's modes with more than 8 bits (I;16, …), which its conversion to RGB would
clip.
"""
_FLOAT32_BYTES = 4
_ORIENTATION = 0x0112  # of the EXIF standard (CIPA DC-008, table 4)


class Images(NamedTuple):
    """One side of a set of images.

    Args:
        read: Gives the n-th image, uint8 [H, W] where it is grey, else [H, W, 3], all of one size.
        labels: As in Arrays.
        ids: As in Arrays.
        groups: As in Arrays.
        columns: As in Arrays.
    """

    read: Callable[[int], np.ndarray]
    labels: Any
    ids: Any = None
    groups: Any = None
    columns: Mapping[str, Any] = {}


class ImageStorage(NamedTuple):
    """Where images are kept.

    Args:
        keep: "memory" as tensors, "disk" to read them anew in each pass, "auto" the first up to
            memory_gib of tensors.
        memory_gib: Size of the tensors up to which "auto" keeps them in memory.
        workers: Processes that read from disk.
    """

    keep: Keep
    memory_gib: float
    workers: int


def image_data(
    sides: Mapping[str, Images],
    *,
    keeping: ImageStorage,
    class_names: Sequence[str] | None = None,
    normalize: str = "train",
) -> Data:
    """The Data of the sides "train" and "test", as from_arrays makes it.

    One colour image makes all of them RGB. Images that stay on disk are read once here, for the
    statistics and the content hashes, and anew in each pass.

    Args:
        sides: The images by side.
        keeping: Where they are kept.
        class_names: Names of the classes; by default their numbers.
        normalize: As in from_arrays.

    Raises:
        EigenforgetError: Images are of several sizes, or what from_arrays refuses.
    """
    if not any(len(images.labels) for images in sides.values()):
        raise EigenforgetError("there are no train samples")
    if _in_memory(sides, keeping):
        return _kept(sides, class_names, normalize)
    return _streamed(sides, keeping.workers, class_names, normalize)


def pillow(module: str) -> Any:
    """A module of Pillow, which only reading images needs (extra `images`).

    Args:
        module: Its name in PIL.

    Raises:
        EigenforgetError: Pillow is not installed.
    """
    return needed(f"PIL.{module}", extra="images", what="reading images")


def pixels(image: Image.Image, size: int | None, what: str) -> np.ndarray:
    """The pixels of an image: uint8 [H, W] of a grey one, [H, W, 3] of any other.

    Alpha is dropped, and a photo is turned upright as its EXIF entry says.

    Args:
        image: The image.
        size: Height and width to resize to, bilinearly; None for none.
        what: Name of the image, for messages.

    Raises:
        EigenforgetError: It has several frames, more than 8 bits per channel, or does not fit into
            memory.
    """
    if getattr(image, "is_animated", False):
        raise EigenforgetError(f"{what}: has several frames; save the one that is meant")
    if image.mode.startswith(_DEEP):
        raise EigenforgetError(
            f"{what}: images must have 8 bits per channel, got mode {image.mode!r}"
        )
    try:
        image = pillow("ImageOps").exif_transpose(image) if is_turned(image) else image
        image = image.convert("L" if image.mode in _GREY else "RGB")
        if size is not None and image.size != (size, size):
            image = image.resize((size, size), pillow("Image").Resampling.BILINEAR)
        return np.asarray(image)
    except MemoryError:
        wanted = f"; size={size} is too large" if size else ""
        raise EigenforgetError(f"{what}: does not fit into memory{wanted}") from None


def decoded(
    file: Path | BinaryIO, size: int | None, what: str, turned: Callable[[], None]
) -> np.ndarray:
    """The pixels of a file with one image; see `pixels`.

    Args:
        file: Its name, or the file open for reading.
        size: As in `pixels`.
        what: Name of the image, for messages.
        turned: Called where the image is turned upright.

    Raises:
        EigenforgetError: It is no image that can be read, or what `pixels` refuses.
    """
    library = pillow("Image")
    try:
        with library.open(file) as opened:
            if is_turned(opened):
                turned()
            return pixels(opened, size, what)
    except EigenforgetError:
        raise
    except (OSError, EOFError, SyntaxError, ValueError, library.DecompressionBombError) as error:
        raise EigenforgetError(f"{what}: not a readable image: {error}") from None


def is_turned(image: Image.Image) -> bool:
    """Whether the EXIF entry of a photo says that its pixels are not upright."""
    try:
        return image.getexif().get(_ORIENTATION, 1) in range(2, 9)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return False  # a damaged entry says nothing


def say_of_turned(sides: Iterable[Images]) -> None:
    """Warns of images that were turned upright, where their readers have counted them."""
    count = sum(len(getattr(images.read, "turned", ())) for images in sides)
    if count:
        notices.warn(
            f"{count} image{'s are' if count > 1 else ' is'} turned upright as EXIF says; was the "
            "model trained on others, save them without EXIF"
        )


@dataclass(frozen=True, eq=False)
class NormalisedImages(Dataset[tuple[Tensor, int]]):
    """The images of one side as pairs (float32 [C, H, W], class).

    Args:
        read: Gives the n-th image.
        targets: Class labels [N].
        tables: The normalised value of each value of a pixel, [C, 256].
    """

    read: Callable[[int], np.ndarray]
    targets: np.ndarray
    tables: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, n: int) -> tuple[Tensor, int]:
        values = torch.from_numpy(_channels(self.read(n), len(self.tables)).astype(np.int64))
        return torch.stack([table[values[..., c]] for c, table in enumerate(self.tables)]), int(
            self.targets[n]
        )


def _in_memory(sides: Mapping[str, Images], keeping: ImageStorage) -> bool:
    if keeping.keep != "auto":
        return keeping.keep == "memory"
    first = next(images for images in sides.values() if len(images.labels)).read(0)
    # Three channels: whether any image has colours is known only when all were read.
    count = sum(len(images.labels) for images in sides.values())
    wanted = count * math.prod(first.shape[:2]) * 3 * _FLOAT32_BYTES
    return wanted <= keeping.memory_gib * 2**30


def _kept(sides: Mapping[str, Images], class_names: Sequence[str] | None, normalize: str) -> Data:
    read: dict[str, list[np.ndarray]] = {side: [] for side in sides}
    sizes = _Sizes()
    for side, images in sides.items():
        for n in range(len(images.labels)):
            read[side].append(sizes.checked(images.read(n), f"{side} image {n}"))
    grey = all(image.ndim == 2 for column in read.values() for image in column)
    arrays = {
        side: Arrays(
            _stacked(read.pop(side), 1 if grey else 3), np.asarray(images.labels), *images[2:]
        )
        for side, images in sides.items()
    }
    return from_arrays(
        train=arrays["train"], test=arrays["test"], class_names=class_names, normalize=normalize
    )


def _streamed(
    sides: Mapping[str, Images], workers: int, class_names: Sequence[str] | None, normalize: str
) -> Data:
    labels = {side: class_labels(images.labels, side) for side, images in sides.items()}
    names = tuple(class_names or map(str, range(int(labels["train"].max()) + 1)))
    sizes = _Sizes()
    seen = {side: _scanned(images, sizes, side) for side, images in sides.items()}
    channels = 3 if any(scan.coloured for scan in seen.values()) else 1
    found = Normalisation.of(
        normalize, "pixels", channels, lambda: seen["train"].statistics(channels)
    )
    tables = pixel_tables(found, channels)
    sources, index = {}, {}
    for side, images in sides.items():
        check_range(labels[side], side, len(names))
        sources[side] = DatasetSource(
            NormalisedImages(images.read, labels[side], tables), workers=workers
        )
        index[side] = index_of(images, labels[side], np.array(seen[side].content[channels]), side)
    return data_of(sources, index, names, normalisation=found)


class _Sizes:
    """Height and width of the first image, which all others must have."""

    def __init__(self) -> None:
        self.first: tuple[int, ...] = ()

    def checked(self, image: np.ndarray, what: str) -> np.ndarray:
        self.first = self.first or image.shape[:2]
        if image.shape[:2] != self.first:
            (height, width), (other, wide) = self.first, image.shape[:2]
            raise EigenforgetError(
                f"images must have one size: the first has {height}×{width} pixels, {what} has "
                f"{other}×{wide}; give size"
            )
        return image


class _Scan(NamedTuple):
    """What one pass over a side found.

    Args:
        coloured: Whether any image has colours.
        content: Hashes of the images, by number of channels.
        size: Number of pixels.
        totals: Sum of the values of each channel.
        squares: Sum of their squares.
    """

    coloured: bool
    content: dict[int, list[str]]
    size: int
    totals: list[int]
    squares: list[int]

    def statistics(self, channels: int) -> MeanAndDeviation:
        mean = [total / self.size / 255 for total in self.totals[:channels]]
        pairs = zip(self.totals[:channels], self.squares[:channels], strict=True)
        return MeanAndDeviation(
            mean,
            [pixel_deviation(self.size, total=total, squares=square) for total, square in pairs],
        )


def _scanned(images: Images, sizes: _Sizes, side: str) -> _Scan:
    content: dict[int, list[str]] = {1: [], 3: []}
    coloured, count = False, 0
    totals, squares = [0, 0, 0], [0, 0, 0]
    for n in range(len(images.labels)):
        image = sizes.checked(images.read(n), f"{side} image {n}")
        coloured = coloured or image.ndim == 3
        # A grey image is hashed as both, since a later one may have colours; the first list is of
        # no use once one has.
        for channels in (1, 3) if image.ndim == 2 else (3,):
            content[channels].append(_digest(_channels(image, channels)))
        count += image.shape[0] * image.shape[1]
        for channel in range(3):
            values = (image if image.ndim == 2 else image[..., channel]).astype(np.int64).ravel()
            totals[channel] += int(values.sum())
            squares[channel] += int(values @ values)
    return _Scan(coloured, content, count, totals, squares)


def _digest(image: np.ndarray) -> str:
    total = content_start(image.dtype.name, image.shape)
    total.update(np.ascontiguousarray(image))
    return str(total.hexdigest())


def _channels(image: np.ndarray, channels: int) -> np.ndarray:
    """uint8 [H, W, C]."""
    return image if image.ndim == 3 else np.repeat(image[..., None], channels, axis=2)


def _stacked(images: list[np.ndarray], channels: int) -> np.ndarray:
    """uint8 [N, H, W, C], filled one image after the other: there are never two copies of all."""
    stacked = (
        np.empty((len(images), *images[0].shape[:2], channels), dtype=np.uint8)
        if images
        else np.empty((0, 1, 1, 1), np.uint8)
    )
    for n, image in enumerate(images):
        stacked[n] = _channels(image, channels)
    return stacked
