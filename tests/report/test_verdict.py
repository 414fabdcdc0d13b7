"""Report, the edges of its rules: who counts as a reference, when a fraction means something,
rounding, folding, grouping.

The table, figures and page as a whole are tested in pages/test_page.py; every test here fails on a
change that passes there.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from eigenforget.record import Outcome, RunRecord, ScoreRow, seal
from eigenforget.report import table, verdict
from eigenforget.report.pages import page
from eigenforget.report.settings import settings, statements

METRICS = table.FIRST
ORIGINAL = [0.998, 0.996, 0.921, 0.910, 0.532, 0.621, 0.962, 0.801, 0.797]
RETRAINED = [0.0, 0.997, 0.0, 0.911, 0.501, 0.978, 0.824, 0.764, 0.733]
ALSO_RETRAINED = [0.0, 0.995, 0.0, 0.913, 0.498, 0.970, 0.816, 0.760, 0.737]


def made(name: str, role: Any, values: list[float], **own: float) -> RunRecord:
    """An evaluate record with these scores, some replaced by name; it took 10 s. Numbers are made
    up.
    """
    scores = {**dict(zip(METRICS, values, strict=True)), **own}
    return RunRecord(
        kind="evaluate",
        name=name,
        role=role,
        created="2026-11-24T13:00:00Z",
        job={"request": "by_class(label=3)", "method": f"{name}()"},
        inputs={},
        environment={"device": "cpu"},
        outcome=Outcome("ok", 10.0),
        scores=tuple(ScoreRow(n, v, "share", "reference", (0.0, 1.0)) for n, v in scores.items()),
        claims=("measured",),
    )


def judged(values: list[float], **own: float) -> RunRecord:
    return made("judged", "unlearned", values, **own)


ORACLES = [made("oracle_1", "oracle", RETRAINED), made("oracle_2", "oracle", ALSO_RETRAINED)]
REFERENCES = [made("original", "original", ORIGINAL), *ORACLES]


def row_of(records: list[RunRecord], name: str) -> table.Row:
    return next(row for row in table.build(records).rows if row.model == name)


def verdict_of(records: list[RunRecord]) -> verdict.Verdict:
    return verdict.verdicts(table.build(records))[0]


def way(records: list[RunRecord], metric: str) -> verdict.Recovery:
    return next(r for r in verdict_of(records).recoveries if r.metric == metric)


def test_the_seconds_of_a_failed_retraining_are_no_reference() -> None:
    failed = replace(ORACLES[1], outcome=Outcome("failed", 900.0, "loss is nan"), scores=())
    row = row_of(
        [ORACLES[0], failed, replace(judged(RETRAINED), outcome=Outcome("ok", 2.5))], "judged"
    )
    assert row.share == 0.25


def test_rounding_keeps_the_sign_and_never_shows_negative_zero() -> None:
    assert [table.signed(g) for g in (0.0104, -0.0104, -0.0001, 0.0)] == [
        "+0.010",
        "-0.010",
        "+0.000",
        "+0.000",
    ]
    assert [table.percent(s) for s in (1.07, 0.16, 0.0996, 0.0948, 0.002)] == [
        "107%",
        "16%",
        "10%",
        "9.5%",
        "0.2%",
    ]
    gaps = (0.04, -0.04, -1.25, 99.94, 99.96, -1e9)
    assert [table.in_units(u) for u in gaps] == ["+0.0", "+0.0", "-1.2", "+99.9", ">99", "<-99"]


def test_distances_to_the_other_retrained_models_need_three_of_them() -> None:
    """Two retrained models are at one and the same distance from each other, so these do not make a
    band.
    """
    third = made("oracle_3", "oracle", RETRAINED)
    for count, has_band in ((2, False), (3, True)):
        models = [
            made(r.name, r.role, RETRAINED, cka_forget_oracle=0.9 + i / 100)
            for i, r in enumerate([*ORACLES, third][:count])
        ]
        cells = row_of([*models, judged(RETRAINED, cka_forget_oracle=0.2)], "judged").cells
        assert (cells["cka_forget_oracle"].units is not None) == has_band and cells[
            "cka_forget_oracle"
        ].gap is not None
        assert cells["nmi"].units is not None


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


def test_a_cell_of_the_page_holds_value_gap_and_verdict() -> None:
    """The band is 0.820 ± 12.706 · 0.00566 · √1.5 = ± 0.088, so that 0.048 is +0.5 of its half."""
    html = page.render([*REFERENCES, judged(RETRAINED, lp_forget=0.868)], "t")
    cell = re.search(r'<td data-value="0\.868">(.*?)</td>', html)
    assert cell is not None and re.sub(r"<[^>]+>", "", cell[1]).split() == [
        "0.868",
        "+0.048",
        "+0.5",
        "in",
    ]


def test_settings_and_statements_say_which_models_they_hold_for() -> None:
    assert [(s.name, s.value, s.models) for s in settings(ORACLES, "job")] == [
        ("request", "by_class(label=3)", "all models"),
        ("method", "oracle_1()", "oracle_1"),
        ("method", "oracle_2()", "oracle_2"),
    ]
    own = replace(ORACLES[1], claims=("measured", "only here"))
    assert statements([ORACLES[0], own], "claims") == [
        ("measured", "all models"),
        ("only here", "oracle_2"),
    ]


def test_the_page_counts_corrected_records_and_shows_the_correction() -> None:
    first = seal(judged(RETRAINED))
    fixed = replace(judged(RETRAINED, da=0.5), job={"corrects": first.digest})
    html = page.render([first, seal(fixed, first.digest)], "t")
    assert "1 of them is corrected by a later one" in html
    assert 'data-value="0.5"' in html and 'data-value="0.978"' not in html
