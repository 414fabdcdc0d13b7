"""Tune every method of a plan with the same search and number of trials.

    python benchmarks/tune.py compare_digits
    python benchmarks/tune.py compare_cifar10_class --trials 4
    python benchmarks/tune.py backdoor --trials 4 --objective poison

Writes tuning.json into the results of the plan, with every trial and the best spec of each method;
the plan spells these specs. Methods that are in the file already are not tuned again. Needs the
extra `tune` (optuna).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from cyclopts import App

from eigenforget.core.spec import spell
from eigenforget.experiments.bench import Tuning, read_plan
from eigenforget.experiments.bench.tuning import Accuracy, closeness
from eigenforget.experiments.bench.work import load_experiment
from eigenforget.experiments.study import Study
from eigenforget.methods import METHODS
from eigenforget.methods.base import Range
from eigenforget.record import write_text
from eigenforget.training.log import Log, Watch

HERE = Path(__file__).parent
STARTS = {
    "digits": {
        "muda": "muda()",
        "retrain": "retrain(epochs=20, batch_size=64)",
        "ssd": "ssd(importance_samples=500)",
        "fisher_forgetting": "fisher_forgetting(importance_samples=500)",
        "influence": "influence(hessian_samples=500)",
    },
    "npz": {
        "muda": "muda()",
        "retrain": "retrain(epochs=15, lr=0.2)",
        "ssd": "ssd(importance_samples=1000)",
        "fisher_forgetting": "fisher_forgetting(importance_samples=1000)",
        "influence": "influence(hessian_samples=500, iterations=10)",
    },
}
"""The first trial of a method by the name of the data set, where it is not the method's defaults.
"""
STARTS["backdoored"] = STARTS["npz"] | {"muda": "muda(target='masked_label')"}
BACKDOOR_SPACES = {"muda": {"forget_lr": Range(0.01, 0.2), "w_features": Range(2.0, 100.0)}}
SEED, ORACLE = 100, 110

app = App(help=__doc__)


@app.default
def main(
    plan: str,
    *,
    trials: int = 6,
    objective: Literal["tug_of_war", "poison"] = "tug_of_war",
    store: Path = Path("runs"),
) -> None:
    """Tune the methods of the first experiment of benchmarks/plans/PLAN.toml."""
    torch.set_num_threads(1)
    path = HERE / "results" / plan / "tuning.json"
    jobs = read_plan(HERE / "plans" / f"{plan}.toml").jobs
    chosen = jobs[0].study
    starts = STARTS[chosen.data.name]
    names = dict.fromkeys(job.method.name for job in jobs if job.study == chosen)
    methods = [METHODS.parse(starts.get(name, name)) for name in names]
    study = Study(
        load_experiment(chosen, "cpu"), (), seed=SEED, oracle_seeds=(ORACLE,), store=store / plan
    )
    poison = objective == "poison"
    tuning = Tuning(
        study,
        trials,
        objective=cleanness if poison else closeness,
        spaces=BACKDOOR_SPACES if poison else {},
    )
    state: dict[str, Any] = {"seed": SEED, "trials": trials, "objective": objective, "methods": {}}
    if path.exists():
        state = json.loads(path.read_text(encoding="utf-8"))
    todo = [m for m in methods if m.name not in state["methods"]]
    with lines() as watch:
        for method, found in tuning.tune(todo, watch):
            state["methods"][method.name] = {
                "best": spell(found.best),
                "space": {name: list(span) for name, span in found.space.items()},
                "trials": list(found.trials),
            }
            write_text(path, json.dumps(state, indent=1, ensure_ascii=False) + "\n")


def cleanness(found: Accuracy, original: Accuracy, oracle: Accuracy) -> float:
    """What a defender can measure without the trigger: known poison that is no longer recognised,
    times clean test accuracy that is not lost.
    """
    lost = max(0.0, original["test_retain_accuracy"] - found["test_retain_accuracy"])
    return (1 - found["forget_accuracy"]) * (1 - lost)


@contextmanager
def lines() -> Iterator[Watch]:
    """One printed line for each step: a log that can be followed."""

    def watch(title: str, total: int) -> Log:
        print(title, flush=True)
        return lambda row: None

    yield watch


if __name__ == "__main__":
    app()
