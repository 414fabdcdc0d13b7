"""Sources from whatever a caller has: arrays, tensors, datasets, loaders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, SequentialSampler, TensorDataset

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.data.sources.inputs import Inputs
from eigenforget.data.sources.kinds import DatasetSource, JoinedSource, Source, TensorSource


def as_source(data: Any, what: str = "data") -> Source:
    """A Source from an (inputs, labels) pair, a Dataset, or a DataLoader.

    The inputs of a pair are a tensor or a numpy array, or a dict of them by the name of the model's
    argument. Numpy's float64 becomes float32, the type of PyTorch's weights; tensors stay as they
    are. A DataLoader lends its dataset and collate function; the order and batch size are ours, so
    that a run can be repeated. A loader with its own sampler or batch sampler keeps its selection,
    each sample once.
    Iterable datasets have no fixed samples and are refused.
    """
    if isinstance(data, (TensorSource, DatasetSource, JoinedSource)):
        source: Source = data
    elif _is_pair(data):
        source = _from_pair(data[0], data[1], what)
    elif isinstance(data, DataLoader):
        source = _from_loader(data, what)
    elif isinstance(data, TensorDataset) and len(data.tensors) == 2:
        source = TensorSource(*data.tensors)
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        source = DatasetSource(cast("Dataset[Any]", data))
    elif hasattr(data, "batches") and hasattr(data, "subset"):
        source = data
    else:
        raise EigenforgetError(
            f"{what} must be (inputs, labels), a map-style Dataset or a DataLoader, got "
            f"{type(data).__name__}"
        )
    if len(source) == 0:
        raise EigenforgetError(f"{what} is empty")
    return source


def _is_pair(data: Any) -> bool:
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        return False
    inputs, labels = data
    values = list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]
    known = hasattr(labels, "__array__") or (
        isinstance(labels, list) and all(isinstance(label, int) for label in labels)
    )
    return known and bool(values) and all(hasattr(value, "__array__") for value in values)


def _from_pair(inputs: Any, labels: Any, what: str) -> TensorSource:
    if isinstance(inputs, Mapping):
        given: Inputs = {
            str(name): _tensor(value, f"{what}: {name}") for name, value in inputs.items()
        }
    else:
        given = _tensor(inputs, f"{what}: inputs")
    return TensorSource(given, _tensor(labels, f"{what}: labels"))


def _tensor(value: Any, what: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise EigenforgetError(f"{what} must be numbers, got {array.dtype} {list(array.shape)}")
    if array.dtype.kind == "f" and array.dtype.itemsize > 4:
        array = array.astype(np.float32)
    # PyTorch takes neither another machine's byte order nor read-only memory nor strides that run
    # backwards.
    return torch.as_tensor(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _from_loader(loader: DataLoader[Any], what: str) -> Source:
    dataset = loader.dataset
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise EigenforgetError(
            f"{what}: an iterable dataset has no fixed samples; give a map-style Dataset"
        )
    source = DatasetSource(dataset, collate=loader.collate_fn, workers=loader.num_workers)
    rows = _selection(loader, what)
    return source if rows is None else source.subset(rows)


def _selection(loader: DataLoader[Any], what: str) -> np.ndarray | None:
    """The samples that a loader's sampler or batch sampler selects; None for all of them.

    A sampler that draws with replacement weighs samples and selects none: all those of a weight
    above 0 are taken, with a warning.
    """
    sampler, total = loader.sampler, len(cast("Any", loader.dataset))
    if getattr(sampler, "replacement", False):
        weights = getattr(sampler, "weights", None)
        rows = np.arange(total) if weights is None else np.flatnonzero(np.asarray(weights) > 0)
        notices.warn(
            f"{what}: the loader's {type(sampler).__name__} draws with replacement, which does not "
            f"say which samples are meant: {len(rows)} of {total} are taken, each once; give the "
            "dataset or a Subset of it to choose them"
        )
        return rows
    own_batches = loader.batch_size is None and loader.batch_sampler is not None
    whole = isinstance(sampler, SequentialSampler) or (
        isinstance(sampler, RandomSampler) and sampler.num_samples == total
    )
    if whole and not own_batches:
        return None
    if own_batches:
        drawn = [row for batch in cast("Any", loader.batch_sampler) for row in batch]
    else:
        drawn = list(sampler)
    rows = np.unique(np.asarray(drawn, dtype=np.int64))
    if len(rows) < len(drawn):
        notices.warn(
            f"{what}: the loader gives {len(drawn)} samples, of which {len(rows)} differ: these "
            f"{len(rows)} of {total} are taken, each once"
        )
    return rows
