"""Figures of several panels that fold on narrow screens and on paper, and heat maps.

The page's script applies the changes of layout that are kept in `layout.meta`: one set for wide,
medium and narrow screens, and one for paper.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from eigenforget.report.figures.style import GREY, GRID_LINES, INK, shown

PAPER = 840
"""Pixels of height that a page of A4 or Letter has for a chart, beside its title and caption."""

NUMBER_WIDTH = 42
"""Pixels that a number in a cell of a heat map needs."""

_FONT, _FONT_ON_PAPER, _COLUMNS_ON_PAPER = 13, 10, 5
_MARGINS = {"l": 48, "r": 16, "t": 40, "b": 48}
_GAP = 64  # pixels between rows of panels: the title of the next row and the ticks of this one
_LEGEND_LINE, _LEGEND_ENTRY = 30, 180  # pixels of a line, and of an entry with a long name
_SCREEN = {"wide": 3, "medium": 2, "narrow": 1}  # columns of 300 pixels that a screen has room for
_BESIDE, _AROUND = 260, 170  # pixels beside a heat map for its names, and for what is above it


class Panels:
    """A figure with one panel for each title, in a grid that plotly's make_subplots lays out.

    A model's traces share one legend entry. Traces may belong to choices; the page shows a list of
    these that works with keys, and the first choice is drawn.
    """

    def __init__(
        self,
        titles: Sequence[str],
        *,
        height: int,
        columns: int,
        gap: int = _GAP,
        choices: Mapping[str, str] | None = None,
        legend_entry: int = _LEGEND_ENTRY,
        shared_labels: bool = False,
    ) -> None:
        """An empty figure.

        Args:
            titles: The panels' titles, as plotly text.
            height: Height of a panel, in pixels.
            columns: Columns on a wide screen.
            gap: Pixels between two rows of panels.
            choices: The labels of the choices by their names.
            legend_entry: Pixels that an entry of the legend takes at most.
            shared_labels: Whether only the first column shows the labels of its y axis.
        """
        self._total, self._height, self._gap = len(titles), height, gap
        self._columns, self._shared_labels = min(columns, len(titles)), shared_labels
        self._choices, self._legend_entry = dict(choices or {"": ""}), legend_entry
        self._of: list[str] = []
        self._listed: set[tuple[str, str]] = set()
        self._figure = _dressed(self._grid(self._columns, height))
        corner = {"x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "yshift": 4}
        for i, title in enumerate(titles):
            if title:
                text = {"text": f"<b>{title}</b>", "showarrow": False, **corner}
                self._figure.add_annotation(**text, **self._domain(i))

    def add(
        self,
        panel: int,
        name: str = "",
        *,
        group: str = "",
        choice: str = "",
        listed: bool = True,
        **trace: Any,
    ) -> None:
        """Draws a scatter trace.

        Args:
            panel: The panel's number, from 0.
            name: The entry of the legend, as plotly text; "" for none.
            group: What shares this entry; by default what has the same name.
            choice: The choice that the trace belongs to.
            listed: Whether the trace may stand for its group in the legend.
            trace: plotly's fields of the trace.
        """
        group = group or name
        listed = listed and bool(group) and (choice, group) not in self._listed
        if listed:
            self._listed.add((choice, group))
        self._of.append(choice)
        own = {"name": name, "legendgroup": group} if group else {}
        first = next(iter(self._choices))
        visible = {"visible": choice == first} if len(self._choices) > 1 else {}
        scatter = go.Scatter(showlegend=listed, **{**own, **visible, **trace})
        self._figure.add_trace(scatter, **self._place(panel))

    def model(
        self,
        panel: int,
        model: str,
        points: tuple[Iterable[Any], Iterable[Any]],
        hover: str,
        **trace: Any,
    ) -> None:
        """Draws a model's line, with markers where it has these, under its name in the legend."""
        mode = "lines+markers" if "marker" in trace else "lines"
        x, y = map(list, points)
        look = {"mode": mode, "hovertemplate": hover, **trace}
        self.add(panel, shown(model), group=model, x=x, y=y, **look)

    def cells(self, panel: int, trace: go.Heatmap) -> None:
        """Draws a heat map."""
        self._figure.add_trace(trace, **self._place(panel))

    def axes(self, panel: int, x: dict[str, Any], y: dict[str, Any]) -> None:
        """Sets plotly's fields of the panel's axes."""
        self._figure.update_xaxes(x, **self._place(panel))
        self._figure.update_yaxes(y, **self._place(panel))

    def shape(self, panel: int, *, full_height: bool = False, **shape: Any) -> None:
        """Draws a shape in the panel's coordinates, or over its full height."""
        ends = {"y0": 0, "y1": 1, "yref": "y domain"} if full_height else {}
        self._figure.add_shape(**ends, **shape, **self._place(panel))

    def mark(self, panel: int, x: float, text: str, *, at_top: bool = True, **line: Any) -> None:
        """A dotted line at this place of a logarithmic x axis, with a text at its end."""
        line = {"color": GREY, "dash": "dot", "width": 1.5, **line}
        layer = "below" if at_top else "above"
        self.shape(panel, full_height=True, type="line", x0=x, x1=x, line=line, layer=layer)
        anchor = {"y": 1} if at_top else {"y": 0, "xanchor": "left"}
        place = {**self._place(panel), "yref": "y domain", "yanchor": "bottom", **anchor}
        self._figure.add_annotation(text=text, x=math.log10(x), showarrow=False, **place)

    def figure(self) -> go.Figure:
        """The figure, folded for a wide screen."""
        meta: dict[str, Any] = {
            name: self._fold(min(self._columns, n), screen=n) for name, n in _SCREEN.items()
        }
        meta["paper"] = self._fold_for_paper()
        if len(self._choices) > 1:
            meta["choices"] = [
                {"label": label, "visible": [of == choice for of in self._of]}
                for choice, label in self._choices.items()
            ]
        changes = {name.replace(".", "_"): value for name, value in meta["wide"].items()}
        return self._figure.update_layout(changes, meta=meta)

    def _place(self, panel: int) -> dict[str, int]:
        row, column = divmod(panel, self._columns)
        return {"row": row + 1, "col": column + 1}

    def _domain(self, panel: int) -> dict[str, Any]:
        return {"xref": "x domain", "yref": "y domain", **self._place(panel)}

    def _inner(self, columns: int, height: int) -> int:
        """Pixels from the top of the first row of panels to the end of the last."""
        rows = -(-self._total // columns)
        return rows * height + (rows - 1) * self._gap

    def _grid(self, columns: int, height: int) -> go.Figure:
        rows = -(-self._total // columns)
        cells: list[list[dict[str, Any] | None]] = [
            [{} if r * columns + c < self._total else None for c in range(columns)]
            for r in range(rows)
        ]
        return make_subplots(
            rows,
            columns,
            specs=cells,
            horizontal_spacing=0.06 if columns > 1 else 0,
            vertical_spacing=self._gap / self._inner(columns, height) if rows > 1 else 0,
        )

    def _outer(self, columns: int, height: int, screen: int) -> tuple[int, int]:
        """Height of the figure and of its lower margin, which holds the legend."""
        entries = max([sum(c == choice for c, _ in self._listed) for choice in self._choices])
        lines = -(-entries * self._legend_entry // (screen * 300))
        bottom = _MARGINS["b"] + _LEGEND_LINE * lines + self._gap - _GAP
        return self._inner(columns, height) + _MARGINS["t"] + bottom, bottom

    def _fold(
        self, columns: int, *, screen: int, height: int = 0, font: int = _FONT
    ) -> dict[str, Any]:
        """The changes that put the panels in so many columns, as plotly's relayout() takes them."""
        panel = height or self._height
        whole, bottom = self._outer(columns, panel, screen)
        changes: dict[str, Any] = {
            "height": whole,
            "margin.t": _MARGINS["t"],
            "margin.b": bottom,
            "font.size": font,
        }
        layout = self._grid(columns, panel).layout
        for i in range(self._total):
            number = "" if i == 0 else i + 1
            for axis in (f"xaxis{number}", f"yaxis{number}"):
                changes[f"{axis}.domain"] = list(layout[axis].domain)
            if self._shared_labels:
                changes[f"yaxis{number}.showticklabels"] = i % columns == 0
        return changes

    def _fold_for_paper(self) -> dict[str, Any]:
        """As many columns as a page takes; lower panels where even the most do not fit."""
        most = min(max(self._columns, _COLUMNS_ON_PAPER), self._total)
        height = self._height
        for columns in range(self._columns, most + 1):
            over = self._outer(columns, height, 2)[0] - PAPER
            if over <= 0:
                break
        else:
            rows = -(-self._total // columns)
            height = max(height // 2, height - -(-over // rows))
        return self._fold(columns, screen=2, height=height, font=_FONT_ON_PAPER)


def heat_cells(
    z: Sequence[Sequence[float | None]], span: tuple[float, float], **more: Any
) -> go.Heatmap:
    """Cells with thin lines between them and dark text; `span` are the ends of the colour scale."""
    low, high = span
    text = {"size": 11, "color": INK}
    look = {"showscale": False, "xgap": 1, "ygap": 1, "textfont": text}
    return go.Heatmap(z=z, zmin=low, zmax=high, **{**look, **more})


def heat_map(
    trace: go.Heatmap,
    columns: Sequence[str],
    lines: Sequence[str],
    *,
    line_height: int = 20,
    column_width: int = NUMBER_WIDTH,
    above: int = _AROUND,
) -> go.Figure:
    """A heat map with names beside and above it, which scrolls on narrow screens.

    Its axes count: two names may be the same once they are cut, and plotly would draw the one over
    the other.

    Args:
        trace: The cells.
        columns: Names of the columns; they are cut.
        lines: Names of the lines, as plotly text.
        line_height: Height of a line, in pixels.
        column_width: Least width of a column, in pixels.
        above: Pixels for the margins and the names above.
    """
    height = above + line_height * len(lines)
    screen = {"height": height, "font.size": _FONT}
    paper = {"height": min(height, PAPER), "font.size": _FONT_ON_PAPER}
    meta = {
        "least_width": _BESIDE + column_width * len(columns),
        **dict.fromkeys(_SCREEN, screen),
        "paper": paper,
    }
    figure = _dressed(go.Figure(trace)).update_layout(height=height, meta=meta)
    every = 1 if line_height >= 16 else 2
    labels = {"tickvals": list(range(0, len(lines), every)), "ticktext": list(lines[::every])}
    figure.update_yaxes(**labels, autorange="reversed", automargin=True)
    names = {"tickvals": list(range(len(columns))), "ticktext": [shown(c, 16) for c in columns]}
    return figure.update_xaxes(**names, side="top", automargin=True)


def _dressed(figure: go.Figure) -> go.Figure:
    """The looks of all figures. Text colour is left to the page, which may be light or dark."""
    figure.update_layout(
        template="none",
        margin=_MARGINS,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": _FONT},
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        # Hover boxes and menus keep a white ground in dark mode too, so their text colour is fixed.
        hoverlabel={"font": {"size": 12, "color": INK}, "bgcolor": "#ffffff", "bordercolor": GREY},
    )
    lines = {"gridcolor": GRID_LINES, "zeroline": False, "linecolor": GRID_LINES}
    title = {"font": {"size": 12}, "standoff": 6}
    figure.update_xaxes(lines, title=title)
    figure.update_yaxes(lines, title=title)
    return figure
