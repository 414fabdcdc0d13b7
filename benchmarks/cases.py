"""Four real requests: a patient's cells, a fine class inside a coarse one, the rows above a
threshold, an author's texts.

    python benchmarks/cases.py --preset malaria_patient --seeds 0

Each preset trains an original and three to six retrained models, runs the methods on it and
measures all of them. Records and table.csv go to benchmarks/results/cases/<preset>/seed<n>,
summary.md and summary.svg into the folder above. Finished seeds are not run again, and trained
models are kept in --store. How the data files are made: benchmarks/README.md. No class is forgotten
as a whole in any of them, so what tells is membership, accuracy on the forgotten samples and the
retained accuracy, all beside the retrained models.
"""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import figure
import summarise
import torch
from cyclopts import App

from eigenforget import record
from eigenforget.cli.terminal import engine, progress
from eigenforget.core import bands
from eigenforget.core.spec import parse
from eigenforget.data import DATASETS
from eigenforget.evaluation.board import Panel
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.results import write_results
from eigenforget.experiments.study import Study
from eigenforget.methods import METHODS
from eigenforget.models import MODELS
from eigenforget.record import RunRecord, read_folder, write_text
from eigenforget.requests import REQUESTS
from eigenforget.training.recipe import RECIPES

SHOWN = {
    "forget_accuracy": "forget acc.",
    "retain_accuracy": "retain acc.",
    "test_retain_accuracy": "test acc.",
    "mia_auc": "MIA AUC",
    "rmia_auc": "RMIA AUC",
    "relearn_10_auc": "relearning from 10",
}
IMAGE_METHODS = (
    "muda(alternations=8)",
    "finetune()",
    "neg_grad_plus()",
    "random_label()",
    "scrub()",
    "ssd(importance_samples=2000)",
    "l1_sparse()",
    "bad_teacher()",
)


@dataclass(frozen=True)
class Case:
    """One preset: the specs of a job, the metrics and audits that it leaves out, and how many
    retrained models it is measured beside.
    """

    title: str
    data: str
    model: str
    recipe: str
    forget: str
    methods: tuple[str, ...] = IMAGE_METHODS
    precision: str = "bf16-mixed"
    skip: tuple[str, ...] = ()
    oracles: int = 3


CASES = {
    "malaria_patient": Case(
        "all cells of one patient",
        'npz(path="data/malaria.npz")',
        "small_resnet(width=16, stem_stride=2)",
        "recipe(epochs=8, lr=0.1)",
        'by_group(group="patient100")',
        skip=("relearning",),
    ),
    "cifar100_subclass": Case(
        "rockets, of the coarse class vehicles 2",
        'npz(path="data/cifar100_coarse.npz")',
        "small_resnet(width=16, stem_stride=2)",
        "recipe(epochs=15, lr=0.1)",
        'by_subclass(column="fine", value="rocket")',
        skip=("relearning",),
    ),
    "tabular": Case(
        "tumours of a mean radius above 20",
        'builtin(dataset="breast_cancer")',
        "mlp(hidden=(64, 32))",
        "recipe(epochs=60, batch_size=32, lr=0.1)",
        'where(column="mean radius", op=">", value=20.0)',
        precision="32-true",
        oracles=6,
        methods=(
            "muda(alternations=8, batch_size=32)",
            "finetune(batch_size=32)",
            "neg_grad_plus(batch_size=32)",
            "random_label(batch_size=32)",
            "scrub(batch_size=32, forget_batch_size=32)",
            "ssd()",
            "l1_sparse(batch_size=32)",
            "bad_teacher(batch_size=32)",
        ),
    ),
    "text": Case(
        "everything that one author wrote",
        'text(path="data/texts.csv", label="topic", group="author", max_length=16)',
        "text_mlp(dim=64, hidden=(32,))",
        "recipe(epochs=10, batch_size=64, lr=0.5)",
        'by_group(group="author3")',
        precision="32-true",
        oracles=6,
        methods=(
            "muda(alternations=8, batch_size=64)",
            "finetune(lr=0.5, batch_size=64)",
            "neg_grad_plus(lr=0.2, batch_size=64)",
            "random_label(lr=0.2, batch_size=64)",
            "scrub(lr=0.1, batch_size=64)",
            "ssd()",
            "l1_sparse(lr=0.5, batch_size=64)",
            "bad_teacher(batch_size=64)",
        ),
    ),
}


@dataclass(frozen=True)
class Skipping(Experiment):
    """An experiment whose panel leaves some measurements out."""

    skip: tuple[str, ...] = ()

    def panel(self, *, seed: int = 0, layer: str | None = None, **more: Any) -> Panel:
        return super().panel(seed=seed, layer=layer, **{"skip": self.skip, **more})


app = App(help=__doc__)


