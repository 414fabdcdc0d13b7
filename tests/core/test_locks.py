"""The lock: one holder at a time, given back whatever happens, and none left by a process that dies."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from eigenforget.core.errors import NotWritten
from eigenforget.core.locks import held

_HOLD = """
import sys, time
from pathlib import Path
from eigenforget.core.locks import held
with held(Path(sys.argv[1]), wait=True) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


def test_a_second_holder_is_told_no_until_the_first_is_done(tmp_path: Path) -> None:
    lock = tmp_path / "deep" / "lock"
    with held(lock, wait=False) as first:
        with held(lock, wait=False) as second:
            assert first and not second
        with held(lock, wait=False) as third:
            assert not third, "a holder that was told no gives nothing back"
    with held(lock, wait=False) as later:
        assert later


def test_the_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), held(tmp_path / "lock", wait=True):
        raise ValueError("mine")
    with held(tmp_path / "lock", wait=False) as mine:
        assert mine


def test_who_waits_has_it_in_the_end(tmp_path: Path) -> None:
    order: list[str] = []

    def wait() -> None:
        with held(tmp_path / "lock", wait=True) as mine:
            order.append(f"second {mine}")

    with held(tmp_path / "lock", wait=True):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join(60)
    assert order == ["first", "second True"]


def test_a_process_that_dies_leaves_no_lock(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(lock)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "True\n"
    with held(lock, wait=False) as mine:
        assert not mine
    process.kill()
    process.wait()
    process.stdout.close()
    with held(lock, wait=False) as mine:
        assert mine


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(NotWritten, match=r"lock: cannot be written"),
        held(tmp_path / "file" / "lock", wait=True),
    ):
        pass
