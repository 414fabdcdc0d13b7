"""Report beside the retrained models' band: cells, verdicts, groups, heat maps, relearning, layers
and classes, by hand calculation.
"""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from eigenforget.record import (
    Outcome,
    RecordError,
    RunRecord,
    ScoreRow,
    record_from_json,
    seal,
    to_json,
)
from eigenforget.report import glossary, table
from eigenforget.report.figures import band_figures
from eigenforget.report.pages import page
from eigenforget.report.pages.console import rich_table
from eigenforget.report.verdict import limits, verdicts

ORACLES = {"o1": 0.50, "o2": 0.549, "o3": 0.55}
BAD = "\"<b>'&</script>"


def row(
    name: str, value: float | None, *, better: Any = "reference", trace: Any = "above", **own: Any
) -> ScoreRow:
    return ScoreRow(
        name,
        value,
        own.pop("unit", "share"),
        better,
        (0.0, 1.0),
        trace=trace,
        reason="" if value is not None else "none",
        **own,
    )


def record(name: str, role: Any, *scores: ScoreRow, **series: Any) -> RunRecord:
    return RunRecord(
        "evaluate",
        name,
        "2026-11-24T13:00:00Z",
        {},
        {},
        {},
        Outcome("ok", 10.0),
        role,
        scores,
        series,
    )


def family(value: float, oracles: int = 3, **own: Any) -> list[RunRecord]:
    """An original, retrained models and one model called x, with one score s; numbers are made up."""
    retrained = [
        record(n, "oracle", row("s", v, **own)) for n, v in list(ORACLES.items())[:oracles]
    ]
    return [
        record("original", "original", row("s", 0.9, **own)),
        *retrained,
        record("x", "unlearned", row("s", value, **own)),
    ]


def band_of(values: list[float]) -> tuple[float, float]:
    """Mean and half of the band: Student's t with n − 1 degrees of freedom, for one more value;
    half a point at least.
    """
    n, quantile = len(values), float(stats.t.ppf(0.975, len(values) - 1))
    return float(np.mean(values)), max(
        0.005, quantile * float(np.std(values, ddof=1)) * math.sqrt(1 + 1 / n)
    )


def cell(records: list[RunRecord], model: str, name: str = "s") -> table.Cell:
    return next(r for r in table.build(records).rows if r.model == model).cells[name]


@pytest.mark.parametrize("oracles", [2, 3])
def test_units_are_the_gap_in_halves_of_the_band(oracles: int) -> None:
    records = family(0.7, oracles)
    mean, half = band_of(list(ORACLES.values())[:oracles])
    reference = table.build(records).reference["s"]
    assert reference.band == pytest.approx(
        (mean, half, oracles)
    ) and reference.mean == pytest.approx(mean)
    for model, value in (("x", 0.7), ("original", 0.9)):
        found = cell(records, model)
        assert found.gap == pytest.approx(value - mean) and found.units == pytest.approx(
            (value - mean) / half
        )
        assert found.verdict == ("residual" if value > mean + half else "in")


def test_a_retrained_model_is_judged_by_the_others() -> None:
    for name, value in ORACLES.items():
        mean, half = band_of([v for n, v in ORACLES.items() if n != name])
        found = cell(family(0.7), name)
        assert found.gap is None and found.units == pytest.approx((value - mean) / half)
        assert found.verdict == ("in" if abs(value - mean) <= half else "over-forgotten")
    assert {n: cell(family(0.7), n).verdict for n in ORACLES} == {
        "o1": "over-forgotten",
        "o2": "in",
        "o3": "in",
    }
    for name in ("o1", "o2"):
        assert cell(family(0.7, 2), name)[3:] == (None, "", None, "")


@pytest.mark.parametrize(
    ("oracles", "words"),
    [
        (0, "no retrained model"),
        (1, "one retrained model only"),
        (2, "A band of two is wide"),
        (3, ""),
    ],
)
def test_what_few_retrained_models_leave_unsaid(oracles: int, words: str) -> None:
    records = family(0.7, oracles)
    said = " ".join(limits(table.build(records)))
    assert words in said and bool(words) == bool(said)
    assert (cell(records, "x").units is None) == (oracles < 2) and (
        cell(records, "x").gap is None
    ) == (oracles == 0)
    assert cell(records, "x").verdict == (
        "" if oracles < 2 else "in" if oracles == 2 else "residual"
    )
    assert ("with a band" in " ".join(verdicts(table.build(records))[0].sentences)) == (
        oracles >= 2
    )
    assert band_figures.has_bands(records) == (oracles >= 2)


