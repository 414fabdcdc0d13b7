"""What MUDA leaves open: a figure and a table for each question, from the records of
benchmarks/plans/ablations.toml alone.

    eigenforget bench benchmarks/plans/ablations.toml --out benchmarks/results/plans/ablations
    python benchmarks/ablations.py

Draws docs/ablations/QUESTION.svg and puts the tables between `<!-- table: QUESTION -->` and `<!--
end -->` in docs/ablations.md; the rest of that page is written by hand and stays as it is. A
variant is found by how its fields differ from those of `METHOD()` in the same records, not by
today's defaults. Only training seeds on which every variant of a question was run are shown.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ablation_figures as figures_of
import pages
from cyclopts import App

from eigenforget.core.spec import spell
from eigenforget.experiments.bench.finished import read_experiments
from eigenforget.methods import MUDA
from eigenforget.record import RunRecord, write_text
from eigenforget.report.cost import shares
from eigenforget.report.glossary import label
from eigenforget.report.pages.leaderboard import silent
from eigenforget.report.table import Row, Table, build

SCORES = (
    "da",
    "lp_forget",
    "ncm_forget",
    "nmi",
    "cluster_f1",
    "best_cluster_f1",
    "test_forget_accuracy",
    "test_retain_accuracy",
    "mia_auc",
)
COST = "cost"
TITLES = {name: label(name) for name in SCORES} | {
    COST: "cost",
    "test_forget_accuracy": "forget test acc.",
    "test_retain_accuracy": "retain test acc.",
}
HERE = Path(__file__).parent


class Variant(NamedTuple):
    """A method whose fields differ from its base by `fields`. column: where it stands in a map; its
    label is the row.
    """

    label: str
    fields: Mapping[str, Any]
    method: str = "muda"
    fraction: float = 1.0
    column: str = ""


class Question(NamedTuple):
    """Variants that are compared. across: what the columns of its maps are; "" for dots along a
    line. ranges: the extremes of the seeds.
    """

    key: str
    title: str
    variants: tuple[Variant, ...]
    request: str = "by_class(label=3)"
    across: str = ""
    ranges: bool = False


class Result(NamedTuple):
    """Of one variant, by score and one for each seed with a result: values, gaps in half-widths of the
    band, and whether they lie in it.
    """

    variant: Variant
    values: dict[str, list[float]]
    units: dict[str, list[float]]
    inside: dict[str, list[bool]]
    optimises: frozenset[str]
    reasons: tuple[str, ...]

    def whole(self, score: str) -> bool:
        """Whether every run that has a result has a verdict on this score."""
        return 0 < len(self.inside.get(score, ())) == len(self.values[COST])


class Answer(NamedTuple):
    """bands: by score, as far as it can reach. original: its mean. silent: scores that call the
    original retrained on most seeds.
    """

    question: Question
    seeds: tuple[int, ...]
    results: tuple[Result, ...]
    bands: dict[str, tuple[float, float]]
    original: dict[str, float]
    silent: frozenset[str]

    def counted(self, result: Result) -> list[str]:
        """The scores that can tell here and that the variant does not train on."""
        return [
            s
            for s in SCORES
            if result.whole(s) and s not in self.silent and s not in result.optimises
        ]


PAPER = ("muda(recipe='paper')", spell(MUDA(recipe="paper")))
"""What all variants of MUDA start from, as plans and as records spell it."""


def _muda(label: str, **fields: Any) -> Variant:
    return Variant(label, fields)


_PARTS = (
    _muda("alignment", w_sd=0, recover_ratio=0),
    _muda("distillation", w_da=0, recover_ratio=0),
    Variant("recovery (finetune)", {"epochs": 1, "lr": 0.05}, "finetune"),
    _muda("alignment + distillation", recover_ratio=0),
    _muda("alignment + recovery", w_sd=0),
    _muda("distillation + recovery", w_da=0),
    _muda("all three"),
)
_FORMS = list(itertools.product(("frobenius", "energy"), ("none", "each"), (3, 9, 20, 32)))
_RATES = (0.0125, 0.05, 0.2)
_PUSHES = tuple(
    Variant(name, {}, name) for name in ("muda", "gradient_ascent", "random_label", "neg_grad_plus")
)
_RATE_OF = (("gradient_ascent", 0.001), ("random_label", 0.05), ("neg_grad_plus", 0.005))
_AT_OTHER_RATES = tuple(Variant(f"{name}, lr {lr:g}", {"lr": lr}, name) for name, lr in _RATE_OF)
_BEST = {"form": "energy", "centering": "each", "k": 3, "w_da": 3}
_TOGETHER = (
    _muda("default"),
    _muda("forget_lr 0.2", forget_lr=0.2),
    _muda("forget_lr 0.4", forget_lr=0.4),
    _muda("forget_lr 0.2, w_da 3", forget_lr=0.2, w_da=3),
    _muda("0.2, U once of 1000", forget_lr=0.2, refresh=10, basis_samples=1000),
    _muda(
        "0.2, U so, every step",
        forget_lr=0.2,
        steps=1,
        alternations=160,
        refresh=160,
        basis_samples=1000,
    ),
    _muda("energy, each, k = 9, w_da 3", form="energy", centering="each", k=9, w_da=3),
    _muda("energy, each, k = 3, w_da 3", **_BEST),
    _muda("this, U once of 1000", **_BEST, refresh=10, basis_samples=1000),
)

QUESTIONS = (
    Question("parts", "Do the three parts add up?", _PARTS),
    Question("parts_second_class", "Do they on a second class?", _PARTS, "by_class(label=8)"),
    Question(
        "alignment",
        "Form, centering and k of the alignment, w_da = 1",
        tuple(_muda(f"{f}, {c}, k = {k}", form=f, centering=c, k=k, w_da=1) for f, c, k in _FORMS),
    ),
    Question(
        "weight",
        "Form, centering and k at three weights",
        tuple(
            Variant(
                f"{f}, {c}, k = {k}",
                {"form": f, "centering": c, "k": k, "w_da": w},
                column=f"{w:g}",
            )
            for (f, c, k), w in itertools.product(_FORMS, (0.3, 1, 3))
        ),
        across="w_da",
    ),
    Question(
        "target",
        "The target of self-distillation",
        (
            _muda("masked (auto)"),
            *(_muda(t, target=t) for t in ("masked_label", "self", "self_soft")),
        ),
    ),
    Question(
        "alternation",
        "How often the phases alternate, at 160 forget steps",
        (
            _muda("every 16 steps (a pass)"),
            _muda("every 4 steps", steps=4, alternations=40),
            _muda("every step", steps=1, alternations=160),
            _muda("every step, U every 16", steps=1, alternations=160, refresh=16),
        ),
    ),
    Question(
        "refresh",
        "How often U is computed anew",
        (
            _muda("every alternation"),
            *(
                _muda(t, refresh=n)
                for t, n in (
                    ("every 2 alternations", 2),
                    ("every 5 alternations", 5),
                    ("never", 10),
                )
            ),
        ),
    ),
    Question(
        "basis",
        "Retained samples behind U",
        tuple(_muda(f"{n} samples", basis_samples=n) for n in (200, 1000, 5000)),
    ),
    Question(
        "rates",
        "Learning rates",
        tuple(
            Variant(f"forget_lr {a:g}", {"forget_lr": a, "recover_lr": b}, column=f"{b:g}")
            for a, b in itertools.product(_RATES, _RATES)
        ),
        across="recover_lr",
    ),
    Question(
        "ratio",
        "Recover steps per forget step",
        (
            _muda("0", recover_ratio=0),
            _muda("0.5", recover_ratio=0.5),
            _muda("1"),
            _muda("2", recover_ratio=2),
        ),
    ),
    Question(
        "retained",
        "Share of the retained data",
        tuple(Variant(f"{100 * f:g} %", {}, fraction=f) for f in (0.01, 0.05, 0.1, 1.0)),
    ),
    Question("together", "What did best, taken together", _TOGETHER),
    Question(
        "together_second_class",
        "The same on a class that had no part in the choice",
        _TOGETHER,
        "by_class(label=8)",
    ),
    Question("stability", "Five training seeds", (*_PUSHES, *_AT_OTHER_RATES), ranges=True),
    Question(
        "stability_second_class",
        "A second class, three training seeds",
        _PUSHES,
        "by_class(label=8)",
        ranges=True,
    ),
)

app = App(help=__doc__)


@app.default
def main(
    folder: Path = HERE / "results" / "plans" / "ablations",
    *,
    page: Path = HERE.parent / "docs" / "ablations.md",
    figures: Path = HERE.parent / "docs" / "ablations",
) -> None:
    """Draw the figures of FOLDER's records and put the tables into the page."""
    by_request = seeds_by_request(folder)
    figures.mkdir(parents=True, exist_ok=True)
    for question in QUESTIONS:
        found = answer(question, by_request.get(question.request, []))
        write_text(figures / f"{question.key}.svg", draw(found))
        pages.replace_between(page, question.key, table(found))
    print(f"wrote {len(QUESTIONS)} figures to {figures} and as many tables into {page}")


