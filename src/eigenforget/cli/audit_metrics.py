"""`eigenforget audit-metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from eigenforget import record
from eigenforget.cli.options import (
    DEVICE,
    Audits,
    ChannelsLast,
    DataSpec,
    DeviceOptions,
    Metrics,
    ModelSpec,
    Overwrite,
    RecipeSpec,
    Skip,
    StoreFolder,
)
from eigenforget.cli.terminal import console, engine, one_thread, progress, say
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.evaluation.records import write_chain
from eigenforget.experiments.cheats import CHEATS
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.metric_audit import MetricAudit
from eigenforget.experiments.results import check_records
from eigenforget.experiments.specs import Specs
from eigenforget.record import RunRecord, check_place, slug, write_text
from eigenforget.report.glossary import label
from eigenforget.report.pages import metric_audit as report
from eigenforget.report.pages.metric_audit_page import write_audit

_PAGE = "audit.html"
"""The page of an audit."""

_MOST = 1000


def audit_metrics(
    *,
    data: DataSpec = "digits()",
    model: ModelSpec = "small_resnet(width=16)",
    recipe: RecipeSpec = "recipe(epochs=20, batch_size=64)",
    forget: Annotated[
        tuple[str, ...],
        Parameter(help="what to forget, as in 'by_class(label=3)'; repeatable", negative=()),
    ] = ("by_class(label=3)", "at_random(fraction=0.1)"),
    seeds: Annotated[int, Parameter(help="number of training seeds, counted from 0")] = 3,
    oracles: Annotated[
        int, Parameter(help="number of retrained models for each training seed")
    ] = 3,
    skip: Skip = (),
    metric: Metrics = (),
    audit: Audits = (),
    cheats: Annotated[
        bool,
        Parameter(
            help="also judge ten cheats for each training seed: models that imitate a retrained "
            "one, for example by hiding a copy of the original",
            negative=(),
        ),
    ] = False,
    store: StoreFolder = "",
    out: Annotated[Path, Parameter(help="where to write the result")] = Path("metric-audit"),
    device: DeviceOptions = DEVICE,
    channels_last: ChannelsLast = False,
    overwrite: Overwrite = False,
) -> None:
    r"""Test the metrics on models for which the right answer is known.

    A good metric accepts a retrained model, and catches controls that only pretend to forget.

    Example:
        eigenforget audit-metrics --data 'digits()' --model 'mlp()' --recipe 'recipe(epochs=5)' \
            --forget 'by_class(label=3)' --seeds 1 --skip relearning --out metric-audit
    """
    if not (1 <= seeds <= _MOST and 1 <= oracles <= _MOST):
        raise EigenforgetError(
            f"an audit needs from 1 to {_MOST} training seeds, and as many oracles for each; got "
            f"{seeds} and {oracles}"
        )
    folders = {out / slug(request): request for request in forget}
    if len(folders) < len(forget):
        raise EigenforgetError(f"requests must differ, got {listed(forget)}")
    place, audits = engine(**asdict(device), channels_last=channels_last), {}
    for folder, request in folders.items():
        specs = Specs(data=data, model=model, recipe=recipe, request=request)
        audits[folder] = MetricAudit(
            Experiment.parse(specs, place),
            tuple(range(seeds)),
            oracles,
            store=Path(store) if store else None,
            skip=skip,
            metrics=metric,
            audits=audit,
            cheats=CHEATS if cheats else (),
        )
    check_place(out, overwrite=overwrite, folder=True)
    for folder in folders:
        check_records(folder / "records", overwrite=True)
    for planned in audits.values():
        planned.experiment.check()
        say(f"inputs: {planned.experiment.data.inputs_in_words}", wrap=False)
    finished = [f for f in folders if (f / "records").exists() and not overwrite]
    for folder in finished:
        _check_same(audits[folder], folder)
    for folder, request in folders.items():
        if folder not in finished:
            _run(audits[folder], folder, request)
    records = {folder.name: _written(folder) for folder in folders}
    write_audit(records, out / _PAGE)
    say(f"wrote {out / _PAGE}, and records and audit.csv for each request")


def _run(audit: MetricAudit, folder: Path, request: str) -> None:
    say(f"audit of the metrics: {request}")
    with progress() as watch, one_thread():
        records = list(audit.records(watch))
    with record.transaction() as changes:
        draft = changes.folder(folder)
        write_chain(records, draft / "records")
        _write_table(records, draft)
        changes.remove(folder.parent / _PAGE)  # until it is about these records


def _check_same(audit: MetricAudit, folder: Path) -> None:
    """Checks that the records in the folder are of this audit.

    Raises:
        EigenforgetError: They are of another audit.
    """
    records = record.read_folder(folder / "records")
    expected = audit.experiment.job()
    cure = "use --overwrite to replace it"
    for key in ("data", "model", "recipe"):
        specs = {r.job[key]["spec"] for r in records}
        if specs != {expected[key]["spec"]}:
            found = f"{key} {listed(sorted(specs))}, not {expected[key]['spec']}"
            raise EigenforgetError(f"{folder} holds an audit with {found}; {cure}")
    # By the split and not by the request's spelling: at_random() and at_random(fraction=0.1) are
    # the same.
    if {r.inputs.get("split") for r in records} != {audit.experiment.split.digest}:
        raise EigenforgetError(f"{folder} holds an audit of another request; {cure}")
    count, wanted = sum(r.role == "oracle" for r in records), len(audit.oracle_seeds())
    if count != wanted:
        raise EigenforgetError(
            f"{folder} holds an audit with {count} retrained models, not {wanted}; {cure}"
        )


def _written(folder: Path) -> list[RunRecord]:
    """Writes the table of one request, and prints it; returns its records."""
    records = record.read_folder(folder / "records")
    with record.atomic_update(folder) as draft:
        _write_table(records, draft)
    _print(report.judge_metrics(records), report.title_of(records))
    return records


def _write_table(records: Sequence[RunRecord], folder: Path) -> None:
    write_text(folder / "audit.csv", report.table_csv(report.judge_metrics(records)))


def _print(found: Sequence[report.Judgement], title: str) -> None:
    names = report.cheat_names(found)
    table = Table(title=Text(title), title_justify="left", expand=False)
    for name in ("metric", "held out", "original", *names, "conclusion"):
        table.add_column(
            Text(name), justify="left" if name in ("metric", "conclusion") else "right"
        )
    for j in found:
        table.add_row(
            *map(Text, (label(j.metric.name), *report.judgement_cells(j, names), j.conclusion))
        )
    console.print(table)
