"""`esc_t` against its own formula, written out again by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from eigenforget.core import seeds
from eigenforget.core.notices import EigenforgetWarning
from eigenforget.data.sources import TensorSource
from eigenforget.methods.base import Task
from eigenforget.methods.esc_t import ESCT
from tests.numerics.method_toys import wide_task


def esc_t_by_hand(task: Task, method: ESCT) -> tuple[Tensor, Tensor]:
    """The mask after projected SGD, and U, by explicit loops over samples."""
    with torch.no_grad():
        features = task.model[:2](task.forget.inputs).float().double()  # type: ignore[attr-defined, index]
    u = torch.as_tensor(np.linalg.svd(features.numpy().T, full_matrices=False)[0])
    head, mask = task.model[2], torch.ones_like(u)  # type: ignore[index]
    source = TensorSource(features, task.forget.targets)  # type: ignore[attr-defined]
    for cycle in range(method.epochs):
        for batch in source.batches(
            method.batch_size, seeds.generator(task.seed, "order", "mask", cycle)
        ):
            mask = mask.detach().requires_grad_()
            v = u * mask
            kept = torch.eye(len(u), dtype=torch.float64) - u @ u.T
            terms = []
            for f, y in zip(batch.inputs, batch.labels, strict=True):
                logits = head.weight.detach() @ (v @ (v.T @ f) + kept @ f) + head.bias.detach()
                if logits.argmax() == y:
                    p = torch.softmax(logits, 0)[y]
                    terms.append(-torch.log(1 - p) if method.loss == "paper" else torch.log(p))
            if terms:
                (gradient,) = torch.autograd.grad(torch.stack(terms).mean(), mask)
                mask = (mask - method.lr * gradient).clamp(0, 1)
    return mask.detach(), u


@pytest.mark.parametrize("loss", ["paper", "code"])
@pytest.mark.parametrize("forget_rows", [25, 8])
def test_esc_t_equals_projected_sgd_written_out(loss: Any, forget_rows: int) -> None:
    task = wide_task(forget_rows)
    method = ESCT(epochs=6, lr=6.0, loss=loss, batch_size=7, threshold=0.6)
    result = method(replace(task, retain=None))
    mask, u = esc_t_by_hand(task, method)
    assert (mask - 0.6).abs().min() > 1e-4, (
        "no entry is so near the threshold that rounding decides"
    )
    assert (mask == 0).any() and (mask == 1).any() and ((mask > 0) & (mask < 1)).any()
    v = u * (mask > 0.6)
    old = task.model[2].weight.detach()  # type: ignore[index]
    expected = old @ (v @ v.T + torch.eye(12, dtype=torch.float64) - u @ u.T)
    torch.testing.assert_close(result[2].weight.detach(), expected, rtol=1e-4, atol=1e-5)  # type: ignore[index]
    changed = [
        name
        for name, w in result.state_dict().items()
        if not torch.equal(w, task.model.state_dict()[name])
    ]
    assert changed == ["2.weight"] and (expected - old).abs().max() > 0.05


def test_esc_t_stands_still_where_nothing_is_classified_correctly() -> None:
    task = wide_task(25)
    wrong = TensorSource(task.forget.inputs, (task.forget.targets + 1) % 3)  # type: ignore[attr-defined]
    for loss in ("paper", "code"):
        result = ESCT(lr=100.0, loss=loss)(replace(task, forget=wrong))  # type: ignore[arg-type]
        torch.testing.assert_close(result[2].weight, task.model[2].weight, rtol=1e-12, atol=1e-12)  # type: ignore[index]


def test_a_mask_that_stays_above_the_threshold_is_said() -> None:
    task = wide_task(25)
    method = ESCT(epochs=6, lr=1e-3, batch_size=7)
    mask, _ = esc_t_by_hand(task, method)
    least = f"{float(mask.min()):.3g}"
    words = f"after 6 epochs the smallest entry of its mask is {least}, above the threshold of 0.7"
    with pytest.warns(EigenforgetWarning, match=words):
        result = method(task)
    torch.testing.assert_close(result[2].weight, task.model[2].weight, rtol=1e-12, atol=1e-12)  # type: ignore[index]
