"""Checks of the unlearned models: what do the numbers say against them, or about how they may be
quoted?
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eigenforget.record import RecordError, RunRecord, in_force
from eigenforget.report.cost import Share, shares
from eigenforget.report.findings import (
    NO_MODEL,
    NO_RETRAINED,
    Case,
    Finding,
    Severity,
    found,
    named,
    not_applicable,
    only_controls,
    passed,
    some,
)
from eigenforget.report.glossary import UTILITY, group, label
from eigenforget.report.table import Cell, Row, Table, number, percent, signed
from eigenforget.report.verdict import (
    ACCURACY_TOLERANCE,
    STRONG,
    Recovery,
    features_kept,
    forgotten_by_accuracy,
    recoveries,
)

HALF = 0.5
"""Beyond this share of retraining's cost, and from this share of the weights on, it is worth
saying.
"""

_KEPT = ("retain_accuracy", "test_retain_accuracy")


def retained_accuracy(case: Case) -> Finding:
    if not case.judged:
        return not_applicable(NO_MODEL)
    compared = [
        (row, name) for row in case.judged for name in _KEPT if _aim(case, row, name) is not None
    ]
    if not compared:
        return not_applicable(
            "no retained accuracy stands beside one of a retrained model or of the original"
        )
    fell: dict[str, list[str]] = {}
    for row, name in compared:
        cell, aim = row.cells[name], _aim(case, row, name)
        gap = (cell.value or 0.0) - (aim or 0.0)
        outside = cell.units is None or cell.units < -1
        if gap < -ACCURACY_TOLERANCE - 1e-9 and outside:
            fell.setdefault(row.model, []).append(
                f"{label(name)} {number(cell.value or 0.0)} ({signed(gap)})"
            )
    against = "the retrained models" if case.of("oracle") else "the original"
    if fell:
        said = [f"{model}: {some(parts)}" for model, parts in fell.items()]
        return found(
            f"What should be kept is classified worse than by {against}. {_lines(said)}", fell
        )
    return passed(
        f"No unlearned model is more than {ACCURACY_TOLERANCE} below {against} on what is kept."
    )


def outputs_without_features(case: Case) -> Finding:
    rows = [(row, recoveries(row, case.table)) for row in case.shown]
    told = [
        (row, ways)
        for row, ways in rows
        if forgotten_by_accuracy(row, case.table) and any(w.counts for w in ways)
    ]
    if not rows:
        return not_applicable(NO_MODEL)
    if all(
        forgotten_by_accuracy(row, case.table) is None or not any(w.counts for w in ways)
        for row, ways in rows
    ):
        return not_applicable(
            "no model has both a forget accuracy and a feature metric that can tell, beside retrained models"
        )
    kept = [(row, ways) for row, ways in told if features_kept(ways)]
    if not kept:
        return passed(
            "No model that has the retrained models' accuracy on the forgotten has the original's features."
        )
    only = [row for row, _ in kept]
    said = [f"{named(row)}: {_ways(ways)}" for row, ways in kept]
    return found(
        "Accuracy on the forgotten is that of the retrained models, but the features are nearer the original's (shares of the way from the"
        f" original to the retrained models). {_lines(said)}",
        [row.model for row in only],
        _lowered(only),
    )


def over_forgetting(case: Case) -> Finding:
    if not case.judged:
        return not_applicable(NO_MODEL)
    if not any(cell.verdict for row in case.judged for cell in row.cells.values()):
        return not_applicable(
            "no score has a band of retrained models" if case.of("oracle") else NO_RETRAINED
        )
    past: dict[str, list[str]] = {}
    for row in case.judged:
        far = sorted(
            (abs(c.units or 0.0), name)
            for name, c in row.cells.items()
            if _over(name, c, case.table)
        )[::-1]
        if far:
            past[row.model] = [
                f"{label(name, case.table)} {number(row.cells[name].value or 0.0)}"
                for _, name in far[:3]
            ]
    if not past:
        return passed(
            f"No score lies more than {STRONG:.0f} halves of the band on the side where more is gone than retraining removes."
        )
    return found(
        "More is gone than retraining removes, which an attacker can see as well."
        f" {_lines([f'{model}: {some(parts)}' for model, parts in past.items()])}",
        past,
    )


def original_weights(case: Case) -> Finding:
    records = case.of("unlearned", "control")
    if not records:
        return not_applicable(NO_MODEL)
    shares = {r.name: _unchanged(r) for r in records}
    told = {name: share for name, share in shares.items() if share is not None}
    left = [r for r in records if told.get(r.name, 0.0) >= HALF or _plug_in(r)]
    if not told and not left:
        return not_applicable("the records do not say which weights are still the original's")
    if not left:
        silent = [name for name in shares if name not in told]
        rest = f" Nothing is known of {some(silent)}." if silent else ""
        return passed(
            f"In {'every model' if not silent else some(list(told))} more than half of the weights differ from the original's.{rest}"
        )
    same = {r.inputs.get("checked_model", "") for r in case.of("original")} - {""}
    very = {r.name for r in left if r.inputs.get("checked_model") in same}
    said = [f"{_named(r)} {_how_much(told.get(r.name), r.name in very)}" for r in left]
    controls_only = all(r.role == "control" for r in left)
    return found(
        "Trainable weights are the original's, bit for bit: what they computed, they still compute, and only the rest stands in front of it."
        f" {_lines(said)}",
        [r.name for r in left],
        "note" if controls_only else None,
    )


def no_result(case: Case) -> Finding:
    bad = [r for r in in_force(case.records) if r.outcome.status != "ok"]
    if not bad:
        return passed("Every run made a model.")
    said = [
        f"{r.name} {'was refused' if r.outcome.status == 'refused' else 'failed'}: {r.outcome.reason}"
        for r in bad
    ]
    return found(
        _lines(said),
        dict.fromkeys(r.name for r in bad),
        "note" if all(r.role == "control" for r in bad) else None,
    )


def controls(case: Case) -> Finding:
    names = [r.name for r in case.of("control")]
    if not names:
        return passed("No negative control is among the models.")
    verb = "is a negative control" if len(names) == 1 else "are negative controls"
    return found(
        f"{some(names)} {verb}: built to pass some measure without forgetting, or to ruin the model.",
        names,
    )


def cost(case: Case) -> Finding:
    retrained = case.of("oracle")
    if not (case.judged and retrained):
        return not_applicable(NO_RETRAINED if case.judged else NO_MODEL)
    models = case.of("unlearned")
    if len({str(r.environment.get("device")) for r in (*models, *retrained)}) > 1:
        return not_applicable(
            "the models were made on different devices, so their times do not compare"
        )
    every = shares(case.models)
    known = {r.name: every[r.name] for r in models if r.name in every}
    if not known:
        return not_applicable("the records do not say how long unlearning or retraining took")
    dear = {name: share for name, share in known.items() if share.value > HALF}
    if not dear:
        beside = dict.fromkeys(map(_beside, known.values()))
        return passed(
            f"Every unlearned model cost at most {percent(HALF)} of retraining ({some(list(beside))})."
        )
    said = [f"{name} {percent(share.value)} ({_beside(share)})" for name, share in dear.items()]
    return found(f"More than {percent(HALF)} of the cost of retraining: {some(said)}.", dear)


def relearning(case: Case) -> Finding:
    if not case.judged:
        return not_applicable(NO_MODEL)
    told = [
        (row, name, c) for row in case.judged for name, c in row.cells.items() if _relearned(name)
    ]
    if not any(c.value is not None for _, _, c in told):
        return not_applicable("relearning was not measured")
    if not any(c.verdict for _, _, c in told):
        return not_applicable("relearning has no band of retrained models here")
    fast: dict[str, list[str]] = {}
    for row, name, c in told:
        if c.verdict == "residual" and c.value is not None and abs(c.units or 0.0) > STRONG:
            beside = case.table.reference[name].mean
            fast.setdefault(row.model, []).append(
                f"{label(name)} {number(c.value)} (retrained {number(beside)})"
            )
    if not fast:
        return passed(
            f"No unlearned model relearns the forgotten faster than retrained models by over {STRONG:.0f} halves of the band."
        )
    return found(
        "The forgotten comes back faster than retrained models learn it, so something of it was kept."
        f" {_lines([f'{model}: {some(parts, 2)}' for model, parts in fast.items()])}",
        fast,
    )


def trained_on(case: Case) -> Finding:
    own = {
        row.model: [label(n, case.table) for n in row.optimises if n in row.cells]
        for row in case.judged
    }
    own = {model: names for model, names in own.items() if names}
    if not case.judged:
        return not_applicable(NO_MODEL)
    if not own:
        return passed("No unlearned model was trained on a score that it is judged by.")
    return found(
        _lines([f"{model} was trained on {some(names)}" for model, names in own.items()]), own
    )


def _aim(case: Case, row: Row, name: str) -> float | None:
    """What a retained accuracy is compared with: the retrained models' mean, or the original's
    where there is none.
    """
    if name not in row.cells or row.cells[name].value is None:
        return None
    return (
        case.table.reference[name].mean
        if name in case.table.reference
        else case.table.original.get(name)
    )


def _over(name: str, cell: Cell, table: Table) -> bool:
    return (
        cell.verdict == "over-forgotten"
        and group(name, table) != UTILITY
        and "@" not in name
        and abs(cell.units or 0.0) > STRONG
    )


def _relearned(name: str) -> bool:
    return name.startswith("relearn_") or name == "ain"


def _ways(ways: Sequence[Recovery]) -> str:
    return some(
        [
            f"{label(w.metric)} {percent(w.fraction)}"
            for w in ways
            if w.fraction is not None and w.counts
        ]
    )


def _unchanged(record: RunRecord) -> float | None:
    value: Any = record.job.get("unchanged_weights")
    share = value.get("share") if isinstance(value, dict) else None
    if value is not None and (
        isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1
    ):
        raise RecordError(
            f"record {record.name!r}: job.unchanged_weights.share must be from 0 to 1, got {str(share)[:40]!r}"
        )
    return share


def _plug_in(record: RunRecord) -> bool:
    """Whether the method says of itself that it leaves the original in place."""
    method = record.job.get("method")
    guarantee = method.get("guarantee") if isinstance(method, dict) else None
    return isinstance(guarantee, str) and "plug-in" in guarantee


def _how_much(share: float | None, very: bool) -> str:
    if very:
        return "is the original itself"
    return "is made by a plug-in, by its method's own word" if share is None else percent(share)


def _named(record: RunRecord) -> str:
    return f"{record.name} (control)" if record.role == "control" else record.name


def _beside(share: Share) -> str:
    return f"retraining took {share.retraining:.1f} s of {share.clock} time"


def _lowered(rows: Sequence[Row]) -> Severity | None:
    return "note" if only_controls(rows) else None


def _lines(sentences: Sequence[str], limit: int = 8) -> str:
    shown = [
        *sentences[:limit],
        *([f"{len(sentences) - limit} more models"] if len(sentences) > limit else []),
    ]
    return "; ".join(shown) + "."
