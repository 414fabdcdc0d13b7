"""An experiment."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn

from eigenforget.core.errors import Refused
from eigenforget.experiments.experiment import Experiment
from eigenforget.methods import DELETE, MUDA


def test_no_retained_data_is_what_a_share_of_zero_means(
    digits: Experiment, trained: nn.Module
) -> None:
    none = replace(digits, retain_fraction=0.0)
    with pytest.raises(Refused, match="muda needs retain data"):
        none.unlearn(trained, MUDA(), seed=0)
    made = none.unlearn(trained, DELETE(epochs=1), seed=0)
    assert any(
        not (a == b).all()
        for a, b in zip(made.model.parameters(), trained.parameters(), strict=True)
    )
