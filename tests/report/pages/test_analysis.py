"""The analysis page: every number from the records, hostile names, one self-contained page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from eigenforget.record import RunRecord
from eigenforget.report.figures.analysis_figures import ANALYSIS_CHARTS
from eigenforget.report.pages import analysis
from tests.analysis_toys import case, chain

BAD = '</script><script>document.title="owned"</script>'


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    return case((0.0, 0.7), (0.0, 0.1))


@pytest.fixture(scope="module")
def html(records: list[RunRecord]) -> str:
    return analysis.render_analysis(records, "Class 3")


class Read(HTMLParser):
    """Tags, visible text and scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        (self.scripts if self._in == "script" else self.words).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def charts(self) -> list[str]:
        return [str(a["id"]) for t, a in self.tags if t == "figure"]


def test_the_page_is_whole_in_itself_and_shows_its_records(
    html: str, records: list[RunRecord]
) -> None:
    read = Read(html)
    for tag, attrs in read.tags:
        assert not {"src", "srcset", "data", "action"} & set(attrs), tag
        assert str(attrs.get("href", "#")).startswith("#") and tag not in (
            "link",
            "iframe",
            "object",
        )
    ids = [a["id"] for _, a in read.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert read.charts() == [f"chart-{c.id}" for c in ANALYSIS_CHARTS]
    # Every link inside the page goes somewhere.
    assert {str(a["href"])[1:] for t, a in read.tags if t == "a"} <= set(ids)
    assert all(r.name in read.text and str(r.digest) in read.text for r in records)
    assert "--also-layer" in read.text and "No proof." in read.text
    assert html == analysis.render_analysis(records, "Class 3")


def test_missing_numbers_have_their_reason(records: list[RunRecord]) -> None:
    changed = [replace(r, series=json.loads(json.dumps(r.series))) for r in records]
    for r in changed:
        r.series["analysis"]["late"]["values"]["forget"]["da"] = None
        r.series["analysis"]["late"]["reasons"]["da"] = "k = 9 is too large"
    text = Read(analysis.render_analysis(changed, "t")).text
    assert "DA of the forget set at late: k = 9 is too large" in text


def test_headlines_are_a_line_for_each_layer(records: list[RunRecord]) -> None:
    said = analysis.headlines(records)
    assert [line.split(":")[0] for line in said[-2:]] == ["early", "late"]


def test_markup_in_names_stays_text(tmp_path: Path) -> None:
    made = chain([replace(r, name=r.name + BAD) for r in case((0.7,), (0.1,), names=(BAD,))])
    html = analysis.render_analysis(made, BAD)
    assert [t for t, _ in Read(html).tags].count("script") == 1 and 'owned"<' not in html


def test_a_picture_stands_after_at_most_250_words(html: str) -> None:
    head = html[html.index("<body>") : html.index("<figure")]
    assert len(re.sub(r"<[^>]+>", " ", head).split()) <= 250
    assert "<details" not in head and html.index('id="chart-curves"') < html.index('id="more"')


_BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.mark.skipif(_BROWSER is None, reason="no Chromium to render the page with")
def test_a_browser_draws_every_chart_without_an_error(
    records: list[RunRecord], tmp_path: Path
) -> None:
    path = analysis.write_analysis(records, tmp_path / "analysis.html", "Drawn")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=8000",
        "--dump-dom",
        "--enable-logging=stderr",
    ]
    command = [str(_BROWSER), *flags, f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    assert len(re.findall('<div class="tip" hidden', done.stdout)) == 1
