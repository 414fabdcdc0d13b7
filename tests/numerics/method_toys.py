"""Shared by the numeric tests of methods: toy tasks, SGD by hand and comparisons of models."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.data.sources import Source, TensorSource
from eigenforget.methods.base import Task
from eigenforget.training.engine import Engine

SEED = 3
Loss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


def accuracy(task: Task, model: nn.Module, source: TensorSource) -> float:
    hits = sum(
        int((o.logits.argmax(1) == b.labels).sum()) for b, o in task.engine.forward(model, source)
    )
    return hits / len(source)


def equal_weights(found: nn.Module, hand: nn.Module, start: nn.Module) -> None:
    moved = 0.0
    for a, b, c in zip(found.parameters(), hand.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)  # losses are float32 in the engine
        moved = max(moved, (a - c).detach().abs().max().item())
    assert moved > 1e-3, "the weights must have moved, or the comparison shows nothing"


def trained_by_hand(
    task: Task, loss: Loss, *, phase: str, epochs: int, batch_size: int, sgd: dict[str, float]
) -> nn.Module:
    """Nesterov SGD over the forget data; loss(model, x, y, positions)."""
    hand = copy.deepcopy(task.model)
    step = torch.optim.SGD(hand.parameters(), nesterov=True, **sgd)  # type: ignore[arg-type]
    for cycle in range(epochs):
        for batch in task.forget.batches(batch_size, seeds.generator(SEED, "order", phase, cycle)):
            step.zero_grad()
            loss(hand, batch.inputs, batch.labels, batch.positions).backward()
            step.step()
    return hand


def input_gradient(model: nn.Module, x: np.ndarray, label: int) -> np.ndarray:
    """∇_x CE of tanh network with the chain rule by hand: W1ᵀ ((1 − h²) ∘ W2ᵀ (p − e_y))."""
    w1, b1, w2, b2 = (p.detach().numpy() for p in model.parameters())
    h = np.tanh(w1 @ x + b1)
    error = softmax(w2 @ h + b2)
    error[label] -= 1
    return w1.T @ ((1 - h**2) * (w2.T @ error))


def logits_by_hand(model: nn.Module, x: np.ndarray) -> np.ndarray:
    w1, b1, w2, b2 = (p.detach().numpy() for p in model.parameters())
    return w2 @ np.tanh(w1 @ x + b1) + b2


def source(
    n: int, classes: tuple[int, ...], seed: int, shape: tuple[int, ...] = (6,)
) -> TensorSource:
    g = torch.Generator().manual_seed(seed)
    labels = torch.tensor(classes)[torch.arange(n) % len(classes)]
    inputs = torch.randn(n, *shape, generator=g, dtype=torch.float64)
    inputs.flatten(1)[torch.arange(n), labels] += 2.0
    return TensorSource(inputs, labels)


def task_of(model: nn.Module, forget: Source, retain: Source, gone: tuple[int, ...] = (2,)) -> Task:
    engine = Engine(device="cpu", precision="64-true")
    return Task(
        model=model,
        forget=forget,
        retain=retain,
        engine=engine,
        seed=3,
        num_classes=4,
        forgotten_classes=gone,
    )


def conv_net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    blocks = [
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Conv2d(3, 4, 2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
    ]
    model = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(4, 4)).double().train()
    for _ in range(3):
        model(torch.randn(8, 1, 4, 4, dtype=torch.float64) * 2 + 1)
    return model.eval()


class Sgd:
    """Nesterov momentum with L2 penalty and a limit on the gradient norm, as torch defines them."""

    def __init__(self, model: nn.Module, names: Callable[[str], bool] = lambda name: True) -> None:
        self.parameters = [p for name, p in model.named_parameters() if names(name)]
        self.velocity = [torch.zeros_like(p) for p in self.parameters]

    def step(
        self,
        loss: Tensor,
        *,
        lr: float,
        momentum: float = 0.9,
        decay: float = 0.0,
        clip: float = 0.0,
    ) -> None:
        grads = torch.autograd.grad(loss, self.parameters)
        norm = math.sqrt(sum(float((g**2).sum()) for g in grads))
        scale = min(1.0, clip / (norm + 1e-6)) if clip else 1.0
        with torch.no_grad():
            for p, v, g in zip(self.parameters, self.velocity, grads, strict=True):
                g = g * scale + decay * p
                v.mul_(momentum).add_(g)
                p.sub_(lr * (g + momentum * v))


def batches(data: Source | None, size: int, phase: str, cycle: int, seed: int = 3) -> list[Any]:
    assert data is not None
    return list(data.batches(size, seeds.generator(seed, "order", phase, cycle)))


def ce(model: nn.Module, batch: Any) -> Tensor:
    """Mean cross-entropy, sample by sample."""
    probs = torch.softmax(model(batch.inputs), 1)
    return -sum(torch.log(probs[i, y]) for i, y in enumerate(batch.labels.tolist())) / len(
        batch.labels
    )  # type: ignore[return-value]


def kl(target: Tensor, logits: Tensor) -> Tensor:
    """mean_i Σ_c q_ic (log q_ic − log p_ic), entry by entry."""
    p = torch.softmax(logits, 1)
    total = sum(
        q * (torch.log(q) - torch.log(p[i, c]))
        for i, row in enumerate(target)
        for c, q in enumerate(row)
    )
    return total / len(target)  # type: ignore[return-value]


def equal_states(
    result: nn.Module, hand: nn.Module, original: nn.Module, moved: float = 1e-2
) -> None:
    for (name, a), b in zip(result.state_dict().items(), hand.state_dict().values(), strict=True):
        assert torch.allclose(a.double(), b.double(), rtol=1e-4, atol=2e-6), (
            name
        )  # losses are float32 in the engine
    pairs = zip(result.parameters(), original.parameters(), strict=True)
    assert max((a - b).abs().max().item() for a, b in pairs) > moved


def changed(result: nn.Module, original: nn.Module) -> set[str]:
    """The names of the tensors that are not bit for bit the original's."""
    mine, theirs = result.state_dict(), original.state_dict()
    assert list(mine) == list(theirs)
    return {name for name in mine if not torch.equal(mine[name], theirs[name])}


