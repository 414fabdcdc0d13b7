"""Forget a class of a real data set: originals, retrained oracles, methods and the cheat, over
several training seeds.

    python benchmarks/class_forgetting.py --preset cifar10 --seeds 0 --seeds 1 --seeds 2

Each seed leaves records, table.csv and report.html in benchmarks/results/<preset>/seed<n>; finished
seeds are not run again, and trained originals and oracles are kept in --store. Then `python
benchmarks/summarise.py benchmarks/results/<preset>` makes the tables.
"""

from __future__ import annotations

from pathlib import Path

import torch
from cyclopts import App

from eigenforget import record
from eigenforget.cli.terminal import engine, progress
from eigenforget.core.spec import parse
from eigenforget.data import DATASETS
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.results import write_results
from eigenforget.experiments.study import Study
from eigenforget.methods import METHODS
from eigenforget.models import MODELS
from eigenforget.requests import REQUESTS
from eigenforget.training.recipe import RECIPES

PRESETS = {
    "cifar10": {
        "data": 'npz(path="data/cifar10.npz")',
        "model": "small_resnet(width=32, stem_stride=2)",
        "recipe": 'recipe(epochs=15, lr=0.2, augment="flip_crop")',
        "forget": "by_class(label=3)",
        "methods": ("muda(alternations=8)", "finetune()", "random_label()", "head_mask()"),
    },
    "fashion_mnist": {
        "data": 'fashion_mnist(root="data/fashion-mnist")',
        "model": "small_resnet(width=16, stem_stride=2)",
        "recipe": "recipe(epochs=12, lr=0.1)",
        "forget": "by_class(label=3)",
        "methods": ("muda(alternations=7)", "finetune()", "random_label()", "head_mask()"),
    },
}

app = App(help=__doc__)


@app.default
def main(
    *,
    preset: str,
    seeds: tuple[int, ...] = (0, 1, 2),
    oracle_seeds: tuple[int, ...] = (10, 11, 12),
    store: Path = Path("runs"),
    out: Path = Path("benchmarks/results"),
    threads: int = 1,
    precision: str = "bf16-mixed",
) -> None:
    """Run one preset. threads=1 keeps times comparable when several seeds run side by side."""
    torch.set_num_threads(threads)
    chosen = PRESETS[preset]
    experiment = Experiment(
        parse(str(chosen["data"]), DATASETS, "data set"),
        parse(str(chosen["model"]), MODELS, "model"),
        parse(str(chosen["recipe"]), RECIPES, "recipe"),
        parse(str(chosen["forget"]), REQUESTS, "request"),
        engine(device="cpu", precision=precision, channels_last=True),
    )
    methods = [parse(m, METHODS, "method") for m in chosen["methods"]]
    for seed in seeds:
        folder = out / preset / f"seed{seed}"
        if (folder / "records").exists():
            print(f"{folder} is finished ({len(record.read_folder(folder / 'records'))} records)")
            continue
        study = Study(
            experiment, methods, seed=seed, oracle_seeds=oracle_seeds, store=store / preset
        )
        with progress() as watch:
            records = list(study.records(watch))
        write_results(
            records, folder, title=f"{preset}: {chosen['forget']}, seed {seed}", overwrite=False
        )


if __name__ == "__main__":
    app()
