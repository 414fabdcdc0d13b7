"""Records of measured models: where they were made, what they claim and what they do not claim."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from eigenforget.core import notices
from eigenforget.core.spec import spell
from eigenforget.core.types import Score, Split
from eigenforget.core.version import __version__
from eigenforget.models import checkpoint
from eigenforget.record import Outcome, RunRecord, file_digest, score_row, write, write_text
from eigenforget.record.files import slug
from eigenforget.record.ledger import append_all
from eigenforget.record.schema import Kind
from eigenforget.record.transactions import Transaction, transaction
from eigenforget.report.table import build, write_csv
from eigenforget.report.verdict import Verdict, verdicts
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.engine import Engine

if TYPE_CHECKING:  # with torchmetrics, scipy and scikit-learn it takes as long to load as torch
    from eigenforget.evaluation.board import Measurement, Panel

_NO_PROOF = "It is no differential-privacy or other formal guarantee, and no legal opinion."

CERTIFIED = (
    "Beyond the certificate in this record, which holds under the assumptions that stand there, it "
    "is no formal guarantee, and no legal opinion."
)
"""In the place of the sentence on guarantees, where a method certifies its removal."""

NON_CLAIMS = (
    "This is a measurement of one model on this data, not a proof that no trace of the forgotten "
    "data is left.",
    _NO_PROOF,
    "Membership attacks here bound what these attackers find with the models they were given, not "
    "what any attacker could find.",
    "Dimensional alignment and probes describe the measured feature layers on average, not each "
    "sample.",
    "A score inside the band of the retrained models does not tell this model from them by this "
    "measure; others may.",
)
"""What a record of a measured or unlearned model does not claim."""

LEFT_ALONE = (
    "Weights that take no part in the forward pass, such as a moving average in buffers or in a "
    "second module of the model, keep the original's values, and so do frozen ones: they are still "
    "in the checkpoint."
)
"""A further non-claim of a record of unlearning; `models.unchanged` finds such weights."""

SPLIT = "split.json"
"""Name of the file with the ids of the split, in a folder of records."""

_CLAIMS = {
    "forget_accuracy": "It classifies {:.4f} of the forgotten training samples correctly.",
    "test_forget_accuracy": "It classifies {:.4f} of held-out samples of the forgotten classes "
    "correctly.",
    "test_retain_accuracy": "It classifies {:.4f} of held-out samples of the retained classes "
    "correctly.",
    "mia_auc": "A population loss attack tells forgotten from unseen samples with AUC {:.4f}.",
    "da": "The dimensional alignment of forgotten with retained training features is {:.4f}.",
}


class Origin(NamedTuple):
    """Where models come from: the specs of the job, digests of the inputs, and the engine."""

    job: Mapping[str, Any]
    inputs: Mapping[str, str]
    engine: Engine


def run_record(
    kind: Kind,
    name: str,
    outcome: Outcome,
    origin: Origin,
    *,
    job: Mapping[str, Any] | None = None,
    inputs: Mapping[str, str] | None = None,
    **fields: Any,
) -> RunRecord:
    """An unsealed record of one run, made now, with the warnings until now in its job.

    Args:
        kind: "train", "unlearn" or "evaluate".
        name: The model's display name.
        outcome: What happened, and what it cost.
        origin: What all runs of this origin have in common.
        job: Further entries of the job.
        inputs: Further digests.
        **fields: Further fields of RunRecord; `non_claims` has a default for each kind.
    """
    fields.setdefault("non_claims", _non_claims(kind, certified="certificate" in (job or {})))
    warned = notices.so_far()
    whole = {**origin.job, **(job or {}), **({"warnings": warned} if warned else {})}
    return RunRecord(
        kind=kind,
        name=name,
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        job=whole,
        inputs={**_code_files(whole), **origin.inputs, **(inputs or {})},
        environment=run_environment(origin.engine),
        outcome=outcome,
        **fields,
    )


def _code_files(job: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the user's Python files that specs in a job name, as python(path="mine.py:Mine").

    Two files of one name in different folders have none: records name a file by its name.
    """
    found: dict[str, set[str]] = {}
    pending: list[Any] = [value for value in job.values() if isinstance(value, dict)]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending += item.values()
            path = item.get("path")
            file = path.rpartition(":")[0] if isinstance(path, str) else ""
            if file.endswith(".py") and Path(file).is_file():
                found.setdefault(Path(file).name, set()).add(file_digest(file))
        elif isinstance(item, (list, tuple)):
            pending += item
    return {f"file:{name}": digests.pop() for name, digests in found.items() if len(digests) == 1}


def evaluation_record(
    name: str,
    made: ModelAndCost,
    measured: Measurement,
    origin: Origin,
    *,
    split: Split,
    trace: Sequence[Mapping[str, Any]] = (),
    inputs: Mapping[str, str] | None = None,
    **fields: Any,
) -> RunRecord:
    """The unsealed record of one measured model.

    Args:
        name: The model's display name.
        made: The model, and what it took to train or unlearn it.
        measured: Its scores and series.
        origin: What all records of this origin have in common.
        split: Sizes and classes of the request, for the claims.
        trace: Rows of the training log, as the series "trace".
        inputs: Further digests beside that of the model.
        **fields: As in `run_record`.
    """
    series = {**measured.series, **({"trace": list(trace)} if trace else {})}
    cost = {**made.cost, "measure_seconds": round(measured.seconds, 3)}
    return run_record(
        "evaluate",
        name,
        Outcome("ok", made.seconds, cost=cost),
        origin,
        inputs={"checked_model": checkpoint.model_digest(made.model), **(inputs or {})},
        role=measured.role,
        scores=tuple(score_row(score) for score in measured.scores),
        series=series,
        claims=claims(measured.scores, measured.role, split),
        **fields,
    )


