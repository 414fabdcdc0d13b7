"""Class forgetting on CIFAR-10 when a method may use only 0, 1, 5, 10 or 100 % of the retained
data.

    python benchmarks/few_retain.py

Data, model, recipe, tuned specs, originals and retrained models are those of compare_methods.py
--preset cifar10_class, in the same --store. The share is drawn anew for each training seed,
stratified by class. Scores are measured on all data, as ever. Nothing is tuned for the smaller
shares: an epoch over 1 % of the retained data is 1 % of the steps, for every method alike. Leaves
records in benchmarks/results/few_retain/seed0, seed1, …, summary.md and summary.svg. Finished seeds
are not run again.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import figure
import summarise
import torch
from compare_methods import PRESETS, experiment_of, in_band, lines
from cyclopts import App

from eigenforget import record
from eigenforget.core.errors import Diverged, Refused
from eigenforget.core.spec import parse, spell
from eigenforget.evaluation.board import Board
from eigenforget.experiments.experiment import Experiment, described, problem
from eigenforget.experiments.results import write_results
from eigenforget.experiments.study import Study
from eigenforget.methods import METHODS
from eigenforget.methods.base import Method
from eigenforget.record import RunRecord, write_text
from eigenforget.report.figures.svg import Line, heatmap

PRESET = "cifar10_class"
COMPARED = (
    "muda",
    "finetune",
    "random_label",
    "masked",
    "neg_grad_plus",
    "scrub",
    "ssd",
    "l1_sparse",
    "bad_teacher",
    "not_",
    "delete",
    "esc",
    "gradient_ascent",
)
FRACTIONS = (0.0, 0.01, 0.05, 0.1, 1.0)
SKIP = (
    "relearning",
    "few_label_probe",
    "prototypes",
    "zrf",
    "rmia",
    "neural_collapse",
    "ruler_m4",
    "linear_cka",
    "procrustes",
    "ruler_m2",
)
SHOWN = {
    name: summarise.COLUMNS[name] for name in ("test_forget_accuracy", "test_retain_accuracy", "da")
}

app = App(help=__doc__)


@app.default
def main(
    *,
    seeds: tuple[int, ...] = (0,),
    oracle_seeds: tuple[int, ...] = (10, 11, 12),
    fractions: tuple[float, ...] = FRACTIONS,
    store: Path = Path("runs/compare_cifar10"),
    tuning: Path = Path(f"benchmarks/results/compare_{PRESET}/tuning.json"),
    out: Path = Path("benchmarks/results/few_retain"),
) -> None:
    """Measure the seeds that are not finished, then summarise all of them from their records."""
    torch.set_num_threads(1)
    experiment = experiment_of(PRESETS[PRESET])
    best = json.loads(tuning.read_text(encoding="utf-8"))["methods"]
    methods = [parse(best[name]["best"], METHODS, "method") for name in COMPARED]
    for seed in seeds:
        if not (out / f"seed{seed}" / "records").exists():
            study = Study(experiment, methods, seed=seed, oracle_seeds=oracle_seeds, store=store)
            found = list(record.chained(measured(study, fractions)))
            write_results(
                found,
                out / f"seed{seed}",
                title=f"few retained data, seed {seed}",
                overwrite=False,
            )
    found = [record.read_folder(path / "records") for path in sorted(out.glob("seed*"))]
    write_text(out / "summary.md", summary(found))
    write_text(out / "summary.svg", draw(found))
    print((out / "summary.md").read_text(encoding="utf-8"))


def measured(study: Study, fractions: Sequence[float]) -> Iterator[RunRecord]:
    """Unsealed records of the original, the retrained models, and every method with each share,
    named "muda 0.01".
    """
    experiment, job = study.experiment, {"seed": study.seed}
    with lines() as watch:
        original = study.original(watch)
        oracles = [study.oracle(seed, watch) for seed in study.oracle_seeds]
    panel = replace(experiment.panel(seed=study.seed), skip=SKIP, map_points=60)
    board = Board(panel, [original.model], [o.model for o in oracles])
    yield experiment.evaluation_record("original", original, board.measure_original(), job=job)
    for number, made in enumerate(oracles):
        yield experiment.evaluation_record(
            f"oracle {number + 1}", made, board.measure_oracle(number), job=job
        )
    for fraction in fractions:
        limited = replace(experiment, retain_fraction=fraction)
        for method in study.methods:
            yield unlearned(limited, method, original.model, board, study.seed)


def unlearned(
    limited: Experiment, method: Method, original: torch.nn.Module, board: Board, seed: int
) -> RunRecord:
    """The record of one method with one share; of a refusal where it cannot do with it."""
    name = named(method.name, limited.retain_fraction)
    job = {"seed": seed, "method": described(method), "retain_fraction": limited.retain_fraction}
    try:
        made = limited.unlearn(original, method, seed=seed)
    except (Refused, Diverged) as error:
        print(f"{name}: {error}", flush=True)
        return limited.record("evaluate", name, problem(error), role=method.role, job=job)
    print(
        f"measure {spell(method)} with {limited.retain_fraction:.0%} of the retained data",
        flush=True,
    )
    return limited.evaluation_record(name, made, board.measure(made.model, method.role), job=job)


def named(method: str, fraction: float) -> str:
    return f"{method} {fraction:g}"


def fractions_of(seeds: list[list[RunRecord]]) -> list[float]:
    return sorted(
        {
            r.job["retain_fraction"]
            for records in seeds
            for r in records
            if "retain_fraction" in r.job
        }
    )


def summary(seeds: list[list[RunRecord]]) -> str:
    """One table for each score and one for the number of scores in band, methods by shares."""
    first, counts = seeds[0], sum(r.role == "oracle" for r in seeds[0])
    sizes = first[0].job["sizes"]
    reasons = {
        f"{r.name.split()[0]}: {r.outcome.reason}"
        for records in seeds
        for r in records
        if r.outcome.status != "ok"
    }
    refused = "\n".join(f"- {reason}" for reason in sorted(reasons))
    best = "\n".join(
        f"- `{spec}`"
        for spec in dict.fromkeys(r.job["method"]["spec"] for r in first if "method" in r.job)
    )
    tables = [
        f"## {head}\n\n{reference(seeds, metric)}\n\n{table(seeds, metric)}"
        for metric, head in SHOWN.items()
    ]
    tables.append(
        f"## Scores in band\n\nOf {', '.join(summarise.COLUMNS.values())}. Original: {in_band(seeds, 'original')}.\n\n{table(seeds, None)}"
    )
    return (
        f"# Few retained data: {PRESETS[PRESET]['forget']}\n\n`{PRESETS[PRESET]['data']}`, {len(seeds)} training seed(s), {counts} retrained "
        f"models, which were trained on all {sizes['retain']} retained samples. Columns: the share of the retained data that a method may "
        f"use. Specs are those tuned with all of it, and none was tuned again. {ROUNDS}\n\n"
        + "\n\n".join(tables)
        + f"\n\n## Refused or failed\n\n{refused or 'none'}\n\n## Specs\n\n{best}\n"
    )


ROUNDS = (
    "The number of passes stays the same, so a method that counts them over the retained data makes fewer steps with less of it. "
    "`delete`, `esc` and `gradient_ascent` never look at it. Cells with a mark ✓ lie in the band in which one more retrained model "
    "lies with 95 %, on every seed."
)


def reference(seeds: list[list[RunRecord]], metric: str) -> str:
    """The original's value and the band of the retrained models."""
    original = [v for v, _, _ in every(seeds, "original", metric)]
    bands = [b for records in seeds if (b := figure.band_of(records, metric)) is not None]
    band = (
        f"{statistics.fmean(b.mean for b in bands):.4f} ± {statistics.fmean(b.half for b in bands):.4f}"
        if bands
        else "–"
    )
    return (
        f"Original: {statistics.fmean(original):.4f}. Retrained models: {band}."
        if original
        else f"Retrained models: {band}."
    )


