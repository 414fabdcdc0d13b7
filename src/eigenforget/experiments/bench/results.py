"""A plan's results for people and programs: records of each study, one table, a leaderboard."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from eigenforget import record
from eigenforget.core.spec import spell
from eigenforget.evaluation.records import with_verdicts
from eigenforget.experiments.bench.finished import is_judged
from eigenforget.experiments.bench.jobs import MethodJob, StudySpec
from eigenforget.experiments.bench.run import Bench
from eigenforget.experiments.bench.scores_file import write_scores_file
from eigenforget.record import RunRecord, canonical, to_json, transaction, write_text
from eigenforget.record.files import atomic_file, slug
from eigenforget.record.transactions import Transaction
from eigenforget.report.pages import leaderboard
from eigenforget.report.pages.leaderboard import ExperimentRecords
from eigenforget.report.table import build

_COLUMNS = (
    "experiment",
    "seed",
    "role",
    "name",
    "method",
    "retain_fraction",
    "status",
    "reason",
    "seconds",
    "cpu_seconds",
    "score",
    "value",
    "low",
    "high",
    "gap",
    "units",
    "verdict",
    "data",
    "model",
    "recipe",
    "request",
    "job",
)
_NUMBERS = frozenset(
    ("seed", "retain_fraction", "seconds", "cpu_seconds", "value", "low", "high", "gap", "units")
)


class StudyResults(NamedTuple):
    """What is finished of one study.

    Attributes:
        experiment: The name of the experiment, shared by its training seeds.
        study: The study.
        records: Its records in the order of the plan, not chained.
    """

    experiment: str
    study: StudySpec
    records: tuple[RunRecord, ...]

    @property
    def folder(self) -> str:
        """Where they are below the results of the plan: EXPERIMENT/seedN."""
        return f"{self.experiment}/seed{self.study.seed}"


def results_of(bench: Bench) -> list[StudyResults]:
    """What is finished of the plan; studies of which nothing is are left out.

    A method has one name on all training seeds of an experiment.
    """
    by_study = bench.by_study()
    by_experiment: dict[StudySpec, list[MethodJob]] = {}
    for study, jobs in by_study.items():
        by_experiment.setdefault(replace(study, seed=0), []).extend(jobs)
    folders: dict[StudySpec, str] = {}
    for experiment in by_experiment:
        folders[experiment] = _experiment_name(experiment, taken=set(folders.values()))
    names = {key: name for jobs in by_experiment.values() for key, name in names_of(jobs).items()}
    found = []
    for study, jobs in by_study.items():
        baselines = bench.store.baselines(study)
        methods = [(job, bench.store.result(job)) for job in jobs]
        records = (
            *(baselines.records if baselines else ()),
            *(replace(item, name=names[job.digest]) for job, item in methods if item is not None),
        )
        if records:
            found.append(StudyResults(folders[replace(study, seed=0)], study, records))
    return found


def names_of(jobs: Sequence[MethodJob]) -> dict[str, str]:
    """The name of each job of one experiment, by its digest.

    That is the method and its share of the retain set, numbered where the experiment has several
    settings of one method.
    """
    specs: dict[str, list[str]] = {}
    names = {}
    for job in jobs:
        same = specs.setdefault(job.name, [])
        spec = spell(job.method)
        if spec not in same:
            same.append(spec)
        number = same.index(spec) + 1
        names[job.digest] = job.name if number == 1 else f"{job.name} {number}"
    return names


def write_out(bench: Bench, out: Path) -> list[StudyResults]:
    """Writes all results of a plan into a folder.

    They are EXPERIMENT/seedN/records, the scores file, table.csv (and table.parquet where pyarrow
    is installed), leaderboard.md and its picture, and summary.md and summary.svg of each
    experiment. Experiments that an earlier run of the plan put there and that it no longer has are
    removed. All of it changes together.

    Raises:
        RecordError: A file cannot be written.
    """
    found = results_of(bench)
    with transaction() as changes:
        draft = changes.folder(out)
        _remove_others(out, {results.experiment for results in found}, changes)
        for results in found:
            _write_chain(results, out / results.folder, changes)
        write_scores_file(draft, {results.folder: results.records for results in found})
        _write_tables([row for results in found for row in _rows(results)], draft)
        _draft_pages(out, bench.plan.title, _experiments(found), changes)
    return found


def write_pages(out: Path, title: str, experiments: Mapping[str, ExperimentRecords]) -> None:
    """Writes the pages of a folder of results, all or none.

    They are leaderboard.md with its picture, and summary.md and summary.svg of each experiment.
    """
    with transaction() as changes:
        _draft_pages(out, title, experiments, changes)


def _draft_pages(
    out: Path, title: str, experiments: Mapping[str, ExperimentRecords], changes: Transaction
) -> None:
    for name, experiment in experiments.items():
        details = leaderboard.details(experiment, picture="summary.svg")
        draft = changes.folder(out / name)
        write_text(draft / "summary.md", f"# {experiment.title}\n\n{details}")
        write_text(draft / "summary.svg", leaderboard.experiment_figure(experiment))
    linked = [p._replace(title=f"[{name}]({name}/summary.md)") for name, p in experiments.items()]
    text = leaderboard.leaderboard_table(linked, picture="leaderboard.svg")
    draft = changes.folder(out)
    write_text(draft / "leaderboard.md", f"# {title}\n\n{text}")
    write_text(draft / "leaderboard.svg", leaderboard.leaderboard_picture(linked))


def _remove_others(out: Path, experiments: set[str], changes: Transaction) -> None:
    known = out / "experiments.txt"
    before = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    for name in before:
        plain = name == Path(name).name and (out / name).is_dir() and not (out / name).is_symlink()
        if name not in experiments and plain:
            changes.remove(out / name)
    write_text(
        changes.folder(out) / known.name, "".join(f"{name}\n" for name in sorted(experiments))
    )


def _experiments(found: Sequence[StudyResults]) -> dict[str, ExperimentRecords]:
    seeds: dict[str, list[Sequence[RunRecord]]] = {}
    for results in found:
        if any(r.role == "oracle" for r in results.records):
            seeds.setdefault(results.experiment, []).append(results.records)
    titles = {results.experiment: results.study.title for results in found}
    return {
        name: ExperimentRecords(titles[name], records)
        for name, records in seeds.items()
        if is_judged(records)
    }


def _experiment_name(study: StudySpec, taken: set[str]) -> str:
    """A name such as digits-small_resnet-by_class-label-3, with a number where it is taken.

    Data in a file goes by the name of the file.
    """
    file = Path(str(getattr(study.data, "path", ""))).stem
    data = slug(file) if file else study.data.name
    stem = f"{data}-{study.model.name}-{slug(spell(study.request))}"[:100]
    names = (stem, *(f"{stem}-{i}" for i in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)


def _write_chain(results: StudyResults, folder: Path, changes: Transaction) -> None:
    """Writes records/ as a whole; it is left alone where it holds these very results."""
    target = folder / "records"
    unsealed = [replace(item, previous=None, digest=None) for item in results.records]
    chain = list(record.chained(with_verdicts(unsealed)))
    texts = {
        f"{number:03d}-{slug(item.name)}.json": canonical(to_json(item)) + "\n"
        for number, item in enumerate(chain)
    }
    there = {
        path.name: path.read_text(encoding="utf-8", errors="replace")
        for path in target.glob("*.json")
    }
    if there == texts:
        return
    draft = changes.draft(target)
    draft.mkdir()
    for name, text in texts.items():
        (draft / name).write_text(text, encoding="utf-8")


def _rows(results: StudyResults) -> Iterator[dict[str, Any]]:
    """One row for each score of each model; one without a score for a job that has no result."""
    of = {item.name: item for item in results.records}
    for row in build(results.records).rows:
        item = of[row.model]
        job = item.job
        common: dict[str, Any] = {
            "experiment": results.experiment,
            "seed": job.get("seed"),
            "role": row.role,
            "name": row.model,
            "method": (job.get("method") or {}).get("spec", ""),
            "retain_fraction": job.get("retain_fraction"),
            "status": row.status,
            "reason": row.reason,
            "seconds": row.seconds,
            "cpu_seconds": item.outcome.cost.get("cpu_seconds"),
            "job": job.get("job_digest", ""),
            **{key: job[key]["spec"] for key in ("data", "model", "recipe", "request")},
        }
        if not row.cells:
            yield common
        for name, cell in row.cells.items():
            own = {key: getattr(cell, key) for key in ("value", "low", "high", "gap", "units")}
            own |= {"verdict": cell.verdict, "reason": cell.reason or row.reason}
            yield {**common, "score": name, **own}


def _write_tables(rows: Sequence[dict[str, Any]], out: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / "table.csv", text.getvalue())
    if importlib.util.find_spec("pyarrow") is None:
        return
    import pyarrow
    import pyarrow.parquet

    kinds = {n: pyarrow.float64() if n in _NUMBERS else pyarrow.string() for n in _COLUMNS}
    columns = {name: [row.get(name) for row in rows] for name in _COLUMNS}
    columns |= {name: [None if v is None else float(v) for v in columns[name]] for name in _NUMBERS}
    with atomic_file(out / "table.parquet") as draft:
        pyarrow.parquet.write_table(pyarrow.table(columns, schema=pyarrow.schema(kinds)), draft)
