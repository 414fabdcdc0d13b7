"""Report: gaps and verdicts against hand calculations; a table for 80 columns; one self-contained,
deterministic, escaped page.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plotly.offline import get_plotlyjs
from rich.console import Console
from scipy import stats

import eigenforget
from eigenforget.record import Outcome, RecordError, RunRecord, ScoreRow, seal, write
from eigenforget.report import table
from eigenforget.report.pages import page
from eigenforget.report.pages.console import rich_table
from eigenforget.report.verdict import limits, recovery, verdicts
from tests.report_toys import further_series

METRICS = (
    "forget_accuracy",
    "retain_accuracy",
    "test_forget_accuracy",
    "test_retain_accuracy",
    "mia_auc",
    "da",
    "lp_forget",
    "nmi",
    "cluster_f1",
)
# name: role, seconds, the metrics in that order. One class forgotten; made up.
MODELS: dict[str, tuple[str, float, list[float | None]]] = {
    "original": ("original", 62.0, [0.998, 0.996, 0.921, 0.910, 0.532, 0.621, 0.962, 0.801, 0.797]),
    "oracle_1": ("oracle", 56.0, [0.0, 0.997, 0.0, 0.911, 0.501, 0.978, 0.824, 0.764, 0.733]),
    "oracle_2": ("oracle", 60.0, [0.0, 0.995, 0.0, 0.913, 0.498, 0.970, 0.816, 0.760, 0.737]),
    "muda": ("unlearned", 5.5, [0.001, 0.962, 0.0, 0.892, 0.505, 0.981, 0.868, 0.759, 0.742]),
    "finetune": ("unlearned", 9.1, [0.412, 0.999, 0.371, 0.914, 0.561, 0.655, 0.953, 0.796, 0.790]),
    "twin": ("unlearned", 58.0, [0.002, 0.994, 0.0, 0.912, 0.499, 0.973, 0.818, 0.762, 0.736]),
    "head_mask": ("control", 0.1, [0.0, 0.996, 0.0, 0.915, None, 0.621, 0.962, 0.801, 0.797]),
}
NO_LOSS = "a masked logit has no finite loss"


def score(name: str, value: float | None) -> ScoreRow:
    better: Any = "higher" if name.endswith("retain_accuracy") else "reference"
    if value is None:
        return ScoreRow(name, None, "share", better, (0.0, 1.0), reason=NO_LOSS)
    return ScoreRow(
        name, value, "share", better, (0.0, 1.0), max(0.0, value - 0.012), min(1.0, value + 0.012)
    )


def series(name: str) -> dict[str, Any]:
    rng = np.random.default_rng(sum(map(ord, name)))
    labels, decay = np.arange(40) % 10, np.append(0.5 ** np.arange(8), 0.0)
    curves = {
        form: np.sort(rng.uniform(size=20)).tolist()
        for form in ("frobenius_none", "energy_none", "energy_each")
    }
    return {
        "da_curve": {"k": list(range(1, 21)), "headline_k": 9, **curves},
        "pca": {
            "x": rng.normal(size=40).tolist(),
            "y": rng.normal(size=40).tolist(),
            "label": labels.tolist(),
            "id": [f"test/{i}" for i in range(40)],
            "forget": (labels == 3).tolist(),
            "explained": [0.312, 0.187],
        },
        "spectrum": {
            "retain": (decay / decay.sum()).tolist(),
            "forget": rng.dirichlet(np.ones(9)).tolist(),
        },
        "relearning": {
            "steps": [0, 1, 4],
            "curves": {n: rng.uniform(size=3).tolist() for n in ("10", "all")},
            "part": "test_forget",
        },
        "per_class": {"label": list(range(10)), "test": [None, *rng.uniform(size=9).tolist()]},
        "trace": [
            {"phase": p, "loss": 2.0 / (c + 1)} for c in range(3) for p in ("forget", "recover")
        ]
        if name == "muda"
        else [],
    }


def record(name: str, like: str = "", **changes: Any) -> RunRecord:
    role, seconds, values = MODELS[like or name]
    made = RunRecord(
        kind="evaluate",
        name=name,
        role=role,  # type: ignore[arg-type]
        created="2026-11-24T13:00:00Z",
        job={
            "request": {"spec": "by_class(label=3)", "resolved": {"label": 3}},
            "method": {"spec": f"{name}()"},
            "seed": 0,
        },
        inputs={"data": "sha256:" + "a" * 64},
        environment={"torch": "2.13.0", "device": "cpu"},
        outcome=Outcome("ok", seconds),
        scores=tuple(score(m, v) for m, v in zip(METRICS, values, strict=True)),
        series=series(name),
        claims=("The scores above were measured on the data with the digest given.",),
        non_claims=("That no other attack can tell the forgotten samples.",),
    )
    return replace(made, **changes)


def half(one: float, two: float) -> float:
    """Of the band of two retrained models: Student's t with one degree of freedom, and at least
    half a point of a share.
    """
    return max(
        0.005, float(stats.t.ppf(0.975, 1)) * abs(one - two) / math.sqrt(2) * math.sqrt(1 + 1 / 2)
    )


def refused(name: str) -> RunRecord:
    return record(
        name,
        "muda",
        outcome=Outcome("refused", 0.2, "needs whole classes, got 12 samples"),
        scores=(),
        series={},
    )


def sealed(records: list[RunRecord]) -> list[RunRecord]:
    made: list[RunRecord] = []
    for r in records:
        made.append(seal(r, made[-1].digest if made else None))
    return made


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    return sealed([record(name) for name in MODELS])


@pytest.fixture(scope="module")
def html(records: list[RunRecord]) -> str:
    return page.render(records, "Forgetting class 3")


@pytest.fixture(scope="module")
def no_oracle(records: list[RunRecord]) -> list[RunRecord]:
    return [r for r in records if r.role != "oracle"]


class Read(HTMLParser):
    """What a browser would see: tags with attributes, script contents, and all other text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.title = ""
        self.inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside == "title":
            self.title += data
        elif self.inside != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def charts(self) -> dict[str, Any]:
        holders = [attrs for tag, attrs in self.tags if tag == "script"]
        pairs = zip(holders, self.scripts, strict=True)
        return {
            str(a["data-chart"]): json.loads(text)
            for a, text in pairs
            if a.get("type") == "application/json"
        }


