"""Several methods side by side: frozen norms and what the defaults reach on digits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from eigenforget.methods.bad_teacher import BadTeacher
from eigenforget.methods.base import Task
from eigenforget.methods.boundary_expand import BoundaryExpand
from eigenforget.methods.boundary_shrink import BoundaryShrink
from eigenforget.methods.delete import DELETE
from eigenforget.methods.gradient_ascent import GradientAscent
from eigenforget.methods.neg_grad_plus import NegGradPlus
from eigenforget.methods.not_ import NoT
from eigenforget.methods.retrain import Retrain
from eigenforget.methods.scrub import SCRUB
from tests.numerics.method_toys import changed


@pytest.mark.parametrize("method", [DELETE, BoundaryShrink, BoundaryExpand])
def test_frozen_norm_keeps_every_statistic(method: type, task: Task) -> None:
    moved = changed(method(epochs=1, norm="train")(task), task.model)
    kept = changed(method(epochs=1, norm="frozen")(task), task.model)
    statistics = {name for name in moved if "running" in name or "num_batches" in name}
    assert statistics and not kept & statistics
    assert {n for n in kept if n.endswith("weight")} == {n for n in moved if n.endswith("weight")}


@pytest.mark.parametrize(
    ("method", "highest", "lowest"),
    [
        (Retrain(epochs=8, batch_size=64), 0.02, 0.97),
        (GradientAscent(), 0.15, 0.85),
        (NegGradPlus(), 0.15, 0.97),
        (BadTeacher(), 0.2, 0.95),
        (SCRUB(), 0.1, 0.97),
        (NoT(), 0.1, 0.95),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_defaults_forget_a_digit_and_keep_the_others(
    method: Any, highest: float, lowest: float, task: Task
) -> None:
    result = method(task)
    with torch.no_grad():
        hits = [
            (result(s.inputs).argmax(1) == s.targets).double().mean().item()
            for s in (task.forget, task.retain)
        ]  # type: ignore[union-attr]
    assert hits[0] <= highest and hits[1] >= lowest, (
        f"forget accuracy {hits[0]:.3f}, retain accuracy {hits[1]:.3f}"
    )
