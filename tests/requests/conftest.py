"""Shared fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest

from eigenforget.requests import (
    write_scores,
)
from tests.requests.score_toys import IDS, SCORES


@pytest.fixture(params=["scores.csv", "scores.jsonl"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(write_scores(tmp_path / request.param, IDS[::-1], SCORES[::-1]))