def row_of(records: list[RunRecord], name: str) -> table.Row:
    return next(row for row in table.build(records).rows if row.model == name)


def test_gaps_and_shares_by_hand(records: list[RunRecord]) -> None:
    made = table.build(records)
    assert [c.name for c in made.columns] == list(METRICS)
    # (0.978 + 0.970) / 2 = 0.974, (0.824 + 0.816) / 2 = 0.820, (56 + 60) / 2 = 58.
    assert made.reference["da"][:4] == pytest.approx((0.974, 0.970, 0.978, 2)) and made.reference[
        "da"
    ].spread == pytest.approx(0.008)
    assert (
        made.reference["da"].band == pytest.approx((0.974, half(0.970, 0.978), 2))
        and made.original["da"] == 0.621
    )
    muda, original = row_of(records, "muda"), row_of(records, "original")
    assert muda.cells["da"].gap == pytest.approx(0.007) and muda.cells[
        "lp_forget"
    ].gap == pytest.approx(0.048)
    assert original.cells["da"].gap == pytest.approx(-0.353)
    assert (muda.cells["da"].low, muda.cells["da"].high) == pytest.approx((0.969, 0.993))
    assert muda.share == pytest.approx(5.5 / 58) and original.share == pytest.approx(62 / 58)
    for model, (_, _, values) in MODELS.items():
        for name, value in zip(METRICS, values, strict=True):
            one, two = (MODELS[o][2][METRICS.index(name)] or 0.0 for o in ("oracle_1", "oracle_2"))
            cell = row_of(records, model).cells[name]
            wanted = (
                None if value is None or model.startswith("oracle") else value - (one + two) / 2
            )
            assert cell.value == value and cell.gap == (
                wanted if wanted is None else pytest.approx(wanted, abs=1e-12)
            )
            # A retrained model is judged by the others, and the only other one makes no band.
            assert cell.units == (
                wanted if wanted is None else pytest.approx(wanted / half(one, two), abs=1e-9)
            )
    assert row_of(records, "head_mask").cells["mia_auc"] == table.Cell(
        None, None, None, None, NO_LOSS
    )


