"""JiT: make the outputs for forget samples smooth under noise; needs no other data."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.fields import Count, Positive
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task, optimizer_of, real_valued
from eigenforget.methods.fields import BatchNorm, BatchSize, ForgetEpochs, SGDFields
from eigenforget.methods.published import (
    CIFAR10,
    CIFAR100,
    VIT,
    PublishedData,
    PublishedModel,
    PublishedRun,
)
from eigenforget.models.features import called_with, logits_of
from eigenforget.training.phases import LossInputs, Momentum, Phase, Schedule, WeightDecay

_VGG11 = PublishedModel("VGG-11", 8)

_AUTHORS: dict[str, Any] = dict(
    epochs=1,
    momentum=0.0,
    nesterov=False,
    weight_decay=0.0,
    schedule="constant",
    batch_size=128,
    noises=25,
    adds_up=True,
    norm="frozen",
)
"""What the authors' scripts have in common."""


@configured
class JiT(SGDFields, Method):
    """Minimise Σ_i mean_j ‖f(x_i) − f(x_i + ξ_ij)‖ / ‖ξ_ij‖ over the forget set.

    f are the logits and ξ_ij, j = 1 … `noises`, Gaussian noise of deviation σ; no gradient flows
    through f(x + ξ). x + ξ is clamped to the range of its batch, and ‖ξ‖ is measured after that.
    The sum is over the samples of a batch, so the learning rate is per sample. The authors' code
    never resets the gradients, which add up from batch to batch; `adds_up` does the same.
    """

    name: ClassVar = "jit"
    source: ClassVar = (
        "Foster et al.: An Information Theoretic Approach to Machine Unlearning (Zero-Shot "
        "Machine Unlearning at Scale via Lipschitz Regularization), arXiv 2402.01401, algorithm 1, "
        "as in the authors' code; deviations: batch-norm statistics stay, as their models have "
        "none; gradients are those of one batch by default"
    )
    needs: ClassVar = ("forget", "real-valued inputs")
    passes: ClassVar = "trained: epochs × forget; forward: noises × epochs × forget"
    search_space: ClassVar = {"lr": Range(1e-6, 0.01), "sigma": Range(0.01, 2.0)}
    recipes: ClassVar = {
        "cifar100-vgg11-jit": PublishedRun(
            _AUTHORS | dict(lr=3e-4, sigma=0.5),
            _VGG11,
            CIFAR100,
            "one class",
            "jwf40/Information-Theoretic-Unlearning, src/forget_full_class_main.py, c967614",
        ),
        "cifar100-vit-jit": PublishedRun(
            _AUTHORS | dict(lr=1.5, sigma=0.8),
            VIT,
            PublishedData("CIFAR-100", 100, (3, 224, 224)),
            "one class",
            "jwf40/Information-Theoretic-Unlearning, src/forget_full_class_main.py, c967614",
        ),
        "cifar10-vgg11-jit": PublishedRun(
            _AUTHORS | dict(lr=3e-4, sigma=0.01),
            _VGG11,
            CIFAR10,
            "100 random samples",
            "jwf40/Information-Theoretic-Unlearning, src/forget_random_main.py, c967614",
        ),
    }

    epochs: ForgetEpochs = 1
    lr: Annotated[Positive, "SGD learning rate, per sample of a batch"] = 3e-4
    momentum: Momentum = 0.0
    weight_decay: WeightDecay = 0.0
    schedule: Schedule = "constant"
    batch_size: BatchSize = 128
    sigma: Annotated[Positive, "standard deviation of the noise, in units of the inputs"] = 0.5
    noises: Annotated[Count, "noisy copies of each sample"] = 25
    adds_up: Annotated[
        bool, "each step is along the sum of all gradients so far, as in the authors' code"
    ] = False
    norm: BatchNorm = "frozen"

    def __call__(self, task: Task) -> nn.Module:
        student, noise = task.student(), seeds.generator(task.seed, self.name)

        def loss(part: LossInputs) -> Tensor:
            inputs = real_valued(part.batch.inputs, self.name, why="to add noise")
            logits = part.outputs.logits
            found = torch.zeros_like(logits[:, 0])
            for _ in range(self.noises):
                noisy = noised(inputs, self.sigma, noise)
                with torch.no_grad():
                    moved = logits_of(
                        called_with(student, task.engine.formatted(noisy, student))
                    ).float()
                task.engine.meter.count(forwarded=len(logits))
                found = found + ratio(logits, moved, inputs, noisy)
            return found.sum() / self.noises

        phase = Phase(
            "forget",
            (task.forget,),
            loss,
            optimizer_of(self),
            self.batch_size,
            on_gradients=_Sums().add if self.adds_up else None,
            norm=self.norm,
        )
        return task.fit(student, [phase], epochs=self.epochs)


class _Sums:
    """The sum of the gradients of all steps."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, model: nn.Module) -> None:
        """Put the sum in the place of the gradient."""
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                if name in self._sums:
                    parameter.grad += self._sums[name]
                self._sums[name] = parameter.grad.clone()


def noised(inputs: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Inputs with Gaussian noise, clamped to the range that they span."""
    noise = torch.randn(inputs.shape, generator=generator, dtype=torch.float32)
    return (inputs + sigma * noise.to(inputs)).clamp(inputs.min(), inputs.max())


def ratio(logits: Tensor, moved: Tensor, inputs: Tensor, noisy: Tensor) -> Tensor:
    """‖f(x) − f(x′)‖ / ‖x − x′‖ per sample [B]; 0 where no noise is left."""
    path = (inputs - noisy).flatten(1).norm(dim=1).to(logits)
    change = (logits - moved).square().sum(1)
    # Neither 0 / 0 nor a norm at 0 has a gradient: both are kept out of the graph.
    still = (path == 0) | (change == 0)
    ratios = torch.where(still, 1.0, change).sqrt() / torch.where(still, 1.0, path)
    return torch.where(still, 0.0, ratios)
