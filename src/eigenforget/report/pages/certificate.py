"""A deletion certificate: one record on one printable page.

What is not claimed stands there as large as what is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from eigenforget.record import RecordError, RunRecord
from eigenforget.record.signing import (
    NoCryptographyError,
    check_signature,
    fingerprint,
    read_signature,
    signature_path,
)
from eigenforget.report.checks import by_severity, checks
from eigenforget.report.figures.svg import band_strip
from eigenforget.report.findings import Rule, count_in
from eigenforget.report.glossary import label
from eigenforget.report.pages.certificate_fit import Content, type_size, width
from eigenforget.report.pages.document import template_environment
from eigenforget.report.table import FIRST, Row, Table, build, number
from eigenforget.report.table import evaluated as evaluations
from eigenforget.report.verdict import VerdictOutcome, verdicts

_SCORES = (*FIRST, "rmia_auc", "relearn_all_auc")
"""The scores that a certificate shows, where the record has them."""

_LONG, _CLAIM, _NAME, _FILE = 95.0, 70.0, 35.0, 14.0
"""Widths in em beyond which a text, a claim, a name and the name of a file are cut; a line of text
across the page has some 60."""

_CLAIMS = 8
_FILES = 4
_ABSENT = "not in this record"


class Fact(NamedTuple):
    """A line of a certificate; `digest`: its value is one."""

    name: str
    value: str
    digest: bool = False


class ScoreLine(NamedTuple):
    """A score; interval and band are "" where there is none, reason says why there is no value.

    `strip` is the score in its band as a picture.
    """

    label: str
    value: str
    interval: str
    band: str
    verdict: str
    reason: str
    strip: Markup = Markup("")


class MeasuredPart(NamedTuple):
    """What was measured of the model.

    Attributes:
        record: The digest of the record with the scores.
        headline: The verdict's headline; "" where there is no table to judge by.
        scores: The scores.
        checked: Codes and titles of what checks found.
        banded: Whether any score has a band.
        outcome: That of the verdict; None where there is no table to judge by.
    """

    record: str
    headline: str
    scores: list[ScoreLine]
    checked: str
    banded: bool
    outcome: VerdictOutcome | None = None


def render_certificate(
    record: RunRecord,
    *,
    evaluated: Sequence[RunRecord] | None = None,
    signature: str = "",
    own_checks: Sequence[Rule | str] = (),
) -> str:
    """The page for an unlearn record, or an evaluate record of an unlearned model.

    The same arguments give the same bytes.

    Args:
        record: The record.
        evaluated: The records that were measured together, retrained models among them: from these
            come the scores of an unlearn record, and the bands.
        signature: Who signed the record, see `signed_by`.
        own_checks: Further checks, see `report.checks.all_rules`.

    Raises:
        RecordError: The record certifies nothing (of training, refused, failed, of no unlearned
            model, not sealed); `evaluated` is without this model or of another split; or the
            non-claims, which are never cut, do not fit on a page.
    """
    _check(record)
    other = None if evaluated is None else _evaluation_of(record, evaluated)
    scored = other or (record if record.kind == "evaluate" else None)
    measured = None if scored is None else _measured(scored, evaluated, own_checks)
    facts, digests = _facts(record), _digests(record, evaluated)
    claims, non_claims = _claims(record, other), _non_claims(record, other)
    signature = clipped(signature)
    rows = len(measured.scores) + 1 if measured else 0
    # The digest of the record is one more value, and that of the record with the scores one more
    # paragraph.
    texts = [
        clipped(record.name, _NAME) * 2,
        signature,
        *([measured.headline + measured.checked, "a" * 100] if measured else []),
    ]
    values = [*((f.name, f.value) for f in (*facts, *digests)), ("", "")]
    size = type_size(Content(values, texts, rows, (claims, non_claims)))
    if size is None:
        raise RecordError(
            f"record {clipped(record.name, _NAME)!r}: {sum(map(len, non_claims))} characters of"
            " non-claims, which a certificate has to show whole, do not fit on its page"
        )
    page = template_environment().get_template("certificate.html.jinja")
    return page.render(
        title=_title(record, measured),
        name=clipped(record.name, _NAME),
        kind=record.kind,
        facts=facts,
        digests=digests,
        measured=measured,
        claims=claims,
        non_claims=non_claims,
        size=size,
        digest=record.digest,
        signature=signature,
    )


def signed_by(record: RunRecord, path: str | Path) -> str:
    """Who signed the record at `path`, as one line; "" where no signature is beside it.

    Raises:
        RecordError: The signature is damaged, of another record, or not valid.
    """
    beside = signature_path(path)
    if not beside.exists():
        return ""
    try:
        check_signature(record, beside)
        checked = "; the signature is valid, but the file cannot tell whose key it is"
    except NoCryptographyError:
        checked = "; not checked, because the package cryptography is not installed"
    return fingerprint(read_signature(beside).public_key) + checked


def plain(text: str) -> str:
    """The text on one line; � for what cannot be printed, such as marks of writing direction."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))