def test_without_a_retrained_model_there_are_no_gaps_and_no_shares(
    no_oracle: list[RunRecord],
) -> None:
    made = table.build(no_oracle)
    assert made.reference == {} and made.original["da"] == 0.621
    assert all(cell.gap is None for row in made.rows for cell in row.cells.values())
    assert all(row.share is None and row.seconds is not None for row in made.rows)


def test_rows_go_by_role_and_further_scores_follow_the_known_ones(records: list[RunRecord]) -> None:
    own = ScoreRow("own", 3.0, "bits", "lower", (0.0, None))
    extra = record("extra", "muda", scores=(own, score("nmi", 0.7), score("da", 0.9)))
    assert [c.name for c in table.build([extra]).columns] == ["da", "nmi", "own"]
    assert [r.model for r in table.build(records[::-1]).rows] == [
        "original",
        "oracle_2",
        "oracle_1",
        "twin",
        "finetune",
        "muda",
        "head_mask",
    ]
    other = replace(extra, name="other", scores=(replace(own, unit="nats"),))
    with pytest.raises(
        RecordError, match="score 'own' is 'nats', lower in 'other' and 'bits', lower elsewhere"
    ):
        table.build([extra, other])


def test_only_evaluations_in_force_are_reported(records: list[RunRecord]) -> None:
    better = seal(
        record("muda", job={"corrects": records[3].digest}, outcome=Outcome("ok", 7.0)),
        records[-1].digest,
    )
    trained = seal(record("muda", kind="train", role=None), better.digest)
    assert row_of([*records, better, trained], "muda").seconds == 7.0
    assert len(table.build([*records, better, trained]).rows) == len(MODELS)
    with pytest.raises(RecordError, match="two evaluate records are named 'muda'"):
        table.build([*records, record("muda")])
    with pytest.raises(RecordError, match="no evaluate record among the 1 records"):
        table.build([trained])


def test_csv_holds_full_precision_and_empty_cells(records: list[RunRecord], tmp_path: Path) -> None:
    third = record("third", "muda", scores=(score("da", 1 / 3),))
    path = table.write_csv([*records, third, refused("no, thanks")], tmp_path / "t.csv")
    text = path.read_text(encoding="utf-8")
    assert (
        text.splitlines()[0] == "model,role," + ",".join(METRICS) + ",seconds" and "\r" not in text
    )
    lines = {line["model"]: line for line in csv.DictReader(io.StringIO(text))}
    assert set(lines) == {*MODELS, "third", "no, thanks"}
    for name, (role, seconds, values) in MODELS.items():
        assert lines[name]["role"] == role
        assert [float(lines[name][m]) if lines[name][m] else None for m in METRICS] == values
        assert float(lines[name]["seconds"]) == seconds
    assert float(lines["third"]["da"]) == 1 / 3 and lines["third"]["nmi"] == ""
    assert lines["no, thanks"].pop("role") == "unlearned" and {
        v for k, v in lines["no, thanks"].items() if k != "model"
    } == {""}


def printed(records: list[RunRecord], width: int = 80) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(rich_table(records, width))
    return file.getvalue()


