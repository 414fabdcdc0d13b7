"""One self-contained page that shows every number and the same bytes each time."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import eigenforget
from eigenforget.record import (
    Outcome,
    RunRecord,
    ScoreRow,
    seal,
    write,
)
from eigenforget.report import glossary, table
from eigenforget.report.figures.charts import CHARTS
from eigenforget.report.pages import page
from tests.report.band_toys import MARKUP, member, row
from tests.report.page_toys import (
    METRICS,
    MODELS,
    NO_LOSS,
    Read,
    model_record,
    refused,
    sealed,
    series,
)
from tests.report.verdict_toys import RETRAINED, UNFORGOTTEN, judged
from tests.report_toys import further_series, whole


@pytest.fixture(scope="module")
def html(records: list[RunRecord]) -> str:
    return page.render(records, "Forgetting class 3")


def test_the_page_is_whole_in_itself(html: str) -> None:
    read = Read(html)
    assert len(read.scripts) == 1 and len(read.scripts[0]) < 10_000
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
    without = {"layers", "roc", "confusion", "maps-tsne", "maps-umap", "class-alignment"}
    assert len(ids) == len(set(ids)) and read.charts() == {c.id for c in CHARTS} - without
    # Every link inside the page goes somewhere.
    assert {a["href"][1:] for t, a in read.tags if t == "a" and a.get("href")} <= set(ids)  # type: ignore[index]


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
    assert "head_mask still remembers control" in text
    assert (
        f"MIA AUC of head_mask: {NO_LOSS}" in text and "Judged against 2 retrained models." in text
    )
    assert (
        "by_class(label=3)" in text
        and "That no other attack can tell the forgotten samples. (all models)" in text
    )


def test_the_answer_stands_at_the_top(records: list[RunRecord]) -> None:
    """In one sentence, by verdict; a control is no answer to the request."""

    def first(some: list[RunRecord]) -> str:
        return page.render(some, "x").split('<p class="lead">')[1].split("</p>")[0]

    several = first(records)
    assert several == (
        "Of 3 unlearned models, 1 is like a retrained model (twin) and 2 still remember "
        "(muda and finetune)."
    )
    others = [r for r in records if r.role != "unlearned"]
    (twin,) = (r for r in records if r.name == "twin")
    assert first([*others, twin]).startswith("twin: like a retrained model (forgot: yes, kept: yes")
    many = [replace(twin, name=f"twin {i}") for i in range(5)]
    assert first([*others, *many]) == "Of 5 unlearned models, 5 are like a retrained model."
    assert '<p class="lead">' not in page.render(others, "x")


def test_headings_go_down_level_by_level(html: str) -> None:
    levels = [int(t[1]) for t, _ in Read(html).tags if re.fullmatch("h[1-6]", t)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels))


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
    names = {"bands", "metrics", "ranks", "agreement", "pareto", "spectra", "trace"}
    assert read.charts() == names
    assert (
        "“Dimensional alignment over k” is left out: no record has the series “da_curve”."
        in read.text
    )
    assert "no record has the series “pca”." in read.text and read.text.count("is left out") == 10
    assert "no record has the series “tsne”. Evaluate with --map tsne to have it." in read.text
    assert "“Layer by layer” is left out: the records do not hold what it needs." in read.text
    empty = Read(page.render([refused("muda")], "t"))
    assert empty.charts() == set() and empty.text.count("is left out") == len(CHARTS)
    # No score, hence no group of scores, and yet the model and what became of it.
    assert "model seconds muda unlearned, refused n/a" in empty.text


def test_a_refused_model_is_shown_with_its_status(records: list[RunRecord]) -> None:
    read = Read(page.render([*records, refused("scrub")], "t"))
    assert (
        "scrub cannot tell" in read.text
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
    muda = model_record(
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
        replace(r, scores=(*r.scores, own[0])) for r in map(model_record, ("oracle_1", "oracle_2"))
    ]
    others = [model_record("original"), *oracles, model_record("finetune"), model_record("twin")]
    return sealed([*others, muda, replace(refused("no"), outcome=Outcome("refused", 0.0, BAD))])


def test_markup_in_names_titles_and_ids_stays_text() -> None:
    made = page.render(hostile(), BAD)
    read = Read(made)
    assert read.title == BAD and read.text.count(BAD) >= 20
    assert [tag for tag, _ in read.tags].count("script") == 1 and read.charts() == {
        c.id for c in CHARTS
    }
    assert "owned" not in read.scripts[0] and 'owned"<' not in made
    told = [a["data-texts"] for _, a in read.tags if "data-texts" in a]
    assert any(BAD in text for told_by in told for text in json.loads(str(told_by)))


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
        (0.97, (0.978, 0.970), "alignment says nothing for this request"),
        (0.999, (0.9995, 0.9995), "alignment says nothing for this request"),
    ],
)
def test_the_first_observation_is_said_in_words_only_as_far_as_the_numbers_go(
    original: float, oracles: tuple[float, float], words: str
) -> None:
    def with_da(name: str, value: float) -> RunRecord:
        made = model_record(name)
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


def test_every_score_is_in_one_group_and_its_table() -> None:
    names = [
        *table.FIRST,
        *(n for n in glossary._KNOWN if n not in table.FIRST),
        "never_heard_of",
        "da@block1",
    ]
    assert (
        glossary.group("never_heard_of") == glossary.OTHER
        and glossary.group("da@block1") == glossary.LAYERS
    )
    assert {glossary.group(n) for n in names} == set(glossary.GROUPS) and set(
        glossary.HEADLINE
    ) <= set(names)
    html = page.render([member("x", "unlearned", *(row(n, 0.5) for n in names))], "t")
    headings = re.findall(r'<h4 id="group-\d+">(.*?)</h4>', html)
    assert [h for h in headings if ", continued" not in h] == [
        g.capitalize() for g in glossary.GROUPS
    ]
    tables = re.findall(r'<table class="metric-table".*?</table>', html, re.DOTALL)
    buttons = [re.findall(r"<button[^>]*>(.*?)</button>", t) for t in tables]
    assert [b.pop(0) for b in buttons] == ["model"] * len(tables) and buttons[0].pop() == "seconds"
    assert all(len(found) <= 7 for found in buttons), "more do not fit a sheet"
    together: dict[str, list[str]] = {}
    for heading, found in zip(headings, buttons, strict=True):
        together.setdefault(heading.removesuffix(", continued"), []).extend(found)
    for g in glossary.GROUPS:
        assert together[g.capitalize()] == [
            glossary.label(n) for n in names if glossary.group(n) == g
        ]
    lonely = page.render([member("x", "unlearned", row("da", 0.5), row("nmi", None))], "t")
    shown = re.search(r'<table class="metric-table".*</table>', lonely, re.DOTALL)
    assert shown and ">DA<" in shown[0] and ">NMI<" not in shown[0] and "NMI of x" in lonely, (
        "what no model has is in the notes only"
    )
    assert len({glossary.label(n) for n in names}) == len(names)


def test_markup_in_new_places_stays_text() -> None:
    series = {
        "relearning": {"steps": [0], "curves": {MARKUP: [0.5]}},
        "per_class": {"label": [MARKUP], "test": [0.5]},
    }
    models = [
        member(n, role, row(MARKUP, v, unit=MARKUP), row(f"{MARKUP}@{MARKUP}", v), **series)
        for n, role, v in (
            (MARKUP, "unlearned", 0.9),
            ("o1", "oracle", 0.5),
            ("o2", "oracle", 0.6),
            ("o3", "oracle", 0.5),
        )
    ]
    html = page.render(models, MARKUP)
    assert MARKUP not in html.replace("&#34;", '"').replace("&#39;", "'") and "<b>'" not in html


def test_a_cell_of_the_page_holds_value_gap_and_verdict() -> None:
    """The band is 0.820 ± 12.706 · 0.00566 · √1.5 = ± 0.088, so that 0.048 is +0.5 of its half."""
    html = page.render([*UNFORGOTTEN, judged(RETRAINED, lp_forget=0.868)], "t")
    cell = re.search(r'<td data-value="0\.868">(.*?)</td>', html)
    assert cell is not None and re.sub(r"<[^>]+>", "", cell[1]).split() == [
        "0.868",
        "+0.048",
        "+0.5",
        "in",
    ]


def test_the_page_counts_corrected_records_and_shows_the_correction() -> None:
    first = seal(judged(RETRAINED))
    fixed = replace(judged(RETRAINED, da=0.5), job={"corrects": first.digest})
    html = page.render([first, seal(fixed, first.digest)], "t")
    assert "1 of them was corrected by a later one" in html
    assert 'data-value="0.5"' in html and 'data-value="0.978"' not in html


def words_before_the_first_figure(html: str) -> int:
    """What a reader sees above it: what is folded is not seen."""
    head = html[html.index("<body>") : html.index("<figure")]
    seen = re.sub(r"<details.*?</details>", " ", head, flags=re.DOTALL)
    return len(re.sub(r"<[^>]+>", " ", seen).split())


@pytest.mark.parametrize("models", [4, 30])
def test_a_figure_stands_after_at_most_250_words(models: int) -> None:
    names = {f"model {i}": "unlearned" for i in range(models)}
    roles = {"original": "original", **{f"oracle {i}": "oracle" for i in range(3)}, **names}
    html = page.render(whole(models=roles), "A title of some words")  # type: ignore[arg-type]
    assert words_before_the_first_figure(html) <= 250
    assert html.index('id="chart-maps"') < html.index('id="chart-class-alignment"')
    assert html.index('id="chart-class-alignment"') < html.index('id="chart-pareto"')
    first = html[: html.index('id="more"')]
    assert set(re.findall(r'id="chart-([\w-]+)"', first)) == {"maps", "class-alignment", "pareto"}
    folds = html[html.index('id="more"') :].split('<details class="topic"')
    assert "<figure" not in folds[0] and len(folds) == 11


def test_every_figure_has_a_sentence_on_its_data() -> None:
    html = page.render(whole(), "t")
    for figure in re.findall(r"<figure.*?</figure>", html, re.DOTALL):
        said = re.search(r'<p class="reading">(.*?)</p>', figure, re.DOTALL)
        assert said and re.search(r"\d", said[1]), figure[:200]
