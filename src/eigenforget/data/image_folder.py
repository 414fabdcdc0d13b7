"""Your own images, one folder per class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from PIL import Image
from pydantic import Field

from eigenforget.data.bundle import Arrays, Data, from_arrays
from eigenforget.data.holdout import stratified
from eigenforget.spec import configured
from eigenforget.types import EigenforgetError, listed

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_GREY = ("L", "1")
_DEEP = ("I", "F")
"""First letter of Pillow's modes with more than 8 bits (I;16, …), which its conversion to RGB would clip."""


@configured
class ImageFolder:
    """path/train/<class>/ and path/test/<class>/, or path/<class>/ with a stratified, seeded split.

    Classes are numbered in the order of their names; ids are the paths relative to `path`. Inputs [N, 3, size, size],
    or [N, 1, size, size] where every image is grey. Alpha is dropped. Images of another size are resized bilinearly,
    without regard to their proportions. Hidden files are skipped; anything else that is no image is an error, so that
    no sample is left out unseen. Errors: unreadable image, fewer than two classes, a class without images, sides with
    different classes.
    """

    name: ClassVar[str] = "image_folder"
    path: Annotated[str, Field(description="the folder")]
    size: Annotated[int, Field(ge=1, description="height and width in pixels")] = 32
    test_fraction: Annotated[float, Field(gt=0, lt=1, description="share held out where no split is given")] = 0.2
    seed: Annotated[int, Field(ge=0, description="which samples are held out")] = 0

    def load(self) -> Data:
        root = Path(self.path)
        folders = [folder.name for folder in _entries(root) if folder.is_dir()]
        divided = folders == ["test", "train"]
        classes = _classes(root / "train" if divided else root)
        if divided:
            test_classes = _classes(root / "test")
            if test_classes != classes:
                unlike = sorted(set(classes) ^ set(test_classes))
                raise EigenforgetError(f"{root}: train and test differ in the classes {listed(unlike)}")
            files = [list(_files(root / side, classes)) for side in ("train", "test")]
            images = self._images([path for side in files for path, _ in side])
            train = self._arrays(files[0], images[: len(files[0])])
            test = self._arrays(files[1], images[len(files[0]) :])
        else:
            found = list(_files(root, classes))
            labels = np.array([label for _, label in found])
            rows = self._rows(labels)
            whole = self._arrays(found, self._images([path for path, _ in found]))
            train, test = whole.rows(rows[0]), whole.rows(rows[1])
        return from_arrays(train=train, test=test, class_names=classes)

    def _rows(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            return stratified(labels, test_fraction=self.test_fraction, seed=self.seed)
        except EigenforgetError as error:
            raise EigenforgetError(f"{self.path}: {error}") from None

    def _arrays(self, files: list[tuple[Path, int]], images: np.ndarray) -> Arrays:
        ids = [path.relative_to(self.path).as_posix() for path, _ in files]
        return Arrays(images, np.array([label for _, label in files]), ids)

    def _images(self, paths: list[Path]) -> np.ndarray:
        """uint8 [N, size, size] where all are grey, else [N, size, size, 3]."""
        images = [_pixels(path, self.size) for path in paths]
        if all(image.ndim == 2 for image in images):
            return np.stack(images)
        return np.stack([image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2) for image in images])


def _pixels(path: Path, size: int) -> np.ndarray:
    """uint8 [size, size] of a grey image, [size, size, 3] of any other."""
    try:
        with Image.open(path) as opened:
            if opened.mode.startswith(_DEEP):
                raise EigenforgetError(f"{path}: images must have 8 bits per channel, got mode {opened.mode!r}")
            image = opened.convert("L" if opened.mode in _GREY else "RGB")
    except EigenforgetError:
        raise
    except (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise EigenforgetError(f"{path}: not a readable image: {error}") from None
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _classes(folder: Path) -> list[str]:
    names = [entry.name for entry in _entries(folder) if entry.is_dir()]
    if len(names) < 2:
        raise EigenforgetError(f"{folder}: at least two class folders are needed, found {listed(names) or 'none'}")
    return names


def _files(folder: Path, classes: list[str]) -> Iterator[tuple[Path, int]]:
    for label, name in enumerate(classes):
        files = _entries(folder / name)
        strange = [path.name for path in files if not path.is_file() or path.suffix.lower() not in _SUFFIXES]
        if strange:
            raise EigenforgetError(f"{folder / name}: holds {listed(strange)}; allowed: {', '.join(_SUFFIXES)}")
        if not files:
            raise EigenforgetError(f"{folder / name}: this class has no images")
        yield from ((path, label) for path in files)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(
            (entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=lambda entry: entry.name
        )
    except OSError as error:
        raise EigenforgetError(f"{folder}: cannot be read as a folder: {error.strerror}") from None
