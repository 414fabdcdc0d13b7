"""What tests of benches share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from eigenforget.cli import main
from eigenforget.experiments.bench import Bench, Store, pool_of


def bench(store: Path, plan: Any, backend: str = "sequential", workers: int = 1) -> Bench:
    return Bench(plan, Store.at(store), pool_of(backend, workers, 1))


def argv(*more: str, out: str = "out") -> list[str]:
    """`eigenforget bench plan.toml` for a process of its own."""
    bench = [sys.executable, "-m", "eigenforget.cli", "bench", "plan.toml"]
    return [*bench, "--store", "store", "--out", out, "--device", "cpu", *more]


def command(
    folder: Path, *more: str, seconds: float = 900, **options: Any
) -> subprocess.CompletedProcess[str]:
    """The bench in a process of its own, which has ended."""
    return subprocess.run(
        argv(*more),
        cwd=folder,
        text=True,
        capture_output=True,
        timeout=seconds,
        check=False,
        **options,
    )


def scores(records: Any) -> dict[str, dict[str, float | None]]:
    return {r.name: {s.name: s.value for s in r.scores} for r in records}


def timeless(out: Path) -> str:
    """Experiments, models, scores, values and verdicts: what must not depend on when, where and how
    often a bench was stopped.
    """
    lines = (out / "table.csv").read_text(encoding="utf-8").splitlines()
    columns = lines[0].split(",")
    dropped = {columns.index("seconds"), columns.index("cpu_seconds")}
    rows = [line.split(",", 9) for line in lines]
    return "\n".join(
        ",".join(part for i, part in enumerate(row) if i not in dropped) for row in rows
    )


def run_command(*words: str) -> int:
    """The exit code of `eigenforget WORDS`."""
    try:
        main(list(words))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def of_folder(folder: Path, out: str = "out") -> list[str]:
    """The words of `eigenforget bench` for this process, on the plan and the store of a folder."""
    bench = ["bench", str(folder / "plan.toml"), "--store", str(folder / "store")]
    here = ["--device", "cpu", "--backend", "sequential", "--threads", "1"]
    return [*bench, "--out", str(folder / out), *here]
