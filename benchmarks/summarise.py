"""Tables over seeds from benchmark records: mean ± standard deviation over training seeds, beside
the oracles.

    python benchmarks/summarise.py benchmarks/results/cifar10
    python benchmarks/summarise.py benchmarks/results/cifar10 --into README.md

Writes summary.md into the folder; with --into it also replaces the text between `<!-- table: NAME
-->` and `<!-- end -->` in a file. Exit code 1 when a bound does not hold.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

from cyclopts import App

from eigenforget.record import RunRecord, read_folder
from eigenforget.report.cost import shares

COLUMNS = {
    "forget_accuracy": "forget acc.",
    "test_forget_accuracy": "forget test acc.",
    "test_retain_accuracy": "retain test acc.",
    "mia_auc": "MIA AUC",
    "da": "DA",
    "lp_forget": "LP",
    "nmi": "NMI",
    "cluster_f1": "cluster F1",
}
Values = dict[str, list[float]]

app = App(help=__doc__)


@app.default
def main(folder: Path, *, into: Path | None = None) -> None:
    """Summarise the seed folders under FOLDER."""
    seeds = [read_folder(path / "records") for path in sorted(folder.glob("seed*"))]
    if not seeds:
        raise SystemExit(f"{folder} has no seed*/records")
    text = table(seeds)
    checks, held = bounds(seeds)
    text = f"{text}\n\n{checks}\n"
    (folder / "summary.md").write_text(
        f"# {folder.name}: {seeds[0][0].job['request']['spec']}\n\n{text}", encoding="utf-8"
    )
    if into is not None:
        replace_between(into, folder.name, text)
    print(text)
    raise SystemExit(0 if held else 1)


def table(seeds: list[list[RunRecord]]) -> str:
    """One row per model; "oracle" pools the retrained models of all seeds (each counted once)."""
    rows = [
        f"| model | {' | '.join(COLUMNS.values())} | share of retraining |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for name in names(seeds):
        found = [value_of(r) for r in group(seeds, name)]
        cells = [spread([f[column] for f in found if column in f]) for column in COLUMNS]
        shares = [
            share(records, r)
            for records in seeds
            for r in records
            if label(r) == name and r.outcome.status == "ok"
        ]
        rows.append(f"| {name} | {' | '.join(cells)} | {spread(shares)} |")
    return "\n".join(rows)


def bounds(seeds: list[list[RunRecord]]) -> tuple[str, bool]:
    """The bounds that the benchmark has to show, each over every seed."""
    found: list[tuple[str, bool, str]] = []

    def check(
        text: str,
        measure: Callable[[dict[str, dict[str, float]], list[RunRecord]], tuple[bool, float]],
    ) -> None:
        results = [measure(by_name(records), records) for records in seeds]
        found.append(
            (text, all(ok for ok, _ in results), ", ".join(f"{value:.3f}" for _, value in results))
        )

    check(
        "DA(MUDA) above DA(original)",
        lambda v, _: (v["muda"]["da"] > v["original"]["da"], v["muda"]["da"] - v["original"]["da"]),
    )
    check(
        "DA(oracle) above DA(original)",
        lambda v, _: (
            v["oracle"]["da"] > v["original"]["da"],
            v["oracle"]["da"] - v["original"]["da"],
        ),
    )
    check(
        "MUDA: forget test accuracy ≤ 0.02",
        lambda v, _: (v["muda"]["test_forget_accuracy"] <= 0.02, v["muda"]["test_forget_accuracy"]),
    )
    check(
        "MUDA: retained test accuracy at most 0.02 below the oracle",
        lambda v, _: (
            v["oracle"]["test_retain_accuracy"] - v["muda"]["test_retain_accuracy"] <= 0.02,
            v["muda"]["test_retain_accuracy"] - v["oracle"]["test_retain_accuracy"],
        ),
    )
    check(
        "MUDA: at most 1/5 of the retraining time",
        lambda v, records: ((s := muda_share(records)) <= 0.2, s),
    )
    for metric in ("da", "lp_forget", "nmi"):
        check(
            f"head_mask: {COLUMNS[metric]} is the original's",
            lambda v, _, m=metric: (v["head_mask"][m] == v["original"][m], v["head_mask"][m]),
        )
    lines = ["| bound | holds | by seed |", "|---|---|---|"]
    lines += [f"| {text} | {'yes' if ok else '**no**'} | {values} |" for text, ok, values in found]
    return "\n".join(lines), all(ok for _, ok, _ in found)


def by_name(records: list[RunRecord]) -> dict[str, dict[str, float]]:
    """Scores by model name; "oracle" is the mean over the oracles."""
    oracles = [value_of(r) for r in records if r.role == "oracle"]
    mean = {key: statistics.fmean(o[key] for o in oracles) for key in oracles[0]}
    return {r.name: value_of(r) for r in records} | {"oracle": mean}


def value_of(record: RunRecord) -> dict[str, float]:
    return {s.name: s.value for s in record.scores if s.value is not None}


def label(record: RunRecord) -> str:
    return "oracle" if record.role == "oracle" else record.name


def names(seeds: list[list[RunRecord]]) -> list[str]:
    return list(dict.fromkeys(label(r) for records in seeds for r in records))


def group(seeds: list[list[RunRecord]], name: str) -> list[RunRecord]:
    """Records of that label; an oracle that several seeds share counts once."""
    found = [r for records in seeds for r in records if label(r) == name]
    return (
        list({r.inputs["checked_model"]: r for r in found}.values()) if name == "oracle" else found
    )


def share(records: list[RunRecord], record: RunRecord) -> float:
    """The model's share of the cost of retraining."""
    return shares(records)[record.name].value


def muda_share(records: list[RunRecord]) -> float:
    return next(share(records, r) for r in records if r.name == "muda")


def spread(values: list[float]) -> str:
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}"


def replace_between(path: Path, name: str, text: str) -> None:
    """Replace the block that is marked with `<!-- table: NAME -->` … `<!-- end -->`."""
    start, end = f"<!-- table: {name} -->", "<!-- end -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(start)
    if not found or end not in rest:
        raise SystemExit(f"{path} has no block {start} … {end}")
    path.write_text(f"{before}{start}\n{text}{end}{rest.partition(end)[2]}", encoding="utf-8")


if __name__ == "__main__":
    app()