def test_the_terminal_table_fits_80_columns_and_shows_every_number(
    records: list[RunRecord],
) -> None:
    text = printed(records)
    assert max(map(len, text.splitlines())) <= 80
    numbers = Counter(re.findall(r"(?<![\d.+-])\d\.\d{3}\b", text))
    models = [
        v
        for role, _, values in MODELS.values()
        if role != "oracle"
        for v in values
        if v is not None
    ]
    # Each model's values once; the retrained models as a mean and half of a band, in each of the
    # two blocks.
    wanted = Counter(f"{v:.3f}" for v in models)
    for one, two in zip(MODELS["oracle_1"][2], MODELS["oracle_2"][2], strict=True):
        assert one is not None and two is not None
        wanted += Counter(2 * [f"{(one + two) / 2:.3f}", f"{half(one, two):.3f}"])
    assert numbers == wanted
    first, second = (text[m.start() :].splitlines()[1:3] for m in re.finditer("\nDA ", text))
    # -0.353, +0.007, -0.319 and -0.001 from the mean, in halves of 0.088.
    assert first[0].split() == ["DA", "0.974", "0.621", "0.981", "0.655", "0.973"]
    assert first[1].split() == [
        "±",
        "0.088",
        "-4.0",
        "off",
        "+0.1",
        "in",
        "-3.6",
        "off",
        "+0.0",
        "in",
    ]
    assert [line.split() for line in second] == [
        ["DA", "0.974", "0.621"],
        ["±", "0.088", "-4.0", "off"],
    ]
    assert "9.5%" in text and "107%" in text and "- = not applicable" in text
    for name in ("original", "muda", "finetune", "twin", "head_", "mask", "retrained"):
        assert name in text


def test_many_models_take_several_blocks_and_long_names_are_folded(
    records: list[RunRecord],
) -> None:
    long = "n" * 90 + "end"
    many = [
        replace(records[3], name=f"m{i:02}", scores=(score("da", 0.5 + i / 100),))
        for i in range(17)
    ]
    for oracles in (records[1:3], []):
        text = printed(
            [*oracles, *many, replace(records[3], name=long), refused("said_no"), refused("[red]x")]
        )
        assert max(map(len, text.splitlines())) <= 80
        assert text.count("\nDA ") >= 3 and "[red]x" in text and text.count("refused") >= 2
        assert all(
            text.count(f"m{i:02}") == 1 and f"{0.5 + i / 100:.3f}" in text for i in range(17)
        )
        assert (
            long in re.sub(r"\s+|retrained", "", text)
            and sum(line.count("n" * 30) for line in text.splitlines()) >= 2
        )
        assert ("no gaps" in text) == (not oracles) and ("retrained  " in text) == bool(oracles)


def verdict_of(records: list[RunRecord], name: str) -> Any:
    return next(v for v in verdicts(table.build(records)) if v.model == name)


@pytest.mark.parametrize(
    ("name", "tone", "headline"),
    [
        ("head_mask", "bad", "accuracy says forgotten, features say not"),
        ("twin", "good", "accuracy says forgotten, and so do the features"),
        ("muda", "mixed", "accuracy says forgotten, features only in part"),
        (
            "finetune",
            "bad",
            "accuracy is not that of a retrained model, and neither are the features",
        ),
    ],
)
def test_headlines(records: list[RunRecord], name: str, tone: str, headline: str) -> None:
    assert verdict_of(records, name)[2:4] == (tone, headline)


def test_ways_by_hand(records: list[RunRecord]) -> None:
    made = table.build(records)
    for name in ("muda", "finetune", "head_mask"):
        for metric in ("da", "lp_forget", "nmi", "cluster_f1"):
            start, one, two, value = (
                MODELS[m][2][METRICS.index(metric)] or 0.0
                for m in ("original", "oracle_1", "oracle_2", name)
            )
            found = recovery(row_of(records, name), metric, made)
            assert found is not None and found.fraction == pytest.approx(
                (value - start) / ((one + two) / 2 - start)
            )
    said = " ".join(verdict_of(records, "muda").sentences)
    # LP: (0.868 - 0.962) / (0.820 - 0.962) = 0.66; DA: 0.360 / 0.353 = 1.02; retain: 0.892 - 0.912.
    assert (
        "DA 102%, LP 66%" in said
        and "as accurate as the retrained models (-0.020)" in said
        and "5.5 s" in said
        and "9.5%" in said
    )
    said = " ".join(verdict_of(records, "head_mask").sentences)
    assert "DA 0%, LP 0%, NMI 0% and cluster F1 0%" in said
    assert "Nearer the original than the retrained models: DA, LP, NMI and cluster F1." in said


