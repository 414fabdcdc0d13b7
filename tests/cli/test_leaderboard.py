"""`eigenforget leaderboard`: the table is made again from records and goes between its marks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eigenforget.experiments.bench.finished import read_experiments
from eigenforget.report.pages.leaderboard import leaderboard_table
from tests.experiments.bench.helpers import run_command


def test_the_board_is_made_again_from_the_records_and_goes_between_its_marks(
    uninterrupted: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results = uninterrupted[0]
    monkeypatch.chdir(results)
    experiments = read_experiments(Path("out"))
    assert len(experiments) == 2 and all(len(p.seeds) == 2 for p in experiments.values())
    assert run_command("leaderboard", "out") == 0
    printed = capsys.readouterr().out
    assert printed == leaderboard_table(
        [p._replace(title=f"[{n}](out/{n}/summary.md)") for n, p in experiments.items()]
    )
    board = (results / "out" / "leaderboard.md").read_text(encoding="utf-8")
    # The sentence, the picture, the table.
    sentence, table = printed.split("\n\n", 1)
    assert sentence.endswith("of the cost of retraining.") and table.startswith("| method |")
    picture = "![share of scores in the band, by method]({})"
    own = f"{sentence}\n\n{picture.format('leaderboard.svg')}\n\n{table}"
    assert board == "# Small\n\n" + own.replace("(out/", "(")
    document = tmp_path / "README.md"
    document.write_text(
        "before\n<!-- leaderboard: out -->\nold\n<!-- end of leaderboard -->\nafter\n",
        encoding="utf-8",
    )
    for _ in range(2):  # and again into what it made
        assert run_command("leaderboard", "out", "--into", str(document)) == 0
        text = document.read_text(encoding="utf-8")
        linked = f"{sentence}\n\n{picture.format('README.svg')}\n\n{table}".replace(
            "(out/", f"({os.path.relpath(results / 'out', tmp_path)}/"
        )  # from where the document is
        drawn = (results / "out" / "leaderboard.svg").read_text(encoding="utf-8")
        assert document.with_suffix(".svg").read_text(encoding="utf-8") == drawn
        assert (
            text
            == f"before\n<!-- leaderboard: out -->\n\n{linked}\n<!-- end of leaderboard -->\nafter\n"
        )
    document.write_text("no marks", encoding="utf-8")
    assert (
        run_command("leaderboard", "out", "--into", str(document)) == 2
        and document.read_text(encoding="utf-8") == "no marks"
    )
    assert run_command("leaderboard", str(tmp_path)) == 2 and run_command("leaderboard") == 2
    errors = capsys.readouterr().err.splitlines()
    assert (
        "has no lines '<!-- leaderboard: out -->'" in errors[0]
        and "has no results of a bench" in errors[1]
        and len(errors) == 3
    )