class Forbidden:
    """Data that must not be read."""

    def __len__(self) -> int:
        return 10

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the forget data was read: {name}")


class Watched(Task):
    """A task that remembers the teachers it lent."""

    def teacher(self) -> nn.Module:
        lent = super().teacher()
        self.__dict__.setdefault("lent", []).append(lent)
        return lent


def watched(task: Task) -> Watched:
    return Watched(**{name: getattr(task, name) for name in task.__dataclass_fields__})


TAIL_SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 8,
    "lr": 0.05,
    "schedule": "constant",
    "weight_decay": 0.01,
}


def tail_by_hand(task: Task, start: nn.Module) -> nn.Module:
    """Train modules 3 to 7 of the convolutional net; the first norm uses and keeps the original's
    statistics.
    """
    hand = copy.deepcopy(start).train()
    hand[1].eval()  # type: ignore[index]
    sgd = Sgd(hand, lambda name: int(name[0]) >= 3)
    for cycle in range(2):
        for batch in batches(task.retain, 8, "recover", cycle):
            sgd.step(ce(hand, batch), lr=0.05, decay=0.01)
    return hand


def engine64() -> Engine:
    return Engine(device="cpu", precision="64-true")


def rows(source: Any) -> list[tuple[Tensor, int]]:
    return [(x, int(y)) for x, y in zip(source.inputs, source.targets, strict=True)]


def loss_gradient(model: nn.Module, x: Tensor, label: int) -> list[Tensor]:
    return list(
        torch.autograd.grad(-torch.log_softmax(model(x), -1)[label], list(model.parameters()))
    )


def close_weights(mine: nn.Module, theirs: nn.Module, tolerance: float = 1e-10) -> None:
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def wide_task(forget_rows: int) -> Task:
    """A net with 12 features before its head, in float64."""
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3)).double()
    x = torch.randn(
        forget_rows + 20, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    with torch.no_grad():
        y = model(x).argmax(1)
    forget, retain = (
        TensorSource(x[:forget_rows], y[:forget_rows]),
        TensorSource(x[forget_rows:], y[forget_rows:]),
    )
    return Task(model=model, forget=forget, retain=retain, engine=engine64(), seed=0, num_classes=3)
