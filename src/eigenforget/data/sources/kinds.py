"""The kinds of sources.

All give the same batches for the same generator, so results do not depend on how data is kept.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, pairwise
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, default_collate

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Batch
from eigenforget.data.sources.inputs import (
    Augment,
    Inputs,
    Layout,
    augmented,
    check_augmentable,
    check_labels,
    check_rows,
    concatenated,
    counts,
    joinable,
    label_tensor,
    taken,
)

UNREADABLE = (
    TypeError,
    LookupError,
    AttributeError,
    ValueError,
    RuntimeError,
    OverflowError,
    AssertionError,
    EOFError,
    OSError,  # a file that is not there, and Pillow's UnidentifiedImageError
)
"""What datasets, collate functions and torch raise for samples that cannot be batched."""
_READ = 512
"""Samples that are read at once."""


class Source(Protocol):
    """Samples in a fixed order."""

    def __len__(self) -> int: ...
    def labels(self) -> np.ndarray:
        """The labels [N], int64."""

    def batches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """One pass: shuffled and augmented with a generator, plain and in order without one."""

    def subset(self, positions: np.ndarray) -> Source:
        """The samples at these positions."""


@runtime_checkable
class PlannedSource(Source, Protocol):
    """A source that gives batches of chosen rows in one pass, such as from one loader."""

    def read(
        self, plan: Sequence[Tensor], generator: torch.Generator | None = None
    ) -> Iterator[Batch]:
        """A batch for each of the plan's rows [B], augmented with a generator."""


@dataclass(frozen=True, eq=False)
class TensorSource:
    """Samples as tensors on one device.

    Args:
        inputs: [N, ...], or several such tensors by name.
        targets: Labels [N].
        augment: Changes whole batches in training passes.

    Raises:
        EigenforgetError: Inputs and labels differ in number, labels are no integers, or an
            augmentation is given for several tensors.
    """

    inputs: Inputs
    targets: Tensor
    augment: Augment | None = None

    def __post_init__(self) -> None:
        check_labels(self.targets)
        for name, count in counts(self.inputs).items():
            if count != len(self.targets):
                raise EigenforgetError(
                    f"{count} {name} and {len(self.targets)} labels: the counts must be equal"
                )
        if self.augment is not None:
            check_augmentable(self.inputs)

    def __len__(self) -> int:
        return len(self.targets)

    def labels(self) -> np.ndarray:
        """The labels [N], int64."""
        return self.targets.cpu().numpy().astype(np.int64)

    def batches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """One pass, as in Source."""
        return self.read(list(_order(len(self), batch_size, generator)), generator)

    def read(
        self, plan: Sequence[Tensor], generator: torch.Generator | None = None
    ) -> Iterator[Batch]:
        """A batch for each of the plan's rows, as in PlannedSource."""
        for rows in _there(plan, self.targets.device):
            inputs = augmented(taken(self.inputs, rows), self.augment, generator)
            yield Batch(inputs, self.targets.index_select(0, rows).long(), rows)

    def subset(self, positions: np.ndarray) -> TensorSource:
        """The samples at these positions."""
        rows = torch.as_tensor(positions, dtype=torch.long, device=self.targets.device)
        return replace(self, inputs=taken(self.inputs, rows), targets=self.targets[rows])