def clipped(text: str, limit: float = _LONG) -> str:
    """The text on one line of at most that many em; what follows is a count of characters."""
    text = plain(text)
    kept = bisect_right(list(accumulate(map(width, text))), limit)
    return (
        text
        if kept == len(text)
        else f"{text[:kept]}… ({len(text)} characters, complete in the record)"
    )


def _check(record: RunRecord) -> None:
    name = f"record {clipped(record.name, _NAME)!r}"
    if record.kind == "train":
        raise RecordError(
            f"{name} is a train record, and training forgets nothing; a certificate needs an"
            " unlearn or an evaluate record"
        )
    if record.outcome.status != "ok":
        raise RecordError(
            f"{name}: the run was {record.outcome.status} and made no model: there is nothing to"
            " certify"
        )
    role = record.role or record.job.get("role", "unlearned")
    if role != "unlearned":
        what = {
            "original": "the original",
            "oracle": "a retrained model to compare with",
            "control": "a negative control",
        }
        raise RecordError(
            f"{name} is of {what.get(str(role), 'no unlearned model')}: there is nothing to certify"
        )
    if record.digest is None:
        raise RecordError(f"{name} is not sealed; a certificate names the digest of its record")


def _evaluation_of(record: RunRecord, evaluated: Sequence[RunRecord]) -> RunRecord:
    """The evaluate record of the same model, of the same split."""
    name = f"record {clipped(record.name, _NAME)!r}"
    if record.kind == "evaluate":
        if all(r.digest != record.digest for r in evaluated):
            raise RecordError(f"{name} is not among the records that were measured together")
        return record
    model = record.outcome.outputs.get("model")
    same = [
        r
        for r in evaluations(evaluated)
        if model is not None and r.inputs.get("checked_model") == model and r.outcome.status == "ok"
    ]
    if not same:
        raise RecordError(
            f"no evaluate record is about the model that {name} made ({model or 'no digest of it'})"
        )
    if same[0].role != "unlearned":
        raise RecordError(
            f"record {clipped(same[0].name, _NAME)!r} is about the same model, as {same[0].role}:"
            " there is nothing to certify"
        )
    splits = record.inputs.get("split"), same[0].inputs.get("split")
    if None not in splits and splits[0] != splits[1]:
        raise RecordError(
            f"the model was measured on another split ({splits[1]}) than it was unlearned with"
            f" ({splits[0]})"
        )
    return same[0]


def _facts(record: RunRecord) -> list[Fact]:
    job, method = record.job, record.job.get("method")
    guarantee = method.get("guarantee") if isinstance(method, Mapping) else None
    facts = [
        Fact("Request", _spec(job.get("request"))),
        Fact("Samples", _samples(record)),
        Fact("Data set", _spec(job.get("data"))),
        Fact("Method", _spec(method)),
        Fact("Its guarantee", clipped(guarantee) if isinstance(guarantee, str) else _ABSENT),
        Fact(
            "When",
            f"{record.created} (end of the run)"
            if record.kind == "unlearn"
            else f"{record.created} (end of the measurement)",
        ),
        Fact(
            "With", f"eigenforget {clipped(str(record.environment.get('eigenforget', '?')), _NAME)}"
        ),
    ]
    if job.get("ids"):
        facts.append(
            Fact("Ids", f"are salted hashes in the record ({clipped(str(job['ids']), _NAME)})")
        )
    return facts


def _samples(record: RunRecord) -> str:
    sizes = record.job.get("sizes")
    if not isinstance(sizes, Mapping):
        return _ABSENT
    forget, retain = (
        count_in(record, f"job.sizes.{key}", sizes.get(key)) for key in ("forget", "retain")
    )
    return f"{forget} to forget, {retain} retained"


def _spec(value: Any) -> str:
    spec = value.get("spec") if isinstance(value, Mapping) else value
    return clipped(spec) if isinstance(spec, str) and spec.strip() else _ABSENT


