"""How near probed_muda is to retrained models, and where it wins and loses against each other method, from the records of the parity plans.

    eigenforget bench benchmarks/plans/parity_cifar10.toml --out benchmarks/results/plans/parity_cifar10
    eigenforget bench benchmarks/plans/parity_cifar100.toml --out benchmarks/results/plans/parity_cifar100
    python benchmarks/parity.py

Writes benchmarks/results/parity.md. All scores of the leaderboard's panel are counted, those that the method trains on and those that cannot
tell too; the leaderboard's count, which leaves them out, stands beside. Exit code 0 whether or not the bounds hold: the page says which do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from cyclopts import App

from eigenforget.bench.results import read_problems
from eigenforget.record import write_text
from eigenforget.report.glossary import label
from eigenforget.report.leaderboard import PANEL, Entry, Problem, entries

HERE = Path(__file__).parent
OURS = "probed_muda"
WITHIN = 2.0  # halves of the band
POINTS = {"10%": 0.5, "1%": 1.0}  # of retained test accuracy below the retrained models' mean, at most
SHARE = 1 / 20  # of retraining's processor time, at most
HOW = (
    "A score is within two halves of the band where it is on every training seed; the numbers in brackets are mean gaps in halves.\n"
    "Retained test accuracy is in points beside the retrained models' mean. `10%` and `1%` are the shares of the retained data\n"
    "that the method was given.\n"
)
RATIO = 1.25  # nearer or farther by less than this factor, and both within the band, are no win

app = App(help=__doc__)


@app.default
def main(
    folders: tuple[Path, ...] = (
        HERE / "results" / "plans" / "parity_cifar10",
        HERE / "results" / "plans" / "parity_cifar100",
    ),
    *,
    into: Path = HERE / "results" / "parity.md",
) -> None:
    """Make the page of FOLDERS."""
    found = [(p, methods(p)) for folder in folders for p in read_problems(folder).values()]
    if not found:
        raise SystemExit(f"no records of methods beside retrained models in {', '.join(map(str, folders))}")
    write_text(into, page(found))
    print(f"wrote {into}")


def methods(problem: Problem) -> list[Entry]:
    """Every method of the problem that has a result."""
    return [entry for entry in entries(problem) if entry.marks]


def page(found: Sequence[tuple[Problem, Sequence[Entry]]]) -> str:
    """The markdown text: a section for each problem."""
    made = "Made by `python benchmarks/parity.py` from the records of `benchmarks/plans/parity_*.toml`.\n"
    return f"# Parity with retrained models\n\n{made}{HOW}" + "".join(section(problem, of) for problem, of in found)


def section(problem: Problem, of: Sequence[Entry]) -> str:
    rows = [table_row(m) for m in of]
    lines = [
        f"\n## {problem.title}, training seeds {', '.join(str(records[0].job['seed']) for records in problem.seeds)}\n",
        "| method | within two halves of the band | not within | retained test accuracy, points | cost | in band (leaderboard) |",
        "|---|---|---|---|---|---|", *rows, "",
    ]  # fmt: skip
    for own in (m for m in of if m.name.startswith(OURS)):
        lines += [f"`{own.name}`: {verdict(own)}", ""]
    first = next((m for m in of if m.name.startswith(OURS) and not m.name.endswith(" 1%")), None)
    if first is not None:
        lines += [f"`{first.name}` against each other method, score by score (nearer to the retrained models is a win):", ""]
        lines += ["| method | wins | losses |", "|---|---|---|"]
        lines += [duel(first, other) for other in of if not other.name.startswith(OURS)]
    return "\n".join(lines) + "\n"


def scores_of(method: Entry) -> list[str]:
    """The scores that the method has, in the panel's order."""
    return [s for s in PANEL if s in method.marks]


def within(method: Entry, score: str) -> bool:
    """Whether it is within two halves of the band on every seed."""
    return all(abs(mark.units) <= WITHIN for mark in method.marks[score])


def distance(method: Entry, score: str) -> float:
    """Mean distance from the retrained models, in halves of their band."""
    return fmean(abs(mark.units) for mark in method.marks[score])


def table_row(m: Entry) -> str:
    out = [f"{label(s)} ({fmean(mark.units for mark in m.marks[s]):+.1f})" for s in scores_of(m) if not within(m, s)]
    gap = 100 * fmean(mark.gap for mark in m.marks["test_retain_accuracy"])
    inside = "–" if m.inside is None else f"{m.inside:.1f}/{len(m.counted)}"
    good = sum(within(m, s) for s in m.marks)
    return f"| `{m.name}` | {good}/{len(m.marks)} | {', '.join(out) or '–'} | {gap:+.1f} | {summary(m.shares)} | {inside} |"


def summary(shares: Sequence[float]) -> str:
    return f"{100 * fmean(shares):.1f} %" if shares else "–"


def verdict(m: Entry) -> str:
    """Each bound and what was measured, on the worst seed."""
    allowed = next((points for share, points in POINTS.items() if m.name.endswith(f" {share}")), min(POINTS.values()))
    worst = -100 * min(mark.gap for mark in m.marks["test_retain_accuracy"])
    cost = max(m.shares, default=float("nan"))
    checks = [
        (all(within(m, s) for s in m.marks), "every score within two halves of the band on every seed"),
        (worst <= allowed, f"retained test accuracy at most {allowed} points below (worst seed {worst:.1f} below)"),
        (cost <= SHARE, f"at most 1/20 of retraining (worst seed {100 * cost:.1f} %)"),
    ]
    return "; ".join(f"{'holds' if ok else '**does not hold**'}: {text}" for ok, text in checks) + "."


def duel(own: Entry, other: Entry) -> str:
    """Scores on which one is nearer by a factor, where not both lie in the band."""
    wins, losses = [], []
    for score in (s for s in scores_of(own) if s in other.marks):
        mine, theirs = distance(own, score), distance(other, score)
        if max(mine, theirs) <= 1 or max(mine, theirs) < RATIO * min(mine, theirs):
            continue
        (wins if mine < theirs else losses).append(f"{label(score)} ({mine:.1f} / {theirs:.1f})")
    return f"| `{other.name}` | {len(wins)}: {', '.join(wins) or '–'} | {len(losses)}: {', '.join(losses) or '–'} |"


if __name__ == "__main__":
    app()