def with_verdicts(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Unsealed records, those of measured unlearned models with the verdict in their job.

    It is the verdict beside the other records of this list; a report of more retrained models may
    come to another.
    """
    if not any(r.kind == "evaluate" for r in records):
        return list(records)
    said = {v.model: v for v in verdicts(build(records))}
    return [
        replace(r, job={**r.job, "verdict": _in_record(said[r.name])})
        if r.kind == "evaluate" and r.name in said
        else r
        for r in records
    ]


def _in_record(verdict: Verdict) -> dict[str, Any]:
    return {
        "outcome": verdict.slug,
        **{
            name: {"answer": a.answer, "because": a.words, "scores": list(a.scores)}
            for name, a in zip(("forgot", "kept", "cost"), verdict.answers, strict=True)
        },
    }


def measurement_job(panel: Panel) -> tuple[dict[str, Any], dict[str, str]]:
    """What a record says of the measurement itself, and digests of the user's files behind it.

    Returns:
        The entry "measurement" of a job, and entries "file:NAME" of the inputs.
    """
    paths = panel.own_paths
    settings: dict[str, Any] = {"seed": panel.seed}
    settings |= {"k": panel.k} if panel.k else {}
    settings |= {"skip": list(panel.skip)} if panel.skip else {}
    settings |= (
        {"metrics": [paths[kind.name] for kind in panel.own_metrics]} if panel.own_metrics else {}
    )
    settings |= {"audits": [spell(audit) for audit in panel.own_audits]} if panel.own_audits else {}
    digests = {f"file:{file.name}": file_digest(file) for file in panel.own_files}
    return {"measurement": settings}, digests


def own_measurement(panel: Panel) -> tuple[dict[str, Any], dict[str, str]]:
    """As `measurement_job`, and nothing where all that is measured is this package's."""
    return measurement_job(panel) if panel.own_metrics or panel.own_audits else ({}, {})


def write_results(
    records: Sequence[RunRecord],
    out: str | Path,
    *,
    title: str,
    overwrite: bool,
    split: str = "",
    ledger: Path | None = None,
) -> Path:
    """Writes records/*.json, table.csv and report.html into a folder, all of them or none.

    Args:
        records: Sealed records.
        out: The folder; it is made where it is missing, and what else is in it stays.
        title: The title of the page.
        overwrite: Whether results that are there are replaced.
        split: Text of records/split.json, the ids of the split; "" for none.
        ledger: To which the records are appended in the same step, where one is kept.

    Returns:
        The folder.
    """
    with transaction(overwrite=overwrite) as step:
        draft_results(records, step.folder(out), title=title, split=split)
        append_to_ledger(records, ledger, step)
    return Path(out)


def draft_results(
    records: Sequence[RunRecord], draft: Path, *, title: str, split: str = ""
) -> None:
    """Writes the files of `write_results` into the draft of a folder."""
    from eigenforget.report.pages.page import write_page

    write_chain(records, draft / "records", split=split)
    write_csv(records, draft / "table.csv")
    write_page(records, draft / "report.html", title=title)


def append_to_ledger(records: Sequence[RunRecord], ledger: Path | None, step: Transaction) -> None:
    """Appends the records to the ledger, where one is kept, as part of a transaction."""
    if ledger is not None:
        names = [f"{item.kind}-{item.name}" for item in records]
        append_all(ledger, records, step, names=names, again=True)


def write_chain(records: Sequence[RunRecord], folder: Path, *, split: str = "") -> None:
    """Writes sealed records as the numbered files of a folder, with the file of their split."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, record in enumerate(records):
        write(record, folder / f"{number:02d}-{slug(record.name)}.json")
    if split:
        write_text(folder / SPLIT, split)


def run_environment(engine: Engine) -> dict[str, Any]:
    """Versions, platform, device, threads and precision.

    Devices and accumulated batches are listed where there are several, and on a GPU what decides
    whether a rerun gives the same bits.
    """
    device = engine.fabric.device
    counts = {"devices": engine.devices, "accumulate": engine.accumulate}
    cuda = device.type == "cuda"
    of_gpu = {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
    }
    several = {name: count for name, count in counts.items() if count > 1}
    return (
        several
        | (of_gpu if cuda else {})
        | {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "eigenforget": __version__,
            "platform": platform.platform(),
            "device": torch.cuda.get_device_name(device)
            if cuda
            else (platform.processor() or "cpu"),
            "threads": torch.get_num_threads(),
            "precision": engine.precision,
        }
    )


def claims(scores: Sequence[Score], role: str, split: Split) -> tuple[str, ...]:
    """What the numbers of a record say, one sentence each, and nothing beyond them."""
    values = {score.name: score.value for score in scores if score.value is not None}
    found = [text.format(values[name]) for name, text in _CLAIMS.items() if name in values]
    gone = ", ".join(map(str, split.forgotten_classes))
    noun = "class" if len(split.forgotten_classes) == 1 else "classes"
    what = f"{noun} {gone}" if gone else "no class as a whole"
    found.append(
        f"The request forgets {len(split.forget)} training samples ({what}) and retains "
        f"{len(split.retain)}."
    )
    if role == "control":
        found.append(
            "This model is a negative control: it is built to pass output metrics without "
            "forgetting."
        )
    return tuple(found)


def _non_claims(kind: Kind, *, certified: bool) -> tuple[str, ...]:
    told = tuple(CERTIFIED if certified and text == _NO_PROOF else text for text in NON_CLAIMS)
    return {"train": (), "evaluate": told, "unlearn": (*told, LEFT_ALONE)}[kind]
