"""Where samples come from: tensors kept on the device, or any map-style Dataset streamed through a DataLoader.

Both kinds give the same batches for the same generator, so results do not depend on how data is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    default_collate,
)

from eigenforget.types import Batch, EigenforgetError

Augment = Callable[[Tensor, torch.Generator], Tensor]


class Source(Protocol):
    """Samples in a fixed order. A generator means a shuffled, augmented training pass; None a plain pass in order."""

    def __len__(self) -> int: ...
    def labels(self) -> np.ndarray: ...
    def batches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]: ...
    def subset(self, positions: np.ndarray) -> Source: ...


@dataclass(frozen=True, eq=False)
class TensorSource:
    """inputs [N, ...] and labels [N] as tensors on one device. `augment` acts in training passes only."""

    inputs: Tensor
    targets: Tensor
    augment: Augment | None = None

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise EigenforgetError(f"{len(self.inputs)} inputs and {len(self.targets)} labels: the counts must be equal")
        if self.targets.ndim != 1 or self.targets.is_floating_point():
            raise EigenforgetError(f"labels must be a 1-D integer tensor, got {self.targets.dtype} {list(self.targets.shape)}")

    def __len__(self) -> int:
        return len(self.targets)

    def labels(self) -> np.ndarray:
        return self.targets.cpu().numpy().astype(np.int64)

    def batches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        for rows in _order(len(self), batch_size, generator):
            rows = rows.to(self.inputs.device)
            inputs = self.inputs[rows]
            if self.augment is not None and generator is not None:
                inputs = self.augment(inputs, generator)
            yield Batch(inputs, self.targets[rows].long(), rows)

    def subset(self, positions: np.ndarray) -> TensorSource:
        rows = torch.as_tensor(positions, dtype=torch.long, device=self.inputs.device)
        return replace(self, inputs=self.inputs[rows], targets=self.targets[rows])


@dataclass(frozen=True, eq=False)
class DatasetSource:
    """Any map-style Dataset of (input, label) pairs; its own transforms stay in force in every pass."""

    dataset: Dataset[Any]
    collate: Callable[[list[Any]], Any] = default_collate
    workers: int = 0

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def labels(self) -> np.ndarray:
        """Reads the labels by one pass over the data, unless the dataset offers `targets` or `labels`."""
        known = _known_labels(self.dataset)
        if known is not None:
            return known
        return np.concatenate([b.labels.cpu().numpy() for b in self.batches(256)]).astype(np.int64)

    def batches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        plan = list(_order(len(self), batch_size, generator))
        loader = DataLoader(
            self.dataset, batch_sampler=[rows.tolist() for rows in plan], collate_fn=self.collate, num_workers=self.workers
        )
        for rows, pair in zip(plan, loader, strict=True):
            inputs, labels = _pair(pair)
            yield Batch(inputs, torch.as_tensor(labels).long(), rows)

    def subset(self, positions: np.ndarray) -> DatasetSource:
        return replace(self, dataset=Subset(self.dataset, [int(p) for p in positions]))


class Joined:
    """Several sources as one, shuffled together; positions run through them in order.

    Each source still augments its own samples, batch by batch.
    """

    def __init__(self, parts: tuple[Source, ...]) -> None:
        self.parts = parts
        self._starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def labels(self) -> np.ndarray:
        return np.concatenate([part.labels() for part in self.parts])

    def subset(self, positions: np.ndarray) -> Joined:
        """The samples at these positions, grouped by source."""
        return Joined(tuple(part.subset(rows) for part, rows, _ in self._split(np.asarray(positions))))

    def batches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        for chunk in _order(len(self), batch_size, generator):
            pieces = [
                (next(part.subset(rows).batches(len(rows), generator)), rows, start)
                for part, rows, start in self._split(chunk.numpy())
            ]
            yield _concatenated(
                [Batch(b.inputs, b.labels, torch.as_tensor(rows)[b.positions.cpu()] + start) for b, rows, start in pieces]
            )

    def _split(self, positions: np.ndarray) -> list[tuple[Source, np.ndarray, int]]:
        """(source, rows in it, its first position) for each source that has any of the positions."""
        found = []
        for part, start, end in zip(self.parts, self._starts, self._starts[1:], strict=False):
            rows = positions[(positions >= start) & (positions < end)] - start
            if len(rows):
                found.append((part, rows, int(start)))
        return found


def as_source(data: Any, what: str = "data") -> Source:
    """A Source from an (inputs, labels) pair, a Dataset, or a DataLoader.

    A DataLoader lends its dataset and collate function; the order and batch size are ours, so that a run can be repeated.
    A loader with its own sampler keeps that sampler's selection. Iterable datasets have no fixed samples and are refused.
    """
    if isinstance(data, (TensorSource, DatasetSource, Joined)):
        source: Source = data
    elif isinstance(data, (tuple, list)) and len(data) == 2 and all(hasattr(d, "__array__") for d in data):
        source = TensorSource(torch.as_tensor(data[0]), torch.as_tensor(data[1]))
    elif isinstance(data, DataLoader):
        source = _from_loader(data, what)
    elif isinstance(data, TensorDataset) and len(data.tensors) == 2:
        source = TensorSource(*data.tensors)
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        source = DatasetSource(cast("Dataset[Any]", data))
    elif hasattr(data, "batches") and hasattr(data, "subset"):
        source = data
    else:
        raise EigenforgetError(f"{what} must be (inputs, labels), a map-style Dataset or a DataLoader, got {type(data).__name__}")
    if len(source) == 0:
        raise EigenforgetError(f"{what} is empty")
    return source


def _from_loader(loader: DataLoader[Any], what: str) -> Source:
    dataset = loader.dataset
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise EigenforgetError(f"{what}: an iterable dataset has no fixed samples; give a map-style Dataset")
    source = DatasetSource(dataset, collate=loader.collate_fn, workers=loader.num_workers)
    whole = isinstance(loader.sampler, SequentialSampler) or (
        isinstance(loader.sampler, RandomSampler) and not loader.sampler.replacement and loader.sampler.num_samples == len(dataset)
    )
    if loader.batch_size is None or whole:
        return source
    return source.subset(np.unique(np.asarray(list(loader.sampler), dtype=np.int64)))


def _pair(item: Any) -> tuple[Any, Any]:
    if isinstance(item, dict):
        for key in ("labels", "label"):
            if key in item:
                return {k: v for k, v in item.items() if k != key}, item[key]
    if isinstance(item, (tuple, list)) and len(item) >= 2:
        return item[0], item[1]
    raise EigenforgetError(f"a sample must be (input, label) or a dict with 'labels', got {type(item).__name__}")


def _known_labels(dataset: Any) -> np.ndarray | None:
    if isinstance(dataset, Subset):
        inner = _known_labels(dataset.dataset)
        return None if inner is None else inner[np.asarray(dataset.indices, dtype=np.int64)]
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) >= 2:
        return dataset.tensors[1].cpu().numpy().astype(np.int64)
    for name in ("targets", "labels"):
        column = getattr(dataset, name, None)
        if column is not None and not callable(column) and len(column) == len(dataset):
            return np.asarray(column, dtype=np.int64)
    return None


def steps_in_epoch(n: int, batch_size: int) -> int:
    """How many batches a shuffled pass over n samples gives (see `_order`)."""
    lone = n > batch_size and n % batch_size == 1
    return math.ceil(n / batch_size) - lone


def _order(n: int, batch_size: int, generator: torch.Generator | None) -> Iterator[Tensor]:
    if generator is None:
        yield from torch.arange(n).split(batch_size)
        return
    chunks = torch.randperm(n, generator=generator).split(batch_size)
    # A trailing batch of one has no variance, which batch normalisation cannot train on.
    yield from chunks[:-1] if len(chunks) > 1 and len(chunks[-1]) == 1 else chunks


def _concatenated(batches: list[Batch]) -> Batch:
    first = batches[0].inputs
    device = batches[0].labels.device
    if isinstance(first, dict):
        inputs: Any = {key: torch.cat([b.inputs[key].to(device) for b in batches]) for key in first}
    else:
        inputs = torch.cat([b.inputs.to(device) for b in batches])
    return Batch(inputs, torch.cat([b.labels.to(device) for b in batches]), torch.cat([b.positions for b in batches]).to(device))
