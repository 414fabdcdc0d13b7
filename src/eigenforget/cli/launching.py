"""Several processes for one command: torch's elastic launcher runs it once more in each of them."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

GRACE = 5.0
"""Seconds that a process waits before it fails, unless it is the first one."""


class NotLaunchedError(Exception):
    """A command that has to run in `count` processes is not running in one of them yet."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} processes")
        self.count = count


def check_launched(devices: int) -> None:
    """Raise NotLaunchedError if several processes are wanted and none was started."""
    if devices > 1 and "LOCAL_RANK" not in os.environ:
        raise NotLaunchedError(devices)


def prefix() -> str:
    """The start of an error line: every process except the first gives its number."""
    rank = os.environ.get("RANK", "0")
    return "" if rank == "0" else f"rank {rank}: "


def let_first_speak() -> None:
    """Wait in every process but the first, before it fails.

    So an error that all processes meet is printed once: the first prints it and ends the others.
    """
    if os.environ.get("RANK", "0") != "0":
        time.sleep(GRACE)


def supervise(
    arguments: Sequence[str], count: int, program: Sequence[str] = ("-m", "eigenforget.cli")
) -> int:
    """Run a Python program in several processes.

    The first process shares the outputs of this one. Standard error of another process is shown
    only if that process fails and the first does not. A process that fails ends all others.

    Args:
        arguments: Arguments of the program.
        count: Number of processes.
        program: The program, as the Python interpreter takes it.

    Returns:
        The exit code: that of the process that failed, or 128 and the number of the signal that
        ended it.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder, _own_signal_handlers():
        outputs = DefaultLogsSpecs(folder, redirects=dict.fromkeys(range(1, count), Std.ALL))
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id="eigenforget",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            logs_specs=outputs,
        )
        try:
            elastic_launch(config, sys.executable)(*program, *arguments)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            if rank > 0:
                (said,) = Path(folder).rglob(f"{rank}/stderr.log")
                sys.stderr.write(said.read_text(encoding="utf-8"))
            return _exit_code(failure.exitcode)
        except SignalException as stopped:
            return 128 + int(stopped.sigval)
    return 0


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Restores the signal handlers afterwards; the launcher sets its own."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_code(code: int) -> int:
    """The exit code of a shell: 128 plus the number of the signal that ended the process."""
    return 128 - code if code < 0 else code
