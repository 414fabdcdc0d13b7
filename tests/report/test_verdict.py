"""The verdict on made-up models: outcomes, answers, words, and what cannot be said."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from eigenforget.record import RunRecord
from eigenforget.report import table
from eigenforget.report.figures import band_figures
from eigenforget.report.pages import page
from eigenforget.report.verdict import OUTCOMES, limits, separates, verdict_on, verdicts
from tests.report.band_toys import cell, family
from tests.report.page_toys import METRICS, MODELS, Read, model_record, refused, score, sealed


def verdict_of(records: list[RunRecord], name: str) -> Any:
    made = table.build(records)
    return verdict_on(next(r for r in made.rows if r.model == name), made)


def like(name: str, **own: float) -> RunRecord:
    """An unlearned model with the scores of another one, some replaced."""
    values = {**dict(zip(METRICS, MODELS[name][2], strict=True)), **own}
    scores = tuple(score(m, v) for m, v in values.items())
    return model_record("like", "muda", scores=scores)


@pytest.mark.parametrize(
    ("name", "outcome", "forgot", "kept"),
    [
        ("twin", "like a retrained model", "yes", "yes"),
        ("finetune", "still remembers", "no", "yes"),
        ("head_mask", "still remembers", "no", "yes"),
        ("original", "still remembers", "no", "yes"),
        ("oracle_1", "cannot tell", "cannot tell", "yes"),
    ],
)
def test_outcomes(
    records: list[RunRecord], name: str, outcome: str, forgot: str, kept: str
) -> None:
    """One retrained model beside another one alone cannot be told."""
    found = verdict_of(records, name)
    assert (found.outcome, found.forgot.answer, found.kept.answer) == (outcome, forgot, kept)
    assert OUTCOMES[found.slug] == outcome and found.line.startswith(f"{name}: {outcome} (")


def test_an_oracle_with_swapped_rows_is_damaged(records: list[RunRecord]) -> None:
    found = verdict_of([*records, like("twin", test_retain_accuracy=0.54)], "like")
    assert (found.outcome, found.forgot.answer) == ("damaged", "yes")
    assert "test retain accuracy 0.540 (retrained 0.912)" in found.kept.words


def test_a_probe_below_retrained_models_as_the_originals_is_said(records: list[RunRecord]) -> None:
    """A copy of an original with a worse probe lost nothing; that the probe tells it is said."""
    worse = [
        replace(
            r, scores=tuple(score(s.name, 0.30) if s.name == "lp_forget" else s for s in r.scores)
        )
        if r.name == "original"
        else r
        for r in records
    ]
    found = verdict_of([*worse, like("twin", lp_forget=0.30)], "like")
    assert (found.outcome, found.forgot.answer) == ("like a retrained model", "yes")
    assert "no score shows a trace; LP 0.300 (retrained" in found.forgot.words
    assert "lies off on the other side, as in the original" in found.forgot.words


def test_over_forgetting_is_damage(records: list[RunRecord]) -> None:
    found = verdict_of([*records, like("twin", lp_forget=0.30)], "like")
    assert found.outcome == "damaged" and found.kept.scores == ("lp_forget",)
    assert "more is gone than retraining removes" in found.kept.words


def test_what_still_remembers_names_the_scores_the_farthest_first(
    records: list[RunRecord],
) -> None:
    found = verdict_of(records, "head_mask")
    assert found.forgot.scores == ("lp_forget", "da")
    assert found.forgot.words == "no, LP 0.962 (retrained 0.820) and DA 0.621 (retrained 0.974)"
    assert [s.name for s in found.scores] == [
        "test_forget_accuracy",
        "lp_forget",
        "da",
        "test_retain_accuracy",
    ]
    assert found.missing == (
        "mia_auc",
        "ncm_forget",
        "prototype_forget",
        "relearn_all_auc",
        "lp_retain",
    )


def test_ways_by_hand(records: list[RunRecord]) -> None:
    """From the original (0) to the mean of the retrained models (1)."""
    for name in ("muda", "finetune", "head_mask"):
        ways = {s.name: s.way for s in verdict_of(records, name).scores}
        for metric in ("da", "lp_forget"):
            start, one, two, value = (
                MODELS[m][2][METRICS.index(metric)] or 0.0
                for m in ("original", "oracle_1", "oracle_2", name)
            )
            if metric == "da":  # judged on the scale of log(1 − DA)
                start, one, two, value = (math.log(1 - v) for v in (start, one, two, value))
            assert ways[metric] == pytest.approx((value - start) / ((one + two) / 2 - start))


def test_a_small_difference_that_the_band_separates_counts() -> None:
    """DA of 0.900 in the original and 0.985 ± 0.0005 in the retrained models, on its own scale."""
    values = {"original": 0.900, "oracle_1": 0.985, "oracle_2": 0.9855, "twin": 0.985}
    made = [
        replace(
            model_record(name),
            scores=tuple(
                replace(s, value=values[name], low=values[name] - 0.001, high=values[name] + 0.001)
                if s.name == "da"
                else s
                for s in model_record(name).scores
            ),
        )
        for name in values
    ]
    found = verdict_of(made, "twin")
    assert next(s for s in found.scores if s.name == "da").separates
    assert "da" in found.forgot.scores and separates("da", table.build(made))


def test_the_cost_is_yes_up_to_half_of_retraining(records: list[RunRecord]) -> None:
    said = {v.model: v.cost for v in verdicts(table.build(records))}
    assert (said["muda"].answer, said["muda"].words) == ("yes", "9.5% of retraining")
    assert (said["finetune"].answer, said["twin"].answer) == ("yes", "no")
    unknown = replace(records[3], outcome=replace(records[3].outcome, seconds=0.0))
    assert verdict_of([*records[:3], unknown], "muda").cost.answer == "cannot tell"


def test_signs_go_with_answers(records: list[RunRecord]) -> None:
    signs = {"yes": "✓", "no": "✗", "cannot tell": "?"}
    for found in verdicts(table.build(records)):
        assert [a.sign for a in found.answers] == [signs[a.answer] for a in found.answers]
        assert str(found).split() == " ".join([found.line, *found.sentences]).split()
        assert max(map(len, str(found).splitlines())) <= 96
        assert len(found.sentences) == 4 and all(s[-1] == "." for s in found.sentences)


def test_a_model_without_a_result_cannot_be_told(records: list[RunRecord]) -> None:
    found = verdict_of([*records, refused("scrub")], "scrub")
    assert found.outcome == "cannot tell" and "needs whole classes" in found.forgot.words


def test_controls_are_judged_and_the_original_beside_them(records: list[RunRecord]) -> None:
    said = verdicts(table.build(records))
    assert [v.model for v in said] == ["muda", "finetune", "twin", "head_mask"]
    text = Read(page.render(sealed(list(records)), "t")).text
    for v in said:
        assert f"{v.model} {v.outcome}" in text and v.forgot.words[1:] in text
    assert "original before unlearning ✗ no" in text


@pytest.mark.parametrize(
    ("oracles", "words"),
    [
        (0, "no retrained model"),
        (1, "only one retrained model"),
        (2, "only two retrained models"),
        (3, ""),
    ],
)
def test_what_few_retrained_models_leave_unsaid(oracles: int, words: str) -> None:
    records = family(0.7, oracles)
    said = " ".join(limits(table.build(records)))
    assert words in said and bool(words) == bool(said)
    assert (cell(records, "x").units is None) == (oracles < 2)
    assert (cell(records, "x").gap is None) == (oracles == 0)
    assert cell(records, "x").verdict == (
        "" if oracles < 2 else "in" if oracles == 2 else "residual"
    )
    assert band_figures.has_bands(records) == (oracles >= 2)


def test_what_cannot_be_said_is_said(records: list[RunRecord], no_oracle: list[RunRecord]) -> None:
    assert limits(table.build([*records, model_record("oracle_3", "oracle_1")])) == []
    none = limits(table.build(no_oracle))
    found = verdict_of(no_oracle, "muda")
    assert (found.outcome, found.scores) == ("cannot tell", ())
    assert (
        "no retrained model" in found.forgot.words and "Retrain at least three" in found.next_step
    )
    assert none[0] in Read(page.render(no_oracle, "t")).text
    one = [r for r in records if r.name != "oracle_2"]
    assert verdict_of(one, "twin").forgot.answer == "cannot tell"
    assert verdict_of(one, "original").forgot.answer == "no"
    assert "no original model" in limits(table.build(records[1:]))[1]


def test_too_few_scores_name_the_reason(records: list[RunRecord]) -> None:
    few = "needs 10 samples of the forget set, got 2"
    kept = ("forget_accuracy", "retain_accuracy", "test_retain_accuracy")
    cut = [
        replace(
            r,
            scores=tuple(
                s if s.name in kept else replace(s, value=None, low=None, high=None, reason=few)
                for s in r.scores
            ),
        )
        for r in records
    ]
    assert verdict_of(cut, "muda").forgot.words == (
        f"cannot tell: too few scores were measured, or none of features ({few})"
    )
    assert "samples that the scores say they need" in verdict_of(cut, "muda").next_step


def test_a_model_of_which_nothing_was_measured_needs_no_more_retrained_models(
    records: list[RunRecord],
) -> None:
    few = "needs 10 samples of the forget set, got 2"
    bare = [
        replace(
            r,
            scores=tuple(replace(s, value=None, low=None, high=None, reason=few) for s in r.scores),
        )
        if r.name == "muda"
        else r
        for r in records
    ]
    assert "samples that the scores say they need" in verdict_of(bare, "muda").next_step
    alone = [r for r in records if r.role != "oracle"]
    assert "Retrain at least three models" in verdict_of(alone, "muda").next_step