@dataclass(frozen=True, eq=False)
class DatasetSource:
    """Any map-style Dataset of (input, label) pairs, or of dicts with 'labels' or 'label'.

    Its own transforms stay in force in every pass that `plain` does not take over; `augment` acts
    on whole batches of training passes, as in TensorSource.

    Args:
        dataset: The dataset.
        collate: Makes a batch of samples.
        workers: Processes that read.
        augment: Changes whole batches in training passes.
        layout: Where the inputs and the label stand in a batch.
        plain: The same samples as passes without a generator read them; None is the dataset.
        allow_random: Whether those passes may read a sample differently each time.
        known: The labels [N], where they are known; None reads them.
    """

    dataset: Dataset[Any]
    collate: Callable[[list[Any]], Any] = default_collate
    workers: int = 0
    augment: Augment | None = None
    layout: Layout = field(default_factory=Layout)
    plain: Source | None = None
    allow_random: bool = False
    known: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def labels(self) -> np.ndarray:
        """The labels [N], int64.

        They are read once, in a pass over the data, unless the dataset offers `targets` or `labels`
        and does not transform them.
        """
        return self._labels

    @cached_property
    def _labels(self) -> np.ndarray:
        known = offered_labels(self.dataset) if self.known is None else self.known
        return read_labels(self) if known is None else known

    def batches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """One pass, as in Source."""
        return self.read(list(_order(len(self), batch_size, generator)), generator)

    def read(
        self, plan: Sequence[Tensor], generator: torch.Generator | None = None
    ) -> Iterator[Batch]:
        """A batch for each of the plan's rows, as in PlannedSource."""
        if generator is None and self.plain is not None:
            yield from planned(self.plain, plan)
            return
        # A loader draws a seed for its workers: from the global state, dropout would depend on how
        # the data is kept; from our own generator, augmentation would. A copy of ours moves
        # neither, and still differs from pass to pass.
        own = torch.Generator()
        if generator is not None:
            own.set_state(generator.get_state())
        loader = DataLoader(
            self.dataset,
            batch_sampler=[rows.tolist() for rows in plan],
            collate_fn=self.layout.collate if self.collate is default_collate else self.collate,
            num_workers=self.workers,
            generator=own,
        )
        for rows, given in zip(plan, _readings(loader), strict=True):
            inputs, labels = self.layout.pair(given)
            targets = label_tensor(labels)
            if len(targets) != len(rows):
                raise EigenforgetError(
                    f"the collate function made {len(targets)} labels of {len(rows)} samples; "
                    "it must keep them all, one label each"
                )
            check_rows(inputs, len(rows))
            # What was computed with gradients has a graph that one backward pass would use up.
            inputs = tree_map_only(Tensor, Tensor.detach, inputs)
            yield Batch(augmented(inputs, self.augment, generator), targets, rows)

    def subset(self, positions: np.ndarray) -> DatasetSource:
        """The samples at these positions."""
        rows = np.asarray(positions, dtype=np.int64)
        known = self.known if self.known is not None else vars(self).get("_labels")
        return replace(
            self,
            dataset=Subset(self.dataset, rows.tolist()),
            plain=None if self.plain is None else self.plain.subset(rows),
            known=None if known is None else known[rows],
        )


def _readings(loader: DataLoader[Any]) -> Iterator[Any]:
    """The batches of a loader; what its dataset or collate function raises is one line."""
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except UNREADABLE as error:
            if isinstance(error, EigenforgetError):
                raise
            # From a worker process, the last line of the message is the error itself.
            line = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise EigenforgetError(f"samples cannot be read: {line}{_cure(line)}") from error
        yield batch


def _cure(line: str) -> str:
    """What a user can do about samples that cannot be made a batch, by what torch says of them."""
    if "equal size" in line:  # of tensors, and of lists
        return (
            "; if they differ in length or size, give DataLoader(data, collate_fn=…) with the "
            "function that pads batches in your training, such as transformers' "
            "DataCollatorWithPadding"
        )
    if "default_collate" in line:  # of None, pictures and other objects
        picture = "PIL." in line
        return (
            f"; {'give the dataset the transform that makes tensors of its images, or ' * picture}"
            "leave out what the model does not take: Samples(data, inputs=…, label=…)"
        )
    return ""


class JoinedSource:
    """Several sources as one, shuffled together; positions run through them in order.

    Each source still augments its own samples, batch by batch.
    """

    def __init__(self, parts: tuple[Source, ...]) -> None:
        self.parts = parts
        self._starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def labels(self) -> np.ndarray:
        """The labels [N], int64."""
        return np.concatenate([part.labels() for part in self.parts])

    def subset(self, positions: np.ndarray) -> JoinedSource:
        """The samples at these positions, grouped by source."""
        return JoinedSource(
            tuple(
                self.parts[piece.part].subset(piece.rows)
                for piece in self._split(np.asarray(positions))
            )
        )

    def batches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """One pass, as in Source."""
        return self.read(list(_order(len(self), batch_size, generator)), generator)

    def read(
        self, plan: Sequence[Tensor], generator: torch.Generator | None = None
    ) -> Iterator[Batch]:
        """A batch for each of the plan's rows, as in PlannedSource.

        Each source is read in one pass of its own, beside those of the others.
        """
        pieces = [self._split(rows.numpy()) for rows in plan]
        plans: dict[int, list[Tensor]] = defaultdict(list)
        for piece in chain.from_iterable(pieces):
            plans[piece.part].append(torch.as_tensor(piece.rows))
        readers: dict[int, Iterator[Batch]] = {}

        def read(piece: _Piece) -> Batch:
            if piece.part not in readers:
                if generator is not None:  # readers that copy its state shall not draw alike
                    torch.empty(1).random_(generator=generator)
                readers[piece.part] = planned(self.parts[piece.part], plans[piece.part], generator)
            batch = next(readers[piece.part])
            return batch._replace(positions=batch.positions + piece.start)

        for batch in pieces:
            yield concatenated([read(piece) for piece in batch])

    def _split(self, positions: np.ndarray) -> list[_Piece]:
        """The rows in each source that has some of the positions."""
        found = []
        for number, (start, end) in enumerate(pairwise(self._starts)):
            rows = positions[(positions >= start) & (positions < end)] - start
            if len(rows):
                found.append(_Piece(number, rows, int(start)))
        return found


