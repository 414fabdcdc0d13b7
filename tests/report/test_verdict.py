"""The verdict: headlines, the way from original to retrained models, and the edges of its rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from eigenforget.record import (
    RunRecord,
    ScoreRow,
)
from eigenforget.report import table, verdict
from eigenforget.report.figures import band_figures
from eigenforget.report.pages import page
from eigenforget.report.verdict import limits, recovery, verdicts
from tests.report.band_toys import FAMILY, cell, family, member, row
from tests.report.page_toys import METRICS, MODELS, Read, model_record, score
from tests.report.verdict_toys import (
    ALSO_RETRAINED,
    ORACLES,
    ORIGINAL,
    REFERENCES,
    RETRAINED,
    judged,
    made,
    row_of,
)


def verdict_of(records: list[RunRecord]) -> verdict.Verdict:
    return verdict.verdicts(table.build(records))[0]


def way(records: list[RunRecord], metric: str) -> verdict.Recovery:
    return next(r for r in verdict_of(records).recoveries if r.metric == metric)


def test_no_fraction_where_original_and_retrained_differ_by_too_little() -> None:
    """0.0195 apart is above the spread of 0.008, but not above 0.02: noise divided by noise."""
    near = [made("original", "original", ORIGINAL, da=0.9545), *ORACLES, judged(RETRAINED)]
    assert way(near, "da").fraction is None
    apart = [made("original", "original", ORIGINAL, da=0.9535), *ORACLES, judged(RETRAINED)]
    assert way(apart, "da").fraction == pytest.approx((0.978 - 0.9535) / (0.974 - 0.9535))


def test_a_value_among_the_retrained_ones_has_arrived_and_is_not_past() -> None:
    """LP of the retrained models 0.72 and 0.824, mean 0.772: 0.824 went 73 % of the way, 0.73 went
    122 %.
    """
    wide = [REFERENCES[0], ORACLES[0], made("oracle_2", "oracle", ALSO_RETRAINED, lp_forget=0.72)]
    short, long = (way([*wide, judged(RETRAINED, lp_forget=v)], "lp_forget") for v in (0.824, 0.73))
    assert short.fraction == pytest.approx(0.138 / 0.190) and long.fraction == pytest.approx(
        0.232 / 0.190
    )
    assert short.arrived and long.arrived and not long.past
    outside = way([*wide, judged(RETRAINED, lp_forget=0.70)], "lp_forget")
    assert outside.past and not outside.arrived


def test_only_what_went_less_than_half_the_way_is_nearer_the_original() -> None:
    half = {
        "lp_forget": 0.962 - 0.49 * 0.142,
        "nmi": 0.801 - 0.51 * 0.039,
        "cluster_f1": 0.797 - 0.85 * 0.062,
    }
    said = " ".join(verdict_of([*REFERENCES, judged(RETRAINED, **half)]).sentences)
    assert "Nearer the original than the retrained models: LP." in said


@pytest.mark.parametrize("kept", ["forget_accuracy", "test_forget_accuracy"])
def test_one_forget_accuracy_off_is_enough_not_to_be_forgotten(kept: str) -> None:
    found = verdict_of([*REFERENCES, judged(RETRAINED, **{kept: 0.3})])
    assert (found.tone, found.headline) == (
        "bad",
        "accuracy is not that of a retrained model, though the features are",
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.800, "it is less accurate than the retrained models (-0.112)"),
        (0.960, "it is more accurate than the retrained models (+0.048)"),
        (0.892, "it is as accurate as the retrained models (-0.020)"),
    ],
)
def test_what_is_kept_is_compared_in_the_right_direction(value: float, words: str) -> None:
    said = " ".join(
        verdict_of([*REFERENCES, judged(RETRAINED, test_retain_accuracy=value)]).sentences
    )
    assert f"{words}." in said


@pytest.mark.parametrize(
    ("oracles", "words"),
    [
        (0, "no retrained model"),
        (1, "only one retrained model"),
        (2, "Their band is wide"),
        (3, ""),
    ],
)
def test_what_few_retrained_models_leave_unsaid(oracles: int, words: str) -> None:
    records = family(0.7, oracles)
    said = " ".join(limits(table.build(records)))
    assert words in said and bool(words) == bool(said)
    assert (cell(records, "x").units is None) == (oracles < 2) and (
        cell(records, "x").gap is None
    ) == (oracles == 0)
    assert cell(records, "x").verdict == (
        "" if oracles < 2 else "in" if oracles == 2 else "residual"
    )
    assert ("with a band" in " ".join(verdicts(table.build(records))[0].sentences)) == (
        oracles >= 2
    )
    assert band_figures.has_bands(records) == (oracles >= 2)


def test_the_verdict_counts_scores_and_names_what_is_left_and_what_is_lost() -> None:
    def scores(value: float) -> list[ScoreRow]:
        kept = row("test_retain_accuracy", value, better="higher", trace="")
        return [
            row("lp_forget", value),
            row("da", value, trace="below"),
            row("nmi", value, trace="both"),
            kept,
            row("lp_forget@b", value),
        ]

    oracles = [member(n, "oracle", *scores(v)) for n, v in FAMILY.items()]
    said = [
        " ".join(
            verdicts(table.build([*oracles, member("x", "unlearned", *scores(v))]))[0].sentences
        )
        for v in (0.9, 0.1, 0.53)
    ]
    assert (
        "Of 4 scores with a band of retrained models, 1 are in it. A trace is left by LP. Over-forgotten by DA."
        in said[0]
    )
    assert (
        "0 are in it. A trace is left by DA. Over-forgotten by LP and test retain accuracy."
        in said[1]
    )
    assert "4 are in it." in said[2] and "trace" not in said[2] and "Over-forgotten" not in said[2]


def verdict_on(records: list[RunRecord], name: str) -> Any:
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
    assert verdict_on(records, name)[2:4] == (tone, headline)


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
    said = " ".join(verdict_on(records, "muda").sentences)
    # LP: (0.868 - 0.962) / (0.820 - 0.962) = 0.66; DA: 0.360 / 0.353 = 1.02; retain: 0.892 - 0.912.
    assert (
        "DA 102%, LP 66%" in said
        and "as accurate as the retrained models (-0.020)" in said
        and "5.5 s" in said
        and "9.5%" in said
    )
    said = " ".join(verdict_on(records, "head_mask").sentences)
    assert "DA 0%, LP 0%, NMI 0% and cluster F1 0%" in said
    assert "Nearer the original than the retrained models: DA, LP, NMI and cluster F1." in said


def test_going_past_is_not_arriving(records: list[RunRecord]) -> None:
    values = [0.0, 0.996, 0.0, 0.912, 0.5, 0.999, 0.30, 0.60, 0.50]
    past = model_record(
        "past", "muda", scores=tuple(score(m, v) for m, v in zip(METRICS, values, strict=True))
    )
    found = verdict_on([*records, past], "past")
    assert found[2:4] == (
        "mixed",
        "accuracy says forgotten, features went past the retrained models",
    )
    assert (
        "Went past the retrained models, as retraining does not: LP, NMI and cluster F1."
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
        return model_record("mixed", "muda", scores=tuple(score(m, v) for m, v in values.items()))

    part = "accuracy says forgotten, features only in part"
    for mixture, headline in (
        (mixed("head_mask", "head_mask", da=0.974, lp_forget=0.820), part),
        (mixed("twin", "twin", da=0.621), part),
        (
            mixed("finetune", "twin"),
            "accuracy is not that of a retrained model, though the features are",
        ),
    ):
        assert verdict_on([*records, mixture], "mixed").headline == headline


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

    found = verdict_on([pinned(r) for r in records], "head_mask")
    assert found[2:4] == ("unknown", "accuracy says forgotten; no feature metric can tell")
    assert (
        "DA: does not tell the original (0.400) from the retrained models (0.420) here."
        in " ".join(found.sentences)
    )


def test_what_cannot_be_said_is_said(records: list[RunRecord], no_oracle: list[RunRecord]) -> None:
    assert limits(table.build([*records, model_record("oracle_3", "oracle_1")])) == []
    two = limits(table.build(records))
    assert len(two) == 1 and "only two retrained models. Their band is wide" in two[0]
    none = limits(table.build(no_oracle))
    assert (
        len(none) == 1
        and "they cannot show whether any model is like one that never saw the forget set"
        in none[0]
    )
    assert verdict_on(no_oracle, "muda")[2:4] == (
        "unknown",
        "cannot be judged: no forget accuracy to compare with a retrained model",
    )
    assert none[0] in Read(page.render(no_oracle, "t")).text
    one = limits(table.build([r for r in records if r.name != "oracle_2"]))
    assert len(one) == 1 and "only one retrained model" in one[0]
    assert "no original model" in limits(table.build(records[1:]))[1]
