"""Fashion-MNIST from its four IDX files.

It has 60,000 + 10,000 grey images of 28×28 pixels in ten classes.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import configured
from eigenforget.data.bundle import Arrays, Data, from_arrays
from eigenforget.data.memory import check_fits
from eigenforget.data.normalisation import Normalize
from eigenforget.record import RecordError
from eigenforget.record.reading import opened

_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_UNSIGNED_BYTES = 0x08
_PIECE = 1 << 20


@configured
class FashionMnist:
    """Inputs [N, 1, H, W]; ids "train/<row>" and "test/<row>".

    Any four IDX files of this layout with at most ten classes will do. Each file may be plain or
    end in .gz; if both exist, the plain one is read. Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST"
    (arXiv 1708.07747).
    """

    name: ClassVar[str] = "fashion_mnist"
    root: Annotated[
        str,
        "folder of the IDX files; the default is where Debian's dataset-fashion-mnist puts them",
    ] = "/usr/share/datasets/fashion-mnist"
    normalize: Normalize = "train"

    def load(self) -> Data:
        """Reads the files.

        Raises:
            EigenforgetError: A file is missing or damaged; the message names it.
        """
        sides = {"train": self._side("train"), "test": self._side("t10k")}
        try:
            return from_arrays(**sides, class_names=_CLASSES, normalize=self.normalize)
        except EigenforgetError as error:
            raise EigenforgetError(f"fashion_mnist in {self.root!r}: {error}") from None

    def _side(self, prefix: str) -> Arrays:
        images = read_idx(self._find(f"{prefix}-images-idx3-ubyte"), dims=3)
        labels = read_idx(self._find(f"{prefix}-labels-idx1-ubyte"), dims=1)
        return Arrays(images, labels)

    def _find(self, name: str) -> Path:
        for candidate in (Path(self.root, name), Path(self.root, f"{name}.gz")):
            if os.path.isfile(candidate):  # False also for what is no name of a file
                return candidate
        raise EigenforgetError(
            f"no {name} or {name}.gz in {self.root!r}: give root='folder of the IDX files', "
            "or install Debian's package dataset-fashion-mnist"
        )


def read_idx(path: Path, *, dims: int) -> np.ndarray:
    """The uint8 array with `dims` axes in an IDX file, gzip-compressed where its name ends in .gz.

    The format: two zero bytes, type code 8, number of axes, one big-endian 32-bit length per axis,
    values with the last axis fastest.

    Raises:
        EigenforgetError: The file cannot be read, has another magic number, or is shorter or longer
            than its header says; the message names it.
    """
    header = 4 + 4 * dims
    content = _bytes(path, header)
    expected = bytes((0, 0, _UNSIGNED_BYTES, dims))
    if len(content) >= 4 and content[:4] != expected:
        raise EigenforgetError(
            f"{path}: magic number 0x{content[:4].hex()}, expected 0x{expected.hex()}"
        )
    if len(content) < header:
        raise EigenforgetError(
            f"{path}: truncated, {len(content)} bytes are fewer than the header's {header}"
        )
    shape = struct.unpack(f">{dims}I", content[4:header])
    wanted = math.prod(shape)
    if path.suffix == ".gz":
        check_fits(wanted, str(path))
    content = _bytes(path, header + wanted + 1)
    found = len(content) - header
    if found != wanted:
        problem = "truncated" if found < wanted else "too long"
        more = "more than " if found > wanted else ""
        values = f"{more}{min(found, wanted)} values"
        raise EigenforgetError(
            f"{path}: {problem}, {values} for the header's {list(shape)} = {wanted}"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def _bytes(path: Path, most: int) -> bytes:
    """The first bytes of a file, unpacked where it is compressed."""
    try:
        with opened(path) as file:
            if path.suffix == ".gz":
                return _unpacked(gzip.GzipFile(fileobj=file), most)
            return file.read(min(most, os.fstat(file.fileno()).st_size))
    except RecordError as error:
        raise EigenforgetError(str(error)) from None
    except (OSError, EOFError, zlib.error) as error:
        raise EigenforgetError(f"{path}: cannot be read: {error}") from None


def _unpacked(file: gzip.GzipFile, most: int) -> bytes:
    """At most so many bytes, piece by piece, so that no more memory is taken than there are."""
    found = bytearray()
    while len(found) < most and (piece := file.read(min(most - len(found), _PIECE))):
        found += piece
    return bytes(found)
