"""Modules that people have, and a task on two sides of three classes for them."""

from __future__ import annotations

import copy
import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from eigenforget.training.engine import Engine

CLASSES, WIDTH = 3, 5
LABELS = torch.arange(30) % CLASSES
INPUTS = torch.randn(30, WIDTH, generator=torch.Generator().manual_seed(0)) + LABELS[:, None]


def sides(inputs: Tensor = INPUTS) -> dict[str, Any]:
    """Forget and retain set of class 2, on the CPU."""
    return {
        "forget": (inputs[LABELS == 2], LABELS[LABELS == 2]),
        "retain": (inputs[LABELS != 2], LABELS[LABELS != 2]),
        "engine": Engine(device="cpu"),
    }


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, CLASSES)).eval()


def pruned() -> nn.Module:
    model = net()
    prune.l1_unstructured(model[0], "weight", 0.5)
    model(INPUTS).sum().backward()
    return model


def weight_normed() -> nn.Module:
    model = net()
    model[0] = nn.utils.weight_norm(model[0])
    model(INPUTS).sum().backward()
    return model


def spectral_normed() -> nn.Module:
    model = net()
    model[0] = nn.utils.spectral_norm(model[0])
    model(INPUTS).sum().backward()
    return model


def in_fabric() -> Any:
    from lightning_fabric import Fabric

    return Fabric(accelerator="cpu").setup(net())


def of_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return copy.deepcopy(net())


class Remembering(nn.Module):
    """Keeps activations of its last pass."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.seen = net(), dict[str, Any]()

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.net[1](self.net[0](x))
        self.seen["last"] = [self.last]
        return self.net[2](self.last)


class Embedded(nn.Module):
    """Inputs that are an embedding of their sign, too."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.signs = nn.Linear(WIDTH, 8), nn.Embedding(2, 8, **settings)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x).relu() + self.signs((x[:, 0] > 1).long()))


class Answering(nn.Module):
    """Gives what a function makes of the logits, in evaluation and in training."""

    def __init__(self, answer: Any = lambda z: z, training: Any = None) -> None:
        super().__init__()
        self.net, self.answers = net(), (answer, training or answer)

    def forward(self, x: Tensor) -> Any:
        return self.answers[self.training](self.net(x))


class Locked(Answering):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class OnlyTraining(nn.Sequential):
    """Does not run in eval mode."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            raise RuntimeError("only for training")
        return super().forward(x)


class WithoutGradients(nn.Sequential):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)