@app.default
def main(
    *,
    preset: str,
    seeds: tuple[int, ...] = (0,),
    store: Path = Path("runs"),
    out: Path = Path("benchmarks/results/cases"),
) -> None:
    """Run one preset on one thread, so that times are comparable, and summarise all its finished
    seeds.
    """
    torch.set_num_threads(1)
    case = CASES[preset]
    for seed in seeds:
        folder = out / preset / f"seed{seed}"
        if (folder / "records").exists():
            print(f"{folder} is finished ({len(record.read_folder(folder / 'records'))} records)")
            continue
        methods = [parse(m, METHODS, "method") for m in case.methods]
        oracle_seeds = tuple(range(10, 10 + case.oracles))
        study = Study(
            experiment(case),
            methods,
            seed=seed,
            oracle_seeds=oracle_seeds,
            store=store / f"cases_{preset}",
        )
        with progress() as watch:
            records = list(study.records(watch))
        write_results(
            records, folder, title=f"{preset}: {case.title}, seed {seed}", overwrite=False
        )
    summary(preset, out / preset)


def experiment(case: Case) -> Skipping:
    return Skipping(
        parse(case.data, DATASETS, "data set"),
        parse(case.model, MODELS, "model"),
        parse(case.recipe, RECIPES, "recipe"),
        parse(case.forget, REQUESTS, "request"),
        engine(device="cpu", precision=case.precision, channels_last=case.precision != "32-true"),
        skip=case.skip,
    )


def summary(preset: str, folder: Path) -> None:
    """summary.md and summary.svg of all finished seeds of a preset, from its records alone."""
    seeds = [read_folder(path / "records") for path in sorted(folder.glob("seed*"))]
    title, job = f"{preset}: {CASES[preset].title}", seeds[0][0].job
    count = sum(r.role == "oracle" for r in seeds[0])
    what = ", ".join(f"`{job[key]['spec']}`" for key in ("data", "model", "recipe"))
    about = f"`{job['request']['spec']}` on {what}; {len(seeds)} training seed(s), {count} retrained models."
    text = f"# {title}\n\n{about} {seeds[0][0].claims[-1]}\n\n{verdicts(seeds)}\n\n## All columns\n\n{summarise.table(seeds)}\n"
    write_text(folder / "summary.md", text)
    write_text(folder / "summary.svg", figure.draw(seeds, title))
    print(f"wrote {folder}/summary.md and summary.svg")


def verdicts(seeds: list[list[RunRecord]]) -> str:
    """One row per model: mean value and gap in halves of the band, the verdict of most seeds, and
    the specs of the methods.
    """
    shown = {
        metric: head
        for metric, head in SHOWN.items()
        if figure.band_of(seeds[0], metric) is not None
    }
    lines = [
        f"| model | {' | '.join(shown.values())} | share of retraining |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for name in summarise.names(seeds):
        cells = [cell(seeds, name, metric) for metric in shown]
        found = [
            (records, r)
            for records in seeds
            for r in records
            if summarise.label(r) == name and r.outcome.status == "ok"
        ]
        lines.append(
            f"| {spec_of(found, name)} | {' | '.join(cells)} | {summarise.spread([summarise.share(*pair) for pair in found])} |"
        )
    note = "Value, and how far it is from the mean of the retrained models in halves of their band (within ±1 is *in*)."
    return "\n".join([note, "", *lines])


def spec_of(found: list[tuple[list[RunRecord], RunRecord]], name: str) -> str:
    method = found[0][1].job.get("method") if found else None
    return f"`{method['spec']}`" if method else name


def cell(seeds: list[list[RunRecord]], name: str, metric: str) -> str:
    """ "0.531 (+2.1, residual)"; for retrained models their band."""
    if name == "oracle":
        known = [b for records in seeds if (b := figure.band_of(records, metric)) is not None]
        return (
            f"{statistics.fmean(b.mean for b in known):.3f} ± {statistics.fmean(b.half for b in known):.3f}"
            if known
            else "–"
        )
    found = [j for records in seeds for j in judged(records, name, metric)]
    if not found:
        return "–"
    verdict = Counter(v for _, _, v in found).most_common(1)[0][0]
    return f"{statistics.fmean(v for v, _, _ in found):.3f} ({statistics.fmean(u for _, u, _ in found):+.1f}, {verdict})"


def judged(records: list[RunRecord], name: str, metric: str) -> list[tuple[float, float, str]]:
    """(value, gap in halves of the band, verdict) of the models of that name; empty where the
    metric does not apply.
    """
    band = figure.band_of(records, metric)
    scores = [
        s for r in records if summarise.label(r) == name for s in r.scores if s.name == metric
    ]
    return [
        (
            s.value,
            bands.units(s.value, band),
            bands.verdict(s.value, band, better=s.better, trace=s.trace),
        )
        for s in scores
        if s.value is not None and band is not None
    ]


if __name__ == "__main__":
    app()
