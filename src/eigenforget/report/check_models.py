"""Checks of the unlearned models: what the numbers say against them, and how to quote them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eigenforget.record import RecordError, RunRecord, in_force
from eigenforget.report.cost import Share, shares
from eigenforget.report.decision import KEEP_SCORES, Position
from eigenforget.report.findings import (
    NO_MODEL,
    NO_RETRAINED,
    Finding,
    Severity,
    StudyRecords,
    enumerated,
    found,
    not_applicable,
    passed,
    rule,
)
from eigenforget.report.glossary import label
from eigenforget.report.table import Row, number, percent, signed
from eigenforget.report.verdict import WORTHWHILE, beside_oracles

ROOM = 0.1
"""Share of further numbers in a file above which it may hold a copy that is worth something."""

HALF = 0.5
"""Share of the weights from which on a check speaks."""

FALL = 0.02
"""Loss of accuracy against the original that is worth a word where there is no retrained model."""

_ACCURACIES = ("forget_accuracy", "test_forget_accuracy")
_RELEARNING = "relearn_all_auc"


@rule(
    "EF004",
    "Accuracy on the retain set fell",
    "warning",
    action="Do not use the model unless this loss is acceptable. Train longer on the retain set, "
    "or choose gentler settings or another method.",
)
def retained_accuracy(study: StudyRecords) -> Finding:
    """Looks for too low scores of what should be kept, or for less accuracy than the original."""
    if not study.judged:
        return not_applicable(NO_MODEL)
    if study.of("oracle"):
        lost = _standing(study, study.judged, "lost")
        if lost is None:
            return not_applicable("no score of what should be kept has retrained values")
        if lost:
            said = "Retained data is classified worse than by retrained models."
            return found(f"{said} {_by_model(lost)}", lost)
        return passed("No unlearned model is told from retrained models on retained data.")
    fell = {
        row.model: [f"{label(name)} {number(value)} ({signed(value - before)})"]
        for row in study.judged
        for name in KEEP_SCORES[:1]
        if (before := study.table.original.get(name)) is not None
        and name in row.cells
        and (value := row.cells[name].value) is not None
        and value - before < -FALL - 1e-9
    }
    if fell:
        said = "Retained data is classified worse than by the original."
        return found(f"{said} {_by_model(fell)}", fell)
    if KEEP_SCORES[0] not in study.table.original:
        return not_applicable(
            "no retained accuracy can be compared with that of a retrained model or of the original"
        )
    return passed(f"No unlearned model is more than {FALL} below the original on retained data.")


@rule(
    "EF006",
    "Outputs pass, features do not",
    "error",
    action="Do not call it forgotten: its outputs deny what its features still hold. Choose a "
    "method that changes the features, or retrain.",
)
def outputs_without_features(study: StudyRecords) -> Finding:
    """Looks for the retrained models' forget accuracy beside other scores that remember."""
    if not study.shown:
        return not_applicable(NO_MODEL)
    told = {row.model: study.decisions[row.model].scores for row in study.shown}
    passing = {
        model: [s for s in scores if s.position == "residual"]
        for model, scores in told.items()
        if (own := [s for s in scores if s.name in _ACCURACIES])
        and all(s.position != "residual" for s in own)
    }
    if not any(told.values()):
        return not_applicable("no model has a decision score beside retrained models")
    kept = {model: scores for model, scores in passing.items() if scores}
    if not kept:
        return passed(
            "No model with the retrained models' accuracy on the forget set shows it elsewhere."
        )
    roles = {row.model: row.role for row in study.shown}
    said = {
        _named(model, roles[model]): [beside_oracles(s) for s in of] for model, of in kept.items()
    }
    return found(
        "Accuracy on the forget set is that of the retrained models, but other scores still show"
        f" it. {_by_model(said)}",
        kept,
        _less_for_controls(roles[model] for model in kept),
    )


@rule(
    "EF007",
    "Over-forgetting",
    "warning",
    action="Stop earlier, or use a smaller learning rate: a model unlike any retrained one also "
    "gives the forget set away.",
)
def over_forgetting(study: StudyRecords) -> Finding:
    """Looks for decision scores on the side where more is gone than retraining removes."""
    if not study.judged:
        return not_applicable(NO_MODEL)
    over = _standing(study, study.judged, "over-forgotten")
    if over is None:
        return not_applicable(
            "no decision score has retrained values" if study.of("oracle") else NO_RETRAINED
        )
    if not over:
        return passed("No decision score shows that more is gone than retraining removes.")
    said = "More is gone than retraining removes, which an attacker can see as well."
    return found(f"{said} {_by_model(over)}", over)


