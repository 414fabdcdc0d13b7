"""A data set in which some labels of two classes are mixed up."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import AfterValidator, field_validator

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.fields import UpTo1, WholeNumber
from eigenforget.core.spec import configured
from eigenforget.core.text import listed
from eigenforget.core.types import Index
from eigenforget.data.backdoored import inner_data
from eigenforget.data.bundle import Data
from eigenforget.data.sources import TensorSource

_COLUMNS = ("confused", "true_label")


@configured
class ConfusedData:
    """Another data set in which training samples of two classes bear each other's label.

    A share of the training samples of either class gets the label of the other one (interclass
    confusion). The index column "confused" (1 or 0) says which samples, and "true_label" their
    label before; test data keep their labels. A model trained on these data confuses the two
    classes on test data, and one retrained without the confused samples does not. The request
    `confused_samples()` selects them.

    Source: Goel et al. (arXiv 2201.06640). Deviation: a share of each class in place of a number.
    """

    name: ClassVar[str] = "confused"
    inner: Annotated[Any, AfterValidator(inner_data), "the clean data set, as in digits()"]
    classes: Annotated[tuple[WholeNumber, WholeNumber], "the two classes"] = (0, 1)
    fraction: Annotated[UpTo1, "share of either class whose labels are changed"] = 0.5
    seed: Annotated[WholeNumber, "which samples"] = 0

    @field_validator("classes")
    @classmethod
    def _differ(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] == value[1]:
            raise ValueError(f"needs two classes that differ, got {value[0]} twice")
        return value

    def load(self) -> Data:
        """Loads the data and mixes the labels.

        Raises:
            EigenforgetError: The data are not kept in memory, have one of these columns already, or
                lack a class, or the share rounds to no sample of one.
        """
        clean: Data = self.inner.load()
        train = clean.train
        if not isinstance(train, TensorSource):
            raise EigenforgetError("confused changes labels of data that are kept in memory")
        known = {*clean.train_index.columns, *clean.test_index.columns}
        if taken := [name for name in _COLUMNS if name in known]:
            raise EigenforgetError(
                f"the data has a column {listed(taken)} already, which confused would overwrite"
            )
        labels = clean.train_index.labels.copy()
        for label, other in (self.classes, self.classes[::-1]):
            labels[self._chosen(clean.train_index, label)] = other
        targets = torch.as_tensor(labels).to(train.targets)
        return replace(
            clean,
            train=replace(train, targets=targets),
            train_index=_marked(clean.train_index, labels),
            test_index=_marked(clean.test_index, clean.test_index.labels),
        )

    def _chosen(self, index: Index, label: int) -> np.ndarray:
        """Positions of the samples of a class to change, drawn by id: their order is no matter."""
        rows = np.flatnonzero(index.labels == label)
        count = round(self.fraction * len(rows))
        if count == 0:
            raise EigenforgetError(
                f"fraction={self.fraction} of the {len(rows)} training samples of class {label} "
                "rounds to none: nothing would be confused"
            )
        draw = np.random.default_rng(seeds.derive(self.seed, self.name, label))
        return index.drawn(rows, count, draw)


def _marked(index: Index, labels: np.ndarray) -> Index:
    """The index with these labels, and the columns that say which are not the true ones."""
    changed = (labels != index.labels).astype(np.int64)
    columns = {**index.columns, "confused": changed, "true_label": index.labels}
    return replace(index, labels=labels, columns=columns)
