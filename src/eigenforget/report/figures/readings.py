"""What the sentences above figures share: the order of models, and values of models in a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from eigenforget.core.text import joined
from eigenforget.record import RunRecord
from eigenforget.report.table import Cell, Row, Table, build, number, remembered
from eigenforget.report.verdict import verdicts

_MOST_NAMED = 3
"""Unlearned models and controls that a sentence names."""


@remembered
def judged_first(records: Sequence[RunRecord]) -> tuple[RunRecord, ...]:
    """Unlearned models, then controls; those that are like a retrained model first."""
    alike = {v.model for v in verdicts(build(records)) if v.slug == "like-retrained"}
    judged = [r for r in records if r.role in ("unlearned", "control")]
    return tuple(sorted(judged, key=lambda r: (r.role == "control", r.name not in alike)))


def beside(
    records: Sequence[RunRecord],
    values: Mapping[str, float],
    written: Callable[[float], str] = number,
) -> str:
    """The values as in "0.6 in the original, 0.97 in retrained models and 0.99 in muda".

    Originals and retrained models stand with their means, then the first judged models that have a
    value.

    Args:
        records: Evaluate records.
        values: By name of the model.
        written: How a value is written.
    """
    parts = []
    for role, words in (("original", "the original"), ("oracle", "retrained models")):
        own = [values[r.name] for r in records if r.role == role and r.name in values]
        if own:
            who = "the retrained model" if role == "oracle" and len(own) == 1 else words
            parts.append(f"{written(fmean(own))} in {who}")
    judged = [r for r in judged_first(records) if r.name in values][:_MOST_NAMED]
    return joined([*parts, *(f"{written(values[r.name])} in {r.name}" for r in judged)])


def shares_in_band(table: Table, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """For each unlearned model and control how many of these scores are in the band, of how many.

    What a method trains on is left out.
    """
    found = {}
    for row in table.of_role("unlearned", "control"):
        cells = [cell for name in names if (cell := counted_cell(row, name)) is not None]
        if cells:
            found[row.model] = (sum(c.verdict == "in" for c in cells), len(cells))
    return found


def counted_cell(row: Row, name: str) -> Cell | None:
    """The cell where it has a band and the method does not train on it."""
    cell = row.cells.get(name)
    counts = cell is not None and cell.units is not None and name not in row.optimises
    return cell if counts else None


def band_sentence(table: Table, names: Sequence[str], what: str) -> str:
    """How many of these scores are in the band, for the models with the most and the fewest."""
    found = shares_in_band(table, names)
    order = sorted(found, key=lambda model: -found[model][0] / found[model][1])
    if not order:
        return ""
    first, *others = (f"{model} ({found[model][0]} of {found[model][1]})" for model in order)
    if not others:
        return f"{what} in the retrained models' band: {first}."
    return f"{what} in the retrained models' band: most in {first}, fewest in {others[-1]}."
