"""The series of a record that figures draw, checked.

Every reader raises RecordError, with the record's name, where a series is malformed.
"""

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

GLANCES = {"da": "DA", "forget_accuracy": "forget accuracy", "retain_accuracy": "retain accuracy"}
"""What the rows of a training trace may hold beside the loss."""

ROC_RATES = {0.001: "0.001", 0.01: "0.01", 0.1: "0.1"}
"""False-positive rates at which a ROC states its true-positive rate, by their names there."""


class DaCurve(NamedTuple):
    """DA over k: a list for each form and centring that was measured, and the table's k."""

    k: list[float]
    forms: dict[str, list[float]]
    headline_k: int | None


class FeatureMap(NamedTuple):
    """Held-out samples in two dimensions; of principal directions the explained variances."""

    x: list[float]
    y: list[float]
    label: list[str]
    id: list[str]
    forget: list[bool]
    explained: list[float] | None


class Spectrum(NamedTuple):
    """Eigenvalues of each side's features, largest first, as shares of their sum."""

    retain: list[float]
    forget: list[float]


class RelearningCurves(NamedTuple):
    """Forget accuracy after each of `steps`, by the number of forget samples trained on."""

    steps: list[float]
    curves: dict[str, list[float]]


class TracePoint(NamedTuple):
    """A training epoch; `glances` holds what was measured after it, by the names in GLANCES."""

    phase: str
    loss: float
    glances: dict[str, float]


class RocSeries(NamedTuple):
    """How many members and others each threshold calls members, from none to all.

    `rates` are true-positive rates by false-positive rate, where there are others enough.
    """

    members: int
    others: int
    true: list[int]
    false: list[int]
    rates: dict[float, float]


class ConfusionCounts(NamedTuple):
    """Counts of held-out samples: a row for each true class, a column for each output.

    `forgotten` are the classes that were forgotten as a whole.
    """

    counts: list[list[int]]
    forgotten: list[int]


def having(records: Sequence[RunRecord], name: str) -> list[RunRecord]:
    """The records that carry a series of this name.

    Raises:
        RecordError: None does.
    """
    found = [r for r in records if r.series.get(name)]
    if not found:
        raise RecordError(f"no record has the series {name!r}")
    return found


def natural(text: str) -> tuple[bool, int, str]:
    """Sorting key: whole numbers by their value, then all other texts."""
    return (False, int(text), text) if text.isdecimal() else (True, 0, text)


def read_da_curve(record: RunRecord) -> DaCurve:
    """The series da_curve."""
    raw = _Reader(record, "da_curve")
    k = raw.numbers("k")
    forms = {form: raw.numbers(form, len(k)) for form in DA_FORMS if form in raw.value}
    headline = raw.value.get("headline_k")
    # Not 0: the axis of k is logarithmic.
    if not forms or not (headline is None or (_is_count(headline) and headline)):
        raise raw.error(
            f"needs one of {', '.join(DA_FORMS)}, and a whole number from 1 as headline_k"
        )
    return DaCurve(k, forms, headline)


def read_feature_map(record: RunRecord, kind: str) -> FeatureMap:
    """The series pca, tsne or umap."""
    raw = _Reader(record, kind)
    x = raw.numbers("x")
    explained = raw.numbers("explained", 2) if kind == "pca" else None
    labels, ids, forget = (raw.listed(name, len(x)) for name in ("label", "id", "forget"))
    return FeatureMap(
        x,
        raw.numbers("y", len(x)),
        [str(v) for v in labels],
        [str(v) for v in ids],
        [bool(v) for v in forget],
        explained,
    )


def read_spectrum(record: RunRecord) -> Spectrum:
    """The series spectrum."""
    raw = _Reader(record, "spectrum")
    return Spectrum(raw.numbers("retain"), raw.numbers("forget"))


def read_trace(record: RunRecord) -> list[TracePoint]:
    """The series trace: its epochs in order."""
    rows, where = record.series["trace"], f"record {record.name!r}: series trace"
    if not isinstance(rows, list) or not all(
        isinstance(r, dict) and is_number(r.get("loss")) for r in rows
    ):
        raise RecordError(f"{where} must be a list of rows with a number as loss")
    points = []
    for row in rows:
        glances = {name: row[name] for name in GLANCES if row.get(name) is not None}
        for name, value in glances.items():
            if not is_number(value):
                raise RecordError(f"{where} has a value in {name!r} that is not a finite number")
        points.append(TracePoint(str(row.get("phase", "training")), float(row["loss"]), glances))
    return points


