"""How near our methods are to retrained models, and where they win and lose against each other
method, from the records of the plans.

Whole classes (probed_muda), random samples and a fine class (unseen_distill), each plan by one
command before:

    for plan in parity_cifar10 parity_cifar100 random_cifar10_10k random_cifar100_20k random_cifar10
    subclass_cifar100; do
      eigenforget bench benchmarks/plans/$plan.toml --out benchmarks/results/plans/$plan
    done
    python benchmarks/parity.py

    python benchmarks/parity.py choose benchmarks/results/plans/parity_tune    # which of three
    settings each method has in the plans

Writes benchmarks/results/parity.md. All scores of the leaderboard's panel are counted, and where
single samples are forgotten RMIA's TPR and the JSD, those that the method trains on and those that
cannot tell too; the leaderboard's count, which leaves them out, stands beside. Exit code 0 whether
or not the bounds hold: the page says which do.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from cyclopts import App

from eigenforget.experiments.bench.finished import read_experiments
from eigenforget.record import write_text
from eigenforget.report.glossary import UTILITY, group, label
from eigenforget.report.pages.leaderboard import (
    PANEL,
    ExperimentRecords,
    LeaderboardRow,
    leaderboard_rows,
    method_cell,
)

HERE = Path(__file__).parent
OURS = "probed_muda"  # for whole classes
OURS_RANDOM = "unseen_distill"  # for random samples and groups
MEMBERSHIP = ("rmia_auc", "rmia_tpr_1")
JSD = "jsd_forget_oracle"
KEPT = tuple(score for score in PANEL if group(score) == UTILITY)  # accuracies on what is retained
ALSO = ("rmia_tpr_1", JSD)  # beside the leaderboard's panel, where random samples are forgotten
SHOWN = ("forget_accuracy", *MEMBERSHIP, JSD)  # with their values, there
WITHIN = 2.0  # half-widths of the band
POINTS = {
    "10%": 0.5,
    "1%": 1.0,
}  # of retained test accuracy below the retrained models' mean, at most
# points of retained test accuracy: a setting that costs more is not chosen where another costs less
LOST = 5.0
SHARE = 1 / 20  # of retraining's processor time, at most
HOW = """\
A score is within two half-widths of the band where it is on every training seed; the numbers in brackets are mean gaps in half-widths. Retained test
accuracy is in points beside the retrained models' mean. `10%` and `1%` are the shares of the retained data that the method was given; all of
it where none stands. A win is a score that is nearer by a factor of 1.25, where not both are in the band. Both count all scores of the
tables, the linear probe that `probed_muda` trains on too. `in band` is the leaderboard's count, without those that a method trains on and
those that the untouched original passes. Controls do not forget (`head_mask` forbids an answer, `identity` does nothing): where one has as many
scores within two half-widths as a method, the scores there cannot tell, and the count is no evidence of forgetting in the features.
"""
RATIO = 1.25  # nearer or farther by less than this factor, and both within the band, are no win

app = App(help=__doc__)


class Shown(NamedTuple):
    """A section of the page; figure: a path from the page, of scores × methods."""

    experiment: ExperimentRecords
    of: Sequence[LeaderboardRow]
    figure: str

    @property
    def random(self) -> bool:
        return any(m.name.startswith(OURS_RANDOM) for m in self.of)

    @property
    def ours(self) -> list[LeaderboardRow]:
        name = OURS_RANDOM if self.random else OURS
        return [m for m in self.of if m.name.startswith(name)]

    @property
    def first(self) -> LeaderboardRow | None:
        """Ours with the larger share of the retained data; of several settings the plan's first,
        whichever came out best.
        """
        return min(
            (m for m in self.ours if not m.name.endswith(" 1%")), key=lambda m: m.name, default=None
        )

    @property
    def others(self) -> list[LeaderboardRow]:
        return [m for m in self.of if m not in self.ours and m.role != "control"]


@app.default
def main(
    folders: tuple[Path, ...] = (
        HERE / "results" / "plans" / "parity_cifar10",
        HERE / "results" / "plans" / "parity_cifar100",
        HERE / "results" / "plans" / "random_cifar10_10k",
        HERE / "results" / "plans" / "random_cifar100_20k",
        HERE / "results" / "plans" / "random_cifar10",
        HERE / "results" / "plans" / "subclass_cifar100",
    ),
    *,
    into: Path = HERE / "results" / "parity.md",
) -> None:
    """Make the page of FOLDERS."""
    write_text(
        into, page([shown for folder in folders for shown in sections_of(folder, into.parent)])
    )
    print(f"wrote {into}")


def sections_of(folder: Path, beside: Path) -> list[Shown]:
    """What the results of a plan show, with paths of figures from a folder. Errors: there is
    nothing.
    """
    found = read_experiments(folder)
    if not found:
        raise SystemExit(f"no records of methods beside retrained models in {folder}")
    figures = {
        name: Path(os.path.relpath(folder / name / "summary.svg", beside)).as_posix()
        for name in found
    }
    return [
        Shown(experiment, methods(experiment), figures[name]) for name, experiment in found.items()
    ]


@app.command
def choose(folder: Path) -> None:
    """Print the best setting of each method in the results of a tuning plan.

    Most scores in band by the leaderboard's count, of those that keep retained test accuracy within
    five points; where none does, the one that loses least. Of equal ones the one with the higher
    retained test accuracy.
    """
    for experiment in read_experiments(folder).values():
        for spec in chosen(methods(experiment)):
            print(spec)


def chosen(of: Sequence[LeaderboardRow]) -> list[str]:
    """A spec for each method but controls, in order of the names."""
    found: dict[str, list[LeaderboardRow]] = {}
    for entry in (e for e in of if e.role != "control"):
        found.setdefault(entry.specs[0].split("(")[0], []).append(entry)
    return [max(group, key=_rank).specs[0] for _, group in sorted(found.items())]


def _rank(m: LeaderboardRow) -> tuple[float, ...]:
    lost = -100 * fmean(mark.gap for mark in m.marks["test_retain_accuracy"])
    return (1.0, m.inside or 0.0, -lost) if lost <= LOST else (0.0, -lost)


def methods(experiment: ExperimentRecords) -> list[LeaderboardRow]:
    """Every method of the experiment that has a result, with the scores that are asked of random
    requests where it is one.
    """
    random = any(
        record.name.startswith(OURS_RANDOM) for records in experiment.seeds for record in records
    )
    return [entry for entry in leaderboard_rows(experiment, ALSO if random else ()) if entry.marks]


def page(found: Sequence[Shown]) -> str:
    """The markdown text: an overview, then a section for each experiment."""
    plans = ", ".join(
        f"`benchmarks/plans/{name}_*.toml`" for name in ("parity", "random", "subclass")
    )
    made = f"Made by `python benchmarks/parity.py` from the records of {plans}.\n"
    head = [
        "experiment",
        "ours",
        "within two half-widths",
        "best other",
        "control",
        "in band",
        "best other",
        "wins",
        "losses",
        "cost",
    ]
    lines = [
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
        *(overview(shown, m) for shown in found for m in shown.ours),
    ]
    how = f"<details>\n<summary>How this is counted</summary>\n\n{made}{HOW}\n</details>"
    return (
        f"# Parity with retrained models\n\n{first_line(found)}\n\n"
        + "\n".join(lines)
        + f"\n\n{how}\n"
        + "".join(map(section, found))
    )


def first_line(found: Sequence[Shown]) -> str:
    """How many experiments ours is nearest on, by the number of scores within two half-widths."""
    firsts = [(shown.first, shown) for shown in found if shown.first is not None]
    ahead = sum(
        near(own) > max(map(near, shown.others), default=0)
        and near(own) > max((near(m) for m in shown.of if m.role == "control"), default=0)
        for own, shown in firsts
    )
    whole = sum(near(own) == len(own.marks) for own, _ in firsts)
    return (
        f"On {whole} of {len(firsts)} experiments our first setting has every score within two half-widths"
        " of the retrained models' band on every training seed. On"
        f" {ahead} it has more scores there than any other method and any control."
    )


def overview(shown: Shown, own: LeaderboardRow) -> str:
    """A line: ours beside the best of the others in either count and the best control in one, and
    over all others together how often it is nearer and farther.
    """
    best = max(map(near, shown.others), default=0)
    cheat = max((near(m) for m in shown.of if m.role == "control"), default="–")
    band = max((m.fraction or 0.0 for m in shown.others), default=0.0)
    sides = [sides_of(own, other) for other in shown.others]
    wins, losses = sum(len(w) for w, _ in sides), sum(len(lost) for _, lost in sides)
    counted = "–" if own.fraction is None else f"{100 * own.fraction:.0f} %"
    cells = [
        shown.experiment.title,
        f"`{own.name}`",
        f"{near(own)}/{len(own.marks)}",
        best,
        cheat,
        counted,
        f"{100 * band:.0f} %",
        wins,
        losses,
    ]
    return f"| {' | '.join(map(str, cells))} | {summary(own.shares)} |"


def section(shown: Shown) -> str:
    experiment, of, random = shown.experiment, shown.of, shown.random
    columns = [
        "method",
        "within two half-widths of the band",
        "not within",
        "retained test accuracy, points",
        "cost",
        "in band (leaderboard)",
    ]
    columns[1:1] = map(label, SHOWN) if random else []
    lines = [
        f"\n## {experiment.title}, training seeds {', '.join(str(records[0].job['seed']) for records in experiment.seeds)}\n",
        *(
            f"`{own.name}`: {verdict_random(own, of) if random else verdict(own)}\n"
            for own in shown.ours
        ),
        f"![scores of each method, in half-widths of the retrained models' band]({shown.figure})\n",
        f"| {' | '.join(columns)} |",
        "|" + "---|" * len(columns),
        *(table_row(m, random=random) for m in of),
        "",
    ]
    if shown.first is not None:
        lines += [
            "<details>",
            f"<summary>{shown.first.name} against each other method, score by score</summary>",
            "",
            "Nearer to the retrained models is a win.",
            "",
            "| method | wins | losses |",
            "|---|---|---|",
            *(duel(shown.first, other) for other in shown.others),
            "",
            "</details>",
        ]
    return "\n".join(lines) + "\n"


def scores_of(method: LeaderboardRow) -> list[str]:
    """The scores that the method has, in the panel's order."""
    return [s for s in (*PANEL, *ALSO) if s in method.marks]


