"""What an audit of metrics found: which metric passes retrained models and catches cheats."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from eigenforget.core import bands
from eigenforget.record import RecordError, RunRecord
from eigenforget.report.checks import checks
from eigenforget.report.decision import YesNo
from eigenforget.report.escaping import markdown_table
from eigenforget.report.figures.svg import Line, Shade, heatmap
from eigenforget.report.glossary import GROUPS, group, label
from eigenforget.report.table import Column, Row, Table, build, in_units, number
from eigenforget.report.verdict import decision_on

PASS_LEVEL = 0.1
"""A metric fails its oracles when as few of them in band would have less than this probability,
were the true share 95 %: at 7 of 9. Not 0.05: of 10 oracles that are each held out of the band of
the others, no three can be outside, whatever their values are."""

TRUSTED, FOOLED, WRONG_WAY, WEAK, NO_SIGNAL, REJECTS, UTILITY = (
    "trusted here",
    "fooled",
    "wrong way here",
    "weak signal",
    "no signal here",
    "rejects retrained models",
    "utility",
)
"""What follows for a score."""

CHEATS_EXPLAINED = (
    "Models that pass for retrained ones by other means (docs/metrics.md), one answer for each"
    " training seed. A cheat is caught where the verdict says that it did not forget or did not"
    " keep what it should, or where the check of the file finds the original's weights or room"
    " for them."
)
GAPS_EXPLAINED = (
    "Gaps are in half-widths of the band in which one more retrained model lies with 95 %"
    " probability: within ±1 a value is one that a retrained model may have. Each retrained model"
    " is held out of the band of the others once. For the other models: mean gap over training"
    " seeds [bootstrap interval over the seeds] (on how many seeds it is out of the band). A metric"
    " is *trusted here* when retrained models pass it, the original is out of the band on every"
    " seed, and so is every control that it was measured on. It points the *wrong way here* when"
    " it calls the original over-forgotten on every seed."
)


class CheatJudgement(NamedTuple):
    """What is said of one cheat, for each training seed.

    Attributes:
        name: The cheat.
        forgot: Whether it forgot, by the verdict.
        kept: Whether it kept what it should.
        in_file: Whether the check of the file speaks.
    """

    name: str
    forgot: tuple[YesNo, ...]
    kept: tuple[YesNo, ...]
    in_file: tuple[bool, ...]

    @property
    def caught_by(self) -> tuple[str, ...]:
        """What catches it on every seed: "forgot", "kept" or "file"."""
        caught = {
            "forgot": all(answer == "no" for answer in self.forgot),
            "kept": all(answer == "no" for answer in self.kept),
            "file": all(self.in_file),
        }
        return tuple(name for name, is_caught in caught.items() if is_caught)

    @property
    def passes(self) -> bool:
        """Whether on some seed it is called like a retrained model, and its file is clean."""
        answers = zip(self.forgot, self.kept, self.in_file, strict=True)
        return any(of == ("yes", "yes", False) for of in answers)


class GapsOverSeeds(NamedTuple):
    """One kind of model under one metric.

    Attributes:
        units: The signed gap in half-widths of the band, for each training seed.
        verdicts: The verdict, for each training seed.
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

    @property
    def inside(self) -> str:
        """On how many seeds it lies in the band, of how many."""
        count = len(self.verdicts)
        return f"{count - self.outside}/{count}"


class Judgement(NamedTuple):
    """What one metric says of models of which the answer is known.

    Attributes:
        metric: The metric.
        band: The band of all oracles.
        oracles: The oracles, each held out of the band of the others.
        original: The original.
        cheats: The controls by name; absent where the metric was not measured.
    """

    metric: Column
    band: bands.Band
    oracles: GapsOverSeeds
    original: GapsOverSeeds
    cheats: dict[str, GapsOverSeeds]

    @property
    def passes_oracles(self) -> bool:
        """Whether held-out oracles are in the others' band as often as a 95 % band lets expect."""
        count = len(self.oracles.verdicts)
        from scipy.stats import binom

        return float(binom.cdf(count - self.oracles.outside, count, 0.95)) >= PASS_LEVEL

    @property
    def kind(self) -> str:
        """Whether the metric can be trusted here, or what speaks against it.

        Of many metrics a few reject retrained models by chance: with 9 oracles 7 in a hundred.
        """
        if not self.passes_oracles:
            return REJECTS
        if self.metric.trace == "" and self.metric.better == "higher":
            return UTILITY
        if self.original.outside == 0:
            return NO_SIGNAL
        if not self.original.caught:
            return WEAK
        if set(self.original.verdicts) == {"over-forgotten"}:
            return WRONG_WAY
        return FOOLED if self.fooled_by else TRUSTED

    @property
    def fooled_by(self) -> list[str]:
        """The controls that it does not catch."""
        return [name for name, gaps in self.cheats.items() if not gaps.caught]

    @property
    def conclusion(self) -> str:
        """The kind, with the controls that fool the metric."""
        return f"fooled by {', '.join(self.fooled_by)}" if self.kind == FOOLED else self.kind

    def of(self, names: Iterable[str]) -> list[GapsOverSeeds | None]:
        """The original, then the controls of these names."""
        return [self.original, *(self.cheats.get(name) for name in names)]


