"""The table of a report: a row per model, a column per score, and gaps to the retrained models."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, wraps
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeVar

from eigenforget.core import bands
from eigenforget.core.types import Better, Trace
from eigenforget.record import RecordError, RunRecord, ScoreRow, in_force, write_text
from eigenforget.record.schema import Role, Status
from eigenforget.report.cost import Share, shares, wall_seconds

OUTPUT_METRICS = (
    "forget_accuracy",
    "retain_accuracy",
    "test_forget_accuracy",
    "test_retain_accuracy",
    "mia_auc",
)
FEATURE_METRICS = ("da", "lp_forget", "nmi", "cluster_f1")
FIRST = (*OUTPUT_METRICS, *FEATURE_METRICS)
"""The scores that come first wherever scores are listed."""

LEAST_OTHERS = 3
"""Other retrained models beside whose band one of them is shown."""

_T = TypeVar("_T")
_Values = dict[str, dict[str, float]]
"""By score, then by model."""
_MUDA = re.compile(r"\bmuda\(")
_ROLE_ORDER: tuple[Role, ...] = ("original", "oracle", "unlearned", "control")


class Column(NamedTuple):
    """A score: its unit, which values are wanted, its range, and where traces show."""

    name: str
    unit: str
    better: Better
    range: tuple[float | None, float | None]
    trace: Trace = ""


class Cell(NamedTuple):
    """A score of a model.

    Attributes:
        value: The score; None where it does not apply, for `reason`.
        low: Lower end of its 95 % interval, where it has one.
        high: Upper end of that interval.
        gap: value − mean of the retrained models; None for these and where there are none.
        reason: Why there is no value.
        units: The gap in half-widths of the retrained models' band; None without a band. A
            retrained model is compared with the band of the others.
        verdict: What follows from it (bands.verdict); "" without a band.
    """

    value: float | None
    low: float | None
    high: float | None
    gap: float | None
    reason: str
    units: float | None = None
    verdict: bands.BandVerdict | Literal[""] = ""


class Row(NamedTuple):
    """A model.

    Attributes:
        model: Its name.
        role: What it is in the comparison.
        status: Whether it has a result; otherwise `reason` says why not.
        reason: Why it has no result.
        cells: Its scores by name.
        seconds: Wall seconds that it took to make; None where they are unknown.
        cost: Its cost beside that of retraining (cost.shares); None where it is unknown.
        optimises: The scores that its method trains on.
    """

    model: str
    role: Role
    status: Status
    reason: str
    cells: dict[str, Cell]
    seconds: float | None
    cost: Share | None
    optimises: tuple[str, ...] = ()

    @property
    def share(self) -> float | None:
        """Its share of the cost of retraining; None where it is unknown."""
        return None if self.cost is None else self.cost.value

    @property
    def has_result(self) -> bool:
        """Whether there is a model, which was measured."""
        return self.status == "ok"


class OracleValues(NamedTuple):
    """The retrained models' values of one score, and their band, which takes two of them."""

    mean: float
    low: float
    high: float
    models: int
    band: bands.Band | None = None

    @property
    def spread(self) -> float:
        """The distance of the largest value from the smallest."""
        return self.high - self.low


class Table(NamedTuple):
    """Models by scores.

    Attributes:
        columns: The scores.
        rows: The models.
        oracles: The retrained models' values, by score.
        original: The originals' mean, by score.
        about: Label, group and meaning of scores that are not of this package, by name.
        forgets_classes: Whether the request forgets classes as a whole.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    oracles: dict[str, OracleValues]
    original: dict[str, float]
    about: Mapping[str, tuple[str, str, str]] = MappingProxyType({})
    forgets_classes: bool = False

    @property
    def shows_oracles(self) -> bool:
        """Whether each retrained model can be shown beside the band of the others.

        Of two others, two that agree by chance make any third one an outlier.
        """
        return sum(row.has_result for row in self.of_role("oracle")) > LEAST_OTHERS

    def of_role(self, *roles: Role) -> list[Row]:
        """The models of these roles, whether they have a result or not."""
        return [row for row in self.rows if row.role in roles]


def evaluated(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The evaluate records in force: original, retrained, unlearned, control.

    Raises:
        RecordError: Two of them share a name, or there is none.
    """
    chosen = [r for r in in_force(records) if r.kind == "evaluate"]
    twice = next((name for name, n in Counter(r.name for r in chosen).items() if n > 1), None)
    if twice is not None:
        raise RecordError(
            f"two evaluate records are named {twice!r}; give each record once, and the "
            "records of one evaluation only"
        )
    if not chosen:
        raise RecordError("no evaluate record is among the records: there is nothing to report")
    return sorted(chosen, key=lambda r: _ROLE_ORDER.index(_role(r)))