@rule(
    "EF008",
    "The original's weights are still in the file",
    "warning",
    action="Do not pass the file on if the original's knowledge must not leave with it. Choose a "
    "method that changes all layers, or retrain.",
)
def original_weights(study: StudyRecords) -> Finding:
    """Looks at trainable weights that are the original's, and at room for more of them."""
    records = study.of("unlearned", "control")
    if not records:
        return not_applicable(NO_MODEL)
    unchanged = {r.name: _unchanged(r) for r in records}
    told = {name: share for name, share in unchanged.items() if share is not None}
    left = [r for r in records if told.get(r.name, 0.0) >= HALF or _is_plug_in(r)]
    larger = {r.name: more for r in records if (more := _more(r)) > ROOM}
    if not told and not left:
        return not_applicable("the records do not say which weights are still the original's")
    if not left and not larger:
        silent = [name for name in unchanged if name not in told]
        rest = f" Nothing is known about {enumerated(silent)}." if silent else ""
        where = enumerated(list(told)) if silent else "every model"
        return passed(f"In {where} more than half of the weights differ from the original's.{rest}")
    originals = {r.inputs.get("checked_model", "") for r in study.of("original")} - {""}
    said = [
        f"{_named(r.name, r.role)} "
        + _how_much(told.get(r.name), r.inputs.get("checked_model") in originals, _is_hidden(r))
        for r in left
    ]
    still = (
        f"Trainable weights are still those of the original: they compute what they did before, "
        f"behind the weights that changed. {_sentence(said)}"
    )
    room = [
        f"{_named(r.name, r.role)} {percent(larger[r.name])}" for r in records if r.name in larger
    ]
    spare = (
        f"Files hold more numbers than the original's, in which it may be kept: {_sentence(room)}"
    )
    concerned = [r for r in records if r in left or r.name in larger]
    return found(
        " ".join([still] * bool(left) + [spare] * bool(larger)),
        [r.name for r in concerned],
        _less_for_controls(r.role for r in concerned),
    )


@rule(
    "EF009",
    "A run was refused or failed",
    "warning",
    action="Read the reason. A refused method needs what the reason names; a failed one usually"
    " needs a smaller learning rate.",
)
def no_result(study: StudyRecords) -> Finding:
    """Looks for runs that made no model."""
    bad = [r for r in in_force(study.records) if r.outcome.status != "ok"]
    if not bad:
        return passed("Every run made a model.")
    words = {"refused": "was refused", "failed": "failed"}
    said = [f"{r.name} {words[r.outcome.status]}: {r.outcome.reason}" for r in bad]
    names = dict.fromkeys(r.name for r in bad)
    return found(_sentence(said), names, _less_for_controls(r.role for r in bad))


@rule(
    "EF010",
    "A negative control is among the models",
    "note",
    action="Never quote a control as a result. It shows what a metric fails to catch.",
)
def controls(study: StudyRecords) -> Finding:
    """Looks for negative controls."""
    names = [r.name for r in study.of("control")]
    if not names:
        return passed("No negative control is among the models.")
    verb = "is a negative control" if len(names) == 1 else "are negative controls"
    purpose = "built to pass some metric without forgetting, or to ruin the model"
    return found(f"{enumerated(names)} {verb}: {purpose}.", names)


@rule(
    "EF012",
    "More than half the cost of retraining",
    "warning",
    action="Compare with retraining, which is exact. Unlearning pays off where it is much cheaper"
    " or is needed more often.",
)
def cost(study: StudyRecords) -> Finding:
    """Looks at the share of the cost of retraining."""
    retrained, models = study.of("oracle"), study.of("unlearned")
    if not (study.judged and retrained):
        return not_applicable(NO_RETRAINED if study.judged else NO_MODEL)
    if len({str(r.environment.get("device")) for r in (*models, *retrained)}) > 1:
        return not_applicable(
            "the models were made on different devices, so their times do not compare"
        )
    every = shares(study.models)
    known = {r.name: every[r.name] for r in models if r.name in every}
    if not known:
        return not_applicable("the records do not say how long unlearning or retraining took")
    dear = {name: share for name, share in known.items() if share.value > WORTHWHILE}
    if dear:
        said = [f"{name} {percent(share.value)} ({_beside(share)})" for name, share in dear.items()]
        return found(
            f"More than {percent(WORTHWHILE)} of the cost of retraining: {enumerated(said)}.", dear
        )
    beside = list(dict.fromkeys(map(_beside, known.values())))
    return passed(
        f"Every unlearned model cost at most {percent(WORTHWHILE)} of retraining "
        f"({enumerated(beside)})."
    )


