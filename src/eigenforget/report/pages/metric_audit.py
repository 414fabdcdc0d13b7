"""What an audit of metrics found, from its records alone: which metric passes retrained models and
catches cheats.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from scipy.stats import binom

from eigenforget.core import bands
from eigenforget.record import RecordError, RunRecord
from eigenforget.report.figures.svg import Line, Shade, heatmap
from eigenforget.report.glossary import GROUPS, group, label
from eigenforget.report.table import Cell, Column, Row, Table, build, in_units, number

PASS_LEVEL = 0.1
"""A metric fails its oracles when as few of them in band would have less than this probability,
were the true share 95 %: at 7 of 9. Not 0.05: of 10 oracles that are each held out of the band of
the others, no three can be outside, whatever their values are."""

_EXPLAINED = (
    "Gaps are in halves of the band in which one more retrained"
    " model lies with 95 %: within ±1 a value is one that a retrained model may have. Each retrained model is held out of the band of the"
    " others once. For the other models: mean gap over training seeds [bootstrap interval over the seeds] (on how many seeds it is out"
    " of the band). A metric is *trusted here* when retrained models pass it, the original is out of the band on every seed, and so is"
    " every control that it was measured on."
)


class Standing(NamedTuple):
    """One kind of model under one metric: the signed gaps in halves of the band and the verdicts,
    one per training seed.
    """

    units: tuple[float, ...]
    verdicts: tuple[str, ...]

    @property
    def outside(self) -> int:
        """On how many seeds it lies out of the band."""
        return sum(v != "in" for v in self.verdicts)

    @property
    def caught(self) -> bool:
        """Out of the band on every seed."""
        return bool(self.verdicts) and self.outside == len(self.verdicts)


class Judgement(NamedTuple):
    """What one metric says of models of which the answer is known. cheats: standing by name; absent
    where it was not measured.
    """

    metric: Column
    band: bands.Band
    oracles: Standing
    original: Standing
    cheats: dict[str, Standing]

    @property
    def passes_oracles(self) -> bool:
        """Whether the held-out oracles lie in the others' band as often as a 95 % band lets one
        expect.
        """
        count = len(self.oracles.verdicts)
        return float(binom.cdf(count - self.oracles.outside, count, 0.95)) >= PASS_LEVEL

    @property
    def conclusion(self) -> str:
        """One of: rejects retrained models; utility; no signal here; weak signal; fooled by …;
        trusted here.

        Of many metrics a few reject retrained models by chance: with 9 oracles 7 in a hundred."""
        if not self.passes_oracles:
            return "rejects retrained models"
        if self.metric.trace == "" and self.metric.better == "higher":
            return "utility: what is kept"
        if self.original.outside == 0:
            return "no signal here"
        if not self.original.caught:
            return "weak signal"
        fooled = [name for name, standing in self.cheats.items() if not standing.caught]
        return f"fooled by {', '.join(fooled)}" if fooled else "trusted here"


def judge(records: Sequence[RunRecord]) -> list[Judgement]:
    """A judgement per score that all oracles have, in the order of the glossary's groups.

    Errors: RecordError without an original or with fewer than 3 oracles.
    """
    table = build(records)
    kinds = _kinds(table)
    if len(kinds.get("oracle", [])) < 3 or "original" not in kinds:
        raise RecordError(
            "an audit of metrics needs records of an original and of at least 3 retrained models"
        )
    found = []
    for column in sorted(table.columns, key=lambda c: GROUPS.index(group(c.name))):
        reference = table.reference.get(column.name)
        standings = {
            kind: _standing([row.cells.get(column.name) for row in rows])
            for kind, rows in kinds.items()
        }
        # Three values of a score that compares pairs have a band; held out of it, each stands
        # beside two, which have none.
        tested = len(standings["oracle"].units) == len(kinds["oracle"])
        complete = tested and reference is not None and reference.models == len(kinds["oracle"])
        if (
            reference is None
            or reference.band is None
            or not complete
            or not standings["original"].units
        ):
            continue
        cheats = {k: s for k, s in standings.items() if k not in ("oracle", "original") and s.units}
        found.append(
            Judgement(column, reference.band, standings["oracle"], standings["original"], cheats)
        )
    return found


def unmeasured(records: Sequence[RunRecord]) -> list[str]:
    """One line per score that was not measured on every oracle, or per control that refused, with
    the reason.
    """
    lines = {
        f"{r.name.partition(' seed ')[0]} {r.outcome.status}: {r.outcome.reason}"
        for r in records
        if r.outcome.status != "ok"
    }
    reasons: dict[str, set[str]] = {}
    for r in records:
        for s in r.scores:
            if s.value is None and r.role in ("oracle", "original"):
                reasons.setdefault(s.reason, set()).add(s.name)
    return sorted(lines) + [
        f"{', '.join(sorted(names))}: {reason}" for reason, names in sorted(reasons.items())
    ]


def markdown(found: Sequence[Judgement]) -> str:
    """The table for a document."""
    names = cheat_names(found)
    head = ["metric", "retrained models", "held out, in band", "original", *names, "conclusion"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for j in found:
        count = len(j.oracles.verdicts)
        cells = [
            f"{label(j.metric.name)} `{j.metric.name}`",
            f"{number(j.band.mean)} ± {number(j.band.half)}",
            f"{count - j.oracles.outside}/{count}",
            _spelled(j.original),
            *(_spelled(j.cheats.get(name)) for name in names),
            j.conclusion,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def page(audits: Mapping[str, Sequence[RunRecord]]) -> str:
    """The document over the requests of one audit.

    Args:
        audits: The records of each request, by the folder of its audit.svg beside the document.
    """
    job = next(iter(audits.values()))[0].job
    specs = (f"{key} `{job[key]['spec']}`" for key in ("data", "model", "recipe"))
    parts = ["# Audit of the metrics\n", f"D{', '.join(specs)[1:]}. {_EXPLAINED}\n"]
    for folder, records in audits.items():
        parts += [
            f"## {title_of(records)}\n",
            f"![]({folder}/audit.svg)\n",
            markdown(judge(records)),
        ]
        notes = [f"- {line}" for line in unmeasured(records)]
        parts += [*(["\nNot measured:\n", *notes] if notes else []), ""]
    return "\n".join(parts)


def title_of(records: Sequence[RunRecord]) -> str:
    """The request, and how many models it was audited with."""
    counts = {
        role: sum(r.role == role and r.outcome.status == "ok" for r in records)
        for role in ("original", "oracle", "control")
    }
    return (
        f"{records[0].job['request']['spec']}: {counts['original']} originals, "
        f"{counts['oracle']} retrained models, {counts['control']} controls"
    )


def cells(found: Judgement, names: Sequence[str]) -> list[str]:
    """Short cells: held-out oracles in band, then the mean gap of the original and of the named
    controls.
    """
    shades = [_shade(s) for s in (found.original, *(found.cheats.get(name) for name in names))]
    count = len(found.oracles.verdicts)
    return [
        f"{count - found.oracles.outside}/{count}",
        *("–" if s is None else s.text for s in shades),
    ]


def draw(found: Sequence[Judgement], title: str) -> str:
    """The figure: metrics by models of which the answer is known, coloured by the mean gap in
    halves of the band.
    """
    names = cheat_names(found)
    lines = []
    for j in found:
        count = len(j.oracles.verdicts)
        held = Shade(f"{count - j.oracles.outside}/{count}", 0.0 if j.passes_oracles else 8.0)
        cells = [held, *(_shade(s) for s in (j.original, *(j.cheats.get(name) for name in names)))]
        lines.append(Line(label(j.metric.name), cells, j.conclusion))
    return heatmap(title, ["held out", "original", *names], lines, after="conclusion")


def table_csv(found: Sequence[Judgement]) -> str:
    """Every judgement as CSV: units and verdicts per training seed, joined by spaces."""
    names = cheat_names(found)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    per_model = [
        f"{name} {what}" for name in ("original", *names) for what in ("units", "verdicts")
    ]
    writer.writerow(
        [
            "metric",
            "oracle_mean",
            "band_half",
            "oracles",
            "oracles_in_band",
            *per_model,
            "conclusion",
        ]
    )
    for j in found:
        count = len(j.oracles.verdicts)
        row: list[object] = [
            j.metric.name,
            repr(j.band.mean),
            repr(j.band.half),
            count,
            count - j.oracles.outside,
        ]
        for s in (j.original, *(j.cheats.get(name) for name in names)):
            row += (
                ["", ""]
                if s is None
                else [" ".join(f"{u:.6g}" for u in s.units), " ".join(s.verdicts)]
            )
        writer.writerow([*row, j.conclusion])
    return text.getvalue()


def cheat_names(found: Iterable[Judgement]) -> list[str]:
    """The controls that any metric was measured on."""
    return list(dict.fromkeys(name for j in found for name in j.cheats))


def _kinds(table: Table) -> dict[str, list[Row]]:
    """Rows by kind: original, oracle, or the name of a control without its training seed."""
    kinds: dict[str, list[Row]] = {}
    for row in table.rows:
        kind = row.role if row.role in ("original", "oracle") else row.model.partition(" seed ")[0]
        kinds.setdefault(kind, []).append(row)
    return kinds


def _standing(cells: Sequence[Cell | None]) -> Standing:
    known = [c for c in cells if c is not None and c.units is not None]
    return Standing(
        tuple(c.units for c in known if c.units is not None), tuple(c.verdict for c in known)
    )


def _spelled(standing: Standing | None) -> str:
    """Mean gap, its interval over training seeds, and on how many seeds it lies out of the band."""
    if standing is None or not standing.units:
        return "–"
    mean = in_units(statistics.fmean(standing.units))
    if len(standing.units) < 2:
        return f"{mean} ({standing.outside}/1 out)"
    low, high = bands.bootstrap_interval(standing.units, seed=0)
    return (
        f"{mean} [{in_units(low)}, {in_units(high)}] ({standing.outside}/{len(standing.units)} out)"
    )


def _shade(standing: Standing | None) -> Shade | None:
    if standing is None or not standing.units:
        return None
    mean = statistics.fmean(standing.units)
    return Shade(in_units(mean), mean)
