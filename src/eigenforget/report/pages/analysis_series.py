"""The series "analysis" of records, checked, and each number of it set beside the retrained
models'.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from eigenforget.core import bands
from eigenforget.record import RecordError, RunRecord
from eigenforget.report.table import evaluated
from eigenforget.report.verdict import MIN_SEPARATION

SETS = {
    "retain": "kept training samples",
    "forget": "forgotten training samples",
    "test_forget": "held-out samples of forgotten classes",
    "test_retain": "held-out kept samples",
}
"""The sets of samples by their part."""

Says = Literal["nearer", "farther", "same", ""]


class Sign(NamedTuple):
    """A number that says how near a set lies to the kept features. toward: +1 where larger is
    nearer, −1 where smaller is.

    span: its range. unit: what its smallest difference worth a word (MIN_SEPARATION) is counted in.
    """

    name: str
    label: str
    meaning: str
    toward: int
    span: tuple[float | None, float | None]
    unit: float = 1.0


SIGNS = (
    Sign(
        "da",
        "DA",
        "Dimensional alignment at k, Frobenius form, features as they are: how much of their energy lies in the"
        " k main directions of the kept features, 0 to 1.",
        1,
        (0.0, 1.0),
    ),
    Sign(
        "da_centred",
        "DA, centred",
        "The same with each side's own mean taken away: how they vary, not where they lie.",
        1,
        (0.0, 1.0),
    ),
    Sign(
        "energy",
        "energy",
        "The share of the features' energy (sum of squares) in these k directions, 0 to 1.",
        1,
        (0.0, 1.0),
    ),
    Sign(
        "energy_centred",
        "energy, centred",
        "The same with each side's own mean taken away.",
        1,
        (0.0, 1.0),
    ),
    Sign(
        "share",
        "share of one sample",
        "The median over samples of the share of one sample's energy in these k directions.",
        1,
        (0.0, 1.0),
    ),
    Sign(
        "neighbours",
        "distance to neighbours",
        "Median of the mean distance to the 5 nearest kept training samples; 1 is what held-out"
        " kept samples have.",
        -1,
        (0.0, None),
    ),
    Sign(
        "class_mean",
        "distance to class mean",
        "Median distance to the nearest mean of a kept class, over the mean distance between"
        " these means.",
        -1,
        (0.0, None),
    ),
    Sign(
        "angle_mean",
        "angle",
        "Mean principal angle, in degrees, between the 5 main directions of these samples and the k main"
        " directions of the kept ones.",
        -1,
        (0.0, 90.0),
        90.0,
    ),
)
SIGN = {sign.name: sign for sign in SIGNS}
MAIN = "da"


class Beside(NamedTuple):
    """The original's value beside the retrained models'. band: where one more of them would lie,
    for two or more.

    says: where the set lies in retrained models, seen from the original: nearer to the kept
    features, farther, or the same as far as the numbers go; "" where a value is missing, for the
    reason given.
    """

    original: float | None
    retrained: tuple[float, ...]
    band: bands.Band | None
    says: Says
    reason: str = ""

    @property
    def mean(self) -> float:
        return statistics.fmean(self.retrained)

    @property
    def gap(self) -> float:
        """Retrained mean − original."""
        return self.mean - (self.original or 0.0)

    @property
    def units(self) -> float | None:
        """The gap in halves of the band."""
        return None if self.band is None else abs(self.gap) / self.band.half


class Models(NamedTuple):
    """The original's record and those of the retrained models, all with the series."""

    original: RunRecord
    oracles: tuple[RunRecord, ...]

    @property
    def all(self) -> tuple[RunRecord, ...]:
        return self.original, *self.oracles


