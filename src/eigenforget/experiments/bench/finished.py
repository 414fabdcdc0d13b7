"""Finished results of plans, read from their folders without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eigenforget.experiments.bench.scores_file import read_studies
from eigenforget.record import RunRecord
from eigenforget.report.pages.leaderboard import ExperimentRecords


def read_experiments(folder: Path) -> dict[str, ExperimentRecords]:
    """The experiments in a folder of results, by name, with the records of each seed."""
    seeds: dict[str, list[Sequence[RunRecord]]] = {}
    for path, records in sorted(read_studies(folder).items()):
        seeds.setdefault(path.partition("/")[0], []).append(records)
    return {
        name: ExperimentRecords(_title(found[0]), found)
        for name, found in seeds.items()
        if is_judged(found)
    }


def is_judged(seeds: Sequence[Sequence[RunRecord]]) -> bool:
    """Whether there is a method, beside retrained models on every seed."""
    return any(r.role in ("unlearned", "control") for records in seeds for r in records) and all(
        any(r.role == "oracle" for r in records) for records in seeds
    )


def _title(records: Sequence[RunRecord]) -> str:
    job = records[0].job
    return ", ".join(job[key]["spec"] for key in ("data", "model", "request"))
