"""`eigenforget cache`: models are listed, checked and pruned."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from eigenforget.cli.cache import bytes_of
from eigenforget.core.errors import EigenforgetError
from tests.experiments.bench.helpers import run_command


def test_a_cache_is_listed_checked_and_pruned_longest_unused_first(
    uninterrupted: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    shutil.copytree(uninterrupted[0] / "store" / "models", store / "models")
    models = sorted((store / "models").glob("*.safetensors"))
    for age, path in enumerate(models):
        os.utime(path, (1_700_000_000 + age, 1_700_000_000 + age))
    assert run_command("cache", "list", str(store)) == 0 and "6 models" in capsys.readouterr().out
    assert run_command("cache", "check", str(store)) == 0
    content = bytearray(models[-1].read_bytes())
    content[-1] ^= 1
    models[-1].write_bytes(content)
    os.utime(models[-1], (1_800_000_000, 1_800_000_000))
    assert run_command("cache", "check", str(store)) == 1
    assert models[-1].name in capsys.readouterr().out
    keep = sum(path.stat().st_size for path in models[-2:])
    assert run_command("cache", "prune", str(store), "--max-size", str(keep)) == 0
    assert sorted((store / "models").glob("*.safetensors")) == models[-2:]
    assert (
        run_command("cache", "prune", str(store), "--max-size", "some") == 2
        and run_command("cache", "list", str(tmp_path / "no")) == 2
    )
    errors = capsys.readouterr().err
    assert (
        "--max-size 'some' is not a size such as 20G, 500M or 0" in errors
        and "is not the folder of a store" in errors
    )


def test_sizes() -> None:
    assert [bytes_of(t) for t in ("0", "10", "1.5K", "2 MB", "3GiB", "1t")] == [
        0,
        10,
        1536,
        2**21,
        3 * 2**30,
        2**40,
    ]
    for wrong in ("", "-1", "1X", "K"):
        with pytest.raises(EigenforgetError):
            bytes_of(wrong)