def _digests(record: RunRecord, evaluated: Sequence[RunRecord] | None) -> list[Fact]:
    unlearned = record.kind == "unlearn"
    before = record.inputs.get("input_model")
    if before is None and evaluated is not None:
        originals = {
            r.inputs.get("checked_model") for r in evaluations(evaluated) if r.role == "original"
        }
        before = originals.pop() if len(originals) == 1 else None
    after = record.outcome.outputs.get("model") if unlearned else record.inputs.get("checked_model")
    named = (
        ("Model before", before),
        ("Model after", after),
        ("Data", record.inputs.get("data")),
        ("Split", record.inputs.get("split")),
    )
    files = [
        (k.removeprefix("file:"), v)
        for k, v in {**record.inputs, **record.outcome.outputs}.items()
        if k.startswith("file:")
    ]
    found = [Fact(name, value or _ABSENT, digest=value is not None) for name, value in named]
    found += [
        Fact(f"File {clipped(name, _FILE)}", value, digest=True) for name, value in files[:_FILES]
    ]
    if len(files) > _FILES:
        found.append(Fact("Further files", f"{len(files) - _FILES}, named in the record"))
    return found


def _measured(
    scored: RunRecord, evaluated: Sequence[RunRecord] | None, own_checks: Sequence[Rule | str]
) -> MeasuredPart:
    records = list(evaluated) if evaluated is not None else [scored]
    table = build(records)
    row = next(r for r in table.rows if r.model == scored.name)
    shown = [_shown(row, name, table) for name in _SCORES if name in row.cells]
    if evaluated is None:
        return MeasuredPart(str(scored.digest), "", shown, "", False)
    verdict = next(v for v in verdicts(table) if v.model == scored.name)
    said = [
        c
        for c in by_severity(checks(records, own_checks))
        if not c.models or scored.name in c.models
    ]
    loud = [f"{c.code} {c.title} ({c.severity})" for c in said if c.severity != "note"]
    notes = [c.code for c in said if c.severity == "note"]
    text = "; ".join([*loud, *([f"notes {', '.join(notes)}"] if notes else [])])
    return MeasuredPart(
        str(scored.digest),
        clipped(verdict.line),
        shown,
        text or "nothing",
        any(s.band for s in shown),
        verdict.outcome,
    )


def _title(record: RunRecord, measured: MeasuredPart | None) -> str:
    """What the page is: a certificate where the verdict or a proof says that it is one."""
    method = record.job.get("method")
    guarantee = method.get("guarantee") if isinstance(method, Mapping) else None
    outcome = None if measured is None else measured.outcome
    if outcome == "like a retrained model" or guarantee not in (None, "empirical"):
        return "Deletion certificate"
    return "Deletion, not judged" if outcome is None else f"Deletion not shown ({outcome})"


def _shown(row: Row, name: str, table: Table) -> ScoreLine:
    cell, oracles = row.cells[name], table.oracles.get(name)
    if cell.value is None:
        return ScoreLine(label(name, table), "", "", "", "", clipped(cell.reason, _NAME))
    interval = (
        f"{number(cell.low)} to {number(cell.high)}"
        if cell.low is not None and cell.high is not None
        else ""
    )
    column = next(c for c in table.columns if c.name == name)
    ends = oracles.band.within(column.range) if oracles and oracles.band else None
    strip = band_strip(cell.value, ends, column.range, inside=cell.verdict == "in")
    return ScoreLine(
        label(name, table),
        number(cell.value),
        interval,
        f"{number(ends[0])} to {number(ends[1])}" if ends else "",
        cell.verdict,
        "",
        Markup(strip),
    )


def _claims(record: RunRecord, other: RunRecord | None) -> list[str]:
    """What the records state, and what an unlearn record says by being there.

    Long lists are cut, with a count.
    """
    said = list(
        dict.fromkeys(plain(text) for r in (record, other) if r is not None for text in r.claims)
    )
    if record.kind == "unlearn":
        said.insert(
            0,
            "The method named here was run with this request on the model “before”, and made the"
            " model “after”.",
        )
    if record.kind == "unlearn" and other is None:
        said.append(
            "Nothing was measured in this run: see the evaluate records of the model “after”."
        )
    shown = [clipped(text, _CLAIM) for text in said[:_CLAIMS]]
    return [
        *shown,
        *([f"{len(said) - _CLAIMS} more, in the record."] if len(said) > _CLAIMS else []),
    ]


def _non_claims(record: RunRecord, other: RunRecord | None) -> list[str]:
    return list(
        dict.fromkeys(
            plain(text) for r in (record, other) if r is not None for text in r.non_claims
        )
    )
