"""The analysis page: words only as far as the numbers go, every number from the records, hostile
names, one self-contained page.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eigenforget.evaluation.analysis.series import Setting, of_layer
from eigenforget.record import Outcome, RecordError, RunRecord, seal
from eigenforget.report.figures import analysis_figures as figures
from eigenforget.report.pages import analysis
from eigenforget.report.pages.analysis_series import SIGNS, beside, judged, layers, models
from eigenforget.report.pages.analysis_words import words

PARTS = {"forget": 30, "retain": 60, "test_forget": 20, "test_retain": 40}
BAD = '</script><script>document.title="owned"</script>'


def rows(seed: int, own: float, width: int = 8) -> dict[Any, np.ndarray]:
    """Kept features in four directions; the forgotten ones lie in these but for `own` in a
    direction of theirs.
    """
    rng = np.random.default_rng(seed)
    axes = np.zeros((4, width))
    axes[np.arange(4), np.arange(4)] = 3
    found: dict[Any, np.ndarray] = {}
    for part, count in PARTS.items():
        found[part] = axes[np.arange(count) % 4] + 0.2 * rng.normal(size=(count, width))
        if part.endswith("forget"):
            found[part] = (1 - own) * found[part] + own * 4 * np.eye(width)[5]
    return found


def series(
    seed: int, owns: Sequence[float], names: Sequence[str], drop: str = ""
) -> dict[str, Any]:
    made = {}
    for position, (name, own) in enumerate(zip(names, owns, strict=True)):
        features = {part: r for part, r in rows(seed, own).items() if part != drop}
        labels = {part: np.arange(len(r)) % 4 for part, r in features.items()}
        low, high = dict.fromkeys(features, 0.9), dict.fromkeys(features, 0.95)
        beside = {"original": low, "oracle": high} if seed else {"oracle": low}
        made[name] = {
            "position": position,
            "headline": False,
            **of_layer(features, Setting(4, 0, labels)),
            "cka": beside,
        }
    return made


def record(name: str, role: Any, found: dict[str, Any], **more: Any) -> RunRecord:
    job = {"request": {"spec": "by_class(label=3)"}, "layers_chosen": "automatically", **more}
    outcome, created = Outcome("ok", 1.0), "2026-11-24T13:00:00Z"
    return RunRecord(
        "evaluate",
        name,
        created,
        job,
        {},
        {"torch": "2.13.0"},
        outcome,
        role,
        series={"analysis": found},
        non_claims=("No proof.",),
    )


def chain(records: Sequence[RunRecord]) -> list[RunRecord]:
    made: list[RunRecord] = []
    for r in records:
        made.append(seal(r, made[-1].digest if made else None))
    return made


def case(
    original: Sequence[float],
    retrained: Sequence[float],
    *,
    oracles: int = 3,
    drop: str = "",
    names: Sequence[str] = ("early", "late"),
) -> list[RunRecord]:
    found = [record("original", "original", series(0, original, names, drop))]
    found += [
        record(f"oracle {i}", "oracle", series(i, retrained, names, drop))
        for i in range(1, oracles + 1)
    ]
    return chain(found)


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

    def charts(self) -> dict[str, Any]:
        ids = [a["data-chart"] for t, a in self.tags if t == "script" and "data-chart" in a]
        return dict(
            zip(
                map(str, ids),
                map(json.loads, (s for s in self.scripts if s.startswith("{"))),
                strict=True,
            )
        )


# --- what is judged ---


@pytest.mark.parametrize(
    ("original", "retrained", "toward", "says"),
    [
        (0.62, (0.97, 0.98, 0.96), 1, "nearer"),
        (0.97, (0.62, 0.63, 0.61), 1, "farther"),
        (2.0, (1.0, 1.1, 1.05), -1, "nearer"),
        (1.0, (2.0, 2.1, 2.05), -1, "farther"),
        (0.90, (0.97, 0.85, 0.99), 1, "same"),  # within the band
        (0.985, (0.998, 0.998, 0.998), 1, "same"),  # outside the band, by less than counts
        (0.62, (0.97,), 1, "nearer"),  # no band with one
        (0.96, (0.97,), 1, "same"),
    ],
)
def test_a_difference_is_one_beyond_the_band_and_large_enough(
    original: float, retrained: tuple[float, ...], toward: int, says: str
) -> None:
    found = judged(original, retrained, toward=toward, span=(0.0, None))
    assert found.says == says and found.gap == pytest.approx(np.mean(retrained) - original)
    assert (found.band is None) == (len(retrained) == 1)


def test_the_page_reads_values_from_the_records(records: list[RunRecord]) -> None:
    found = models(records)
    assert layers(found) == ["early", "late"]
    for sign in SIGNS:
        value = beside(found, "late", "forget", sign)
        own = [r.series["analysis"]["late"]["values"]["forget"][sign.name] for r in records]
        assert value.original == own[0] and value.mean == pytest.approx(np.mean(own[1:]))
        # What lies in a direction of its own is the same in all samples, so centring takes it away.
        assert value.says == (
            "nearer"
            if sign.name in ("da", "energy", "share", "neighbours", "class_mean")
            else value.says
        )


# --- words ---


def test_words_say_where_it_shows_most_and_where_not(records: list[RunRecord]) -> None:
    said = words(models(records))
    assert [f.headline for f in said.findings] == [
        "no signal",
        "unseen data lies nearer to the kept features",
    ]
    assert "holds at 1 of 2 layers" in said.summary[0] and "It shows at late" in said.summary[0]
    assert said.summary[1] == "At early alignment carries no signal."
    text = " ".join(said.findings[1].sentences)
    da = [r.series["analysis"]["late"]["values"]["forget"]["da"] for r in records]
    assert (
        f"is {da[0]:.3f} in the original, which saw both, and {np.mean(da[1:]):.3f} on average in the retrained models"
        in text
    )
    assert (
        "the same difference, so what the original holds of its own are directions of the classes"
        in text
    )
    assert "Held-out kept samples differ" not in text  # they are drawn alike in both
    assert (
        "CKA is 0.900 between the original and retrained models, and 0.950 among retrained models: their features differ"
        in text
    )


def test_no_difference_is_called_no_signal() -> None:
    said = words(models(case((0.0, 0.05), (0.0, 0.05), drop="test_forget")))
    assert {f.headline for f in said.findings} == {"no signal"}
    assert said.summary[0].startswith(
        "Alignment carries no signal for this request"
    ) and "holds" not in " ".join(said.summary)
    assert any("forgets no class as a whole" in s for s in said.summary)
    assert "alignment carries no signal here" in said.findings[0].sentences[0]


def test_the_other_way_round_is_said_too() -> None:
    said = words(models(case((0.1, 0.1), (0.7, 0.1))))
    assert (
        said.findings[0].headline == "unseen data lies farther from the kept features"
        and said.findings[0].tone == "bad"
    )
    assert "the other way round" in said.summary[0] and "observation holds" not in " ".join(
        said.summary
    )


def test_one_retrained_model_has_no_band() -> None:
    said = words(models(case((0.7,), (0.1,), oracles=1, names=("late",))))
    assert (
        "the layer that was measured" in said.summary[0]
        and "in the retrained model" in said.findings[0].sentences[0]
    )
    assert (
        any("One retrained model makes no band" in s for s in said.summary)
        and "expected within" not in said.findings[0].sentences[0]
    )


def test_what_was_not_measured_has_its_reason(records: list[RunRecord]) -> None:
    changed = [replace(r, series=json.loads(json.dumps(r.series))) for r in records]
    for r in changed:
        r.series["analysis"]["late"]["values"]["forget"]["da"] = None
        r.series["analysis"]["late"]["reasons"]["da"] = "k = 9 is too large"
    said = words(models(changed))
    assert said.findings[1].headline == "alignment not measured" and said.findings[1].sentences == (
        "K = 9 is too large.",
    )
    assert (
        "DA of forgotten training samples at late: k = 9 is too large"
        in Read(analysis.render_analysis(changed, "t")).text
    )


def test_errors_name_the_record(records: list[RunRecord]) -> None:
    with pytest.raises(
        RecordError,
        match="one original and at least one retrained model with the series 'analysis', got 1 and 0",
    ):
        models(records[:1])
    with pytest.raises(RecordError, match="'oracle 1': series analysis is of other layers"):
        models([*records[:1], replace(records[1], series={"analysis": {"other": {}}})])
    bad = replace(records[1], series=json.loads(json.dumps(records[1].series)))
    bad.series["analysis"]["late"]["curves"]["forget"]["k"] = ["x"]
    with pytest.raises(
        RecordError,
        match=r"'oracle 1': series analysis 'late': curves\.forget\.k must be a list of finite numbers",
    ):
        figures.curves(models([records[0], bad]))


# --- figures and the page ---


def test_curves_draw_the_mean_and_the_range(records: list[RunRecord]) -> None:
    fig = figures.curves(models(records))
    own = [r.series["analysis"]["late"]["curves"]["forget"] for r in records]
    mine = [t for t in fig.data if t.xaxis == "x2" and t.visible]
    mean = next(t for t in mine if t.name == "retrained" and t.line.width == 2)
    np.testing.assert_allclose(mean.y, np.mean([c["frobenius_none"] for c in own[1:]], axis=0))
    area = next(t for t in mine if t.name == "retrained" and t.fill == "toself")
    np.testing.assert_allclose(
        area.y[: len(mean.y)], np.max([c["frobenius_none"] for c in own[1:]], axis=0)
    )
    assert list(next(t for t in mine if t.name == "original").y) == own[0]["frobenius_none"]
    choices = fig.layout.meta["choices"]
    assert len(choices) == 4 and not fig.layout.updatemenus
    for number, choice in enumerate(choices):
        assert len(choice["visible"]) == len(fig.data)
        assert number > 0 or [t.visible for t in fig.data] == choice["visible"]
    assert all(sum(c["visible"][i] for c in choices) == 1 for i in range(len(fig.data)))


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
    assert len(ids) == len(set(ids)) and set(read.charts()) == {
        f"chart-{c.id}" for c in analysis.CHARTS
    }
    assert all(r.name in read.text and str(r.digest) in read.text for r in records)
    assert (
        "They were chosen automatically" in read.text
        and "What this does not say" in read.text
        and "No proof." in read.text
    )
    assert html == analysis.render_analysis(records, "Class 3")


def test_markup_in_names_stays_text(tmp_path: Path) -> None:
    made = chain([replace(r, name=r.name + BAD) for r in case((0.7,), (0.1,), names=(BAD,))])
    html = analysis.render_analysis(made, BAD)
    kinds = [a.get("type") for t, a in Read(html).tags if t == "script"]
    assert (
        kinds == ["application/json"] * len(analysis.CHARTS) + [None, None]
        and 'owned"<' not in html
    )
    for chart in Read(html).charts().values():
        shown = [a["text"] for a in chart["layout"].get("annotations", [])] + [
            t.get("name", "") for t in chart["data"]
        ]
        assert not any("<" in re.sub("</?b>", "", text) for text in shown)


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
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    charts = re.split(r'<div class="chart', done.stdout)[1:]
    assert len(charts) == len(analysis.CHARTS)
    for chart in charts:
        body = chart.split("</figure>")[0]
        assert "js-plotly-plot" in body and re.search(r'class="(lines|points)"><path', body)