def seeds_by_request(folder: Path) -> dict[str, list[Sequence[RunRecord]]]:
    """The records of each training seed, by request."""
    found = {
        p.seeds[0][0].job["request"]["spec"]: list(p.seeds)
        for p in read_experiments(folder).values()
    }
    if not found:
        raise SystemExit(
            f"{folder} has no records of methods beside retrained models; `eigenforget bench` makes them"
        )
    return found


def answer(question: Question, seeds: Sequence[Sequence[RunRecord]]) -> Answer:
    """What the records say. Errors: SystemExit where no training seed has all variants."""
    found = []
    for records in seeds:
        rows = {row.model: row for row in build(records).rows}
        own = [next((r for r in records if fits(s, r, records)), None) for s in question.variants]
        if all(own):
            found.append(
                (build(records), records, [(r, rows[r.name]) for r in own if r is not None])
            )
    if not found:
        raise SystemExit(
            f"no training seed has all {len(question.variants)} variants of {question.key!r}: the plan is not finished"
        )
    tables = [t for t, _, _ in found]
    results = tuple(
        _result(s, [(records, *own[i]) for _, records, own in found])
        for i, s in enumerate(question.variants)
    )
    seen = tuple(int(records[0].job["seed"]) for _, records, _ in found)
    original = {
        s: statistics.fmean(t.original[s] for t in tables)
        for s in SCORES
        if all(s in t.original for t in tables)
    }
    return Answer(question, seen, results, _bands(tables), original, silent(tables, SCORES))


