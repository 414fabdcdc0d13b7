"""Commands that read records and write one document: report, certificate, card, export."""

from __future__ import annotations

from pathlib import Path

import pytest

from eigenforget.record import manifest_of, manifest_text, write_text
from tests.cli.round_toys import run, status
from tests.record.toys import chain
from tests.report_toys import whole


@pytest.fixture
def records(tmp_path: Path) -> Path:
    chain(tmp_path / "records", whole())
    return tmp_path / "records"


@pytest.mark.parametrize("command", ["report", "card", "export --format=csv"])
def test_a_file_that_appears_meanwhile_is_not_replaced(
    records: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another process writes it while the records are read."""
    from eigenforget.record import store

    read_folder, out = store.read_folder, records.with_name("out")
    monkeypatch.setattr(
        "eigenforget.cli.record_files.read_folder",
        lambda path: (out.write_text("theirs"), read_folder(path))[1],
    )
    argv = (*command.split(), records, "--out", out)
    assert status(*argv) == 2 and out.read_text() == "theirs"
    assert "exists already; use --overwrite" in capsys.readouterr().err
    run(*argv, "--overwrite")
    assert out.read_text() != "theirs"


def test_ids_of_a_split_among_the_records_are_passed_over(
    records: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shell makes *.json of a folder's name, and split.json lies beside its records."""
    split = records / "split.json"
    write_text(split, manifest_text(manifest_of(["a"], ["b"])))
    run("report", *sorted(records.glob("*.json")), "--out", records.with_name("page.html"))
    assert status("certificate", split, "--out", records.with_name("certificate.html")) == 2
    assert "is no record; name a record" in capsys.readouterr().err
