"""Doubts are Python warnings, and lines for the record."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings

import pytest

from eigenforget.core import notices


def test_lines_are_collected_once_and_pass_to_the_outer_block() -> None:
    with pytest.warns(notices.EigenforgetWarning, match="a doubt"):
        with notices.collected() as outer:
            notices.warn("first")
            with notices.collected() as inner:
                notices.warn("a doubt")
                notices.warn("a doubt")
                assert notices.so_far() == inner == ["a doubt"]
            assert notices.so_far() == outer == ["first", "a doubt"]
    assert notices.so_far() == []


def test_what_was_inferred_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="eigenforget"):
        notices.inform("class 2 is gone")
    assert [(r.name, r.levelno, r.message) for r in caplog.records] == [
        ("eigenforget", logging.INFO, "class 2 is gone")
    ]


@pytest.mark.parametrize(
    ("setup", "shown"),
    [
        ("pass", "eigenforget: 100 % is gone\n"),
        ("logging.getLogger('eigenforget').setLevel('WARNING')", ""),
        ("logging.basicConfig()", ""),
        ("logging.basicConfig(level='INFO', format='%(message)s')", "100 % is gone\n"),
    ],
)
def test_without_logging_it_goes_to_standard_error(setup: str, shown: str) -> None:
    code = f"import logging; {setup}\nfrom eigenforget.core import notices\n"
    code += "notices.inform('100 % is gone')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stderr == shown and not found.stdout


def test_a_warning_points_at_the_code_of_the_caller() -> None:
    with pytest.warns(notices.EigenforgetWarning) as found:
        notices.warn("here")
    assert found[0].filename == __file__


def test_a_block_that_fails_leaves_no_lines_behind() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RuntimeError), notices.collected():
            notices.warn("before the failure")
            raise RuntimeError
    assert notices.so_far() == []
