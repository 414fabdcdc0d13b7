"""A model card for the Hugging Face hub, from evaluate records.

It says what was forgotten, how, what was measured and how to check it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from eigenforget.core.text import counted
from eigenforget.record import RecordError, RunRecord
from eigenforget.report.checks import by_severity, checks
from eigenforget.report.cost import Share
from eigenforget.report.escaping import code, markdown, yaml
from eigenforget.report.findings import Rule
from eigenforget.report.glossary import HEADLINE, label
from eigenforget.report.pages.export import chosen_scores, to_markdown
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
_SETTINGS = ("request", "method", "data", "model", "recipe", "retain_fraction", "unseen", "seed")


def model_card(
    records: Sequence[RunRecord], model: str = "", own_checks: Sequence[Rule | str] = ()
) -> str:
    """The card as markdown with YAML front matter: tags, and the headline scores as model-index.

    The licence is left to the publisher.

    Args:
        records: Evaluate records.
        model: The unlearned model that the card is of; "": all of them.
        own_checks: Further checks, see `report.checks.all_rules`.

    Raises:
        RecordError: No unlearned model with a result is among the records, or none of this name.
    """
    table = build(records)
    rows = _subjects(table, model)
    found = {record.name: record for record in evaluated(records)}
    subjects = [found[row.model] for row in rows]
    warnings = (c for c in by_severity(checks(records, own_checks)) if c.severity != "note")
    sections: dict[str, Sequence[str]] = {
        "What was forgotten, and how": [
            _origin(r, row) for r, row in zip(subjects, rows, strict=True)
        ],
        "What the measurements say": _said(table, {row.model for row in rows}) + limits(table),
        "Results": [_measured(table), to_markdown(records)],
        "Before you quote this": [
            _points(f"{c.code}, {c.severity}: {c.explanation} {c.action}" for c in warnings)
        ],
        "Claimed": [_points(s.text for s in statements(subjects, "claims"))],
        "Not claimed": [_points(s.text for s in statements(subjects, "non_claims"))],
        "How to verify": [_verify(subjects)],
    }
    title = f"# {markdown(', '.join(row.model for row in rows))}\n"
    parts = [_front_matter(rows, subjects, table), title]
    return "\n".join([*parts, *(_section(*section) for section in sections.items())])


def _subjects(table: Table, model: str) -> list[Row]:
    unlearned = [row for row in table.of_role("unlearned") if row.has_result]
    if not unlearned:
        raise RecordError(
            "no unlearned model with a result is among the records: there is nothing to write a"
            " card of"
        )
    rows = [row for row in unlearned if model in ("", row.model)]
    if not rows:
        names = ", ".join(row.model for row in unlearned)
        raise RecordError(f"no unlearned model is named {model!r}; the records have {names}")
    return rows


def _front_matter(rows: Sequence[Row], subjects: Sequence[RunRecord], table: Table) -> str:
    lines = [
        "---",
        "# license: the publisher's choice",
        "tags:",
        "- machine-unlearning",
        "- eigenforget",
        "model-index:",
    ]
    scores = chosen_scores(table, (), HEADLINE)
    for row, record in zip(rows, subjects, strict=True):
        data = _spec(record, "data") or "unknown"
        kind = data.partition("(")[0].strip() or "unknown"
        cells = [(name, row.cells[name].value) for name in scores if name in row.cells]
        metrics = [_metric(name, value) for name, value in cells if value is not None]
        nothing = '    - type: verdict\n      value: unknown\n      name: "no score applies"'
        lines += [
            f"- name: {yaml(row.model)}",
            "  results:",
            "  - task:",
            f"      type: {_TASKS.get(kind, 'other')}",
            "    dataset:",
            f"      name: {yaml(data)}",
            f"      type: {yaml(kind)}",
            "    metrics:",
            *(metrics or [nothing]),
        ]
    return "\n".join([*lines, "---"])


def _metric(name: str, value: float) -> str:
    mantissa, exponent, power = repr(float(value)).partition("e")
    # A YAML 1.1 parser takes 1e-05 for a text and 1.0e-05 for a number.
    written = mantissa + ("" if "." in mantissa else ".0") + exponent + power
    return f"    - type: {yaml(name)}\n      value: {written}\n      name: {yaml(label(name))}"


def _origin(record: RunRecord, row: Row) -> str:
    lines = [
        f"- {name.replace('_', ' ')}: {code(_spec(record, name))}"
        for name in _SETTINGS
        if _spec(record, name)
    ]
    if not _spec(record, "recipe"):
        lines.append("- recipe: not known, since the original was trained elsewhere")
    sizes = record.job.get("sizes")
    if isinstance(sizes, dict):
        counts = ", ".join(f"{key} {value}" for key, value in sizes.items())
        lines.append(f"- samples: {markdown(counts)}")
    if row.seconds is not None:
        share = "" if row.cost is None else _share(row.cost)
        lines.append(f"- time: {row.seconds:.1f} s{share}")
    origin = f"**{markdown(record.name)}** was made from a trained model with eigenforget."
    return origin + "\n\n" + "\n".join(lines)


def _share(cost: Share) -> str:
    return f", {percent(cost.value)} of the {cost.clock} time of retraining"


def _measured(table: Table) -> str:
    retrained = sum(row.has_result for row in table.of_role("oracle"))
    models = counted(retrained, "model", "models")
    return (
        f"Every score is measured in the same way on the original, on {models} retrained without"
        " the forget set, and on the unlearned models. A model that never saw that data is the aim,"
        " so the nearest to the retrained models is the best, not the lowest."
    )


def _said(table: Table, names: set[str]) -> list[str]:
    return [
        markdown(" ".join((f"{v.model}: {v.outcome}.", *v.sentences)))
        for v in verdicts(table)
        if v.model in names
    ]


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
        "The numbers come from run records, each sealed by a digest and chained to the one before"
        " it. With the records and the files beside them, `eigenforget verify RECORDS --files"
        " FOLDER` checks that neither was changed; `eigenforget card RECORDS` makes this card"
        " again.\n\n" + "\n".join(digests)
    )


def _section(title: str, paragraphs: Sequence[str]) -> str:
    text = "\n\n".join(p.strip() for p in paragraphs if p) or "Nothing."
    return "\n".join([f"## {title}\n", text, ""])


def _points(lines: Iterable[str]) -> str:
    return "\n".join(f"- {markdown(line)}" for line in lines)


def _spec(record: RunRecord, name: str) -> str:
    value = record.job.get(name)
    if isinstance(value, dict):
        value = value.get("spec")
    return "" if value is None else str(value)
