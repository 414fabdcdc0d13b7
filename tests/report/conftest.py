"""The models that several tests of a report share."""

from __future__ import annotations

import pytest

from eigenforget.record import (
    RunRecord,
)
from tests.report.page_toys import MODELS, model_record, sealed


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    return sealed([model_record(name) for name in MODELS])


@pytest.fixture(scope="module")
def no_oracle(records: list[RunRecord]) -> list[RunRecord]:
    return [r for r in records if r.role != "oracle"]
