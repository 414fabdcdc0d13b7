"""A figure of a page: how it is drawn, what it says in words, and what it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from eigenforget.record import RunRecord
from eigenforget.report.figures.drawing import Figure, HeatMap
from eigenforget.report.figures.render import rendered


@dataclass(frozen=True)
class DrawnChart:
    """A chart as the template takes it."""

    id: str
    title: str
    reading: str
    caption: str
    choices: Sequence[str]
    html: Markup


def drawn_chart(
    figure: Figure | HeatMap, *, id: str, title: str, reading: str, caption: str, models: str = ""
) -> DrawnChart:
    """A figure with its words, ready for a page.

    Args:
        figure: The figure.
        id: Its name in the page.
        title: The heading.
        reading: What it shows, in a sentence; "" where it shows nothing to say.
        caption: How to read it.
        models: The names of the models that it shows, for those who cannot see it.
    """
    sentences = (f"{title}{'' if title.endswith('?') else '.'}", models, caption)
    words = " ".join(filter(None, sentences))
    choices = () if isinstance(figure, HeatMap) else figure.choices
    return DrawnChart(id, title, reading, caption, choices, rendered(figure, f"Chart: {words}"))


@dataclass(frozen=True)
class Chart:
    """A figure of a page.

    Attributes:
        id: Its name in the page.
        figure: Makes the figure of evaluate records.
        title: The heading.
        caption: How to read it.
        reading: What these records show, in a sentence; "" where they show nothing to say.
        series: The series of a record that it shows; "" where it reads scores.
        takes: Whether records hold what it needs; None asks for the series.
        hint: How to come by what is missing.
    """

    id: str
    figure: Callable[[Sequence[RunRecord]], Figure | HeatMap]
    title: str
    caption: str
    reading: Callable[[Sequence[RunRecord]], str]
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
        return drawn_chart(
            figure,
            id=self.id,
            title=self.title,
            reading=self.reading(records),
            caption=self.caption,
            models=f"Models: {names}.",
        )
