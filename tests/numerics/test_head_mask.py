"""`head_mask` against its own formula, written out again by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from eigenforget.core.errors import Refused
from eigenforget.evaluation.evaluate import evaluate
from eigenforget.methods import HeadMask
from eigenforget.methods.base import Task


def test_head_mask_changes_one_bias_and_no_feature(task: Task) -> None:
    result = HeadMask()(task)
    changed = [
        k for k, v in result.state_dict().items() if not torch.equal(v, task.model.state_dict()[k])
    ]
    assert len(changed) == 1 and changed[0].endswith("bias")
    difference = result.state_dict()[changed[0]] - task.model.state_dict()[changed[0]]
    assert (
        difference.nonzero().flatten().tolist() == [3]
        and result.state_dict()[changed[0]][3] == -1e4
    )
    found = evaluate(
        {"original": task.model, "cheat": result},
        forget=task.forget,
        retain=task.retain,
        test=task.retain,
        allow_overlap=True,
    )
    original, cheat = found.measured["original"], found.measured["cheat"]
    assert cheat.value("forget_accuracy") == 0.0 and original.value("forget_accuracy") > 0.9  # type: ignore[operator]
    for name in ("da", "da_energy", "nmi", "cluster_f1"):
        assert cheat.value(name) == original.value(name), "features are bit for bit the original's"
    with pytest.raises(Refused, match="whole"):
        HeadMask()(replace(task, forgotten_classes=()))
    with pytest.raises(Refused, match="bias"):
        HeadMask()(replace(task, model=nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))))