@rule(
    "EF013",
    "It relearns faster than retrained models",
    "warning",
    action="Treat the model as one that still holds part of the forget set. Choose a method that "
    "changes the features more, or retrain.",
)
def relearning(study: StudyRecords) -> Finding:
    """Looks for a relearning score that shows the forget set."""
    if not study.judged:
        return not_applicable(NO_MODEL)
    if not any(_RELEARNING in row.cells for row in study.judged):
        return not_applicable("relearning was not measured")
    fast = _standing(study, study.judged, "residual", only=_RELEARNING)
    if fast is None:
        return not_applicable("relearning has no retrained values here")
    if not fast:
        return passed("No unlearned model relearns the forget set faster than retrained models.")
    said = (
        "The model relearns the forget set faster than retrained models learn it, so some of it"
        " was left."
    )
    return found(f"{said} {_by_model(fast, 2)}", fast)


@rule(
    "EF017",
    "A score that the method trains on",
    "note",
    action="Do not quote this score as evidence for the method. The headline counts it only where"
    " it speaks against it.",
)
def trained_on(study: StudyRecords) -> Finding:
    """Looks for scores that the method optimises."""
    if not study.judged:
        return not_applicable(NO_MODEL)
    own = {
        row.model: names
        for row in study.judged
        if (names := [label(n, study.table) for n in row.optimises if n in row.cells])
    }
    if not own:
        return passed("No unlearned model was trained on a score that it is judged by.")
    said = [f"{model} was trained on {enumerated(names)}" for model, names in own.items()]
    return found(_sentence(said), own)


def _standing(
    study: StudyRecords, rows: Sequence[Row], position: Position, *, only: str = ""
) -> dict[str, list[str]] | None:
    """The decision scores of each model that stand there, in words; None: nothing to compare."""
    told = {
        row.model: [
            s
            for s in study.decisions[row.model].scores
            if (s.name in KEEP_SCORES) == (position == "lost") and only in ("", s.name)
        ]
        for row in rows
    }
    if not any(told.values()):
        return None
    there = {
        model: [beside_oracles(s) for s in scores if s.position == position]
        for model, scores in told.items()
    }
    return {model: words for model, words in there.items() if words}


def _unchanged(record: RunRecord) -> float | None:
    """Share of the weights that are the original's, by name or by content."""
    if record.job.get("unchanged_weights") is None:
        return None
    return max(_share(record, "share"), _hidden(record))


def _hidden(record: RunRecord) -> float:
    """Share of the original's weights that are anywhere in the file; 0 where it was not looked."""
    value: Any = record.job.get("unchanged_weights")
    known = isinstance(value, dict) and "by_content" in value
    return _share(record, "by_content") if known else 0.0


def _more(record: RunRecord) -> float:
    """How many more numbers the file holds than the original's, as a share of these."""
    value: Any = record.job.get("unchanged_weights")
    known = isinstance(value, dict) and "more" in value
    return _share(record, "more", most=math.inf) if known else 0.0


def _share(record: RunRecord, key: str, most: float = 1.0) -> float:
    value: Any = record.job.get("unchanged_weights")
    share = value.get(key) if isinstance(value, dict) else None
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= most:
        span = "from 0 to 1" if most == 1 else "a number from 0"
        raise RecordError(
            f"record {record.name!r}: job.unchanged_weights.{key} must be {span}, "
            f"got {str(share)[:40]!r}"
        )
    return float(share)


def _is_plug_in(record: RunRecord) -> bool:
    """Whether the method itself says that it leaves the original in place."""
    method = record.job.get("method")
    guarantee = method.get("guarantee") if isinstance(method, dict) else None
    return isinstance(guarantee, str) and "plug-in" in guarantee


def _is_hidden(record: RunRecord) -> bool:
    """Whether more is found by content than by name."""
    known = record.job.get("unchanged_weights") is not None
    return known and _hidden(record) > _share(record, "share")


def _how_much(share: float | None, is_original: bool, is_hidden: bool) -> str:
    if is_original:
        return "is the original itself"
    if share is None:
        return "is made by a plug-in, as its method says"
    return percent(share) + (" by content, whatever their names" if is_hidden else "")


def _named(model: str, role: str | None) -> str:
    return f"{model} (control)" if role == "control" else model


def _beside(share: Share) -> str:
    return f"retraining took {share.retraining:.1f} s of {share.clock} time"


def _less_for_controls(roles: Iterable[str | None]) -> Severity | None:
    """A note where only controls are concerned."""
    return "note" if all(role == "control" for role in roles) else None


def _by_model(parts: Mapping[str, Sequence[str]], limit: int = 8) -> str:
    return _sentence([f"{model}: {enumerated(of, limit)}" for model, of in parts.items()])


def _sentence(parts: Sequence[str], limit: int = 8) -> str:
    more = [f"{len(parts) - limit} more models"] if len(parts) > limit else []
    return "; ".join([*parts[:limit], *more]) + "."
