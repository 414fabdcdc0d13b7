"""`eigenforget sequence`: deletion requests one after the other, each measured beside models
retrained for that moment.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from eigenforget.cli.terminal import console, one_thread, progress
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import build, parse
from eigenforget.evaluation.scoring import check_skip
from eigenforget.experiments.results import SPLIT, keep, write_results
from eigenforget.experiments.sequence import SequentialStudy
from eigenforget.experiments.specs import Specs, experiment_of
from eigenforget.methods import METHODS
from eigenforget.models.features import find_layer
from eigenforget.record import read_folder, write_text
from eigenforget.report.pages import sequence as report
from eigenforget.requests import REQUESTS, Sequential
from eigenforget.training.engine import Engine


class Plan(NamedTuple):
    """Specs of the data, model, recipe and method, and the requests in the order in which they
    arrive.
    """

    data: str
    model: str
    recipe: str
    method: str
    requests: tuple[str, ...]
    again: str = "error"
    retain_fraction: float = 1.0
    layer: str = ""


class Oracles(NamedTuple):
    """Seeds of the models retrained at each step, and the folder that keeps trained models."""

    seeds: tuple[int, ...]
    store: Path | None


def run_sequence(
    plan: Plan,
    *,
    out: Path,
    seed: int,
    oracles: Oracles,
    engine: Engine,
    skip: tuple[str, ...] = (),
    overwrite: bool = False,
) -> None:
    """step01, step02, … with records, table and page each, and sequence.md and sequence.svg over
    all of them, in the folder `out`.
    """
    if len(plan.requests) < 2:
        raise EigenforgetError(
            f"a sequence needs at least 2 requests, got {len(plan.requests)}; `eigenforget unlearn` honours one"
        )
    if out.exists() and not out.is_dir():
        raise EigenforgetError(f"--out {out} is a file; results go into a folder")
    if ((out / "sequence.md").exists() or _step_folders(out)) and not overwrite:
        raise EigenforgetError(f"{out} holds a sequence already; say --overwrite to replace it")
    study = _study(plan, seed, oracles, engine, skip)
    check_skip(skip)
    study.steps  # noqa: B018  (wrong names and requests must fail before anything is trained)
    written = set()
    with progress() as watch, one_thread():
        for step in study.run(watch):
            title = f"step {step.number} of {len(study.steps)}: {plan.requests[step.number - 1]}"
            written.add(out / f"step{step.number:02d}")
            kept = keep(step.records, study.at(step.number), SPLIT)
            write_results(
                kept.records,
                out / f"step{step.number:02d}",
                title=title,
                overwrite=True,
                split=kept.split,
            )
    _remove_others(out, written)
    write_summary(out)
    console.print(
        f"wrote {out}/sequence.md, {out}/sequence.svg and a folder with records and a page for each step",
        highlight=False,
    )


def write_summary(out: Path) -> str:
    """sequence.md and sequence.svg from the records of the steps in `out`; returns the table."""
    found = [read_folder(folder / "records") for folder in _step_folders(out)]
    steps = [report.summarise(number, records) for number, records in enumerate(found, start=1)]
    together = next(
        (
            report.summarise(len(found), found[-1], "at once")
            for r in found[-1]
            if r.name == "at once"
        ),
        None,
    )
    method = found[0][-1].job["method"]["spec"]
    text = report.markdown(steps, together)
    write_text(
        out / "sequence.md",
        f"# {len(steps)} requests, one after the other: `{method}`\n\n{text}\n\n![](sequence.svg)\n",
    )
    write_text(
        out / "sequence.svg",
        report.draw(steps, f"Accuracy on the samples of each request after each step: {method}"),
    )
    console.print(text, highlight=False, soft_wrap=True)
    return text


def _step_folders(out: Path) -> list[Path]:
    """The folders of steps in the order of their numbers."""
    found = [
        path.parent
        for path in out.glob("step*/records")
        if path.parent.name.removeprefix("step").isdecimal()
    ]
    return sorted(found, key=lambda folder: int(folder.name.removeprefix("step")))


def _remove_others(out: Path, written: Collection[Path]) -> None:
    """Steps of a longer sequence that was here before would go into the summary of this one."""
    for folder in _step_folders(out):
        if folder not in written:
            shutil.rmtree(folder)


def _study(
    plan: Plan, seed: int, oracles: Oracles, engine: Engine, skip: tuple[str, ...]
) -> SequentialStudy:
    experiment = experiment_of(Specs(plan.data, plan.model, plan.recipe, ""), engine)
    experiment = replace(experiment, retain_fraction=plan.retain_fraction, layer=plan.layer or None)
    if plan.layer:
        find_layer(experiment.new_model(0), plan.layer)
    requests = tuple(parse(request, REQUESTS, "request") for request in plan.requests)
    sequence = build(
        "sequence", {"requests": requests, "again": plan.again}, [Sequential], "request"
    )
    method = parse(plan.method, METHODS, "method")
    return SequentialStudy(
        experiment,
        sequence,
        method,
        seed=seed,
        oracle_seeds=oracles.seeds,
        store=oracles.store,
        skip=skip,
    )
