"""Leaderboards: which scores count, how often each method is in band, what it costs, and the
commands around them.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean, median, stdev

import pytest
from scipy import stats

from eigenforget.record import Outcome, RecordError, RunRecord, ScoreRow
from eigenforget.report.pages.leaderboard import (
    PANEL,
    ExperimentRecords,
    details,
    experiment_figure,
    leaderboard_picture,
    leaderboard_rows,
    leaderboard_table,
)
from eigenforget.report.table import build

ORACLES = {
    "forget_accuracy": (0.0, 0.02, 0.01),
    "test_retain_accuracy": (0.9, 0.91, 0.92),
    "da": (0.98, 0.97, 0.975),
    "nmi": (0.7, 0.9, 0.8),
}
MODELS = {
    "original": (1.0, 0.91, 0.6, 0.81),
    "good": (0.01, 0.905, 0.976, 0.8),
    "flat": (0.9, 0.5, 0.6, 0.81),
    "mask": (0.0, 0.91, 0.6, 0.81),
}


def made(
    name: str, values: tuple[float, ...], seconds: float = 10.0, optimises: tuple[str, ...] = ()
) -> RunRecord:
    role = (
        "oracle"
        if name.startswith("oracle")
        else {"original": "original", "mask": "control"}.get(name, "unlearned")
    )
    rows = tuple(
        ScoreRow(n, v, "1", "reference", (0.0, 1.0)) for n, v in zip(ORACLES, values, strict=True)
    )
    job = {"method": {"spec": f"{name}()", "resolved": {}, "optimises": list(optimises)}}
    return RunRecord(
        "evaluate",
        name,
        "2026-11-24T13:00:00Z",
        job,
        {},
        {},
        Outcome("ok", 1.0, cost={"cpu_seconds": seconds}),
        role=role,
        scores=rows,
    )  # type: ignore[arg-type]


def seed(shift: float = 0.0, **more: RunRecord) -> list[RunRecord]:
    oracles = [
        made(f"oracle {i}", tuple(v[i] for v in ORACLES.values()), 100.0 + 10 * i) for i in range(3)
    ]
    own = [
        made(name, (v[0], v[1] - shift, v[2], v[3]), 11.0 + shift)
        for name, v in MODELS.items()
        if name not in more
    ]
    return [*oracles, *own, *more.values()]


def inside(name: str, value: float) -> bool:
    """By the formula of the band, written out here: mean ± t · s · √(1 + 1/n)."""
    known = ORACLES[name]
    half = stats.t.ppf(0.975, len(known) - 1) * stdev(known) * (1 + 1 / len(known)) ** 0.5
    return abs(value - fmean(known)) <= half


def test_scores_in_band_are_counted_where_they_can_tell_the_original() -> None:
    experiment = ExperimentRecords("p", [seed(), seed(shift=0.1)])
    found = {e.name: e for e in leaderboard_rows(experiment)}
    # NMI calls the original retrained as well, so it is left out; what measures the kept data
    # counts whatever the original has.
    assert inside("nmi", MODELS["original"][3]) and inside(
        "test_retain_accuracy", MODELS["original"][1]
    )
    assert not inside("da", MODELS["original"][2]) and not inside("forget_accuracy", 1.0)
    for name in ("good", "flat", "mask"):
        forget, kept, da, _ = MODELS[name]
        marks = [[inside("forget_accuracy", forget)] * 2, [inside("da", da)] * 2]
        marks.append(
            [inside("test_retain_accuracy", kept), inside("test_retain_accuracy", kept - 0.1)]
        )
        assert (
            found[name].inside == pytest.approx(sum(fmean(m) for m in marks))
            and len(found[name].counted) == 3
        )
    assert (
        found["good"].inside == 2.5 and found["flat"].inside == 0.0 and found["mask"].inside == 1.5
    )
    assert list(found) == ["good", "flat", "mask"] and found["mask"].role == "control"


def test_cost_is_the_share_of_the_mean_retraining_in_processor_seconds() -> None:
    (good, *_) = leaderboard_rows(ExperimentRecords("p", [seed(), seed(shift=0.1)]))
    assert good.shares == pytest.approx([11.0 / 110, 11.1 / 110])
    without = [
        replace(r, outcome=replace(r.outcome, cost={}, seconds=4.0 if r.role == "oracle" else 1.0))
        for r in seed()
    ]
    (good, *_) = leaderboard_rows(ExperimentRecords("p", [without]))
    assert good.shares == [0.25]


def test_what_a_method_trains_on_does_not_count_for_it() -> None:
    trained = made("good", MODELS["good"], 11.0, ("da",))
    (first, *_) = leaderboard_rows(ExperimentRecords("p", [seed(good=trained)]))
    assert (
        first.name == "good"
        and first.counted == ["forget_accuracy", "test_retain_accuracy"]
        and "da" in first.marks
    )
    text = details(ExperimentRecords("p", [seed(good=trained)]))
    assert "0.976 ✓†" in text and "† does not count" in text and "| 2.0/2 |" in text


def test_the_original_and_the_retrained_models_stand_below_the_methods() -> None:
    lines = details(ExperimentRecords("p", [seed()])).splitlines()
    head = next(line for line in lines if line.startswith("| method"))
    cells = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("| ")]
    original, retrained = cells[-2:]
    assert original[1] == "original" and retrained[1] == "**retrained models**"
    assert len(original) == len(retrained) == head.count("|") + 1
    at = cells[0].index("DA")
    table = build(seed())
    assert retrained[at] == f"{table.oracles['da'].mean:.3f} ± {table.oracles['da'].band.half:.3f}"
    assert original[at] == f"{table.original['da']:.3f}" and retrained[-2] == "100%"


def test_methods_with_one_share_of_scores_share_the_first_place() -> None:
    twin = made("twin", MODELS["good"], 11.0)
    assert details(ExperimentRecords("p", [seed()])).startswith("`good` has most scores")
    assert details(ExperimentRecords("p", [seed(twin=twin)])).startswith(
        "`good` and `twin` share the first"
    )


def test_methods_without_a_result_stand_last_with_their_reason() -> None:
    refused = replace(
        made("good", MODELS["good"]),
        outcome=Outcome("refused", 0.0, "needs | retained data"),
        scores=(),
    )
    experiment = ExperimentRecords("p", [seed(), seed(good=refused)])
    half = {e.name: e for e in leaderboard_rows(experiment)}["good"]
    assert half.runs == (1, 2) and half.inside == 3.0 and "(1 of 2 runs)" in details(experiment)
    none = ExperimentRecords("q", [seed(good=refused)])
    assert [e.name for e in leaderboard_rows(none)] == ["flat", "good", "mask"]
    assert "- `good`: refused: needs | retained data" in details(none) and "no result" in details(
        none
    )
    lines = leaderboard_table([experiment, none]).splitlines()[2:]
    assert lines[0] == "| method | in band | p | q | cost |"
    assert lines[2].startswith("| `flat` |") and lines[3].startswith(
        "| `good` | – | 3.0/3 (1 of 2 runs) | no result |"
    )
    assert lines[4].startswith("| `mask` (control) | 67%") and lines[-1].startswith("In band: ")
    shares = [
        s
        for p in (experiment, none)
        for e in leaderboard_rows(p)
        if e.name == "mask"
        for s in e.shares
    ]
    assert lines[4].endswith(f"| {100 * median(shares):.0f}% |")


def test_defaults_recipe_and_tuned_settings_of_a_method_stand_side_by_side() -> None:
    def of(name: str, spec: str, like: str, **more: object) -> RunRecord:
        record = made(name, MODELS[like])
        return replace(record, job={"method": {"spec": spec, "resolved": {}, **more}})

    rows = {
        "scrub": of("scrub", "scrub()", "flat"),
        "scrub 2": of("scrub 2", "scrub(lr=0.1)", "good", recipe="a-b"),
        "scrub 3": of("scrub 3", "scrub(lr=0.2)", "good"),
        "scrub 4": of("scrub 4", "scrub(lr=0.3)", "flat", recipe="a-b", recipe_changed=["lr"]),
        "ssd": of("ssd", "ssd()", "good"),
    }
    text = leaderboard_table([ExperimentRecords("p", [seed(**rows)])])
    head, lines = text.split("| method | defaults | recipe | tuned |")
    assert "`ssd`" in head and "`ssd`" not in lines
    assert "| `scrub 2`, recipe |" in head and "| `scrub 4` |" in head
    assert "| `scrub` | 0.0% | 100% | 50% |" in lines
    assert "recipe" not in leaderboard_table([ExperimentRecords("p", [seed()])])
    # Defaults here and a recipe there compare the experiments, not the settings.
    apart = [ExperimentRecords(name, [seed(**{name: rows[name]})]) for name in ("scrub", "scrub 2")]
    assert "| recipe |" not in leaderboard_table(apart)


def test_the_picture_has_every_method_and_escapes_names() -> None:
    svg = experiment_figure(ExperimentRecords("a < b", [seed(), seed()]))
    assert "a &lt; b" in svg and all(
        name in svg for name in ("good", "flat", "mask", "2.0/3", "3.0/3")
    )
    assert "nan" not in svg


def test_where_no_score_about_the_forgotten_can_tell_nobody_wins() -> None:
    """On one seed of two the original is out of band and the score counts; where it never is, doing
    nothing must not be rewarded.
    """

    def quiet(forget: float) -> list[RunRecord]:
        records = [r for r in seed() if r.name != "original"]
        return [*records, made("original", (forget, 0.91, 0.975, 0.81))]

    half = ExperimentRecords("half", [quiet(0.01), quiet(1.0)])
    assert {e.name: e.counted for e in leaderboard_rows(half)}["mask"] == [
        "forget_accuracy",
        "test_retain_accuracy",
    ]
    never = ExperimentRecords("never", [quiet(0.01), quiet(0.01)])
    assert all(e.counted == [] and e.inside is None for e in leaderboard_rows(never))
    assert "No score about the forget set can tell here." in details(never)
    alone, both = (
        leaderboard_table([half]).splitlines(),
        leaderboard_table([half, never]).splitlines(),
    )
    assert [line.split("|")[2] for line in alone[2:5]] == [line.split("|")[2] for line in both[2:5]]
    assert both[-1] == "No score about the forget set can tell here, so it is in no mean: never."


def test_a_seed_without_any_record_of_a_method_is_a_run_without_a_result() -> None:
    less = [r for r in seed() if r.name != "good"]
    found = {e.name: e for e in leaderboard_rows(ExperimentRecords("p", [seed(), less]))}
    assert found["good"].runs == (1, 2) and "(1 of 2 runs)" in details(
        ExperimentRecords("p", [seed(), less])
    )
    assert "- `good`: `good()`" in details(ExperimentRecords("p", [seed(), less]))


def test_without_a_band_the_page_says_so() -> None:
    one = [r for r in seed() if r.name not in ("oracle 1", "oracle 2")]
    assert "a band takes two retrained models" in details(ExperimentRecords("p", [one]))


def test_a_board_needs_retrained_models() -> None:
    with pytest.raises(
        RecordError,
        match="p: a leaderboard needs records of retrained models for every training seed",
    ):
        leaderboard_rows(ExperimentRecords("p", [seed(), [made("good", MODELS["good"])]]))
    assert set(ORACLES) <= set(PANEL)


def test_the_sentence_comes_first_then_the_picture_and_the_table() -> None:
    experiment = ExperimentRecords("p", [seed(), seed()])
    for text in (
        leaderboard_table([experiment], picture="board.svg"),
        details(experiment, picture="board.svg"),
    ):
        first, second, third, *_ = text.split("\n\n")
        assert first.startswith("`good` has most scores in the band: 100%, at ")
        assert second.startswith("![") and second.endswith("](board.svg)")
        assert third.startswith("| method |")
    folded = details(experiment).split("<summary>Methods</summary>")[1]
    assert "- `good`: `good()`" in folded and "</details>" in folded


def test_bars_are_of_methods_with_a_mean_and_controls_are_told_apart() -> None:
    svg = leaderboard_picture([ExperimentRecords("p", [seed(), seed()])])
    assert "mask (control)" in svg and "100%, cost " in svg and svg.count("<rect") == 4
