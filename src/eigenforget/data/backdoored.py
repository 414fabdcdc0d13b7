"""A data set with a planted backdoor.

Some training samples carry a trigger and the attacker's label.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import replace
from typing import Annotated, Any, ClassVar, cast

import numpy as np
import torch
from pydantic import AfterValidator
from torch import Tensor

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.fields import Between01, Count, WholeNumber
from eigenforget.core.spec import configured
from eigenforget.core.text import listed
from eigenforget.core.types import Index
from eigenforget.data.bundle import Data
from eigenforget.data.sources import TensorSource

_COLUMNS = ("poisoned", "true_label")


def inner_data(value: Any) -> Any:
    """The value, if it is a data set.

    Raises:
        ValueError: It is none (pydantic reports it).
    """
    if (
        dataclasses.is_dataclass(value)
        and not isinstance(value, type)
        and callable(getattr(value, "load", None))
    ):
        return value
    raise ValueError(f"a data set is needed, such as digits(), got {value!r}")


@configured
class BackdooredData:
    """Another data set in which some training images get a square trigger and the label `target`.

    The trigger is a square of size × size pixels in the lower right corner, at the largest value
    that the training images have in each channel (BadNets, arXiv 1708.06733). A share of the
    training images of other classes gets it. The index column "poisoned" (1 or 0) says which
    samples were changed, and "true_label" their label before. A poisoned sample has its own content
    digest. Data.triggered has all test images of other classes, with the trigger and the label
    `target`; the share of them that the model calls `target` is the attack success rate.
    """

    name: ClassVar[str] = "backdoored"
    inner: Annotated[Any, AfterValidator(inner_data), "the clean data set, as in digits()"]
    target: Annotated[WholeNumber, "class that the trigger calls for"] = 0
    fraction: Annotated[Between01, "share of all training samples that is poisoned"] = 0.05
    size: Annotated[Count, "side of the trigger in pixels"] = 3
    seed: Annotated[WholeNumber, "which samples are poisoned"] = 0

    def load(self) -> Data:
        """Loads the data and plants the trigger.

        Raises:
            EigenforgetError: The data are no images or have one of these columns already, the
                target is no class, the trigger is larger than the image, the share poisons nothing,
                or the test data are of the class `target` alone.
        """
        clean: Data = self.inner.load()
        train, value = self._checked(clean)
        test = cast("TensorSource", clean.test)
        others = np.flatnonzero(clean.test_index.labels != self.target)
        if not len(others):
            raise EigenforgetError(
                f"the test data has no sample of another class than target={self.target} to "
                "plant the trigger in"
            )
        chosen = self._chosen(clean.train_index)
        return replace(
            clean,
            train=self._poisoned(train, chosen, value),
            train_index=self._marked(clean.train_index, chosen),
            test_index=self._marked(clean.test_index, np.array([], dtype=np.int64)),
            triggered=self._poisoned(test.subset(others), np.arange(len(others)), value),
            triggered_ids=clean.test_index.ids[others],
        )

    def _checked(self, clean: Data) -> tuple[TensorSource, Tensor]:
        """The training images, and the value of the trigger in each channel [C]."""
        train = clean.train
        if (
            not isinstance(train, TensorSource)
            or not isinstance(train.inputs, Tensor)
            or train.inputs.ndim != 4
        ):
            raise EigenforgetError(
                "backdoored plants a trigger into images [N, C, H, W] that are kept in memory"
            )
        known = {*clean.train_index.columns, *clean.test_index.columns}
        if taken := [name for name in _COLUMNS if name in known]:
            raise EigenforgetError(
                f"the data has a column {listed(taken)} already, which backdoored would overwrite"
            )
        if self.target >= clean.num_classes:
            raise EigenforgetError(
                f"target={self.target} is not one of the classes 0 to {clean.num_classes - 1}"
            )
        height, width = train.inputs.shape[2:]
        if self.size > min(height, width):
            raise EigenforgetError(
                f"a trigger of size={self.size} does not fit images of {height}×{width} pixels"
            )
        return train, train.inputs.amax(dim=(0, 2, 3))

    def _chosen(self, index: Index) -> np.ndarray:
        """Positions of the samples to poison, drawn by id, so their order does not matter."""
        count = round(self.fraction * len(index))
        others = np.flatnonzero(index.labels != self.target)
        if not 0 < count <= len(others):
            raise EigenforgetError(
                f"fraction={self.fraction} poisons {count} samples; there are {len(others)} of "
                "other classes"
            )
        draw = np.random.default_rng(seeds.derive(self.seed, "backdoored"))
        return np.sort(index.drawn(others, count, draw))

    def _poisoned(self, source: TensorSource, rows: np.ndarray, value: Tensor) -> TensorSource:
        inputs, labels = cast(Tensor, source.inputs).clone(), source.targets.clone()
        which = torch.as_tensor(rows)
        patch = value[None, :, None, None].expand(len(which), -1, self.size, self.size)
        changed = inputs[which]
        changed[:, :, -self.size :, -self.size :] = patch
        inputs[which], labels[which] = changed, self.target
        return replace(source, inputs=inputs, targets=labels)

    def _marked(self, index: Index, rows: np.ndarray) -> Index:
        flags = np.zeros(len(index), dtype=np.int64)
        flags[rows] = 1
        labels = np.where(flags == 1, self.target, index.labels)
        content = index.content
        if content is not None:
            mark = f"+trigger {self.size} {self.target}"
            content = np.array(
                [
                    hashlib.sha256(f"{c}{mark}".encode()).hexdigest() if f else c
                    for c, f in zip(content, flags, strict=True)
                ]
            )
        columns = {**index.columns, "poisoned": flags, "true_label": index.labels}
        return Index(index.ids, labels, index.groups, content, columns)
