"""The page and the figure of the verdict study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

from verdict_analysis import (
    CHEATS,
    COUNTS,
    FAR,
    PATHS,
    Candidates,
    Judged,
    Published,
    differs,
    distances,
    rate,
)

from eigenforget.report.figures.style import INK
from eigenforget.report.glossary import label
from eigenforget.report.verdict import VerdictOutcome

OUTCOMES: tuple[VerdictOutcome, ...] = (
    "like a retrained model",
    "cannot tell",
    "still remembers",
    "damaged",
)
RETRAINED: tuple[VerdictOutcome, ...] = ("like a retrained model", "cannot tell")
COLOURS: dict[VerdictOutcome, str] = {
    "like a retrained model": "#8fd0b0",
    "cannot tell": "#dddddd",
    "still remembers": "#e58a2c",
    "damaged": "#8f70c4",
}
ABOUT = """\
Every model was measured alone and once. A draw takes 1, 2, 3, 5 or 8 of the 24 retrained models of an experiment as the ones that a user has, and
one original; judged beside them are retrained models that were not drawn, the original itself, another one, and all that was made from the
original. In brackets: 95 % intervals that count each model once, however often it was judged. Made by `python benchmarks/verdict_study.py`.

The constants of the verdict that describe how much retrained models differ (`PRIOR_DEGREES`, `LEAST_PRIORS`, `ALIGNMENT_SPREAD`) and the loss that it
bears (`BEARABLE_LOSS`) were chosen with these models at hand, so the shares below are not those of new data. The published models at the end,
on other data and networks, played a part in `ALIGNMENT_SPREAD` alone."""
OLD = """\
Rows: the first verdict of this package (good, mixed, bad or unknown; `old_verdicts.json`); columns: the one of today, from the same scores. Each
published retrained model was judged beside the others of its study. Their scores of relearning have no intervals, and decide little beside two or
three retrained models."""
NAMES = {
    "oracle": "retrained",
    "original": "the original",
    "another original": "another original",
    "noisy copy": "original with noise of 0.1 %",
    "swapped rows": "retrained, rows of the head swapped",
    "strong": "unlearned for long",
    "average 0.25": "¾ original + ¼ unlearned",
    "average 0.50": "½ original + ½ unlearned",
    "average 0.75": "¼ original + ¾ unlearned",
}


class Bound(NamedTuple):
    """What the verdict has to keep: words, whether it does, and what was measured."""

    text: str
    holds: bool
    measured: str


def page(
    candidates: Sequence[Candidates], judged: Sequence[Judged], further: Sequence[str] = ()
) -> str:
    """summary.md."""
    far = [c.experiment for c in candidates if differs(c)]
    parts = [
        "# Study of the verdict",
        ABOUT,
        "![Outcomes by number of retrained models](summary.svg)",
        "## Bounds",
        _bounds_table(bounds(judged, far)),
        "## Experiments",
        experiments_table(candidates),
        *_outcome_sections(judged),
        "## Between original and retrained",
        "Share of models that *still remember*, in the order in which they lie.",
        *(_path_table(judged, path) for path in PATHS),
        *further,
    ]
    return "\n\n".join(parts) + "\n"


def bounds(judged: Sequence[Judged], far: Sequence[str]) -> list[Bound]:
    """The bounds, each over all experiments.

    Args:
        judged: All decisions.
        far: Experiments in which features of originals and retrained models differ.
    """
    oracles = [j for j in judged if j.group == "oracle"]
    enough = [j for j in oracles if j.count >= 5 and j.experiment in far]
    own = [
        ("of retrained models at least 95 % are like a retrained model or cannot be told", oracles, RETRAINED, 0.95, 1.0),
        ("of retrained models at most 1 % still remember", oracles, ("still remembers",), 0.0, 0.01),
        (f"from 5 on, at most 10 % cannot be told, where features differ by {FAR:g} standard deviations", enough, ("cannot tell",), 0.0, 0.1),
    ]  # fmt: skip
    found = []
    for text, of, outcomes, low, high in own:
        shares = [rate([j for j in of if j.count == n], *outcomes) for n in COUNTS]
        known = [share for share in shares if share is not None]
        found.append(
            Bound(text, all(low <= s.value <= high for s in known), ", ".join(map(str, known)))
        )
    passed = [j for j in judged if j.group in CHEATS and j.outcome == "like a retrained model"]
    names = sorted({f"{j.name} ({j.experiment}, {j.count})" for j in passed})
    cheats = sum(j.group in CHEATS for j in judged)
    measured = f"{len(passed)} of {cheats}" + (f": {', '.join(names)}" if names else "")
    return [*found, Bound("originals, copies and controls never pass", not passed, measured)]


def experiments_table(candidates: Sequence[Candidates]) -> str:
    """How far originals and retrained models are apart."""
    lines = [
        "| experiment | models | apart by most, in standard deviations | features apart |",
        "|---|---|---|---|",
    ]
    for found in candidates:
        apart = distances(found)
        own = [name for name in found.decision_scores if name in apart]
        best = sorted(own, key=lambda name: -apart[name])[:3]
        words = ", ".join(f"{label(n)} {apart[n]:.1f}" for n in best)
        models = sum(len(of) for of in found.scores.values())
        lines.append(
            f"| {found.experiment} | {models} | {words} | {'yes' if differs(found) else 'hardly'} |"
        )
    return "\n".join(lines)


def _bounds_table(found: Sequence[Bound]) -> str:
    counts = ", ".join(map(str, COUNTS))
    lines = [
        f"| bound | holds | measured, beside {counts} retrained models, in % |",
        "|---|---|---|",
    ]
    lines += [f"| {b.text} | {'yes' if b.holds else '**no**'} | {b.measured} |" for b in found]
    return "\n".join(lines)


def _outcome_sections(judged: Sequence[Judged]) -> Iterator[str]:
    for title, groups in (
        ("Retrained models", ("oracle",)),
        ("Originals: power", ("original", "another original")),
        ("Copies and controls", CHEATS[1:]),
    ):
        yield f"## {title}"
        yield _outcome_table([j for j in judged if j.group in groups], by_group=len(groups) > 1)


def _outcome_table(judged: Sequence[Judged], *, by_group: bool) -> str:
    """A row for each experiment (and group), a column for each number of retrained models."""
    head = ["experiment", *(["model"] if by_group else []), *(f"{n} retrained" for n in COUNTS)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for experiment, group in dict.fromkeys((j.experiment, j.group) for j in judged):
        of = [j for j in judged if j.experiment == experiment and j.group == group]
        cells = [_shares([j for j in of if j.count == n]) for n in COUNTS]
        names = [experiment, *([name_of(group)] if by_group else [])]
        lines.append(f"| {' | '.join([*names, *cells])} |")
    return "\n".join(lines) + "\n\nIn %, most frequent first."


def _shares(judged: Sequence[Judged]) -> str:
    found = [(r.value, outcome) for outcome in OUTCOMES if (r := rate(judged, outcome))]
    return ", ".join(
        f"{outcome} {100 * value:.3g}" for value, outcome in sorted(found, reverse=True) if value
    )


def _path_table(judged: Sequence[Judged], path: Sequence[str]) -> str:
    lines = [
        f"| model | {' | '.join(f'{n} retrained' for n in COUNTS)} |",
        "|---" * (len(COUNTS) + 1) + "|",
    ]
    for group in path:
        of = [j for j in judged if j.group == group]
        cells = [
            str(rate([j for j in of if j.count == n], "still remembers") or "–") for n in COUNTS
        ]
        lines.append(f"| {name_of(group)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def published_sections(
    before: Mapping[str, Mapping[str, str]], published: Sequence[Published]
) -> list[str]:
    """Tables of what was said of the published models and what is said now, by role.

    Studies from after the first verdict are left out.
    """
    titles = {"oracle": "Retrained models", "unlearned": "Unlearned models", "control": "Controls"}
    parts = ["## Published records judged anew", OLD]
    for role, title in titles.items():
        of = [p for p in published if p.role == role and p.study in before]
        pairs = Counter((before[p.study].get(p.name, "unknown"), p.outcome) for p in of)
        lines = [f"| {title} | {' | '.join(OUTCOMES)} | sum |", "|---" * (len(OUTCOMES) + 2) + "|"]
        for old in ("good", "mixed", "bad", "unknown"):
            cells = [pairs[old, outcome] for outcome in OUTCOMES]
            lines.append(f"| {old} | {' | '.join(map(str, cells))} | {sum(cells)} |")
        sums = [sum(p.outcome == outcome for p in of) for outcome in OUTCOMES]
        lines.append(f"| sum | {' | '.join(map(str, sums))} | {len(of)} |")
        parts.append("\n".join(lines))
    return parts


def name_of(group: str) -> str:
    """What a group is called in tables."""
    return NAMES.get(group, group)


def figure(judged: Sequence[Judged], title: str) -> str:
    """Bars of the four outcomes: a row for each kind of model, a column for each number of oracles."""
    groups = list(dict.fromkeys(j.group for j in judged))
    left, wide, tall, top = 240, 120, 22, 76
    width, height = left + (wide + 12) * len(COUNTS), top + tall * len(groups) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(8, 20, title, size=14),
    ]
    for i, outcome in enumerate(OUTCOMES):
        parts += [_box(8 + 160 * i, 32, 14, COLOURS[outcome]), _text(28 + 160 * i, 44, outcome)]
    for i, count in enumerate(COUNTS):
        parts.append(_text(left + (wide + 12) * i, top - 8, f"{count} retrained"))
    for row, group in enumerate(groups):
        y = top + tall * row
        parts.append(_text(left - 8, y + 15, name_of(group), anchor="end"))
        for i, count in enumerate(COUNTS):
            x = float(left + (wide + 12) * i)
            for outcome, share in _parts(
                [j for j in judged if (j.group, j.count) == (group, count)]
            ).items():
                parts.append(_box(x, y + 3, wide * share, COLOURS[outcome]))
                x += wide * share
    return "\n".join([*parts, "</svg>", ""])


def _parts(judged: Sequence[Judged]) -> Mapping[VerdictOutcome, float]:
    return {o: r.value for o in OUTCOMES if (r := rate(judged, o)) and r.value}


def _box(x: float, y: float, wide: float, fill: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="16" fill="{fill}"/>'


def _text(x: float, y: float, content: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{INK}">{escape(content)}</text>'
