"""Probed MUDA against the algorithm written out by hand, its probe against scikit-learn, and what
its redrawn head guarantees.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.core.types import Batch
from eigenforget.data.sources import Source, TensorSource
from eigenforget.methods import ProbedMUDA
from eigenforget.methods.base import Task
from eigenforget.methods.fitted_probe import FittedProbe
from eigenforget.methods.retained import feature_error


def drawn(task: Task, batch: int, epoch: int, steps: int) -> Iterator[tuple[Batch, Batch]]:
    """The batches of one epoch: both sources take turns at one generator, the forget
    source first.
    """
    generator = seeds.generator(task.seed, "order", "forget", epoch)

    def endless(source: Source) -> Iterator[Batch]:
        while True:
            yield from source.batches(batch, generator)

    assert task.retain is not None
    forget, retain = endless(task.forget), endless(task.retain)
    return itertools.islice(((f, next(retain)) for f in forget), steps)


def masked(logits: Tensor) -> np.ndarray:
    p = np.exp(logits.detach().numpy())
    p[:, 2] = 0
    return np.asarray(p / p.sum(1, keepdims=True))


def divergence(q: np.ndarray, logits: Tensor) -> Tensor:
    log_p = logits - torch.logsumexp(logits, 1, keepdim=True)
    total = torch.zeros((), dtype=torch.float64)
    for i, j in itertools.product(range(q.shape[0]), range(q.shape[1])):
        if q[i, j] > 0:
            total = total + q[i, j] * (math.log(q[i, j]) - log_p[i, j])
    return total / len(q)


def by_hand(task: Task, method: ProbedMUDA) -> nn.Module:
    model, original = copy.deepcopy(task.model), task.model
    parameters = list(model.parameters())
    velocity = [torch.zeros_like(p) for p in parameters]
    rows: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    probe: tuple[np.ndarray, ...] = ()
    step, total = 0, method.epochs * method.steps
    for epoch in range(method.epochs):
        for f, r in drawn(task, method.batch_size, epoch, method.steps):
            z_f, z_r, o_r = (
                model[:2](f.inputs),
                model[:2](r.inputs),
                original[:2](r.inputs).detach(),
            )  # type: ignore[index]
            q_f, q_r = masked(original(f.inputs)), masked(original(r.inputs))
            loss = method.w_sd * divergence(q_f, model[2](z_f)) + method.w_logits * divergence(
                q_r, model[2](z_r)
            )  # type: ignore[index]
            centred = o_r - o_r.mean(0)
            loss = loss + method.w_features * ((z_r - o_r) ** 2).sum() / (centred**2).sum()
            chosen = torch.log_softmax(model[2](z_r), 1)[torch.arange(len(r.labels)), r.labels]  # type: ignore[index]
            loss = loss - method.w_labels * chosen.sum() / len(chosen)
            if method.w_probe > 0:
                rows += [z_f.detach().numpy(), z_r.detach().numpy()]
                labels += [f.labels.numpy(), r.labels.numpy()]
                if step % method.probe_every == 0:
                    probe = solved(
                        rows[-2 * method.memory :], labels[-2 * method.memory :], method.probe_decay
                    )
                mean, scale, weight, bias = map(torch.as_tensor, probe)
                loss = loss + method.w_probe * divergence(
                    q_f, (z_f - mean) / scale @ weight.T + bias
                )
            grads = torch.autograd.grad(loss, parameters)
            norm = math.sqrt(sum(float((g**2).sum()) for g in grads))
            lr = method.lr * 0.5 * (1 + math.cos(math.pi * step / total))
            with torch.no_grad():
                for p, v, g in zip(parameters, velocity, grads, strict=True):
                    d = g * min(1.0, method.clip / (norm + 1e-6)) + method.weight_decay * p
                    v.mul_(method.momentum).add_(d)
                    p.sub_(lr * (d + method.momentum * v))
            step += 1
    if method.redraw_head:
        head = model[2]  # type: ignore[index]
        with torch.no_grad():
            head.weight[2] = (head.weight[0] + head.weight[1] + head.weight[3]) / 3
            head.bias[2] = (head.bias[0] + head.bias[1] + head.bias[3]) / 3 - method.margin
    return model


def solved(
    rows: list[np.ndarray], labels: list[np.ndarray], decay: float
) -> tuple[np.ndarray, ...]:
    """scikit-learn's optimum of the same objective: mean, scale, weights, biases."""
    x, y = np.concatenate(rows), np.concatenate(labels)
    mean, scale = x.mean(0), x.std(0)
    fitted = LogisticRegression(C=1 / (2 * decay * len(y)), tol=1e-12, max_iter=10_000).fit(
        (x - mean) / scale, y
    )
    return mean, scale, fitted.coef_, fitted.intercept_


FIELDS: list[dict[str, float]] = [
    {"w_probe": 0},
    {"w_sd": 0, "redraw_head": False},
    {},
    {"probe_every": 1, "memory": 1},
    {"w_labels": 0},
    {"w_logits": 0},
    {"w_features": 0},
    {"margin": 2.0},
]


