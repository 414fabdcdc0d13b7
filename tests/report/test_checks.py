"""Checks of a report: each code found, passed and not applicable on made-up records."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from eigenforget.core.errors import EigenforgetError
from eigenforget.experiments.bench import read_scores_file
from eigenforget.record import RecordError, RunRecord, chained
from eigenforget.report.checks import GROUP, RULES, by_severity, checks
from eigenforget.report.decision import (
    FORGET_LEVEL,
    FORGET_SCORES,
    KEEP_LEVEL,
    KEEP_SCORES,
)
from eigenforget.report.pages import page
from eigenforget.report.pages.card import model_card
from tests.report.check_toys import (
    ANCHORS,
    DIGESTS,
    HEAD,
    NEAR_ORIGINAL,
    among,
    check,
    failed,
    kept,
    mean,
    model,
    oracles,
    original,
    row,
    twins_of,
    with_method,
)

ROOT = Path(__file__).parent.parent.parent


def corrected() -> list[RunRecord]:
    first = list(chained(among(model())))
    return [*first, *chained([model(job={"corrects": first[-1].digest})])]


def at_limit(name: str, times: float, level: float) -> float:
    """So many times as far above the oracles' mean as counts; the scores have no intervals."""
    values = ANCHORS[name][1]
    error = float(np.std(values, ddof=1)) * (1 + 1 / len(values)) ** 0.5
    return mean(name) + times * float(stats.t.isf(level, len(values) - 1)) * error


FORGET = FORGET_LEVEL / len(FORGET_SCORES["samples"])
KEEP = KEEP_LEVEL / (len(FORGET_SCORES["samples"]) + len(KEEP_SCORES))


# code, severity where found, records with it, without it, and where it cannot be said ("": always
# can).
FOUND: dict[str, tuple[str, Callable[[], list[RunRecord]]]] = {
    "EF001": ("error", lambda: [original(), model()]),
    "EF002": ("note", lambda: among(model())),
    "EF003": ("warning", lambda: among(model(values={"mia_auc": (0.5, (0.449, 0.55))}))),
    "EF004": ("warning", lambda: among(model(values={"test_retain_accuracy": 0.8}))),
    "EF005": ("warning", lambda: among(model(job=twins_of(2)))),
    "EF006": ("error", lambda: among(model(values=NEAR_ORIGINAL))),
    "EF007": (
        "warning",
        lambda: among(model(values={"lp_forget": at_limit("lp_forget", -1.01, KEEP)})),
    ),
    "EF008": ("warning", lambda: among(model(**kept(0.5)))),
    "EF009": ("warning", lambda: among(model(), failed("scrub"))),
    "EF010": ("note", lambda: among(model(*HEAD))),
    "EF011": ("error", lambda: among(model(inputs={"split": DIGESTS[7]}))),
    "EF012": ("warning", lambda: among(model(cost={"cpu_seconds": 5.01}))),
    "EF013": (
        "warning",
        lambda: among(model(values={"relearn_all_auc": at_limit("relearn_all_auc", 1.01, FORGET)})),
    ),
    "EF014": (
        "note",
        lambda: [
            replace(r, scores=tuple(row("nmi", 0.5) if s.name == "nmi" else s for s in r.scores))
            for r in among(model())
        ],
    ),
    "EF015": ("note", corrected),
    "EF016": ("warning", lambda: among(model(values={"relearn_all_auc": None}))),
    "EF017": ("note", lambda: among(model(**with_method(optimises=["da"])))),
    "EF018": ("note", lambda: among(model(environment={"device": "cuda"}))),
}
PASSED: dict[str, Callable[[], list[RunRecord]]] = {
    "EF001": lambda: among(model()),
    "EF002": lambda: [
        *among(model()),
        original(name="original 2", inputs={"checked_model": DIGESTS[3]}),
    ],
    "EF003": lambda: among(model(values={"mia_auc": (0.5, (0.4501, 0.55))})),
    "EF004": lambda: among(
        model(values={"test_retain_accuracy": at_limit("test_retain_accuracy", -0.99, KEEP)})
    ),
    "EF005": lambda: among(model(job=twins_of(0))),
    "EF006": lambda: among(model()),
    "EF007": lambda: among(model(values={"lp_forget": at_limit("lp_forget", -0.99, KEEP)})),
    "EF008": lambda: among(model(**kept(0.499))),
    "EF009": lambda: among(model()),
    "EF010": lambda: among(model()),
    "EF011": lambda: among(model()),
    "EF012": lambda: among(model(cost={"cpu_seconds": 5.0})),
    "EF013": lambda: among(
        model(values={"relearn_all_auc": at_limit("relearn_all_auc", 0.99, FORGET)})
    ),
    "EF014": lambda: among(model()),
    "EF015": lambda: among(model()),
    "EF016": lambda: among(model()),
    "EF017": lambda: among(model(**with_method(optimises=["tow"]))),
    "EF018": lambda: among(model()),
}
SILENT: dict[str, tuple[str, Callable[[], list[RunRecord]]]] = {
    "EF002": ("no original is among the records", lambda: [*oracles(), model()]),
    "EF003": (
        "no membership attack was measured on an unlearned model",
        lambda: among(model(values={"mia_auc": None})),
    ),
    "EF004": (
        "no score of what should be kept",
        lambda: among(model(values={"retain_accuracy": None, "test_retain_accuracy": None})),
    ),
    "EF005": ("no record says whether near duplicates were looked for", lambda: among(model())),
    "EF006": ("no model has a decision score", lambda: [original(), model()]),
    "EF007": ("no retrained model is among the records", lambda: [original(), model()]),
    "EF008": ("the records do not say which weights", lambda: among(model())),
    "EF011": ("one model only", lambda: [model()]),
    "EF012": ("no retrained model is among the records", lambda: [original(), model()]),
    "EF013": (
        "relearning was not measured",
        lambda: among(model(values={"relearn_all_auc": None})),
    ),
    "EF014": ("no retrained model is among the records", lambda: [original(), model()]),
    "EF016": ("no unlearned model is among the records", lambda: among(model(*HEAD))),
    "EF017": ("no unlearned model is among the records", lambda: among()),
    "EF018": ("one model only", lambda: [model()]),
}


