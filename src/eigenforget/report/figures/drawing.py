"""What a figure holds, before it is written as SVG or HTML: plots with axes, traces and shapes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from eigenforget.report.figures.style import Style


@dataclass(frozen=True)
class Axis:
    """An axis of a plot.

    Attributes:
        title: What it shows, with its unit.
        log: Whether it is logarithmic.
        range: Its ends; the higher one first turns it round. None: from the data.
        ticks: Labels by their places; empty for none, None for round numbers.
        percent: Whether numbers are written as percentages.
        tilted: Whether the labels of `ticks` are long and stand aslant.
        from_zero: Whether it starts at 0 where `range` is None.
        whole: Whether it counts something, so that only whole numbers are written.
        reads: What a reader's pointer calls its values, such as "k"; "" for the bare value.
    """

    title: str = ""
    log: bool = False
    range: tuple[float, float] | None = None
    ticks: Mapping[float, str] | None = None
    percent: bool = False
    tilted: bool = False
    from_zero: bool = False
    whole: bool = False
    reads: str = ""


@dataclass(frozen=True)
class PlotTrace:
    """Points of a plot, joined by a line or marked or both; x and y have the same length.

    Attributes:
        name: What it is called in the legend and by a reader's pointer.
        x: Places along x; None breaks the line.
        y: Places along y; None breaks the line.
        style: Its line and its marks.
        kind: "line"; "steps", a line that holds its value up to the next point; "area", the inside
            of a line that closes.
        listed: Whether the legend has it.
        low: Lower ends of error bars, as places; empty for none.
        high: Upper ends of these.
        bars: The axis that error bars lie along.
        texts: For each point what a reader's pointer says in place of its coordinates.
        labels: For each point what is written beside it.
    """

    name: str
    x: Sequence[float | None]
    y: Sequence[float | None]
    style: Style
    kind: str = "line"
    listed: bool = True
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    bars: str = "x"
    texts: Sequence[str] = ()
    labels: Sequence[str] = ()

    def points(self) -> Iterator[tuple[int, float, float]]:
        """Number and place of each point that has one."""
        for i, (x, y) in enumerate(zip(self.x, self.y, strict=True)):
            if x is not None and y is not None and math.isfinite(x) and math.isfinite(y):
                yield i, x, y


@dataclass(frozen=True)
class PlotShape:
    """A rectangle of a plot behind its traces; an end of None is that of the plot.

    Equal ends make a line. `text` stands at its top.
    """

    x: tuple[float | None, float | None]
    y: tuple[float | None, float | None]
    style: Style
    text: str = ""


@dataclass(frozen=True)
class PlotCells:
    """Cells of a plot, a row for each class; `shades` run from 0 to 1, None is empty."""

    shades: Sequence[Sequence[float | None]]
    palette: str
    texts: Sequence[Sequence[str]] = ()


@dataclass
class Plot:
    """One plot.

    Attributes:
        title: Above it.
        height: Of its inside, in units of which its whole width has 400.
        choice: The number of the choice that shows it; None: every one.
        x: The axis along x.
        y: The axis along y.
        traces: In the order in which they are drawn.
        shapes: What lies behind them.
        cells: What lies behind all.
    """

    title: str
    height: int
    choice: int | None = None
    x: Axis = field(default_factory=Axis)
    y: Axis = field(default_factory=Axis)
    traces: list[PlotTrace] = field(default_factory=list)
    shapes: list[PlotShape] = field(default_factory=list)
    cells: PlotCells | None = None


@dataclass(frozen=True)
class Figure:
    """Plots beside each other, as many in a line as the screen has room for.

    Attributes:
        plots: The plots.
        columns: How many stand in a line at most.
        choices: Labels of what the reader may choose to see; empty for no choice.
    """

    plots: Sequence[Plot]
    columns: int
    choices: Sequence[str] = ()


@dataclass(frozen=True)
class HeatMap:
    """A table of coloured cells.

    Attributes:
        columns: Names above.
        rows: Names beside.
        texts: What the cells say.
        steps: Their shades: whole numbers of the palette, None for an empty cell.
        palette: Name of the palette, one of palettes.PALETTES.
    """

    columns: Sequence[str]
    rows: Sequence[str]
    texts: Sequence[Sequence[str]]
    steps: Sequence[Sequence[int | None]]
    palette: str
