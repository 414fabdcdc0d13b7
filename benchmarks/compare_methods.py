"""Every method under the same tuning budget: tuned on training seed 100, measured on training seeds
0, 1 and 2.

    python benchmarks/compare_methods.py --preset digits
    python benchmarks/compare_methods.py --preset cifar10_class
    python benchmarks/compare_methods.py --preset cifar10_random

Leaves tuning.json (budget, objective, every trial and the best spec of each method), records and
table.csv per seed, and summary.md in benchmarks/results/compare_<preset>. Whatever is finished is
not run again. Needs the extra `tune` (optuna).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import figure
import summarise
import torch
from cyclopts import App

from eigenforget import record
from eigenforget.cli.terminal import engine
from eigenforget.core.spec import parse, spell
from eigenforget.data import DATASETS
from eigenforget.experiments.bench import SPACES, Comparison
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.results import write_results
from eigenforget.experiments.study import Study
from eigenforget.methods import METHODS
from eigenforget.methods.base import Method
from eigenforget.models import MODELS
from eigenforget.record import RunRecord, write_text
from eigenforget.requests import REQUESTS
from eigenforget.training.log import Log, Watch
from eigenforget.training.recipe import RECIPES

CIFAR = {
    "data": 'npz(path="data/cifar10_10k.npz")',
    "model": "small_resnet(width=16, stem_stride=2)",
    "recipe": "recipe(epochs=15, lr=0.2)",
    "precision": "bf16-mixed",
}
PRESETS = {
    "digits": {
        "data": "digits()",
        "model": "small_resnet(width=16)",
        "recipe": "recipe(epochs=20, batch_size=64)",
        "precision": "32-true",
        "forget": "by_class(label=3)",
    },
    "cifar10_class": {**CIFAR, "forget": "by_class(label=3)"},
    "cifar10_random": {**CIFAR, "forget": "at_random(fraction=0.1, seed=0)"},
}
BASES: dict[str, dict[str, str]] = {
    "digits": {
        "muda": "muda(alternations=15, batch_size=32)",
        "retrain": "retrain(epochs=20, batch_size=64)",
        "ssd": "ssd(importance_samples=500)",
        "fisher_forgetting": "fisher_forgetting(importance_samples=500)",
        "influence": "influence(hessian_samples=500)",
    },
    "cifar10": {
        "muda": "muda(alternations=8)",
        "retrain": "retrain(epochs=15, lr=0.2)",
        "ssd": "ssd(importance_samples=1000)",
        "fisher_forgetting": "fisher_forgetting(importance_samples=1000)",
        "influence": "influence(hessian_samples=500, iterations=10)",
    },
}
PANEL = (
    "forget_accuracy",
    "test_forget_accuracy",
    "test_retain_accuracy",
    "mia_auc",
    "da",
    "lp_forget",
    "nmi",
    "cluster_f1",
)
TUNING_SEED, TUNING_ORACLE = 100, 110

app = App(help=__doc__)


@app.default
def main(
    *,
    preset: str,
    seeds: tuple[int, ...] = (0, 1, 2),
    oracle_seeds: tuple[int, ...] = (10, 11, 12),
    trials: int = 6,
    store: Path = Path("runs"),
    out: Path = Path("benchmarks/results"),
    threads: int = 1,
) -> None:
    """Tune, measure and summarise one preset."""
    torch.set_num_threads(threads)
    folder = out / f"compare_{preset}"
    folder.mkdir(parents=True, exist_ok=True)
    experiment = experiment_of(PRESETS[preset])
    family = "digits" if preset == "digits" else "cifar10"
    methods = [
        parse(BASES[family].get(kind.name, kind.name), METHODS, "method") for kind in METHODS
    ]
    home = store / f"compare_{family}"
    tuned = tune(experiment, methods, folder / "tuning.json", home, trials)
    for seed in seeds:
        if not (folder / f"seed{seed}" / "records").exists():
            study = Study(
                experiment, tuned, seed=seed, oracle_seeds=oracle_seeds, store=home, map_points=150
            )
            title = f"{preset}: {PRESETS[preset]['forget']}, seed {seed}"
            with lines() as watch:
                write_results(
                    list(study.records(watch)), folder / f"seed{seed}", title=title, overwrite=False
                )
    found = [record.read_folder(path / "records") for path in sorted(folder.glob("seed*"))]
    text = summary(preset, found, json.loads((folder / "tuning.json").read_text(encoding="utf-8")))
    write_text(folder / "summary.md", text)
    write_text(folder / "summary.svg", figure.draw(found, f"{preset}: {PRESETS[preset]['forget']}"))
    print(text)


def experiment_of(chosen: Mapping[str, str]) -> Experiment:
    return Experiment(
        parse(chosen["data"], DATASETS, "data set"),
        parse(chosen["model"], MODELS, "model"),
        parse(chosen["recipe"], RECIPES, "recipe"),
        parse(chosen["forget"], REQUESTS, "request"),
        engine(device="cpu", precision=chosen["precision"], channels_last=True),
    )


def tune(
    experiment: Experiment, methods: list[Method], path: Path, store: Path, trials: int
) -> list[Method]:
    """The methods with tuned fields; finished methods are taken from the file."""
    state: dict[str, Any] = {
        "seed": TUNING_SEED,
        "trials": trials,
        "objective": "tug_of_war",
        "methods": {},
    }
    if path.exists():
        state = json.loads(path.read_text(encoding="utf-8"))
    todo = [m for m in methods if m.name not in state["methods"]]
    if not todo:
        return [parse(state["methods"][m.name]["best"], METHODS, "method") for m in methods]
    study = Study(experiment, (), seed=TUNING_SEED, oracle_seeds=(TUNING_ORACLE,), store=store)
    with lines() as watch:
        for method, found in Comparison(study, trials).tune(todo, watch):
            space = {name: list(span) for name, span in SPACES.get(method.name, {}).items()}
            state["methods"][method.name] = {
                "best": spell(found.best),
                "space": space,
                "trials": list(found.trials),
            }
            write_text(path, json.dumps(state, indent=1, ensure_ascii=False) + "\n")
    return [parse(state["methods"][m.name]["best"], METHODS, "method") for m in methods]


def summary(preset: str, seeds: list[list[RunRecord]], tuning: Mapping[str, Any]) -> str:
    """Rows sorted by how many metrics of the panel lie in the oracles' band; refusals and their
    reasons below.
    """
    rows = summarise.table(seeds).splitlines()
    counts = {name: in_band(seeds, name) for name in summarise.names(seeds)}
    body = [f"{row} {counts[row.split('|')[1].strip()]} |" for row in rows[2:]]
    body.sort(
        key=lambda row: (
            -float(row.rsplit("|", 2)[1].split("/")[0] if "/" in row.rsplit("|", 2)[1] else -1)
        )
    )
    reasons = {r.name: r.outcome for records in seeds for r in records if r.outcome.status != "ok"}
    notes = [f"- `{name}` {outcome.status}: {outcome.reason}" for name, outcome in reasons.items()]
    best = [f"- `{m['best']}` ({len(m['trials'])} trials)" for m in tuning["methods"].values()]
    head = (
        f"# {preset}: {PRESETS[preset]['forget']}\n\nEvery method tuned with {tuning['trials']} trials on training seed {tuning['seed']} "
        f"(objective: tug-of-war of accuracies against that seed's oracle); measured on {len(seeds)} other training seeds. "
        "In band: metrics within the band in which one more retrained model lies with 95 %, made of three oracles, mean over seeds.\n"
    )
    table = "\n".join([f"{rows[0]} in band |", f"{rows[1]}---|", *body])
    refused = "\n## Refused or failed\n\n" + "\n".join(notes) + "\n" if notes else ""
    return f"{head}\n{table}\n{refused}\n## Best specs\n\n" + "\n".join(best) + "\n"


def in_band(seeds: list[list[RunRecord]], name: str) -> str:
    """Mean number of panel metrics in band over all that apply, as "5.3/8"."""
    found = [
        [s for records in seeds for s in figure.standing(records, name, metric)] for metric in PANEL
    ]
    shares = [sum(ok for _, _, ok in each) / len(each) for each in found if each]
    return f"{sum(shares):.1f}/{len(shares)}" if shares else "–"


@contextmanager
def lines() -> Iterator[Watch]:
    """One printed line per step: a log that can be followed."""

    def watch(title: str, total: int) -> Log:
        print(title, flush=True)
        return lambda row: None

    yield watch


if __name__ == "__main__":
    app()