class _Piece(NamedTuple):
    """Rows of one of several joined sources.

    Attributes:
        part: Number of the source.
        rows: Rows in it.
        start: Position of its first row among all.
    """

    part: int
    rows: np.ndarray
    start: int


def planned(
    source: Source, plan: Sequence[Tensor], generator: torch.Generator | None = None
) -> Iterator[Batch]:
    """A batch for each of the plan's rows; from a source that does not plan, subset by subset."""
    if isinstance(source, PlannedSource):
        yield from source.read(plan, generator)
        return
    for rows in plan:
        (batch,) = source.subset(rows.numpy()).batches(len(rows), generator)
        yield batch._replace(positions=rows[batch.positions.cpu()])


def unaugmented(source: Source) -> Source:
    """The same samples as they are, also in training passes."""
    if isinstance(source, DatasetSource):
        return source.plain or replace(source, augment=None)
    if isinstance(source, TensorSource):
        return replace(source, augment=None)
    return (
        JoinedSource(tuple(map(unaugmented, source.parts)))
        if isinstance(source, JoinedSource)
        else source
    )


def in_memory(source: Source) -> Source:
    """The same samples, read once, for who passes over few of them many times.

    Those whose batches cannot be joined stay as they are, such as texts of different lengths.
    """
    if isinstance(source, TensorSource):
        return source
    batches = list(source.batches(_READ))
    inputs = [batch.inputs for batch in batches]
    tensors = all(
        isinstance(value, Tensor)
        for given in inputs
        for value in (given.values() if isinstance(given, dict) else [given])
    )
    if not tensors or not joinable(batches):
        return source
    whole = concatenated(batches)
    return TensorSource(whole.inputs, whole.labels)


def read_labels(source: Source) -> np.ndarray:
    """The labels [N], int64, from a pass over the samples."""
    return np.concatenate([b.labels.cpu().numpy() for b in source.batches(256)]).astype(np.int64)


def offered_labels(dataset: Any) -> np.ndarray | None:
    """The labels [N] that a dataset offers as `targets` or `labels`; None where it offers none."""
    if isinstance(dataset, Subset):
        inner = offered_labels(dataset.dataset)
        return None if inner is None else inner[np.asarray(dataset.indices, dtype=np.int64)]
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        check_labels(dataset.tensors[1])
        return dataset.tensors[1].cpu().numpy().astype(np.int64)
    if getattr(dataset, "target_transform", None) is not None:
        return None
    for name in ("targets", "labels"):
        column = getattr(dataset, name, None)
        if column is not None and not callable(column) and _length(column) == len(dataset):
            try:
                known = np.asarray(column)
            except (TypeError, ValueError, RuntimeError):
                return None
            # Anything else is not what the samples carry: floats would be cut off, words mean
            # nothing to a loss.
            return known.astype(np.int64) if known.ndim == 1 and known.dtype.kind in "biu" else None
    return None


def _length(column: Any) -> int | None:
    return len(column) if hasattr(column, "__len__") else None


def steps_in_epoch(n: int, *, batch_size: int) -> int:
    """Number of batches in a shuffled pass over n samples (see `_order`)."""
    lone = n > batch_size and n % batch_size == 1
    return math.ceil(n / batch_size) - lone


def _there(plan: Sequence[Tensor], device: torch.device) -> Sequence[Tensor]:
    """The rows of all batches on a device, moved at once: each move alone would wait for it."""
    if device.type == "cpu" or not plan:
        return plan
    return torch.split(torch.cat(list(plan)).to(device), [len(rows) for rows in plan])


def _order(n: int, batch_size: int, generator: torch.Generator | None) -> Iterator[Tensor]:
    if generator is None:
        yield from torch.split(torch.arange(n), batch_size)
        return
    chunks = torch.split(torch.randperm(n, generator=generator), batch_size)
    # A trailing batch of one has no variance, which batch normalisation cannot train on.
    yield from chunks[:-1] if len(chunks) > 1 and len(chunks[-1]) == 1 else chunks