def within(method: LeaderboardRow, score: str) -> bool:
    """Whether it is within two half-widths of the band on every seed."""
    return all(abs(mark.units) <= WITHIN for mark in method.marks[score])


def near(method: LeaderboardRow) -> int:
    """How many of its scores are within two half-widths of the band."""
    return sum(within(method, score) for score in method.marks)


def distance(method: LeaderboardRow, score: str) -> float:
    """Mean distance from the retrained models, in half-widths of their band."""
    return fmean(abs(mark.units) for mark in method.marks[score])


def table_row(m: LeaderboardRow, *, random: bool = False) -> str:
    """A line of the table. random: the experiment is one of single samples, whose membership and
    divergence have columns of their own.
    """
    out = [
        f"{label(s)} ({fmean(mark.units for mark in m.marks[s]):+.1f})"
        for s in scores_of(m)
        if not within(m, s)
    ]
    gap = 100 * fmean(mark.gap for mark in m.marks["test_retain_accuracy"])
    counted = "–" if m.inside is None else f"{m.inside:.1f}/{len(m.counted)}"
    values = [valued(m, score) for score in SHOWN] if random else []
    good = f"{near(m)}/{len(m.marks)}"
    return f"| {' | '.join([method_cell(m.name, role=m.role), *values, good, ', '.join(out) or '–', f'{gap:+.1f}', summary(m.shares), counted])} |"


