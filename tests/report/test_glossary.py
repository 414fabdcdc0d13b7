"""Glossary lines: those of this package, and those that a score of one's own brings along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eigenforget.core.types import Score
from eigenforget.record import RecordError, ScoreRow, read, record_from_json, seal, to_json, write
from eigenforget.record.schema import score_row
from eigenforget.report.checks import checks
from eigenforget.report.glossary import (
    FEATURE,
    GROUPS,
    LAYERS,
    NAMES,
    OTHER,
    GlossaryLine,
    group,
    label,
    meaning,
)
from eigenforget.report.pages.export import to_markdown
from eigenforget.report.pages.page import render
from eigenforget.report.table import build
from tests.report_toys import made, whole

LINE = GlossaryLine("my <score>", FEATURE, "What my score measures.")


def with_own(line: GlossaryLine | None, name: str = "mine") -> list[Any]:
    """The toy records with one more score; the retrained models agree in it, the others do not."""
    records = []
    for i, r in enumerate(whole()):
        value = 0.5 + 0.001 * i if r.role == "oracle" else 0.9
        row = ScoreRow(
            name, value, "share", "reference", (0.0, 1.0), trace="above", about=line and tuple(line)
        )
        fresh = replace(r, scores=(*r.scores, row), previous=None, digest=None)
        records.append(seal(fresh, records[-1].digest if records else None))
    return records


def test_every_line_is_in_a_group_and_says_something() -> None:
    for name in NAMES:
        assert group(name) in GROUPS and group(name) not in (OTHER, LAYERS)
        assert label(name) and "\n" not in label(name)


def test_a_score_brings_its_own_line_into_the_page_the_table_and_the_verdict() -> None:
    records = with_own(LINE)
    table = build(records)
    assert (label("mine", table), group("mine", table)) == (LINE.label, FEATURE)
    assert label("mine@layer1", table) == "my <score> at layer1"
    assert group("mine@layer1", table) == LAYERS
    column = next(c for c in table.columns if c.name == "mine")
    assert meaning(column, table).startswith("What my score measures. From 0 to 1")
    page = render(records, "own")
    assert "my &lt;score&gt;" in page and "What my score measures." in page
    assert "my <score>" not in page.split("<script")[0]
    assert r"my &lt;score&gt;" in to_markdown(records, ["mine"])
    assert len(checks(records)) == len(checks(whole()))


def test_without_a_line_it_stands_under_its_name_with_the_others() -> None:
    table = build(with_own(None))
    assert (label("mine", table), group("mine", table)) == ("mine", OTHER)
    unknown_group = GlossaryLine("my score", "nowhere", "Something.")
    assert group("mine", build(with_own(unknown_group))) == OTHER


def test_a_line_does_not_replace_one_of_this_package() -> None:
    table = build(
        [
            made(
                "x",
                "original",
                [ScoreRow("da", 0.5, "share", "reference", (0.0, 1.0), about=tuple(LINE))],
            )
        ]
    )
    assert label("da", table) == "DA"


def test_the_line_is_in_the_record_and_absent_from_others(tmp_path: Path) -> None:
    (record,) = with_own(LINE)[:1]
    back = read(write(record, tmp_path / "record.json"))
    assert back == record and back.scores[-1].about == tuple(LINE)
    rows = to_json(record)["scores"]
    assert rows[-1]["about"] == LINE._asdict() and all("about" not in r for r in rows[:-1])
    for wrong in ({"label": "x"}, {**LINE._asdict(), "label": ""}, "text"):
        raw = to_json(record)
        raw["scores"][-1]["about"] = wrong
        with pytest.raises(RecordError, match=r"scores\[\d+\]\.about"):
            record_from_json(raw)


def test_a_measured_score_keeps_its_line_on_the_way_to_the_record() -> None:
    measured = Score("mine", 0.5, "share", "reference", (0.0, 1.0), about=LINE)
    assert score_row(measured).about == tuple(LINE)
