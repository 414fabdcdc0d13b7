"""Forget rows of a table: one hospital had mixed up many of its labels, and one person asked to be
forgotten.

    python examples/tabular.py   # a few seconds

Writes a CSV file (scikit-learn's breast cancer measurements; the hospitals, persons and wrong
labels are made up), trains, forgets, and prints every model beside three that were retrained
without those rows.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer

from eigenforget import MUDA, ByIds, Engine, Finetune, RandomLabel
from eigenforget.data import TableFile
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.study import Study
from eigenforget.models import Mlp
from eigenforget.requests import ByGroup, Union
from eigenforget.training.recipe import Recipe

HOSPITALS, WRONG = 8, 0.4


def write(path: Path, seed: int = 0) -> None:
    """One row per person: measurements, diagnosis, hospital, id, and train or test. Hospital 3's
    training labels are partly wrong.
    """
    rng, bunch = np.random.default_rng(seed), load_breast_cancer()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*bunch.feature_names, "diagnosis", "hospital", "person", "side"])
        for number, (row, target) in enumerate(zip(bunch.data, bunch.target, strict=True)):
            hospital, side = rng.integers(HOSPITALS), "test" if rng.random() < 0.25 else "train"
            wrong = hospital == 3 and side == "train" and rng.random() < WRONG
            diagnosis = bunch.target_names[1 - target if wrong else target]
            writer.writerow([*row, diagnosis, f"hospital{hospital}", f"person{number}", side])


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "people.csv"
        write(path)
        experiment = Experiment(
            TableFile(
                path=str(path), label="diagnosis", group="hospital", id="person", split="side"
            ),
            Mlp(hidden=(64, 32)),
            Recipe(epochs=60, batch_size=32, lr=0.1),
            Union(requests=(ByGroup(group="hospital3"), ByIds(ids=("person2",)))),
            Engine(device="cpu"),
        )
        methods = [
            MUDA(alternations=8, batch_size=32),
            Finetune(batch_size=32),
            RandomLabel(batch_size=32),
        ]
        records = list(Study(experiment, methods, seed=0).records())
    shown = ("forget_accuracy", "retain_accuracy", "test_retain_accuracy", "mia_auc")
    print(f"{'':14s}" + "".join(f"{name:>22s}" for name in shown))
    for record in records:
        values = {score.name: score.value for score in record.scores}
        print(f"{record.name:14s}" + "".join(f"{values[name]:22.3f}" for name in shown))


if __name__ == "__main__":
    main()