def valued(m: LeaderboardRow, score: str) -> str:
    """Mean value over the seeds, with ✓ where it is in the band on every seed."""
    marks = m.marks.get(score, [])
    return (
        f"{fmean(mark.value for mark in marks):.3f}{' ✓' if inside(m, score) else ''}"
        if marks
        else "–"
    )


def summary(shares: Sequence[float]) -> str:
    return f"{100 * fmean(shares):.1f} %" if shares else "–"


def verdict(m: LeaderboardRow) -> str:
    """Each bound of a class request and what was measured, on the worst seed."""
    allowed = next(
        (points for share, points in POINTS.items() if m.name.endswith(f" {share}")),
        min(POINTS.values()),
    )
    gaps = [100 * mark.gap for mark in m.marks["test_retain_accuracy"]]
    cost = max(m.shares, default=float("nan"))
    checks = [
        (
            all(within(m, s) for s in m.marks),
            "every score within two half-widths of the band on every seed",
        ),
        (
            -min(gaps) <= allowed,
            f"retained test accuracy at most {allowed} points below (worst seed {-min(gaps):.1f} below, mean {-fmean(gaps):.1f})",
        ),
        (cost <= SHARE, f"at most 1/20 of retraining (worst seed {100 * cost:.1f} %)"),
    ]
    return said(checks)