def test_going_past_is_not_arriving(records: list[RunRecord]) -> None:
    values = [0.0, 0.996, 0.0, 0.912, 0.5, 0.999, 0.30, 0.60, 0.50]
    past = record(
        "past", "muda", scores=tuple(score(m, v) for m, v in zip(METRICS, values, strict=True))
    )
    found = verdict_of([*records, past], "past")
    assert found[2:4] == (
        "mixed",
        "accuracy says forgotten, features went past the retrained models",
    )
    assert (
        "Went past the retrained models, which is not what retraining does: LP, NMI and cluster F1."
        in " ".join(found.sentences)
    )


def test_one_metric_left_behind_is_neither_all_nor_nothing(records: list[RunRecord]) -> None:
    # As head_mask, but DA and LP arrived; as twin, but DA stayed; outputs as finetune, features as
    # twin.
    def mixed(outputs: str, features: str, **own: float) -> RunRecord:
        values = {
            **dict(zip(METRICS, [*MODELS[outputs][2][:5], *MODELS[features][2][5:]], strict=True)),
            **own,
        }
        return record("mixed", "muda", scores=tuple(score(m, v) for m, v in values.items()))

    part = "accuracy says forgotten, features only in part"
    for made, headline in (
        (mixed("head_mask", "head_mask", da=0.974, lp_forget=0.820), part),
        (mixed("twin", "twin", da=0.621), part),
        (
            mixed("finetune", "twin"),
            "accuracy is not that of a retrained model, though the features are",
        ),
    ):
        assert verdict_of([*records, made], "mixed").headline == headline


def test_a_metric_that_cannot_tell_says_so(records: list[RunRecord]) -> None:
    def pinned(r: RunRecord) -> RunRecord:
        shift = {"original": 0.0, "oracle_1": 0.01, "oracle_2": 0.03}.get(r.name, 0.5)
        return replace(
            r,
            scores=tuple(
                replace(s, value=0.4 + shift, low=None, high=None) if s.name in METRICS[5:] else s
                for s in r.scores
            ),
        )

    found = verdict_of([pinned(r) for r in records], "head_mask")
    assert found[2:4] == ("unknown", "accuracy says forgotten; no feature metric can tell")
    assert (
        "DA: does not tell the original (0.400) from the retrained models (0.420) here."
        in " ".join(found.sentences)
    )


def test_what_cannot_be_said_is_said(records: list[RunRecord], no_oracle: list[RunRecord]) -> None:
    assert limits(table.build([*records, record("oracle_3", "oracle_1")])) == []
    two = limits(table.build(records))
    assert len(two) == 1 and "two retrained models only. A band of two is wide" in two[0]
    none = limits(table.build(no_oracle))
    assert (
        len(none) == 1
        and "It cannot be said whether any model is like one that never saw the forget set"
        in none[0]
    )
    assert verdict_of(no_oracle, "muda")[2:4] == (
        "unknown",
        "cannot be judged: no forget accuracy to compare with a retrained model",
    )
    assert none[0] in Read(page.render(no_oracle, "t")).text
    one = limits(table.build([r for r in records if r.name != "oracle_2"]))
    assert len(one) == 1 and "one retrained model only" in one[0]
    assert "no original model" in limits(table.build(records[1:]))[1]


