"""A model card for the Hugging Face hub, from evaluate records: what was forgotten, how, what was
measured and how to check it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.checks import by_severity, checks
from eigenforget.report.escaping import code, markdown, yaml
from eigenforget.report.glossary import HEADLINE, label
from eigenforget.report.pages.export import chosen, to_markdown
from eigenforget.report.settings import statements
from eigenforget.report.table import Row, Table, build, evaluated, percent
from eigenforget.report.verdict import limits, verdicts

_TASKS = {
    "digits": "image-classification",
    "fashion_mnist": "image-classification",
    "image_folder": "image-classification",
    "torchvision_set": "image-classification",
    "backdoored": "image-classification",
    "table": "tabular-classification",
    "builtin": "tabular-classification",
    "text": "text-classification",
}
_SETTINGS = ("request", "method", "data", "model", "recipe", "retain_fraction", "seed")


def card(records: Sequence[RunRecord], model: str = "") -> str:
    """The card as markdown with YAML front matter: tags and, as model-index, the headline scores of
    the unlearned models.

    model: the one that the card is of, where there are several. The licence is left to the
    publisher. Errors: RecordError for no unlearned model with a result among the records, or none
    of this name.
    """
    table = build(records)
    rows = _subjects(table, model)
    found = {record.name: record for record in evaluated(records)}
    subjects = [found[row.model] for row in rows]
    parts = [
        _front_matter(rows, subjects, table),
        f"# {markdown(', '.join(row.model for row in rows))}\n",
    ]
    parts += [
        _section("What was forgotten, and how", [_origin(record, table) for record in subjects])
    ]
    parts += [
        _section(
            "What the measurements say", _said(table, {row.model for row in rows}) + limits(table)
        )
    ]
    parts += [_section("Results", [_measured(table), to_markdown(records)])]
    parts += [
        _section(
            "Before you quote this",
            [
                _points(
                    f"{c.code}, {c.severity}: {c.explanation} {c.action}" for c in _found(records)
                )
            ],
        )
    ]
    for title, part in (("Claimed", "claims"), ("Not claimed", "non_claims")):
        parts += [_section(title, [_points(s.text for s in statements(subjects, part))])]
    parts += [_section("How to verify", [_verify(subjects)])]
    return "\n".join(parts)


def _subjects(table: Table, model: str) -> list[Row]:
    unlearned = [row for row in table.rows if row.role == "unlearned" and row.status == "ok"]
    if not unlearned:
        raise RecordError(
            "no unlearned model with a result is among the records: there is nothing to write a card of"
        )
    chosen_rows = [row for row in unlearned if model in ("", row.model)]
    if not chosen_rows:
        raise RecordError(
            f"no unlearned model is named {model!r}; the records have {', '.join(row.model for row in unlearned)}"
        )
    return chosen_rows


def _front_matter(rows: Sequence[Row], subjects: Sequence[RunRecord], table: Table) -> str:
    lines = [
        "---",
        "# license: the publisher's choice",
        "tags:",
        "- machine-unlearning",
        "- eigenforget",
        "model-index:",
    ]
    for row, record in zip(rows, subjects, strict=True):
        data = _spec(record, "data") or "unknown"
        kind = data.partition("(")[0].strip() or "unknown"
        lines += [
            f"- name: {yaml(row.model)}",
            "  results:",
            "  - task:",
            f"      type: {_TASKS.get(kind, 'other')}",
        ]
        lines += [
            "    dataset:",
            f"      name: {yaml(data)}",
            f"      type: {yaml(kind)}",
            "    metrics:",
        ]
        values = {
            name: row.cells[name].value for name in chosen(table, (), HEADLINE) if name in row.cells
        }
        metrics = [_metric(name, value) for name, value in values.items() if value is not None]
        lines += metrics or [
            "    - type: verdict",
            "      value: unknown",
            '      name: "no score applies"',
        ]
    return "\n".join([*lines, "---"])


def _metric(name: str, value: float) -> str:
    mantissa, exponent, power = repr(float(value)).partition("e")
    # A YAML 1.1 parser takes 1e-05 for a text and 1.0e-05 for a number.
    written = mantissa + ("" if "." in mantissa else ".0") + exponent + power
    return f"    - type: {yaml(name)}\n      value: {written}\n      name: {yaml(label(name))}"


def _origin(record: RunRecord, table: Table) -> str:
    lines = [
        f"- {name.replace('_', ' ')}: {code(_spec(record, name))}"
        for name in _SETTINGS
        if _spec(record, name)
    ]
    sizes = record.job.get("sizes")
    if isinstance(sizes, dict):
        lines.append(
            f"- samples: {markdown(', '.join(f'{key} {value}' for key, value in sizes.items()))}"
        )
    row = next(row for row in table.rows if row.model == record.name)
    share = "" if row.share is None else f", {percent(row.share)} of retraining"
    lines.append(f"- time: {record.outcome.seconds:.1f} s{share}")
    return (
        f"**{markdown(record.name)}** was made from a trained model with eigenforget.\n\n"
        + "\n".join(lines)
    )


def _measured(table: Table) -> str:
    retrained = sum(row.role == "oracle" and row.status == "ok" for row in table.rows)
    plural = "model" if retrained == 1 else "models"
    return (
        f"Every score is measured in the same way on the original, on {retrained} {plural} retrained without the forgotten data, and on the"
        " unlearned models. A model that never saw the data is the aim, so the nearest to the retrained models is the best, not the lowest."
    )


def _said(table: Table, names: set[str]) -> list[str]:
    return [
        markdown(" ".join((f"{v.model}: {v.headline}.", *v.sentences)))
        for v in verdicts(table)
        if v.model in names
    ]


def _found(records: Sequence[RunRecord]) -> list[Any]:
    return [check for check in by_severity(checks(records)) if check.severity != "note"]


def _verify(subjects: Sequence[RunRecord]) -> str:
    digests = [
        f"- record of {markdown(r.name)}: {code(r.digest or 'not sealed')}" for r in subjects
    ]
    digests += [
        f"- weights of {markdown(r.name)}: {code(r.inputs['checked_model'])}"
        for r in subjects
        if "checked_model" in r.inputs
    ]
    return (
        "The numbers come from run records, each sealed by a digest and chained to the one before it. With the records and the files beside"
        " them, `eigenforget verify RECORDS --files FOLDER` checks that neither was changed; `eigenforget card RECORDS` makes this card"
        " again.\n\n" + "\n".join(digests)
    )


def _section(title: str, paragraphs: Sequence[str]) -> str:
    return "\n".join(
        [f"## {title}\n", "\n\n".join(p.strip() for p in paragraphs if p) or "Nothing.", ""]
    )


def _points(lines: Any) -> str:
    return "\n".join(f"- {markdown(line)}" for line in lines)


def _spec(record: RunRecord, name: str) -> str:
    value = record.job.get(name)
    if isinstance(value, dict):
        value = value.get("spec")
    return "" if value is None else str(value)
