"""The series of a record that figures draw, checked: a malformed one is an error that names the
record.
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

MAPS = {"pca": "principal directions", "tsne": "t-SNE", "umap": "UMAP"}

GLANCES = {"da": "DA", "forget_accuracy": "forget accuracy", "retain_accuracy": "retain accuracy"}
"""What the rows of a training trace may hold beside the loss."""

RATES = {0.001: "0.001", 0.01: "0.01", 0.1: "0.1"}
"""False-positive rates, with their names in the series, at which a ROC says how many are found."""


class DaCurve(NamedTuple):
    """DA over k, one list per form and centering that was measured; headline_k is the k of the
    table's number.
    """

    k: list[float]
    forms: dict[str, list[float]]
    headline_k: int | None


class FeatureMap(NamedTuple):
    """Held-out samples in two dimensions; explained: of principal directions, their shares of the
    variance.
    """

    x: list[float]
    y: list[float]
    label: list[str]
    id: list[str]
    forget: list[bool]
    explained: tuple[float, float] | None


class Spectrum(NamedTuple):
    """Eigenvalues of each side's features, largest first, as shares of their sum."""

    retain: list[float]
    forget: list[float]


class Relearning(NamedTuple):
    """Accuracy on the forgotten after each of `steps`, by the number of forgotten samples trained
    on.
    """

    steps: list[float]
    curves: dict[str, list[float]]


class TracePoint(NamedTuple):
    """A training epoch. seen: what the model was after it, by the names in GLANCES, where that was
    looked at.
    """

    phase: str
    loss: float
    seen: dict[str, float]


class Roc(NamedTuple):
    """How many of the `members` and of the `others` each threshold calls members, from none to all.

    at: true-positive rates by false-positive rate, for those that the number of others allows.
    """

    members: int
    others: int
    true: list[int]
    false: list[int]
    at: dict[float, float]


class Confusion(NamedTuple):
    """Counts of held-out samples, a row per true class and a column per output; the classes that
    were forgotten as a whole.
    """

    counts: list[list[int]]
    forgotten: list[int]


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
        raise raw.error(
            f"needs one of {', '.join(DA_FORMS)}, and a whole number from 1 as headline_k"
        )
    return DaCurve(k, forms, headline)


def feature_map(record: RunRecord, kind: str = "pca") -> FeatureMap:
    """kind: the series, one of MAPS."""
    raw = _Reader(record, kind)
    x = raw.numbers("x")
    n = len(x)
    shares = raw.numbers("explained", 2) if kind == "pca" else None
    labels, ids = ([str(v) for v in raw.listed(name, n)] for name in ("label", "id"))
    forget = [bool(v) for v in raw.listed("forget", n)]
    return FeatureMap(
        x,
        raw.numbers("y", n),
        labels,
        ids,
        forget,
        None if shares is None else (shares[0], shares[1]),
    )


def spectrum(record: RunRecord) -> Spectrum:
    raw = _Reader(record, "spectrum")
    return Spectrum(raw.numbers("retain"), raw.numbers("forget"))


def trace(record: RunRecord) -> list[TracePoint]:
    rows = record.series["trace"]
    if not isinstance(rows, list) or not all(
        isinstance(r, dict) and _is_number(r.get("loss")) for r in rows
    ):
        raise RecordError(
            f"record {record.name!r}: series trace must be a list of rows with a number as loss"
        )
    points = []
    for row in rows:
        seen = {name: row[name] for name in GLANCES if row.get(name) is not None}
        for name, value in seen.items():
            if not _is_number(value):
                raise RecordError(
                    f"record {record.name!r}: series trace has a value in {name!r} that is not a finite number"
                )
        points.append(TracePoint(str(row.get("phase", "training")), float(row["loss"]), seen))
    return points


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


def roc(record: RunRecord) -> Roc:
    raw = _Reader(record, "mia_roc")
    members, others = raw.value.get("members"), raw.value.get("others")
    if not (_is_count(members) and _is_count(others) and members and others):
        raise raw.error("needs whole numbers from 1 as 'members' and 'others'")
    true, false = raw.listed("true"), raw.listed("false", len(raw.listed("true")))
    for name, counts, total in (("true", true, members), ("false", false, others)):
        if not all(_is_count(n) for n in counts) or counts != sorted(counts) or counts[-1] > total:
            raise raw.error(f"needs whole numbers in {name!r} that rise to at most {total}")
    at = raw.value.get("at", {})
    if not isinstance(at, dict) or not all(
        name in at and (at[name] is None or _is_number(at[name])) for name in RATES.values() if at
    ):
        raise raw.error(f"needs in 'at' a number or null for each of {', '.join(RATES.values())}")
    return Roc(
        members,
        others,
        true,
        false,
        {rate: at[name] for rate, name in RATES.items() if at.get(name) is not None},
    )


def confusion(record: RunRecord) -> Confusion:
    raw = _Reader(record, "confusion")
    counts = raw.listed("counts")
    width = len(counts[0]) if isinstance(counts[0], list) else 0
    if not all(
        isinstance(row, list) and len(row) == width > 0 and all(map(_is_count, row))
        for row in counts
    ):
        raise raw.error("needs in 'counts' rows of the same length, of whole numbers from 0")
    # Records from before this was told mark no class.
    forgotten = raw.value.get("forgotten", [])
    if not isinstance(forgotten, list) or not all(
        _is_count(c) and c < len(counts) for c in forgotten
    ):
        raise raw.error(f"needs in 'forgotten' numbers of classes, from 0 to {len(counts) - 1}")
    return Confusion(counts, forgotten)


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


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