def models(records: Sequence[RunRecord]) -> Models:
    """Errors: no original or no retrained model with the series, models that were measured at other
    layers.
    """
    having = [r for r in evaluated(records) if r.series.get("analysis")]
    originals, oracles = ([r for r in having if r.role == role] for role in ("original", "oracle"))
    if len(originals) != 1 or not oracles:
        raise RecordError(
            f"an analysis needs one original and at least one retrained model with the series 'analysis', "
            f"got {len(originals)} and {len(oracles)}"
        )
    found = Models(originals[0], tuple(oracles))
    wanted = set(_object(found.original, found.original.series["analysis"], "analysis"))
    for record in oracles:
        if set(_object(record, record.series["analysis"], "analysis")) != wanted:
            raise RecordError(
                f"record {record.name!r}: series analysis is of other layers than that of {found.original.name!r}"
            )
    return found


def layers(found: Models) -> list[str]:
    """Names of the layers, first to last."""
    places = {
        name: at(found.original, name, "position") for name in found.original.series["analysis"]
    }
    if not all(isinstance(p, int) for p in places.values()):
        raise RecordError(
            f"record {found.original.name!r}: series analysis needs a whole number as 'position' of each layer"
        )
    return sorted(places, key=lambda name: places[name])


def at(record: RunRecord, layer: str, *path: str) -> Any:
    """What stands there in the series of a layer; None where nothing does. Errors: something on the
    way is no object.
    """
    value: Any = record.series["analysis"][layer]
    for step in path:
        value = _object(record, value, f"analysis {layer!r}").get(step)
        if value is None:
            return None
    return value


def number(record: RunRecord, layer: str, *path: str) -> float | None:
    """Errors: neither a finite number nor nothing."""
    value = at(record, layer, *path)
    if value is not None and not _is_number(value):
        raise RecordError(
            f"record {record.name!r}: series analysis {layer!r}: {'.'.join(path)} must be a finite number or null"
        )
    return value  # type: ignore[no-any-return]


def numbers(record: RunRecord, layer: str, *path: str, length: int | None = None) -> list[float]:
    """A list of numbers, empty where there is none. Errors: another value, another length than the
    one given.
    """
    value = at(record, layer, *path)
    if value is None:
        return []
    if (
        not isinstance(value, list)
        or not all(_is_number(v) for v in value)
        or length not in (None, len(value))
    ):
        due = "finite numbers" if length is None else f"{length} finite numbers"
        raise RecordError(
            f"record {record.name!r}: series analysis {layer!r}: {'.'.join(path)} must be a list of {due}"
        )
    return value


def sets(found: Models, layer: str) -> list[str]:
    """The sets that were measured, in the order of SETS."""
    counted = _object(
        found.original, at(found.original, layer, "samples"), f"analysis {layer!r}: samples"
    )
    return [name for name in SETS if name in counted]


def beside(found: Models, layer: str, part: str, sign: Sign) -> Beside:
    """One number of a set at a layer, of the original beside the retrained models."""
    original, *others = (number(r, layer, "values", part, sign.name) for r in found.all)
    known = tuple(v for v in others if v is not None)
    if original is None or len(known) < len(others):
        reasons = [at(r, layer, "reasons", sign.name) for r in found.all]
        return Beside(
            original, (), None, "", next((str(r) for r in reasons if r), "it was not measured")
        )
    return judged(original, known, toward=sign.toward, span=sign.span, unit=sign.unit)


def judged(
    original: float,
    retrained: Sequence[float],
    *,
    toward: int,
    span: tuple[float | None, float | None],
    unit: float = 1.0,
    pairs: bool = False,
) -> Beside:
    """Whether they differ: the original lies outside the band of the retrained models, and from
    their mean by more than MIN_SEPARATION units.

    Where there is no band, as with one retrained model, the distance alone counts. pairs: as in
    bands.band.
    """
    width = bands.band(retrained, span=span, pairs=pairs)
    found = Beside(original, tuple(retrained), width, "same")
    outside = width is None or abs(found.gap) > width.half
    if abs(found.gap) <= MIN_SEPARATION * unit or not outside:
        return found
    return found._replace(says="nearer" if found.gap * toward > 0 else "farther")


def _object(record: RunRecord, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RecordError(f"record {record.name!r}: series {where} must be an object")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
