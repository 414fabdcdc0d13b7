"""Makes figures of several plots, a trace at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from eigenforget.report.figures.drawing import Axis, Figure, Plot, PlotCells, PlotShape, PlotTrace
from eigenforget.report.figures.style import HINT, Style, shown

_NAME = 44  # letters of a name in a legend


class Panels:
    """Plots with these titles; what belongs to a choice is seen only when the reader makes it."""

    def __init__(
        self,
        titles: Sequence[str],
        *,
        height: int,
        columns: int,
        choices: Mapping[str, str] | None = None,
    ) -> None:
        """Empty plots.

        Args:
            titles: Their titles.
            height: Height of a plot, in units of which its width has 400.
            columns: How many stand side by side on a wide screen.
            choices: The labels of the choices by their names; the first one is seen at first.
        """
        self._columns, self._choices = min(columns, len(titles)), dict(choices or {})
        several = len(self._choices) > 1
        count: Sequence[int | None] = range(len(self._choices)) if several else (None,)
        self._plots = [[Plot(title, height, choice) for title in titles] for choice in count]

    def add(
        self,
        panel: int,
        name: str,
        points: tuple[Iterable[Any], Iterable[Any]],
        style: Style,
        *,
        choice: str = "",
        **trace: Any,
    ) -> None:
        """Draws a trace.

        Args:
            panel: The plot's number, from 0.
            name: Of the trace; it is cut.
            points: Places along x and along y.
            style: Its line and marks.
            choice: The choice that it belongs to; "" for all.
            trace: Further fields of PlotTrace.
        """
        x, y = map(tuple, points)
        for plot in self._of(panel, choice):
            plot.traces.append(PlotTrace(shown(name, _NAME), x, y, style, **trace))

    def cells(self, panel: int, cells: PlotCells) -> None:
        """Puts cells behind all else."""
        for plot in self._of(panel):
            plot.cells = cells

    def axes(self, panel: int, x: Axis, y: Axis, *, choice: str = "") -> None:
        """Sets both axes, of one choice or of all."""
        for plot in self._of(panel, choice):
            plot.x, plot.y = x, y

    def title(self, panel: int, title: str, *, choice: str = "") -> None:
        """Names a plot, of one choice or of all."""
        for plot in self._of(panel, choice):
            plot.title = title

    def shape(self, panel: int, shape: PlotShape) -> None:
        """Draws a shape behind the traces."""
        for plot in self._of(panel):
            plot.shapes.append(shape)

    def mark(self, panel: int, x: float, text: str, style: Style = HINT) -> None:
        """A line at this place of the x axis, with a text at its top."""
        self.shape(panel, PlotShape((x, x), (None, None), style, text))

    def figure(self) -> Figure:
        """The figure; what is the same for every choice is there once."""
        first, *others = self._plots
        plots: list[Plot] = []
        for i, plot in enumerate(first):
            every = [plot, *(other[i] for other in others)]
            same = all(replace(p, choice=None) == replace(plot, choice=None) for p in every)
            plots += [replace(plot, choice=None)] if same else every
        return Figure(plots, self._columns, tuple(self._choices.values()) if others else ())

    def _of(self, panel: int, choice: str = "") -> list[Plot]:
        number = list(self._choices).index(choice) if choice and len(self._plots) > 1 else None
        return [
            plots[panel] for i, plots in enumerate(self._plots) if number is None or i == number
        ]
