"""The share of the cost of retraining: one rule, and every place that shows it agrees."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eigenforget.record import Outcome, RunRecord
from eigenforget.report.checks import checks
from eigenforget.report.cost import Share, processor_seconds, shares, wall_seconds
from eigenforget.report.figures import comparison_figures
from eigenforget.report.pages.card import model_card
from eigenforget.report.pages.leaderboard import ExperimentRecords, leaderboard_rows
from eigenforget.report.table import build
from eigenforget.report.verdict import verdicts
from tests.report_toys import made, whole


def model(name: str, wall: float, cpu: object = None, **fields: object) -> RunRecord:
    role = "oracle" if name.startswith("oracle") else "unlearned"
    cost = {"seconds": wall} | ({} if cpu is None else {"cpu_seconds": cpu})
    return made(name, role, [], cost=cost, **fields)  # type: ignore[arg-type]


def test_processor_seconds_where_both_sides_know_them() -> None:
    found = shares([model("oracle 1", 10, 90), model("oracle 2", 20, 110), model("one", 9, 25)])
    assert found["one"] == Share(0.25, "processor", 100.0)
    assert found["oracle 1"] == Share(0.9, "processor", 100.0)


def test_wall_seconds_where_the_model_or_a_retrained_one_knows_no_others() -> None:
    oracles = [model("oracle 1", 10, 90), model("oracle 2", 20, 110)]
    assert shares([*oracles, model("one", 9)])["one"] == Share(0.6, "wall", 15.0)
    for unknown in (None, 0.0, True, "90"):
        partly = [model("oracle 1", 10, unknown), oracles[1]]
        assert shares([*partly, model("one", 9, 25)])["one"] == Share(0.6, "wall", 15.0)


def test_a_retrained_model_of_unknown_cost_is_no_part_of_the_mean() -> None:
    known = [model("oracle 1", 10, 90), model("oracle 2", 20, 110)]
    found = shares([*known, model("oracle 3", 0.0), model("one", 9, 25)])
    assert found["one"] == Share(0.25, "processor", 100.0) and "oracle 3" not in found
    by_wall = [model("oracle 1", 10), model("oracle 2", 0.0), model("one", 5)]
    assert shares(by_wall)["one"] == Share(0.5, "wall", 10.0)


def test_what_is_unknown_is_absent_and_never_nothing() -> None:
    oracle = model("oracle 1", 10, 90)
    assert "one" not in shares([oracle, model("one", 0.0)])
    assert shares([model("oracle 1", 0.0), model("one", 5, 5)]) == {}
    assert shares([model("one", 5, 5)]) == {}
    refused = replace(model("one", 5, 5), outcome=Outcome("refused", 5.0, "no"))
    assert wall_seconds(refused) is None and processor_seconds(refused) is None
    assert "one" not in shares([oracle, refused])
    elsewhere = model("one", 5, 5, environment={"device": "cuda"})
    assert "one" not in shares([oracle, elsewhere])
    assert "one" not in shares([oracle, replace(model("one", 5, 5), kind="unlearn", role=None)])


def _shown(records: list[RunRecord]) -> dict[str, object]:
    """The share of model "one" wherever it is shown."""
    table = build(records)
    row = next(r for r in table.rows if r.model == "one")
    (line,) = [e for e in leaderboard_rows(ExperimentRecords("p", [records])) if e.name == "one"]
    dots = (
        {p.row.model: p.cost for p in comparison_figures.cost_and_quality(records)}
        if comparison_figures.has_costs(records)
        else {}
    )
    return {
        "table": row.share,
        "leaderboard": next(iter(line.shares), None),
        "pareto": dots.get("one"),
        "verdict": next(v for v in verdicts(table) if v.model == "one").sentences,
        "card": model_card(records, "one"),
        "check": next(c for c in checks(records) if c.code == "EF012").explanation,
    }


def test_every_place_shows_the_same_share() -> None:
    records = [
        replace(r, outcome=replace(r.outcome, cost={"cpu_seconds": 71.0})) if r.name == "one" else r
        for r in whole()
    ]
    shown = _shown(records)
    assert shown["table"] == shown["leaderboard"] == shown["pareto"] == pytest.approx(0.71)
    for place in ("verdict", "card", "check"):
        assert "71%" in str(shown[place]), place


def test_an_unknown_share_is_shown_nowhere() -> None:
    records = [
        replace(r, outcome=replace(r.outcome, seconds=0.0, cost={})) if r.name == "one" else r
        for r in whole()
    ]
    shown = _shown(records)
    assert shown["table"] is shown["leaderboard"] is shown["pareto"] is None
    for place in ("verdict", "card"):
        assert "of retraining" not in str(shown[place]), place
