"""The series "analysis" of records, checked, and each number of it beside the retrained models'.

Every reader raises RecordError, with the record's name, where a series is malformed.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from eigenforget.core import bands
from eigenforget.record import RecordError, RunRecord
from eigenforget.report.figures.series import is_number
from eigenforget.report.table import evaluated

MIN_SEPARATION = 0.02
"""A difference between original and retrained models is worth a word from here on. Where random
samples are forgotten, and alignment has nothing to show, they differ by up to this much."""

SETS = {
    "retain": "retain set",
    "forget": "forget set",
    "test_forget": "held-out samples of forgotten classes",
    "test_retain": "held-out samples of retained classes",
}
"""The sets of samples by their part."""

Nearness = Literal["nearer", "farther", "same", ""]


class Indicator(NamedTuple):
    """A number that says how near a set lies to the features of the retain set.

    Attributes:
        name: Its name in the series.
        label: Its name on the page.
        meaning: What it is, in a sentence.
        toward: +1 where larger is nearer, −1 where smaller is.
        span: Its range.
        unit: What its smallest difference worth a word (MIN_SEPARATION) is counted in.
    """

    name: str
    label: str
    meaning: str
    toward: int
    span: tuple[float | None, float | None] = (0.0, 1.0)
    unit: float = 1.0


INDICATORS = {
    indicator.name: indicator
    for indicator in (
        Indicator(
            "da",
            "DA",
            "Dimensional alignment at k, Frobenius form, features as they are: how much of their"
            " energy lies in the k main directions of the retain set, 0 to 1.",
            1,
        ),
        Indicator(
            "da_centred",
            "DA, centred",
            "The same after each side's own mean is subtracted: how they vary, not where they lie.",
            1,
        ),
        Indicator(
            "energy",
            "energy",
            "The share of the features' energy (sum of squares) in these k directions, 0 to 1.",
            1,
        ),
        Indicator(
            "energy_centred",
            "energy, centred",
            "The same after each side's own mean is subtracted.",
            1,
        ),
        Indicator(
            "share",
            "share of one sample",
            "The median over samples of the share of one sample's energy in these k directions.",
            1,
        ),
        Indicator(
            "neighbours",
            "distance to neighbours",
            "Median of the mean distance to the 5 nearest samples of the retain set; 1 is what"
            " held-out samples of retained classes have.",
            -1,
            (0.0, None),
        ),
        Indicator(
            "class_mean",
            "distance to class mean",
            "Median distance to the nearest mean of a retained class, over the mean distance"
            " between these means.",
            -1,
            (0.0, None),
        ),
        Indicator(
            "angle_mean",
            "angle",
            "Mean principal angle, in degrees, between the 5 main directions of these samples and"
            " the k main directions of the retain set.",
            -1,
            (0.0, 90.0),
            90.0,
        ),
    )
}
HEADLINE_INDICATOR = INDICATORS["da"]


class Contrast(NamedTuple):
    """The original's value beside the retrained models'.

    Attributes:
        original: The original's value; None where it was not measured.
        retrained: The values of the retrained models.
        band: Where one more of them would lie; None for fewer than two.
        says: Where the set lies in retrained models, seen from the original: nearer to the retain
            set, farther, or the same as far as the numbers go; "" where a value is missing.
        reason: Why it is missing.
    """

    original: float | None
    retrained: tuple[float, ...]
    band: bands.Band | None
    says: Nearness
    reason: str = ""

    @property
    def mean(self) -> float:
        """Mean of the retrained models."""
        return statistics.fmean(self.retrained)

    @property
    def gap(self) -> float:
        """Retrained mean − original."""
        return self.mean - (self.original or 0.0)


class AnalysisRecords(NamedTuple):
    """The record of the original and those of the retrained models, all with the series."""

    original: RunRecord
    oracles: tuple[RunRecord, ...]

    @property
    def all(self) -> tuple[RunRecord, ...]:
        """All records, the original first."""
        return self.original, *self.oracles

    def layers(self) -> list[str]:
        """Names of the layers, first to last."""
        places = {
            name: value_at(self.original, name, "position")
            for name in self.original.series["analysis"]
        }
        if not all(isinstance(p, int) for p in places.values()):
            raise RecordError(
                f"record {self.original.name!r}: series analysis needs a whole number as"
                " 'position' of each layer"
            )
        return sorted(places, key=lambda name: places[name])

    def sets(self, layer: str) -> list[str]:
        """The sets that were measured, in the order of SETS."""
        samples = value_at(self.original, layer, "samples")
        counted = _object(self.original, samples, f"analysis {layer!r}: samples")
        return [name for name in SETS if name in counted]

    def contrast(self, layer: str, part: str, indicator: Indicator) -> Contrast:
        """One number of a set at a layer, of the original beside the retrained models."""
        original, *others = (
            read_number(r, layer, "values", part, indicator.name) for r in self.all
        )
        known = tuple(v for v in others if v is not None)
        if original is None or len(known) < len(others):
            reasons = (value_at(r, layer, "reasons", indicator.name) for r in self.all)
            reason = next((str(r) for r in reasons if r), "it was not measured")
            return Contrast(original, (), None, "", reason)
        return contrast(
            original, known, toward=indicator.toward, span=indicator.span, unit=indicator.unit
        )


def analysis_records(records: Sequence[RunRecord]) -> AnalysisRecords:
    """The records with the series "analysis".

    Raises:
        RecordError: No original or no retrained model has it, or they have other layers.
    """
    having = [r for r in evaluated(records) if r.series.get("analysis")]
    originals, oracles = ([r for r in having if r.role == role] for role in ("original", "oracle"))
    if len(originals) != 1 or not oracles:
        raise RecordError(
            "an analysis needs one original and at least one retrained model with the series"
            f" 'analysis', got {len(originals)} and {len(oracles)}"
        )
    found = AnalysisRecords(originals[0], tuple(oracles))
    layers = set(_object(found.original, found.original.series["analysis"], "analysis"))
    for record in oracles:
        if set(_object(record, record.series["analysis"], "analysis")) != layers:
            raise RecordError(
                f"record {record.name!r}: series analysis is of other layers than that of"
                f" {found.original.name!r}"
            )
    return found


def value_at(record: RunRecord, layer: str, *path: str) -> Any:
    """What stands there in the series of a layer; None where nothing does."""
    value: Any = record.series["analysis"][layer]
    for step in path:
        value = _object(record, value, f"analysis {layer!r}").get(step)
        if value is None:
            return None
    return value


def read_number(record: RunRecord, layer: str, *path: str) -> float | None:
    """A number of the series of a layer; None where there is none."""
    value = value_at(record, layer, *path)
    if value is not None and not is_number(value):
        raise RecordError(f"{_where(record, layer, path)} must be a finite number or null")
    found: float | None = value
    return found


def read_numbers(
    record: RunRecord, layer: str, *path: str, length: int | None = None
) -> list[float]:
    """A list of numbers of the series of a layer, of this length; empty where there is none."""
    value = value_at(record, layer, *path)
    if value is None:
        return []
    if not (
        isinstance(value, list) and all(map(is_number, value)) and length in (None, len(value))
    ):
        due = "finite numbers" if length is None else f"{length} finite numbers"
        raise RecordError(f"{_where(record, layer, path)} must be a list of {due}")
    return value


def contrast(
    original: float,
    retrained: Sequence[float],
    *,
    toward: int,
    span: tuple[float | None, float | None],
    unit: float = 1.0,
    pairs: bool = False,
) -> Contrast:
    """Whether they differ: by more than MIN_SEPARATION units, and by more than their band.

    With one retrained model there is no band, and the distance alone counts.

    Args:
        original: The original's value.
        retrained: The retrained models' values.
        toward: +1 where larger is nearer to the retain set, −1 where smaller is.
        span: The range of the values.
        unit: What the smallest difference worth a word is counted in.
        pairs: Whether the values share retrained models; see bands.band.
    """
    width = bands.band(retrained, span=span, pairs=pairs)
    found = Contrast(original, tuple(retrained), width, "same")
    outside = width is None or abs(found.gap) > width.half
    if abs(found.gap) <= MIN_SEPARATION * unit or not outside:
        return found
    return found._replace(says="nearer" if found.gap * toward > 0 else "farther")


def _where(record: RunRecord, layer: str, path: Sequence[str]) -> str:
    return f"record {record.name!r}: series analysis {layer!r}: {'.'.join(path)}"


def _object(record: RunRecord, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RecordError(f"record {record.name!r}: series {where} must be an object")
    return value
