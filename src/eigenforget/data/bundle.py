"""A data set that is ready to train on.

It has normalised tensors and an Index on each of its two sides, training and test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import is_unicode, listed
from eigenforget.core.types import Index, digest_of_rows
from eigenforget.data.normalisation import MeanAndDeviation, Normalisation
from eigenforget.data.sources import DatasetSource, TensorSource
from eigenforget.record import value_digest

_MOST_CLASSES = 1_000_000
"""A larger class number is an identifier taken for a class; it would also make a head of that many
outputs.
"""
_CHUNK = 4096
"""Samples converted at a time, to bound the float64 copies."""


@dataclass(frozen=True, eq=False)
class Data:
    """Training and test samples, and what is known of each of them.

    Args:
        train: Training samples. Inputs are float32 [N, C, H, W] or [N, D], kept as tensors or read
            on the way (DatasetSource); for texts a dict of input_ids and attention_mask, int64 [N,
            L].
        train_index: What is known of them.
        test: Test samples.
        test_index: What is known of them.
        num_classes: Number of classes.
        class_names: One name for each class.
        vocabulary: For texts, the number of token ids.
        triggered: Test samples with a planted trigger and the attacker's label (see
            data.backdoored).
        triggered_ids: Ids of these samples.
        normalisation: How raw values became inputs; None where that is not known, or for texts.
        encoding: Digest of what else was learned from training rows: the words or categories that
            became inputs; "" for nothing.

    Raises:
        EigenforgetError: Samples, index rows or class names do not match in number, or an id is on
            both sides.
    """

    train: TensorSource | DatasetSource
    train_index: Index
    test: TensorSource | DatasetSource
    test_index: Index
    num_classes: int
    class_names: tuple[str, ...]
    vocabulary: int | None = None
    triggered: TensorSource | None = None
    triggered_ids: np.ndarray = field(default_factory=lambda: np.array([], dtype=np.str_))
    normalisation: Normalisation | None = None
    encoding: str = ""

    def __post_init__(self) -> None:
        for side, source, index in (
            ("train", self.train, self.train_index),
            ("test", self.test, self.test_index),
        ):
            if len(source) != len(index):
                raise EigenforgetError(f"{side}: {len(source)} samples but {len(index)} index rows")
        if len(self.class_names) != self.num_classes:
            raise EigenforgetError(
                f"{len(self.class_names)} class names for {self.num_classes} classes"
            )
        _check_unicode(np.array(self.class_names), "class names")
        for side in ("train_index", "test_index"):
            object.__setattr__(
                self, side, replace(getattr(self, side), class_names=self.class_names)
            )
        shared = set(self.train_index.ids.tolist()).intersection(self.test_index.ids.tolist())
        if shared:
            raise EigenforgetError(f"ids in both training and test data: {listed(sorted(shared))}")

    @cached_property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (C, H, W), (D,), or (L,) for a text of L token ids.

        Of several tensors it is the shape of the first one.
        """
        first = next(self.train.subset(np.array([0])).batches(1)).inputs
        tensor = next(iter(first.values())) if isinstance(first, Mapping) else first
        return tuple(tensor.shape[1:])

    @property
    def inputs_in_words(self) -> str:
        """Shape of a sample, and how raw values became inputs, in one line."""
        shape = "×".join(map(str, self.input_shape))
        if self.vocabulary is not None:
            return f"{shape} token ids of a vocabulary of {self.vocabulary}"
        return (
            f"{shape}, {self.normalisation.words()}" if self.normalisation else f"{shape} numbers"
        )

    @cached_property
    def coding(self) -> str:
        """Digest of what class numbers and encoded inputs stand for."""
        plain = self.class_names == tuple(map(str, range(self.num_classes)))
        return value_digest([None if plain else list(self.class_names), self.encoding])

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the index rows: it depends on the side of a sample, not on the order."""
        return digest_of_rows(
            (f"train\x1f{self.train_index.digest()}", f"test\x1f{self.test_index.digest()}")
        )


class Arrays(NamedTuple):
    """One side of a data set as it was read.

    Args:
        inputs: Images uint8 [N, H, W] or [N, H, W, C] with C = 1 or 3, or feature vectors float [N,
            D].
        labels: Integers [N].
        ids: Unique strings [N]; by default "train/0", "train/1", … and "test/0", ….
        groups: Strings [N] or None.
        columns: Further columns [N] of the Index by name.
    """

    inputs: np.ndarray
    labels: np.ndarray
    ids: Any = None
    groups: Any = None
    columns: Mapping[str, Any] = {}

    def rows(self, positions: np.ndarray) -> Arrays:
        """The samples at these positions."""
        ids, groups = (
            None if column is None else np.asarray(column)[positions]
            for column in (self.ids, self.groups)
        )
        columns = {name: np.asarray(values)[positions] for name, values in self.columns.items()}
        return Arrays(self.inputs[positions], self.labels[positions], ids, groups, columns)


def from_arrays(
    *,
    train: Arrays,
    test: Arrays,
    class_names: Sequence[str] | None = None,
    normalize: str = "train",
) -> Data:
    """A Data from numpy arrays.

    Images are scaled to [0, 1] and normalised per channel; feature vectors are standardised per
    column. Both use mean and standard deviation (divisor N) of the TRAINING samples, unless
    `normalize` says otherwise. A constant channel or column is only centred. Class numbers are used
    as they are: there are max(training label) + 1 classes, or as many as there are class names. The
    content of a sample is the SHA-256 of its shape and raw values, taken before normalisation.

    Args:
        train: The training side.
        test: The test side.
        class_names: Names of the classes; by default their numbers.
        normalize: "train", "none", "imagenet" or numbers, see `normalisation.Normalize`.

    Raises:
        EigenforgetError: Types, shapes or counts are wrong, labels are no integers, negative or
            (test) unknown, or features are not finite.
    """
    sides = {"train": train, "test": test}
    labels = {side: class_labels(arrays.labels, side) for side, arrays in sides.items()}
    samples = {side: _samples(arrays.inputs, side) for side, arrays in sides.items()}
    if (
        samples["train"].shape[1:] != samples["test"].shape[1:]
        or samples["train"].dtype != samples["test"].dtype
    ):
        raise EigenforgetError(
            f"training inputs are {_shown(samples['train'])}, test inputs {_shown(samples['test'])}"
        )
    names = tuple(class_names or map(str, range(int(labels["train"].max()) + 1)))
    for side in sides:
        check_range(labels[side], side, len(names))
    index = {
        side: _index(arrays, labels[side], samples[side], side) for side, arrays in sides.items()
    }
    inputs, normalisation = _normalised(samples, index, normalize)
    source = {side: TensorSource(inputs[side], torch.from_numpy(labels[side])) for side in sides}
    return data_of(source, index, names, normalisation=normalisation)


def data_of(
    sources: Mapping[str, TensorSource | DatasetSource],
    index: Mapping[str, Index],
    names: tuple[str, ...],
    *,
    vocabulary: int | None = None,
    normalisation: Normalisation | None = None,
    encoding: str = "",
) -> Data:
    """The Data of the sides "train" and "test"; a class without test samples is a warning."""
    untested = np.setdiff1d(index["train"].labels, index["test"].labels)
    if len(untested):
        notices.warn(
            f"no test sample is of class {listed(names[number] for number in untested)}: scores "
            "that need one have no value"
        )
    return Data(
        sources["train"],
        index["train"],
        sources["test"],
        index["test"],
        len(names),
        names,
        vocabulary,
        normalisation=normalisation,
        encoding=encoding,
    )


def class_labels(labels: Any, side: str) -> np.ndarray:
    """The labels as int64 [N].

    Raises:
        EigenforgetError: There are none, they are no integers, not one per sample, negative or
            absurdly large.
    """
    column = np.asarray(labels)
    if column.ndim != 1 or column.dtype.kind not in "iu":
        scope = "; one class for each sample: multi-label data and regression are out of scope"
        numbers = column.dtype.kind == "f" or column.ndim > 1
        raise EigenforgetError(
            f"{side} labels must be integers [N], got {_shown(column)}{scope if numbers else ''}"
        )
    if not len(column):
        raise EigenforgetError(f"there are no {side} samples")
    wrong = column[(column < 0) | (column >= _MOST_CLASSES)]
    if len(wrong):
        allowed = f"class numbers from 0 to {_MOST_CLASSES - 1}"
        raise EigenforgetError(f"{side} labels must be {allowed}, got {listed(np.unique(wrong))}")
    return column.astype(np.int64)


def check_range(labels: np.ndarray, side: str, classes: int) -> None:
    """Checks that every label is one of the classes.

    Raises:
        EigenforgetError: One is not.
    """
    outside = np.unique(labels[labels >= classes])
    if len(outside):
        raise EigenforgetError(
            f"{side} labels must be below the {classes} classes, got {listed(outside)}"
        )


def _samples(inputs: Any, side: str) -> np.ndarray:
    """Images as uint8 [N, H, W, C], feature vectors as float64 [N, D]."""
    array = np.asarray(inputs)
    if 0 in array.shape:
        raise EigenforgetError(f"there are no {side} samples: inputs are {_shown(array)}")
    if array.dtype == np.uint8 and array.ndim == 3:
        return np.ascontiguousarray(array[..., None])
    if array.dtype == np.uint8 and array.ndim == 4:
        _check_channels(array, side)
        return np.ascontiguousarray(array)
    if array.ndim == 2 and array.dtype in (np.float16, np.float32, np.float64):
        # Adding zero turns -0.0 into 0.0, so that equal values have equal bytes.
        return np.ascontiguousarray(array, dtype=np.float64) + 0.0
    raise EigenforgetError(
        f"{side} inputs must be images uint8 [N, H, W] or [N, H, W, C], or feature vectors float "
        "[N, D], "
        f"got {_shown(array)}"
    )


def _check_channels(images: np.ndarray, side: str) -> None:
    channels = images.shape[3]
    if channels == 4:
        raise EigenforgetError(
            f"{side} images have 4 channels; alpha means nothing to a classifier: blend or drop it"
        )
    if channels not in (1, 3):
        raise EigenforgetError(
            f"{side} images must have 1 or 3 channels in the last axis, got {_shown(images)}"
        )


def _index(arrays: Arrays, labels: np.ndarray, samples: np.ndarray, side: str) -> Index:
    n = len(samples)
    if len(labels) != n:
        raise EigenforgetError(
            f"{n} {side} inputs and {len(labels)} labels: the counts must be equal"
        )
    return index_of(arrays, labels, _content(samples), side)


def index_of(known: Any, labels: np.ndarray, content: np.ndarray | None, side: str) -> Index:
    """The Index of one side from its ids, groups and columns (the fields of Arrays), checked."""
    n = len(labels)
    ids = [f"{side}/{row}" for row in range(n)] if known.ids is None else known.ids
    groups = None if known.groups is None else _strings(known.groups, n, f"{side} groups")
    columns = {
        name: _column(values, n, f"{side} column {name!r}")
        for name, values in known.columns.items()
    }
    return Index(_strings(ids, n, f"{side} ids"), labels, groups, content, columns)


def _column(values: Any, n: int, what: str) -> np.ndarray:
    column = np.asarray(values)
    if column.dtype.kind not in "biuf":
        return _strings(column, n, what, allowed="strings or numbers")
    if column.shape != (n,):
        raise EigenforgetError(f"{what} must be one per sample, [{n}], got {_shown(column)}")
    return column


def _strings(values: Any, n: int, what: str, allowed: str = "strings or integers") -> np.ndarray:
    column = np.asarray(values)
    if column.shape != (n,):
        raise EigenforgetError(f"{what} must be one per sample, [{n}], got {_shown(column)}")
    if column.dtype.kind == "S":
        try:
            column = np.char.decode(column, "utf-8")
        except UnicodeDecodeError:
            raise EigenforgetError(f"{what} are bytes that are not UTF-8") from None
    if column.dtype.kind not in "Uiu" and not (
        column.dtype.kind == "O" and all(isinstance(v, str) for v in column)
    ):
        raise EigenforgetError(f"{what} must be {allowed}, got {_shown(column)}")
    _check_unicode(column, what)
    return column.astype(np.str_)


def _check_unicode(column: np.ndarray, what: str) -> None:
    if column.dtype.kind == "U" and column.size:
        # Numbers, as Python refuses to make a text of those beyond all characters.
        codes = np.ascontiguousarray(column).view(f"{column.dtype.byteorder}u4")
        whole = not ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes <= 0xDFFF))).any()
    else:
        whole = column.dtype.kind != "O" or is_unicode("".join(column))
    if not whole:
        raise EigenforgetError(
            f"{what} hold text that is not Unicode, such as a lone surrogate; write it anew"
        )


def _content(samples: np.ndarray) -> np.ndarray:
    start = content_start(samples.dtype.name, samples.shape[1:])
    digests = []
    for row in samples:
        total = start.copy()
        total.update(row)
        digests.append(total.hexdigest())
    return np.array(digests)


def content_start(dtype: str, shape: Sequence[int]) -> Any:
    """A SHA-256 over the type and shape of a sample; its bytes follow."""
    return hashlib.sha256(f"{dtype}{list(shape)}".encode())


def _normalised(
    samples: dict[str, np.ndarray], index: dict[str, Index], normalize: str
) -> tuple[dict[str, Tensor], Normalisation]:
    train = samples["train"]
    if train.dtype == np.uint8:
        found = Normalisation.of(
            normalize, "pixels", train.shape[3], lambda: _pixel_statistics(train)
        )
        tables = pixel_tables(found, train.shape[3])
        return {side: _scaled_images(images, tables) for side, images in samples.items()}, found
    return standardised(samples, {side: known.ids for side, known in index.items()}, normalize)


def standardised(
    samples: Mapping[str, np.ndarray], ids: Mapping[str, np.ndarray], normalize: str
) -> tuple[dict[str, Tensor], Normalisation]:
    """Feature vectors [N, D] of each side, normalised per column.

    Args:
        samples: float64 [N, D] by side.
        ids: Ids [N] by side, for messages.
        normalize: As in `from_arrays`.

    Returns:
        float32 [N, D] by side, and what was done to them.

    Raises:
        EigenforgetError: Values are not finite, before or after; the message names the ids.
    """
    for side, features in samples.items():
        _check_finite(features, ids[side], f"{side} features are not finite (NaN or infinite) in")
    train = samples["train"]
    found = Normalisation.of(
        normalize, "numbers", train.shape[1], lambda: _column_statistics(train)
    )
    mean, std = found.numbers()
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = {side: _scaled(features, mean, std) for side, features in samples.items()}
    for side, features in scaled.items():
        _check_finite(
            features, ids[side], f"standardised {side} features leave the range of float32 in"
        )
    return {side: torch.from_numpy(features) for side, features in scaled.items()}, found


def _scaled(features: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """float32 [N, D], some rows after the other to bound the float64 copies."""
    scaled = np.empty(features.shape, dtype=np.float32)
    for start in range(0, len(features), _CHUNK):
        rows = slice(start, start + _CHUNK)
        scaled[rows] = (features[rows] - mean) / std
    return scaled


def _check_finite(features: np.ndarray, ids: np.ndarray, complaint: str) -> None:
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        raise EigenforgetError(f"{complaint}: {listed(ids[bad])}")


def _pixel_statistics(images: np.ndarray) -> MeanAndDeviation:
    """Mean and standard deviation of each channel of images / 255, from exact integer sums."""
    means, deviations = [], []
    count = images[..., 0].size
    for channel in range(images.shape[3]):
        total = squares = 0
        for start in range(0, len(images), _CHUNK):
            values = images[start : start + _CHUNK, ..., channel].astype(np.float64).ravel()
            # Sums of integers below 2**53: exact whatever the order of summation.
            total += int(values.sum())
            squares += int(values @ values)
        means.append(total / count / 255)
        deviations.append(pixel_deviation(count, total=total, squares=squares))
    return MeanAndDeviation(means, deviations)


def pixel_deviation(count: int, *, total: int, squares: int) -> float:
    """Standard deviation of pixels / 255 from exact sums of values and squares; 1 instead of 0."""
    return sqrt(count * squares - total * total) / count / 255 or 1.0


def pixel_tables(normalisation: Normalisation, channels: int) -> Tensor:
    """float32 [C, 256]: the normalised value of each of the 256 values of a pixel.

    It is computed once, in float64.
    """
    mean, std = (np.broadcast_to(n, (channels,)) for n in normalisation.numbers())
    return torch.from_numpy(
        ((np.arange(256) / 255 - mean[:, None]) / std[:, None]).astype(np.float32)
    )


def _scaled_images(images: np.ndarray, tables: Tensor) -> Tensor:
    count, height, width, channels = images.shape
    scaled = torch.empty((count, channels, height, width), dtype=torch.float32)
    for channel in range(channels):
        for start in range(0, count, _CHUNK):
            values = torch.from_numpy(images[start : start + _CHUNK, ..., channel].astype(np.int32))
            scaled[start : start + _CHUNK, channel] = tables[channel][values]
    return scaled


def _column_statistics(features: np.ndarray) -> MeanAndDeviation:
    """Mean and standard deviation of each column.

    A constant column has exactly its value as mean, and deviation 1.
    """
    constant = features.max(axis=0) == features.min(axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.where(constant, features[0], features.mean(axis=0))
        std = features.std(axis=0)
    return MeanAndDeviation(mean, np.where(constant | (std == 0), 1.0, std))


def _shown(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"
