"""`esc` against its own formula, written out again by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eigenforget.core.errors import Refused
from eigenforget.evaluation.evaluate import evaluate
from eigenforget.methods.base import Task
from eigenforget.methods.esc import ESC
from eigenforget.methods.esc_t import ESCT
from tests.numerics.method_toys import wide_task


@pytest.mark.parametrize(
    ("forget_rows", "percent", "k"), [(40, 1.5, 1), (40, 25.0, 3), (5, 25.0, 3), (2, 99.0, 2)]
)
def test_esc_equals_the_projection_by_numpy(forget_rows: int, percent: float, k: int) -> None:
    task = wide_task(forget_rows)
    result = ESC(drop_percent=percent)(replace(task, retain=None))
    features = task.model[:2](task.forget.inputs).detach().numpy()  # type: ignore[attr-defined, index]
    u = np.linalg.svd(features.T)[0][:, :k]
    p = np.eye(12) - u @ u.T
    np.testing.assert_allclose(p @ p, p, atol=1e-12)
    old, new = task.model[2], result[2]  # type: ignore[index]
    # Features come out of the engine in float32, hence the tolerances.
    np.testing.assert_allclose(
        new.weight.detach().numpy(), old.weight.detach().numpy() @ p, atol=1e-6
    )
    for direction in u.T:
        logits = new(torch.as_tensor(37.0 * direction))
        torch.testing.assert_close(logits, old.bias, rtol=1e-5, atol=1e-5)
    rest = torch.as_tensor(p @ np.arange(12.0))
    torch.testing.assert_close(new(rest), old(rest), rtol=1e-5, atol=1e-5)
    changed = [
        name
        for name, v in result.state_dict().items()
        if not torch.equal(v, task.model.state_dict()[name])
    ]
    assert changed == ["2.weight"]


def test_esc_folds_a_projection_that_is_idempotent_and_symmetric() -> None:
    task = wide_task(30)
    with torch.no_grad():
        wide = nn.Sequential(*task.model[:2], nn.Linear(12, 12)).double()  # type: ignore[index]
        wide[2].weight.copy_(torch.eye(12))
    p = ESC(drop_percent=20.0)(replace(task, model=wide, num_classes=12))[2].weight.detach()  # type: ignore[index]
    torch.testing.assert_close(p @ p, p, rtol=0, atol=1e-12)
    torch.testing.assert_close(p, p.T, rtol=0, atol=1e-12)
    assert torch.linalg.matrix_rank(p, atol=1e-8) == 10
    again = ESC(drop_percent=20.0)(replace(task, model=wide, num_classes=12))
    torch.testing.assert_close(again[2].weight, p)  # type: ignore[index]


def test_esc_leaves_features_alone_and_says_so(task: Task) -> None:
    results = {"esc": ESC()(task), "esc_t": ESCT()(task)}
    found = evaluate(
        {"original": task.model, **results},
        forget=task.forget,
        retain=task.retain,
        test=task.retain,
        allow_overlap=True,
    ).measured
    for name in results:
        assert found[name].value("forget_accuracy") < 0.1  # type: ignore[operator]
        assert found[name].value("retain_accuracy") > 0.95  # type: ignore[operator]
        for feature_score in ("da", "nmi", "cluster_f1"):
            assert found[name].value(feature_score) == found["original"].value(feature_score)
    for kind in (ESC, ESCT):
        assert "original weights still present" in kind.guarantee and "the original's" in " ".join(
            (kind.__doc__ or "").split()
        )


class Tokens(nn.Module):
    """A head on every token; the answers are averaged, or the largest are taken."""

    def __init__(self, *, mean: bool) -> None:
        super().__init__()
        self.mean = mean
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        answers = self.head(x.view(-1, 2, 3))
        return answers.mean(1) if self.mean else answers.amax(1)


@pytest.mark.parametrize("kind", [ESC, ESCT])
def test_esc_refuses_heads_that_do_not_read_one_vector(kind: Callable[[], Any]) -> None:
    task = replace(wide_task(5), model=Tokens(mean=False).double())
    with pytest.raises(
        Refused, match=r"esc(_t)? needs one feature vector .* head, got 6 values for 3 inputs"
    ):
        kind()(task)


def test_where_answers_of_a_head_are_averaged_esc_projects_the_mean_feature() -> None:
    task = replace(wide_task(5), model=Tokens(mean=True).double())
    result = ESC()(task)
    features = task.forget.inputs.view(-1, 2, 3).mean(1)  # type: ignore[attr-defined]
    u = torch.linalg.svd(features.T)[0][:, :1]
    weight = task.model.get_parameter("head.weight")
    torch.testing.assert_close(result.get_parameter("head.weight"), weight - weight @ u @ u.T)
