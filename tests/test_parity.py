"""The parity page: which bounds it says hold, and who wins, on values known in advance."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from eigenforget.report.leaderboard import Entry, Mark

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import parity  # noqa: E402

RESULTS = BENCHMARKS / "results" / "plans" / "parity_tune"


def method(name: str, units: dict[str, list[float]], *, gap: float = 0.0, shares: tuple[float, ...] = (0.03,)) -> Entry:
    marks = {score: [Mark(value=0.5, gap=gap, units=u, inside=abs(u) <= 1) for u in of] for score, of in units.items()}
    return Entry(name, "unlearned", marks, list(shares), frozenset(), (1, 1), (), ())


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
def test_bounds_are_judged_on_the_worst_seed(name: str, units: float, gap: float, share: float, held: int) -> None:
    text = parity.verdict(method(name, {"test_retain_accuracy": [0.0, units]}, gap=gap, shares=(0.01, share)))
    assert text.count("holds: ") == held and text.count("does not hold") == 3 - held


def test_a_win_is_nearer_where_not_both_are_in_the_band() -> None:
    own = method("probed_muda 10%", {"da": [0.5, -0.5], "nmi": [3.0, 3.0], "lp_forget": [0.9, 0.9], "ncm_forget": [2.0, 2.0]})
    other = method("eu_k 10%", {"da": [-2.0, 2.0], "nmi": [1.0, 1.0], "lp_forget": [0.1, 0.1], "ncm_forget": [2.1, 2.1]})
    row = parity.duel(own, other)
    assert row == "| `eu_k 10%` | 1: DA (0.5 / 2.0) | 1: NMI (3.0 / 1.0) |"
    assert parity.duel(other, own) == "| `probed_muda 10%` | 1: NMI (1.0 / 3.0) | 1: DA (2.0 / 0.5) |"


def random_method(name: str, jsd: float, *, outside: str = "") -> Entry:
    names = ("forget_accuracy", "retain_accuracy", "test_retain_accuracy", "rmia_auc", "rmia_tpr_1", "jsd_forget_oracle")
    marks = {s: [Mark(jsd if s.startswith("jsd") else 0.6, 0.01, 1.5 if s == outside else 0.5, s != outside)] * 2 for s in names}
    return Entry(name, "unlearned", marks, [0.3], frozenset(), (2, 2), (), ())


ANY, KEEPING = "lowest JSD to retrained models", "lowest JSD of those whose retained"


@pytest.mark.parametrize(
    ("jsd", "outside", "fails"),
    [
        (0.14, "", []), (0.16, "", [ANY]), (0.18, "", [ANY, KEEPING]), (0.17, "", [ANY, KEEPING]),
        (0.14, "forget_accuracy", ["forget accuracy that of unseen data"]),
        (0.18, "rmia_auc", ["RMIA", ANY, KEEPING]), (0.14, "rmia_tpr_1", ["RMIA"]), (0.14, "test_retain_accuracy", []),
    ],
)  # fmt: skip
def test_bounds_of_random_requests(jsd: float, outside: str, fails: list[str]) -> None:
    own, other = random_method("unseen_distill", jsd, outside=outside), random_method("not_", 0.17)
    harmful = random_method("bad_teacher", 0.15)
    harmful.marks["retain_accuracy"] = [Mark(0.5, -0.1, -2.5, inside=False)]
    control = random_method("identity", 0.1)._replace(role="control")
    text = parity.verdict_random(own, [own, other, harmful, control])
    assert text.count("holds: ") == 4 - len(fails) and text.count("does not hold") == len(fails)
    assert all(f"**does not hold**: {what}" in text for what in fails)
    assert f"({jsd:.4f}, next 0.1500 of `bad_teacher`)" in text and f"({jsd:.4f}, next 0.1700 of `not_`)" in text


def test_a_row_of_a_random_request_has_its_values() -> None:
    own = random_method("unseen_distill", 0.16, outside="rmia_auc")
    assert parity.table_row(own, [own]) == "| `unseen_distill` | 0.600 ✓ | 0.600 | 0.600 ✓ | 0.160 ✓ | 6/6 | – | +1.0 | 30.0 % | 3.0/4 |"
    assert parity.table_row(own) == "| `unseen_distill` | 6/6 | – | +1.0 | 30.0 % | 3.0/4 |"


def test_reads_the_committed_records_and_refuses_a_folder_without(tmp_path: Path) -> None:
    parity.main((RESULTS,), into=tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| `probed_muda 10% 2` | 12/12 | – | +0.1 |" in text and "| `eu_k 10% 2` | 10/12 |" in text
    with pytest.raises(SystemExit, match="no records of methods"):
        parity.main((tmp_path,), into=tmp_path / "none.md")
    assert not (tmp_path / "none.md").exists()
