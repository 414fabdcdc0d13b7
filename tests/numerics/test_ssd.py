"""`ssd` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eigenforget.core.errors import Refused
from eigenforget.evaluation.evaluate import evaluate
from eigenforget.methods.base import Task
from eigenforget.methods.lfssd import LFSSD
from eigenforget.methods.ssd import SSD, adaptive_alpha
from eigenforget.training.engine import Engine
from tests.numerics.method_toys import close_weights, loss_gradient, rows


def importance(model: nn.Module, data: list[tuple[Tensor, int]]) -> list[np.ndarray]:
    singles = [[g.numpy() ** 2 for g in loss_gradient(model, x, y)] for x, y in data]
    return [np.mean([s[i] for s in singles], axis=0) for i in range(len(singles[0]))]


def ssd_by_hand(task: Task, alpha: float, dampening: float) -> list[np.ndarray]:
    of_forget = importance(task.model, rows(task.forget))
    of_all = importance(task.model, rows(task.forget) + rows(task.retain))
    found = []
    for p, f, d in zip(task.model.parameters(), of_forget, of_all, strict=True):
        new = p.detach().numpy().copy()
        for at in np.ndindex(new.shape):
            if f[at] > alpha * d[at]:
                new[at] *= min(dampening * d[at] / f[at], 1.0)
        found.append(new)
    return found


@pytest.mark.parametrize(("alpha", "dampening"), [(1.0, 1.0), (1.3, 0.4), (0.7, 3.0)])
def test_ssd_equals_the_formula_weight_by_weight(
    small: Task, alpha: float, dampening: float
) -> None:
    result = SSD(alpha=alpha, dampening=dampening)(small)
    expected = ssd_by_hand(small, alpha, dampening)
    for a, b in zip(result.parameters(), expected, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b, rtol=1e-12)
    kept = [
        float((torch.as_tensor(b) == o).double().mean())
        for b, o in zip(expected, small.model.parameters(), strict=True)
    ]
    assert 0.05 < np.mean(kept) < 0.95


def test_ssd_ignores_batches_and_order(small: Task) -> None:
    reference = SSD(alpha=1.2)(small)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0)).numpy()
    mixed = replace(
        small, forget=small.forget.subset(order[order < 10]), retain=small.retain.subset(order)
    )  # type: ignore[union-attr]
    for chunk, which in ((1, small), (7, mixed), (1000, mixed)):
        close_weights(SSD(alpha=1.2, chunk=chunk)(which), reference, 1e-12)


@pytest.mark.parametrize("kind", [SSD, LFSSD])
def test_an_alpha_that_can_select_nothing_is_refused_before_any_work(
    kind: Any, small: Task
) -> None:
    # I_D ≥ (N_f / N) I_f, so no ratio exceeds N / N_f = 4.
    meter = Engine(device="cpu")
    for alpha in (4.0, 10.0):
        with pytest.raises(Refused, match=rf"{kind.name}\(alpha={alpha}.*at most .* 4.*batch"):
            kind(alpha=alpha)(replace(small, engine=meter))
    assert meter.meter.trained == 0
    for estimator in ("sample", "batch"):
        with pytest.raises(Refused, match=r"largest ratio .* is [\d.e+]+; .*alpha"):
            kind(alpha=3.99999 if estimator == "sample" else 1e9, estimator=estimator)(small)


def test_ssd_over_batches_squares_the_mean_gradient_of_each(small: Task) -> None:
    """As the authors' code: batches of the retain set, then of the forget set, in their order."""
    method = SSD(alpha=1.0, estimator="batch", batch_size=7)
    both = rows(small.retain) + rows(small.forget)

    def of_batches(data: list[tuple[Tensor, int]]) -> list[np.ndarray]:
        squares = []
        for start in range(0, len(data), 7):
            batch = [loss_gradient(small.model, x, y) for x, y in data[start : start + 7]]
            means = [np.mean([g[i].numpy() for g in batch], axis=0) for i in range(4)]
            squares.append([mean**2 for mean in means])
        return [np.mean([s[i] for s in squares], axis=0) for i in range(4)]

    pairs = zip(of_batches(rows(small.forget)), of_batches(both), strict=True)
    result, changed = method(small), 0
    for p, o, (f, d) in zip(result.parameters(), small.model.parameters(), pairs, strict=True):
        expected = np.where(f > d, np.minimum(d / f, 1), 1) * o.detach().numpy()
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-9)
        changed += int((f > d).sum())
    assert changed > 5
    meter = Engine(device="cpu")
    method_of_few = SSD(estimator="batch", batch_size=7, importance_samples=10)
    method_of_few(replace(small, engine=meter))
    assert meter.meter.trained == 20


def test_ssd_adaptive_alpha_is_the_percentile_of_all_ratios(small: Task) -> None:
    of_forget = importance(small.model, rows(small.forget))
    of_all = importance(small.model, rows(small.forget) + rows(small.retain))
    ratios = np.concatenate([(f / d).ravel() for f, d in zip(of_forget, of_all, strict=True)])
    alpha = float(np.percentile(ratios, 100 - math.log(1 + 100 * 10 / 40)))
    close_weights(SSD()(small), SSD(alpha=alpha)(small), 1e-12)
    moved = sum(
        int((a != b).sum())
        for a, b in zip(SSD()(small).parameters(), small.model.parameters(), strict=True)
    )
    assert moved == int((ratios > alpha).sum()) and 1 <= moved <= math.ceil(0.0326 * len(ratios))
    assert (
        adaptive_alpha(
            {"a": torch.tensor([1.0, 5.0, 7.0])}, {"a": torch.tensor([1.0, 2.5, 0.0])}, 0.0
        )
        == 2.0
    )


def test_ssd_caps_its_samples_and_forgets_a_class(task: Task) -> None:
    result = SSD(importance_samples=60)(replace(task, engine=(meter := Engine(device="cpu"))))
    assert meter.meter.trained == 120
    close_weights(SSD(importance_samples=10**6)(task), SSD()(task), 0.0)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(result.parameters(), SSD()(task).parameters(), strict=True)
    )
    found = evaluate(
        {"ssd": SSD(alpha=2.0)(task)},
        forget=task.forget,
        retain=task.retain,
        test=task.retain,
        allow_overlap=True,
    ).measured["ssd"]
    assert found.value("forget_accuracy") < 0.5 and found.value("retain_accuracy") > 0.9  # type: ignore[operator]
    statistics = dict(task.model.named_buffers())
    assert all(torch.equal(b, statistics[k]) for k, b in result.named_buffers())


@pytest.mark.parametrize("method", [SSD(), LFSSD()], ids=lambda method: method.name)
def test_a_model_without_any_gradient_is_refused(small: Task, method: Any) -> None:
    still = copy.deepcopy(small.model)
    for parameter in still.parameters():
        parameter.data.zero_()
    head = next(m for m in reversed(list(still.modules())) if isinstance(m, nn.Linear))
    head.bias.data[int(small.forget.labels()[0])] = 1e4
    certain = small.forget.subset(np.flatnonzero(small.forget.labels() == small.forget.labels()[0]))
    if method.name == "lfssd":  # its loss is the squared norm of the logits
        head.bias.data.zero_()
    with pytest.raises(Refused, match=f"^{method.name}: no weight matters"):
        method(replace(small, model=still, forget=certain, retain=certain))
