"""Writes figures as SVG and HTML: small, the same bytes each time, and whole without a script.

A page in which every figure is such text opens at once, prints as it is and takes its colours from
the page's style sheet, light or dark. The page's script reads values back from the places of
points, so that no number stands there twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence, Set
from itertools import pairwise

from markupsafe import Markup, escape

from eigenforget.report.figures.drawing import (
    Axis,
    Figure,
    HeatMap,
    Plot,
    PlotCells,
    PlotShape,
    PlotTrace,
)
from eigenforget.report.figures.palettes import cell_class, shade_step
from eigenforget.report.figures.style import Style
from eigenforget.report.figures.symbols import mark_path
from eigenforget.report.figures.ticks import axis_ends, round_numbers, tick_text

WIDTH = 400
"""Units that a plot is wide, with its labels. On a screen a unit is about a pixel."""

_LETTER = 6.4  # units of a letter of a label, on average
_TOP, _RIGHT, _BELOW = 8, 12, 22  # units around a plot
_TITLE = 16  # units of an axis's title
_SLACK = 0.25  # units by which a thinned line may stray: less than a screen shows
_MOST_LEVEL = 8  # columns of a heat map whose names are written level
_DASHES = {"solid": "", "dot": "1 4", "dash": "6 4", "dashdot": "7 3 1 3", "longdash": "11 4"}


def rendered(figure: Figure | HeatMap, alt: str) -> Markup:
    """The figure as HTML.

    Args:
        figure: The figure.
        alt: What it shows, for readers who do not see it.
    """
    if isinstance(figure, HeatMap):
        region = '<div class="scroll" tabindex="0" role="region" aria-label="{}">\n{}</div>\n'
        return Markup(region).format(alt, _heat_map(figure))
    # The legend stands outside of the image: its buttons can be reached with keys.
    grid = Markup('<div class="plots of-{}" role="img" aria-label="{}">\n{}</div>\n{}')
    plots = Markup("").join(map(_plot, figure.plots))
    return grid.format(figure.columns, alt, plots, _legend(figure))


def _heat_map(found: HeatMap) -> Markup:
    head = Markup("").join(Markup("<th scope=col>{}</th>").format(name) for name in found.columns)
    lines = [
        Markup("<tr><th scope=row>{}</th>{}</tr>\n").format(
            name, Markup("").join(map(_heat_cell, texts, steps))
        )
        for name, texts, steps in zip(found.rows, found.texts, found.steps, strict=True)
    ]
    turned = " turned" if len(found.columns) > _MOST_LEVEL else ""
    return Markup(
        '<table class="heat {}{}">\n<thead><tr><td></td>{}</tr></thead>\n<tbody>\n{}</tbody>\n'
        "</table>\n"
    ).format(found.palette, turned, head, Markup("").join(lines))


def _heat_cell(text: str, step: int | None) -> Markup:
    if step is None:
        return Markup("<td>{}</td>").format(text)
    return Markup("<td class={}>{}</td>").format(cell_class(step), text)


def _legend(figure: Figure) -> Markup:
    """The names of the traces, each once; those of one choice are seen with it."""
    found: dict[str, Style] = {}
    choices: dict[str, set[int | None]] = {}
    for plot in figure.plots:
        for trace in (t for t in plot.traces if t.listed):
            found.setdefault(trace.name, trace.style)
            choices.setdefault(trace.name, set()).add(plot.choice)
    entries = [
        Markup(
            '<li{}><button type="button"><svg viewBox="-16 -7 32 14" aria-hidden="true">{}</svg>'
            "{}</button></li>\n"
        ).format(Markup(_choice(choices[name])), _key(style), name)
        for name, style in found.items()
    ]
    if not entries:
        return Markup("")
    return Markup('<ul class="legend">\n{}</ul>\n').format(Markup("").join(entries))


def _key(style: Style) -> Markup:
    line = _stroke("M-15 0L15 0", style) if style.dash else ""
    mark = _marks([(0.0, 0.0)], style) if style.symbol else ""
    area = f'<path fill="{style.colour}" opacity=".4" d="M-15-5H15V5H-15z"/>'
    return Markup(line + mark or area)


class _Scale:
    """Places of an axis in units of the drawing."""

    def __init__(self, axis: Axis, ends: tuple[float, float], units: tuple[float, float]) -> None:
        self.axis, self.units, self.log = axis, units, axis.log
        self.ends = (math.log10(ends[0]), math.log10(ends[1])) if axis.log else ends

    def __call__(self, value: float) -> float:
        if self.log:
            value = math.log10(max(value, 1e-300))
        share = (value - self.ends[0]) / (self.ends[1] - self.ends[0])
        return self.units[0] + share * (self.units[1] - self.units[0])

    def ticks(self, most: int) -> dict[float, str]:
        if self.axis.ticks is not None:
            return dict(self.axis.ticks)
        low, high = (10**end for end in self.ends) if self.log else self.ends
        found = round_numbers(low, high=high, log=self.log, most=most)
        return {v: tick_text(v, self.axis) for v in found if v.is_integer() or not self.axis.whole}

    def note(self) -> list[object]:
        """What the page's script needs to read values: name, form, ends and their units."""
        form = "-" if self.axis.ticks is not None else "%" if self.axis.percent else ""
        ends = [float(f"{end:.6g}") for end in self.ends]
        return [self.axis.reads, form, int(self.log), *ends, *(round(u, 1) for u in self.units)]


