"""Checks of the evidence: is there enough of it, does it belong together, can it say anything for
this request?
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from eigenforget.record import RecordError, RunRecord, canonical, in_force
from eigenforget.report.findings import (
    NO_MODEL,
    NO_RETRAINED,
    Case,
    Finding,
    counted,
    found,
    not_applicable,
    passed,
    some,
    whole,
)
from eigenforget.report.glossary import BEHAVIOUR, FEATURE, MEMBERSHIP, OUTPUT, group, label
from eigenforget.report.table import FEATURE_METRICS, Row, number
from eigenforget.report.verdict import separates

WIDE = 0.1
"""An attack's AUC with a 95 % interval wider than this (0.05 to either side) does not tell 0.5 from
0.55.
"""

FALSE_ALARMS = 5
"""A rate at a false-alarm rate needs that many false alarms to be expected: at 5 their number
varies by 45 %.
"""

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


class Sides(NamedTuple):
    """How many samples a membership attack tells apart. RMIA needs half of the others for itself
    where no class is gone as a whole.
    """

    members: int
    others: int
    rmia_others: int

    def beside(self, name: str) -> int:
        """The others that the attack behind this score had."""
        return self.rmia_others if name.startswith("rmia_") else self.others


def oracles(case: Case) -> Finding:
    count = len(case.of("oracle"))
    if not count:
        return found(
            "No retrained model is among the records. Whether any model is like one that never saw the forgotten data cannot be said: there"
            " are no gaps, no bands and no verdicts."
        )
    if count < ENOUGH:
        why = (
            "so there is no band"
            if count == 1
            else "so the band is wide, and scores that compare with retrained models have none"
        )
        return found(
            f"{counted(count, 'retrained model is', 'retrained models are')} among the records, {why}.",
            severity="warning",
        )
    return passed(f"{count} retrained models are among the records.")


def training_seeds(case: Case) -> Finding:
    originals = case.of("original")
    if not originals or not case.judged:
        return not_applicable("no original is among the records" if case.judged else NO_MODEL)
    count = len({r.inputs.get("checked_model", r.name) for r in originals})
    if count > 1:
        return passed(f"{count} originals from different training seeds are among the records.")
    return found(
        "All unlearned models come from one original, so from one training seed. How the results vary with the original is not known."
    )


def attack_size(case: Case) -> Finding:
    rows = {row.model: row for row in case.shown}
    told = [
        (r, rows[r.name])
        for r in case.of("unlearned", "control")
        if any(_value(rows[r.name], n) for n in (*_AUCS, *_RATES))
    ]
    if not told:
        return not_applicable("no membership attack was measured on an unlearned model")
    weak: dict[str, dict[str, float]] = {}
    for record, row in told:
        for name, size in _weak(row, _sides(record)).items():
            weak.setdefault(name, {})[row.model] = size
    counts = dict.fromkeys(sides for r, _ in told if (sides := _sides(r)) is not None)
    had = "".join(
        f" The attacks had {s.members} forgotten and {s.others} held-out samples." for s in counts
    )
    if weak:
        models = dict.fromkeys(model for who in weak.values() for model in who)
        return found(" ".join(_too_few(name, who) for name, who in weak.items()) + had, models)
    if not counts and not any(
        _interval(row, name) is not None for _, row in told for name in _AUCS
    ):
        return not_applicable(
            "the records say neither how many samples the attacks had nor an interval of their AUC"
        )
    return passed(f"Every 95 % interval of an attack's AUC is at most {WIDE} wide.{had}")


def twins(case: Case) -> Finding:
    looked = [(r, *_near(r)) for r in in_force(case.records) if "near_duplicates" in r.job]
    if not looked:
        return not_applicable("no record says whether near duplicates were looked for")
    total = max(n for _, n, _ in looked)
    if not total:
        return passed("No retained sample is nearly the same as a forgotten one.")
    pairs = list(dict.fromkeys(pair for _, _, listed in looked for pair in listed))[:PAIRS]
    models = dict.fromkeys(r.name for r, n, _ in looked if n)
    first = f" The first: {some(pairs, PAIRS)}." if pairs else ""
    return found(
        f"{counted(total, 'retained sample is', 'retained samples are')} nearly the same as a forgotten one (forgotten ~ retained).{first}"
        " Retrained models learn from these twins too, so a trace of the forgotten stays wherever the twins do.",
        models,
    )


def mixed(case: Case) -> Finding:
    if len(case.models) < 2:
        return not_applicable("one model only is among the records")
    said: list[str] = []
    odd: dict[str, None] = {}
    looks: dict[str, Callable[[RunRecord], object]] = {
        "data": lambda r: r.inputs.get("data"),
        "split": lambda r: r.inputs.get("split"),
        "layers": _layers,
    }
    for what, look in looks.items():
        models = (
            case.models
            if what != "layers"
            else case.of("original", "oracle", "unlearned", "control")
        )
        groups = _grouped(models, look)
        if len(groups) > 1:
            rest = [name for names in groups[1:] for name in names]
            said.append(
                f"{some(rest)} {'was' if len(rest) == 1 else 'were'} measured with other {what} than {some(groups[0])}."
            )
            odd |= dict.fromkeys(rest)
    if said:
        return found(" ".join(s[0].upper() + s[1:] for s in said), odd)
    if not any("data" in r.inputs and "split" in r.inputs for r in case.models):
        return not_applicable("the records do not hold the digests of data and split")
    return passed("All models were measured on the same data, split and layers.")


def signal(case: Case) -> Finding:
    table = case.table
    both = [name for name in FEATURE_METRICS if name in table.reference and name in table.original]
    if not both:
        missing = (
            NO_RETRAINED
            if not case.of("oracle")
            else "original and retrained models share no headline feature metric"
        )
        return not_applicable(missing)
    null = [name for name in both if not separates(name, table)]
    if not null:
        return passed(
            f"{some([label(n) for n in both])} tell the original from the retrained models."
        )
    values = [
        f"{label(n)} ({number(table.original[n])} and {number(table.reference[n].mean)})"
        for n in null
    ]
    rest = [label(n) for n in both if n not in null]
    left = (
        f" What is left: {some(rest)}."
        if rest
        else " None of the headline feature metrics can say anything here."
    )
    return found(
        f"Original and retrained models do not differ by more than chance in {some(values)}. For this request these are null controls:"
        f" whatever a model has there says nothing of forgetting.{left}",
        severity="note" if rest else "warning",
    )


def corrected(case: Case) -> Finding:
    gone = {r.digest: r for r in case.records}
    pairs = [
        (gone[r.job["corrects"]], r)
        for r in case.records
        if "corrects" in r.job and r.job["corrects"] in gone
    ]
    if not pairs:
        return passed("No record is corrected by a later one.")
    said = [
        f"{old.name} of {old.created} ({str(old.digest)[7:15]}) by {new.name} of {new.created}"
        for old, new in pairs
    ]
    return found(
        f"Corrected, and not shown: {some(said)}.", dict.fromkeys(new.name for _, new in pairs)
    )


def measures(case: Case) -> Finding:
    if not case.judged:
        return not_applicable(NO_MODEL)
    lacking: dict[str, list[str]] = {}
    for row in case.judged:
        have = {
            group(name, case.table) for name, cell in row.cells.items() if cell.value is not None
        }
        missing = [words for key, words in _GROUPS.items() if key not in have]
        if missing:
            lacking.setdefault(some(missing), []).append(row.model)
    if not lacking:
        return passed("Outputs, membership, features and relearning were all measured.")
    models = dict.fromkeys(name for who in lacking.values() for name in who)
    return found(
        " ".join(f"Nothing was measured of {what} ({some(who)})." for what, who in lacking.items()),
        models,
    )


def surroundings(case: Case) -> Finding:
    models = case.of("original", "oracle", "unlearned", "control")
    if len(models) < 2:
        return not_applicable("one model only is among the records")
    said = []
    for key, what in (
        ("eigenforget", "versions of eigenforget"),
        ("torch", "versions of torch"),
        ("device", "devices"),
    ):
        values = dict.fromkeys(str(r.environment[key]) for r in models if r.environment.get(key))
        if len(values) > 1:
            said.append(f"different {what}: {some(list(values))}")
    if said:
        return found(f"The models were measured with {some(said)}.")
    if not any(
        r.environment.get(key) for r in models for key in ("eigenforget", "torch", "device")
    ):
        return not_applicable("the records do not say where the models were measured")
    return passed("One version and one kind of device throughout.")


def _value(row: Row, name: str) -> bool:
    return name in row.cells and row.cells[name].value is not None


def _interval(row: Row, name: str) -> float | None:
    cell = row.cells.get(name)
    return None if cell is None or cell.low is None or cell.high is None else cell.high - cell.low


def _sides(record: RunRecord) -> Sides | None:
    """Members and non-members by job["sizes"]; None where the record does not say."""
    sizes: Any = record.job.get("sizes")
    if sizes is None:
        return None
    if not isinstance(sizes, dict):
        raise RecordError(f"record {record.name!r}: job.sizes must be an object of counts")
    forget, test, gone = (
        whole(record, f"job.sizes.{key}", sizes.get(key, 0))
        for key in ("forget", "test", "test_forget")
    )
    return Sides(forget, gone or test, gone or test // 2)


def _weak(row: Row, sides: Sides | None) -> dict[str, float]:
    """The attacks on this model that say too little: the width of the interval of an AUC, the false
    alarms that a rate rests on.
    """
    weak = {}
    for name in (n for n in _AUCS if _value(row, n)):
        width = _interval(row, name)
        if width is None and sides is not None and min(sides) > 0:
            width = _width_by_chance(sides.members, sides.beside(name))
        if width is not None and width > WIDE:
            weak[name] = width
    for name, rate in _RATES.items():
        if sides is not None and _value(row, name) and sides.beside(name) * rate < FALSE_ALARMS:
            weak[name] = sides.beside(name) * rate
    return weak


def _width_by_chance(members: int, others: int) -> float:
    """The width of the 95 % interval of an AUC of 0.5: its variance is (m + n + 1) / (12 m n), that
    of the Mann-Whitney U over m² n².
    """
    return 3.92 * math.sqrt((members + others + 1) / (12 * members * others))


def _too_few(name: str, by_model: dict[str, float]) -> str:
    models = some(list(by_model))
    if name in _RATES:
        return f"{label(name)} rests on {min(by_model.values()):.3g} false alarms ({models})."
    return (
        f"The 95 % interval of {label(name)} is up to {max(by_model.values()):.2f} wide ({models})."
    )


def _near(record: RunRecord) -> tuple[int, list[str]]:
    value: Any = record.job["near_duplicates"]
    pairs = value.get("pairs") if isinstance(value, dict) else None
    if not isinstance(pairs, list) or not all(isinstance(p, list) and len(p) == 3 for p in pairs):
        raise RecordError(
            f"record {record.name!r}: job.near_duplicates must hold a total and a list of pairs"
        )
    return whole(record, "job.near_duplicates.total", value.get("total")), [
        f"{p[0]} ~ {p[1]}" for p in pairs
    ]


def _layers(record: RunRecord) -> object:
    """The layers of the scores: the one that the job names, if it does, and the further ones in the
    scores' names.
    """
    return canonical(
        [
            record.job.get("layer"),
            sorted({s.name.partition("@")[2] for s in record.scores if "@" in s.name}),
        ]
    )


def _grouped(records: Sequence[RunRecord], look: Callable[[RunRecord], object]) -> list[list[str]]:
    """Names by what is seen in them, the largest group first; records in which there is nothing to
    see are left out.
    """
    groups: dict[object, list[str]] = {}
    for record in records:
        seen = look(record)
        if seen is not None:
            groups.setdefault(seen, []).append(record.name)
    return sorted(groups.values(), key=len, reverse=True)
