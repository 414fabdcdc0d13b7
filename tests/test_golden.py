"""Frozen records, and the pages made of them: what was written once is read, verified and shown in
the same way ever after.

The records in tests/golden/records are of a real run and are never made anew: readers of every
later version must take them. The pages are rewritten, on purpose only, by

    python -m pytest tests/test_golden.py --rewrite-golden

and the difference is looked at before it is committed. Scripts and drawings are left out of them; of
drawings, titles, names of traces and numbers of points are kept in charts.json.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from eigenforget.record import RunRecord, canonical, read, read_folder, record_from_json, to_json
from eigenforget.record.verify import verify
from eigenforget.report.pages import analysis, page
from eigenforget.report.pages.certificate import render_certificate
from eigenforget.report.pages.leaderboard import ExperimentRecords, details
from eigenforget.report.table import write_csv

GOLDEN = Path(__file__).parent / "golden"
RECORDS, ANALYSIS = GOLDEN / "records", GOLDEN / "analysis"
_SCRIPT = re.compile(r"(<script[^>]*>).*?(</script>)", re.DOTALL)
_SVG = re.compile(r"(<svg)[^>]*>.*?(</svg>)", re.DOTALL)
_STYLE = re.compile(r"<style>.*?</style>", re.DOTALL)


def records(folder: Path = RECORDS) -> list[RunRecord]:
    return read_folder(folder)


def without_scripts(html: str) -> str:
    bare = _SVG.sub(r"\1>\2", _SCRIPT.sub(r"\1\2", html))
    return _STYLE.sub("<style></style>", bare)


def charts(html: str) -> dict[str, Any]:
    """Of every plot: its title, and of every trace name and number of vertices and marks."""
    found = {}
    for name, text in re.findall(r'<figure id="chart-([^"]+)">(.*?)</figure>', html, re.DOTALL):
        plots = re.findall(r'<p class="plot-title">(.*?)</p>(.*?)</div>', text, re.DOTALL)
        found[name] = {
            f"{i} {title}".strip(): [
                [trace, len(re.findall("[ML]", drawn))]
                for trace, drawn in re.findall(r'<g data-name="([^"]*)".*?>(.*?)</g>', svg)
            ]
            for i, (title, svg) in enumerate(plots)
        }
    return found


def pages(tmp_path: Path) -> dict[str, str]:
    """Everything that is made from the golden records, by the name of its golden file."""
    report = page.render(records(), "Golden records")
    of_features = analysis.render_analysis(records(ANALYSIS), "Golden analysis")
    unlearned = next(r for r in records() if r.role == "unlearned" and r.outcome.status == "ok")
    both = {"report": charts(report), "analysis": charts(of_features)}
    return {
        "report.html": without_scripts(report),
        "analysis.html": without_scripts(of_features),
        "charts.json": json.dumps(both, indent=1, ensure_ascii=False) + "\n",
        "certificate.html": without_scripts(render_certificate(unlearned)),
        "summary.md": details(ExperimentRecords("Golden records", [records()])),
        "table.csv": write_csv(records(), tmp_path / "table.csv").read_text(encoding="utf-8"),
    }


@pytest.mark.parametrize(
    "name",
    ["report.html", "analysis.html", "charts.json", "certificate.html", "summary.md", "table.csv"],
)
def test_pages_are_as_they_were(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    made, path = pages(tmp_path)[name], GOLDEN / name
    if request.config.getoption("--rewrite-golden"):
        path.write_text(made, encoding="utf-8")
    expected = path.read_text(encoding="utf-8")
    different = [
        i
        for i, (a, b) in enumerate(
            zip(made.splitlines(), expected.splitlines(), strict=False), start=1
        )
        if a != b
    ]
    assert made == expected, (
        f"{path} differs first in line {different[0] if different else 'at the end'}; see the head of this file"
    )


def test_making_a_page_twice_gives_the_same_bytes() -> None:
    assert page.render(records(), "x") == page.render(records(), "x")


@pytest.mark.parametrize("folder", [RECORDS, ANALYSIS], ids=lambda p: p.name)
def test_golden_records_are_read_verified_and_written_as_they_are(folder: Path) -> None:
    paths = sorted(p for p in folder.glob("*.json") if p.name != "split.json")
    assert len(paths) >= 4
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert (
            canonical(to_json(read(path))) + "\n"
            == text
            == canonical(to_json(record_from_json(json.loads(text)))) + "\n"
        )
    found = verify([folder])
    assert found.status == 0 and not [f for f in found.findings if f.status == "error"]
    assert any(f.status == "ok" and f.what.startswith("split sha256:") for f in found.findings)


def test_golden_records_hold_every_kind_of_outcome_and_role() -> None:
    found = records()
    assert {r.role for r in found} == {"original", "oracle", "unlearned", "control"}
    assert {r.outcome.status for r in found} == {"ok", "refused"}
    assert {
        "pca",
        "mia_roc",
        "da_curve",
        "spectrum",
        "relearning",
        "per_class",
        "confusion",
        "trace",
    } <= {k for r in found for k in r.series}
