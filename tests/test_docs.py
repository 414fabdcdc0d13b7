"""Every score is explained: in the glossary of the report, and in docs/metrics.md with the class
that makes it.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import torch

from eigenforget.evaluation.audits import AUDITS
from eigenforget.evaluation.board import Board
from eigenforget.evaluation.metrics import METRICS
from eigenforget.report.glossary import GROUPS, OTHER, group, label, meaning
from eigenforget.report.table import Column
from tests import toys
from tests.walks import PAGE as WALKS
from tests.walks import check_saved, walk

PAGE = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def scores() -> dict[str, Column]:
    found = toys.world()
    board = Board(found.panel(audits=list(AUDITS)), found.originals[:1], found.oracles[:4])
    return {
        s.name: Column(s.name, s.unit, s.better, s.range, s.trace)
        for s in board.measure_oracle(0).scores
    }


def test_every_score_has_a_name_a_group_and_a_meaning(scores: dict[str, Column]) -> None:
    for name, column in scores.items():
        assert group(name) in GROUPS and group(name) != OTHER, f"{name} is in no group"
        assert label(name) != name or name in ("nc1", "nc2", "nc3"), f"{name} has no label"
        assert len(meaning(column).split(";")[0]) > 30, f"{name} is not explained"


def test_the_metrics_page_names_every_score_and_no_other(scores: dict[str, Column]) -> None:
    rows = [line for line in PAGE.split("## Statistics")[0].splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z0-9_]+)`", row.split("|")[1])}
    assert named == set(scores)


def test_the_metrics_page_names_every_class() -> None:
    for kind in (*METRICS, *AUDITS):
        assert f"`{kind.__name__}`" in PAGE, kind.__name__


def test_the_page_says_on_which_side_a_trace_shows(scores: dict[str, Column]) -> None:
    words = {"above": "above", "below": "below", "both": "distance", "": "–"}
    for line in PAGE.split("## Statistics")[0].splitlines():
        if line.startswith("| `"):
            cells = [c.strip() for c in line.replace(r"\|", "/").strip("|").split("|")]
            for name in re.findall(r"`([a-z0-9_]+)`", cells[0]):
                assert cells[3] == words[scores[name].trace], name


def people(path: Path, n: int = 240) -> None:
    """A table of three numbers, of which one tells the diagnosis."""
    generator = random.Random(0)
    rows = ["person,hospital,side,age,pressure,glucose,diagnosis"]
    for number in range(n):
        sick, hospital = generator.random() < 0.5, ("north", "south", "west")[number % 3]
        age, pressure = generator.gauss(50, 10), generator.gauss(120, 9)
        glucose = generator.gauss(8 if sick else 5, 1)
        side, diagnosis = ("test" if number % 4 == 0 else "train"), ("sick" if sick else "healthy")
        rows.append(
            f"p{number},{hospital},{side},{age:.1f},{pressure:.1f},{glucose:.2f},{diagnosis}"
        )
    path.write_text("\n".join(rows) + "\n")


def test_the_walk_from_a_plain_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walk("A plain PyTorch script", tmp_path, monkeypatch)
    check_saved(tmp_path, *(torch.load(tmp_path / f"{n}.pt") for n in ("model", "forgotten")))


def test_the_walk_from_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people(tmp_path / "people.csv")
    walk("A table", tmp_path, monkeypatch)
    check_saved(tmp_path, *(torch.load(tmp_path / f"{n}.pt") for n in ("model", "forgotten")))


def test_the_page_of_walks_counts_its_lines() -> None:
    page = WALKS.read_text(encoding="utf-8")
    table, *sections = page.split("\n## ")
    rows = [row for row in table.splitlines() if row.startswith("| [")]
    assert len(rows) == 5
    for row, section in zip(rows, sections[:5], strict=True):
        title, blocks = section.split("\n", 1)
        assert title.lower() in row.lower().replace("’", "'")
        written = re.findall(
            r"```python\n# .*?\n(.*?)```", blocks.split("**You write**")[1], re.DOTALL
        )
        lines = [line for text in written for line in text.splitlines() if line.strip()]
        assert (f" {len(lines)} lines of Python" in row) == bool(lines), row
        commands = re.findall(r"eigenforget (train|unlearn|evaluate) ", blocks)
        assert ("3 commands" in row) == (commands == ["train", "unlearn", "evaluate"]), row
