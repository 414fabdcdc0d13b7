"""Make the pages of the published results from their scores files alone.

    python benchmarks/pages.py                     # all of them, with what stands in README.md and docs
    python benchmarks/pages.py cifar10 requests    # those of some folders below benchmarks/results

Tables give the mean ± standard deviation over training seeds. Colours of a figure are gaps to the
retrained models in half-widths of their band: green in the band, orange above it, purple below it.
Exit code 1 when a bound of the class tables does not hold.
"""

from __future__ import annotations

import json
import os.path
import statistics
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import feature_maps
from cyclopts import App

from eigenforget.core import bands
from eigenforget.experiments.bench.finished import read_experiments
from eigenforget.experiments.bench.results import write_pages
from eigenforget.experiments.bench.scores_file import read_studies, write_scores_file
from eigenforget.record import RunRecord, write_text
from eigenforget.report.cost import Share, shares
from eigenforget.report.figures.svg import Line, Shade, heatmap
from eigenforget.report.glossary import label as metric_label
from eigenforget.report.pages import metric_audit, sequence
from eigenforget.report.table import OracleValues, Table, build

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PANEL = {
    "forget_accuracy": "forget acc.",
    "test_forget_accuracy": "forget test acc.",
    "test_retain_accuracy": "retain test acc.",
    "mia_auc": "MIA AUC",
    "da": "DA",
    "lp_forget": "LP",
    "nmi": "NMI",
    "cluster_f1": "cluster F1",
}
README_COLUMNS = {
    "horses called horses": "test_forget_accuracy",
    "other images right": "test_retain_accuracy",
    "horses' features that the other classes explain": "da",
}
README_ROWS = {
    "original": "before",
    "head_mask": "answer masked (a cheat)",
    "finetune": "fine-tuning",
    "muda": "`muda()`",
    "oracle": "**retrained without horses**",
}
REQUEST_SCORES = {
    "forget_accuracy": "forget acc.",
    "retain_accuracy": "retain acc.",
    "test_retain_accuracy": "test acc.",
    "mia_auc": "MIA AUC",
    "rmia_auc": "RMIA AUC",
    "relearn_10_auc": "relearning from 10",
}
REQUESTS = {
    "by_group(group='patient100')": ("malaria_patient", "all cells of one patient"),
    "by_subclass(value='rocket')": (
        "cifar100_subclass",
        "rockets, of the coarse class vehicles 2",
    ),
    "where(column='mean radius', op='>', value=20.0)": (
        "tabular",
        "tumours of a mean radius above 20",
    ),
    "by_group(group='author3')": ("text", "everything that one author wrote"),
}
FEW_SCORES = {"test_forget_accuracy": "forget", "test_retain_accuracy": "retain", "da": "DA"}
BACKDOOR_SCORES = {
    "attack_success": "attack success",
    "forget_accuracy": "known poison acc.",
    "test_retain_accuracy": "clean test acc.",
    "da": "DA",
}
COMPARED = {
    "compare_digits": "by_class(label=3)",
    "compare_cifar10_class": "by_class(label=3)",
    "compare_cifar10_random": "at_random(fraction=0.1, seed=0)",
}
AUDITS = {"digits": "digits", "cifar10": "CIFAR-10", "digits_mlp": "digits (MLP)"}

app = App(help=__doc__)


class Study(NamedTuple):
    """One training seed: its records, the table over them and the costs by model."""

    records: Sequence[RunRecord]
    table: Table
    costs: dict[str, Share]


class Standing(NamedTuple):
    """A value beside the band: the gap in half-widths, and the verdict."""

    value: float
    units: float
    verdict: str


@app.default
def main(*names: str) -> None:
    """Make the pages of these folders, or of all."""
    held = [PAGES[name](RESULTS / name) is not False for name in names or PAGES]
    raise SystemExit(0 if all(held) else 1)


def studies_of(folder: Path) -> list[Study]:
    """The studies of one experiment, by training seed."""
    return [study_of(records) for records in read_studies(folder).values()]


def study_of(records: Sequence[RunRecord]) -> Study:
    return Study(records, build(records), shares(records))


def class_page(folder: Path) -> bool:
    """summary.md and summary.svg; whether every bound holds."""
    studies = studies_of(folder)
    checks, held = bounds(studies)
    title = f"{folder.name}: {request_of(studies)}"
    text = f"{score_table(studies)}\n\n{checks}\n"
    write_text(folder / "summary.md", f"# {title}\n\n{text}")
    write_text(folder / "summary.svg", draw(studies, title))
    return held


