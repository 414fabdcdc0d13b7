"""Sources from whatever a caller has: arrays, tensors, datasets, loaders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError, naming
from eigenforget.core.text import first_line
from eigenforget.data.sources.inputs import Inputs, Layout, label_tensor, mapped
from eigenforget.data.sources.kinds import (
    UNREADABLE,
    DatasetSource,
    JoinedSource,
    Source,
    TensorSource,
    offered_labels,
    read_labels,
)
from eigenforget.data.sources.loaders import is_loader, selection
from eigenforget.data.sources.reading import one_batch, spread_rows
from eigenforget.data.sources.samples import Samples, with_transform
from eigenforget.data.sources.streams import (
    MappedRows,
    is_mapped,
    is_stream,
    plain_type,
    sample_list,
    whole,
)

_LOOKED_AT = 32
"""Samples of a dataset that are read before it is used."""


def as_source(data: Any, what: str = "data") -> Source:
    """A Source from an (inputs, labels) pair, a Dataset, a DataLoader, or Samples of one of these.

    The inputs of a pair are a tensor or a numpy array, or a dict of them by the name of the model's
    argument. Numpy's float64 becomes float32, the type of PyTorch's weights; tensors stay as they
    are. Of a DataLoader, the dataset and the collate function are used; order and batch size are
    set here, so that a run can be repeated. If the loader has its own sampler or batch sampler, the
    samples that it selects are used, each once. Some samples of a dataset are read at once. It must
    be clear which item is the label, and labels that the dataset offers as `targets` or `labels`
    must be those of the samples.

    Raises:
        EigenforgetError: The data is empty, has no fixed samples, cannot be read, or leaves a doubt
            that Samples(…) settles; `what` names the data.
    """
    given = data if isinstance(data, Samples) else Samples(data)
    try:
        with naming(what):
            return _from_samples(given, what)
    except EigenforgetError:
        raise
    except UNREADABLE as error:
        raise EigenforgetError(f"{what} cannot be read: {first_line(error)}") from error


def _from_samples(given: Samples, what: str) -> Source:
    data = given.data
    _check_are_samples(data, what)
    if isinstance(data, (TensorSource, DatasetSource, JoinedSource)):
        source: Source = data
    elif (pair := _as_pair(given)) is not None:
        source = _from_pair(*pair, what)
    elif is_loader(data):
        source = _from_loader(given, what)
    elif is_stream(data):
        source = _from_dataset(replace(given, data=sample_list(data, what)), what)
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, str):
        source = _from_dataset(given, what)
    elif hasattr(data, "batches") and hasattr(data, "subset"):
        source = data
    else:
        raise EigenforgetError(
            f"{what} must be (inputs, labels), a map-style Dataset or a DataLoader, got "
            f"{type(data).__name__}"
        )
    if len(source) == 0:
        raise EigenforgetError(f"{what} is empty")
    if isinstance(source, DatasetSource) and source is not data:
        return _checked(source, given, what)
    if given.eval_transform is not None or given.clean is not None:
        raise EigenforgetError(
            "eval_transform= and clean= are for Datasets; tensors are the same in each pass"
        )
    return source


def _check_are_samples(data: Any, what: str) -> None:
    """Checks that this is not what people give in place of samples.

    Raises:
        EigenforgetError: It is; the message names the cure.
    """
    kind, rows = type(data).__name__, "Subset(dataset, rows) makes samples of row numbers"
    if isinstance(data, str):
        line = f"must be samples, got {data!r}; specs in words are for commands"
    elif kind == "DataFrame":
        line = "is a DataFrame: give (frame[[…]], frame['…']), the columns of inputs and the labels"
    elif _is_array(data):
        line = f"is a {kind} without labels: give (inputs, labels); {rows}"
    elif isinstance(data, (list, tuple, range)) and data and isinstance(data[0], Integral):
        line = f"is a {kind} of numbers: give (inputs, labels); {rows}"
    elif isinstance(data, Mapping) and any(hasattr(part, "features") for part in data.values()):
        line = f"is a {kind} of datasets: give one of them, such as data[{next(iter(data))!r}]"
    else:
        return
    raise EigenforgetError(f"{what} {line}")


def _as_pair(given: Samples) -> tuple[Any, Any] | None:
    """Inputs and labels of data that is in memory; None for other data."""
    data, layout = given.data, Layout(given.inputs, given.label)
    if isinstance(data, TensorDataset):
        return layout.pair(data.tensors)
    if isinstance(data, Mapping):
        return layout.pair(data)
    if not isinstance(data, (tuple, list)):
        return None
    if given.inputs is not None or given.label is not None:
        samples = isinstance(data, list) and any(map(_is_sample, data))
        columns = bool(data) and all(map(_is_column, data)) and not samples
        return layout.pair(data) if columns else None
    if len(data) == 2 and _is_array(data[0]) and data[1] is None:
        raise EigenforgetError("labels must be a 1-D integer tensor, got None")
    if len(data) != 2 or not _is_column(data[1]):
        return None
    inputs = list(data[0].values()) if isinstance(data[0], Mapping) else [data[0]]
    if (inputs and all(map(_is_array, inputs))) or _are_lists(*data):
        return data[0], data[1]
    return None


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__")


def _is_column(value: Any) -> bool:
    return _is_array(value) or isinstance(value, (list, tuple))


def _is_sample(value: Any) -> bool:
    """Whether these are the items of one sample, and no column: a tuple, or of several kinds."""
    return isinstance(value, tuple) or (
        isinstance(value, list) and len({_is_array(item) for item in value}) == 2
    )


def _are_lists(inputs: Any, labels: Any) -> bool:
    """Whether these are rows and labels in plain lists, and not two samples."""
    return (
        isinstance(inputs, list)
        and isinstance(labels, list)
        and len(inputs) == len(labels)
        and all(isinstance(row, list) or _is_array(row) for row in inputs)
        and all(isinstance(label, (Integral, str)) for label in labels)
    )


def _from_pair(inputs: Any, labels: Any, what: str) -> Source:
    targets = _targets(labels, what)
    if is_mapped(inputs):
        if len(inputs) != len(targets):
            raise EigenforgetError(
                f"{len(targets)} labels and inputs {list(inputs.shape)}: the counts must be equal"
            )
        if inputs.dtype.kind not in "biuf":
            raise EigenforgetError(f"{what}: inputs must be numbers, got {inputs.dtype}")
        rows = MappedRows(inputs, targets)
        return DatasetSource(rows, collate=whole, known=targets.cpu().numpy())
    if isinstance(inputs, Mapping):
        given: Inputs = {
            str(name): _tensor(value, f"{what}: {name}") for name, value in inputs.items()
        }
    else:
        given = _tensor(inputs, f"{what}: inputs")
    return _on_one_device(given, targets)


def _on_one_device(inputs: Inputs, targets: Tensor) -> TensorSource:
    """The samples where their first input is: labels are often made elsewhere, as by numpy."""
    first = next(iter(inputs.values()), targets) if isinstance(inputs, Mapping) else inputs
    there = first.device
    return TensorSource(mapped(inputs, lambda value: value.to(there)), targets.to(there))


def _targets(labels: Any, what: str) -> Tensor:
    if not isinstance(labels, Tensor):
        column = np.asarray(labels)
        is_word = column.dtype.kind == "U" or any(isinstance(v, str) for v in column.ravel()[:1])
        if column.dtype == object and all(isinstance(v, Integral) for v in column.ravel()):
            column = column.astype(np.int64)
        labels = column.ravel().tolist() if is_word else _tensor(column, f"{what}: labels")
    return label_tensor(labels)


def _tensor(value: Any, what: str) -> Tensor:
    if isinstance(value, Tensor):
        if value.layout is not torch.strided or value.is_meta or value.is_quantized:
            kind = "no values (device meta)" if value.is_meta else f"layout {value.layout}"
            raise EigenforgetError(f"{what} must be a plain tensor, got {kind}; see to_dense()")
        return value.detach()
    array = _stacked(value)
    if array.dtype.kind not in "biuf":
        raise EigenforgetError(f"{what} must be numbers, got {array.dtype} {list(array.shape)}")
    # PyTorch takes neither another machine's byte order nor read-only memory nor strides that run
    # backwards.
    return torch.as_tensor(np.array(array, dtype=plain_type(array.dtype), order="C"))


def _stacked(value: Any) -> np.ndarray:
    """An array of what is an array, or a list of rows."""
    if isinstance(value, list) and value and all(isinstance(row, Tensor) for row in value):
        return torch.stack(value).detach().cpu().numpy()
    return np.asarray(value)


def _from_dataset(given: Samples, what: str, **settings: Any) -> DatasetSource:
    dataset = given.data
    plain = None
    layout = Layout(given.inputs, given.label)
    if given.eval_transform is not None:
        other = with_transform(dataset, given.eval_transform, what)
        plain = DatasetSource(other, layout=layout, **settings)
    return DatasetSource(
        cast("Dataset[Any]", dataset),
        layout=layout,
        plain=plain,
        allow_random=given.allow_random,
        **settings,
    )


def _from_loader(given: Samples, what: str) -> Source:
    loader: DataLoader[Any] = given.data
    dataset: Any = loader.dataset
    if is_stream(dataset):
        if loader.batch_size is None:
            raise EigenforgetError(
                "a loader with batch_size=None has a dataset of whole batches; give a dataset of "
                "single samples"
            )
        made = replace(given, data=sample_list(dataset, what))
        return _from_dataset(made, what, collate=loader.collate_fn)
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise EigenforgetError(
            f"the loader's {type(dataset).__name__} has no fixed samples; give a map-style Dataset"
        )
    source = _from_dataset(
        replace(given, data=dataset),
        what,
        collate=loader.collate_fn,
        workers=loader.num_workers,
    )
    rows = selection(loader, what)
    return source if rows is None else source.subset(rows)


def _checked(source: DatasetSource, given: Samples, what: str) -> DatasetSource:
    """The source after a look at some of its samples, with its clean view and known labels."""
    if given.clean is not None:
        clean = as_source(Samples(given.clean, given.inputs, given.label), f"{what}, clean=")
        if len(clean) != len(source):
            raise EigenforgetError(
                f"clean= has {len(clean)} samples and the data {len(source)}; give the same "
                "samples in the same order"
            )
        source = replace(source, plain=clean)
    rows = spread_rows(source, _LOOKED_AT)
    seen = _few_labels(replace(source, plain=None))
    if source.plain is not None and (_few_labels(source) != seen).any():
        raise EigenforgetError(
            "the clean view has other labels than the data; give the same samples in the same order"
        )
    offered = offered_labels(source.dataset)
    if offered is None or source.known is not None:
        return source
    if (wrong := int((offered[rows] != seen).sum())) == 0:
        return replace(source, known=offered)
    if given.label is None:
        notices.warn(
            f"{what}: {wrong} of {len(rows)} samples have another label than the dataset's own "
            "targets say; the labels of the samples are taken (Samples(data, label=…) says so "
            "without a warning)"
        )
    return replace(source, known=read_labels(source))


def _few_labels(source: DatasetSource) -> np.ndarray:
    """The labels of the samples that are looked at."""
    return one_batch(source, _LOOKED_AT).labels.cpu().numpy()
