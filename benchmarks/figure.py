"""A picture of a comparison: models × metrics, each cell coloured by how many oracle bands it lies from the oracles.

    python benchmarks/figure.py benchmarks/results/compare_digits

Writes summary.svg into the folder, from the records in it alone. A band is two standard deviations of the oracles, at least ± 0.005. Green
cells lie in the band; orange ones above the oracles, purple ones below, darker with distance (colour-blind safe). Each cell says the value.
"""

from __future__ import annotations

import statistics
from html import escape
from pathlib import Path

import summarise
from cyclopts import App

from eigenforget.bench.compare import band_width
from eigenforget.record import RunRecord, read_folder, write_text

PANEL = summarise.COLUMNS
ROW, LEFT, CELL, TOP = 22, 150, 86, 58

app = App(help=__doc__)


@app.default
def main(folder: Path) -> None:
    """Draw FOLDER/summary.svg."""
    seeds = [read_folder(path / "records") for path in sorted(folder.glob("seed*"))]
    if not seeds:
        raise SystemExit(f"{folder} has no seed*/records")
    write_text(folder / "summary.svg", draw(seeds, f"{folder.name}: {seeds[0][0].job['request']['spec']}"))
    print(f"wrote {folder / 'summary.svg'}")


def distance(seeds: list[list[RunRecord]], name: str, metric: str) -> tuple[float, float] | None:
    """(mean value, mean signed distance to the oracles in bands) over seeds; None where it does not apply."""
    values, distances = [], []
    for records in seeds:
        oracles = [v[metric] for r in records if r.role == "oracle" and metric in (v := summarise.value_of(r))]
        own = [v[metric] for r in records if summarise.label(r) == name and metric in (v := summarise.value_of(r))]
        if not oracles or not own:
            continue
        values += own
        distances += [(value - statistics.fmean(oracles)) / band_width(oracles) for value in own]
    return (statistics.fmean(values), statistics.fmean(distances)) if values else None


def draw(seeds: list[list[RunRecord]], title: str) -> str:
    """The SVG text. Rows are sorted by the number of metrics in band, then by name."""
    cells = {name: {m: distance(seeds, name, m) for m in PANEL} for name in summarise.names(seeds)}
    measured = {name: row for name, row in cells.items() if any(row.values())}
    inside = {name: sum(c is not None and abs(c[1]) <= 1 for c in row.values()) for name, row in measured.items()}
    order = sorted(measured, key=lambda name: (-inside[name], name))
    shown = [m for m in PANEL if any(row[m] for row in measured.values())]
    width, height = LEFT + CELL * len(shown) + 70, TOP + ROW * len(order) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/><text x="8" y="20" font-size="14">{escape(title)}</text>',
    ]
    for i, metric in enumerate(shown):
        parts.append(text(LEFT + CELL * (i + 0.5), TOP - 8, PANEL[metric], anchor="middle"))
    parts.append(text(LEFT + CELL * len(shown) + 8, TOP - 8, "in band"))
    for j, name in enumerate(order):
        y = TOP + ROW * j
        parts.append(text(LEFT - 8, y + 15, name, anchor="end"))
        for i, metric in enumerate(shown):
            parts.append(cell(LEFT + CELL * i, y, measured[name][metric]))
        known = sum(c is not None for c in measured[name].values())
        parts.append(text(LEFT + CELL * len(shown) + 8, y + 15, f"{inside[name]}/{known}"))
    return "\n".join([*parts, "</svg>", ""])


def cell(x: float, y: float, found: tuple[float, float] | None) -> str:
    if found is None:
        return text(x + CELL / 2, y + 15, "–", anchor="middle")
    value, bands = found
    ink = "#ffffff" if abs(bands) > 8 else "#111111"
    box = f'<rect x="{x + 1}" y="{y + 1}" width="{CELL - 2}" height="{ROW - 2}" rx="3" fill="{colour(bands)}"/>'
    return box + text(x + CELL / 2, y + 15, f"{value:.3f}", anchor="middle", fill=ink)


def colour(bands: float) -> str:
    """Green in the band; towards dark orange above it and dark purple below it, in four steps of doubling distance."""
    if abs(bands) <= 1:
        return "#8fd0b0"
    step = 0 if abs(bands) <= 2 else 1 if abs(bands) <= 4 else 2 if abs(bands) <= 8 else 3
    above, below = ("#fde0b5", "#f7b765", "#e58a2c", "#b35806"), ("#dcd6ea", "#b9aed6", "#8f7fbb", "#542788")
    return (above if bands > 0 else below)[step]


def text(x: float, y: float, content: str, *, anchor: str = "start", fill: str = "#111111") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{fill}">{escape(content)}</text>'


if __name__ == "__main__":
    app()
