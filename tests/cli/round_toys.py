"""A full round of commands on a small table of people, and how the tests of records run them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eigenforget.cli import main
from tests.bench_plans import SKIPPED

MODEL, RECIPE, METHOD = "mlp(hidden=(16, 8))", "recipe(epochs=8, lr=0.1)", "finetune(epochs=1)"
PEOPLE = [f"person-{i:03d}" for i in range(180)]
FAMILIES = [f"family {chr(97 + i % 20)}son" for i in range(180)]
QUICKLY = tuple(word for name in SKIPPED for word in ("--skip", name))
"""Leaves out what takes longest to measure, where a test is not about scores."""
GONE = "by_ids (ids=('person-002', 'person-011', 'person-004'))"


def run(*argv: object) -> None:
    main([str(a) for a in argv])


def exit_code(*argv: object) -> int:
    """The exit code of a command; one that ends without exiting has 0."""
    try:
        run(*argv)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def status(*argv: object) -> int:
    with pytest.raises(SystemExit) as ended:
        run(*argv)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def refused_in_one_line(
    argv: list[str],
    words: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Run a command in an empty folder: one line of error, exit 2, and no file is written."""
    monkeypatch.chdir(folder)
    assert status(*argv) == 2
    out, err = capsys.readouterr()
    assert (
        words in err
        and err.count("\n") == 1
        and "Traceback" not in err
        and out == ""
        and list(folder.iterdir()) == []
    )


def train(folder: Path, name: str, *more: object) -> None:
    data = f'npz(path="{folder / "people.npz"}")'
    run(
        "train",
        "--data",
        data,
        "--model",
        MODEL,
        "--recipe",
        RECIPE,
        "--out",
        folder / f"{name}.safetensors",
        *more,
    )


def people(folder: Path) -> None:
    """Three clusters; person-005 is almost person-002."""
    rng = np.random.default_rng(0)
    y = np.arange(180) % 3
    x = (rng.normal(size=(180, 36)) + 3 * np.tile(np.eye(6)[y], 6)).astype(np.float32)
    x[5] = x[2] + 1e-4
    np.savez_compressed(
        folder / "people.npz", x=x, y=y, ids=np.array(PEOPLE), groups=np.array(FAMILIES)
    )


def a_round(folder: Path, *more: object, evaluated: tuple[object, ...] = ()) -> Path:
    """original → unlearned, and an oracle, and their evaluation in results."""
    people(folder)
    train(folder, "original", *more)
    train(folder, "oracle", "--without", GONE, *more)
    original = folder / "original.safetensors"
    run(
        "unlearn",
        original,
        "--forget",
        GONE,
        "--method",
        METHOD,
        "--out",
        folder / "gone.safetensors",
        *more,
    )
    run(
        "evaluate",
        folder / "gone.safetensors",
        "--original",
        original,
        "--oracle",
        folder / "oracle.safetensors",
        "--forget",
        GONE,
        *QUICKLY,
        "--out",
        folder / "results",
        *more,
        *evaluated,
    )
    return folder
