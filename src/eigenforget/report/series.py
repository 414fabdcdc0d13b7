"""The series of a record that figures draw, checked: a malformed one is an error that names the record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from eigenforget.record import RecordError, RunRecord

DA_FORMS = {
    "frobenius_none": "Frobenius, raw",
    "energy_none": "energy, raw",
    "frobenius_each": "Frobenius, centred",
    "energy_each": "energy, centred",
}


class DaCurve(NamedTuple):
    """DA over k, one list per form and centering that was measured; headline_k is the k of the table's number."""

    k: list[float]
    forms: dict[str, list[float]]
    headline_k: int | None


class FeatureMap(NamedTuple):
    """Held-out samples in the first two principal directions; explained: their shares of the variance."""

    x: list[float]
    y: list[float]
    label: list[str]
    id: list[str]
    forget: list[bool]
    explained: tuple[float, float]


class Spectrum(NamedTuple):
    """Eigenvalues of each side's features, largest first, as shares of their sum."""

    retain: list[float]
    forget: list[float]


class Relearning(NamedTuple):
    """Accuracy on the forgotten after each of `steps`, by the number of forgotten samples trained on."""

    steps: list[float]
    curves: dict[str, list[float]]


class TracePoint(NamedTuple):
    phase: str
    loss: float


def having(records: Sequence[RunRecord], name: str) -> list[RunRecord]:
    """The records that carry a series of this name. Errors: RecordError when none does."""
    found = [r for r in records if r.series.get(name)]
    if not found:
        raise RecordError(f"no record has the series {name!r}")
    return found


def natural(text: str) -> tuple[bool, int, str]:
    """Sorting key: whole numbers by their value, then all other texts."""
    return (False, int(text), text) if text.isdecimal() else (True, 0, text)


def da_curve(record: RunRecord) -> DaCurve:
    raw = _Reader(record, "da_curve")
    k = raw.numbers("k")
    forms = {form: raw.numbers(form, len(k)) for form in DA_FORMS if form in raw.value}
    headline = raw.value.get("headline_k")
    # Not bool: true is an int in Python. Not 0: the axis of k is logarithmic.
    whole = isinstance(headline, int) and not isinstance(headline, bool) and headline >= 1
    if not forms or not (headline is None or whole):
        raise raw.error(f"needs one of {', '.join(DA_FORMS)}, and a whole number from 1 as headline_k")
    return DaCurve(k, forms, headline)


def feature_map(record: RunRecord) -> FeatureMap:
    raw = _Reader(record, "pca")
    x = raw.numbers("x")
    n = len(x)
    explained = raw.numbers("explained", 2)
    labels, ids = ([str(v) for v in raw.listed(name, n)] for name in ("label", "id"))
    forget = [bool(v) for v in raw.listed("forget", n)]
    return FeatureMap(x, raw.numbers("y", n), labels, ids, forget, (explained[0], explained[1]))


def spectrum(record: RunRecord) -> Spectrum:
    raw = _Reader(record, "spectrum")
    return Spectrum(raw.numbers("retain"), raw.numbers("forget"))


def trace(record: RunRecord) -> list[TracePoint]:
    rows = record.series["trace"]
    if not isinstance(rows, list) or not all(isinstance(r, dict) and _is_number(r.get("loss")) for r in rows):
        raise RecordError(f"record {record.name!r}: series trace must be a list of rows with a number as loss")
    return [TracePoint(str(row.get("phase", "training")), float(row["loss"])) for row in rows]


def relearning(record: RunRecord) -> Relearning:
    raw = _Reader(record, "relearning")
    steps = raw.numbers("steps")
    curves = raw.value.get("curves")
    if not isinstance(curves, dict) or not curves:
        raise raw.error("needs an object 'curves' with a list for each number of samples")
    inner = _Reader(record, "relearning", curves)
    return Relearning(steps, {name: inner.numbers(name, len(steps)) for name in curves})


def class_accuracy(record: RunRecord) -> dict[str, float | None]:
    """Held-out accuracy by class; None for a class without held-out samples."""
    raw = _Reader(record, "per_class")
    labels = [str(v) for v in raw.listed("label")]
    values = raw.listed("test", len(labels))
    if not all(v is None or _is_number(v) for v in values):
        raise raw.error("has a value in 'test' that is neither a finite number nor null")
    return dict(zip(labels, values, strict=True))


class _Reader:
    def __init__(self, record: RunRecord, name: str, value: Any = None) -> None:
        self.where = f"record {record.name!r}: series {name}"
        self.value = record.series[name] if value is None else value
        if not isinstance(self.value, dict):
            raise self.error("must be an object")

    def error(self, message: str) -> RecordError:
        return RecordError(f"{self.where} {message}")

    def listed(self, key: str, length: int | None = None) -> list[Any]:
        items = self.value.get(key)
        if not isinstance(items, list) or not items:
            raise self.error(f"needs a list {key!r}")
        if length is not None and len(items) != length:
            raise self.error(f"has {len(items)} values in {key!r} where {length} are due")
        return items

    def numbers(self, key: str, length: int | None = None) -> list[float]:
        items = self.listed(key, length)
        if not all(_is_number(v) for v in items):
            raise self.error(f"has a value in {key!r} that is not a finite number")
        return items


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