def verdict_random(m: LeaderboardRow, of: Sequence[LeaderboardRow]) -> str:
    """Each bound of a random request and what was measured: the retrained models' band holds their
    accuracy on unseen data.
    """
    others = [e for e in of if JSD in e.marks and e.role == "unlearned" and e is not m]
    keeping = [e for e in others if all(within(e, s) for s in KEPT)]
    gaps = (
        ", ".join(f"{mark.gap:+.3f}" for mark in m.marks.get("forget_accuracy", ()))
        or "not measured"
    )
    checks = [
        (
            all(inside(m, s) for s in MEMBERSHIP),
            "RMIA AUC and TPR at 1 % in the band on every seed",
        ),
        (
            inside(m, "forget_accuracy"),
            f"forget accuracy that of unseen data, in the band on every seed (gaps {gaps})",
        ),
        lowest(m, others, "lowest JSD to retrained models"),
        lowest(
            m,
            keeping,
            "lowest JSD of those whose retained accuracies are within two half-widths of the band",
        ),
    ]
    return said(checks)


def inside(m: LeaderboardRow, score: str) -> bool:
    """Whether it was measured and lies in the band on every seed."""
    marks = m.marks.get(score, [])
    return bool(marks) and all(mark.inside for mark in marks)


def lowest(m: LeaderboardRow, others: Sequence[LeaderboardRow], what: str) -> tuple[bool, str]:
    """Whether its mean divergence from the retrained models is below that of each of the others, of
    whom there must be one.
    """
    if JSD not in m.marks:
        return False, f"{what} (not measured)"
    own, best = divergence(m), min(others, key=divergence, default=None)
    if best is None:
        return False, f"{what} ({own:.4f}, no other to compare with)"
    return own < divergence(
        best
    ), f"{what} ({own:.4f}, next {divergence(best):.4f} of `{best.name}`)"


def divergence(m: LeaderboardRow) -> float:
    return fmean(mark.value for mark in m.marks[JSD])


def said(checks: Sequence[tuple[bool, str]]) -> str:
    return (
        "; ".join(f"{'holds' if ok else '**does not hold**'}: {text}" for ok, text in checks) + "."
    )


def duel(own: LeaderboardRow, other: LeaderboardRow) -> str:
    """A line: the scores on which ours is nearer, and those on which the other is, each with both
    distances in half-widths of the band.
    """
    wins, losses = sides_of(own, other)
    return f"| `{other.name}` | {len(wins)}: {', '.join(wins) or '–'} | {len(losses)}: {', '.join(losses) or '–'} |"


def sides_of(own: LeaderboardRow, other: LeaderboardRow) -> tuple[list[str], list[str]]:
    """Scores on which one is nearer by a factor, where not both lie in the band."""
    wins: list[str] = []
    losses: list[str] = []
    for score in (s for s in scores_of(own) if s in other.marks):
        mine, theirs = distance(own, score), distance(other, score)
        if max(mine, theirs) <= 1 or max(mine, theirs) < RATIO * min(mine, theirs):
            continue
        (wins if mine < theirs else losses).append(f"{label(score)} ({mine:.1f} / {theirs:.1f})")
    return wins, losses


if __name__ == "__main__":
    app()
