"""Your own images, one folder per class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from PIL import Image
from pydantic import Field

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.fields import Between01, Count, Positive, WholeNumber
from eigenforget.core.spec import configured
from eigenforget.core.text import listed
from eigenforget.data.bundle import Data
from eigenforget.data.holdout import Holdout, stratified
from eigenforget.data.images import Images, ImageStorage, Keep, image_data, pixels
from eigenforget.data.normalisation import Normalize

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
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

    In the second form a stratified, seeded share is held out. Classes are numbered in the order of
    their names; ids are the paths relative to `path`. Inputs are [N, 3, size, size], or [N, 1,
    size, size] where every image is grey. Alpha is dropped. Images of another size are resized
    bilinearly, without regard to their proportions. Hidden files are skipped; anything else that is
    no image is an error, so that no sample is left out unseen. Images that do not fit into
    memory_gib as tensors stay on disk: the inputs are the same, bit for bit.
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
        root = Path(self.path)
        folders = [folder.name for folder in _entries(root) if folder.is_dir()]
        divided = folders == ["test", "train"]
        classes = _classes(root / "train" if divided else root)
        if divided:
            test_classes = _classes(root / "test")
            if test_classes != classes:
                unlike = sorted(set(classes) ^ set(test_classes))
                raise EigenforgetError(
                    f"{root}: train and test differ in the classes {listed(unlike)}"
                )
            sides = {
                side: self._images(list(_files(root / side, classes))) for side in ("train", "test")
            }
        else:
            found = list(_files(root, classes))
            rows = self._rows(np.array([label for _, label in found]))
            sides = {
                side: self._images([found[row] for row in getattr(rows, side)])
                for side in ("train", "test")
            }
        return image_data(
            sides,
            keeping=ImageStorage(self.keep, self.memory_gib, self.workers),
            class_names=classes,
            normalize=self.normalize,
        )

    def _rows(self, labels: np.ndarray) -> Holdout:
        try:
            return stratified(labels, test_fraction=self.test_fraction, seed=self.seed)
        except EigenforgetError as error:
            raise EigenforgetError(f"{self.path}: {error}") from None

    def _images(self, files: list[tuple[Path, int]]) -> Images:
        ids = [path.relative_to(self.path).as_posix() for path, _ in files]
        return Images(
            _Files([path for path, _ in files], self.size),
            np.array([label for _, label in files]),
            ids,
        )


@dataclass(frozen=True, eq=False)
class _Files:
    """The n-th image of a list of paths."""

    paths: list[Path]
    size: int

    def __call__(self, n: int) -> np.ndarray:
        path = self.paths[n]
        try:
            with Image.open(path) as opened:
                return pixels(opened, self.size, str(path))
        except EigenforgetError:
            raise
        except (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise EigenforgetError(f"{path}: not a readable image: {error}") from None


def _classes(folder: Path) -> list[str]:
    names = [entry.name for entry in _entries(folder) if entry.is_dir()]
    if len(names) < 2:
        raise EigenforgetError(
            f"{folder}: at least two class folders are needed, found {listed(names) or 'none'}"
        )
    return names


def _files(folder: Path, classes: list[str]) -> Iterator[tuple[Path, int]]:
    for label, name in enumerate(classes):
        files = _entries(folder / name)
        strange = [
            path.name
            for path in files
            if not path.is_file() or path.suffix.lower() not in _SUFFIXES
        ]
        if strange:
            raise EigenforgetError(
                f"{folder / name}: holds {listed(strange)}; allowed: {', '.join(_SUFFIXES)}"
            )
        if not files:
            raise EigenforgetError(f"{folder / name}: this class has no images")
        yield from ((path, label) for path in files)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(
            (entry for entry in folder.iterdir() if not entry.name.startswith(".")),
            key=lambda entry: entry.name,
        )
    except OSError as error:
        raise EigenforgetError(f"{folder}: cannot be read as a folder: {error.strerror}") from None