def fits(variant: Variant, record: RunRecord, records: Sequence[RunRecord]) -> bool:
    """Whether the record is of the variant: its fields are those of `METHOD()` among the records
    (of MUDA, those of the paper's recipe) but for the variant's own.
    """
    own = _fields(record)
    if (
        own is None
        or record.job["method"]["resolved"]["name"] != variant.method
        or record.job.get("retain_fraction", 1.0) != variant.fraction
    ):
        return False
    bases = PAPER if variant.method == MUDA.name else (f"{variant.method}()",)
    base = next(
        (_fields(r) or {} for r in records if (r.job.get("method") or {}).get("spec") in bases),
        {},
    )
    return own == {**own, **base, **variant.fields}


def _fields(record: RunRecord) -> dict[str, Any] | None:
    method = record.job.get("method") if record.role in ("unlearned", "control") else None
    return method["resolved"]["fields"] if method else None


def _result(variant: Variant, runs: Sequence[tuple[Sequence[RunRecord], RunRecord, Row]]) -> Result:
    good = [(records, record, row) for records, record, row in runs if row.status == "ok"]
    cells = {
        s: [c for _, _, row in good if (c := row.cells.get(s)) is not None and c.value is not None]
        for s in SCORES
    }
    values = {s: [c.value for c in of if c.value is not None] for s, of in cells.items() if of}
    values[COST] = [shares(records)[record.name].value for records, record, _ in good]
    units = {s: [c.units for c in of if c.units is not None] for s, of in cells.items()}
    inside = {s: [c.verdict == "in" for c in of if c.units is not None] for s, of in cells.items()}
    optimised = frozenset(name for _, _, row in runs for name in row.optimises)
    return Result(
        variant,
        values,
        units,
        inside,
        optimised,
        tuple(dict.fromkeys(row.reason for _, _, row in runs if row.status != "ok")),
    )