def remembered(compute: Callable[[Sequence[RunRecord]], _T]) -> Callable[[Sequence[RunRecord]], _T]:
    """The function, which keeps its last answers by the records themselves.

    For what every figure of a page asks: a page has figures of all its records and of its models.
    """

    @lru_cache(maxsize=2)
    def known(key: _SameRecords) -> _T:
        return compute(key.records)

    @wraps(compute)
    def asked(records: Sequence[RunRecord]) -> _T:
        return known(_SameRecords(tuple(records)))

    return asked


class _SameRecords(NamedTuple):
    """Records as a key, which is equal where they are the same objects in the same order."""

    records: tuple[RunRecord, ...]

    def __hash__(self) -> int:
        return hash(tuple(map(id, self.records)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SameRecords) and list(map(id, self.records)) == list(
            map(id, other.records)
        )


@remembered
def build(records: Sequence[RunRecord]) -> Table:
    """The table of the evaluate records among `records`, with the scores of FIRST first."""
    chosen = evaluated(records)
    columns = {c.name: c for c in _columns(chosen)}
    retrained = _values([r for r in chosen if r.role == "oracle"], columns)
    costs = shares(chosen)
    oracles, beside = _of_oracles(retrained, columns), _bands_of_others(retrained, columns)
    rows = tuple(
        _row(r, oracles, beside.get(r.name, {}), columns, costs.get(r.name)) for r in chosen
    )
    originals = _values([r for r in chosen if r.role == "original"], columns)
    return Table(
        tuple(columns.values()),
        rows,
        oracles,
        {name: sum(values.values()) / len(values) for name, values in originals.items()},
        {s.name.partition("@")[0]: s.about for r in chosen for s in r.scores if s.about},
        any(_forgets_classes(r) for r in chosen),
    )


def optimises(record: RunRecord) -> tuple[str, ...]:
    """The scores that the record's method trains on.

    The job names them; in records from before it did, the method's name tells.
    """
    method = record.job.get("method")
    said = method.get("optimises") if isinstance(method, dict) else None
    if said is not None:
        if not isinstance(said, list) or not all(isinstance(name, str) for name in said):
            raise RecordError(
                f"record {record.name!r}: job.method.optimises must be a list of names of scores"
            )
        return tuple(said)
    spec = method.get("spec") if isinstance(method, dict) else method
    return ("da",) if isinstance(spec, str) and _MUDA.search(spec) else ()


def write_csv(records: Sequence[RunRecord], path: str | Path) -> Path:
    """Writes a line per model: name, role, every score in full precision, seconds."""
    table = build(records)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [column.name for column in table.columns]
    writer.writerow(["model", "role", *names, "seconds"])
    for row in table.rows:
        values = [row.cells[name].value if name in row.cells else None for name in names]
        written = ("" if v is None else repr(v) for v in (*values, row.seconds))
        writer.writerow([row.model, row.role, *written])
    return write_text(path, text.getvalue())


def number(value: float) -> str:
    """Three decimals, or three significant digits where three decimals would hide the value."""
    return f"{value:.3f}" if value == 0 or 0.001 <= abs(value) < 1000 else f"{value:.3g}"


def signed(gap: float) -> str:
    """A gap with its sign; what rounds to nothing is +0.000, never -0.000."""
    return f"{round(gap, 3) + 0.0:+.3f}" if abs(gap) < 1000 else f"{gap:+.3g}"


def in_units(units: float) -> str:
    """A gap in half-widths of the band with one decimal, beyond 99 only that it is beyond."""
    if abs(units) < 99.95:
        return f"{round(units, 1) + 0.0:+.1f}"
    return ">99" if units > 0 else "<-99"


def percent(share: float) -> str:
    """Whole percents from ten on, one decimal below."""
    return f"{share:.0%}" if abs(share) >= 0.0995 else f"{round(share, 3) + 0.0:.1%}"


def _row(
    record: RunRecord,
    oracles: Mapping[str, OracleValues],
    beside: Mapping[str, bands.Band],
    columns: Mapping[str, Column],
    cost: Share | None,
) -> Row:
    """A model; a retrained one stands beside the bands of the others."""
    cells = {}
    for s in record.scores:
        compared = oracles.get(s.name)
        if record.role == "oracle":
            mean, band = None, beside.get(s.name)
        else:
            mean, band = (None, None) if compared is None else (compared.mean, compared.band)
        cells[s.name] = _cell(s, columns[s.name], mean, band)
    return Row(
        record.name,
        _role(record),
        record.outcome.status,
        record.outcome.reason,
        cells,
        wall_seconds(record),
        cost,
        optimises(record),
    )


def _cell(score: ScoreRow, column: Column, mean: float | None, band: bands.Band | None) -> Cell:
    value = score.value
    if value is None:
        return Cell(value, score.low, score.high, None, score.reason)
    cell = Cell(value, score.low, score.high, None if mean is None else value - mean, score.reason)
    if band is None:
        return cell
    return cell._replace(
        units=bands.units(value, band),
        verdict=bands.verdict(value, band, better=column.better, trace=column.trace),
    )


def _columns(records: Sequence[RunRecord]) -> tuple[Column, ...]:
    found: dict[str, Column] = {}
    for record in records:
        for s in record.scores:
            column = found.setdefault(s.name, Column(s.name, s.unit, s.better, s.range, s.trace))
            if (s.unit, s.better) != (column.unit, column.better):
                here, there = f"{s.unit!r}, {s.better}", f"{column.unit!r}, {column.better}"
                raise RecordError(
                    f"score {s.name!r} is {here} in {record.name!r} and {there} elsewhere"
                )
            # Records from before there was a trace may stand beside newer ones: what any of them
            # declares holds for all.
            if s.trace and column.trace and s.trace != column.trace:
                raise RecordError(
                    f"a trace in score {s.name!r} shows {s.trace!r} in {record.name!r} "
                    f"and {column.trace!r} elsewhere"
                )
            found[s.name] = column._replace(trace=column.trace or s.trace)
    known = [name for name in FIRST if name in found]
    return tuple(found[name] for name in (*known, *(n for n in found if n not in known)))


def _of_oracles(known: _Values, columns: Mapping[str, Column]) -> dict[str, OracleValues]:
    result = {}
    for name, of_models in known.items():
        values = list(of_models.values())
        pairs = bands.shares_pairs(name)
        width = bands.band(values, span=columns[name].range, pairs=pairs)
        low, high = min(values), max(values)
        # The mean of equal numbers may round away from them, and a gap of 0 must be 0.
        mean = min(max(sum(values) / len(values), low), high)
        result[name] = OracleValues(mean, low, high, len(values), width)
    return result


def _bands_of_others(
    known: _Values, columns: Mapping[str, Column]
) -> dict[str, dict[str, bands.Band]]:
    """For each retrained model, by its name, the bands of the others, by score."""
    result: dict[str, dict[str, bands.Band]] = {}
    for name, values in known.items():
        found = bands.bands_of_others(
            list(values.values()), span=columns[name].range, pairs=bands.shares_pairs(name)
        )
        for model, band in zip(values, found, strict=True):
            if band is not None:
                result.setdefault(model, {})[name] = band
    return result


def _forgets_classes(record: RunRecord) -> bool:
    """What the job says; else there are held-out samples of classes that are gone."""
    classes = record.job.get("classes")
    if isinstance(classes, dict) and isinstance(classes.get("gone"), list):
        return bool(classes["gone"])
    return any(s.name == "test_forget_accuracy" and s.value is not None for s in record.scores)


def _values(records: Sequence[RunRecord], columns: Mapping[str, Column]) -> _Values:
    """The values of each score that has any, in the order of the columns."""
    found: _Values = {name: {} for name in columns}
    for record in records:
        for s in record.scores:
            if s.value is not None:
                found[s.name][record.name] = s.value
    return {name: values for name, values in found.items() if values}


def _role(record: RunRecord) -> Role:
    if record.role is None:
        raise RecordError(f"record {record.name!r} has no role")
    return record.role