def read_relearning(record: RunRecord) -> RelearningCurves:
    """The series relearning."""
    raw = _Reader(record, "relearning")
    steps, curves = raw.numbers("steps"), raw.value.get("curves")
    if not isinstance(curves, dict) or not curves:
        raise raw.error("needs an object 'curves' with a list for each number of samples")
    inner = _Reader(record, "relearning", curves)
    return RelearningCurves(steps, {name: inner.numbers(name, len(steps)) for name in curves})


def read_class_accuracy(record: RunRecord) -> dict[str, float | None]:
    """Held-out accuracy by class, from the series per_class; None without held-out samples."""
    raw = _Reader(record, "per_class")
    labels = [str(v) for v in raw.listed("label")]
    values = raw.listed("test", len(labels))
    if not all(v is None or is_number(v) for v in values):
        raise raw.error("has a value in 'test' that is neither a finite number nor null")
    return dict(zip(labels, values, strict=True))


def read_class_alignment(record: RunRecord) -> dict[str, float | None]:
    """The forget set's share of energy in the subspace of each retained class.

    From the series class_alignment; None for a class without a share.
    """
    raw = _Reader(record, "class_alignment")
    labels = [str(v) for v in raw.listed("label")]
    values = raw.listed("energy", len(labels))
    if not all(v is None or (is_number(v) and 0 <= v <= 1.001) for v in values):
        raise raw.error("has a value in 'energy' that is neither a share nor null")
    return dict(zip(labels, values, strict=True))


def read_roc(record: RunRecord) -> RocSeries:
    """The series mia_roc."""
    raw = _Reader(record, "mia_roc")
    members, others = raw.value.get("members"), raw.value.get("others")
    if not (_is_count(members) and _is_count(others) and members and others):
        raise raw.error("needs whole numbers from 1 as 'members' and 'others'")
    true, false = raw.listed("true"), raw.listed("false", len(raw.listed("true")))
    for name, counts, total in (("true", true, members), ("false", false, others)):
        if not all(_is_count(n) for n in counts) or counts != sorted(counts) or counts[-1] > total:
            raise raw.error(f"needs whole numbers in {name!r} that rise to at most {total}")
    at, names = raw.value.get("at", {}), ROC_RATES.values()
    if not isinstance(at, dict) or not all(
        name in at and (at[name] is None or is_number(at[name])) for name in names if at
    ):
        raise raw.error(f"needs in 'at' a number or null for each of {', '.join(names)}")
    rates = {rate: at[name] for rate, name in ROC_RATES.items() if at.get(name) is not None}
    return RocSeries(members, others, true, false, rates)


def read_confusion(record: RunRecord) -> ConfusionCounts:
    """The series confusion."""
    raw = _Reader(record, "confusion")
    counts = raw.listed("counts")
    width = len(counts[0]) if isinstance(counts[0], list) else 0
    if not all(
        isinstance(row, list) and len(row) == width > 0 and all(map(_is_count, row))
        for row in counts
    ):
        raise raw.error("needs in 'counts' rows of the same length, of whole numbers from 0")
    # The first records name no forgotten class.
    forgotten = raw.value.get("forgotten", [])
    if not isinstance(forgotten, list) or not all(
        _is_count(c) and c < len(counts) for c in forgotten
    ):
        raise raw.error(f"needs in 'forgotten' numbers of classes, from 0 to {len(counts) - 1}")
    return ConfusionCounts(counts, forgotten)


def is_number(value: Any) -> bool:
    """Whether a value from JSON is a finite number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


class _Reader:
    """The fields of a series, or of an object in it."""

    def __init__(self, record: RunRecord, name: str, value: Any = None) -> None:
        self._where = f"record {record.name!r}: series {name}"
        self.value = record.series[name] if value is None else value
        if not isinstance(self.value, dict):
            raise self.error("must be an object")

    def error(self, message: str) -> RecordError:
        return RecordError(f"{self._where} {message}")

    def listed(self, key: str, length: int | None = None) -> list[Any]:
        """A list that is not empty, of this length where one is given."""
        items = self.value.get(key)
        if not isinstance(items, list) or not items:
            raise self.error(f"needs a list {key!r}")
        if length is not None and len(items) != length:
            raise self.error(f"has {len(items)} values in {key!r} where {length} are due")
        return items

    def numbers(self, key: str, length: int | None = None) -> list[float]:
        items = self.listed(key, length)
        if not all(is_number(v) for v in items):
            raise self.error(f"has a value in {key!r} that is not a finite number")
        return items


def _is_count(value: Any) -> bool:
    """Not bool: true is an int in Python."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