@pytest.mark.parametrize("code", [rule.code for rule in RULES])
def test_each_check_finds_passes_and_says_why_it_cannot_look(code: str) -> None:
    severity, bad = FOUND[code]
    found = check(code, bad())
    assert (
        (found.status, found.severity) == ("found", severity)
        and len(found.explanation) > 20
        and found.explanation[-1] == "."
    )
    assert set(found.models) <= {r.name for r in bad()}
    passed = check(code, PASSED[code]())
    assert (passed.status, passed.models) == ("passed", ()) and passed.explanation[-1] == "."
    if code in SILENT:
        reason, records = SILENT[code]
        silent = check(code, records())
        assert (silent.status, silent.models) == (
            "not_applicable",
            (),
        ) and silent.explanation.startswith(reason), silent
    else:
        assert code in ("EF001", "EF009", "EF010", "EF015"), (
            "every other check has something that it cannot do without"
        )


@pytest.mark.parametrize("code", sorted(set(FOUND) - {"EF001", "EF002", "EF014"}))
def test_a_check_names_the_model_that_it_is_about_and_no_other(code: str) -> None:
    named = {"EF009": "scrub", "EF010": "head"}.get(code, "one")
    records = [*FOUND[code][1](), model("innocent")]
    if code == "EF018":
        assert check(code, records).models == ()
    else:
        assert check(code, records).models == (named,)


def test_no_unlearned_model_leaves_checks_of_them_without_an_answer() -> None:
    made = {c.code: c.status for c in checks([original(), *oracles()])}
    assert [code for code, status in made.items() if status == "not_applicable"] == [
        "EF002",
        "EF003",
        "EF004",
        "EF005",
        "EF006",
        "EF007",
        "EF008",
        "EF012",
        "EF013",
        "EF016",
        "EF017",
    ]


def test_a_refused_model_is_no_evidence_and_does_not_stop_the_others() -> None:
    made = {c.code: c for c in checks(among(failed("scrub", "refused")))}
    assert made["EF009"].explanation == "scrub was refused: the loss was NaN."
    assert made["EF004"].status == made["EF006"].status == made["EF008"].status == "not_applicable"


def test_malformed_fields_are_named() -> None:
    for job, words in (
        ({"sizes": [1]}, "job.sizes must be an object"),
        ({"sizes": {"forget": -1}}, "job.sizes.forget must be a whole number from 0, got '-1'"),
        ({"near_duplicates": 3}, "job.near_duplicates must hold a total"),
        (
            {"near_duplicates": {"total": True, "pairs": []}},
            "job.near_duplicates.total must be a whole number",
        ),
        ({"method": {"optimises": "da"}}, "job.method.optimises must be a list"),
    ):
        with pytest.raises(RecordError, match=re.escape(words)):
            checks(among(model(job=job)))


