"""The report in a browser: every chart drawn, no word on the console, its list of choices, paper,
and how large it may be.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from eigenforget.report.figures.panels import PAPER
from eigenforget.report.pages import page
from tests.report.pages.test_page import Read, hostile
from tests.report_toys import ROLES, whole

_BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_browser = pytest.mark.skipif(_BROWSER is None, reason="no Chromium to render the page with")
HEATMAPS = ("bands", "ranks", "agreement", "classes", "confusion")


def dumped(path: Path, width: int = 1200) -> str:
    """The document after its scripts ran. Fails where anything was written on the console."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=8000",
        "--dump-dom",
        "--enable-logging=stderr",
    ]
    profile = f"--user-data-dir={path.parent / 'profile'}"
    command = [str(_BROWSER), *flags, f"--window-size={width},900", profile, path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    return done.stdout


@needs_browser
def test_a_browser_draws_every_chart_without_an_error(tmp_path: Path) -> None:
    dom = dumped(page.write_page(hostile(), tmp_path / "report.html", "Drawn"))
    assert Read(dom).title == "Drawn"
    charts = re.split(r'<div class="chart', dom)[1:]
    assert len(charts) == len(page.CHARTS)
    for chart in charts:
        body = chart.split("</figure>")[0]
        assert "js-plotly-plot" in body and body.count('class="main-svg"') >= 1
        if re.search(r'id="chart-([\w-]+)"', body)[1] in HEATMAPS:  # type: ignore[index]
            assert re.search(r'<image [^>]*href="data:image/png', body) and "<text" in body
        else:
            assert body.count('class="scatterlayer') >= 1 and re.search(
                r'class="(lines|points)"><path', body
            )


_PROBE = """<script>addEventListener("load", () => {
  const node = document.getElementById("chart-da-curve"), list = document.querySelector("select");
  const heights = () => Array.from(document.querySelectorAll(".chart"), (c) => c._fullLayout.height);
  const told = { focus: list.tabIndex, hidden: list.closest("[hidden]") !== null, before: node.data.map((t) => t.visible) };
  list.value = "1";
  list.dispatchEvent(new Event("change"));
  told.after = node.data.map((t) => t.visible);
  told.drawn = node.querySelectorAll(".scatterlayer .trace").length;
  told.screen = heights();
  dispatchEvent(new Event("beforeprint"));
  told.paper = heights();
  told.width = node._fullLayout.width;
  dispatchEvent(new Event("afterprint"));
  told.again = heights();
  told.wide = Array.from(document.querySelectorAll(".chart"), (c) => c._fullLayout.width <= c.clientWidth + 1);
  const text = document.createElement("pre");
  text.id = "told";
  text.textContent = JSON.stringify(told);
  document.body.append(text);
});</script>"""


@needs_browser
def test_the_list_switches_the_traces_and_paper_the_size(tmp_path: Path) -> None:
    """On a screen that is narrower than paper, so that the width has to grow and to shrink again."""
    path = page.write_page(whole(), tmp_path / "report.html", "Drawn")
    html = path.read_text(encoding="utf-8")
    end = html.rindex("</body>")
    path.write_text(html[:end] + _PROBE + html[end:], encoding="utf-8")
    told = json.loads(re.search(r'<pre id="told">(.*?)</pre>', dumped(path, width=520))[1])  # type: ignore[index]
    models = len(ROLES)
    assert (
        told["before"] == [True] * models + [False] * models
        and told["after"] == [False] * models + [True] * models
    )
    assert told["drawn"] == models and told["focus"] == 0 and not told["hidden"]
    assert max(told["paper"]) <= PAPER and told["width"] == 700
    assert told["again"] == told["screen"] and max(told["screen"]) > PAPER and all(told["wide"])


def test_a_list_stands_where_a_figure_has_choices_and_is_hidden_without_the_script() -> None:
    read = Read(page.render(whole(), "t"))
    lists = [a for tag, a in read.tags if tag == "select"]
    assert [a["data-choices"] for a in lists] == ["chart-da-curve"]
    charts = read.charts()
    labels = [choice["label"] for choice in charts["chart-da-curve"]["layout"]["meta"]["choices"]]
    assert (
        labels == ["Frobenius, raw", "energy, centred"] and f"Show {' '.join(labels)}" in read.text
    )
    assert sum(tag == "option" for tag, _ in read.tags) == 2
    assert any(tag == "p" and a.get("class") == "choice" and "hidden" in a for tag, a in read.tags)
    assert all("updatemenus" not in chart["layout"] for chart in charts.values())


def test_every_chart_is_described_and_fits_a_page_of_paper() -> None:
    read = Read(page.render(whole(), "t"))
    nodes = [a for tag, a in read.tags if tag == "div" and a.get("class") == "chart"]
    assert len(nodes) == len(page.CHARTS) and all(
        a["role"] == "img" and len(str(a["aria-label"])) > 80 for a in nodes
    )
    for name, chart in read.charts().items():
        meta = chart["layout"]["meta"]
        assert {"wide", "medium", "narrow", "paper"} <= set(meta) and meta["paper"][
            "height"
        ] <= PAPER, name
        assert chart["layout"]["height"] == meta["wide"]["height"]
    css = (Path(page.__file__).parent / "page.css").read_text(encoding="utf-8")
    assert "figure, .chart { break-inside: avoid; }" in css.split("@media print")[1]


def test_six_models_with_five_thousand_points_in_three_maps_each_stay_below_eight_megabytes() -> (
    None
):
    # All of these are drawn; of several retrained models only the first is.
    models = {
        name: role for name, role in ROLES.items() if name not in ("oracle 2", "oracle 3", "mask")
    }
    html = page.render(whole(points=5000, models=models), "t")
    assert len(models) == 6 and len(html.encode()) < 8_000_000
    charts = Read(html).charts()
    for name in ("chart-maps", "chart-maps-tsne", "chart-maps-umap"):
        assert sum(len(t["x"]) for t in charts[name]["data"]) == 6 * 5000
