"""Holds the verdict to account: how often it is right about models of which the answer is known.

    python benchmarks/verdict_study.py            # trains and measures what is missing, then judges
    python benchmarks/verdict_study.py judge      # judges the scores anew, in seconds

Several data sets and requests with many originals and retrained models each, controls, unlearned
models and models between original and retrained. Every model is measured alone and once; draws of
retrained models are then a look-up. The first command needs data/cifar100_coarse.npz, see
README.md, and keeps models and scores in data/verdict_study.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from cyclopts import App
from verdict_analysis import Candidates, Published, differs, judge, judge_published
from verdict_models import EXPERIMENTS, Models, StudyModel, write_data
from verdict_pages import figure, page, published_sections

from eigenforget import record
from eigenforget.core.errors import Diverged, Refused
from eigenforget.evaluation.scoring import SCORING_REVISION
from eigenforget.experiments.bench.scores_file import (
    SCORES_FILE,
    read_scores_file,
    write_scores_file,
)
from eigenforget.experiments.experiment import outcome_without_model
from eigenforget.record import RunRecord, slug, write_text

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "verdict_study"
DATA = Path("data")
WORK = DATA / "verdict_study"
STORE = WORK / "models"

app = App(help=__doc__)


@app.default
def main() -> None:
    """Trains and measures what is missing, then judges."""
    measure()
    judge_all()


@app.command(name="judge")
def judge_all(*, draws: int = 40) -> None:
    """Writes summary.md and summary.svg from the scores.

    Args:
        draws: Draws for each number of retrained models.
    """
    studies = read_scores_file(RESULTS)
    candidates = [Candidates.of(*item) for item in studies.items()]
    judged = judge(studies, draws=draws)
    before = json.loads((RESULTS / "old_verdicts.json").read_text(encoding="utf-8"))
    further = published_sections(before, list(published()))
    write_text(RESULTS / "summary.md", page(candidates, judged, further))
    far = [c.experiment for c in candidates if differs(c)]
    shown = [j for j in judged if j.experiment in far]
    title = "What the verdict says, where features of originals and retrained models differ"
    write_text(RESULTS / "summary.svg", figure(shown, title))


def published() -> Iterator[Published]:
    """All models of the published scores, judged anew; a retrained model counts once."""
    seen = set()
    for path in sorted((HERE / "results").rglob(SCORES_FILE)):
        if path.parent == RESULTS:
            continue
        folder = path.parent.relative_to(HERE / "results").as_posix()
        for study, records in read_scores_file(path.parent).items():
            weights = {r.name: (folder, r.inputs.get("checked_model")) for r in records}
            for found in judge_published(f"{folder}/{study}", records):
                if found.role != "oracle" or weights[found.name] not in seen:
                    seen.add(weights[found.name])
                    yield found


@app.command
def measure(experiments: tuple[int, ...] = (), *, train_only: bool = False) -> None:
    """Trains and measures what is missing, and writes the scores file once all is there.

    Args:
        experiments: Numbers of the experiments, from 0; all by default.
        train_only: Only fill the store of originals and retrained models.
    """
    torch.set_num_threads(1)
    write_data(DATA)
    for number in experiments or range(len(EXPERIMENTS)):
        models = Models(EXPERIMENTS[number], STORE)
        print(models.spec.name, flush=True)
        if not train_only:
            everything(models)
            continue
        for train in models.trained():
            train()
    if not experiments and not train_only:
        RESULTS.mkdir(parents=True, exist_ok=True)
        write_scores_file(RESULTS, {s.name: everything(Models(s, STORE)) for s in EXPERIMENTS})


def everything(models: Models) -> list[RunRecord]:
    """The records of all models of an experiment."""
    return [measured(models, model) for model in models.all()]


def measured(models: Models, model: StudyModel) -> RunRecord:
    """The record of a model, made now if it is not there."""
    folder = WORK / f"scores-{SCORING_REVISION}" / slug(models.spec.name)
    path = folder / f"{slug(model.name)}.json"
    if path.exists():
        return record.read(path)
    try:
        found = models.record(model)
    except (Refused, Diverged) as error:
        found = models.experiment.record(
            "evaluate", model.name, outcome_without_model(error), role=model.role, job=model.job
        )
    folder.mkdir(parents=True, exist_ok=True)
    sealed = record.seal(found)
    record.write(sealed, path)
    return sealed


if __name__ == "__main__":
    app()
