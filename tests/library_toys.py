"""Small modules with what modules of other libraries have and ours do not, and a task for each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from eigenforget.data.sources import TensorSource
from eigenforget.methods.base import Task
from eigenforget.training.engine import Engine

CLASSES, WIDTH, INF = 3, 6, float("inf")
LABELS = torch.arange(30) % CLASSES


def made(kind: type[nn.Module]) -> Any:
    torch.manual_seed(0)
    return kind().eval()


def task(model: nn.Module, *shape: int, layer: str | None = None) -> Task:
    inputs = torch.randn(30, *(shape or (WIDTH,)), generator=torch.Generator().manual_seed(1))
    inputs = inputs + LABELS.view(-1, *[1] * len(shape or (WIDTH,)))
    forget, retain = (
        TensorSource(inputs[side], LABELS[side]) for side in (LABELS == 2, LABELS != 2)
    )
    return Task(model, forget, retain, Engine(device="cpu"), 0, CLASSES, (2,), layer)


class ConvHead(nn.Sequential):
    """A head that is a convolution, as in squeezenet."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 5, 3),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.Conv2d(5, CLASSES, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


class Encoder(nn.Module):
    """torch's own attention, whose eval mode has a fused path and whose reset has another name."""

    def __init__(self) -> None:
        super().__init__()
        block = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.1, batch_first=True)
        self.body, self.head = nn.TransformerEncoder(block, 1), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean(1))


class Asks(nn.Module):
    """Asks whether a mask hides anything, as BERT does: vmap has no answer. Positions and a mask of
    −∞ are constants.
    """

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(WIDTH, 4), nn.Linear(4, CLASSES)
        self.register_buffer("positions", torch.arange(4).expand(1, -1))
        self.register_buffer("mask", torch.full((4, 4), -INF).triu(1))
        self.register_buffer("scale", torch.tensor(0.5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inner(x).tanh()
        if (hidden > 2).all():
            hidden = hidden * 0
        mixed = (torch.ones_like(self.mask) + self.mask).softmax(1)
        return self.head((hidden * self.scale) @ mixed.T + self.positions)


class Tied(nn.Module):
    """The head's weight is the embedding's, which is registered first."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mid, self.head = (
            nn.Embedding(CLASSES, 6),
            nn.Linear(6, 6),
            nn.Linear(6, CLASSES),
        )
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mid(x @ self.embed.weight.detach()))


class Gated(nn.Module):
    """The head is registered before another linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.body = nn.Linear(4, CLASSES), nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).relu())


class Normed(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(WIDTH, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))
