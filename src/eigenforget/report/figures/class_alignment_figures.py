"""Where the forget set went: its energy in the subspace of each retained class."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from eigenforget.record import RunRecord
from eigenforget.report.figures import series
from eigenforget.report.figures.chart import Chart
from eigenforget.report.figures.drawing import Axis, Figure
from eigenforget.report.figures.maps import map_models
from eigenforget.report.figures.panels import Panels
from eigenforget.report.figures.style import HINT, ORIGINAL, RETRAINED, Style, shown, styles
from eigenforget.report.table import number

_MOST_CLASSES = 12  # of more, those that hold the most of the forget set in some model
_SERIES = "class_alignment"


class ClassShares(NamedTuple):
    """Shares of the forget set's energy by class, of each kind of model.

    Attributes:
        classes: The classes that are shown, first those that hold most in retrained models.
        original: Of the original; empty without one.
        retrained: Of each retrained model.
        judged: Of each unlearned model and control, by name.
    """

    classes: list[str]
    original: dict[str, float]
    retrained: list[dict[str, float]]
    judged: dict[str, dict[str, float]]

    def mean(self, label: str) -> float:
        """Mean of the retrained models; 0 where none has the class."""
        return fmean([shares[label] for shares in self.retrained if label in shares] or [0.0])


def class_shares(records: Sequence[RunRecord]) -> ClassShares:
    """The shares of all models with the series class_alignment.

    Raises:
        RecordError: No record has it, or one is malformed.
    """
    before, judged, _ = map_models(records, _SERIES)
    known = {
        r.name: {label: v for label, v in series.read_class_alignment(r).items() if v is not None}
        for r in series.having(records, _SERIES)
    }
    found = ClassShares(
        [],
        known[before[0].name] if before else {},
        [known[r.name] for r in records if r.role == "oracle" and r.name in known],
        {r.name: known[r.name] for r in judged},
    )
    every = sorted({label for shares in known.values() for label in shares}, key=series.natural)
    most = {label: max(shares.get(label, 0.0) for shares in known.values()) for label in every}
    shown_ones = sorted(every, key=lambda label: -most[label])[:_MOST_CLASSES]
    order = sorted(shown_ones, key=lambda label: (-found.mean(label), series.natural(label)))
    return found._replace(classes=order)


def class_alignment_figure(records: Sequence[RunRecord]) -> Figure:
    """A line for each retained class, with the original, a judged model and the retrained models.

    The reader chooses the unlearned model or control.

    Raises:
        RecordError: No record has the series class_alignment, or one is malformed.
    """
    found, looks = class_shares(records), styles(records)
    rows = {label: float(y) for y, label in enumerate(found.classes)}
    choices = {name: shown(name, 60) for name in found.judged}
    panels = Panels([""], height=24 * len(rows) + 8, columns=1, choices=choices)
    retrained = [label for label in rows if any(label in shares for shares in found.retrained)]
    ends = [[s[label] for s in found.retrained if label in s] for label in retrained]
    for name, shares in found.judged.items():
        for label in (c for c in rows if c in shares and c in found.original):
            way, places = [found.original[label], shares[label]], [rows[label]] * 2
            panels.add(0, "way", (way, places), HINT, choice=name, listed=False)
    panels.add(
        0,
        "retrained models",
        ([found.mean(label) for label in retrained], [rows[label] for label in retrained]),
        RETRAINED.marks(11),
        low=[min(values) for values in ends],
        high=[max(values) for values in ends],
        texts=[_told("retrained models", label, found.mean(label)) for label in retrained],
    )
    _add(panels, "original", found.original, rows, ORIGINAL.marks(10))
    for name, shares in found.judged.items():
        _add(panels, name, shares, rows, looks[name].marks(11), choice=name)
    across = Axis("share of the forget set's energy", from_zero=True)
    names = {y: f"class {shown(label, 14)}" for label, y in rows.items()}
    panels.axes(0, across, Axis(range=(len(rows) - 0.5, -0.5), ticks=names))
    return panels.figure()


def class_alignment_reading(records: Sequence[RunRecord]) -> str:
    """Where the forget set lies mostly, in retrained models and in the first judged one."""
    found = class_shares(records)
    told = []
    if found.retrained:
        first = found.classes[0]
        told.append(
            f"In retrained models the forget set lies mostly along class {first}:"
            f" {number(found.mean(first))} of its energy"
            + (f", {number(found.original[first])} in the original." if found.original else ".")
        )
    for name, shares in list(found.judged.items())[:1]:
        if shares:
            most = max(shares, key=shares.__getitem__)
            what = "it" if told else "the forget set"
            told.append(f"In {name} {what} lies mostly along class {most}: {number(shares[most])}.")
    return " ".join(told)


def _add(
    panels: Panels,
    name: str,
    shares: dict[str, float],
    rows: dict[str, float],
    style: Style,
    *,
    choice: str = "",
) -> None:
    own = [label for label in rows if label in shares]
    places = [shares[label] for label in own], [rows[label] for label in own]
    texts = [_told(name, label, shares[label]) for label in own]
    panels.add(0, name, places, style, choice=choice, texts=texts)


def _told(name: str, label: str, share: float) -> str:
    return f"{shown(name)}, class {shown(label, 14)}: {number(share)}"


CLASS_ALIGNMENT_CHART = Chart(
    "class-alignment",
    class_alignment_figure,
    "Where the forget set went",
    "For each retained class, the share of the forget set's energy in that class's main direction."
    " To forget like a retrained model is to move from the grey diamond to the green cross. Bars"
    " run from the lowest to the highest retrained model.",
    class_alignment_reading,
    series=_SERIES,
    hint="Evaluate again to have it.",
)
