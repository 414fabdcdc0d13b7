"""What a run record holds, and the way from JSON to frozen dataclasses and back.

Every JSON field is always written.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import itemgetter
from typing import Any, Literal, Protocol, cast

from . import fields
from .canonical import RecordError

SCHEMA = "eigenforget.record/1"

Kind = Literal["train", "unlearn", "evaluate"]
Role = Literal["original", "oracle", "unlearned", "control"]
Status = Literal["ok", "refused", "failed"]
_Better = Literal["higher", "lower", "reference"]
_Trace = Literal["above", "below", "both", ""]

_KINDS: tuple[Kind, ...] = ("train", "unlearn", "evaluate")
_ROLES: tuple[Role, ...] = ("original", "oracle", "unlearned", "control")
_STATUSES: tuple[Status, ...] = ("ok", "refused", "failed")
_BETTER: tuple[_Better, ...] = ("higher", "lower", "reference")
_TRACES: tuple[_Trace, ...] = ("above", "below", "both", "")

_SCORE = ("name", "value", "unit", "better", "range", "low", "high", "reason")
_SCORE_FIELDS = itemgetter(*_SCORE)
_ABOUT = ("label", "group", "meaning")
_OUTCOME = ("status", "reason", "seconds", "cost", "outputs")
_RECORD = (
    "schema",
    "kind",
    "name",
    "role",
    "created",
    "job",
    "inputs",
    "environment",
    "outcome",
    "scores",
    "series",
    "claims",
    "non_claims",
    "previous",
    "digest",
)


@dataclass(frozen=True)
class ScoreRow:
    """A number, or the reason why there is none.

    Args:
        name: Name of the score.
        value: The number; None exactly when the score does not apply.
        unit: Of the value.
        better: "higher", "lower", or "reference" for closest to the retrained model.
        range: Ends of the score's range; None is an open end.
        low: Lower end of its interval.
        high: Upper end of its interval.
        reason: Why there is no value.
        trace: On which side of the retrained models traces of the forget set show; "both" for a
            distance. Only a trace that says something is written, so older records keep their
            digests.
        about: Label, group and meaning of a score that the report's glossary does not know; written
            only where it is given.
    """

    name: str
    value: float | None
    unit: str
    better: _Better
    range: tuple[float | None, float | None]
    low: float | None = None
    high: float | None = None
    reason: str = ""
    trace: _Trace = ""
    about: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class Outcome:
    """What happened.

    Args:
        status: "ok", "refused" or "failed".
        seconds: Wall time.
        reason: Why, unless the status is "ok".
        cost: Free JSON.
        outputs: Digests.
    """

    status: Status
    seconds: float
    reason: str = ""
    cost: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord:
    """One run.

    Args:
        kind: "train", "unlearn" or "evaluate".
        name: Short display name of the model.
        created: UTC time.
        job: What was asked, free JSON. A record that corrects an earlier one names its digest in
            job["corrects"].
        inputs: Digests.
        environment: Free JSON.
        outcome: What happened.
        role: Of the model, in evaluate records only.
        scores: The numbers.
        series: Curves and tables, free JSON.
        claims: What the run shows.
        non_claims: What it does not.
        previous: Digest of the record before in the chain.
        digest: None until `store.seal` sets it.
    """

    kind: Kind
    name: str
    created: str
    job: Mapping[str, Any]
    inputs: Mapping[str, str]
    environment: Mapping[str, Any]
    outcome: Outcome
    role: Role | None = None
    scores: tuple[ScoreRow, ...] = ()
    series: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[str, ...] = ()
    non_claims: tuple[str, ...] = ()
    previous: str | None = None
    digest: str | None = None


class ScoreLike(Protocol):
    """The attributes of eigenforget.core.types.Score, which cannot be imported here."""

    @property
    def name(self) -> str:
        """Name."""

    @property
    def value(self) -> float | None:
        """Value."""

    @property
    def unit(self) -> str:
        """Unit."""

    @property
    def better(self) -> _Better:
        """Better side."""

    @property
    def range(self) -> tuple[float, float]:
        """Range."""

    @property
    def low(self) -> float | None:
        """Lower end of the interval."""

    @property
    def high(self) -> float | None:
        """Upper end of the interval."""

    @property
    def reason(self) -> str:
        """Why there is no value."""

    @property
    def trace(self) -> _Trace:
        """Side of the traces."""

    @property
    def about(self) -> tuple[str, str, str] | None:
        """Glossary line."""


def score_row(score: ScoreLike) -> ScoreRow:
    """The score as a row of a record.

    Infinite ends of its range become None, and so does a value beyond what a record holds.
    """
    lo, hi = (None if math.isinf(end) else end for end in score.range)
    row = ScoreRow(
        score.name,
        score.value,
        score.unit,
        score.better,
        (lo, hi),
        score.low,
        score.high,
        score.reason,
        score.trace,
        score.about,
    )
    if row.value is None or abs(row.value) <= fields.MOST_NUMBER:
        return row
    why = f"{row.value:.3g} is beyond what a record holds ({fields.MOST_NUMBER:g})"
    return replace(row, value=None, low=None, high=None, reason=why)


def to_json(record: RunRecord) -> dict[str, Any]:
    """The record as a JSON object with every field; `digest` is null until it is sealed."""
    return {
        "schema": SCHEMA,
        "kind": record.kind,
        "name": record.name,
        "role": record.role,
        "created": record.created,
        "job": dict(record.job),
        "inputs": dict(record.inputs),
        "environment": dict(record.environment),
        "outcome": {name: getattr(record.outcome, name) for name in _OUTCOME},
        "scores": [_score_to_json(row) for row in record.scores],
        "series": dict(record.series),
        "claims": list(record.claims),
        "non_claims": list(record.non_claims),
        "previous": record.previous,
        "digest": record.digest,
    }


def outline(record: RunRecord) -> RunRecord:
    """The record without what its chain and its files do not need.

    Thousands of them fit in memory. Its digest is still that of the whole record.
    """
    job = {name: record.job[name] for name in ("corrects", "checkpoint") if name in record.job}
    outcome = replace(record.outcome, cost={})
    return replace(
        record,
        job=job,
        environment={},
        outcome=outcome,
        scores=(),
        series={},
        claims=(),
        non_claims=(),
    )


def record_from_json(value: Any) -> RunRecord:
    """The record that a JSON object describes.

    The digest is taken as written: `store.read` compares it with the content.

    Raises:
        RecordError: A field is missing, unknown or wrong; the message names it.
    """
    record = _without_scores(value)
    return replace(record, scores=tuple(map(_score, value["scores"])))


def outline_from_json(value: Any) -> RunRecord:
    """The outline of the record that a JSON object describes, all of which is checked.

    Raises:
        RecordError: As `record_from_json`.
    """
    return outline(_without_scores(value))


def _without_scores(value: Any) -> RunRecord:
    """The record that a JSON object describes, with its scores checked and left out."""
    raw = fields.obj(value, "record", _RECORD)
    if raw["schema"] != SCHEMA:
        raise RecordError(f"schema must be {SCHEMA!r}, got {str(raw['schema'])[:60]!r}")
    record = RunRecord(
        kind=cast(Kind, fields.choice(raw["kind"], "kind", _KINDS)),
        name=fields.line(raw["name"], "name"),
        role=None
        if raw["role"] is None
        else cast(Role, fields.choice(raw["role"], "role", _ROLES)),
        created=fields.moment(raw["created"], "created"),
        job=fields.free_object(raw["job"], "job"),
        inputs=fields.digests(raw["inputs"], "inputs"),
        environment=fields.free_object(raw["environment"], "environment"),
        outcome=_outcome(raw["outcome"]),
        series=fields.free_object(raw["series"], "series"),
        claims=fields.texts(raw["claims"], "claims"),
        non_claims=fields.texts(raw["non_claims"], "non_claims"),
        previous=fields.sha256_or_none(raw["previous"], "previous"),
        digest=fields.sha256_or_none(raw["digest"], "digest"),
    )
    _check_role(record)
    _check_scores(raw["scores"])
    if "corrects" in record.job:
        fields.sha256(record.job["corrects"], "job.corrects")
    return record


def _check_role(record: RunRecord) -> None:
    if (record.kind == "evaluate") != (record.role is not None):
        raise RecordError(
            f"role is set in evaluate records and null in others, got {record.role!r} for "
            f"{record.kind}"
        )


def _outcome(value: Any) -> Outcome:
    raw = fields.obj(value, "outcome", _OUTCOME)
    outcome = Outcome(
        status=cast(Status, fields.choice(raw["status"], "outcome.status", _STATUSES)),
        reason=fields.text(raw["reason"], "outcome.reason"),
        seconds=fields.finite_number(raw["seconds"], "outcome.seconds"),
        cost=fields.free_object(raw["cost"], "outcome.cost"),
        outputs=fields.digests(raw["outputs"], "outcome.outputs"),
    )
    if outcome.seconds < 0:
        raise RecordError(f"outcome.seconds must be at least 0, got {outcome.seconds!r}")
    if outcome.status != "ok" and not outcome.reason:
        raise RecordError(f"outcome.reason must say why the run was {outcome.status}")
    return outcome


def _check_scores(value: Any) -> None:
    for number, row in enumerate(fields.array(value, "scores")):
        try:
            _check_score(row)
        except RecordError as error:  # spelling the place of every field costs more than the checks
            raise RecordError(f"scores[{number}]{error}") from None
    names = [row["name"] for row in value]
    if len(set(names)) < len(names):
        repeated = sorted(name for name, count in Counter(names).items() if count > 1)
        raise RecordError(f"scores: {repeated[0]!r} appears more than once")


def _check_score(value: Any) -> None:
    """Checks a score; messages begin with the place within it."""
    raw = fields.obj(value, "")
    _check_fields(tuple(raw))
    name, found, unit, better, ends, low, high, reason = _SCORE_FIELDS(raw)
    if len(fields.array(ends, ".range")) != 2:
        raise RecordError(f".range must be [low, high], got {len(ends)} values")
    form = (name, unit, better, *ends, raw.get("trace", _TRACES[0]))
    try:
        _check_known_form(*form)
    except TypeError:  # it cannot be looked up, such as a list, or is too long to be remembered
        _check_form(*form)
    fields.number_or_none(found, ".value")
    fields.number_or_none(low, ".low")
    fields.number_or_none(high, ".high")
    fields.text(reason, ".reason")
    if "about" in raw:
        _about(raw["about"], ".about")
    if found is None and not reason:
        raise RecordError(f": a score without a value needs a reason ({name!r})")
    if low is not None and high is not None and low > high:
        raise _reversed("interval", name, low, high)


@lru_cache
def _check_fields(names: tuple[str, ...]) -> None:
    """Checks the names of the fields of a score."""
    more = [name for name in ("trace", "about") if name in names]
    fields.obj(dict.fromkeys(names), "", (*_SCORE, *more))


def _check_form(name: Any, unit: Any, better: Any, low: Any, high: Any, trace: Any) -> None:
    """Checks what is the same for a score of every model."""
    fields.line(name, ".name")
    fields.line(unit, ".unit", filled=False)
    fields.choice(better, ".better", _BETTER)
    low, high = (fields.number_or_none(end, ".range") for end in (low, high))
    if low is not None and high is not None and low > high:
        raise _reversed("range", name, low, high)
    fields.choice(trace, ".trace", _TRACES[:-1])


@lru_cache(maxsize=1024, typed=True)  # with types, since 1, 1.0 and True are equal
def _check_known_form(*form: Any) -> None:
    """Does it once for the same form, which thousands of records have."""
    _check_form(*form)
    if len(form[0]) + len(form[1]) > _LONGEST_KNOWN:
        raise TypeError


_LONGEST_KNOWN = 200
"""Letters of a name and a unit."""


def _reversed(what: str, name: str, low: float, high: float) -> RecordError:
    return RecordError(f": the {what} of {name!r} runs from {low!r} down to {high!r}")


def _score(raw: Mapping[str, Any]) -> ScoreRow:
    """The score of a row that was checked."""
    lo, hi = raw["range"]
    return ScoreRow(
        name=raw["name"],
        value=raw["value"],
        unit=raw["unit"],
        better=raw["better"],
        range=(lo, hi),
        low=raw["low"],
        high=raw["high"],
        reason=raw["reason"],
        trace=raw.get("trace", ""),
        about=_about(raw["about"], ".about") if "about" in raw else None,
    )


def _score_to_json(row: ScoreRow) -> dict[str, Any]:
    written = {name: list(row.range) if name == "range" else getattr(row, name) for name in _SCORE}
    about = {} if row.about is None else {"about": dict(zip(_ABOUT, row.about, strict=True))}
    return written | ({"trace": row.trace} if row.trace else {}) | about


def _about(value: Any, where: str) -> tuple[str, str, str]:
    raw = fields.obj(value, where, _ABOUT)
    label, group = (fields.line(raw[n], f"{where}.{n}") for n in _ABOUT[:2])
    return label, group, fields.text(raw["meaning"], f"{where}.meaning", filled=True)
