"""`delete` against its own formula, written out again by hand."""

from __future__ import annotations

from dataclasses import replace

import torch
from scipy.special import softmax
from torch import Tensor, nn

from eigenforget.methods.base import Task
from eigenforget.methods.delete import DELETE
from tests.numerics.method_toys import accuracy, equal_weights, trained_by_hand


def test_delete_is_the_published_kl_on_forget_data(small: Task) -> None:
    """Target with the true logit at −1e10, KL summed over classes in a loop, mean over the
    batch.
    """
    method = DELETE(epochs=2, lr=0.1, momentum=0.9, weight_decay=0.01, batch_size=4)

    def loss(model: nn.Module, x: Tensor, y: Tensor, positions: Tensor) -> Tensor:
        teacher = small.model(x).detach().clone()
        teacher[torch.arange(len(y)), y] = -1e10
        q = torch.as_tensor(softmax(teacher.numpy(), axis=1))
        p = torch.softmax(model(x), 1)
        rows = []
        for i in range(len(y)):
            rows.append(
                sum(q[i, c] * torch.log(q[i, c] / p[i, c]) for c in range(4) if q[i, c] > 0)
            )
        return torch.stack(rows).mean()  # type: ignore[arg-type]

    sgd = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    hand = trained_by_hand(small, loss, phase="forget", epochs=2, batch_size=4, sgd=sgd)
    equal_weights(method(replace(small, retain=None)), hand, small.model)


def test_delete_forgets_and_keeps(task: Task) -> None:
    result = DELETE()(replace(task, retain=None))
    assert accuracy(task, result, task.forget) < 0.1 and accuracy(task, result, task.retain) > 0.97  # type: ignore[arg-type]
