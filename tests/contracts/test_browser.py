"""The report in a browser: no word on the console, choices, legends, pointer, folds and width; and
how large it may be.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from eigenforget.report.figures.charts import CHARTS
from eigenforget.report.pages import page
from tests.report.pages.test_page import Read, hostile
from tests.report_toys import whole

_BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_browser = pytest.mark.skipif(_BROWSER is None, reason="no Chromium to render the page with")


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


_PROBE = """<script>addEventListener("load", () => {
  const told = {}, one = (query) => document.querySelector(query);
  const seen = (query) => Array.from(document.querySelectorAll(query), (n) => !n.hidden);
  const list = one("#chart-da-curve select");
  told.list = { focus: list.tabIndex, hidden: list.closest("[hidden]") !== null };
  told.before = seen("#chart-da-curve .plot");
  list.value = "1";
  list.dispatchEvent(new Event("change"));
  told.after = seen("#chart-da-curve .plot");
  const name = one("#chart-da-curve .legend button");
  name.click();
  told.bright = Array.from(document.querySelectorAll("#chart-da-curve [data-choice='1'] g[data-name]:not(.faint)"), (g) => g.dataset.name);
  name.click();
  told.faint = document.querySelectorAll(".faint").length;
  const svg = one("#chart-maps svg[data-scales]"), box = svg.getBoundingClientRect();
  const mark = svg.querySelector("g[data-texts] path").getAttribute("d").match(/M([\\d.]+) ([\\d.]+)/);
  const unit = box.width / svg.viewBox.baseVal.width;
  const place = { clientX: box.left + mark[1] * unit, clientY: box.top + mark[2] * unit, bubbles: true };
  svg.dispatchEvent(new PointerEvent("pointermove", place));
  told.tip = one(".tip").hidden ? "" : one(".tip").textContent;
  told.open = document.querySelectorAll("details[open]").length;
  dispatchEvent(new Event("beforeprint"));
  told.paper = document.querySelectorAll("details:not([open])").length;
  told.wide = [document.documentElement.scrollWidth, document.documentElement.clientWidth];
  dispatchEvent(new Event("afterprint"));
  told.again = document.querySelectorAll("details[open]").length;
  location.hash = "#term-band";
  setTimeout(() => {
    told.glossary = one("#glossary").open;
    const text = document.createElement("pre");
    text.id = "told";
    text.textContent = JSON.stringify(told);
    document.body.append(text);
  }, 50);
});</script>"""


@needs_browser
@pytest.mark.parametrize("width", [390, 1200])
def test_a_reader_chooses_points_and_unfolds(tmp_path: Path, width: int) -> None:
    path = page.write_page(hostile(), tmp_path / "report.html", "Drawn")
    html = path.read_text(encoding="utf-8")
    end = html.rindex("</body>")
    path.write_text(html[:end] + _PROBE + html[end:], encoding="utf-8")
    told = json.loads(Read(dumped(path, width)).found("told"))
    assert told["list"] == {"focus": 0, "hidden": False}
    assert told["before"] == [True, False, False] and told["after"] == [False, True, False]
    assert told["bright"] == ["original"] and told["faint"] == 0
    assert told["tip"].startswith("test/") and "class" in told["tip"]
    assert told["open"] == told["again"] == 0 and told["paper"] == 0 and told["glossary"]
    assert told["wide"][0] <= told["wide"][1], "the page scrolls to the side"


def test_every_chart_is_described() -> None:
    read = Read(page.render(whole(), "t"))
    nodes = [str(a.get("aria-label")) for _, a in read.tags if "role" in a]
    assert sum(text.startswith("Chart: ") and len(text) > 80 for text in nodes) == len(CHARTS)


def test_thirty_models_stay_below_a_megabyte_and_a_half() -> None:
    names = {f"model_{i}": "control" if i % 6 == 5 else "unlearned" for i in range(26)}
    oracles = {f"oracle {i}": "oracle" for i in range(3)}
    html = page.render(whole(points=800, models={"original": "original", **oracles, **names}), "t")  # type: ignore[arg-type]
    assert html.count('<svg viewBox="0 0 400') > 40 and len(html.encode()) < 1_500_000
