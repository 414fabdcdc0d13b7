"""How figures look: colours that colour-blind readers can tell apart, and panels that fold for a
narrow screen.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

from eigenforget.record import RunRecord

# Okabe and Ito's palette (jfly.uni-koeln.de/color), without black and yellow: one vanishes on dark
# paper, one on white.
BLUE, VERMILLION, ORANGE, PURPLE, SKY, GREEN = (
    "#0072B2",
    "#D55E00",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
    "#009E73",
)
GREY = "#888888"
GRID = "rgba(128,128,128,0.25)"
FAINT = "rgba(0,158,115,0.18)"
PANEL_GAP = 64
"""Pixels between rows of panels: the title of the next row and the ticks of this one."""

PAPER = 840
"""Pixels of height that a page of A4 or Letter has for a chart, beside its title and caption."""
_FONT, _FONT_ON_PAPER, _COLUMNS_ON_PAPER = 13, 10, 5

_MODEL_COLOURS = (VERMILLION, BLUE, PURPLE, ORANGE, SKY)
_CLASS_COLOURS = (BLUE, SKY, GREEN, ORANGE, PURPLE, GREY)
_CLASS_SYMBOLS = ("circle", "square", "diamond")
_SYMBOLS = ("circle", "square", "triangle-up", "cross", "star", "hexagon", "triangle-down")
_DASHES = ("solid", "dash", "dashdot", "longdash")
MARGINS = {"l": 48, "r": 16, "t": 40, "b": 48}


class Style(NamedTuple):
    """Colour, marker and line of one model."""

    colour: str
    symbol: str
    dash: str


def styles(records: Sequence[RunRecord]) -> dict[str, Style]:
    """A style per model name: grey for the original, green for retrained models, the palette for
    all others.
    """
    made: dict[str, Style] = {}
    counts = {"original": 0, "oracle": 0, "other": 0}
    for record in records:
        group = record.role if record.role in ("original", "oracle") else "other"
        i = counts[group]
        counts[group] += 1
        colour = {"original": GREY, "oracle": GREEN}.get(
            group, _MODEL_COLOURS[i % len(_MODEL_COLOURS)]
        )
        turn = i // len(_MODEL_COLOURS) if group == "other" else i
        # Controls are dotted: what they lie exactly on, most often the original, shines through.
        dash = "dot" if record.role == "control" else _DASHES[turn % len(_DASHES)]
        symbol = {"original": "diamond", "oracle": "x"}.get(group, _SYMBOLS[i % len(_SYMBOLS)])
        made[record.name] = Style(colour, symbol, dash)
    return made


def class_look(index: int) -> dict[str, Any]:
    """The pale marker of a kept class."""
    symbol = _CLASS_SYMBOLS[index // len(_CLASS_COLOURS) % len(_CLASS_SYMBOLS)]
    return {
        "color": _CLASS_COLOURS[index % len(_CLASS_COLOURS)],
        "symbol": symbol,
        "size": 5,
        "opacity": 0.4,
    }


def shown(name: object, limit: int = 22) -> str:
    """A name as plotly text: markup in it stays text, and long ones are cut in the middle, as names
    often differ at their end.
    """
    text = str(name)
    if len(text) > limit:
        end = (limit - 1) // 2
        text = f"{text[: limit - 1 - end]}…{text[-end:]}"
    return html.escape(text, quote=False)


def axis(letter: str, panel: int) -> str:
    """plotly's name of a panel's axis: x, x2, x3, …"""
    return letter if panel == 0 else f"{letter}{panel + 1}"


def key(letter: str, panel: int) -> str:
    """The layout key of that axis: xaxis, xaxis2, …"""
    return f"{letter}axis" if panel == 0 else f"{letter}axis{panel + 1}"


def dress(fig: go.Figure, *, height: int) -> go.Figure:
    """Common looks. Text colour is left to the page, which knows whether it is light or dark."""
    fig.update_layout(
        template="none",
        height=height,
        margin=MARGINS,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": _FONT},
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        # Hover boxes and menus keep a white ground in dark mode too, so their text colour is fixed.
        hoverlabel={
            "font": {"size": 12, "color": "#111111"},
            "bgcolor": "#ffffff",
            "bordercolor": GREY,
        },
    )
    title = {"font": {"size": 12}, "standoff": 6}
    fig.update_xaxes(gridcolor=GRID, zeroline=False, linecolor=GRID, title=title)
    fig.update_yaxes(gridcolor=GRID, zeroline=False, linecolor=GRID, title=title)
    return fig


def title_panels(fig: go.Figure, titles: Sequence[str]) -> None:
    """Writes each panel's title above it, tied to its axes so that it moves with them."""
    for i, title in enumerate(titles):
        fig.add_annotation(
            text=f"<b>{title}</b>",
            x=0,
            y=1,
            yshift=4,
            showarrow=False,
            xanchor="left",
            yanchor="bottom",
            xref=f"{axis('x', i)} domain",
            yref=f"{axis('y', i)} domain",
        )