def test_the_page_is_whole_in_itself(html: str) -> None:
    read = Read(html)
    assert (
        html.count(get_plotlyjs()) == 1
        and sum("Plotly.newPlot" in s for s in read.scripts if len(s) < 10_000) == 1
    )
    for tag, attrs in read.tags:
        assert not {"src", "srcset", "data", "action", "poster", "background"} & set(attrs), tag
        assert attrs.get("href", "#").startswith("#"), attrs  # type: ignore[union-attr]
        assert tag not in ("link", "iframe", "object", "embed", "base")
    styles = "".join(re.findall(r"<style>(.*?)</style>", html, re.DOTALL))
    assert "url(" not in styles and "@import" not in styles
    policy = next(
        a["content"]
        for t, a in read.tags
        if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None and policy.startswith("default-src 'none'")
    ids = [a["id"] for _, a in read.tags if "id" in a]
    # None of these has what the rest of the charts need; hostile() has, and is drawn below.
    without = {"chart-layers", "chart-roc", "chart-confusion", "chart-maps-tsne", "chart-maps-umap"}
    assert (
        len(ids) == len(set(ids))
        and set(read.charts()) == {f"chart-{c.id}" for c in page.CHARTS} - without
    )


def test_the_page_shows_every_model_number_and_digest(html: str, records: list[RunRecord]) -> None:
    text = Read(html).text
    for r in records:
        assert r.name in text and r.digest is not None and r.digest in text
    values = [
        float(str(a["data-value"])) for t, a in Read(html).tags if t == "td" and "data-value" in a
    ]
    # A table per group of scores, the seconds in the first.
    grouped = (METRICS[0:3:2], METRICS[1:4:2], METRICS[4:5], METRICS[5:])
    wanted = [
        (*(vs[METRICS.index(m)] for m in names), *([s] if names == grouped[0] else []))
        for names in grouped
        for _, s, vs in MODELS.values()
    ]
    assert values == [v for row in wanted for v in row if v is not None]
    assert sum(
        t == "table" and a.get("class") == "metric-table" for t, a in Read(html).tags
    ) == len(grouped)
    assert "head_mask: accuracy says forgotten, features say not control" in text
    assert (
        f"MIA AUC of head_mask: {NO_LOSS}" in text
        and "4 models are judged against 2 retrained models" in text
    )
    assert (
        "by_class(label=3)" in text
        and "That no other attack can tell the forgotten samples. (all models)" in text
    )


def test_the_page_is_the_same_bytes_each_time(
    html: str, records: list[RunRecord], tmp_path: Path
) -> None:
    for i, r in enumerate(records):
        write(r, tmp_path / f"{9 - i}.json")
    code = (
        "import hashlib, sys; from eigenforget.record import read_folder; from eigenforget.report import render;"
        "print(hashlib.sha256(render(read_folder(sys.argv[1]), 'Forgetting class 3').encode()).hexdigest())"
    )
    # Another process with another order of hashes, from the files.
    env = {
        **os.environ,
        "PYTHONHASHSEED": "12345",
        "PYTHONPATH": str(Path(eigenforget.__file__).parents[1]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == hashlib.sha256(html.encode()).hexdigest()


def test_write_page_writes_that_text(html: str, records: list[RunRecord], tmp_path: Path) -> None:
    path = page.write_page(records, tmp_path / "report.html", "Forgetting class 3")
    assert path.read_bytes() == html.encode() and list(tmp_path.iterdir()) == [path]


def test_a_figure_without_its_series_is_left_out_with_a_sentence(records: list[RunRecord]) -> None:
    bare = [
        replace(r, series={k: v for k, v in r.series.items() if k in ("spectrum", "trace")})
        for r in records
    ]
    read = Read(page.render(bare, "t"))
    assert set(read.charts()) == {
        f"chart-{c}"
        for c in ("bands", "metrics", "ranks", "agreement", "pareto", "spectra", "trace")
    }
    assert (
        "“Dimensional alignment over k” is left out: no record has the series “da_curve”."
        in read.text
    )
    assert "no record has the series “pca”." in read.text and read.text.count("is left out") == 9
    assert "no record has the series “tsne”. Evaluate with --map tsne to have it." in read.text
    assert "“Layer by layer” is left out: the records do not hold what it needs." in read.text
    empty = Read(page.render([refused("muda")], "t"))
    assert empty.charts() == {} and empty.text.count("is left out") == len(page.CHARTS)
    # No score, hence no group of scores, and yet the model and what became of it.
    assert "model seconds muda unlearned, refused n/a" in empty.text


def test_a_refused_model_is_shown_with_its_status(records: list[RunRecord]) -> None:
    read = Read(page.render([*records, refused("scrub")], "t"))
    assert (
        "scrub: no result: refused" in read.text
        and "refused: needs whole classes, got 12 samples" in read.text
    )
    assert "scrub unlearned, refused" in read.text


BAD = '</script><script>document.title="owned"</script>'


def hostile() -> list[RunRecord]:
    made = series("x")
    made["pca"]["id"][3] = BAD + "&"
    made |= {k: v for k, v in further_series(1, label=BAD).items() if k != "pca"}
    made["trace"] = [{"phase": BAD, "loss": 1.0, "da": 0.5}]
    made["relearning"] = {"steps": [0, 1], "curves": {BAD: [0.0, 0.5]}}
    made["per_class"] = {"label": [BAD], "test": [0.5]}
    own = [
        ScoreRow(name, 0.5, BAD, "reference", (0.0, 1.0), trace="above")
        for name in (BAD, f"da@{BAD}", BAD + "@1")
    ]
    job = {"request": {"spec": BAD}, BAD: BAD}
    muda = record(
        BAD,
        "muda",
        series=made,
        job=job,
        claims=(BAD,),
        environment={"device": "cpu", "a": {"spec": BAD, "b": BAD}},
    )
    muda = replace(
        muda,
        scores=(
            *muda.scores,
            *own,
            ScoreRow(BAD + "?", None, "", "lower", (0.0, None), reason=BAD),
        ),
    )
    oracles = [
        replace(r, scores=(*r.scores, own[0])) for r in map(record, ("oracle_1", "oracle_2"))
    ]
    others = [record("original"), *oracles, record("finetune"), record("twin")]
    return sealed([*others, muda, replace(refused("no"), outcome=Outcome("refused", 0.0, BAD))])


def test_markup_in_names_titles_and_ids_stays_text() -> None:
    made = page.render(hostile(), BAD)
    read = Read(made)
    assert read.title == BAD and read.text.count(BAD) >= 20
    kinds = [attrs.get("type") for tag, attrs in read.tags if tag == "script"]
    assert kinds == ["application/json"] * len(page.CHARTS) + [None, None]
    assert "owned" not in read.scripts[-1] and 'owned"<' not in made
    # plotly reads a little markup in its texts, so there the name is escaped once more.
    escaped = '&lt;/script&gt;&lt;script&gt;document.title="owned"&lt;/script&gt;'
    for chart, text in (
        ("chart-maps", f"{escaped}&amp;"),
        ("chart-maps-tsne", escaped),
        ("chart-maps-umap", escaped),
    ):
        assert text in [d for t in read.charts()[chart]["data"] for d in t["text"]]
    texts = [t.get("name", "") for c in read.charts().values() for t in c["data"]]
    texts += [
        a["text"].removeprefix("<b>").removesuffix("</b>")
        for c in read.charts().values()
        for a in c["layout"].get("annotations", [])
    ]
    texts += [
        t
        for c in read.charts().values()
        for t in strings([c["data"], c["layout"]["xaxis"], c["layout"]["yaxis"]])
    ]
    # Hover templates are markup on purpose.
    texts = [re.sub("</?extra>|<br>", "", t) for t in texts]
    assert any("&lt;/script&gt;" in t for t in texts) and not any("<" in t for t in texts)


def strings(value: Any) -> list[str]:
    """All texts in a JSON value, but for names of groups, which plotly does not show."""
    if isinstance(value, dict):
        value = [v for k, v in value.items() if k != "legendgroup"]
    return (
        [value]
        if isinstance(value, str)
        else [t for v in value for t in strings(v)]
        if isinstance(value, list)
        else []
    )


@pytest.mark.parametrize(
    ("original", "oracles", "words"),
    [
        (
            0.621,
            (0.978, 0.970),
            "data that a model never saw lies closer to the features of the data that it saw",
        ),
        (
            0.978,
            (0.621, 0.63),
            "unlike in the paper, the data that was never seen lies farther away",
        ),
        (0.97, (0.978, 0.970), "alignment carries no signal for this request"),
        (0.999, (0.9995, 0.9995), "alignment carries no signal for this request"),
    ],
)
def test_the_first_observation_is_said_in_words_only_as_far_as_the_numbers_go(
    original: float, oracles: tuple[float, float], words: str
) -> None:
    def with_da(name: str, value: float) -> RunRecord:
        made = record(name)
        return replace(
            made,
            scores=tuple(
                replace(s, value=value, low=None, high=None) if s.name == "da" else s
                for s in made.scores
            ),
        )

    values = {"original": original, "oracle_1": oracles[0], "oracle_2": oracles[1]}
    text = page.render(sealed([with_da(name, value) for name, value in values.items()]), "analysis")
    assert words in text and text.count("Dimensional alignment of the forget set") == 1
