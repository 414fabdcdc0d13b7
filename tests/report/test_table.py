"""The table: gaps, units of the band, shares, rounding and the CSV file, by hand calculations."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from eigenforget.record import (
    Outcome,
    RecordError,
    RunRecord,
    ScoreRow,
    record_from_json,
    seal,
    to_json,
)
from eigenforget.report import table
from eigenforget.report.pages import page
from tests.report.band_toys import FAMILY, MARKUP, cell, family, member, row
from tests.report.page_toys import METRICS, MODELS, NO_LOSS, half, model_record, refused, score
from tests.report.verdict_toys import ORACLES, RETRAINED, judged, made, row_of


def band_of(values: list[float]) -> tuple[float, float]:
    """Mean and half of the band: Student's t with n − 1 degrees of freedom, for one more value;
    half a point at least.
    """
    n, quantile = len(values), float(stats.t.ppf(0.975, len(values) - 1))
    return float(np.mean(values)), max(
        0.005, quantile * float(np.std(values, ddof=1)) * math.sqrt(1 + 1 / n)
    )


@pytest.mark.parametrize("oracles", [2, 3])
def test_units_are_the_gap_in_half_widths_of_the_band(oracles: int) -> None:
    records = family(0.7, oracles)
    mean, half = band_of(list(FAMILY.values())[:oracles])
    values = table.build(records).oracles["s"]
    assert values.band == pytest.approx((mean, half, oracles)) and values.mean == pytest.approx(
        mean
    )
    for model, value in (("x", 0.7), ("original", 0.9)):
        found = cell(records, model)
        assert found.gap == pytest.approx(value - mean) and found.units == pytest.approx(
            (value - mean) / half
        )
        assert found.verdict == ("residual" if value > mean + half else "in")


def test_a_retrained_model_is_judged_by_the_others() -> None:
    for name, value in FAMILY.items():
        mean, half = band_of([v for n, v in FAMILY.items() if n != name])
        found = cell(family(0.7), name)
        assert found.gap is None and found.units == pytest.approx((value - mean) / half)
        assert found.verdict == ("in" if abs(value - mean) <= half else "over-forgotten")
    assert {n: cell(family(0.7), n).verdict for n in FAMILY} == {
        "o1": "over-forgotten",
        "o2": "in",
        "o3": "in",
    }
    for name in ("o1", "o2"):
        assert cell(family(0.7, 2), name)[3:] == (None, "", None, "")


def test_retrained_models_without_a_value_are_no_part_of_anyones_band() -> None:
    records = [*family(0.7), member("o4", "oracle", row("s", None)), member("o5", "oracle")]
    whole = family(0.7)
    for name in (*FAMILY, "x"):
        assert cell(records, name) == cell(whole, name)
    assert cell(records, "o4")[3:] == (None, "none", None, "")


def test_a_page_builds_its_table_once() -> None:
    records = family(0.7)
    built = table.build(records)
    assert table.build(list(records)) is built, "the same records"
    assert table.build(records[:-1]) is not built and table.build(family(0.7)) is not built
    assert table.build(family(0.7)) == built


@pytest.mark.parametrize(
    ("better", "trace", "above", "below"),
    [
        ("reference", "above", "residual", "over-forgotten"),
        ("reference", "below", "over-forgotten", "residual"),
        ("reference", "both", "off", "off"),
        ("reference", "", "off", "off"),
        ("higher", "", "in", "over-forgotten"),
        ("lower", "", "off", "in"),
        ("higher", "both", "in", "off"),
    ],
)
def test_the_verdict_follows_from_better_and_trace(
    better: Any, trace: Any, above: str, below: str
) -> None:
    mean, half = band_of(list(FAMILY.values()))
    for value, wanted in (
        (mean + 1.01 * half, above),
        (mean - 1.01 * half, below),
        (mean + 0.99 * half, "in"),
        (mean - 0.99 * half, "in"),
    ):
        assert cell(family(value, better=better, trace=trace), "x").verdict == wanted


def test_the_csv_file_holds_every_score_and_the_role(tmp_path: Path) -> None:
    records = [
        replace(r, scores=(*r.scores, row(f'own, "{MARKUP}"', 1 / 3), row("da@b.1", None)))
        for r in family(2 / 3)
    ]
    text = table.write_csv(records, tmp_path / "t.csv").read_text(encoding="utf-8")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert list(lines[0]) == [
        "model",
        "role",
        "s",
        f'own, "{MARKUP}"',
        "da@b.1",
        "seconds",
    ] and len(lines) == len(records)
    for line, r in zip(lines, records, strict=True):
        assert (line["model"], line["role"], float(line["seconds"])) == (r.name, r.role, 10.0)
        assert [float(line[s.name]) if line[s.name] else None for s in r.scores] == [
            s.value for s in r.scores
        ]


def test_records_without_a_trace_still_report() -> None:
    old = family(0.9, trace="")
    assert cell(old, "x").verdict == "off" and "trace" not in str(to_json(old[0])["scores"])
    assert page.render(old, "t")
    # One record that says it is enough, whatever the order; two that disagree are not of the same
    # score.
    for new in (0, -1):
        mixed = list(old)
        mixed[new] = replace(
            mixed[new], scores=tuple(replace(s, trace="above") for s in mixed[new].scores)
        )
        assert cell(mixed, "x").verdict == "residual"
    mixed[0] = replace(mixed[0], scores=tuple(replace(s, trace="below") for s in mixed[0].scores))
    with pytest.raises(
        RecordError, match="a trace in score 's' shows 'above' in 'x' and 'below' elsewhere"
    ):
        table.build(mixed)


def test_a_trace_is_written_only_where_it_says_something() -> None:
    for trace in ("above", "below", "both", ""):
        sealed = seal(member("x", "unlearned", row("s", 0.5, trace=trace)))
        written = to_json(sealed)
        assert ("trace" in written["scores"][0]) == bool(trace) and record_from_json(
            written
        ) == sealed
    for wrong in ("sideways", "", None):
        written["scores"][0]["trace"] = wrong
        with pytest.raises(
            RecordError, match=r"scores\[0\]\.trace must be one of above, below, both, got"
        ):
            record_from_json(written)


def test_the_seconds_of_a_failed_retraining_are_no_yardstick() -> None:
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


def test_gaps_and_shares_by_hand(records: list[RunRecord]) -> None:
    made = table.build(records)
    assert [c.name for c in made.columns] == list(METRICS)
    # (0.978 + 0.970) / 2 = 0.974, (0.824 + 0.816) / 2 = 0.820, (56 + 60) / 2 = 58.
    assert made.oracles["da"][:4] == pytest.approx((0.974, 0.970, 0.978, 2)) and made.oracles[
        "da"
    ].spread == pytest.approx(0.008)
    assert (
        made.oracles["da"].band == pytest.approx((0.974, half(0.970, 0.978), 2))
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
    assert made.oracles == {} and made.original["da"] == 0.621
    assert all(cell.gap is None for row in made.rows for cell in row.cells.values())
    assert all(row.share is None and row.seconds is not None for row in made.rows)


def test_rows_go_by_role_and_further_scores_follow_the_known_ones(records: list[RunRecord]) -> None:
    own = ScoreRow("own", 3.0, "bits", "lower", (0.0, None))
    extra = model_record("extra", "muda", scores=(own, score("nmi", 0.7), score("da", 0.9)))
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
        model_record("muda", job={"corrects": records[3].digest}, outcome=Outcome("ok", 7.0)),
        records[-1].digest,
    )
    trained = seal(model_record("muda", kind="train", role=None), better.digest)
    assert row_of([*records, better, trained], "muda").seconds == 7.0
    assert len(table.build([*records, better, trained]).rows) == len(MODELS)
    with pytest.raises(RecordError, match="two evaluate records are named 'muda'"):
        table.build([*records, model_record("muda")])
    with pytest.raises(RecordError, match="no evaluate record is among the records"):
        table.build([trained])


def test_csv_holds_full_precision_and_empty_cells(records: list[RunRecord], tmp_path: Path) -> None:
    third = model_record("third", "muda", scores=(score("da", 1 / 3),))
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
