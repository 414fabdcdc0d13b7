"""The page of an audit of the metrics, of records whose numbers are made up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from eigenforget.record import RunRecord
from eigenforget.report.pages.metric_audit import judge_metrics
from eigenforget.report.pages.metric_audit_page import render_audit
from tests.report.page_toys import Read
from tests.report.pages.test_metric_audit import HOSTILE, audit


def asked(spec: str, metrics: dict[str, dict[str, Sequence[float | None]]]) -> list[RunRecord]:
    return [replace(r, job={"request": {"spec": spec}}) for r in audit(metrics)]


METRICS: dict[str, dict[str, Sequence[float | None]]] = {
    "da": {"original": [0.9, 0.9], "mask": [0.9, 0.9]},
    "forget_accuracy": {"original": [0.9, 0.9], "mask": [0.5, 0.5]},
    "mia_auc": {"original": [0.5, 0.5], "mask": [0.9, 0.9]},
    "own": {"original": [0.9, 0.5], "mask": [0.9, 0.9]},
}


def lines(html: str) -> dict[str, list[str]]:
    """The cells of each line of the first table."""
    grid = html.split('<table class="grid">')[1].split("</table>")[0].split("<tbody>")[1]
    found = {}
    for line in grid.split("<tr ")[1:]:
        name = re.findall(r'<th scope="row">(.*?) <span', line)[0]
        found[name] = re.findall(r"<td>(.*?)</td>", line)
    return found


def test_the_first_table_has_the_scores_of_each_conclusion_and_request() -> None:
    few = {"da": {"original": [0.5, 0.5]}}
    html = render_audit({"a": asked("by_class(label=3)", METRICS), "b": asked("at_random()", few)})
    assert lines(html) == {
        "trusted here": ["DA", "–"],
        "fooled": ["forget accuracy", "–"],
        "weak signal": ["own", "–"],
        "no signal here": ["MIA AUC", "DA"],
    }
    read = Read(html)
    assert read.charts() == {"audit-1", "audit-2"}
    assert (
        "by_class(label=3): Judge models by DA. Conclude nothing from forget accuracy" in read.text
    )
    assert "at_random(): Judge no model by a single score" in read.text
    assert "None of 1 headline scores can be trusted here." in read.text
    assert len(Read(html[: html.index("<figure")]).text.split()) <= 250


def test_every_judgement_stands_in_the_table_of_its_request() -> None:
    records = asked("by_class(label=3)", METRICS)
    html = render_audit({"a": records})
    table = html.split('id="numbers"')[1].split("</table>")[0]
    rows = re.findall(r'<tr><th scope="row">.*?`(\w+)`</th>.*<td>(.*?)</td></tr>', table)
    assert rows == [(j.metric.name, j.conclusion) for j in judge_metrics(records)]


def test_names_are_escaped() -> None:
    metrics: dict[str, dict[str, Sequence[float | None]]] = {
        HOSTILE: {"original": [0.9], HOSTILE: [0.5]}
    }
    html = render_audit({"a": asked(HOSTILE, metrics)})
    assert HOSTILE not in html and "<b>" not in html
