"""Checks of the evidence: is there enough, does it belong together, can it tell anything here?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from eigenforget.core.text import counted
from eigenforget.record import RecordError, RunRecord, canonical, in_force
from eigenforget.report.findings import (
    NO_MODEL,
    NO_RETRAINED,
    Finding,
    StudyRecords,
    count_in,
    enumerated,
    found,
    not_applicable,
    passed,
    rule,
)
from eigenforget.report.glossary import BEHAVIOUR, FEATURE, MEMBERSHIP, OUTPUT, group, label
from eigenforget.report.table import FEATURE_METRICS, Row, number
from eigenforget.report.verdict import separates

WIDE = 0.1
"""A 95 % interval of an attack's AUC wider than this (±0.05) does not tell 0.5 from 0.55."""

_FALSE_ALARMS = 5
"""False alarms to expect for a rate to be worth quoting: at 5 their number varies by 45 %."""

ENOUGH = 3
"""Retrained models from which on the report has bands of every score."""

PAIRS = 10
"""Near duplicates that are named."""

_RATES = {"mia_tpr_1": 0.01, "mia_tpr_01": 0.001, "rmia_tpr_1": 0.01, "rmia_tpr_01": 0.001}
_AUCS = ("mia_auc", "rmia_auc")
_GROUPS = {
    OUTPUT: "outputs",
    MEMBERSHIP: "membership",
    FEATURE: "features",
    BEHAVIOUR: "relearning",
}
_ROLES = ("original", "oracle", "unlearned", "control")


class AttackSizes(NamedTuple):
    """How many samples a membership attack tells apart.

    Attributes:
        members: Samples of the forget set.
        others: Samples that were never trained on.
        rmia_others: The same for RMIA, which keeps half of them for itself where no class is
            forgotten as a whole.
    """

    members: int
    others: int
    rmia_others: int

    def beside(self, name: str) -> int:
        """The others that the attack behind this score had."""
        return self.rmia_others if name.startswith("rmia_") else self.others


@rule(
    "EF001",
    "Too few retrained models",
    "error",
    action="Retrain at least three models without the forget set, from other seeds, and evaluate"
    " again with --oracle for each.",
)
def oracles(study: StudyRecords) -> Finding:
    """Counts the retrained models."""
    count = len(study.of("oracle"))
    if not count:
        return found(
            "No retrained model is among the records. The records cannot show whether any model is"
            " like one that never saw the forget set: there are no gaps, no bands and no verdicts."
        )
    if count >= ENOUGH:
        return passed(f"{count} retrained models are among the records.")
    why = "so there is no band"
    if count > 1:
        why = "so the band is wide, and scores that compare with retrained models have none"
    are = counted(count, "retrained model is", "retrained models are")
    return found(f"{are} among the records, {why}.", severity="warning")


@rule(
    "EF002",
    "One training seed only",
    "note",
    action="Before you compare methods, repeat with originals from two or more other seeds, and "
    "report the spread.",
)
def training_seeds(study: StudyRecords) -> Finding:
    """Counts the originals."""
    originals = study.of("original")
    if not originals or not study.judged:
        return not_applicable("no original is among the records" if study.judged else NO_MODEL)
    count = len({r.inputs.get("checked_model", r.name) for r in originals})
    if count > 1:
        return passed(f"{count} originals from different training seeds are among the records.")
    return found(
        "All unlearned models come from one original, so from one training seed. It is unknown how"
        " the results vary with the original."
    )


@rule(
    "EF003",
    "Membership attack on too few samples",
    "warning",
    action="Do not quote these numbers as evidence that nothing can be found. Use a larger "
    "held-out set; judge such a small request by accuracy and relearning.",
)
def attack_size(study: StudyRecords) -> Finding:
    """Looks at the intervals of attacks' AUCs and at the false alarms that rates rest on."""
    rows = {row.model: row for row in study.shown}
    told = [
        (record, row)
        for record in study.of("unlearned", "control")
        if any(_has(row := rows[record.name], name) for name in (*_AUCS, *_RATES))
    ]
    if not told:
        return not_applicable("no membership attack was measured on an unlearned model")
    weak: dict[str, dict[str, float]] = {}
    for record, row in told:
        for name, size in _weak(row, _sizes(record)).items():
            weak.setdefault(name, {})[row.model] = size
    sizes = dict.fromkeys(s for record, _ in told if (s := _sizes(record)) is not None)
    had = "".join(
        f" The attacks had {s.members} forget-set and {s.others} held-out samples." for s in sizes
    )
    if weak:
        models = dict.fromkeys(model for who in weak.values() for model in who)
        return found(" ".join(_too_few(name, who) for name, who in weak.items()) + had, models)
    if not sizes and all(_width(row, name) is None for _, row in told for name in _AUCS):
        return not_applicable(
            "the records say neither how many samples the attacks had nor an interval of their AUC"
        )
    return passed(f"Every 95 % interval of an attack's AUC is at most {WIDE} wide.{had}")


