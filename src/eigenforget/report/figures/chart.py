"""A figure of a page: how it is drawn, what it shows in words, and what it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
import plotly.io
from markupsafe import Markup

from eigenforget.record import RunRecord


@dataclass(frozen=True)
class DrawnChart:
    """A chart as the template takes it; sizes in pixels."""

    id: str
    title: str
    caption: str
    alt: str
    height: int
    least_width: int
    choices: Sequence[str]
    json: Markup


@dataclass(frozen=True)
class Chart:
    """A figure of a page.

    Attributes:
        id: Its name in the page.
        figure: Makes the figure of evaluate records.
        title: The heading.
        caption: How to read it.
        series: The series of a record that it shows; "" where it reads scores.
        takes: Whether records hold what it needs; None asks for the series.
        hint: How to come by what is missing.
    """

    id: str
    figure: Callable[[Sequence[RunRecord]], go.Figure]
    title: str
    caption: str
    series: str = ""
    takes: Callable[[Sequence[RunRecord]], bool] | None = None
    hint: str = ""

    def applies(self, records: Sequence[RunRecord]) -> bool:
        """Whether the records hold what the figure needs."""
        if self.takes is not None:
            return self.takes(records)
        return any(r.series.get(self.series) for r in records)

    def absence(self) -> str:
        """Why the figure is left out, in one line."""
        what = "the records do not hold what it needs"
        if self.takes is None:
            what = f"no record has the series “{self.series}”"
        return f"“{self.title}” is left out: {what}.{f' {self.hint}' if self.hint else ''}"

    def draw(self, records: Sequence[RunRecord]) -> DrawnChart:
        """The figure of these records, ready for a page.

        Raises:
            RecordError: The records lack what it needs, or a series is malformed.
        """
        figure = self.figure(records)
        names = ", ".join(r.name for r in records if not self.series or r.series.get(self.series))
        meta = figure.layout.meta or {}
        return DrawnChart(
            self.id,
            self.title,
            self.caption,
            f"Chart: {self.title}. Models: {names}. {self.caption}",
            int(figure.layout.height),
            int(meta.get("least_width", 0)),
            [choice["label"] for choice in meta.get("choices", ())],
            # The plain engine, so that the bytes do not depend on whether a faster one is
            # installed. It escapes < and >.
            Markup(plotly.io.to_json(figure, engine="json")),
        )
