"""The summary of a sequence from records alone, against numbers worked out by hand."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from scipy import stats

from eigenforget import record
from eigenforget.core.bands import limit_of_several
from eigenforget.record import Outcome, RecordError, RunRecord, ScoreRow
from eigenforget.report.pages import sequence as report
from eigenforget.report.pages.sequence import RequestAccuracy, StepSummary
from eigenforget.report.verdict import QuestionAnswer, Verdict
from tests.report.page_toys import Read

REFUSED = Outcome("refused", 0.0, reason="head_mask needs a class that is forgotten as a whole")
SCORES = {"forget_accuracy": 0.5, "test_retain_accuracy": 0.9, "mia_auc": 0.6, "da": 0.8}
FIRST, SECOND = "1 by_class(label=3)", "2 at_random(n=5)"


def made(
    name: str,
    role: Any,
    groups: Mapping[str, float],
    *,
    seconds: float = 10.0,
    **scores: float | None,
) -> RunRecord:
    """A sealed evaluate record; None leaves a score without a value."""
    values = {**SCORES, **scores}
    rows = [
        ScoreRow(
            n, v, "share", "reference", (0.0, 1.0), reason="" if v is not None else "no samples"
        )
        for n, v in values.items()
    ]
    unsealed = RunRecord(
        kind="evaluate",
        name=name,
        role=role,
        created="2026-11-24T13:00:00Z",
        job={"method": {"spec": "muda()", "resolved": {}}},
        inputs={},
        environment={"device": "cpu"},
        outcome=Outcome("ok", seconds),
        scores=tuple(rows),
        series={"forget_groups": dict(groups)},
        claims=("measured",),
    )
    return record.seal(unsealed)


def refused(name: str) -> RunRecord:
    return record.seal(
        replace(made(name, "unlearned", {}), outcome=REFUSED, scores=(), series={}, claims=())
    )


NO_VERDICT = Verdict("m", "unlearned", "cannot tell", *[QuestionAnswer("cannot tell", "")] * 3, "")


def summary(
    number: int, groups: dict[str, RequestAccuracy] | None = None, reason: str = ""
) -> StepSummary:
    return StepSummary(number, groups or {}, {}, None, reason, NO_VERDICT)


def second_step() -> list[RunRecord]:
    """Step 2 of 2: oracles with 0.1 and 0.3 on the first request, 0.5 twice on the second."""
    return [
        made("original", "original", {FIRST: 1.0, SECOND: 1.0}),
        made(
            "oracle 1",
            "oracle",
            {FIRST: 0.1, SECOND: 0.5},
            forget_accuracy=0.2,
            test_retain_accuracy=0.95,
            mia_auc=0.5,
            da=0.9,
        ),
        made(
            "oracle 2",
            "oracle",
            {FIRST: 0.3, SECOND: 0.5},
            seconds=30,
            forget_accuracy=0.3,
            test_retain_accuracy=0.93,
            mia_auc=0.52,
            da=0.92,
        ),
        made(
            "step 2",
            "unlearned",
            {FIRST: 0.7, SECOND: 0.49},
            seconds=2,
            forget_accuracy=0.6,
            test_retain_accuracy=0.9,
            mia_auc=0.61,
        ),
        made(
            "at once",
            "unlearned",
            {FIRST: 0.2, SECOND: 0.5},
            seconds=5,
            forget_accuracy=0.25,
            test_retain_accuracy=0.95,
            da=None,
        ),
    ]


def test_gap_units_scores_and_share_by_hand() -> None:
    found = report.summarise_step(2, second_step())
    half = (
        stats.t.ppf(0.975, 1)
        * math.sqrt(((0.1 - 0.2) ** 2 + (0.3 - 0.2) ** 2) / 1)
        * math.sqrt(1 + 1 / 2)
    )
    first, second = found.groups[FIRST], found.groups[SECOND]
    assert list(found.groups) == [FIRST, SECOND] and (found.number, found.reason) == (2, "")
    assert first[:2] == pytest.approx((0.7, 0.2), abs=1e-12) and first.units == pytest.approx(
        (0.7 - 0.2) / half, abs=1e-12
    )
    # Oracles that agree have a band of half a point.
    assert second[:2] == pytest.approx((0.49, 0.5), abs=1e-12) and second.units == pytest.approx(
        -0.01 / 0.005, abs=1e-9
    )
    expected = {
        "forget_accuracy": (0.6, 0.25),
        "test_retain_accuracy": (0.9, 0.94),
        "mia_auc": (0.61, 0.51),
        "da": (0.8, 0.91),
    }
    assert found.scores.keys() == expected.keys()
    for name, pair in expected.items():
        assert found.scores[name] == pytest.approx(pair, abs=1e-12)
    assert found.share == pytest.approx(2 / 20, abs=1e-12)


def test_resurrection_is_the_largest_gap_of_an_earlier_request() -> None:
    groups = {
        "1 a()": RequestAccuracy(0.1, 0.3, None),
        "2 b()": RequestAccuracy(0.5, 0.4, None),
        "3 c()": RequestAccuracy(1.0, 0.0, None),
    }
    assert report.resurrection(summary(3, groups)) == pytest.approx(0.1, abs=1e-12), (
        "the newest does not count"
    )
    first = dict(list(groups.items())[:1])
    assert report.resurrection(summary(1, first)) is None
    lower = dict(list(groups.items())[:2])
    assert report.resurrection(summary(2, lower)) == pytest.approx(-0.2, abs=1e-12), (
        "lower than retrained is no rise"
    )


def test_the_tenth_request_is_the_newest_although_its_name_sorts_before_the_second() -> None:
    own = {f"{i} by_class(label={i})": i / 100 for i in range(1, 11)} | {
        "10 by_class(label=10)": 1.0
    }
    oracle = dict.fromkeys(own, 0.0)
    records = [made("oracle 1", "oracle", oracle), made("step 10", "unlearned", own)]
    assert list(records[1].series["forget_groups"])[1].startswith("10 "), "sealing sorts the names"
    found = report.summarise_step(10, records)
    assert [g.split()[0] for g in found.groups] == [str(i) for i in range(1, 11)]
    assert report.resurrection(found) == pytest.approx(0.09, abs=1e-12)


def test_one_oracle_gives_a_gap_and_no_band() -> None:
    found = report.summarise_step(2, [r for r in second_step() if r.name != "oracle 2"])
    assert found.groups[FIRST] == RequestAccuracy(0.7, 0.1, None, 1) and found.scores["da"] == (
        0.8,
        0.9,
    )


def test_the_table_has_a_row_for_each_step_and_for_all_at_once() -> None:
    one = [
        made("oracle 1", "oracle", {FIRST: 0.0}),
        made("step 1", "unlearned", {FIRST: 0.25}, seconds=0.5, mia_auc=None),
    ]
    steps = [report.summarise_step(1, one), report.summarise_step(2, second_step())]
    lines = report.sequence_table(steps, report.summarise_step(2, second_step(), "at once")).split(
        "\n"
    )
    assert lines[2:] == [
        "| 1 | 0.500 (0.500) | – | 0.900 (0.900) | +0.000 | – | 0.800 (0.800) | 5.0% |",
        "| 2 | 0.600 (0.250) | +0.500 | 0.900 (0.940) | -0.040 | 0.610 (0.510) | 0.800 (0.910) | 10.0% |",
        "| at once | 0.250 (0.250) | +0.000 | 0.950 (0.940) | +0.010 | 0.600 (0.510) | – | 25.0% |",
    ]
    assert len(report.sequence_table(steps).split("\n")) == 4, "no row for what was not made"
    assert {line.count("|") for line in lines} == {9}


@pytest.mark.parametrize(
    ("reason", "cell"),
    [
        ("needs |A| > 3", r"needs \|A\| > 3"),
        ("two\nlines", "two lines"),
        ("a\\|b", r"a\\\|b"),
        ("path\\", r"path\\"),
    ],
)
def test_a_reason_ends_no_cell_of_the_table(reason: str, cell: str) -> None:
    rows = report.sequence_table([summary(1, reason=reason)]).splitlines()
    assert rows[2].startswith(f"| 1 | {cell} |") and len(rows) == 3
    # As GitHub cuts rows: an escaped character never ends a cell.
    cuts = [len(re.sub(r"\\.", "", row).split("|")) for row in rows]
    assert cuts[0] == cuts[1] == cuts[2]


def test_a_refused_step_is_a_row_with_its_reason() -> None:
    records = [*second_step()[:3], refused("step 2"), second_step()[4]]
    found = report.summarise_step(2, records)
    assert found[:5] == (2, {}, {}, None, REFUSED.reason) and report.resurrection(found) is None
    assert found.verdict.outcome == "cannot tell" and REFUSED.reason in found.verdict.next_step
    line = report.sequence_table([found]).split("\n")[2]
    assert line.startswith(f"| 2 | {REFUSED.reason} |") and line.count("|") == 9
    assert report.summarise_step(2, records, "at once").reason == ""


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("step 2", "step 2 has no record of 'step 2' beside retrained models"),
        ("oracle", "step 2 has no record of 'step 2' beside retrained"),
    ],
)
def test_a_step_without_its_model_or_without_oracles_is_an_error(
    left_out: str, message: str
) -> None:
    with pytest.raises(RecordError, match=message):
        report.summarise_step(2, [r for r in second_step() if not r.name.startswith(left_out)])


def test_records_that_are_of_no_sequence_are_an_error() -> None:
    records = [r if r.name != "step 2" else replace(r, series={}) for r in second_step()]
    with pytest.raises(RecordError, match="the record of 'step 2' has no series 'forget_groups'"):
        report.summarise_step(2, records)


def texts(svg: str) -> list[str]:
    return [t.text or "" for t in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_the_figure_has_a_line_for_each_request_and_a_dash_where_it_had_not_come_yet() -> None:
    one = report.summarise_step(
        1, [made("oracle 1", "oracle", {FIRST: 0.0}), made("step 1", "unlearned", {FIRST: 0.25})]
    )
    svg = report.sequence_figure(
        [one, report.summarise_step(2, second_step())],
        'after each step: muda(target="self") <b> & c',
    )
    found = texts(svg)
    assert found[0] == 'after each step: muda(target="self") <b> & c'
    at = {name: found.index(name) for name in (FIRST, SECOND)}
    assert found[at[FIRST] + 1 : at[FIRST] + 3] == ["0.250", "0.700"] and found[
        at[SECOND] + 1 : at[SECOND] + 3
    ] == ["–", "0.490"]
    assert [t for t in found if t.startswith("step ")] == ["step 1", "step 2"]
    assert len(re.findall(r'<rect [^>]*rx="3"', svg)) == 2, "a cell without a band has no colour"


def test_a_refused_step_leaves_its_column_empty() -> None:
    one = report.summarise_step(
        1, [made("oracle 1", "oracle", {FIRST: 0.0}), made("step 1", "unlearned", {FIRST: 0.25})]
    )
    found = texts(report.sequence_figure([one, summary(2, reason="refused")], "t"))
    assert found[found.index(FIRST) + 1 : found.index(FIRST) + 3] == ["0.250", "–"]


def test_an_earlier_request_came_back_where_its_band_widened_for_their_number_says_so() -> None:
    """t(1 − 0.025 / m, 2) / t(0.975, 2) half-widths for m earlier requests and three oracles."""
    for earlier in (1, 2, 9):
        limit = stats.t.ppf(1 - 0.025 / earlier, 2) / stats.t.ppf(0.975, 2)
        assert limit_of_several(3, values=earlier) == pytest.approx(limit, rel=1e-9)
        for units, answer in ((limit * 0.99, "yes"), (limit * 1.01, "no"), (-99.0, "yes")):
            names = [f"{i} a()" for i in range(1, earlier + 2)]
            groups = {name: RequestAccuracy(0.1, 0.1, 0.0, 3) for name in names}
            groups[names[0]] = RequestAccuracy(0.5, 0.1, units, 3)
            found = report.stayed_forgotten(summary(earlier + 1, groups))
            assert found is not None and found.answer == answer
    assert report.stayed_forgotten(summary(1, {"1 a()": RequestAccuracy(1, 0, 9.0, 3)})) is None
    unknown = {n: RequestAccuracy(0.5, 0.1, None, 1) for n in ("1 a()", "2 b()")}
    found = report.stayed_forgotten(summary(2, unknown))
    assert found is not None and found.answer == "cannot tell"


def steps_of(low: float, high: float) -> list[list[RunRecord]]:
    """Two steps with three oracles; the second leaves the first request at this accuracy."""
    found = []
    for number, groups in ((1, {FIRST: low}), (2, {FIRST: high, SECOND: low})):
        names = [f"step {number}", "at once"] if number == 2 else ["step 1"]
        oracles = [made(f"oracle {i}", "oracle", dict.fromkeys(groups, low)) for i in (1, 2, 3)]
        unlearned = [made(name, "unlearned", groups) for name in names]
        found.append(list(record.chained([*oracles, *unlearned])))
    return found


def test_the_page_opens_with_a_line_for_each_model_and_shows_what_came_back() -> None:
    html = report.render_sequence(steps_of(0.1, 0.9))
    read = Read(html)
    rows = re.findall(r'<th scope="row">([a-z0-9 ]+) <span class="outcome">', html)
    assert rows == ["step 1", "step 2", "at once"]
    assert html.index('class="grid"') < html.index('id="pictures"') < html.index('id="numbers"')
    assert read.charts() == {"groups", "scores"} and "request 1 came back" in read.text
    assert "0.900 beside 0.100" in read.text and 'href="step02/report.html"' in html
    assert "came back" not in Read(report.render_sequence(steps_of(0.1, 0.1))).text
    head = Read(html[: html.index("<figure")])
    assert len(head.text.split()) <= 250 and len(html) < 1.5e6


def test_the_document_has_the_lines_of_the_page_and_its_table() -> None:
    text, figure = report.sequence_page(steps_of(0.1, 0.9))
    found = report.summarise(steps_of(0.1, 0.9))
    assert text.startswith("# 2 requests, one after the other: `muda()`\n\n- step 1: ")
    assert "requests: no, request 1 came back" in text.replace("stay forgotten", "requests")
    assert report.sequence_table(found.steps, found.at_once) in text
    assert texts(figure)[0].endswith("after each step: muda()")


def test_a_sequence_that_ended_at_its_first_step_has_a_page() -> None:
    found = [list(record.chained([made("oracle 1", "oracle", {FIRST: 0.0}), refused("step 1")]))]
    assert f"| 1 | {REFUSED.reason} |" in report.sequence_page(found)[0]
    assert REFUSED.reason in Read(report.render_sequence(found)).text