@pytest.mark.parametrize("fields", FIELDS, ids=str)
def test_is_the_algorithm_written_out_by_hand(
    small: Task, fields: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    # With enough iterations the probe is the optimum, which does not depend on the solver; the
    # penalty makes it unique but for a shift of all biases, which no softmax sees.
    monkeypatch.setattr(FittedProbe.__init__, "__kwdefaults__", {"iterations": 500})
    method = ProbedMUDA(
        **(
            {
                "epochs": 2,
                "steps": 4,
                "batch_size": 8,
                "probe_every": 3,
                "memory": 2,
                "probe_decay": 0.05,
            }
            | fields
        )
    )  # type: ignore[arg-type]
    expected, found = by_hand(small, method), method(small)
    for (name, a), b in zip(
        found.state_dict().items(), expected.state_dict().values(), strict=True
    ):
        np.testing.assert_allclose(
            a.numpy(), b.numpy(), rtol=1e-4, atol=2e-5, err_msg=name
        )  # losses are float32 in the engine
    assert not torch.allclose(found[0].weight, small.model[0].weight, atol=1e-3)  # type: ignore[index]


@pytest.mark.parametrize("decay", [1e-3, 0.1])
def test_probe_is_scikit_learns_logistic_regression(decay: float) -> None:
    g = torch.Generator().manual_seed(5)
    y = torch.arange(60) % 3
    x = (
        torch.randn(60, 4, generator=g, dtype=torch.float64) * torch.tensor([1.0, 5, 0.1, 2])
        + y[:, None]
    )
    probe = FittedProbe(3, batches=2, decay=decay, iterations=500)
    for part in range(3):  # the first third is forgotten by the memory of two
        probe.remember(x[part * 20 : part * 20 + 20], y[part * 20 : part * 20 + 20])
    probe.fit()
    mean, scale, weight, bias = solved([x[20:].numpy()], [y[20:].numpy()], decay)
    expected = (x.numpy() - mean) / scale @ weight.T + bias
    np.testing.assert_allclose(
        probe(x).softmax(1).numpy(), torch.as_tensor(expected).softmax(1).numpy(), atol=2e-3
    )


def test_probe_is_a_constant_for_the_features_gradient() -> None:
    x = torch.randn(
        12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).requires_grad_()
    probe = FittedProbe(2, batches=1, decay=0.1)
    probe.remember(x, torch.arange(12) % 2)
    probe.fit()
    assert torch.autograd.gradcheck(probe, (x.detach().clone().requires_grad_(),))
    probe(x.detach()).sum()
    assert x.grad is None


def test_feature_error_is_one_where_features_became_their_mean() -> None:
    original = torch.randn(9, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert feature_error(original.mean(0).expand(9, 4), original).item() == pytest.approx(1)
    assert feature_error(original, original).item() == 0
    assert math.isfinite(feature_error(torch.zeros(3, 4), torch.zeros(3, 4)).item())
    assert torch.autograd.gradcheck(
        lambda f: feature_error(f, original),
        (torch.rand(9, 4, dtype=torch.float64, requires_grad=True),),
    )


def test_redrawn_class_is_never_predicted_by_at_least_the_margin(small: Task) -> None:
    # A redrawn logit is the mean of the retained ones less the margin, and a mean is at most the
    # largest.
    found = ProbedMUDA(epochs=1, steps=2, batch_size=8, margin=1.5)(small)
    logits = found(
        torch.randn(500, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 10
    )
    kept = logits[:, [0, 1, 3]]
    torch.testing.assert_close(logits[:, 2], kept.mean(1) - 1.5)
    assert bool((logits[:, 2] <= kept.amax(1) - 1.5).all())


def test_a_probe_finds_the_class_less_than_without_w_probe(small: Task) -> None:
    """The class lies apart in its inputs; distillation alone leaves it apart in the features."""
    g = torch.Generator().manual_seed(7)
    y = torch.arange(800) % 4
    centres = 2.5 * torch.eye(4, 6, dtype=torch.float64)
    x = centres[y] + torch.randn(800, 6, generator=g, dtype=torch.float64)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4)).double()
    solver = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        solver.zero_grad()
        nn.functional.cross_entropy(model(x[:400]), y[:400]).backward()
        solver.step()
    seen, gone = torch.arange(800) < 400, y == 2
    task = replace(
        small,
        model=model,
        forget=TensorSource(x[seen & gone], y[seen & gone]),
        retain=TensorSource(x[seen & ~gone], y[seen & ~gone]),
    )

    def found(w_probe: float) -> tuple[float, float]:
        result = ProbedMUDA(w_probe=w_probe, epochs=6, batch_size=64)(task)
        features = result[:2](x).detach().numpy()  # type: ignore[index]
        probe = LogisticRegression().fit(features[:400], y[:400])
        kept = float((result(x[~seen & ~gone]).argmax(1) == y[~seen & ~gone]).double().mean())
        return float(probe.score(features[400:][gone[400:]], y[400:][gone[400:]])), kept

    (without, kept), (probed, still_kept) = found(0), found(2.0)
    assert without > 0.8 and probed < without - 0.1 and still_kept > kept - 0.05


def test_refuses_with_a_reason(small: Task) -> None:
    with pytest.raises(Refused, match="needs a class that is forgotten as a whole"):
        ProbedMUDA()(replace(small, forgotten_classes=()))
    with pytest.raises(Refused, match="w_sd or w_probe above 0"):
        ProbedMUDA(w_sd=0, w_probe=0)(small)
    bare = replace(
        small, model=nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4, bias=False)).double()
    )
    with pytest.raises(Refused, match="2 has no bias; redraw_head=False"):
        ProbedMUDA()(bare)
    assert ProbedMUDA(epochs=1, steps=1, redraw_head=False)(bare)[2].weight.shape == (4, 5)  # type: ignore[index]


def test_says_which_scores_it_trains_on() -> None:
    assert (
        ProbedMUDA().optimises == ("lp_forget", "lp_few_forget")
        and ProbedMUDA(w_probe=0).optimises == ()
    )
