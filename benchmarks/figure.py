"""A picture of a comparison: models × metrics, each cell coloured by how far it lies from the
retrained models.

    python benchmarks/figure.py benchmarks/results/compare_digits

Writes summary.svg into the folder, from the records in it alone. Colours are gaps in halves of the
band in which one more retrained model lies with 95 % (see eigenforget.core.bands), averaged over
training seeds: green in the band, orange above it, purple below it, darker with distance
(colour-blind safe). Each cell says the value.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import summarise
from cyclopts import App

from eigenforget.core import bands
from eigenforget.record import RunRecord, read_folder, write_text
from eigenforget.report.figures.svg import Line, Shade, heatmap

PANEL = summarise.COLUMNS

app = App(help=__doc__)


@app.default
def main(folder: Path) -> None:
    """Draw FOLDER/summary.svg."""
    seeds = [read_folder(path / "records") for path in sorted(folder.glob("seed*"))]
    if not seeds:
        raise SystemExit(f"{folder} has no seed*/records")
    write_text(
        folder / "summary.svg", draw(seeds, f"{folder.name}: {seeds[0][0].job['request']['spec']}")
    )
    print(f"wrote {folder / 'summary.svg'}")


def band_of(records: list[RunRecord], metric: str) -> bands.Band | None:
    """The band of one seed's oracles; None where not every oracle has the score."""
    rows = [
        [s for s in r.scores if s.name == metric and s.value is not None]
        for r in records
        if r.role == "oracle"
    ]
    if not rows or not all(rows):
        return None
    return bands.band(
        [row[0].value or 0.0 for row in rows],
        span=rows[0][0].range,
        pairs=bands.shares_pairs(metric),
    )


def standing(records: list[RunRecord], name: str, metric: str) -> list[tuple[float, float, bool]]:
    """(value, gap in halves of the band, in the band) of the models of that label; empty where the
    metric does not apply.
    """
    band = band_of(records, metric)
    if band is None:
        return []
    scores = [
        s
        for r in records
        if summarise.label(r) == name
        for s in r.scores
        if s.name == metric and s.value is not None
    ]
    return [
        (
            s.value,
            bands.units(s.value, band),
            bands.verdict(s.value, band, better=s.better, trace=s.trace) == "in",
        )
        for s in scores
        if s.value is not None
    ]


def draw(seeds: list[list[RunRecord]], title: str) -> str:
    """The SVG text. Rows are sorted by the number of metrics in band (mean over seeds), then by
    name.
    """
    lines = []
    for name in summarise.names(seeds):
        found = {m: [s for records in seeds for s in standing(records, name, m)] for m in PANEL}
        known = [m for m in PANEL if found[m]]
        if not known:
            continue
        inside = sum(statistics.fmean(ok for _, _, ok in found[m]) for m in known)
        cells = [shade(found[m]) for m in PANEL]
        lines.append((-inside, name, Line(name, cells, f"{inside:.1f}/{len(known)}")))
    lines.sort(key=lambda item: item[:2])
    return heatmap(title, list(PANEL.values()), [line for _, _, line in lines], after="in band")


def shade(found: list[tuple[float, float, bool]]) -> Shade | None:
    """Mean value, coloured by the mean gap."""
    if not found:
        return None
    return Shade(
        f"{statistics.fmean(v for v, _, _ in found):.3f}", statistics.fmean(u for _, u, _ in found)
    )


if __name__ == "__main__":
    app()