def every(seeds: list[list[RunRecord]], name: str, metric: str) -> list[tuple[float, float, bool]]:
    return [found for records in seeds for found in figure.standing(records, name, metric)]


def table(seeds: list[list[RunRecord]], metric: str | None) -> str:
    """A row for each method and a column for each share; metric None: how many scores lie in band."""
    shares = fractions_of(seeds)
    rows = [
        f"| method | {' | '.join(f'{share:.0%}' for share in shares)} |",
        "|---" * (len(shares) + 1) + "|",
    ]
    return "\n".join(
        [
            *rows,
            *(
                f"| {m} | {' | '.join(cell(seeds, named(m, share), metric) for share in shares)} |"
                for m in COMPARED
            ),
        ]
    )


def cell(seeds: list[list[RunRecord]], name: str, metric: str | None) -> str:
    outcomes = {r.outcome.status for records in seeds for r in records if r.name == name}
    if outcomes - {"ok"}:
        return ", ".join(sorted(outcomes - {"ok"}))
    if metric is None:
        return in_band(seeds, name)
    found = every(seeds, name, metric)
    return (
        f"{statistics.fmean(v for v, _, _ in found):.4f}{' ✓' if all(ok for _, _, ok in found) else ''}"
        if found
        else "–"
    )


def draw(seeds: list[list[RunRecord]]) -> str:
    """The SVG: methods × (score, share), coloured by the gap to the retrained models."""
    shares = fractions_of(seeds)
    columns = [f"{SHORT[metric]} {share:.0%}" for metric in SHOWN for share in shares]
    rows = [
        Line(
            m,
            [
                figure.shade(every(seeds, named(m, share), metric))
                for metric in SHOWN
                for share in shares
            ],
        )
        for m in COMPARED
    ]
    return heatmap(
        "Forgetting a class of CIFAR-10 with 0 to 100 % of the retained data (– refused)",
        columns,
        rows,
    )


SHORT = {"test_forget_accuracy": "forget", "test_retain_accuracy": "retain", "da": "DA"}


if __name__ == "__main__":
    app()