def _bands(tables: Sequence[Table]) -> dict[str, tuple[float, float]]:
    """The retrained models are the same for every training seed, but what is drawn at random in a
    measurement is not: the mean of both ends.
    """
    spans = {column.name: column.range for column in tables[0].columns}
    found = {}
    for name in SCORES:
        ends = [
            t.oracles[name].band.within(spans[name])
            for t in tables
            if name in t.oracles and t.oracles[name].band
        ]  # type: ignore[union-attr]
        if ends:
            found[name] = (
                statistics.fmean(e[0] for e in ends),
                statistics.fmean(e[1] for e in ends),
            )
    return found


def number(score: str, value: float) -> str:
    """A cost as a share of that of retraining, any other score with three decimals."""
    return f"{100 * value:.1f} %" if score == COST else f"{value:.3f}"


def table(found: Answer) -> str:
    """Markdown: the figure, and one row for each variant beside the band and the original."""
    scores = [s for s in SCORES if any(r.values.get(s) for r in found.results)]
    head = [
        "variant",
        *(TITLES[s] + ("†" if s in found.silent else "") for s in scores),
        COST,
        "in band",
    ]
    bands = ["retrained (band)", *(_between(found.bands.get(s)) for s in scores), "100 %", ""]
    first = [
        "original",
        *(number(s, found.original[s]) if s in found.original else "–" for s in scores),
        "–",
        "",
    ]
    rows = [_row(found, result, scores) for result in found.results]
    lines = "\n".join(
        f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), bands, first, *rows)
    )
    lines = (
        lines if len(rows) <= 16 else f"<details><summary>Table</summary>\n\n{lines}\n\n</details>"
    )
    seeds = (
        f"Training seeds {', '.join(map(str, found.seeds))}"
        if len(found.seeds) > 1
        else f"Training seed {found.seeds[0]}"
    )
    reasons = [f"- {_name(found, r)}: {reason}\n" for r in found.results for reason in r.reasons]
    gone = "\nWithout a result:\n\n" + "".join(reasons) if reasons else ""
    return f"\n![{found.question.title}](ablations/{found.question.key}.svg)\n\n{lines}\n\n{seeds}.\n{gone}"


def _name(found: Answer, result: Result) -> str:
    own = result.variant
    return (
        f"{own.label}, {found.question.across} {own.column}" if found.question.across else own.label
    )


def _between(ends: tuple[float, float] | None) -> str:
    return "–" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"


def _row(found: Answer, result: Result, scores: Sequence[str]) -> list[str]:
    counted = found.counted(result)
    per_seed = [sum(each) for each in zip(*(result.inside[s] for s in counted), strict=True)]
    inside = f"{statistics.fmean(per_seed):.1f}/{len(counted)}" if per_seed else "–"
    if found.question.ranges and per_seed:
        inside += f" ({min(per_seed)} to {max(per_seed)})"
    return [_name(found, result), *(_cell(found, result, s) for s in (*scores, COST)), inside]


def _cell(found: Answer, result: Result, score: str) -> str:
    values, inside = result.values.get(score), result.inside.get(score)
    if not values:
        return "–"
    text = number(score, statistics.fmean(values))
    if found.question.ranges and score != COST:
        text += f" ({min(values):.3f} to {max(values):.3f})"
    elif len(values) > 1 and score != COST:
        text += f" ± {statistics.stdev(values):.3f}"
    return (
        text + (" ✓" if inside and all(inside) else "") + ("†" if score in result.optimises else "")
    )


def draw(found: Answer) -> str:
    """The SVG text: dots along a line for each score, or where the question has two axes a map of
    each.
    """
    scores = [s for s in (*SCORES, COST) if any(r.values.get(s) for r in found.results)]
    panels = [
        figures_of.Panel(TITLES[s], found.bands.get(s), found.original.get(s), partial(number, s))
        for s in scores
    ]
    if not found.question.across:
        lines = [(r.variant.label, [r.values.get(s, []) for s in scores]) for r in found.results]
        return figures_of.strips(found.question.title, panels, lines)
    places = {
        (r.variant.label, r.variant.column): [_spot(r, s) for s in scores] for r in found.results
    }
    return figures_of.maps(found.question.title, panels, places, across=found.question.across)


def _spot(result: Result, score: str) -> figures_of.Spot | None:
    values, units = result.values.get(score), result.units.get(score)
    return (
        figures_of.Spot(statistics.fmean(values), statistics.fmean(units) if units else None)
        if values
        else None
    )


if __name__ == "__main__":
    app()
