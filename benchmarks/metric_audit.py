"""The audit of the metrics on digits and on CIFAR-10, and its summary in docs/metrics.md.

    python benchmarks/metric_audit.py --preset digits     # about 5 minutes on one core python
    benchmarks/metric_audit.py --preset cifar10    # about 3 hours on one core: 18 retrained models,
    42 measured ones python benchmarks/metric_audit.py --into docs/metrics.md

A preset is one call of `eigenforget audit-metrics`: three training seeds, three retrained models
for each, a class and a random tenth forgotten. It leaves records, audit.svg and audit.csv for each
request, and audit.md, in benchmarks/results/metric_audit/<preset>. Finished requests are not run
again. --into writes the conclusions of every finished preset between `<!-- audit -->` and `<!-- end
-->`.
"""

from __future__ import annotations

import os.path
from pathlib import Path

from cyclopts import App

from eigenforget.cli.auditing import Design, audit_metrics, slug
from eigenforget.cli.terminal import engine
from eigenforget.record import read_folder, write_text
from eigenforget.report.glossary import label
from eigenforget.report.pages import metric_audit as judged

REQUESTS = ("by_class(label=3)", "at_random(fraction=0.1)")
PRESETS = {
    "digits": (
        Design(
            "digits()", "small_resnet(width=16)", "recipe(epochs=20, batch_size=64)", REQUESTS, 3, 3
        ),
        "32-true",
    ),
    "cifar10": (
        Design(
            'npz(path="data/cifar10.npz")',
            "small_resnet(width=32, stem_stride=2)",
            'recipe(epochs=15, lr=0.2, augment="flip_crop")',
            REQUESTS,
            3,
            3,
        ),
        "bf16-mixed",
    ),
}
TITLES = {"digits": "digits", "cifar10": "CIFAR-10"}

app = App(help=__doc__)


@app.default
def main(
    *,
    preset: str = "",
    store: Path = Path("runs"),
    out: Path = Path("benchmarks/results/metric_audit"),
    into: Path | None = None,
) -> None:
    """Run a preset, or write what the finished ones say into a document."""
    if preset:
        design, precision = PRESETS[preset]
        home = store / ("cifar10" if preset == "cifar10" else f"audit_{preset}")
        chosen = engine(device="cpu", precision=precision, channels_last=preset == "cifar10")
        audit_metrics(design, out=out / preset, store=home, engine=chosen, overwrite=False)
    if into is not None:
        text = into.read_text(encoding="utf-8")
        before, _, rest = text.partition("<!-- audit -->")
        _, _, after = rest.partition("<!-- end -->")
        write_text(
            into, f"{before}<!-- audit -->\n{summary(out, into.parent)}\n<!-- end -->{after}"
        )


def summary(out: Path, beside: Path) -> str:
    """What each metric is worth in each setting, and the figures. Links are relative to the folder
    of the document.
    """
    settings = [
        (p, r) for p in PRESETS for r in REQUESTS if (out / p / slug(r) / "records").exists()
    ]
    found = {
        s: {
            j.metric.name: j for j in judged.judge(read_folder(out / s[0] / slug(s[1]) / "records"))
        }
        for s in settings
    }
    names = list(dict.fromkeys(name for each in found.values() for name in each))
    heads = [
        f"{TITLES[p]}, {'a class' if r.startswith('by_class') else 'a random tenth'}"
        for p, r in settings
    ]
    lines = [f"| metric | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name in names:
        cells = [found[s][name].conclusion if name in found[s] else "–" for s in settings]
        lines.append(f"| {label(name)} `{name}` | {' | '.join(cells)} |")
    links = [
        f"[{head}]({_link(out / p / 'audit.md', beside)})"
        for head, (p, _) in zip(heads, settings, strict=True)
    ]
    figures = [
        f"![{h}]({_link(out / p / slug(r) / 'audit.svg', beside)})"
        for h, (p, r) in zip(heads, settings, strict=True)
    ]
    words = f"Gaps, intervals and verdicts by training seed: {', '.join(dict.fromkeys(links))}."
    return "\n".join([*lines, "", words, "", *[f"{figure}\n" for figure in figures]]).rstrip()


def _link(target: Path, beside: Path) -> str:
    return Path(os.path.relpath(target, beside)).as_posix()


if __name__ == "__main__":
    app()
