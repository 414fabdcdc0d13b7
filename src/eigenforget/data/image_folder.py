"""Your own images, one folder per class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.fields import Between01, Count, Positive, WholeNumber
from eigenforget.core.spec import configured
from eigenforget.core.text import listed
from eigenforget.data.bundle import Data
from eigenforget.data.holdout import Holdout, stratified
from eigenforget.data.images import (
    Images,
    ImageStorage,
    Keep,
    decoded,
    image_data,
    say_of_turned,
)
from eigenforget.data.normalisation import Normalize

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_OF_FILE_MANAGERS = ("thumbs.db", "desktop.ini", "__macosx", ".ds_store")
KeepField = Annotated[
    Keep, "'memory' as tensors, 'disk' reads them anew in each pass, 'auto' decides by memory_gib"
]
MemoryGib = Annotated[
    Positive, "size of the tensors up to which 'auto' keeps images in memory, in GiB"
]
Workers = Annotated[
    int,
    Field(ge=0, le=1024),
    "processes that read images from disk; 0 reads them in this one",
]


@configured
class ImageFolder:
    """Images in folders path/train/<class>/ and path/test/<class>/, or path/<class>/.

    This needs the extra `images`. In the second form a stratified, seeded share is held out.
    Classes are numbered in the order of their names; ids are the paths relative to `path`. Inputs
    are [N, 3, size, size], or [N, 1, size, size] if every image is grey. Alpha is dropped. Images
    of another size are resized bilinearly, without keeping their proportions. Photos are turned
    upright according to their EXIF entry. Hidden files and those of file managers (Thumbs.db) are
    skipped. Any other file that is not an image is an error, so that no sample is left out
    unnoticed. A class may have no test images. Images that do not fit into memory_gib as tensors
    stay on disk: the inputs are the same, bit for bit.
    """

    name: ClassVar[str] = "image_folder"
    path: Annotated[str, "the folder"]
    size: Annotated[Count, "height and width in pixels"] = 32
    test_fraction: Annotated[Between01, "share held out where no split is given"] = 0.2
    seed: Annotated[WholeNumber, "which samples are held out"] = 0
    keep: KeepField = "auto"
    memory_gib: MemoryGib = 2.0
    workers: Workers = 0
    normalize: Normalize = "train"

    def load(self) -> Data:
        """Reads the folder.

        Raises:
            EigenforgetError: An image cannot be read, there are fewer than two classes, a class has
                no images, or the sides have different classes.
        """
        root, ignored = Path(self.path), set[str]()
        folders = [folder.name for folder in _entries(root, ignored) if folder.is_dir()]
        divided = folders == ["test", "train"]
        classes = _classes(root / "train" if divided else root, ignored)
        if divided:
            tested = [folder.name for folder in _entries(root / "test", ignored) if folder.is_dir()]
            unknown = sorted(set(tested) - set(classes))
            if unknown:
                raise EigenforgetError(
                    f"{root}: test has the classes {listed(unknown)}, which train has not"
                )
            sides = {
                side: self._images(
                    list(_files(root / side, classes, ignored, needed=side == "train"))
                )
                for side in ("train", "test")
            }
        else:
            found = list(_files(root, classes, ignored))
            rows = self._rows(np.array([label for _, label in found]))
            sides = {
                side: self._images([found[row] for row in getattr(rows, side)])
                for side in ("train", "test")
            }
        data = image_data(
            sides,
            keeping=ImageStorage(self.keep, self.memory_gib, self.workers),
            class_names=classes,
            normalize=self.normalize,
        )
        say_of_turned(sides.values())
        if ignored:
            notices.warn(f"left out, as no images: {listed(sorted(ignored))}")
        return data

    def _rows(self, labels: np.ndarray) -> Holdout:
        try:
            return stratified(labels, test_fraction=self.test_fraction, seed=self.seed)
        except EigenforgetError as error:
            raise EigenforgetError(f"{self.path}: {error}") from None

    def _images(self, files: list[tuple[Path, int]]) -> Images:
        ids = [path.relative_to(self.path).as_posix() for path, _ in files]
        return Images(
            _Files([path for path, _ in files], self.size),
            np.array([label for _, label in files], dtype=np.int64),
            ids,
        )


@dataclass(frozen=True, eq=False)
class _Files:
    """The n-th image of a list of paths."""

    paths: list[Path]
    size: int
    turned: set[int] = field(default_factory=set)

    def __call__(self, n: int) -> np.ndarray:
        path = self.paths[n]
        return decoded(path, self.size, str(path), lambda: self.turned.add(n))


def _classes(folder: Path, ignored: set[str]) -> list[str]:
    names = [entry.name for entry in _entries(folder, ignored) if entry.is_dir()]
    if len(names) < 2:
        raise EigenforgetError(
            f"{folder}: at least two class folders are needed, found {listed(names) or 'none'}"
        )
    return names


def _files(
    folder: Path, classes: list[str], ignored: set[str], *, needed: bool = True
) -> Iterator[tuple[Path, int]]:
    for label, name in enumerate(classes):
        there = needed or (folder / name).is_dir()
        files = _entries(folder / name, ignored) if there else []
        strange = [
            path.name
            for path in files
            if not path.is_file() or path.suffix.lower() not in _SUFFIXES
        ]
        if strange:
            raise EigenforgetError(
                f"{folder / name}: holds {listed(strange)}; allowed: {', '.join(_SUFFIXES)}"
            )
        if not files and needed:
            raise EigenforgetError(f"{folder / name}: this class has no images")
        yield from ((path, label) for path in files)


def _entries(folder: Path, ignored: set[str]) -> list[Path]:
    """What is in a folder, without what file managers put there; `ignored` gets those names."""
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise EigenforgetError(f"{folder}: cannot be read as a folder: {error.strerror}") from None
    ignored.update(entry.name for entry in entries if entry.name.lower() in _OF_FILE_MANAGERS)
    return [entry for entry in entries if not (entry.name.startswith(".") or entry.name in ignored)]
