"""The Data of train and test sets that a user's own function returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Subset

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Index
from eigenforget.data.bundle import Data, check_range, class_labels, data_of, index_of
from eigenforget.data.rows import SIDES, RowFacts
from eigenforget.data.sources import DatasetSource, Samples, Source, TensorSource, as_source
from eigenforget.data.sources.content import content_rows, inputs_of, reads_the_same


def as_data(made: Any) -> Data:
    """The Data that this is, or that these sets make.

    Inputs go to the model as the sets give them: transforms, augmentation and normalisation are
    theirs. Each set may have the attributes `ids`, `groups` and `columns` (a mapping of columns by
    name), one value for each sample, and `classes`, the names of the classes. Without `ids` a
    sample is "train/<row>" or "test/<row>".

    Args:
        made: A Data, or the training and the test set as a pair or as a mapping with "train" and
            "test". A set is (inputs, labels), a map-style Dataset, a DataLoader or Samples of one.

    Raises:
        EigenforgetError: It is none of these, a set cannot be read, or what the sets say of their
            samples is wrong.
    """
    if isinstance(made, Data):
        return made
    if isinstance(made, Mapping) and set(SIDES) <= made.keys():
        made = (made["train"], made["test"])
    if not isinstance(made, (tuple, list)) or len(made) != 2:
        raise EigenforgetError(
            "the function of a data set returns a Data, or a training and a test set, as in "
            f"return train, test; got {type(made).__name__}"
        )
    sources, index, names = {}, {}, tuple[str, ...]()
    for side, given in zip(SIDES, made, strict=True):
        source = as_source(given, f"{side} set")
        if not isinstance(source, (TensorSource, DatasetSource)):
            raise EigenforgetError(f"{side} set: a joined source is no Dataset; give its parts")
        names = names or _class_names(_dataset(given))
        sources[side], index[side] = source, _index(source, _dataset(given), side)
    counted = range(int(index["train"].labels.max()) + 1)
    names = names or tuple(map(str, counted))
    for side in SIDES:
        check_range(index[side].labels, side, len(names))
    return data_of(sources, index, names)


def _index(source: Source, dataset: Any, side: str) -> Index:
    labels = class_labels(source.labels(), side)
    known = _facts(dataset, len(labels), side)
    if reads_the_same(source):
        content = np.array([inputs_of(row) for row in content_rows(source)])
        return index_of(known, labels, content, side)
    notices.warn(
        f"the {side} set gives other samples each time it is read, so that copies and changes of "
        "samples are not looked for; return Samples(dataset, eval_transform=…)"
    )
    return index_of(known, labels, None, side)


def _facts(dataset: Any, n: int, side: str) -> RowFacts:
    columns = _attribute(dataset, "columns")
    named = columns if isinstance(columns, Mapping) else {}
    ids = _of_samples(dataset, "ids", n)
    if ids is None:
        ids = np.array([f"{side}/{row}" for row in range(n)])
    return RowFacts(ids, _of_samples(dataset, "groups", n), dict(named))


def _of_samples(dataset: Any, name: str, n: int) -> Any:
    """The attribute, where it has a value for each sample; a method or a count is none."""
    value = _attribute(dataset, name)
    sized = isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str)
    return np.asarray(value) if sized and len(value) == n else None


def _dataset(given: Any) -> Any:
    """What is inside of Samples and loaders."""
    inner = given.data if isinstance(given, Samples) else given
    return getattr(inner, "dataset", inner) if hasattr(inner, "batch_sampler") else inner


def _attribute(dataset: Any, name: str) -> Any:
    """An attribute of a dataset; of a Subset, the rows of that of the whole."""
    if not isinstance(dataset, Subset):
        return getattr(dataset, name, None)
    whole = _attribute(dataset.dataset, name)
    if isinstance(whole, Mapping):
        return {key: _rows(values, dataset) for key, values in whole.items()}
    return whole if whole is None or name == "classes" else _rows(whole, dataset)


def _rows(values: Any, subset: Subset[Any]) -> Any:
    sized = isinstance(values, (Sequence, np.ndarray)) and len(values) == len(subset.dataset)  # type: ignore[arg-type]
    return np.asarray(values)[np.asarray(subset.indices, dtype=np.int64)] if sized else None


def _class_names(dataset: Any) -> tuple[str, ...]:
    """The names that a dataset of torchvision or Hugging Face has for its classes."""
    named = _attribute(dataset, "classes")
    if isinstance(named, (Sequence, np.ndarray)) and not isinstance(named, str):
        return tuple(map(str, named))
    features = _attribute(dataset, "features")
    column = features.get("label") if isinstance(features, Mapping) else None
    return tuple(map(str, getattr(column, "names", None) or ()))
