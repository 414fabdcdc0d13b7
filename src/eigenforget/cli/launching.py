"""Several processes for one command: it runs once more in each of them, with the environment that
torchrun gives its processes.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import IO, NoReturn

GRACE = 10.0
"""Seconds that the first process has to end by itself, as on the same error, once another one has
failed.
"""
POLL = 0.05
RUN = "eigenforget"


class SeveralRanks(Exception):
    """Raised by a command that is to run in `count` processes and is not yet one of them."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} processes")
        self.count = count


def check_launched(devices: int) -> None:
    """Raises SeveralRanks where there are to be several processes and nobody has started them."""
    if devices > 1 and "LOCAL_RANK" not in os.environ:
        raise SeveralRanks(devices)


def prefix() -> str:
    """What stands before an error line: of several processes, all but the first say which one they
    are.
    """
    rank = os.environ.get("RANK", "0")
    return "" if rank == "0" else f"rank {rank}: "


def supervise(arguments: Sequence[str], count: int) -> int:
    """Run `python -m eigenforget.cli` with these arguments in `count` processes; answers with the
    exit code.

    The first process has this one's outputs. What the others say on standard error is shown where
    they fail and the first does not. A process that fails ends all.
    """
    with tempfile.TemporaryFile("w+") as said:
        processes: list[subprocess.Popen[bytes]] = []
        before = signal.signal(signal.SIGTERM, _stop)
        try:
            for rank, environment in enumerate(_environments(count)):
                output = {"stdout": subprocess.DEVNULL, "stderr": said} if rank else {}
                processes.append(subprocess.Popen(_command(arguments), env=environment, **output))  # type: ignore[call-overload]
            return _code(processes, said)
        except KeyboardInterrupt:
            return 130
        finally:
            _end(processes)
            signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "eigenforget.cli", *arguments]


def _environments(count: int) -> list[Mapping[str, str]]:
    threads = str(max(1, (os.cpu_count() or 1) // count))
    shared = {
        "OMP_NUM_THREADS": threads,
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "TORCHELASTIC_RUN_ID": RUN,
    }
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _code(processes: Sequence[subprocess.Popen[bytes]], said: IO[str]) -> int:
    first, *others = processes
    while any(process.poll() is None for process in processes) and not any(
        process.poll() for process in processes
    ):
        time.sleep(POLL)
    failed = next((process for process in others if process.poll()), None)
    if failed is None:
        return _exit_code(first.wait())
    try:
        code = first.wait(GRACE)
    except subprocess.TimeoutExpired:
        code = 0
    if code:
        return _exit_code(code)
    said.seek(0)
    sys.stderr.write(said.read())
    return _exit_code(failed.wait())


def _exit_code(code: int) -> int:
    """As a shell says it: 128 and the number of the signal that ended the process."""
    return 128 - code if code < 0 else code


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
