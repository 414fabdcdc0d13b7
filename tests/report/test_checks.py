"""Checks of a report: each code found, passed and not applicable on made-up records; thresholds at
the border; statistics by scipy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from eigenforget.core import bands
from eigenforget.experiments.bench import read_scores_file
from eigenforget.record import Outcome, RecordError, RunRecord, ScoreRow, chained
from eigenforget.report.checks import RULES, Check, by_severity, checks
from eigenforget.report.pages import page
from tests.report_toys import made

ROOT = Path(__file__).parent.parent.parent
DIGESTS = [f"sha256:{i:064x}" for i in range(10)]
ANCHORS: dict[str, tuple[float, tuple[float, float, float]]] = {
    "forget_accuracy": (1.0, (0.10, 0.12, 0.11)),
    "retain_accuracy": (0.99, (0.98, 0.985, 0.99)),
    "test_retain_accuracy": (0.9, (0.9, 0.91, 0.905)),
    "mia_auc": (0.7, (0.5, 0.51, 0.49)),
    "da": (0.6, (0.95, 0.96, 0.955)),
    "lp_forget": (0.95, (0.5, 0.52, 0.51)),
    "nmi": (0.8, (0.5, 0.52, 0.51)),
    "zrf": (0.4, (0.8, 0.82, 0.81)),
    "relearn_10_auc": (0.9, (0.3, 0.32, 0.31)),
}
"""A score: the original's value and the retrained models'. An unlearned model has their mean unless
a test says otherwise.
"""
TRACES: dict[str, Any] = {
    "forget_accuracy": "above",
    "mia_auc": "above",
    "zrf": "below",
    "relearn_10_auc": "above",
}
SIZES = {"forget": 5000, "retain": 45000, "test": 10000, "test_forget": 5000}


def row(name: str, value: float | None, interval: tuple[float, float] | None = None) -> ScoreRow:
    low, high = interval or (None, None)
    better: Any = "higher" if name.endswith("retain_accuracy") else "reference"
    reason = "not measured" if value is None else ""
    return ScoreRow(
        name, value, "share", better, (0.0, 1.0), low, high, reason, TRACES.get(name, "")
    )


def mean(name: str) -> float:
    return float(np.mean(ANCHORS[name][1]))


def model(
    name: str = "one", role: Any = "unlearned", values: dict[str, Any] | None = None, **fields: Any
) -> RunRecord:
    """A model like the retrained ones in all scores but `values`; a None leaves the score out, a
    pair is a value with its interval.
    """
    given = {n: mean(n) for n in ANCHORS} | (values or {})
    pairs = {n: v if isinstance(v, tuple) else (v, None) for n, v in given.items() if v is not None}
    job = {"sizes": SIZES, **fields.pop("job", {})}
    inputs = {
        "data": DIGESTS[0],
        "split": DIGESTS[1],
        "checked_model": DIGESTS[5],
        **fields.pop("inputs", {}),
    }
    cost = {"seconds": 1.0, "cpu_seconds": 1.0, **fields.pop("cost", {})}
    return made(
        name,
        role,
        [row(n, v, i) for n, (v, i) in pairs.items()],
        job=job,
        inputs=inputs,
        cost=cost,
        **fields,
    )


def original(**fields: Any) -> RunRecord:
    inputs = {"checked_model": DIGESTS[2], **fields.pop("inputs", {})}
    return model(
        fields.pop("name", "original"),
        "original",
        {n: v for n, (v, _) in ANCHORS.items()},
        inputs=inputs,
        **fields,
    )


def oracles(count: int = 3, **fields: Any) -> list[RunRecord]:
    cost = fields.pop("cost", {"seconds": 10.0, "cpu_seconds": 10.0})
    values = [{n: v[i] for n, (_, v) in ANCHORS.items()} for i in range(count)]
    return [
        model(f"oracle {i + 1}", "oracle", v, cost=cost, **fields) for i, v in enumerate(values)
    ]


def among(*others: RunRecord) -> list[RunRecord]:
    """Original, three retrained models and these."""
    return [original(), *oracles(), *others]


def failed(name: str, status: Any = "failed", role: Any = "unlearned") -> RunRecord:
    return replace(model(name, role), outcome=Outcome(status, 0.0, "the loss was NaN"), scores=())


def check(code: str, records: Sequence[RunRecord]) -> Check:
    return next(c for c in checks(records) if c.code == code)


def twins_of(pairs: int) -> dict[str, Any]:
    return {
        "near_duplicates": {
            "total": pairs,
            "pairs": [[f"f{i}", f"r{i}", 0.99] for i in range(min(pairs, 10))],
        }
    }


def corrected() -> list[RunRecord]:
    first = list(chained(among(model())))
    return [*first, *chained([model(job={"corrects": first[-1].digest})])]


def with_method(**method: Any) -> dict[str, Any]:
    return {"job": {"method": {"spec": "m()", **method}}}


def kept(share: float) -> dict[str, Any]:
    return {"job": {"unchanged_weights": {"share": share, "buffers": None}}}


BARE = {"da": None, "lp_forget": None, "nmi": None}
NEAR_ORIGINAL = {"da": 0.62, "lp_forget": 0.94, "nmi": 0.79}
HEAD = ("head", "control", NEAR_ORIGINAL)
HALVES = {n: bands.band(v, span=(0, 1)).half for n, (_, v) in ANCHORS.items()}  # type: ignore[union-attr]

# code, severity where found, records with it, without it, and where it cannot be said ("": always
# can).
FOUND: dict[str, tuple[str, Callable[[], list[RunRecord]]]] = {
    "EF001": ("error", lambda: [original(), model()]),
    "EF002": ("note", lambda: among(model())),
    "EF003": ("warning", lambda: among(model(values={"mia_auc": (0.5, (0.449, 0.55))}))),
    "EF004": ("warning", lambda: among(model(values={"test_retain_accuracy": 0.8}))),
    "EF005": ("warning", lambda: among(model(job=twins_of(2)))),
    "EF006": ("error", lambda: among(model(values=NEAR_ORIGINAL))),
    "EF007": ("warning", lambda: among(model(values={"zrf": mean("zrf") + 2.01 * HALVES["zrf"]}))),
    "EF008": ("warning", lambda: among(model(**kept(0.5)))),
    "EF009": ("warning", lambda: among(model(), failed("scrub"))),
    "EF010": ("note", lambda: among(model(*HEAD))),
    "EF011": ("error", lambda: among(model(inputs={"split": DIGESTS[7]}))),
    "EF012": ("warning", lambda: among(model(cost={"cpu_seconds": 5.01}))),
    "EF013": (
        "warning",
        lambda: among(
            model(
                values={"relearn_10_auc": mean("relearn_10_auc") + 2.01 * HALVES["relearn_10_auc"]}
            )
        ),
    ),
    "EF014": (
        "note",
        lambda: [
            replace(r, scores=tuple(row("nmi", 0.5) if s.name == "nmi" else s for s in r.scores))
            for r in among(model())
        ],
    ),
    "EF015": ("note", corrected),
    "EF016": ("warning", lambda: among(model(values={"relearn_10_auc": None}))),
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
        model(values={"test_retain_accuracy": mean("test_retain_accuracy") - 0.02})
    ),
    "EF005": lambda: among(model(job=twins_of(0))),
    "EF006": lambda: among(model()),
    "EF007": lambda: among(model(values={"zrf": mean("zrf") + 1.99 * HALVES["zrf"]})),
    "EF008": lambda: among(model(**kept(0.499))),
    "EF009": lambda: among(model()),
    "EF010": lambda: among(model()),
    "EF011": lambda: among(model()),
    "EF012": lambda: among(model(cost={"cpu_seconds": 5.0})),
    "EF013": lambda: among(
        model(values={"relearn_10_auc": mean("relearn_10_auc") + 1.99 * HALVES["relearn_10_auc"]})
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
        "no retained accuracy stands beside one",
        lambda: among(model(values={"retain_accuracy": None, "test_retain_accuracy": None})),
    ),
    "EF005": ("no record says whether near duplicates were looked for", lambda: among(model())),
    "EF006": ("no model has both", lambda: among(model(values=BARE))),
    "EF007": ("no retrained model is among the records", lambda: [original(), model()]),
    "EF008": ("the records do not say which weights", lambda: among(model())),
    "EF011": ("one model only", lambda: [model()]),
    "EF012": ("no retrained model is among the records", lambda: [original(), model()]),
    "EF013": ("relearning was not measured", lambda: among(model(values={"relearn_10_auc": None}))),
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


@pytest.mark.parametrize(("count", "severity"), [(0, "error"), (1, "warning"), (2, "warning")])
def test_fewer_retrained_models_are_worse(count: int, severity: str) -> None:
    assert check("EF001", [original(), *oracles(count), model()]).severity == severity


def test_controls_alone_are_only_a_note() -> None:
    control = among(model(*HEAD, **kept(0.9999)))
    assert {c.code: c.severity for c in checks(control) if c.code in ("EF006", "EF008")} == {
        "EF006": "note",
        "EF008": "note",
    }
    both = [*control, model(values=NEAR_ORIGINAL, **kept(0.6))]
    assert {c.code: c.severity for c in checks(both) if c.code in ("EF006", "EF008")} == {
        "EF006": "error",
        "EF008": "warning",
    }
    assert (
        "head (control) 100%" in check("EF008", both).explanation
        and "one 60%" in check("EF008", both).explanation
    )
    assert check("EF009", among(failed("mask", role="control"))).severity == "note"


# --- membership attacks ---


@pytest.mark.parametrize(("m", "n"), [(20, 30), (146, 37), (1000, 700)])
def test_without_an_interval_the_width_is_that_of_the_mann_whitney_statistic(
    m: int, n: int
) -> None:
    rng = np.random.default_rng(m)
    # Exact moments of U under the null hypothesis, by scipy's own standardisation of a sample
    # without ties.
    a, b = rng.normal(size=m), rng.normal(size=n)
    told = stats.mannwhitneyu(a, b, method="asymptotic", use_continuity=False)
    z = abs(stats.norm.ppf(told.pvalue / 2))
    width = 2 * stats.norm.ppf(0.975) * abs(told.statistic / (m * n) - 0.5) / z
    record = model(job={"sizes": {"forget": m, "retain": 10, "test": n, "test_forget": n}})
    words = check("EF003", among(record)).explanation
    if width > 0.1:
        assert (
            f"The 95 % interval of MIA AUC is up to {width:.2f} wide (one)." in words
            and f"{m} forget-set and {n} held-out" in words
        )
    else:
        assert check("EF003", among(record)).status == "passed"


@pytest.mark.parametrize(("others", "status"), [(499, "found"), (500, "passed")])
def test_a_rate_needs_five_false_alarms(others: int, status: str) -> None:
    with_interval = model(
        job={"sizes": SIZES | {"test_forget": others}},
        values={"mia_auc": (0.5, (0.48, 0.52)), "mia_tpr_1": 0.1},
    )
    found = check("EF003", among(with_interval))
    assert found.status == status and (
        f"rests on {others / 100:.3g} false alarms" in found.explanation
    ) == (status == "found")


def test_rmia_has_half_of_the_held_out_samples_where_no_class_is_gone() -> None:
    sizes = {"forget": 900, "retain": 10, "test": 800, "test_forget": 0}
    values = {"mia_auc": (0.5, (0.48, 0.52)), "rmia_tpr_1": 0.1, "mia_tpr_1": 0.1}
    words = check("EF003", among(model(job={"sizes": sizes}, values=values))).explanation
    assert (
        "RMIA TPR at 1 % rests on 4 false alarms" in words
        and "MIA TPR at 1 % rests on 8" not in words.replace("RMIA", "")
    )
    gone = {**sizes, "test_forget": 800}
    assert check("EF003", among(model(job={"sizes": gone}, values=values))).status == "passed"


def test_records_from_before_there_were_sizes_are_judged_by_their_intervals() -> None:
    def old(values: dict[str, Any]) -> list[RunRecord]:
        return among(
            replace(m := model(values=values), job={k: v for k, v in m.job.items() if k != "sizes"})
        )

    assert check("EF003", old({"mia_auc": (0.5, (0.3, 0.7))})).status == "found"
    assert check("EF003", old({"mia_auc": (0.5, (0.49, 0.51))})).status == "passed"
    assert check("EF003", old({})).explanation.startswith("the records say neither")


# --- single rules ---


def test_what_is_kept_is_compared_with_the_original_where_nothing_was_retrained() -> None:
    drop = model(values={"test_retain_accuracy": 0.8799, "retain_accuracy": 0.99})
    found = check("EF004", [original(), drop])
    assert found.explanation.endswith("the original. one: test retain accuracy 0.880 (-0.020).")
    assert (
        check(
            "EF004",
            [original(), model(values={"test_retain_accuracy": 0.88, "retain_accuracy": 0.99})],
        ).status
        == "passed"
    )


def test_a_retained_accuracy_in_a_wide_band_did_not_fall() -> None:
    wide = [
        replace(
            r,
            scores=tuple(
                row("retain_accuracy", v) if s.name == "retain_accuracy" else s for s in r.scores
            ),
        )
        for r, v in zip(oracles(), (0.7, 0.9, 0.8), strict=True)
    ]
    assert (
        check("EF004", [original(), *wide, model(values={"retain_accuracy": 0.75})]).status
        == "passed"
    )


def test_features_that_say_not_are_a_majority_of_those_that_count() -> None:
    one_of_three = model(values={"da": 0.62})
    two_of_three = model(values={"da": 0.62, "nmi": 0.79})
    assert (
        check("EF006", among(one_of_three)).status == "passed"
        and check("EF006", among(two_of_three)).status == "found"
    )
    # Of two that count, one is no majority; where DA was trained on and has moved, the other one is
    # all that counts.
    half = {"lp_forget": None, "nmi": 0.79}
    assert check("EF006", among(model(values=half))).status == "passed"
    assert (
        check("EF006", among(model(values=half, **with_method(optimises=["da"])))).status == "found"
    )
    assert (
        check("EF006", among(model(values={**NEAR_ORIGINAL, "forget_accuracy": 0.5}))).status
        == "passed"
    ), "its outputs do not pass"


def test_over_forgetting_leaves_out_what_is_kept_and_further_layers() -> None:
    extra = {"retain_accuracy": 0.2, "zrf@first": 1.0}
    names = {**{n: v for n, (_, v) in ANCHORS.items()}, "zrf@first": (0.8, 0.81, 0.82)}
    anchored = [
        model(f"oracle {i}", "oracle", {n: v[i] for n, v in names.items()}) for i in range(3)
    ]
    assert check("EF007", [original(), *anchored, model(values=extra)]).status == "passed"


def test_weights_that_are_still_there() -> None:
    plug_in = model(**with_method(guarantee="none: plug-in; original weights still present"))
    assert "one is made by a plug-in" in check("EF008", among(plug_in)).explanation
    very = model("copy", inputs={"checked_model": DIGESTS[2]}, **kept(1.0))
    assert "copy is the original itself." in check("EF008", among(very)).explanation
    some = check("EF008", among(model(**kept(0.1)), model("two")))
    assert some.explanation.startswith("In one more than half") and some.explanation.endswith(
        "Nothing is known of two."
    )
    for bad in (1.5, -0.1, True, "all"):
        with pytest.raises(
            RecordError, match=r"record 'one': job.unchanged_weights.share must be from 0 to 1"
        ):
            checks(among(model(job={"unchanged_weights": {"share": bad}})))


def test_wall_time_where_processor_time_is_unknown_and_unknown_times_are_no_part_of_the_mean() -> (
    None
):
    known = oracles(cost={"seconds": 10.0, "cpu_seconds": None})
    unknown = [replace(r, outcome=replace(r.outcome, seconds=0.0)) for r in known[:2]]
    assert check("EF012", [*unknown, known[2], model(cost={"seconds": 5.0})]).status == "passed"
    found = check("EF012", [*unknown, known[2], model(cost={"seconds": 6.0})])
    assert "one 60%" in found.explanation and "10.0 s of wall time" in found.explanation
    elsewhere = check("EF012", [*known, model(environment={"device": "cuda"})])
    assert elsewhere.status == "not_applicable" and "different devices" in elsewhere.explanation


def test_no_signal_at_all_is_a_warning() -> None:
    same = [replace(r, scores=tuple(row(s.name, 0.5) for s in r.scores)) for r in among(model())]
    told = check("EF014", same)
    assert told.severity == "warning" and told.explanation.endswith(
        "None of the headline feature metrics can say anything here."
    )
    assert check("EF006", same).status == "not_applicable"


def test_twins_are_counted_and_the_first_are_named() -> None:
    words = check("EF005", among(model(job=twins_of(300)))).explanation
    assert (
        words.startswith("300 retained samples are nearly")
        and "f9 ~ r9." in words
        and "f10" not in words
    )


def test_layers_and_data_that_differ_are_named_by_the_smaller_group() -> None:
    deep = model("deep", values={"da@first": 0.5})
    assert check(
        "EF011", among(model(), deep)
    ).explanation == "Deep was measured with other layers than " + (
        "original, oracle 1, oracle 2, oracle 3 and one."
    )
    bare = [replace(r, inputs={}) for r in among(model())]
    assert check("EF011", bare).status == "not_applicable"


def test_records_that_are_not_sealed_correct_nothing() -> None:
    assert {r.digest for r in among(model())} == {None} and check(
        "EF015", among(model())
    ).status == "passed"


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


# --- where they are shown ---


def test_found_ones_stand_first_by_severity_and_no_status_looks_like_another() -> None:
    records = among(model(values=NEAR_ORIGINAL, job=twins_of(1)), failed("</script><b>bad"))
    html, made = page.render(records, "t"), checks(records)
    section = html.split('id="checks-title"')[1].split("</section>")[0]
    shown = re.findall(
        r'<article class="check (\w+)">\s*<h3><span class="severity">(\w+)</span> <code>(EF\d+)</code>',
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
    ) < html.index('id="checks-title"')


def test_the_page_of_the_rules_holds_every_code_with_its_title_and_severity() -> None:
    text = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (EF\d+) (.+)\n\n\*(\w+)\*", text, re.MULTILINE)
    assert sections == [(rule.code, rule.title, rule.severity) for rule in RULES]
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        words = " ".join(part.split())
        assert (
            "Why:" in words
            and "To do:" in words
            and ("Threshold:" in words or part.startswith("EF006"))
        )
        assert ("Not applicable:" in words) != ("Always applicable." in words) and (
            "Always applicable." in words
        ) == (part[:5] not in SILENT)


@pytest.mark.parametrize("folder", ["cases", "few_retain", "sequence_digits", "cifar10"])
def test_records_of_earlier_versions_are_checked_without_an_error(folder: str) -> None:
    for records in read_scores_file(ROOT / "benchmarks" / "results" / folder).values():
        made = checks(records)
        assert [c.code for c in made] == [rule.code for rule in RULES]
        assert {c.code: c.status for c in made}["EF008"] == "not_applicable"