@pytest.mark.parametrize(
    ("better", "trace", "above", "below"),
    [
        ("reference", "above", "residual", "over-forgotten"),
        ("reference", "below", "over-forgotten", "residual"),
        ("reference", "both", "off", "off"),
        ("reference", "", "off", "off"),
        ("higher", "", "in", "over-forgotten"),
        ("lower", "", "off", "in"),
        ("higher", "both", "in", "off"),
    ],
)
def test_the_verdict_follows_from_better_and_trace(
    better: Any, trace: Any, above: str, below: str
) -> None:
    mean, half = band_of(list(ORACLES.values()))
    for value, wanted in (
        (mean + 1.01 * half, above),
        (mean - 1.01 * half, below),
        (mean + 0.99 * half, "in"),
        (mean - 0.99 * half, "in"),
    ):
        assert cell(family(value, better=better, trace=trace), "x").verdict == wanted


def test_the_verdict_counts_scores_and_names_what_is_left_and_what_is_lost() -> None:
    def scores(value: float) -> list[ScoreRow]:
        kept = row("test_retain_accuracy", value, better="higher", trace="")
        return [
            row("lp_forget", value),
            row("da", value, trace="below"),
            row("nmi", value, trace="both"),
            kept,
            row("lp_forget@b", value),
        ]

    oracles = [record(n, "oracle", *scores(v)) for n, v in ORACLES.items()]
    said = [
        " ".join(
            verdicts(table.build([*oracles, record("x", "unlearned", *scores(v))]))[0].sentences
        )
        for v in (0.9, 0.1, 0.53)
    ]
    assert (
        "Of 4 scores with a band of retrained models, 1 are in it. A trace is left by LP. Over-forgotten by DA."
        in said[0]
    )
    assert (
        "0 are in it. A trace is left by DA. Over-forgotten by LP and test retain accuracy."
        in said[1]
    )
    assert "4 are in it." in said[2] and "trace" not in said[2] and "Over-forgotten" not in said[2]


def test_the_csv_file_holds_every_score_and_the_role(tmp_path: Path) -> None:
    records = [
        replace(r, scores=(*r.scores, row(f'own, "{BAD}"', 1 / 3), row("da@b.1", None)))
        for r in family(2 / 3)
    ]
    text = table.write_csv(records, tmp_path / "t.csv").read_text(encoding="utf-8")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert list(lines[0]) == ["model", "role", "s", f'own, "{BAD}"', "da@b.1", "seconds"] and len(
        lines
    ) == len(records)
    for line, r in zip(lines, records, strict=True):
        assert (line["model"], line["role"], float(line["seconds"])) == (r.name, r.role, 10.0)
        assert [float(line[s.name]) if line[s.name] else None for s in r.scores] == [
            s.value for s in r.scores
        ]


def test_every_score_is_in_one_group_and_its_table() -> None:
    names = [
        *table.FIRST,
        *(n for n in glossary._KNOWN if n not in table.FIRST),
        "never_heard_of",
        "da@block1",
    ]
    assert (
        glossary.group("never_heard_of") == glossary.OTHER
        and glossary.group("da@block1") == glossary.LAYERS
    )
    assert {glossary.group(n) for n in names} == set(glossary.GROUPS) and set(
        glossary.HEADLINE
    ) <= set(names)
    html = page.render([record("x", "unlearned", *(row(n, 0.5) for n in names))], "t")
    headings = re.findall(r'<h3 id="group-\d+">(.*?)</h3>', html)
    assert [h for h in headings if ", continued" not in h] == [
        g.capitalize() for g in glossary.GROUPS
    ]
    tables = re.findall(r'<table class="metric-table".*?</table>', html, re.DOTALL)
    buttons = [re.findall(r"<button[^>]*>(.*?)</button>", t) for t in tables]
    assert [b.pop(0) for b in buttons] == ["model"] * len(tables) and buttons[0].pop() == "seconds"
    assert all(len(found) <= 7 for found in buttons), "more do not fit a sheet"
    together: dict[str, list[str]] = {}
    for heading, found in zip(headings, buttons, strict=True):
        together.setdefault(heading.removesuffix(", continued"), []).extend(found)
    for g in glossary.GROUPS:
        assert together[g.capitalize()] == [
            glossary.label(n) for n in names if glossary.group(n) == g
        ]
    lonely = page.render([record("x", "unlearned", row("da", 0.5), row("nmi", None))], "t")
    shown = re.search(r'<table class="metric-table".*</table>', lonely, re.DOTALL)
    assert shown and ">DA<" in shown[0] and ">NMI<" not in shown[0] and "NMI of x" in lonely, (
        "what no model has is in the notes only"
    )
    assert len({glossary.label(n) for n in names}) == len(names)


