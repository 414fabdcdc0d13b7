"""Requirements for pipelines: what is accepted, what holds beside a brute-force evaluation, and
what evaluate and check do with it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eigenforget.cli import main
from eigenforget.record import Outcome, RecordError, RunRecord, seal, write
from eigenforget.record.schema import Role
from eigenforget.report.glossary import NAMES
from eigenforget.report.requirements import ALIASES, judge_records
from eigenforget.report.requirements import parse_requirement as parse
from eigenforget.report.table import build
from eigenforget.report.verdict import OUTCOMES, verdicts
from tests.report_toys import made, score, whole

NUMBERS = st.floats(-2, 2, allow_nan=False).map(lambda x: round(x, 3))
OPEN = (None, None)


def toy(
    oracles: Sequence[float], models: Sequence[float | None], name: str = "lp_forget"
) -> list[RunRecord]:
    roles: list[tuple[str, Role, float | None]] = [
        (f"oracle {i}", "oracle", v) for i, v in enumerate(oracles)
    ]
    roles += [(f"model {i}", "unlearned", v) for i, v in enumerate(models)]
    return [made(name_, role, [score(name, value, OPEN)]) for name_, role, value in roles]


def holds(text: str, records: Sequence[RunRecord]) -> bool:
    (found,) = judge_records([parse(text)], records)
    return found.holds


def half_width(oracles: Sequence[float]) -> float:
    """The band by its formula: t(0.975, n − 1) · s · √(1 + 1/n)."""
    n = len(oracles)
    return float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(oracles) * math.sqrt(1 + 1 / n)


def brute(operator: str, left: float, right: float) -> bool:
    """Rounded to what the made-up numbers resolve, so that a binary remainder decides nothing."""
    a, b = round(left, 7), round(right, 7)
    return {"<=": a <= b, ">=": a >= b, "<": a < b, ">": a > b, "==": a == b}[operator]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(NUMBERS, min_size=2, max_size=5, unique=True),
    NUMBERS,
    st.sampled_from(["<=", ">=", "<", ">", "=="]),
    NUMBERS,
    st.sampled_from(["", "_gap", "_units"]),
    st.sampled_from(["lp", "lp_forget"]),
)
def test_numbers_are_compared_as_brute_force_does(
    oracles: list[float], value: float, operator: str, bound: float, suffix: str, name: str
) -> None:
    gap = value - statistics.fmean(oracles)
    seen = {"": value, "_gap": gap, "_units": gap / half_width(oracles)}[suffix]
    if 1e-10 < abs(seen - bound) < 1e-6:
        return
    assert holds(f"{name}{suffix} {operator} {bound!r}", toy(oracles, [value])) == brute(
        operator, seen, bound
    )


@settings(max_examples=150, deadline=None)
@given(
    st.lists(NUMBERS, min_size=2, max_size=5, unique=True), NUMBERS, st.sampled_from(["<=", "<"])
)
def test_the_band_is_compared_with_the_absolute_gap(
    oracles: list[float], value: float, operator: str
) -> None:
    gap, half = abs(value - statistics.fmean(oracles)), half_width(oracles)
    if 1e-10 < abs(gap / half - 1) < 1e-6:
        return
    assert holds(f"lp_gap{operator}band", toy(oracles, [value])) == brute(operator, gap, half)


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("oracles", [(0.1, 0.2, 0.4), (0.1, 0.7), (0.892, 0.912, 0.902, 0.9)])
def test_exactly_at_the_end_of_the_band(oracles: tuple[float, ...], side: int) -> None:
    mean, half = statistics.fmean(oracles), half_width(oracles)
    at, beyond, within = (mean + side * half * factor for factor in (1, 1 + 1e-6, 1 - 1e-6))
    assert [holds("lp_gap<=band", toy(oracles, [v])) for v in (within, at, beyond)] == [
        True,
        True,
        False,
    ]
    assert [holds("lp_gap<band", toy(oracles, [v])) for v in (within, at, beyond)] == [
        True,
        False,
        False,
    ]
    assert holds(f"lp_units=={side}", toy(oracles, [at])) and not holds(
        f"lp_units=={-side}", toy(oracles, [at])
    )


def test_a_binary_remainder_decides_nothing() -> None:
    """0.892 − 0.912 is −0.020000000000000018."""
    records = toy([0.912], [0.892])
    assert (
        holds("lp_gap>=-0.02", records)
        and holds("lp_gap==-0.02", records)
        and holds("lp_gap<=-0.02", records)
    )
    assert not holds("lp_gap<-0.02", records) and not holds("lp_gap>-0.02", records)
    assert not holds("lp_gap>=-0.01999", records)


def test_what_the_report_calls_in_band_holds() -> None:
    records = whole()
    for row in build(records).rows:
        if row.role == "unlearned":
            answers = {j.model: j.holds for j in judge_records([parse("da_gap<=band")], records)}
            assert answers[row.model] == (row.cells["da"].verdict == "in")
    assert {
        j.holds
        for j in judge_records([parse("mia_gap<=band"), parse("test_retain_gap<=band")], records)
    } == {True, False}


def test_every_unlearned_model_is_judged_and_no_other() -> None:
    found = judge_records([parse("da>=0"), parse("nmi<=1")], whole())
    assert [(j.model, j.requirement.score) for j in found] == [
        (m, s) for m in ("one", "two", "three", "four") for s in ("da", "nmi")
    ]
    with pytest.raises(RecordError, match="no unlearned model"):
        judge_records([parse("da>=0")], whole(models={"mask": "control", "original": "original"}))


def test_the_verdict() -> None:
    records = whole()
    said = {v.model: v for v in verdicts(build(records))}
    for slug in OUTCOMES:
        for item in judge_records([parse(f"verdict=={slug}")], records):
            assert item.holds == (said[item.model].slug == slug)
            assert said[item.model].slug in item.words
    for question in ("forgot", "kept"):
        for answer in ("yes", "no", "cannot-tell"):
            for item in judge_records([parse(f"{question}=={answer}")], records):
                found = getattr(said[item.model], question)
                assert item.holds == (found.answer.replace(" ", "-") == answer)


@pytest.mark.parametrize(("bound", "holds"), [(0.1, True), (0.09, False)])
def test_the_cost_is_a_share_of_retraining(bound: float, holds: bool) -> None:
    records = [
        replace(r, outcome=Outcome("ok", 1.0 if r.role == "unlearned" else 10.0))
        for r in toy([0.5, 0.6], [0.5])
    ]
    (found,) = judge_records([parse(f"cost<={bound}")], records)
    assert found.holds == holds and "0.1 of the cost of retraining" in found.words
    free = [r if r.role == "unlearned" else replace(r, outcome=Outcome("ok", 0.0)) for r in records]
    (unknown,) = judge_records([parse(f"cost<={bound}")], free)
    assert not unknown.holds and "unknown" in unknown.words


@pytest.mark.parametrize(
    ("text", "oracles", "value", "reason"),
    [
        ("lp_gap<=band", (0.5,), 0.5, "1 retrained model makes no band"),
        ("lp_units<=1", (0.5,), 0.5, "1 retrained model makes no band"),
        ("lp_gap<=0.1", (), 0.5, "no retrained model has this score"),
        ("lp<=1", (0.5, 0.6), None, "the score does not apply: not measured"),
        ("da<=1", (0.5, 0.6), 0.5, "the score was not measured"),
        ("lp@block<=1", (0.5, 0.6), 0.5, "the score was not measured"),
    ],
)
def test_what_cannot_be_judged_does_not_hold(
    text: str, oracles: tuple[float, ...], value: float | None, reason: str
) -> None:
    (found,) = judge_records([parse(text)], toy(oracles, [value]))
    assert not found.holds and reason in found.line and "fails: it cannot be judged" in found.line


def test_two_retrained_models_make_no_band_of_distances() -> None:
    (found,) = judge_records(
        [parse("cka_forget_oracle_gap<=band")], toy([0.5, 0.6], [0.5], "cka_forget_oracle")
    )
    assert not found.holds and "2 retrained models make no band" in found.words


def test_a_model_without_a_result_fails_everything() -> None:
    refused = Outcome("refused", 0.0, "it needs retained data")
    lost = RunRecord(
        "evaluate", "lost", "2026-11-24T13:00:00Z", {}, {}, {}, refused, role="unlearned"
    )
    found = judge_records(
        [parse("da>=0"), parse("verdict==like-retrained")], [*toy([0.5, 0.6], []), lost]
    )
    assert [j.holds for j in found] == [
        False,
        False,
    ] and "refused, it needs retained data" in found[0].line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not NAME OP VALUE"),
        ("da", "is not NAME OP VALUE"),
        ("da=0.5", "is not NAME OP VALUE"),
        ("da=<0.5", "is not NAME OP VALUE"),
        ("da<==0.5", "is not NAME OP VALUE"),
        ("da!=0.5", "is not NAME OP VALUE"),
        ("0<=da<=1", "is not NAME OP VALUE"),
        ("da<=0.5 or da>=0", "is not NAME OP VALUE"),
        ("da <= ", "is not NAME OP VALUE"),
        ("da<=nan", "neither a finite number"),
        ("da<=inf", "neither a finite number"),
        ("da<=1_0", "neither a finite number"),
        ("da<=1e999", "neither a finite number"),
        ("da<=__import__('os')", "neither a finite number"),
        ("da<=5%", "neither a finite number"),
        ("da<=band", "compared with a gap by <= or <"),
        ("da_units<=band", "compared with a gap"),
        ("da_gap>=band", "compared with a gap"),
        ("da_gap==band", "compared with a gap"),
        ("verdict>=good", "verdict takes =="),
        ("verdict==good", "like-retrained, still-remembers, damaged, cannot-tell"),
        ("forgot==perhaps", "yes, no, cannot-tell"),
        ("cost<=cheap", "neither a finite number"),
        ("dda>=0.9", r"unknown score 'dda' \(did you mean (.* or )?da"),
        ("lp_forgett_gap<=band", r"unknown score 'lp_forgett' \(did you mean lp_forget"),
        ("zzzz<=1", "unknown score 'zzzz'; scores by their short names: forget, retain"),
        ("foo>0.5", "unknown score 'foo'; scores by their short names: forget, retain"),
        ("verdct==like-retrained", r"'verdct' \(did you mean verdict\?\)"),
        ("_gap<=1", "unknown score ''"),
    ],
)
def test_what_is_no_requirement_is_one_line(text: str, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        parse(text)


def test_names() -> None:
    assert set(ALIASES.values()) <= set(NAMES) and not set(ALIASES) & set(NAMES)
    assert parse(" lp_gap\t<=  band ")[1:] == ("lp_forget", "gap", "<=", "band")
    assert parse("f1_units>-1.5e-1")[1:] == ("cluster_f1", "units", ">", -0.15)
    assert parse("da_gap@blocks.2<0.1")[1:] == ("da@blocks.2", "gap", "<", 0.1)
    assert parse("da@pool_gap<0.1")[1:] == ("da@pool_gap", "value", "<", 0.1)
    assert parse("mine_gap<0.1", ["mine"])[1:3] == ("mine", "gap") and parse(
        "mine_gap<0.1", ["mine_gap"]
    )[1:3] == ("mine_gap", "value")
    with pytest.raises(RecordError, match="unknown score 'mine'"):
        parse("mine_gap<0.1")


def written(folder: Path, records: Sequence[RunRecord]) -> Path:
    folder.mkdir()
    previous = None
    for i, record in enumerate(records):
        sealed = seal(record, previous)
        write(sealed, folder / f"{i:02d}.json")
        previous = sealed.digest
    return folder


def status(*argv: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in argv])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_check_ends_with_its_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "records", toy([0.1, 0.2, 0.4], [0.3, 1.9]))
    assert status("check", folder, "--require", "lp>=0.3", "--require", "lp<=1.9") == 0
    lines = capsys.readouterr().out.splitlines()
    first, second = lines[:2]
    assert first.startswith("model 0: cannot tell (") and second.startswith(
        "model 1: cannot tell ("
    )
    assert [line.split(":")[0] for line in lines[2:]] == ["model 0", "model 0"] + ["model 1"] * 2
    assert status("check", folder, "--require", "lp>=0.3", "--require", "lp_gap<=band") == 1
    lines = capsys.readouterr().out.splitlines()[2:]
    assert lines[1].startswith(
        "model 0: lp_gap<=band holds: the gap is +0.0666667 and the half-width of the band 0.758"
    )
    assert lines[2] == "model 1: lp>=0.3 holds: it is 1.9"
    assert lines[3].startswith(
        "model 1: lp_gap<=band fails: the gap is +1.66667 and the half-width of the band 0.758"
    )
    assert lines[3].endswith("; required is |gap| <= the half-width of the band")
    for wrong in (["--require", "lpp>=1"], ["--require", "lp"], []):
        assert status("check", folder, *wrong) == 2
        said = capsys.readouterr()
        assert not said.out and said.err.startswith("eigenforget: ") and said.err.count("\n") == 1
    assert (
        status("check", "--require", "lp>=1") == 2
        and status("check", tmp_path / "none.json", "--require", "lp>=1") == 2
    )


def test_scores_of_others_are_known_from_the_records(tmp_path: Path) -> None:
    folder = written(tmp_path / "records", toy([0.1, 0.2], [0.3], "my_score"))
    assert (
        status("check", folder, "--require", "my_score==0.3", "--require", "my_score_gap>0.1") == 0
    )


def test_a_name_cannot_write_a_second_line() -> None:
    hostile = "x\nmodel: da>=0 holds: it is 1\r\u2028\u202e\x1b[2Jy"
    (found,) = judge_records([parse("da>=2")], [made(hostile, "unlearned", [score("da", 0.5)])])
    assert (
        len(found.line.splitlines()) == 1
        and "fails: it is 0.5; required is >= 2.0" in found.line
        and "\x1b" not in found.line
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    np.savez_compressed(
        folder / "points.npz",
        x=(rng.normal(size=(120, 6)) + 3 * np.eye(6)[y]).astype(np.float32),
        y=y,
    )
    given = [
        "--data",
        f'npz(path="{folder / "points.npz"}")',
        "--model",
        "mlp(hidden=(8,))",
        "--recipe",
        "recipe(epochs=8, batch_size=16, lr=0.05)",
    ]
    for name, more in {"original": [], "oracle": ["--without", "by_class(label=1)"]}.items():
        main(["train", *given, "--out", str(folder / f"{name}.safetensors"), *more])
    main(
        [
            "unlearn",
            str(folder / "original.safetensors"),
            "--forget",
            "by_class(label=1)",
            "--method",
            "head_mask()",
            "--out",
            str(folder / "mask.safetensors"),
        ]
    )
    main(
        [
            "unlearn",
            str(folder / "original.safetensors"),
            "--forget",
            "by_class(label=1)",
            "--method",
            "finetune(epochs=1)",
            "--out",
            str(folder / "tuned.safetensors"),
        ]
    )
    return folder


def evaluate(models: Path, name: str, out: Path, *more: str) -> list[str]:
    return [
        "evaluate",
        str(models / f"{name}.safetensors"),
        "--original",
        str(models / "original.safetensors"),
        "--oracle",
        str(models / "oracle.safetensors"),
        "--forget",
        "by_class(label=1)",
        "--skip",
        "relearning",
        "--out",
        str(out),
        *more,
    ]


def test_evaluate_writes_first_and_then_says_no(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        status(
            *evaluate(
                models,
                "tuned",
                tmp_path / "no",
                "--require",
                "forget<=1",
                "--require",
                "lp_gap<=band",
            )
        )
        == 1
    )
    assert {p.name for p in (tmp_path / "no").iterdir()} == {"records", "table.csv", "report.html"}
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith("tuned: forget<=1 holds: it is ")
    assert said[-1].startswith("tuned: lp_gap<=band fails: it cannot be judged, as 1 ")
    assert status("check", tmp_path / "no/records", "--require", "lp_gap<=band") == 1
    main(evaluate(models, "tuned", tmp_path / "yes", "--require", "forget<=1"))


def test_evaluate_refuses_before_it_works(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("lpp<=1", "lp<="):
        assert status(*evaluate(models, "tuned", tmp_path / "out", "--require", text)) == 2
    given = evaluate(models, "tuned", tmp_path / "out", "--require", "lp<=1")
    assert status(given[0], *given[2:]) == 2 and "no model was given" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_control_alone_is_no_pass(models: Path, tmp_path: Path) -> None:
    assert status(*evaluate(models, "mask", tmp_path / "out", "--require", "forget<=1")) == 2
    assert (tmp_path / "out/report.html").exists()