@rule(
    "EF005",
    "The retain set holds near duplicates of the forget set",
    "warning",
    action="Look at the pairs. If both show the same thing, add the retained one to the request,"
    " and unlearn again.",
)
def near_duplicate_pairs(study: StudyRecords) -> Finding:
    """Looks at the near duplicates that were found when the data was split."""
    looked = [(r, *_near(r)) for r in in_force(study.records) if "near_duplicates" in r.job]
    if not looked:
        return not_applicable("no record says whether near duplicates were looked for")
    total = max(n for _, n, _ in looked)
    if not total:
        return passed("No retained sample is nearly the same as one of the forget set.")
    pairs = list(dict.fromkeys(pair for _, _, listed in looked for pair in listed))[:PAIRS]
    are = counted(total, "retained sample is", "retained samples are")
    first = f" The first: {enumerated(pairs, PAIRS)}." if pairs else ""
    return found(
        f"{are} nearly the same as one of the forget set (forget ~ retain).{first} Retrained "
        f"models also learn from these, so a trace of the forget set stays as long as they do.",
        dict.fromkeys(r.name for r, n, _ in looked if n),
    )


@rule(
    "EF011",
    "Other data, split or layers",
    "error",
    action="Do not compare these models. Evaluate them all in one run, or report only those that"
    " belong together.",
)
def mixed(study: StudyRecords) -> Finding:
    """Compares the digests of data and split, and the measured layers."""
    if len(study.models) < 2:
        return not_applicable("one model only is among the records")
    said: list[str] = []
    odd: dict[str, None] = {}
    looks: tuple[tuple[str, Sequence[RunRecord], Callable[[RunRecord], object]], ...] = (
        ("data", study.models, lambda r: r.inputs.get("data")),
        ("split", study.models, lambda r: r.inputs.get("split")),
        ("layers", study.of(*_ROLES), _layers),
    )
    for what, models, look in looks:
        first, *others = _grouped(models, look) or [[]]
        if others:
            rest = [name for names in others for name in names]
            were = f"{enumerated(rest)} {'was' if len(rest) == 1 else 'were'} measured"
            text = f"{were} with other {what} than {enumerated(first)}."
            said.append(text[0].upper() + text[1:])
            odd |= dict.fromkeys(rest)
    if said:
        return found(" ".join(said), odd)
    if not any("data" in r.inputs and "split" in r.inputs for r in study.models):
        return not_applicable("the records do not hold the digests of data and split")
    return passed("All models were measured on the same data, split and layers.")


@rule(
    "EF014",
    "A measure without a signal",
    "note",
    action="Do not quote these metrics as evidence for or against forgetting. Judge by metrics"
    " that tell original and retrained models apart.",
)
def signal(study: StudyRecords) -> Finding:
    """Looks for headline feature metrics in which original and retrained models do not differ."""
    table = study.table
    both = [name for name in FEATURE_METRICS if separates(name, table) is not None]
    if not both:
        shared = "no headline feature metric has an original's value and a band"
        return not_applicable(shared if study.of("oracle") else NO_RETRAINED)
    null = [name for name in both if not separates(name, table)]
    if not null:
        names = enumerated([label(n) for n in both])
        return passed(f"{names} tell the original from the retrained models.")
    values = [
        f"{label(n)} ({number(table.original[n])} and {number(table.oracles[n].mean)})"
        for n in null
    ]
    rest = [label(n) for n in both if n not in null]
    left = (
        f"Outside their bands lie: {enumerated(rest)}; whether they decide, the verdict says."
        if rest
        else "None of the headline feature metrics can say anything here."
    )
    return found(
        f"Original and retrained models do not differ by more than chance in {enumerated(values)}."
        " For this request these are null controls: their values say nothing about forgetting."
        f" {left}",
        severity="note" if rest else "warning",
    )


@rule("EF015", "Corrected records", "note", action="Read both records, and quote the later one.")
def corrected(study: StudyRecords) -> Finding:
    """Looks for records that a later one corrects."""
    by_digest = {r.digest: r for r in study.records}
    pairs = [
        (by_digest[r.job["corrects"]], r)
        for r in study.records
        if r.job.get("corrects", "") in by_digest
    ]
    if not pairs:
        return passed("No record is corrected by a later one.")
    said = [
        f"{old.name} of {old.created} ({str(old.digest)[7:15]}) by {new.name} of {new.created}"
        for old, new in pairs
    ]
    names = dict.fromkeys(new.name for _, new in pairs)
    return found(f"Corrected, and not shown: {enumerated(said)}.", names)


