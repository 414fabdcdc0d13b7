"""`eigenforget sequence`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

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
    Unseen,
)
from eigenforget.cli.terminal import engine, one_thread, progress, say
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import build_choice
from eigenforget.evaluation.records import SPLIT, draft_results, run_environment, write_chain
from eigenforget.evaluation.scoring import check_skip
from eigenforget.experiments.experiment import Experiment, described
from eigenforget.experiments.results import SealedRecords, check_records
from eigenforget.experiments.sequence import SequentialStudy
from eigenforget.experiments.specs import Specs
from eigenforget.methods import METHODS
from eigenforget.record import (
    RunRecord,
    atomic_folder,
    check_place,
    read_folder,
    transaction,
    value_digest,
)
from eigenforget.record.transactions import Transaction
from eigenforget.report.pages import sequence as report
from eigenforget.requests import REQUESTS, Sequential

UNFINISHED = ".unfinished-sequence"
"""Folder of the steps that are finished while a sequence runs."""

_PAGE = "sequence.html"
"""The page of a sequence."""


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
        str,
        Parameter(
            help="what to do with samples that an earlier request already forgot: error or skip"
        ),
    ] = "error",
    retain_fraction: RetainFraction = 1.0,
    unseen: Unseen = "",
    oracle_seed: Annotated[
        tuple[int, ...],
        Parameter(
            help="seed of a model that is retrained for each step; repeatable",
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
    r"""Honour requests one after the other, and measure whether earlier ones stay forgotten.

    After each step the model is compared with models that were retrained for that step, and at the
    end also with one that forgot everything at once. The results appear together when the last step
    is done. A sequence that was killed continues after its last finished step.

    Example:
        eigenforget sequence --data 'digits()' --model 'mlp()' --forget 'by_rows(rows=(0, 17))' \
            --forget 'at_random(n=50)' --again skip --method 'finetune()' --out sequence
    """
    _check(out, forget, overwrite)
    check_skip(skip)
    specs = Specs(
        data=data,
        model=model,
        recipe=recipe,
        retain_fraction=retain_fraction,
        layer=layer,
        unseen=unseen,
    )
    requests = tuple(REQUESTS.parse(request) for request in forget)
    study = SequentialStudy(
        Experiment.parse(specs, engine(**asdict(device))),
        build_choice(
            "sequence", {"requests": requests, "again": again}, [Sequential], what="request"
        ),
        METHODS.parse(method),
        seed=seed,
        oracle_seeds=oracle_seed,
        store=Path(store) if store else None,
        skip=skip,
    )
    study.experiment.check()
    say(f"inputs: {study.experiment.data.inputs_in_words}", wrap=False)
    _ = study.steps  # wrong requests fail before anything is trained
    unfinished = SequenceProgress.at(out, study)
    with progress() as watch, one_thread():
        for step in study.run(watch, finished=len(unfinished.steps())):
            unfinished.add(step.number, study.at(step.number).seal(step.records))
    with transaction(overwrite=overwrite) as changes:
        lines = _draft(unfinished, forget, out, changes)
    for line in lines:
        say(line)
    say(f"wrote {out / _PAGE}, and a folder with records and a page for each step")


@dataclass(frozen=True)
class SequenceProgress:
    """The records of finished steps, kept until the last one, so that a killed sequence can go on.

    Attributes:
        folder: Where they are.
    """

    folder: Path

    @classmethod
    def at(cls, out: Path, study: SequentialStudy) -> SequenceProgress:
        """Those of this very sequence; what another one left is removed."""
        found, told = cls(out / UNFINISHED), value_digest(_identity(study))
        if not (found.folder / "sequence").is_file() or (
            (found.folder / "sequence").read_text(encoding="utf-8") != told
        ):
            with atomic_folder(found.folder, overwrite=True) as draft:
                (draft / "sequence").write_text(told, encoding="utf-8")
        return found

    def steps(self) -> list[list[RunRecord]]:
        """The records of each step."""
        numbered = sorted(self.folder.glob("step*"), key=lambda path: int(path.name[4:]))
        return [read_folder(folder) for folder in numbered]

    def add(self, number: int, chain: SealedRecords) -> None:
        """Keeps the records of a step, and the ids of its split."""
        with atomic_folder(self.folder / f"step{number:02d}") as draft:
            write_chain(chain.records, draft, split=chain.split)


def _identity(study: SequentialStudy) -> dict[str, Any]:
    """All that decides what the records of a sequence say."""
    experiment = study.experiment
    return {
        "job": {**experiment.origin.job, "retain_fraction": experiment.retain_fraction},
        "data": experiment.data.digest,
        "sequence": described(study.sequence),
        "method": described(study.method),
        "seeds": [study.seed, *study.oracle_seeds],
        "skip": list(study.skip),
        "environment": run_environment(experiment.engine),
    }


def _draft(
    unfinished: SequenceProgress, requests: Sequence[str], out: Path, changes: Transaction
) -> list[str]:
    """Drafts a folder for each step and the page; returns a line for each model."""
    found = unfinished.steps()
    for number, records in enumerate(found, start=1):
        name = f"step{number:02d}"
        split = unfinished.folder / name / SPLIT
        draft_results(
            records,
            changes.folder(out / name),
            title=f"step {number} of {len(requests)}: {requests[number - 1]}",
            split=split.read_text(encoding="utf-8"),
        )
    for folder in _step_folders(out)[len(found) :]:  # of a longer sequence that was here before
        changes.remove(folder)
    changes.remove(unfinished.folder)
    return report.sequence_lines(report.write_sequence(found, changes.folder(out) / _PAGE))


def _check(out: Path, requests: tuple[str, ...], overwrite: bool) -> None:
    if len(requests) < 2:
        raise EigenforgetError(
            f"a sequence needs at least 2 requests, got {len(requests)}; `eigenforget unlearn` "
            "handles one"
        )
    check_place(out, overwrite=overwrite, folder=True)
    for folder in _step_folders(out):
        check_records(folder / "records", overwrite=True)
    if ((out / _PAGE).exists() or _step_folders(out)) and not overwrite:
        raise EigenforgetError(f"{out} holds a sequence already; use --overwrite to replace it")


def _step_folders(out: Path) -> list[Path]:
    """The folders of steps in the order of their numbers."""
    numbered = [
        (int(number), path.parent)
        for path in out.glob("step*/records")
        if (number := path.parent.name.removeprefix("step")).isdecimal()
    ]
    return [folder for _, folder in sorted(numbered)]