def judge_metrics(records: Sequence[RunRecord]) -> list[Judgement]:
    """A judgement per score that all oracles have, in the order of the glossary's groups.

    Raises:
        RecordError: There is no original, or there are fewer than 3 oracles.
    """
    table = build(_without_cheats(records))
    kinds = _kinds(table)
    count = len(kinds.get("oracle", []))
    if count < 3 or "original" not in kinds:
        raise RecordError(
            "an audit of metrics needs records of an original and of at least 3 retrained models"
        )
    found = []
    for column in sorted(table.columns, key=lambda c: GROUPS.index(group(c.name, table))):
        retrained = table.oracles.get(column.name)
        gaps = {kind: _gaps(column.name, rows) for kind, rows in kinds.items()}
        oracles, original = gaps.pop("oracle"), gaps.pop("original")
        if retrained is None or retrained.band is None or not original.units:
            continue
        # Three values of a score that compares pairs have a band; each held out of it is beside
        # two, which have none.
        if len(oracles.units) == retrained.models == count:
            cheats = {kind: of for kind, of in gaps.items() if of.units}
            found.append(Judgement(column, retrained.band, oracles, original, cheats))
    return found


def unmeasured(records: Sequence[RunRecord]) -> list[str]:
    """One line per control that refused, and per score that some oracle or original lacks."""
    lines = {
        f"{r.name.partition(' seed ')[0]} {r.outcome.status}: {r.outcome.reason}"
        for r in _without_cheats(records)
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


def audit_rows(found: Sequence[Judgement]) -> list[list[str]]:
    """The judgements as cells, the heads of the columns first."""
    names = cheat_names(found)
    head = ["metric", "retrained models", "held out, in band", "original", *names, "conclusion"]
    return [head] + [
        [
            f"{label(j.metric.name)} `{j.metric.name}`",
            f"{number(j.band.mean)} ± {number(j.band.half)}",
            j.oracles.inside,
            *map(_spelled, j.of(names)),
            j.conclusion,
        ]
        for j in found
    ]


def audit_table(found: Sequence[Judgement]) -> str:
    """The judgements as a markdown table."""
    head, *rows = audit_rows(found)
    return markdown_table(head, rows)


def audit_page(audits: Mapping[str, Sequence[RunRecord]]) -> str:
    """The document over the requests of one audit.

    Args:
        audits: The records of each request, by the folder of its audit.svg beside the document.
    """
    job = next(iter(audits.values()))[0].job
    specs = (f"{key} `{job[key]['spec']}`" for key in ("data", "model", "recipe"))
    parts = ["# Audit of the metrics\n", f"D{', '.join(specs)[1:]}. {GAPS_EXPLAINED}\n"]
    for folder, records in audits.items():
        figure, notes = f"![]({folder}/audit.svg)\n", [f"- {line}" for line in unmeasured(records)]
        parts += [f"## {title_of(records)}\n", figure, audit_table(judge_metrics(records))]
        parts += [*(["\nNot measured:\n", *notes] if notes else []), ""]
        if cheats := judge_cheats(records):
            parts += ["### Cheats\n", f"{CHEATS_EXPLAINED}\n", cheat_table(cheats), ""]
    return "\n".join(parts)


def title_of(records: Sequence[RunRecord]) -> str:
    """The request, and how many models it was audited with."""
    counts = {
        role: sum(r.role == role and r.outcome.status == "ok" for r in _without_cheats(records))
        for role in ("original", "oracle", "control")
    }
    return (
        f"{records[0].job['request']['spec']}: {counts['original']} originals, "
        f"{counts['oracle']} retrained models, {counts['control']} controls"
    )


def judgement_cells(found: Judgement, names: Sequence[str]) -> list[str]:
    """Short cells: held-out oracles in band, the mean gap of the original and of the controls."""
    shades = map(shade, found.of(names))
    return [found.oracles.inside, *("–" if s is None else s.text for s in shades)]


def judge_cheats(records: Sequence[RunRecord]) -> list[CheatJudgement]:
    """What the verdict and the check of the file say of each cheat; none without cheats.

    Raises:
        RecordError: There are cheats, but no oracle.
    """
    made = [r for r in records if "cheat" in r.job and r.outcome.status == "ok"]
    if not made:
        return []
    table = build(records)
    if not any(row.has_result for row in table.of_role("oracle")):
        raise RecordError("cheats are judged beside retrained models, and there is none")
    rows = {row.model: row for row in table.rows}
    in_file = next(c for c in checks(records) if c.code == "EF008").models
    found: dict[str, list[tuple[YesNo, YesNo, bool]]] = {}
    for r in made:
        decision = decision_on(rows[r.name], table)
        answers = decision.forgot.answer, decision.kept.answer, r.name in in_file
        found.setdefault(str(r.job["cheat"]), []).append(answers)
    return [CheatJudgement(name, *zip(*of, strict=True)) for name, of in found.items()]


def cheat_rows(found: Sequence[CheatJudgement]) -> list[list[str]]:
    """The judgements of cheats as cells, the heads of the columns first."""
    head = ["cheat", "did it forget?", "did it keep?", "the file (EF008)", "caught by"]
    return [head] + [
        [
            f"`{c.name}`",
            ", ".join(c.forgot),
            ", ".join(c.kept),
            ", ".join("found" if hit else "nothing found" for hit in c.in_file),
            ", ".join(c.caught_by) or "nothing on every seed",
        ]
        for c in found
    ]


def cheat_table(found: Sequence[CheatJudgement]) -> str:
    """The judgements of cheats as a markdown table."""
    head, *rows = cheat_rows(found)
    return markdown_table(head, rows)


def _without_cheats(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Records of models that metrics are judged by: not every metric has to catch every cheat."""
    return [r for r in records if "cheat" not in r.job]


def audit_figure(found: Sequence[Judgement], title: str) -> str:
    """An SVG heat map, metrics by models of which the answer is known.

    Coloured by the mean gap in half-widths of the band.
    """
    names = cheat_names(found)
    lines = [
        Line(
            label(j.metric.name),
            [Shade(j.oracles.inside, 0.0 if j.passes_oracles else 8.0), *map(shade, j.of(names))],
            j.conclusion,
        )
        for j in found
    ]
    return heatmap(title, ["held out", "original", *names], lines, after="conclusion")


def table_csv(found: Sequence[Judgement]) -> str:
    """Every judgement as CSV: units and verdicts per training seed, joined by spaces."""
    names = cheat_names(found)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    models = [f"{name} {what}" for name in ("original", *names) for what in ("units", "verdicts")]
    first = ["metric", "oracle_mean", "band_half", "oracles", "oracles_in_band"]
    writer.writerow([*first, *models, "conclusion"])
    for j in found:
        count = len(j.oracles.verdicts)
        row = [
            j.metric.name,
            f"{j.band.mean:.12g}",  # the last digits of a quantile are the processor's
            f"{j.band.half:.12g}",
            count,
            count - j.oracles.outside,
        ]
        for gaps in j.of(names):
            units, verdicts = ((), ()) if gaps is None else gaps
            row += [" ".join(f"{u:.6g}" for u in units), " ".join(verdicts)]
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


def _gaps(name: str, rows: Sequence[Row]) -> GapsOverSeeds:
    known = [c for row in rows if (c := row.cells.get(name)) is not None and c.units is not None]
    return GapsOverSeeds(tuple(c.units or 0.0 for c in known), tuple(c.verdict for c in known))


def _spelled(gaps: GapsOverSeeds | None) -> str:
    """Mean gap, its interval over training seeds, and on how many seeds it lies out of the band."""
    if gaps is None or not gaps.units:
        return "–"
    mean = in_units(statistics.fmean(gaps.units))
    if len(gaps.units) < 2:
        return f"{mean} ({gaps.outside}/1 out)"
    low, high = bands.bootstrap_interval(gaps.units, seed=0)
    return f"{mean} [{in_units(low)}, {in_units(high)}] ({gaps.outside}/{len(gaps.units)} out)"


def shade(gaps: GapsOverSeeds | None) -> Shade | None:
    """The mean gap as a coloured cell; None where nothing was measured."""
    if gaps is None or not gaps.units:
        return None
    mean = statistics.fmean(gaps.units)
    return Shade(in_units(mean), mean)
