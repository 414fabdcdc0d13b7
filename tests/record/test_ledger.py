"""The ledger: one chain from several processes at a time, nothing built on a broken chain,
evaluations that are made again.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from eigenforget.record import append, in_force, read_folder, seal, tip, write
from eigenforget.record.ledger import LOCK, check_ledger, locked
from eigenforget.record.verify import verify
from tests.record.toys import chain, made, refusal

_APPEND = """
import sys
from eigenforget.record import Outcome, RunRecord, append
folder, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for i in range(count):
    record = RunRecord("train", f"{name}{i}", "2026-11-24T13:00:00Z", {}, {}, {}, Outcome("ok", 1.0))
    print(append(folder, record).digest, flush=True)
"""
_HOLD = """
import sys, time
from pathlib import Path
from eigenforget.record.ledger import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def started(code: str, *args: object) -> subprocess.Popen[str]:
    """Another process (not a fork of this one)."""
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_processes_that_append_at_the_same_time_make_one_chain(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "ledger"
    writers = [started(_APPEND, folder, name, 12) for name in ("a", "b", "c")]
    for writer in writers:
        assert writer.stdout and writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("go\n")
        writer.stdin.flush()
    told = [line for writer in writers for line in writer.communicate(timeout=900)[0].split()]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    records = read_folder(folder)
    assert (
        len(records) == 36
        and {r.digest for r in records} == set(told)
        and verify([folder]).status == 0
    )
    for name in "abc":
        assert [r.name for r in records if r.name.startswith(name)] == [
            f"{name}{i}" for i in range(12)
        ]
    numbers = [int(path.name[:6]) for path in sorted(folder.glob("*.json"))]
    assert numbers == list(range(1, 37)) and records[-1].digest == tip(folder)


def test_threads_of_one_process_are_kept_apart_too(tmp_path: Path) -> None:
    def work(name: str) -> None:
        for i in range(6):
            append(tmp_path, made(f"{name}{i}"))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_folder(tmp_path)) == 18


def test_a_writer_waits_for_the_lock(tmp_path: Path) -> None:
    writer = started(_APPEND, tmp_path, "a", 1)
    assert writer.stdout and writer.stdin and writer.stdout.readline() == "ready\n"
    with locked(tmp_path):
        writer.stdin.write("go\n")
        writer.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(timeout=0.5)
        assert not list(tmp_path.glob("*.json"))
    assert writer.wait(timeout=900) == 0 and len(read_folder(tmp_path)) == 1
    writer.stdin.close()
    writer.stdout.close()


def test_a_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    holder = started(_HOLD, tmp_path)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    holder.kill()
    holder.communicate()
    append(tmp_path, made())
    assert (tmp_path / LOCK).exists() and len(read_folder(tmp_path)) == 1


def test_a_record_is_linked_to_the_newest_and_named_by_number(tmp_path: Path) -> None:
    first = append(tmp_path, made("m ü/0"))
    second = append(tmp_path, made("m1"), "evaluate m1")
    assert first.previous is None and second.previous == first.digest
    assert sorted(p.name for p in tmp_path.glob("*.json")) == [
        "000001-m-ü-0.json",
        "000002-evaluate-m1.json",
    ]
    third = append(tmp_path, seal(made("../..")))  # sealed for another chain before
    assert third.previous == second.digest and (tmp_path / "000003-unnamed.json").exists()


@pytest.mark.parametrize("damage", ["changed", "removed", "forked", "foreign"])
def test_a_broken_chain_is_not_built_on(tmp_path: Path, damage: str) -> None:
    sealed = chain(tmp_path, [made(f"m{i}") for i in range(3)])
    if damage == "changed":
        (tmp_path / "1.json").write_bytes(
            (tmp_path / "1.json").read_bytes().replace(b"5.5", b"5.4")
        )
    elif damage == "removed":
        (tmp_path / "1.json").unlink()
    elif damage == "forked":
        write(seal(made("fork"), sealed[0].digest), tmp_path / "fork.json")
    else:
        (tmp_path / "foreign.json").write_text("{}")
    before = {p.name for p in tmp_path.glob("*.json")}
    assert refusal(append, tmp_path, made("new")) == refusal(check_ledger, tmp_path)
    assert {p.name for p in tmp_path.glob("*.json")} == before


def test_what_would_break_the_chain_is_not_written(tmp_path: Path) -> None:
    append(tmp_path, made("m"))
    assert "evaluates 'm' as" in refusal(
        append, tmp_path, made("m", created="2026-11-24T14:00:00Z")
    )
    assert "which is not an earlier record" in refusal(
        append, tmp_path, made("n", job={"corrects": "sha256:" + "0" * 64})
    )
    assert len(read_folder(tmp_path)) == 1


def test_an_evaluation_that_is_made_again_corrects_the_one_in_force(tmp_path: Path) -> None:
    def add(split: str, hour: int, **more: Any) -> Any:
        inputs = {"split": "sha256:" + split * 64}
        return append(
            tmp_path,
            made("original", created=f"2026-11-24T{hour}:00:00Z", inputs=inputs, **more),
            again=True,
        )

    first, other, second, third = add("a", 10), add("b", 11), add("a", 12), add("a", 13)
    assert "corrects" not in first.job and "corrects" not in other.job
    assert (second.job["corrects"], third.job["corrects"]) == (first.digest, second.digest)
    trained = add("a", 14, kind="train", role=None, scores=())
    assert "corrects" not in trained.job
    records = read_folder(tmp_path)
    assert records == [first, other, second, third, trained] and in_force(records) == [
        other,
        third,
        trained,
    ]


def test_a_ledger_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "is a file; a ledger is a folder" in refusal(check_ledger, tmp_path / "file")
    assert (
        "cannot be written" in refusal(append, tmp_path / "file", made())
        and (tmp_path / "file").read_text() == "mine"
    )
    check_ledger(tmp_path / "new")
    assert not (tmp_path / "new").exists()
