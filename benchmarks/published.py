"""Make docs/published.md: tables of other papers beside our own committed results.

    python benchmarks/published.py

The tables stand in published.toml. Ours are read from the scores files below benchmarks/results: a
retrained model's cell is the mean and half-width of the band, any other the mean over training
seeds with its gap to the retrained models in half-widths.
"""

from __future__ import annotations

import statistics
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pages
from cyclopts import App

from eigenforget.evaluation.metrics import tug_of_war
from eigenforget.record import write_text

ROOT = Path(__file__).parent.parent
AVERAGED = ("forget_accuracy", "retain_accuracy", "test_retain_accuracy", "svc_mia")
"""The columns whose distances to a retrained model printed tables average."""

HEAD = """\
# Published, and ours

Numbers of other papers beside ours, in the same columns. The experiments are not the same: ours are what fits two processor cores, and each section says what
differs and why. So compare the order of methods and the distance to retrained models, and not a number with a number. "Second hand" means
that the numbers were taken from a summary of the paper and not checked against it.

A retrained model's cell is the mean ± half of its band. Any other of ours is the mean over training seeds, in brackets its gap to the retrained models in half-widths of
their band (within ±1 it is a value that a retrained model may have). "–": not measured, or not printed. An average gap is the mean distance from retrained models over forget, retain and
test accuracy, and the column MIA (`svc_mia`) where it was measured.
"""

GPU = """\
## What needs a GPU

These tables are of ResNet-18 on all of CIFAR-10. The plan `gpu_published` has their methods in published settings, on class 0 and on a random tenth, with `svc_mia` and the two clusters measured. It was **not
run**: no GPU was at hand. Each call of this command takes less than ten minutes and goes on where the last one ended, since trained models stay in the store:

```bash
timeout 570 eigenforget bench benchmarks/plans/gpu_published.toml --device cuda --store store --out benchmarks/results/plans/gpu_published
```
"""

app = App(help=__doc__)


class Column(NamedTuple):
    """A column of a published table, and our score for it.

    Attributes:
        head: Its head.
        score: Our score.
        scale: What our score is multiplied with.
        request: Start of the request that the column is of; "" for any.
    """

    head: str
    score: str
    scale: float
    request: str = ""


@app.default
def main(out: Path = ROOT / "docs" / "published.md") -> None:
    """Write the page."""
    write_text(out, page())


def page() -> str:
    """The text of the page."""
    tables = tomllib.loads((Path(__file__).parent / "published.toml").read_text(encoding="utf-8"))
    sections = [section(number, t) for number, t in enumerate(tables["table"], start=1)]
    return "\n".join([HEAD, *sections, GPU])


def section(number: int, table: Mapping[str, Any]) -> str:
    """One published table, with ours and the reasons why they differ."""
    columns = [Column(**column) for column in table["columns"]]
    folder = pages.RESULTS / table["ours"]
    studies = pages.studies_of(folder) if folder.exists() else []
    heads = [head for c in columns for head in (c.head, f"{c.head}, ours")]
    rows = [f"| method | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for row in table["rows"]:
        cells = []
        for column, printed in zip(columns, row["printed"], strict=True):
            cells += [shown(printed), cell(studies, row.get("name", ""), column)]
        rows.append(f"| {row['method']} | {' | '.join(cells)} |")
    hand = ", second hand" if table.get("second_hand") else ""
    lines = [
        f"## {number}. {table['title']}",
        "",
        f"- Theirs: {table['source']}{hand}. {table['experiment']}.",
        f"- Ours: {experiment_of(studies, table['ours'])}",
        "",
        *rows,
        "",
        *(f"- {reason}" for reason in table["why"]),
        "",
    ]
    return "\n".join(lines)


def experiment_of(studies: Sequence[pages.Study], folder: str) -> str:
    """Our experiment in words, with a link to the results."""
    if not studies:
        return "nothing is committed yet."
    jobs = [study.records[0].job for study in studies]
    specs = [
        ", ".join(dict.fromkeys(f"`{job[key]['spec']}`" for job in jobs))
        for key in ("data", "model", "recipe", "request")
    ]
    results = next(
        name
        for name in ("summary.md", "leaderboard.md")
        if (pages.RESULTS / folder / name).exists()
    )
    count = f"{len(studies)} studies" if len(studies) > 1 else "1 study"
    return f"{'; '.join(specs)}; {count} ([results](../benchmarks/results/{folder}/{results}))."


def cell(studies: Sequence[pages.Study], name: str, column: Column) -> str:
    """Our value of a model; "–" where there is none."""
    own = [s for s in studies if s.records[0].job["request"]["spec"].startswith(column.request)]
    if column.score in COMPUTED:
        values = list(COMPUTED[column.score](own, name)) if name != "oracle" else []
        return f"{column.scale * statistics.fmean(values):.{digits_of(column)}f}" if values else "–"
    found = pages.standings(own, name, column.score)
    if not found:
        return "–"
    value, digits = column.scale * statistics.fmean(s.value for s in found), digits_of(column)
    if name == "oracle":
        bands = [s.table.oracles[column.score].band for s in own]
        halves = [band.half for band in bands if band is not None]
        return f"{value:.{digits}f} ± {column.scale * statistics.fmean(halves):.{digits}f}"
    return f"{value:.{digits}f} ({statistics.fmean(s.units for s in found):+.1f})"


def digits_of(column: Column) -> int:
    """Digits after the point: of shares three, of points two."""
    return 3 if column.scale == 1 else 2


def tugs_of_war(studies: Sequence[pages.Study], name: str) -> Iterator[float]:
    """Tug of war of each model of that name, the mean over its retrained models."""
    for study in studies:
        oracles = [pages.values_of(r) for r in pages.labelled(study, "oracle")]
        for record in pages.labelled(study, name):
            mine = pages.values_of(record)
            yield statistics.fmean(tug_of_war(mine, oracle) for oracle in oracles)


def average_gaps(studies: Sequence[pages.Study], name: str) -> Iterator[float]:
    """The average gap of each model of that name to the mean of its retrained models."""
    for study in studies:
        oracles = [pages.values_of(r) for r in pages.labelled(study, "oracle")]
        for record in pages.labelled(study, name):
            mine = pages.values_of(record)
            gaps = [
                abs(mine[score] - statistics.fmean(o[score] for o in oracles))
                for score in AVERAGED
                if score in mine and all(score in o for o in oracles)
            ]
            if gaps:
                yield statistics.fmean(gaps)


COMPUTED = {"average_gap": average_gaps, "tow": tugs_of_war}
"""Scores that are computed from others here, since older records lack them."""


def shown(printed: float | str) -> str:
    """A printed number as it was printed, as far as its digits are known."""
    return printed if isinstance(printed, str) else f"{printed:g}"


if __name__ == "__main__":
    app()
