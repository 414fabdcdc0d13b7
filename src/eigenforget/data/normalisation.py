"""How raw values become inputs: the field `normalize` of data sets, and the numbers it comes to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import AfterValidator

from eigenforget.core.errors import EigenforgetError
from eigenforget.record import value_digest

_NAMES = ("train", "none", "imagenet")
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of the models of torchvision and timm that were trained on ImageNet."""
_ALLOWED = (
    "must be 'train', 'none', 'imagenet' or numbers, as in 'mean=0.5,0.5,0.5 std=0.2,0.2,0.2'"
)
_SHOWN = 4
"""Numbers of each kind that a line of text lists."""
_LISTED = 100
"""Numbers of each kind that a record lists; of more it has a digest."""


def check_normalize(value: str) -> str:
    """The value in its one spelling, if it names a normalisation.

    Raises:
        ValueError: It names none (pydantic reports it).
    """
    if value in _NAMES:
        return value
    numbers = _numbers(value)
    return f"mean={_joined(numbers.mean)} std={_joined(numbers.std)}"


Normalize = Annotated[
    str,
    AfterValidator(check_normalize),
    "what is done to the values: 'train', by mean and standard deviation of the training samples; "
    "'none' (images: pixels / 255); 'imagenet'; or numbers for each channel or column, as in "
    "'mean=0.5,0.5,0.5 std=0.2,0.2,0.2', of pixels / 255",
]


class MeanAndDeviation(NamedTuple):
    """One number, or one for each channel or column."""

    mean: Sequence[float] | np.ndarray
    std: Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Normalisation:
    """What was done to raw values: (value / scale - mean) / std, for each channel or column.

    Attributes:
        normalize: The field of the data set that asked for it.
        kind: What the values are.
        mean: One number for each channel or column; empty where nothing is taken off.
        std: Likewise.
    """

    normalize: str
    kind: Literal["pixels", "numbers"]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(
        cls,
        normalize: str,
        kind: Literal["pixels", "numbers"],
        count: int,
        statistics: Callable[[], MeanAndDeviation],
    ) -> Normalisation:
        """What a field `normalize` comes to.

        Args:
            normalize: The field.
            kind: What the values are.
            count: Number of channels or columns.
            statistics: Gives mean and deviation [count] of the training samples.

        Raises:
            EigenforgetError: There are not as many numbers as channels or columns.
        """
        if normalize == "none":
            return cls(normalize, kind, (), ())
        if normalize == "train":
            found = statistics()
        elif normalize == "imagenet":
            found = MeanAndDeviation(*_IMAGENET)
        else:
            found = _numbers(normalize)
        mean, std = (tuple(map(float, numbers)) for numbers in found)
        if normalize not in _NAMES and len(mean) == 1:
            mean, std = mean * count, std * count
        if len(mean) != count or (normalize == "imagenet" and kind != "pixels"):
            what = "channels" if kind == "pixels" else "columns of numbers"
            given = f"normalize={normalize!r}" if len(normalize) < 80 else "normalize"
            raise EigenforgetError(
                f"{given} is for {len(mean)} channels or columns, but the inputs have {count} "
                f"{what}"
            )
        return cls(normalize, kind, mean, std)

    @property
    def scale(self) -> int:
        """What values are divided by first."""
        return 255 if self.kind == "pixels" else 1

    def numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation, to be taken off and divided by."""
        return np.array(self.mean or (0.0,)), np.array(self.std or (1.0,))

    def spelled(self) -> str:
        """The field `normalize` that does the same whatever the training samples are."""
        if not self.mean:
            return "none"
        return f"mean={_joined(self.mean)} std={_joined(self.std)}"

    def words(self) -> str:
        """What was done, in one line."""
        values = "pixels / 255" if self.kind == "pixels" else "numbers as they are"
        if not self.mean:
            return values
        values = values.removesuffix(" as they are")
        whose = " (of the training samples)" if self.normalize == "train" else ""
        if len(self.mean) > _SHOWN:
            own = "own " if self.normalize == "train" else "given "
            each = f"each with its {own}mean and standard deviation"
            return f"{len(self.mean)} {values}, {each}{whose}"
        mean, std = (
            ", ".join(f"{number:.4g}" for number in numbers) for numbers in (self.mean, self.std)
        )
        return f"{values}, minus mean {mean}, divided by standard deviation {std}{whose}"

    def near(self, other: Normalisation) -> bool:
        """Whether both make the same inputs, but for rounding."""
        pairs = list(zip(self.numbers(), other.numbers(), strict=True))
        count = max(len(column) for column in pairs[0])
        if self.kind != other.kind or any(len(column) not in (1, count) for column in pairs[0]):
            return False
        return all(np.allclose(one, two, rtol=1e-6, atol=1e-9) for one, two in pairs)

    @classmethod
    def from_json(cls, value: Any) -> Normalisation:
        """The inverse of `as_json` with all numbers.

        Raises:
            ValueError: The value is of another form.
        """
        if value["values"] not in ("pixels", "numbers"):
            raise ValueError
        mean, std = (tuple(map(float, value[name])) for name in ("mean", "std"))
        found = cls(str(value["normalize"]), value["values"], mean, std)
        if mean:
            check_normalize(found.spelled())
        return found

    def as_json(self, *, digest: bool = True) -> dict[str, Any]:
        """As it stands in records and checkpoints.

        Args:
            digest: Whether many numbers become a digest, as in records.
        """
        numbers = {"mean": list(self.mean), "std": list(self.std)}
        entry = {"normalize": self.normalize, "values": self.kind, "scale": self.scale}
        if digest and len(self.mean) > _LISTED:
            return {**entry, "count": len(self.mean), "digest": value_digest(numbers)}
        return {**entry, **numbers}


def _numbers(text: str) -> MeanAndDeviation:
    """The numbers of "mean=0.5,0.5 std=0.2,0.2".

    Raises:
        ValueError: The text has another form.
    """
    shown = text if len(text) < 80 else f"{text[:80]}…"
    parts = dict(part.partition("=")[::2] for part in text.split())
    try:
        mean, std = (tuple(map(float, parts[name].split(","))) for name in ("mean", "std"))
    except (KeyError, ValueError):
        raise ValueError(f"{_ALLOWED}, got {shown!r}") from None
    fits = len(parts) == len(text.split()) == 2 and len(mean) == len(std)
    if not fits or not all(map(math.isfinite, mean)):
        raise ValueError(f"{_ALLOWED}, as many of the one as of the other, got {shown!r}")
    if not all(math.isfinite(number) and number > 0 for number in std):
        raise ValueError(f"a standard deviation (std) must be above 0 and finite, got {shown!r}")
    return MeanAndDeviation(mean, std)


def _joined(numbers: Sequence[float] | np.ndarray) -> str:
    return ",".join(repr(float(number)) for number in numbers)