def _plot(plot: Plot) -> Markup:
    x_values = [x for t in plot.traces for _, x, _ in t.points()]
    y_values = [y for t in plot.traces for _, _, y in t.points()]
    for trace in plot.traces:
        (x_values if trace.bars == "x" else y_values).extend((*trace.low, *trace.high))
    x_ends, y_ends = axis_ends(plot.x, x_values), axis_ends(plot.y, y_values)
    labels = _Scale(plot.y, y_ends, (0, 1)).ticks(_most(plot.height))
    left = 10 + _LETTER * max([len(text) for text in labels.values()], default=0)
    top = _TOP + (_TITLE if plot.y.title else 0)
    x = _Scale(plot.x, x_ends, (left, WIDTH - _RIGHT))
    y = _Scale(plot.y, y_ends, (top + plot.height, top))
    below, ticks = _ticks_below(plot.x, x)
    height = top + plot.height + below + (_TITLE if plot.x.title else 0)
    parts = [_grid(plot, x, y, ticks, labels), *(_cells(c, x, y) for c in [plot.cells] if c)]
    parts += [_shape(shape, x, y) for shape in plot.shapes]
    parts += [_trace(trace, x, y) for trace in plot.traces]
    parts.append(_axis_titles(plot, left, height))
    scales = escape(json.dumps([x.note(), y.note()], ensure_ascii=False))
    return Markup(
        '<div class="plot"{}>\n<p class="plot-title">{}</p>\n'
        '<svg viewBox="0 0 {} {}" data-scales="{}">\n{}</svg>\n</div>\n'
    ).format(
        Markup(_choice({plot.choice})),
        plot.title,
        WIDTH,
        round(height),
        scales,
        Markup("".join(parts)),
    )


def _choice(numbers: Set[int | None]) -> str:
    """Marks what is seen with one choice only; the first one is made when the page opens."""
    number = next(iter(numbers)) if len(numbers) == 1 else None
    return "" if number is None else f' data-choice="{number}"' + (" hidden" if number else "")


