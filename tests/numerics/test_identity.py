"""`identity` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
from dataclasses import replace

from eigenforget.methods.base import Task
from eigenforget.methods.identity import Identity
from tests.numerics.method_toys import changed


def test_identity_is_the_original_bit_for_bit(task: Task) -> None:
    training = copy.deepcopy(task.model).train()
    result = Identity()(replace(task, model=training, retain=None))
    assert training.training and not changed(result, training) and result is not training
    assert (
        result is not task.model
        and not changed(result, task.model)
        and not any(m.training for m in result.modules())
    )
    assert not {p.data_ptr() for p in result.parameters()} & {
        p.data_ptr() for p in task.model.parameters()
    }
