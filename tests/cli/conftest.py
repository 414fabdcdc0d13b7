"""Models that the tests of several commands share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.round_toys import a_round, run
from tests.conftest import Shared

MODEL = "small_resnet(width=8)"
RECIPE = "recipe(epochs=4, batch_size=64)"
CLASS3 = "by_class(label=3)"


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture(scope="session")
def made(shared: Shared) -> Path:
    """original, oracle and muda checkpoints, made by the commands."""
    return shared("made", _commands)


def _commands(folder: Path) -> None:
    base = ("train", "--data", "digits()", "--model", MODEL, "--recipe", RECIPE)
    run(*base, "--out", folder / "original.safetensors")
    run(*base, "--seed", 1, "--without", CLASS3, "--out", folder / "oracle.safetensors")
    before = files(folder)
    run(
        "unlearn",
        folder / "original.safetensors",
        "--forget",
        CLASS3,
        "--method",
        "muda(alternations=6, batch_size=32)",
        "--retain-fraction",
        0.5,
        "--out",
        folder / "muda.safetensors",
    )
    after = files(folder)
    assert {k: after[k] for k in before} == before, "unlearn only reads its input"
    new = {"muda.safetensors", "muda.json", "muda.split.json", "muda.rows"}
    assert set(after) - set(before) == new


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    return a_round(folder, "--ledger", folder / "ledger")


@pytest.fixture
def copied(plain: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(plain, tmp_path / "copied")