def _most(height: int) -> int:
    return max(2, height // 40)


def _ticks_below(axis: Axis, x: _Scale) -> tuple[float, dict[float, str]]:
    """The units below a plot, and the labels of the x axis."""
    ticks = x.ticks(6)
    longest = max([len(text) for text in ticks.values()], default=0)
    if not axis.tilted:
        return (_BELOW if ticks else 6), ticks
    return 16 + _LETTER * longest * 0.6, ticks


def _grid(
    plot: Plot, x: _Scale, y: _Scale, below: Mapping[float, str], beside: Mapping[float, str]
) -> str:
    (left, right), (bottom, top) = x.units, y.units
    down = "".join(f"M{_u(x(v))} {_u(top)}V{_u(bottom)}" for v in below)
    across = "".join(f"M{_u(left)} {_u(y(v))}H{_u(right)}" for v in beside)
    frame = f"M{_u(left)} {_u(top)}V{_u(bottom)}H{_u(right)}"
    words = [
        f'<text x="{_u(left - 5)}" y="{_u(y(v) + 4)}" text-anchor="end">{escape(text)}</text>'
        for v, text in beside.items()
    ]
    for v, text in below.items():
        place = f'x="{_u(x(v))}" y="{_u(bottom + 16)}"'
        turn = f' transform="rotate(-35 {_u(x(v))} {_u(bottom + 12)})"' if plot.x.tilted else ""
        anchor = "end" if plot.x.tilted else "middle"
        words.append(f'<text {place} text-anchor="{anchor}"{turn}>{escape(text)}</text>')
    return f'<path class="grid" d="{down}{across}"/><path class="frame" d="{frame}"/>\n' + (
        "".join(words) + "\n"
    )


def _axis_titles(plot: Plot, left: float, height: float) -> str:
    found = ""
    if plot.y.title:
        found += f'<text class="axis" x="2" y="12">{escape(plot.y.title)}</text>'
    if plot.x.title:
        middle = _u((left + WIDTH - _RIGHT) / 2)
        place = f'x="{middle}" y="{_u(height - 4)}" text-anchor="middle"'
        found += f'<text class="axis" {place}>{escape(plot.x.title)}</text>'
    return found and found + "\n"


def _cells(cells: PlotCells, x: _Scale, y: _Scale) -> str:
    """One path for the cells of each shade, and a number in each."""
    width, height = abs(x(1) - x(0)), abs(y(1) - y(0))
    paths: dict[int, list[str]] = {}
    words = []
    for row, shades in enumerate(cells.shades):
        for column, shade in enumerate(shades):
            step = shade_step(shade)
            if not step:
                continue
            corner = f"M{_u(x(column) - width / 2)} {_u(y(row) - height / 2)}"
            paths.setdefault(step, []).append(f"{corner}h{_u(width)}v{_u(height)}h-{_u(width)}z")
            if cells.texts:
                place = f'x="{_u(x(column))}" y="{_u(y(row) + 4)}"'
                words.append(f"<text {place}>{escape(cells.texts[row][column])}</text>")
    drawn = "".join(
        f'<path class="{cell_class(step)}" d="{"".join(own)}"/>' for step, own in paths.items()
    )
    return f'<g class="cells {cells.palette}">{drawn}{"".join(words)}</g>\n'


def _shape(shape: PlotShape, x: _Scale, y: _Scale) -> str:
    x0, x1 = (_end(v, x, i) for i, v in enumerate(shape.x))
    y0, y1 = (_end(v, y, i) for i, v in enumerate(shape.y))
    words = ""
    if shape.text:
        words = _beside((x0 + x1) / 2, min(y0, y1) + 10, shape.text, 3)
    if x0 == x1 or y0 == y1:
        return _stroke(f"M{_u(x0)} {_u(y0)}L{_u(x1)} {_u(y1)}", shape.style) + words + "\n"
    box = f"M{_u(x0)} {_u(y0)}H{_u(x1)}V{_u(y1)}H{_u(x0)}z"
    if shape.style.dash:
        return _stroke(box, shape.style) + words + "\n"
    look = f'fill="{shape.style.colour}" opacity="{shape.style.opacity:g}"'
    return f'<path {look} d="{box}"/>{words}\n'


def _end(value: float | None, scale: _Scale, number: int) -> float:
    """The place of a shape's end; that of the plot's where it is None, and never beyond it."""
    if value is None:
        return scale.units[number]
    low, high = sorted(scale.units)
    return min(max(scale(value), low), high)


def _trace(trace: PlotTrace, x: _Scale, y: _Scale) -> str:
    style, runs = trace.style, _runs(trace, x, y)
    if trace.kind == "area":
        shape = "".join(f"{_path(_thinned(run))}z" for run in runs)
        return f'<path fill="{style.colour}" opacity="{style.opacity:g}" d="{shape}"/>\n'
    points = [point for run in runs for point in run]
    drawn = _bars(trace, x, y)
    if style.dash:
        lines = [_stepped(run) if trace.kind == "steps" else run for run in runs]
        # A mark on each point and words for each point need all of them.
        thin = not style.symbol and not trace.texts
        drawn += _stroke("".join(_path(_thinned(r) if thin else r) for r in lines), style)
    if style.symbol:
        drawn += _marks(points, style)
    drawn += _labels(trace, points)
    texts = ""
    if trace.texts:
        told = [trace.texts[i] for i, _, _ in trace.points()]
        texts = f' data-texts="{escape(json.dumps(told, ensure_ascii=False))}"'
    return f'<g data-name="{escape(trace.name)}"{texts}>{drawn}</g>\n'


def _labels(trace: PlotTrace, points: Sequence[tuple[float, float]]) -> str:
    """What is written beside marks, or in their place."""
    found = ""
    for text, (px, py) in zip(trace.labels, points, strict=False):
        if not trace.style.symbol:
            place = f'x="{_u(px)}" y="{_u(py + 4)}"'
            found += f'<text class="word" {place}>{escape(text)}</text>'
            continue
        found += _beside(px, py - 5, text, 8)  # above a line that leaves the mark
    return found


def _beside(px: float, py: float, text: str, gap: float) -> str:
    """A text to the right of a place; to its left where the drawing ends."""
    right = px + gap + _LETTER * len(text) < WIDTH
    place = f'x="{_u(px + gap if right else px - gap)}" y="{_u(py)}"'
    anchor = "" if right else ' text-anchor="end"'
    return f'<text class="label" {place}{anchor}>{escape(text)}</text>'


def _runs(trace: PlotTrace, x: _Scale, y: _Scale) -> list[list[tuple[float, float]]]:
    """Places of the points, in runs without a gap."""
    runs: list[list[tuple[float, float]]] = []
    last = -2
    for i, px, py in trace.points():
        if i != last + 1:
            runs.append([])
        runs[-1].append((x(px), y(py)))
        last = i
    return runs


def _stepped(run: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    found = list(run[:1])
    for (_, before), (px, py) in pairwise(run):
        found += [(px, before), (px, py)]
    return found


def _thinned(run: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that a line needs; all others stray by less than _SLACK units.

    Douglas and Peucker (1973).
    """
    keep, open_spans = {0, len(run) - 1}, [(0, len(run) - 1)]
    while open_spans:
        first, last = open_spans.pop()
        (x0, y0), (x1, y1) = run[first], run[last]
        length = math.hypot(x1 - x0, y1 - y0)
        far, where = _SLACK, -1
        for i in range(first + 1, last):
            px, py = run[i][0] - x0, run[i][1] - y0
            off = abs(px * (y1 - y0) - py * (x1 - x0)) / length if length else math.hypot(px, py)
            if off > far:
                far, where = off, i
        if where >= 0:
            keep.add(where)
            open_spans += [(first, where), (where, last)]
    return [run[i] for i in sorted(keep)]


def _path(run: Sequence[tuple[float, float]]) -> str:
    return "".join(f"{'L' if i else 'M'}{_u(px)} {_u(py)}" for i, (px, py) in enumerate(run))


def _stroke(path: str, style: Style) -> str:
    dash = _DASHES[style.dash]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    width = "" if style.width == 2 else f' style="stroke-width:{style.width:g}"'
    return f'<path class="line" stroke="{style.colour}"{width}{dashed} d="{path}"/>'


def _marks(points: Sequence[tuple[float, float]], style: Style) -> str:
    shape, stroked = mark_path(style.symbol, style.size / 2)
    path = "".join(f"M{_u(px)} {_u(py)}{shape}" for px, py in points)
    paint = f'class="dots" stroke="{style.colour}"' if stroked else f'fill="{style.colour}"'
    if shape == "h0":  # a round line end
        paint += f' style="stroke-width:{style.size:g}"'
    faint = f' opacity="{style.opacity:g}"' if style.opacity < 1 else ""
    return f'<path {paint}{faint} d="{path}"/>'


def _bars(trace: PlotTrace, x: _Scale, y: _Scale) -> str:
    if not trace.low:
        return ""
    path = ""
    for (_, px, py), low, high in zip(trace.points(), trace.low, trace.high, strict=True):
        if trace.bars == "x":
            path += f"M{_u(x(low))} {_u(y(py))}H{_u(x(high))}"
        else:
            path += f"M{_u(x(px))} {_u(y(low))}V{_u(y(high))}"
    return f'<path class="line bar" stroke="{trace.style.colour}" d="{path}"/>'


def _u(value: float) -> str:
    """A place to a tenth of a unit."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text
