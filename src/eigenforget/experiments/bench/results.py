"""A plan's results as people and other programs read them: chained records for each setting, one
table, a leaderboard.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from eigenforget import record
from eigenforget.core.errors import NotWritten
from eigenforget.core.spec import spell
from eigenforget.experiments.bench.cells import Cell, Setting
from eigenforget.experiments.bench.run import Bench
from eigenforget.experiments.bench.scores_file import read_studies, write_scores
from eigenforget.record import RunRecord, canonical, to_json, write_text
from eigenforget.report.pages import leaderboard
from eigenforget.report.pages.leaderboard import Problem
from eigenforget.report.table import build

COLUMNS = (
    "problem",
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
    "cell",
)


class Place(NamedTuple):
    """A setting's folder below the results, problem/seedN, and its finished records in the order of
    the plan, not chained.
    """

    problem: str
    setting: Setting
    records: tuple[RunRecord, ...]

    @property
    def folder(self) -> str:
        return f"{self.problem}/seed{self.setting.seed}"


def places(bench: Bench) -> list[Place]:
    """What is finished of the plan; settings of which nothing is are left out. A method has one
    name on all seeds of a problem.
    """
    by_setting = bench.by_setting()
    of_problem: dict[Setting, list[Cell]] = {}
    for setting, cells in by_setting.items():
        of_problem.setdefault(replace(setting, seed=0), []).extend(cells)
    problems: dict[Setting, str] = {}
    names = {key: name for cells in of_problem.values() for key, name in names_of(cells).items()}
    found = []
    for setting, cells in by_setting.items():
        problem = _named(replace(setting, seed=0), problems)
        anchors = bench.store.anchors(setting)
        results = [(cell, bench.store.result(cell)) for cell in cells]
        methods = [
            replace(item, name=names[cell.digest]) for cell, item in results if item is not None
        ]
        records = (*(anchors.records if anchors else ()), *methods)
        if records:
            found.append(Place(problem, setting, records))
    return found


def names_of(cells: Sequence[Cell]) -> dict[str, str]:
    """By the cell's digest: the method and its share of the retained data, numbered where a problem
    has several settings of one method.
    """
    known: dict[str, list[str]] = {}
    names = {}
    for cell in cells:
        same = known.setdefault(cell.name, [])
        spec = spell(cell.method)
        if spec not in same:
            same.append(spec)
        number = same.index(spec) + 1
        names[cell.digest] = cell.name if number == 1 else f"{cell.name} {number}"
    return names


def write_out(bench: Bench, out: Path) -> list[Place]:
    """problem/seedN/records, table.csv (and table.parquet where pyarrow is there), leaderboard.md
    and problem/summary.md and .svg.

    Problems that an earlier run of the plan put there and that it no longer has are removed.
    Errors: RecordError, NotWritten.
    """
    found = places(bench)
    try:
        out.mkdir(parents=True, exist_ok=True)
        _remove_others(out, {place.problem for place in found})
        for place in found:
            _write_chain(place, out / place.folder)
        write_scores(out, {place.folder: place.records for place in found})
        _write_tables([row for place in found for row in _rows(place)], out)
        write_pages(out, bench.plan.title, _problems(found))
    except OSError as error:
        raise NotWritten(
            f"{error.filename or out}: cannot be written: {error.strerror or error}"
        ) from None
    return found


def write_pages(out: Path, title: str, problems: Mapping[str, Problem]) -> None:
    """Write leaderboard.md, and summary.md and summary.svg of each experiment, into a folder of
    results.
    """
    for name, problem in problems.items():
        (out / name).mkdir(exist_ok=True)
        write_text(
            out / name / "summary.md",
            f"# {problem.title}\n\n{leaderboard.details(problem)}\n![](summary.svg)\n",
        )
        write_text(out / name / "summary.svg", leaderboard.problem_figure(problem))
    text = leaderboard.leaderboard_table(
        [p._replace(title=f"[{name}]({name}/summary.md)") for name, p in problems.items()]
    )
    write_text(out / "leaderboard.md", f"# {title}\n\n{text}")


def _remove_others(out: Path, problems: set[str]) -> None:
    known = out / "problems.txt"
    before = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    for name in before:
        if name not in problems and name == Path(name).name:
            shutil.rmtree(out / name, ignore_errors=True)
    write_text(known, "".join(f"{name}\n" for name in sorted(problems)))


def read_problems(folder: Path) -> dict[str, Problem]:
    """The problems in a folder that write_out made: by name, with the records of each seed."""
    seeds: dict[str, list[Sequence[RunRecord]]] = {}
    for path, records in sorted(read_studies(folder).items()):
        seeds.setdefault(path.partition("/")[0], []).append(records)
    return {
        name: Problem(_title(found[0]), found) for name, found in seeds.items() if _judged(found)
    }


def _judged(seeds: Sequence[Sequence[RunRecord]]) -> bool:
    """Whether there is a method, beside retrained models on every seed."""
    return any(r.role in ("unlearned", "control") for records in seeds for r in records) and all(
        any(r.role == "oracle" for r in records) for records in seeds
    )


def _title(records: Sequence[RunRecord]) -> str:
    job = records[0].job
    return ", ".join(job[key]["spec"] for key in ("data", "model", "request"))


def _problems(found: Sequence[Place]) -> dict[str, Problem]:
    seeds: dict[str, list[Sequence[RunRecord]]] = {}
    for place in found:
        if any(r.role == "oracle" for r in place.records):
            seeds.setdefault(place.problem, []).append(place.records)
    titles = {place.problem: place.setting.title for place in found}
    return {
        name: Problem(titles[name], records) for name, records in seeds.items() if _judged(records)
    }


def _named(problem: Setting, names: dict[Setting, str]) -> str:
    """digits-small_resnet-by_class-label-3, data in a file by its name; a number behind it where
    two problems would share the name.
    """
    if problem not in names:
        request = re.sub(r"[^A-Za-z0-9_.]+", "-", spell(problem.request)).strip("-.")
        data = (
            re.sub(
                r"[^A-Za-z0-9_.]+", "-", Path(str(getattr(problem.data, "path", ""))).stem
            ).strip("-.")
            or problem.data.name
        )
        stem = f"{data}-{problem.model.name}-{request}"[:100]
        taken = set(names.values())
        names[problem] = next(
            n for n in (stem, *(f"{stem}-{i}" for i in range(2, len(taken) + 3))) if n not in taken
        )
    return names[problem]


def _write_chain(place: Place, folder: Path) -> None:
    """records/, made as a draft and moved in whole; left alone where it holds these very results."""
    target, draft = folder / "records", folder / ".records.draft"
    unsealed = [replace(item, previous=None, digest=None) for item in place.records]
    chain = list(record.chained(unsealed))
    names = [
        f"{number:03d}-{re.sub(r'[^A-Za-z0-9_.%-]+', '-', item.name)}.json"
        for number, item in enumerate(chain)
    ]
    texts = {name: canonical(to_json(item)) + "\n" for name, item in zip(names, chain, strict=True)}
    if (
        target.is_dir()
        and {
            path.name: path.read_text(encoding="utf-8", errors="replace")
            for path in target.glob("*.json")
        }
        == texts
    ):
        return
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for name, text in texts.items():
        write_text(draft / name, text)
    if target.exists():
        shutil.rmtree(target)
    draft.replace(target)


def _rows(place: Place) -> Iterator[dict[str, Any]]:
    """One row for each score of each model; one without a score for a cell that has no result."""
    of = {item.name: item for item in place.records}
    for row in build(place.records).rows:
        item = of[row.model]
        job = item.job
        common: dict[str, Any] = {
            "problem": place.problem,
            "seed": job.get("seed"),
            "role": row.role,
            "name": row.model,
            "method": (job.get("method") or {}).get("spec", ""),
            "retain_fraction": job.get("retain_fraction"),
            "status": row.status,
            "reason": row.reason,
            "seconds": row.seconds,
            "cpu_seconds": item.outcome.cost.get("cpu_seconds"),
            "cell": job.get("cell", ""),
            **{key: job[key]["spec"] for key in ("data", "model", "recipe", "request")},
        }
        if not row.cells:
            yield common
        for name, cell in row.cells.items():
            own = {
                "value": cell.value,
                "low": cell.low,
                "high": cell.high,
                "gap": cell.gap,
                "units": cell.units,
                "verdict": cell.verdict,
            }
            yield {**common, "score": name, **own, "reason": cell.reason or row.reason}


def _write_tables(rows: Sequence[dict[str, Any]], out: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(
        {key: "" if value is None else value for key, value in row.items()} for row in rows
    )
    write_text(out / "table.csv", text.getvalue())
    if importlib.util.find_spec("pyarrow") is None:
        return
    import pyarrow
    import pyarrow.parquet

    numbers = {
        "seed",
        "retain_fraction",
        "seconds",
        "cpu_seconds",
        "value",
        "low",
        "high",
        "gap",
        "units",
    }
    kinds = {name: pyarrow.float64() if name in numbers else pyarrow.string() for name in COLUMNS}
    columns = {name: [row.get(name) for row in rows] for name in COLUMNS}
    columns |= {name: [None if v is None else float(v) for v in columns[name]] for name in numbers}
    draft = out / ".table.parquet.tmp"
    pyarrow.parquet.write_table(pyarrow.table(columns, schema=pyarrow.schema(kinds)), draft)
    draft.replace(out / "table.parquet")
