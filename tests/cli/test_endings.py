"""How commands end: exit codes, one line, and a file about what nobody expected."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NoReturn

import pytest

from eigenforget.cli import main
from eigenforget.core import notices
from eigenforget.record import RecordError
from tests.cli.round_toys import status

COMMAND = ("methods", "muda")


def ends_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command that meets this error."""

    def fail(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr("eigenforget.cli.methods._explain", fail)
    return status(*COMMAND)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (RecordError("a.json: \x1b[2Jwrong\nor so"), 2, r"a\.json: \\x1b\[2Jwrong or so"),
        (MemoryError(), 2, "out of memory .*smaller batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), 2, "out of memory"),
        (PermissionError(13, "Permission denied", "secret.csv"), 2, "secret.csv: Permission"),
        (OSError(28, "No space left on device"), 2, "No space left"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (BrokenPipeError(), 141, "^$"),
    ],
)
def test_what_a_user_can_meet_is_one_line(
    error: BaseException,
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ends_with(error, monkeypatch) == code
    said = capsys.readouterr().err
    assert re.search(words, said) and said.count("\n") <= 1 and not list(tmp_path.iterdir())


def test_a_word_too_many_is_named_with_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("methods", "muda", "x") == 2
    assert capsys.readouterr().err == (
        "eigenforget: methods takes no x here; see eigenforget methods --help\n"
    )


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["unlearn", "x"], r"unlearn needs --forget: .*by_class\(label=3\)"),
        (["unlearn", "x", "--forget"], "unlearn: --forget was given without a value: "),
        (["unlearn", "x", "--forget", "--out", "y"], "--forget was given without a value"),
        (["unlearn", "x", "--forgt", "y"], r"no --forgt \(did you mean --forget\?\)"),
        (["unlearn", "--forget", "x"], "unlearn needs CHECKPOINT: "),
        (["evaluate", "x", "--forget", "y"], "evaluate needs --original: "),
        (["export", "x"], "export needs --format: .*: csv, parquet, markdown, latex$"),
        (["export", "--format", "csv"], "export needs RECORDS: "),
        (["export", "x", "--format", "csv", "-o"], "export: -o was given without a value"),
        (["cache", "check"], "cache check needs FOLDER: "),
        (["scores", "--n"], "scores: --n was given without a value"),
    ],
)
def test_what_is_missing_is_told_from_what_has_no_value(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*argv) == 2
    said = capsys.readouterr().err
    assert re.search(words, said.strip()) and said.count("\n") == 1


@pytest.mark.parametrize("error", [RecursionError("deep"), OverflowError("big"), KeyError("x")])
def test_what_nobody_expected_is_one_line_and_a_file(
    error: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ends_with(error, monkeypatch) == 3 and ends_with(error, monkeypatch) == 3
    said = capsys.readouterr().err
    files = list(tmp_path.iterdir())
    assert said.count("\n") == 2 and len(files) == 2
    for file in files:
        text = file.read_text()
        assert file.name in said and type(error).__name__ in said
        assert "eigenforget methods muda" in text and "Traceback" in text
    monkeypatch.chdir("/proc")  # where no file can be made
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert ends_with(error, monkeypatch) == 3 and len(list(tmp_path.iterdir())) == 3


def test_a_reader_that_goes_away_ends_a_command_quietly() -> None:
    code = "import sys; from eigenforget.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "--help"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, check=False, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


def test_warnings_are_one_line_each_and_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def explain(*_: object) -> None:
        for _ in range(2):
            notices.warn("a doubt\nof two lines")
            warnings.warn("of a library", UserWarning, stacklevel=1)
            warnings.warn("for developers", FutureWarning, stacklevel=1)

    monkeypatch.setattr("eigenforget.cli.methods._explain", explain)
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # whatever libraries set when they were loaded
        main(list(COMMAND))
    said = capsys.readouterr().err
    assert said == "warning: a doubt of two lines\nwarning: of a library\n"


def test_a_fault_in_a_file_of_ones_own_names_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def mine(index):\n    return index.nothing\n")
    forget = "python(path='mine.py:mine')"
    assert status("duplicates", "--data", "builtin()", "--forget", forget) == 2
    said = capsys.readouterr().err
    assert "mine.py, line 2: AttributeError" in said and said.count("\n") == 1
    assert [path.name for path in tmp_path.glob("*.txt")] == []
