"""`eigenforget sequence`."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eigenforget.cli.options import (
    DEVICE,
    OF_64_BITS,
    DataSpec,
    DeviceOptions,
    Layer,
    MethodSpec,
    ModelSpec,
    Out,
    Overwrite,
    RecipeSpec,
    RetainFraction,
    Seed,
    Skip,
    StoreFolder,
)
from eigenforget.cli.terminal import engine, one_thread, progress, say
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import build_choice
from eigenforget.evaluation.records import write_results
from eigenforget.evaluation.scoring import check_skip
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.sequence import SequentialStudy
from eigenforget.experiments.specs import Specs
from eigenforget.methods import METHODS
from eigenforget.record import read_folder, write_text
from eigenforget.report.pages import sequence as report
from eigenforget.requests import REQUESTS, Sequential


def sequence(
    *,
    data: DataSpec,
    model: ModelSpec,
    forget: Annotated[
        tuple[str, ...],
        Parameter(help="request; repeat the option in the order of arrival", negative=()),
    ],
    out: Out,
    recipe: RecipeSpec = "recipe()",
    method: MethodSpec = "muda()",
    again: Annotated[
        str, Parameter(help="error or skip, for samples that an earlier request already forgot")
    ] = "error",
    retain_fraction: RetainFraction = 1.0,
    oracle_seed: Annotated[
        tuple[int, ...],
        Parameter(
            help="seed of a model retrained at each step; repeatable",
            negative=(),
            validator=OF_64_BITS,
        ),
    ] = (),
    store: StoreFolder = "",
    layer: Layer = "",
    skip: Skip = ("relearning",),
    seed: Seed = 0,
    device: DeviceOptions = DEVICE,
    overwrite: Overwrite = False,
) -> None:
    """Honour requests one after the other, and measure whether earlier ones stay forgotten.

    After each step the model is compared with models retrained for that step, and at the end with
    one that forgot everything at once.
    """
    _check(out, forget, overwrite)
    check_skip(skip)
    specs = Specs(
        data=data, model=model, recipe=recipe, retain_fraction=retain_fraction, layer=layer
    )
    experiment = Experiment.parse(specs, engine(**asdict(device)))
    experiment.check()
    say(f"inputs: {experiment.data.inputs_in_words}", wrap=False)
    requests = tuple(REQUESTS.parse(request) for request in forget)
    study = SequentialStudy(
        experiment,
        build_choice("sequence", {"requests": requests, "again": again}, [Sequential], "request"),
        METHODS.parse(method),
        seed=seed,
        oracle_seeds=oracle_seed,
        store=Path(store) if store else None,
        skip=skip,
    )
    count = len(study.steps)  # wrong names and requests fail before anything is trained
    written = set()
    with progress() as watch, one_thread():
        for step in study.run(watch):
            folder = out / f"step{step.number:02d}"
            title = f"step {step.number} of {count}: {forget[step.number - 1]}"
            chain = study.at(step.number).seal(step.records)
            write_results(chain.records, folder, title=title, overwrite=True, split=chain.split)
            written.add(folder)
    for folder in _step_folders(out):
        if folder not in written:  # of a longer sequence that was here before
            shutil.rmtree(folder)
    write_summary(out)
    say(
        f"wrote {out}/sequence.md, {out}/sequence.svg and a folder with records and a page for "
        "each step"
    )


def write_summary(out: Path) -> str:
    """Writes sequence.md and sequence.svg from the records of the steps; returns the table."""
    found = [read_folder(folder / "records") for folder in _step_folders(out)]
    steps = [
        report.summarise_step(number, records) for number, records in enumerate(found, start=1)
    ]
    once = any(r.name == "at once" for r in found[-1])
    together = report.summarise_step(len(found), found[-1], "at once") if once else None
    method = found[0][-1].job["method"]["spec"]
    table = report.sequence_table(steps, together)
    title = f"{len(steps)} requests, one after the other: `{method}`"
    write_text(out / "sequence.md", f"# {title}\n\n{table}\n\n![](sequence.svg)\n")
    title = f"Accuracy on the samples of each request after each step: {method}"
    write_text(out / "sequence.svg", report.sequence_figure(steps, title))
    say(table, wrap=False)
    return table


def _check(out: Path, requests: tuple[str, ...], overwrite: bool) -> None:
    if len(requests) < 2:
        raise EigenforgetError(
            f"a sequence needs at least 2 requests, got {len(requests)}; `eigenforget unlearn` "
            "handles one"
        )
    if out.exists() and not out.is_dir():
        raise EigenforgetError(f"--out {out} is a file; results go into a folder")
    if ((out / "sequence.md").exists() or _step_folders(out)) and not overwrite:
        raise EigenforgetError(f"{out} holds a sequence already; use --overwrite to replace it")


def _step_folders(out: Path) -> list[Path]:
    """The folders of steps in the order of their numbers."""
    numbered = [
        (int(number), path.parent)
        for path in out.glob("step*/records")
        if (number := path.parent.name.removeprefix("step")).isdecimal()
    ]
    return [folder for _, folder in sorted(numbered)]
