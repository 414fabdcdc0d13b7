"""The parity page: which bounds it says hold, and who wins, on values known in advance."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from eigenforget.report.pages.leaderboard import LeaderboardRow, Mark

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import parity  # noqa: E402

RESULTS = BENCHMARKS / "results" / "plans" / "parity_tune"


def method(
    name: str,
    units: dict[str, list[float]],
    *,
    gap: float = 0.0,
    shares: tuple[float, ...] = (0.03,),
) -> LeaderboardRow:
    marks = {
        score: [Mark(value=0.5, gap=gap, units=u, inside=abs(u) <= 1) for u in of]
        for score, of in units.items()
    }
    return LeaderboardRow(name, "unlearned", marks, list(shares), frozenset(), (1, 1), (), ())


@pytest.mark.parametrize(
    ("name", "units", "gap", "share", "held"),
    [
        ("probed_muda 10%", 1.9, -0.004, 0.049, 3),
        ("probed_muda 10%", -2.1, -0.004, 0.049, 2),
        ("probed_muda 10%", 0.0, -0.006, 0.049, 2),
        ("probed_muda 1%", 0.0, -0.006, 0.049, 3),
        ("probed_muda 1%", 0.0, -0.011, 0.051, 1),
        ("probed_muda", 0.0, -0.006, 0.05, 2),
    ],
)
def test_bounds_are_judged_on_the_worst_seed(
    name: str, units: float, gap: float, share: float, held: int
) -> None:
    text = parity.verdict(
        method(name, {"test_retain_accuracy": [0.0, units]}, gap=gap, shares=(0.01, share))
    )
    assert text.count("holds: ") == held and text.count("does not hold") == 3 - held


def test_a_win_is_nearer_where_not_both_are_in_the_band() -> None:
    own = method(
        "probed_muda 10%",
        {"da": [0.5, -0.5], "nmi": [3.0, 3.0], "lp_forget": [0.9, 0.9], "ncm_forget": [2.0, 2.0]},
    )
    other = method(
        "eu_k 10%",
        {"da": [-2.0, 2.0], "nmi": [1.0, 1.0], "lp_forget": [0.1, 0.1], "ncm_forget": [2.1, 2.1]},
    )
    row = parity.duel(own, other)
    assert row == "| `eu_k 10%` | 1: DA (0.5 / 2.0) | 1: NMI (3.0 / 1.0) |"
    assert (
        parity.duel(other, own) == "| `probed_muda 10%` | 1: NMI (1.0 / 3.0) | 1: DA (2.0 / 0.5) |"
    )


def random_method(name: str, jsd: float, *, outside: str = "") -> LeaderboardRow:
    names = (
        "forget_accuracy",
        "retain_accuracy",
        "test_retain_accuracy",
        "rmia_auc",
        "rmia_tpr_1",
        "jsd_forget_oracle",
    )
    marks = {
        s: [
            Mark(
                jsd if s.startswith("jsd") else 0.6,
                0.01,
                1.5 if s == outside else 0.5,
                s != outside,
            )
        ]
        * 2
        for s in names
    }
    return LeaderboardRow(name, "unlearned", marks, [0.3], frozenset(), (2, 2), (), ())


ANY, KEEPING = "lowest JSD to retrained models", "lowest JSD of those whose retained"


@pytest.mark.parametrize(
    ("jsd", "outside", "fails"),
    [
        (0.14, "", []),
        (0.16, "", [ANY]),
        (0.18, "", [ANY, KEEPING]),
        (0.17, "", [ANY, KEEPING]),
        (0.14, "forget_accuracy", ["forget accuracy that of unseen data"]),
        (0.18, "rmia_auc", ["RMIA", ANY, KEEPING]),
        (0.14, "rmia_tpr_1", ["RMIA"]),
        (0.14, "test_retain_accuracy", []),
    ],
)
def test_bounds_of_random_requests(jsd: float, outside: str, fails: list[str]) -> None:
    own, other = random_method("unseen_distill", jsd, outside=outside), random_method("not_", 0.17)
    harmful = random_method("bad_teacher", 0.15)
    harmful.marks["retain_accuracy"] = [Mark(0.5, -0.1, -2.5, inside=False)]
    control = random_method("identity", 0.1)._replace(role="control")
    text = parity.verdict_random(own, [own, other, harmful, control])
    assert text.count("holds: ") == 4 - len(fails) and text.count("does not hold") == len(fails)
    assert all(f"**does not hold**: {what}" in text for what in fails)
    assert (
        f"({jsd:.4f}, next 0.1500 of `bad_teacher`)" in text
        and f"({jsd:.4f}, next 0.1700 of `not_`)" in text
    )


def test_a_row_of_a_random_request_has_its_values() -> None:
    own = random_method("unseen_distill", 0.16, outside="rmia_auc")
    assert (
        parity.table_row(own, random=True)
        == "| `unseen_distill` | 0.600 ✓ | 0.600 | 0.600 ✓ | 0.160 ✓ | 6/6 | – | +1.0 | 30.0 % | 3.0/4 |"
    )
    assert parity.table_row(own) == "| `unseen_distill` | 6/6 | – | +1.0 | 30.0 % | 3.0/4 |"


def test_what_was_not_measured_does_not_hold() -> None:
    bare = random_method("unseen_distill", 0.16)
    alone = parity.verdict_random(bare, [bare])
    assert alone.count("no other to compare with") == 2 and alone.count("does not hold") == 2
    bare.marks.clear()
    assert (
        parity.verdict_random(bare, [bare, random_method("not_", 0.17)]).count("does not hold") == 4
    )


def tuned(spec: str, units: float, gap: float, role: str = "unlearned") -> LeaderboardRow:
    marks = {
        "test_retain_accuracy": [Mark(0.5, gap, 0.0, inside=True)],
        "forget_accuracy": [Mark(0.5, 0.0, units, abs(units) <= 1)],
    }
    return LeaderboardRow("a", role, marks, [0.1], frozenset(), (1, 1), (), (spec,))


def test_chooses_the_setting_with_most_in_band_that_keeps_accuracy() -> None:
    of = [
        tuned("a(lr=1)", 0.0, -0.051),
        tuned("a(lr=2)", 2.0, -0.04),
        tuned("a(lr=3)", 0.5, -0.049),
        tuned("a(lr=4)", 0.5, -0.048),
        tuned("b(x=1)", 0.0, -0.3),
        tuned("b(x=2)", 3.0, -0.2),
        tuned("identity()", 0.0, 0.0, "control"),
    ]
    assert parity.chosen(of) == ["a(lr=4)", "b(x=2)"]


def test_a_section_of_a_random_request_and_its_line_of_the_overview() -> None:
    of = [random_method("unseen_distill", 0.16, outside="rmia_auc"), random_method("not_", 0.17)]
    of.append(random_method("ssd", 0.2, outside="rmia_tpr_1"))
    of.append(random_method("identity", 0.1)._replace(role="control"))
    shown = parity.Shown(parity.ExperimentRecords("digits", []), of, "plans/x/summary.svg")
    assert shown.random and shown.first is of[0] and shown.others == of[1:3]
    text = parity.section(shown)
    assert (
        "](plans/x/summary.svg)" in text
        and "| forget accuracy | RMIA AUC | RMIA TPR at 1 % | JSD (forget) |" in text
    )
    assert "| `not_` | 0: – | 1: RMIA AUC (1.5 / 0.5) |" in text and "| `identity` |" not in text
    # Against not_ it loses RMIA, against ssd it wins the rate and loses RMIA.
    assert (
        parity.overview(shown, of[0])
        == "| digits | `unseen_distill` | 6/6 | 6 | 6 | 75 % | 100 % | 1 | 2 | 30.0 % |"
    )


def test_reads_the_committed_records_and_refuses_a_folder_without(tmp_path: Path) -> None:
    parity.main((RESULTS,), into=tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert (
        "| `probed_muda 10% 2` | 12/12 | – | +0.1 |" in text and "| `eu_k 10% 2` | 10/12 |" in text
    )
    with pytest.raises(SystemExit, match="no records of methods"):
        parity.main((tmp_path,), into=tmp_path / "none.md")
    with pytest.raises(SystemExit, match="no records of methods"):
        parity.main((RESULTS, tmp_path), into=tmp_path / "none.md")
    assert not (tmp_path / "none.md").exists()
