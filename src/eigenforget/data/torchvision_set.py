"""The image sets of torchvision."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.extras import needed
from eigenforget.core.fields import NonEmpty, WholeNumber
from eigenforget.core.spec import configured
from eigenforget.core.text import listed
from eigenforget.data.bundle import Data
from eigenforget.data.image_folder import KeepField, MemoryGib, Workers
from eigenforget.data.images import (
    Images,
    ImageStorage,
    image_data,
    is_turned,
    pillow,
    pixels,
    say_of_turned,
)
from eigenforget.data.normalisation import Normalize

Size = Annotated[
    WholeNumber, "height and width to resize to; 0 takes the images as they are, all of one size"
]
_LABELS = ("targets", "labels", "_labels")
"""Where torchvision's sets keep the class of every image."""


@configured
class TorchvisionSet:
    """A set of torchvision.datasets with a training and a test side (extra `vision`).

    These are CIFAR10, CIFAR100, MNIST, SVHN, GTSRB and others. Inputs are [N, 3, H, W], or [N, 1,
    H, W] if every image is grey, normalised as in image_folder; ids are "train/<row>" and
    "test/<row>". Nothing is downloaded without download=True.
    """

    name: ClassVar[str] = "torchvision_set"
    dataset: Annotated[NonEmpty, "name in torchvision.datasets"] = "CIFAR10"
    root: Annotated[str, "folder of the files"] = "data"
    download: Annotated[bool, "fetch the files where they are missing"] = False
    train: Annotated[str, "name of the training side, for sets that name their sides"] = "train"
    test: Annotated[str, "name of the test side, for sets that name their sides"] = "test"
    size: Size = 0
    keep: KeepField = "auto"
    memory_gib: MemoryGib = 2.0
    workers: Workers = 0
    normalize: Normalize = "train"

    def load(self) -> Data:
        """Loads the set.

        Raises:
            EigenforgetError: torchvision is missing, there is no such set, it has not two sides or
                targets that are no classes, its files are not in `root`, or images are of several
                sizes.
        """
        library = needed("torchvision.datasets", extra="vision", what="torchvision_set")
        kind = getattr(library, self.dataset, None)
        if not inspect.isclass(kind) or self.dataset not in library.__all__:
            raise EigenforgetError(
                f"torchvision has no data set {self.dataset!r}; it has: "
                f"{listed(library.__all__, 100)}"
            )
        found = {side: self._side(kind, side) for side in ("train", "test")}
        sides = {side: self._images(dataset, side) for side, dataset in found.items()}
        try:
            keeping = ImageStorage(self.keep, self.memory_gib, self.workers)
            data = image_data(
                sides,
                keeping=keeping,
                class_names=_class_names(found["train"], sides["train"].labels),
                normalize=self.normalize,
            )
            say_of_turned(sides.values())
            return data
        except EigenforgetError as error:
            raise EigenforgetError(f"{self.dataset} in {self.root!r}: {error}") from None

    def _side(self, kind: Callable[..., Any], side: str) -> Any:
        known = inspect.signature(kind).parameters
        given: dict[str, Any] = {"root": self.root}
        if "train" in known:
            given["train"] = side == "train"
        elif "split" in known:
            given["split"] = self.train if side == "train" else self.test
        else:
            raise EigenforgetError(
                f"torchvision's {self.dataset} has no training and test side; save it as an "
                "image_folder"
            )
        if self.download and "download" in known:
            given["download"] = True
        try:
            return kind(**given)
        except (RuntimeError, ValueError, TypeError, OSError, ImportError) as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise EigenforgetError(f"{self.dataset} in {self.root!r}: {line}") from None

    def _images(self, dataset: Any, side: str) -> Images:
        labels = next(
            (
                labels
                for name in _LABELS
                if (labels := _classes(getattr(dataset, name, None), len(dataset))) is not None
            ),
            None,
        )
        if labels is None:
            labels = _classes([dataset[n][1] for n in range(len(dataset))], len(dataset))
        if labels is None:
            raise EigenforgetError(f"{self.dataset}: the {side} targets are not class numbers")
        return Images(ItemImages(dataset, 0, self.size or None, f"{self.dataset} {side}"), labels)


@dataclass(frozen=True, eq=False)
class ItemImages:
    """The n-th image of a dataset whose items hold a Pillow image under `key`."""

    dataset: Any
    key: int | str
    size: int | None
    what: str
    turned: set[int] = field(default_factory=set)

    def __call__(self, n: int) -> np.ndarray:
        """The n-th image."""
        where, library = f"{self.what} image {n}", pillow("Image")
        try:
            image = self.dataset[n][self.key]
        except (
            OSError,
            EOFError,
            SyntaxError,
            ValueError,
            library.DecompressionBombError,
        ) as error:
            raise EigenforgetError(f"{where}: not a readable image: {error}") from None
        if not isinstance(image, library.Image):
            raise EigenforgetError(f"{where}: must be an image, got {type(image).__name__}")
        if is_turned(image):
            self.turned.add(n)
        return pixels(image, self.size, where)


def _classes(values: Any, count: int) -> np.ndarray | None:
    """int64 [N], or None where the values are no class of each image."""
    if values is None or not hasattr(values, "__len__") or len(values) != count:
        return None
    try:
        labels = np.asarray(values)
    except ValueError:
        return None
    return labels.astype(np.int64) if labels.ndim == 1 and labels.dtype.kind in "iu" else None


def _class_names(dataset: Any, labels: np.ndarray) -> list[str] | None:
    names = getattr(dataset, "classes", None)
    known = (
        isinstance(names, (list, tuple))
        and all(isinstance(name, str) for name in names)
        and len(names) > int(labels.max())
    )
    return list(names) if known and names is not None else None