class Panels(NamedTuple):
    """`total` panels of `height` pixels, `gap` pixels between their rows, the number of legend
    entries below them.
    """

    total: int
    height: int
    entries: int = 0
    shared_labels: bool = False
    gap: int = PANEL_GAP


def fold(panels: Panels, columns: int, *, screen: int) -> dict[str, Any]:
    """The layout changes that put the panels in so many columns of a screen with room for `screen`,
    as plotly's relayout() takes them.
    """
    columns = min(columns, panels.total)
    rows = -(-panels.total // columns)
    inner = rows * panels.height + (rows - 1) * panels.gap
    gap = 0.06 if columns > 1 else 0.0
    width = (1 - gap * (columns - 1)) / columns
    # A legend entry with a long name takes about 180 pixels, of 300 in a column, and a line of them
    # 30.
    below = 30 * -(-panels.entries * 180 // (screen * 300)) + panels.gap - PANEL_GAP
    changes: dict[str, Any] = {
        "height": inner + MARGINS["t"] + MARGINS["b"] + below,
        "margin.t": MARGINS["t"],
        "margin.b": MARGINS["b"] + below,
        "font.size": _FONT,
    }
    for i in range(panels.total):
        row, column = divmod(i, columns)
        left, top = column * (width + gap), 1 - row * (panels.height + panels.gap) / inner
        changes[f"{key('x', i)}.domain"] = [round(left, 6), round(min(left + width, 1.0), 6)]
        changes[f"{key('y', i)}.domain"] = [
            round(max(top - panels.height / inner, 0.0), 6),
            round(top, 6),
        ]
        if panels.shared_labels:
            changes[f"{key('y', i)}.showticklabels"] = column == 0
    return changes


def with_choices(fig: go.Figure, choices: Mapping[str, Sequence[bool]]) -> go.Figure:
    """Keeps in layout.meta which traces are seen under each name; the page makes a list of them
    that works with keys. The first is drawn.
    """
    made = [{"label": name, "visible": list(seen)} for name, seen in choices.items()]
    return fig.update_layout(
        meta={**(fig.layout.meta or {}), "choices": made if len(made) > 1 else []}
    )


def lay_out(fig: go.Figure, panels: Panels, *, wide: int) -> go.Figure:
    """Sets `wide` columns, and keeps in layout.meta the changes for wide, medium and narrow screens
    and for paper.
    """
    for i in range(panels.total):
        fig.update_layout(
            {key("x", i): {"anchor": axis("y", i)}, key("y", i): {"anchor": axis("x", i)}}
        )
    meta = {
        name: fold(panels, min(wide, n), screen=n)
        for name, n in (("wide", 3), ("medium", 2), ("narrow", 1))
    }
    meta["paper"] = _fold_for_paper(panels, wide)
    return fig.update_layout(
        {name.replace(".", "_"): v for name, v in meta["wide"].items()}, meta=meta
    )


def stand(fig: go.Figure, height: int, *, least_width: int) -> go.Figure:
    """Sets the height of a figure that does not fold, and keeps in layout.meta how wide it must be,
    and what changes on paper.
    """
    screen, paper = (
        {"height": h, "font.size": font}
        for h, font in ((height, _FONT), (min(height, PAPER), _FONT_ON_PAPER))
    )
    meta = {
        "least_width": least_width,
        "wide": screen,
        "medium": screen,
        "narrow": screen,
        "paper": paper,
    }
    return fig.update_layout(height=height, meta=meta)


def _fold_for_paper(panels: Panels, wide: int) -> dict[str, Any]:
    """As many columns as it takes to stay on a page, and where even the most do not, lower panels."""
    for columns in range(wide, max(wide, _COLUMNS_ON_PAPER) + 1):
        changes = fold(panels, columns, screen=2)
        if changes["height"] <= PAPER:
            break
    else:
        rows = -(-panels.total // min(columns, panels.total))
        over = changes["height"] - PAPER
        changes = fold(
            panels._replace(height=max(panels.height // 2, panels.height - -(-over // rows))),
            columns,
            screen=2,
        )
    return changes | {"font.size": _FONT_ON_PAPER}