def test_found_ones_stand_first_by_severity_and_no_status_looks_like_another() -> None:
    records = among(model(values=NEAR_ORIGINAL, job=twins_of(1)), failed("</script><b>bad"))
    html, made = page.render(records, "t"), checks(records)
    section = html.split('id="checks">')[1].split('<details class="topic"')[0]
    shown = re.findall(
        r'<article class="check (\w+)" id="EF\d+">\s*<h4><span class="severity">(\w+)</span> <code>(EF\d+)</code>',
        section,
    )
    assert shown == [(c.severity, c.severity, c.code) for c in by_severity(made)]
    severities = [severity for severity, _, _ in shown]
    assert (
        severities == sorted(severities, key=["error", "warning", "note"].index)
        and len(set(severities)) == 3
    )
    for status, word in (("passed", "passed"), ("not_applicable", "not applicable")):
        listed = section.split(f'<details class="checks-{status.replace("_", "-")}">')[1].split(
            "</details>"
        )[0]
        codes = [c.code for c in made if c.status == status]
        assert (
            re.findall(r"<code>(EF\d+)</code>", listed) == codes
            and listed.count(f"– {word}: ") == len(codes) > 0
        )
    assert "<b>bad" not in section and "&lt;b&gt;bad" in section
    assert section.count("What to do.") == len(shown) and html.index(
        'id="verdict-title"'
    ) < html.index('id="checks"')


def test_the_page_of_the_rules_holds_every_code_with_its_title_and_severity() -> None:
    text = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (EF\d+) (.+)\n\n\*(\w+)\*", text, re.MULTILINE)
    assert sections == [(rule.code, rule.title, rule.severity) for rule in RULES]
    *parts, own = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert own.startswith("A check of your own")
    for part in parts:
        words = " ".join(part.split())
        assert (
            "Why:" in words
            and "To do:" in words
            and ("Threshold:" in words or part.startswith("EF006"))
        )
        assert ("Not applicable:" in words) != ("Always applicable." in words) and (
            "Always applicable." in words
        ) == (part[:5] not in SILENT)


@pytest.mark.parametrize("folder", ["requests", "few_retain", "sequence_digits", "cifar10"])
def test_records_of_earlier_versions_are_checked_without_an_error(folder: str) -> None:
    for records in read_scores_file(ROOT / "benchmarks" / "results" / folder).values():
        made = checks(records)
        assert [c.code for c in made] == [rule.code for rule in RULES]
        assert {c.code: c.status for c in made}["EF008"] == "not_applicable"


MINE = """
from eigenforget.report.findings import StudyRecords, Finding, found, passed, rule

@rule("ACME1", "Below our service level", "warning", action="Do not ship it.")
def service_level(study: StudyRecords) -> Finding:
    low = [r.model for r in study.judged if r.cells["test_retain_accuracy"].value < 0.9]
    return found("below 0.9", low) if low else passed("at 0.9 or above")

plain = service_level.look
again = service_level._replace(code="EF001")
empty = service_level._replace(look=lambda case: None)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


def at(name: str) -> str:
    return f'python(path="mine.py:{name}")'


@pytest.mark.usefixtures("mine")
def test_a_check_of_ones_own_stands_beside_the_others() -> None:
    records = among(model("good"), model("bad", values={"test_retain_accuracy": 0.5}))
    made = checks(records, [at("service_level")])
    assert made[:-1] == checks(records)
    assert (made[-1].code, made[-1].status, made[-1].models) == ("ACME1", "found", ("bad",))
    for text in (
        page.render(records, "t", [at("service_level")]),
        model_card(records, "bad", [at("service_level")]),
    ):
        assert "ACME1" in text


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("spelling", "said"),
    [
        (at("plain"), "is no check"),
        (at("again"), "two checks have the code"),
        (at("empty"), "gave None, no finding"),
        (at("absent"), "has no 'absent'"),
        ("EF001", "a check of your own is"),
        ('python(path="mine.py:plain", x=1)', "a check of your own is"),
    ],
)
def test_what_is_no_check_is_one_line(spelling: str, said: str) -> None:
    with pytest.raises(EigenforgetError, match=re.escape(said)):
        checks(among(model()), [spelling])


@pytest.mark.usefixtures("mine")
def test_checks_of_packages_stand_on_every_page(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("level", "mine.py:service_level", GROUP)]
    monkeypatch.setattr(
        "eigenforget.report.checks.entry_points", lambda group: points if group == GROUP else []
    )
    assert checks(among(model()))[-1].code == "ACME1"
    points[0] = EntryPoint("level", "mine.py:absent", GROUP)
    with pytest.raises(EigenforgetError, match=r"cannot be loaded: .*absent"):
        checks(among(model()))