@pytest.mark.parametrize("oracles", [0, 1, 2, 3])
def test_the_terminal_never_writes_past_80_columns(oracles: int) -> None:
    rng = np.random.default_rng(0)
    roles = {
        "original": "original",
        **dict.fromkeys(list(ORACLES)[:oracles], "oracle"),
        "finetune_with_a_very_long_name": "unlearned",
    }
    roles |= {f"model_{i}": "unlearned" for i in range(6)} | {BAD: "control"}
    records = []
    for name, role in roles.items():
        scores = [
            replace(row(s, float(rng.normal() * 10.0 ** rng.integers(-6, 9))), range=(None, None))
            for s in glossary._KNOWN
        ]
        records.append(
            replace(record(name, role, *scores), outcome=Outcome("ok", float(rng.uniform(1, 1e5))))
        )
    file = io.StringIO()
    Console(file=file, width=80).print(rich_table(records, 80))
    text = file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert ("±" in text) == (
        oracles >= 2
    ) and f"{len(glossary._KNOWN) - len(glossary.HEADLINE)} further scores" in " ".join(
        text.split()
    )
    assert all(
        re.search(rf"^{re.escape(glossary.label(n))} ", text, re.MULTILINE)
        for n in glossary.HEADLINE
    )


def test_records_without_a_trace_still_report() -> None:
    old = family(0.9, trace="")
    assert cell(old, "x").verdict == "off" and "trace" not in str(to_json(old[0])["scores"])
    assert page.render(old, "t")
    # One record that says it is enough, whatever the order; two that disagree are not of the same
    # score.
    for new in (0, -1):
        mixed = list(old)
        mixed[new] = replace(
            mixed[new], scores=tuple(replace(s, trace="above") for s in mixed[new].scores)
        )
        assert cell(mixed, "x").verdict == "residual"
    mixed[0] = replace(mixed[0], scores=tuple(replace(s, trace="below") for s in mixed[0].scores))
    with pytest.raises(
        RecordError, match="a trace in score 's' shows 'above' in 'x' and 'below' elsewhere"
    ):
        table.build(mixed)


def test_a_trace_is_written_only_where_it_says_something() -> None:
    for trace in ("above", "below", "both", ""):
        sealed = seal(record("x", "unlearned", row("s", 0.5, trace=trace)))
        written = to_json(sealed)
        assert ("trace" in written["scores"][0]) == bool(trace) and record_from_json(
            written
        ) == sealed
    for wrong in ("sideways", "", None):
        written["scores"][0]["trace"] = wrong
        with pytest.raises(
            RecordError, match=r"scores\[0\]\.trace must be one of above, below, both, got"
        ):
            record_from_json(written)


def test_markup_in_new_places_stays_text() -> None:
    series = {
        "relearning": {"steps": [0], "curves": {BAD: [0.5]}},
        "per_class": {"label": [BAD], "test": [0.5]},
    }
    models = [
        record(n, role, row(BAD, v, unit=BAD), row(f"{BAD}@{BAD}", v), **series)
        for n, role, v in (
            (BAD, "unlearned", 0.9),
            ("o1", "oracle", 0.5),
            ("o2", "oracle", 0.6),
            ("o3", "oracle", 0.5),
        )
    ]
    html = page.render(models, BAD)
    assert BAD not in html.replace("&#34;", '"').replace("&#39;", "'") and "<b>'" not in html
    for make in (
        band_figures.bands_figure,
        band_figures.relearning_figure,
        band_figures.layers_figure,
        band_figures.classes_figure,
    ):
        assert "&lt;b&gt;" in str(make(models).to_dict()) and "<b>'" not in str(
            make(models).to_json()
        ).replace("legendgroup", "")
