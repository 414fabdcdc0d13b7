"""`eigenforget audit-metrics`: judge every metric on models of which the answer is known, for each
request.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from eigenforget import record
from eigenforget.cli.terminal import console, one_thread, progress
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.metric_audit import MetricAudit
from eigenforget.experiments.specs import Specs, experiment_of
from eigenforget.record import RunRecord, write_text
from eigenforget.report.glossary import label
from eigenforget.report.pages import metric_audit as judged
from eigenforget.training.engine import Engine


class Design(NamedTuple):
    """What to train: specs, training seeds and oracles for each, and the names of what is not
    measured.
    """

    data: str
    model: str
    recipe: str
    requests: tuple[str, ...]
    seeds: int
    oracles: int
    skip: tuple[str, ...] = ()


def audit_metrics(
    design: Design, *, out: Path, store: Path | None, engine: Engine, overwrite: bool
) -> None:
    """Records, table, figure and CSV of every request in the folder `out`. A request whose records
    are there is not run again.
    """
    experiments = [
        experiment_of(Specs(design.data, design.model, design.recipe, request), engine)
        for request in design.requests
    ]
    folders = [out / slug(request) for request in design.requests]
    if len(set(folders)) < len(folders):
        raise EigenforgetError(f"requests must differ, got {listed(design.requests)}")
    audits = [_audit(design, e, store) for e in experiments]
    for experiment in experiments:
        experiment.split  # noqa: B018  (fail before anything is trained)
    unfinished = [overwrite or not (folder / "records").exists() for folder in folders]
    for audit, folder, new in zip(audits, folders, unfinished, strict=True):
        if not new:
            _check_same(audit, folder)
    for request, audit, folder, new in zip(
        design.requests, audits, folders, unfinished, strict=True
    ):
        if new:
            _run(audit, folder, request)
    sections = [
        _section(request, folder) for request, folder in zip(design.requests, folders, strict=True)
    ]
    write_text(
        out / "audit.md", "\n".join(["# Audit of the metrics\n", _explained(design), *sections])
    )
    console.print(
        f"wrote {out}/audit.md, and records, audit.svg and audit.csv for each request",
        highlight=False,
    )


def slug(request: str) -> str:
    """A folder name for a request: by_class-label-3."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", request).strip("-.")


def _audit(design: Design, experiment: Experiment, store: Path | None) -> MetricAudit:
    if design.seeds < 1 or design.oracles < 1:
        raise EigenforgetError(
            f"an audit needs at least 1 training seed and 1 oracle for each, got {design.seeds} and {design.oracles}"
        )
    return MetricAudit(
        experiment, tuple(range(design.seeds)), design.oracles, store=store, skip=design.skip
    )


def _run(audit: MetricAudit, folder: Path, request: str) -> None:
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    (draft / "records").mkdir(parents=True)
    console.print(f"audit of the metrics: {request}", highlight=False)
    with progress() as watch, one_thread():
        for number, item in enumerate(audit.records(watch)):
            record.write(item, draft / "records" / f"{number:02d}-{slug(item.name)}.json")
    if folder.exists():
        shutil.rmtree(folder)
    draft.replace(folder)


def _check_same(audit: MetricAudit, folder: Path) -> None:
    """Errors: the records in the folder are of another design, whose numbers would stand under the
    name of this one.
    """
    records = record.read_folder(folder / "records")
    expected = audit.experiment.job()
    for key in ("data", "model", "recipe"):
        specs = {r.job[key]["spec"] for r in records}
        if specs != {expected[key]["spec"]}:
            found = f"{key} {listed(sorted(specs))}, not {expected[key]['spec']}"
            raise EigenforgetError(
                f"{folder} holds an audit with {found}; say --overwrite to replace it"
            )
    # By the split and not by the request's spelling: at_random() and at_random(fraction=0.1) are
    # the same.
    if {r.inputs.get("split") for r in records} != {audit.experiment.split.digest}:
        raise EigenforgetError(
            f"{folder} holds an audit of another request; say --overwrite to replace it"
        )
    count, wanted = sum(r.role == "oracle" for r in records), len(audit.oracle_seeds())
    if count != wanted:
        raise EigenforgetError(
            f"{folder} holds an audit with {count} retrained models, not {wanted}; say --overwrite to replace it"
        )


def _section(request: str, folder: Path) -> str:
    records = record.read_folder(folder / "records")
    found = judged.judge(records)
    title = f"{request}: {_counted(records)}"
    write_text(
        folder / "audit.svg",
        judged.draw(found, f"Metrics on models of which the answer is known. {title}"),
    )
    write_text(folder / "audit.csv", judged.table_csv(found))
    _print(found, title)
    notes = [f"- {line}" for line in judged.unmeasured(records)]
    parts = [f"## {title}\n", f"![]({folder.name}/audit.svg)\n", judged.markdown(found)]
    return "\n".join([*parts, *(["\nNot measured:\n", *notes] if notes else []), ""])


def _counted(records: Sequence[RunRecord]) -> str:
    counts = {
        role: sum(r.role == role and r.outcome.status == "ok" for r in records)
        for role in ("original", "oracle", "control")
    }
    return f"{counts['original']} originals, {counts['oracle']} retrained models, {counts['control']} controls"


def _explained(design: Design) -> str:
    return (
        f"Data `{design.data}`, model `{design.model}`, recipe `{design.recipe}`. Gaps are in halves of the band in which one more retrained"
        " model lies with 95 %: within ±1 a value is one that a retrained model may have. Each retrained model is held out of the band of the"
        " others once. For the other models: mean gap over training seeds [bootstrap interval over the seeds] (on how many seeds it is out"
        " of the band). A metric is *trusted here* when retrained models pass it, the original is out of the band on every seed, and so is"
        " every control that it was measured on.\n"
    )


def _print(found: Sequence[judged.Judgement], title: str) -> None:
    names = judged.cheat_names(found)
    table = Table(title=title, title_justify="left", expand=False)
    for name in ("metric", "held out", "original", *names, "conclusion"):
        table.add_column(name, justify="left" if name in ("metric", "conclusion") else "right")
    for j in found:
        table.add_row(*map(Text, (label(j.metric.name), *judged.cells(j, names), j.conclusion)))
    console.print(table)