def readme_table(studies: Sequence[Study]) -> str:
    """Five models in four columns that ask for no knowledge of the scores."""
    head = ["", *README_COLUMNS, "cost"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, words in README_ROWS.items():
        values = [values_of(r) for s in studies for r in labelled(s, name)]
        means = [statistics.fmean(v[score] for v in values) for score in README_COLUMNS.values()]
        shares = [s.costs[r.name].value for s in studies for r in labelled(s, name)]
        cost = "–" if name == "original" else f"{statistics.fmean(shares):.0%}"
        cells = [words, *(f"{mean:.1%}" for mean in means), cost]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def feature_picture(folder: Path) -> None:
    """docs/pictures/features.svg."""
    picture = feature_maps.draw(feature_maps.read_panels(folder))
    write_text(ROOT / "docs" / "pictures" / "features.svg", picture)


def compared_page(folder: Path) -> None:
    """summary.md and summary.svg of every method under one tuning budget."""
    studies = studies_of(folder)
    tuning = json.loads((folder / "tuning.json").read_text(encoding="utf-8"))
    title = f"{folder.name.removeprefix('compare_')}: {COMPARED[folder.name]}"
    counts = {name: in_band(studies, name) for name in names_of(studies)}
    head, rule, *rows = score_table(studies).splitlines()
    body = [f"{row} {counts[row.split('|')[1].strip()]} |" for row in rows]
    body.sort(key=lambda row: -_counted(row.rsplit("|", 2)[1]))
    reasons = {r.name: r.outcome for s in studies for r in s.records if r.outcome.status != "ok"}
    notes = [f"- `{name}` {outcome.status}: {outcome.reason}" for name, outcome in reasons.items()]
    best = [f"- `{m['best']}` ({len(m['trials'])} trials)" for m in tuning["methods"].values()]
    about = (
        f"Every method tuned with {tuning['trials']} trials on training seed {tuning['seed']} "
        f"(objective: tug-of-war of accuracies against that seed's oracle); measured on {len(studies)} other training seeds. "
        "In band: metrics within the band in which one more retrained model lies with 95 % probability, made of three oracles, mean over seeds."
    )
    table = "\n".join([f"{head} in band |", f"{rule}---|", *body])
    refused = "\n## Refused or failed\n\n" + "\n".join(notes) + "\n" if notes else ""
    specs = "\n## Best specs\n\n" + "\n".join(best) + "\n"
    write_text(folder / "summary.md", f"# {title}\n\n{about}\n\n{table}\n{refused}{specs}")
    write_text(folder / "summary.svg", draw(studies, title))


def _counted(cell: str) -> float:
    return float(cell.split("/")[0]) if "/" in cell else -1.0


def request_pages(folder: Path) -> None:
    """summary.md and summary.svg of each request in a folder of its own."""
    for experiment in read_experiments(folder).values():
        studies = [study_of(records) for records in experiment.seeds]
        name, what = REQUESTS[request_of(studies)]
        first = studies[0].records[0]
        count = sum(r.role == "oracle" for r in studies[0].records)
        specs = ", ".join(f"`{first.job[key]['spec']}`" for key in ("data", "model", "recipe"))
        about = (
            f"`{request_of(studies)}` on {specs}; {len(studies)} training seed(s), "
            f"{count} retrained models. {first.claims[-1]}"
        )
        text = f"# {name}: {what}\n\n{about}\n\n{request_table(studies)}\n\n## All columns\n\n{score_table(studies)}\n"
        write_text(folder / name / "summary.md", text)
        write_text(folder / name / "summary.svg", draw(studies, f"{name}: {what}"))


def request_table(studies: Sequence[Study]) -> str:
    """A row for each model: mean value, gap in half-widths of the band, most frequent verdict."""
    shown = {m: head for m, head in REQUEST_SCORES.items() if m in studies[0].table.oracles}
    lines = [
        "Value, and how far it is from the mean of the retrained models in half-widths of their band (within ±1 is *in*).",
        "",
        f"| model | {' | '.join(shown.values())} | share of retraining |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for name in names_of(studies):
        cells = [request_cell(studies, name, metric) for metric in shown]
        lines.append(
            f"| {spec_of(studies, name)} | {' | '.join(cells)} | {share_of(studies, name)} |"
        )
    return "\n".join(lines)


def spec_of(studies: Sequence[Study], name: str) -> str:
    specs = [
        r.job["method"]["spec"] for s in studies for r in labelled(s, name) if "method" in r.job
    ]
    return f"`{specs[0]}`" if specs else name


def request_cell(studies: Sequence[Study], name: str, metric: str) -> str:
    """ "0.531 (+2.1, residual)"; for retrained models their band."""
    if name == "oracle":
        return band_cell(studies, metric, 3)
    found = standings(studies, name, metric)
    if not found:
        return "–"
    verdict = Counter(s.verdict for s in found).most_common(1)[0][0]
    gap = statistics.fmean(s.units for s in found)
    return f"{statistics.fmean(s.value for s in found):.3f} ({gap:+.1f}, {verdict})"


def band_cell(studies: Sequence[Study], metric: str, digits: int) -> str:
    """The retrained models' band, mean over the training seeds."""
    found = [band for s in studies if (band := s.table.oracles[metric].band) is not None]
    if not found:
        return "–"
    mean, half = (statistics.fmean(getattr(b, end) for b in found) for end in ("mean", "half"))
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def few_page(folder: Path) -> None:
    """summary.md and summary.svg: methods by shares of the retained data."""
    studies = studies_of(folder)
    first = studies[0].records
    runs = [r for r in first if "retain_fraction" in r.job]
    parts = sorted({r.job["retain_fraction"] for r in runs})
    methods = list(dict.fromkeys(method_of(r) for r in runs))
    heads = {m: PANEL[m] for m in FEW_SCORES}
    tables = [
        f"## {head}\n\n{few_oracles(studies, metric)}\n\n{few_table(studies, methods, parts, metric)}"
        for metric, head in heads.items()
    ]
    tables.append(
        f"## Scores in band\n\nOf {', '.join(PANEL.values())}. Original: {in_band(studies, 'original')}.\n\n"
        + few_table(studies, methods, parts, None)
    )
    text = "\n\n".join([f"# Few retained data: {request_of(studies)}", few_about(studies), *tables])
    reasons = {
        f"{method_of(r)}: {r.outcome.reason}"
        for s in studies
        for r in s.records
        if r.outcome.status != "ok"
    }
    refused = "\n".join(f"- {reason}" for reason in sorted(reasons)) or "none"
    specs = dict.fromkeys(r.job["method"]["spec"] for r in runs)
    spelled = "\n".join(f"- `{spec}`" for spec in specs)
    write_text(
        folder / "summary.md",
        f"{text}\n\n## Refused or failed\n\n{refused}\n\n## Specs\n\n{spelled}\n",
    )
    columns = [f"{short} {share:.0%}" for short in FEW_SCORES.values() for share in parts]
    rows = [
        Line(
            m,
            [shade(few_standings(studies, m, s, metric)) for metric in FEW_SCORES for s in parts],
        )
        for m in methods
    ]
    title = "Forgetting a class of CIFAR-10 with 0 to 100 % of the retained data (– refused)"
    write_text(folder / "summary.svg", heatmap(title, columns, rows))


def few_about(studies: Sequence[Study]) -> str:
    """What the page is about, and how to read its tables."""
    first = studies[0].records
    return (
        f'`npz(path="data/cifar10_10k.npz")`, {len(studies)} training seed(s), '
        f"{sum(r.role == 'oracle' for r in first)} retrained "
        f"models, which were trained on all {first[0].job['sizes']['retain']} retained samples. "
        "Columns: the share of the retained data that a method may "
        "use. Specs are those tuned with all of it, and none was tuned again. "
        "The number of passes stays the same, so a method that counts them over the retained data makes fewer steps with less of it. "
        "`delete`, `esc` and `gradient_ascent` never look at it. Cells with a mark ✓ lie in the band in which one more retrained model "
        "lies with 95 % probability, on every seed."
    )


def few_oracles(studies: Sequence[Study], metric: str) -> str:
    """The original's value and the band of the retrained models."""
    original = statistics.fmean(s.value for s in standings(studies, "original", metric))
    return f"Original: {original:.4f}. Retrained models: {band_cell(studies, metric, 4)}."


def few_table(
    studies: Sequence[Study], methods: Sequence[str], parts: Sequence[float], metric: str | None
) -> str:
    """Methods by shares: values of a metric, or how many scores lie in the band."""
    rows = [
        f"| {m} | {' | '.join(few_cell(studies, m, share, metric) for share in parts)} |"
        for m in methods
    ]
    head = f"| method | {' | '.join(f'{share:.0%}' for share in parts)} |"
    return "\n".join([head, "|---" * (len(parts) + 1) + "|", *rows])


def few_cell(studies: Sequence[Study], method: str, share: float, metric: str | None) -> str:
    runs = [r for s in studies for r in few_runs(s, method, share)]
    bad = sorted({r.outcome.status for r in runs} - {"ok"})
    if bad:
        return ", ".join(bad)
    if metric is None:
        return in_band(studies, runs[0].name)
    found = few_standings(studies, method, share, metric)
    mark = " ✓" if all(s.verdict == "in" for s in found) else ""
    return f"{statistics.fmean(s.value for s in found):.4f}{mark}" if found else "–"


def few_runs(study: Study, method: str, share: float) -> Iterator[RunRecord]:
    for r in study.records:
        if r.job.get("retain_fraction") == share and method_of(r) == method:
            yield r


def few_standings(
    studies: Sequence[Study], method: str, share: float, metric: str
) -> list[Standing]:
    names = {r.name for s in studies for r in few_runs(s, method, share)}
    return [found for name in names for found in standings(studies, name, metric)]


def backdoor_page(folder: Path) -> None:
    """summary.md: by attack success where at most two points of clean accuracy are lost, then by
    what was lost.
    """
    studies = studies_of(folder)
    scores: dict[str, list[dict[str, float]]] = {}
    for r in (r for s in studies for r in s.records):
        if (name := backdoor_name(r)) is not None:
            scores.setdefault(name, []).append(values_of(r))
    clean = statistics.fmean(f["test_retain_accuracy"] for f in scores["original"])
    rows = []
    for name, runs in scores.items():
        found = [f for f in runs if f]
        if not found:
            reason = next(r.outcome.reason for r in studies[0].records if r.name == name)
            rows.append((9.0, f"| {name} | {reason} |{' |' * len(BACKDOOR_SCORES)}"))
            continue
        means = {c: statistics.fmean(f[c] for f in found) for c in BACKDOOR_SCORES}
        lost = clean - means["test_retain_accuracy"]
        order = means["attack_success"] + (0 if lost <= 0.02 else 1 + lost)
        cells = " | ".join(f"{value:.3f}" for value in means.values())
        rows.append((order, f"| {name} | {cells} | {-lost:+.3f} |"))
    seeds = {r.job["seed"] for s in studies for r in s.records if r.role == "original"}
    lines = [
        "# A backdoor",
        "",
        f"`{studies[0].records[0].job['data']['spec']}`, "
        f"mean over {len(seeds)} training seeds. Half of the poisoned samples are known where a row "
        "does not say all; `clean` was trained without any of them. First those that lose at most two "
        "points of clean test accuracy, by attack success.",
        "",
        f"| model | {' | '.join(BACKDOOR_SCORES.values())} | clean acc. − original |",
        "|---" * (len(BACKDOOR_SCORES) + 2) + "|",
        *(row for _, row in sorted(rows)),
    ]
    write_text(folder / "summary.md", "\n".join(lines) + "\n")


def backdoor_name(run: RunRecord) -> str | None:
    """The row of a model; None for what a request of all the poison has twice, or for a control."""
    if run.job["request"]["spec"] == "poisoned()":
        every = f"{described_method(run)}, all known" if run.role == "unlearned" else None
        return "clean" if run.role == "oracle" else every
    return {"oracle": "retrained", "original": "original"}.get(run.role, described_method(run))


def described_method(run: RunRecord) -> str:
    """The name of a model, with the settings of its method where it is one of several."""
    spec: str = run.job.get("method", {}).get("spec", "")
    return spec if run.name.rpartition(" ")[2].isdecimal() and spec else run.name


def audit_pages(folder: Path) -> None:
    """The scores file of new records, audit.md, audit.svg and audit.csv of each request, and the
    conclusions in docs/metrics.md.
    """
    page = ROOT / "docs" / "metrics.md"
    found, heads, links, figures = [], [], [], []
    for name, title in AUDITS.items():
        audits = dict(sorted(read_studies(folder / name, "*").items(), reverse=True))
        if any((folder / name).glob("*/records")):
            write_scores_file(folder / name, audits)
        write_text(folder / name / "audit.md", metric_audit.audit_page(audits))
        for request, records in audits.items():
            judged = metric_audit.judge_metrics(records)
            spec = records[0].job["request"]["spec"]
            head = f"{title}, {'a class' if spec.startswith('by_class') else 'a random tenth'}"
            about = metric_audit.title_of(records)
            figure = metric_audit.audit_figure(
                judged, f"Metrics on models of which the answer is known. {about}"
            )
            write_text(folder / name / request / "audit.svg", figure)
            write_text(folder / name / request / "audit.csv", metric_audit.table_csv(judged))
            found.append({j.metric.name: j for j in judged})
            heads.append(head)
            links.append(f"[{head}]({_link(folder / name / 'audit.md', page)})")
            figures.append(f"![{head}]({_link(folder / name / request / 'audit.svg', page)})\n")
    lines = [f"| metric | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for metric in dict.fromkeys(name for each in found for name in each):
        cells = [each[metric].conclusion if metric in each else "–" for each in found]
        lines.append(f"| {metric_label(metric)} `{metric}` | {' | '.join(cells)} |")
    words = f"Gaps, intervals and verdicts by training seed: {', '.join(links)}."
    text = "\n".join([*lines, "", words, "", *figures]).rstrip()
    before, _, rest = page.read_text(encoding="utf-8").partition("<!-- audit -->")
    after = rest.partition("<!-- end -->")[2]
    write_text(page, f"{before}<!-- audit -->\n{text}\n<!-- end -->{after}")


def _link(target: Path, page: Path) -> str:
    return Path(os.path.relpath(target, page.parent)).as_posix()


def sequence_page(folder: Path) -> None:
    """sequence.md and sequence.svg over the steps of one sequence of requests."""
    text, figure = sequence.sequence_page(list(read_studies(folder, "step*").values()))
    write_text(folder / "sequence.md", text)
    write_text(folder / "sequence.svg", figure)


def plan_pages(folder: Path) -> None:
    """leaderboard.md of each plan, and summary.md and summary.svg of its experiments."""
    for results in sorted(path for path in folder.iterdir() if path.is_dir()):
        plan = ROOT / "benchmarks" / "plans" / f"{results.name}.toml"
        title = tomllib.loads(plan.read_text(encoding="utf-8"))["title"]
        experiments = read_experiments(results)
        order = dict.fromkeys(path.partition("/")[0] for path in read_studies(results))
        write_pages(
            results, title, {name: experiments[name] for name in order if name in experiments}
        )


PAGES: dict[str, Callable[[Path], Any]] = {
    "cifar10": class_page,
    "fashion_mnist": class_page,
    "feature_maps": feature_picture,
    **dict.fromkeys(COMPARED, compared_page),
    "few_retain": few_page,
    "requests": request_pages,
    "backdoor": backdoor_page,
    "plans/backdoor_digits": backdoor_page,
    "plans/backdoor_muda": backdoor_page,
    "plans/backdoor_resnet9": backdoor_page,
    "metric_audit": audit_pages,
    "sequence_digits": sequence_page,
    "plans": plan_pages,
}


def bounds(studies: Sequence[Study]) -> tuple[str, bool]:
    """The bounds that class forgetting has to show on every training seed, as a table."""
    by_study = [(means_of(s), s) for s in studies]
    found: list[tuple[str, bool, str]] = []

    def check(text: str, measured: list[tuple[bool, float]]) -> None:
        values = ", ".join(f"{value:.3f}" for _, value in measured)
        found.append((text, all(ok for ok, _ in measured), values))

    def difference(metric: str, one: str, other: str) -> list[float]:
        return [v[one][metric] - v[other][metric] for v, _ in by_study]

    for title, name in (("MUDA", "muda"), ("oracle", "oracle")):
        gains = difference("da", name, "original")
        check(f"DA({title}) above DA(original)", [(gain > 0, gain) for gain in gains])
    forgotten = [v["muda"]["test_forget_accuracy"] for v, _ in by_study]
    check("MUDA: forget test accuracy ≤ 0.02", [(value <= 0.02, value) for value in forgotten])
    check(
        "MUDA: retained test accuracy at most 0.02 below the oracle",
        [(-gap <= 0.02, gap) for gap in difference("test_retain_accuracy", "muda", "oracle")],
    )
    costs = [s.costs["muda"].value for s in studies]
    check("MUDA: at most 1/5 of the retraining time", [(cost <= 0.2, cost) for cost in costs])
    for metric in ("da", "lp_forget", "nmi"):
        pairs = [(v["head_mask"][metric], v["original"][metric]) for v, _ in by_study]
        check(
            f"head_mask: {PANEL[metric]} is the original's",
            [(own == before, own) for own, before in pairs],
        )
    lines = ["| bound | holds | by seed |", "|---|---|---|"]
    lines += [f"| {text} | {'yes' if ok else '**no**'} | {values} |" for text, ok, values in found]
    return "\n".join(lines), all(ok for _, ok, _ in found)


def score_table(studies: Sequence[Study]) -> str:
    """A row for each model; "oracle" pools the retrained models of all seeds, each counted once."""
    lines = [
        f"| model | {' | '.join(PANEL.values())} | share of retraining |",
        "|---" * (len(PANEL) + 2) + "|",
    ]
    for name in names_of(studies):
        records = [r for s in studies for r in labelled(s, name)]
        if name == "oracle":  # one that several seeds share counts once
            records = list({r.inputs["checked_model"]: r for r in records}.values())
        values = [values_of(r) for r in records]
        cells = [spread([v[metric] for v in values if metric in v]) for metric in PANEL]
        lines.append(f"| {name} | {' | '.join(cells)} | {share_of(studies, name)} |")
    return "\n".join(lines)


def draw(studies: Sequence[Study], title: str) -> str:
    """A heat-map of models and metrics: those with most metrics in the band first."""
    lines = []
    for name in names_of(studies):
        found = {m: standings(studies, name, m) for m in PANEL}
        if any(found.values()):
            counts = in_band(studies, name)
            inside = sum(
                statistics.fmean(s.verdict == "in" for s in f) for f in found.values() if f
            )
            lines.append((-inside, name, Line(name, list(map(shade, found.values())), counts)))
    lines.sort(key=lambda item: item[:2])
    return heatmap(title, list(PANEL.values()), [line for _, _, line in lines], after="in band")


def shade(found: Sequence[Standing]) -> Shade | None:
    """The mean value, coloured by the mean gap."""
    if not found:
        return None
    value, gap = (statistics.fmean(column) for column in list(zip(*found, strict=True))[:2])
    return Shade(f"{value:.3f}", gap)


def in_band(studies: Sequence[Study], name: str) -> str:
    """Mean number of the panel's metrics in the band, of those that apply, as "5.3/8"."""
    found = [standings(studies, name, metric) for metric in PANEL]
    inside = [statistics.fmean(s.verdict == "in" for s in each) for each in found if each]
    return f"{sum(inside):.1f}/{len(inside)}" if inside else "–"


def standings(studies: Sequence[Study], name: str, metric: str) -> list[Standing]:
    """Each model of that label beside the band of all retrained models of its seed."""
    found = []
    for study in studies:
        oracles: OracleValues | None = study.table.oracles.get(metric)
        band = None if oracles is None else oracles.band
        column = next((c for c in study.table.columns if c.name == metric), None)
        if band is None or column is None:
            continue
        judge = partial(bands.verdict, band=band, better=column.better, trace=column.trace)
        values = [values_of(r).get(metric) for r in labelled(study, name)]
        found += [Standing(v, bands.units(v, band), judge(v)) for v in values if v is not None]
    return found


def names_of(studies: Sequence[Study]) -> list[str]:
    return list(dict.fromkeys(label(r) for s in studies for r in s.records))


def labelled(study: Study, name: str) -> list[RunRecord]:
    return [r for r in study.records if label(r) == name]


def label(record: RunRecord) -> str:
    return "oracle" if record.role == "oracle" else record.name


def method_of(record: RunRecord) -> str:
    return str(record.job["method"]["resolved"]["name"])


def request_of(studies: Sequence[Study]) -> str:
    return str(studies[0].records[0].job["request"]["spec"])


def values_of(record: RunRecord) -> dict[str, float]:
    return {s.name: s.value for s in record.scores if s.value is not None}


def means_of(study: Study) -> dict[str, dict[str, float]]:
    """Scores by model; "oracle" is the mean over the retrained models."""
    oracles = [values_of(r) for r in labelled(study, "oracle")]
    mean = {key: statistics.fmean(o[key] for o in oracles) for key in oracles[0]}
    return {r.name: values_of(r) for r in study.records} | {"oracle": mean}


def share_of(studies: Sequence[Study], name: str) -> str:
    names = [(s.costs, r.name) for s in studies for r in labelled(s, name)]
    return spread([costs[own].value for costs, own in names if own in costs])


def spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}"


def replace_between(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- table: NAME -->` and `<!-- end -->` in a file."""
    start, end = f"<!-- table: {name} -->", "<!-- end -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(start)
    if not found or end not in rest:
        raise SystemExit(f"{path} has no block {start} … {end}")
    write_text(path, f"{before}{start}\n{text}{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    app()