@rule(
    "EF016",
    "A kind of measure is missing",
    "warning",
    action="Evaluate again without --skip and with what the scores need, or state with the result"
    " what was not measured.",
)
def measures(study: StudyRecords) -> Finding:
    """Looks for kinds of measures that an unlearned model has no score of."""
    if not study.judged:
        return not_applicable(NO_MODEL)
    lacking: dict[str, list[str]] = {}
    for row in study.judged:
        have = {group(name, study.table) for name in row.cells if _has(row, name)}
        missing = [words for key, words in _GROUPS.items() if key not in have]
        if missing:
            lacking.setdefault(enumerated(missing), []).append(row.model)
    if not lacking:
        return passed("Outputs, membership, features and relearning were all measured.")
    said = [f"Nothing was measured of {what} ({enumerated(who)})." for what, who in lacking.items()]
    return found(" ".join(said), dict.fromkeys(name for who in lacking.values() for name in who))


@rule(
    "EF018",
    "Different versions or devices",
    "note",
    action="Differences of a thousandth may come from this. Evaluate all models in one run where"
    " that matters.",
)
def surroundings(study: StudyRecords) -> Finding:
    """Compares versions and devices."""
    models = study.of(*_ROLES)
    if len(models) < 2:
        return not_applicable("one model only is among the records")
    values = {
        what: list(dict.fromkeys(str(v) for r in models if (v := r.environment.get(key))))
        for key, what in (
            ("eigenforget", "versions of eigenforget"),
            ("torch", "versions of torch"),
            ("device", "devices"),
        )
    }
    said = [f"different {what}: {enumerated(v)}" for what, v in values.items() if len(v) > 1]
    if said:
        return found(f"The models were measured with {enumerated(said)}.")
    if not any(values.values()):
        return not_applicable("the records do not say where the models were measured")
    return passed("One version and one kind of device throughout.")


def _has(row: Row, name: str) -> bool:
    return name in row.cells and row.cells[name].value is not None


def _width(row: Row, name: str) -> float | None:
    cell = row.cells.get(name)
    return None if cell is None or cell.low is None or cell.high is None else cell.high - cell.low


def _sizes(record: RunRecord) -> AttackSizes | None:
    """Members and others by job["sizes"]; None where the record does not say."""
    sizes: Any = record.job.get("sizes")
    if sizes is None:
        return None
    if not isinstance(sizes, dict):
        raise RecordError(f"record {record.name!r}: job.sizes must be an object of counts")
    forget, test, gone = (
        count_in(record, f"job.sizes.{key}", sizes.get(key, 0))
        for key in ("forget", "test", "test_forget")
    )
    return AttackSizes(forget, gone or test, gone or test // 2)


def _weak(row: Row, sizes: AttackSizes | None) -> dict[str, float]:
    """The attacks on this model that say too little, by score.

    The value is the width of an AUC's interval, or the false alarms that a rate rests on.
    """
    weak = {}
    for name in (n for n in _AUCS if _has(row, n)):
        width = _width(row, name)
        if width is None and sizes is not None and min(sizes) > 0:
            width = _width_by_chance(sizes.members, sizes.beside(name))
        if width is not None and width > WIDE:
            weak[name] = width
    for name, rate in _RATES.items():
        if sizes is not None and _has(row, name) and sizes.beside(name) * rate < _FALSE_ALARMS:
            weak[name] = sizes.beside(name) * rate
    return weak


def _width_by_chance(members: int, others: int) -> float:
    """The width of the 95 % interval of an AUC of 0.5.

    Its variance is (m + n + 1) / (12 m n), that of the Mann-Whitney U over m² n².
    """
    return 3.92 * math.sqrt((members + others + 1) / (12 * members * others))


def _too_few(name: str, by_model: Mapping[str, float]) -> str:
    models = enumerated(list(by_model))
    if name in _RATES:
        return f"{label(name)} rests on {min(by_model.values()):.3g} false alarms ({models})."
    widest = max(by_model.values())
    return f"The 95 % interval of {label(name)} is up to {widest:.2f} wide ({models})."


def _near(record: RunRecord) -> tuple[int, list[str]]:
    value: Any = record.job["near_duplicates"]
    pairs = value.get("pairs") if isinstance(value, dict) else None
    if not isinstance(pairs, list) or not all(isinstance(p, list) and len(p) == 3 for p in pairs):
        raise RecordError(
            f"record {record.name!r}: job.near_duplicates must hold a total and a list of pairs"
        )
    total = count_in(record, "job.near_duplicates.total", value.get("total"))
    return total, [f"{p[0]} ~ {p[1]}" for p in pairs]


def _layers(record: RunRecord) -> object:
    """The layer that the job names, if it does, and the further ones in the scores' names."""
    further = sorted({s.name.partition("@")[2] for s in record.scores if "@" in s.name})
    return canonical([record.job.get("layer"), further])


def _grouped(records: Sequence[RunRecord], look: Callable[[RunRecord], object]) -> list[list[str]]:
    """Names by what is seen in them, the largest group first; where nothing is seen, left out."""
    groups: dict[object, list[str]] = {}
    for record in records:
        seen = look(record)
        if seen is not None:
            groups.setdefault(seen, []).append(record.name)
    return sorted(groups.values(), key=len, reverse=True)
