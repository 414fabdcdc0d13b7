"""Checks of the models: what they kept, lost and cost; thresholds at their edges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from eigenforget.record import RecordError, RunRecord
from eigenforget.report.checks import checks
from tests.report.check_toys import (
    ANCHORS,
    DIGESTS,
    HEAD,
    NEAR_ORIGINAL,
    among,
    check,
    failed,
    kept,
    model,
    oracles,
    original,
    row,
    with_method,
)


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


def test_a_loss_of_what_should_be_kept_is_no_trace_of_the_forget_set() -> None:
    lossy = among(model(values={"test_retain_accuracy": 0.8}))
    assert check("EF004", lossy).status == "found"
    assert check("EF006", lossy).status == "passed"


def test_what_is_kept_is_compared_with_the_original_where_nothing_was_retrained() -> None:
    drop = model(values={"test_retain_accuracy": 0.8799})
    found = check("EF004", [original(), drop])
    assert found.explanation.endswith("the original. one: test retain accuracy 0.880 (-0.020).")
    assert (
        check(
            "EF004",
            [original(), model(values={"test_retain_accuracy": 0.88, "retain_accuracy": 0.99})],
        ).status
        == "passed"
    )


def test_a_retained_accuracy_among_retrained_ones_that_differ_did_not_fall() -> None:
    name = "test_retain_accuracy"
    wide = [
        replace(r, scores=tuple(row(name, v) if s.name == name else s for s in r.scores))
        for r, v in zip(oracles(), (0.7, 0.9, 0.8), strict=True)
    ]
    assert check("EF004", [original(), *wide, model(values={name: 0.75})]).status == "passed"


def test_one_score_that_remembers_beside_outputs_that_pass_is_enough() -> None:
    assert check("EF006", among(model(values={"lp_forget": 0.9}))).status == "found"
    assert check("EF006", among(model(values={"nmi": 0.79}))).status == "passed", (
        "it decides nothing"
    )
    outputs = {**NEAR_ORIGINAL, "forget_accuracy": 0.9}
    assert check("EF006", among(model(values=outputs))).status == "passed", "they do not pass"


def test_over_forgetting_leaves_out_what_is_kept_and_further_layers() -> None:
    extra = {"test_retain_accuracy": 0.2, "lp_forget@first": 0.1}
    names = {**{n: v for n, (_, v) in ANCHORS.items()}, "lp_forget@first": (0.8, 0.81, 0.82)}
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
        "Nothing is known about two."
    )
    for bad in (1.5, -0.1, True, "all"):
        with pytest.raises(
            RecordError, match=r"record 'one': job.unchanged_weights.share must be from 0 to 1"
        ):
            checks(among(model(job={"unchanged_weights": {"share": bad}})))


def test_weights_that_are_hidden_and_room_for_more_have_lines_of_their_own() -> None:
    def holding(**job: Any) -> RunRecord:
        return model(job={"unchanged_weights": {"share": 0.0, "buffers": None, **job}})

    hidden = check("EF008", among(holding(by_content=0.9, more=0.0)))
    assert hidden.status == "found" and "one 90% by content" in hidden.explanation
    larger = check("EF008", among(holding(by_content=0.0, more=1.2)))
    assert larger.status == "found" and "one 120%" in larger.explanation
    assert check("EF008", among(holding(by_content=0.1, more=0.05))).status == "passed"
    for key, bad in (("by_content", 1.1), ("more", -1), ("more", "some")):
        with pytest.raises(RecordError, match=rf"job.unchanged_weights.{key} must be"):
            checks(among(holding(**{key: bad})))


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
