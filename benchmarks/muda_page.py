"""Verdicts on `muda()` as it comes, on its parts left out, and on other methods, in docs/muda.md,
and the table of README.md.

    eigenforget bench benchmarks/plans/PLAN.toml --out benchmarks/results/plans/PLAN   # for each of PREFIXES
    python benchmarks/muda_page.py

Puts a table for each experiment of the plan between `<!-- table: EXPERIMENT -->` and `<!-- end -->` of the
page; the rest of it is written by hand and stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import pages
from cyclopts import App

from eigenforget.experiments.bench.finished import read_experiments
from eigenforget.record import RunRecord
from eigenforget.report.cost import shares
from eigenforget.report.decision import DecisionScore
from eigenforget.report.glossary import label
from eigenforget.report.table import build
from eigenforget.report.verdict import Verdict, verdicts

HERE = Path(__file__).parent
NAMES = {
    "muda()": "`muda()`",
    "muda(stand_in_samples=0)": "without the stand-in",
    "muda(w_da=0.0)": "without alignment",
    "muda(w_sd=0.0)": "without self-distillation",
    "muda(w_probe=0.0)": "without the probe",
    "muda(alternations=12, steps=2, joint=False, w_probe=0.0)": "phases in turn, without the probe",
    "muda(trained=1.0)": "all layers train",
}
"""Settings in words; others have the name of their method."""
ACCURACY = "test_retain_accuracy"
PREFIXES = {
    "muda": "",
    "muda_samples": "",
    "muda_stable": "stable-",  # the same experiments as in "muda"
    "muda_more": "",
    "muda_tiny": "",
    "muda_cifar10_narrow": "narrow-",  # as in "muda_cifar10", with another width
    "muda_cifar10": "",
}
"""The plans, and what the names of their experiments begin with on the page."""
README_EXPERIMENT = "cifar10_20k-resnet9-by_class-label-7"

app = App(help=__doc__)


class Judged(NamedTuple):
    """A model with its verdict. points: retained test accuracy beside the retrained models' mean;
    None, as for share, where the method has no result.
    """

    name: str
    seed: int
    verdict: Verdict
    points: float | None
    share: float | None


@app.default
def main(
    results: Path = HERE / "results" / "plans",
    *,
    page: Path = HERE.parent / "docs" / "muda.md",
    readme: Path = HERE.parent / "README.md",
) -> None:
    """Fill the tables of PAGE and README from the folders of the plans in RESULTS."""
    found = {}
    for plan, prefix in PREFIXES.items():
        experiments = read_experiments(results / plan)
        if not experiments:
            raise SystemExit(f"no records of methods beside retrained models in {results / plan}")
        found |= {prefix + name: experiment for name, experiment in experiments.items()}
    for name, experiment in found.items():
        pages.replace_between(page, name, table([judged(list(of)) for of in experiment.seeds]))
    of_readme = found[README_EXPERIMENT].seeds[0]
    pages.replace_between(readme, "cifar10", pages.readme_table([pages.study_of(of_readme)]))
    print(f"wrote {len(found)} tables into {page}, and one into {readme}")


def judged(records: Sequence[RunRecord]) -> list[Judged]:
    """Each unlearned model and control of a training seed."""
    of, cost = build(records), shares(records)
    values = {row.model: row.cells[ACCURACY].value for row in of.rows if ACCURACY in row.cells}
    jobs = {record.name: record.job for record in records}
    retrained = fmean(value for row in of.of_role("oracle") if (value := values[row.model]))
    found = []
    for verdict in verdicts(of):
        name, value = verdict.model, values.get(verdict.model)
        points = None if value is None else 100 * (value - retrained)
        share = None if value is None else cost[name].value
        own = setting(jobs[name], name)
        found.append(Judged(own, int(records[0].job["seed"]), verdict, points, share))
    return found


def setting(job: dict[str, object], model: str) -> str:
    """The setting in words, with the share of the retained data where that is not all of it."""
    method = job.get("method")
    spec = str(method.get("spec", "")) if isinstance(method, dict) else ""
    paper = spec.startswith("muda(") and "w_features=0.0" in spec
    own = spec if spec.startswith("muda(") else model.split()[0]
    name = NAMES.get(spec, "`muda(recipe='paper')`" if paper else f"`{own}`")
    fraction = float(str(job.get("retain_fraction", 1.0)))
    return name if fraction == 1 else f"{name}, {fraction:.0%} of the retained data"


def table(seeds: Sequence[Sequence[Judged]]) -> str:
    """A line for each setting, its seeds together."""
    order = list(dict.fromkeys(found.name for of in seeds for found in of))
    lines = [
        "| method | verdict, by training seed | scores that decide against it | retained test accuracy, points | cost of retraining |",
        "|---|---|---|---|---|",
    ]
    for name in order:
        own = [found for of in seeds for found in of if found.name == name]
        outcomes = ", ".join(f"{found.seed}: {found.verdict.outcome}" for found in own)
        against = list(
            dict.fromkeys(w for found in own for w in map(words, found.verdict.scores) if w)
        )
        points = ", ".join("–" if j.points is None else f"{j.points:+.1f}" for j in own)
        costs = [found.share for found in own if found.share is not None]
        cost = f"{fmean(costs):.1%}" if costs else "–"
        lines.append(f"| {name} | {outcomes} | {'; '.join(against) or '–'} | {points} | {cost} |")
    return "\n".join(lines) + "\n"


def words(score: DecisionScore) -> str:
    """The score with its gap in standard errors, where it decides."""
    return "" if score.position == "like oracles" else f"{label(score.name)} {score.gap:+.1f}"


if __name__ == "__main__":
    app()
