"""Boundary Shrink: give each forget sample to the class across its nearest decision boundary."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from eigenforget.core.errors import Refused
from eigenforget.core.fields import Positive
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task, optimizer_of, real_valued
from eigenforget.methods.fields import BatchNorm, ForgetEpochs, LearningRate, SGDFields
from eigenforget.methods.published import ALL_CNN, CIFAR10, RESNET18, PublishedRun
from eigenforget.models.features import called_with, logits_of
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import LossInputs, Phase, Schedule, WeightDecay


@configured
class BoundaryShrink(SGDFields, Method):
    """Minimise the cross-entropy of the forget set towards the nearest incorrect class.

    x′ = x + step · sign(∇_x CE(f(x), y)) with the frozen original f in eval mode. The label is the
    best class at x′ other than the sample's own and those that are gone as a whole.
    """

    name: ClassVar = "boundary_shrink"
    source: ClassVar = (
        "Chen et al.: Boundary Unlearning, CVPR 2023, arXiv 2303.11570 (Boundary Shrink); "
        "deviations: where the step stays on the sample's own side, the runner-up is taken "
        "(published code trains the true label there); no forgotten class as label; labels are "
        "found once, on inputs without augmentation; x′ is neither clipped nor rounded to pixels, "
        "as the range of the inputs is not known"
    )
    needs: ClassVar = ("forget", "labels", "real-valued inputs")
    passes: ClassVar = "trained: (1 + epochs) × forget; forward: forget"
    search_space: ClassVar = {"lr": Range(1e-4, 0.05)}
    recipes: ClassVar = {
        "cifar10-allcnn-boundary": PublishedRun(
            dict(
                epochs=10,
                lr=1e-5,
                momentum=0.9,
                nesterov=False,
                weight_decay=0.0,
                schedule="constant",
                batch_size=64,
                step=0.5,
                norm="train",
            ),
            ALL_CNN,
            CIFAR10,
            "one class",
            "TY-LEE-KR/Boundary-Unlearning-Code, boundary_unlearning.py, 19f9f23",
            "0.1 of the pixel range, for inputs that are divided by 0.2 as its attack does",
        ),
        "cifar10-resnet18-delete": PublishedRun(
            dict(
                epochs=20,
                lr=5e-5,
                momentum=0.9,
                nesterov=False,
                weight_decay=0.0,
                schedule="constant",
                batch_size=128,
                step=0.4,
                norm="train",
            ),
            RESNET18,
            CIFAR10,
            "one class",
            "shaaaaron/DELETE, scripts.sh, 049eb0c",
            "0.1 of the pixel range, for inputs that are divided by 0.25",
        ),
        "cifar10-resnet18-scissorhands": PublishedRun(
            dict(
                epochs=10,
                lr=1e-6,
                momentum=0.9,
                nesterov=False,
                weight_decay=5e-4,
                schedule="constant",
                batch_size=256,
                step=0.1,
                norm="train",
            ),
            RESNET18,
            CIFAR10,
            "10 % random samples",
            "JingWu321/Scissorhands, Classification/sh/main_0.1_cifar10.sh, 73ae065",
            "inputs lie in [0, 1], and the model normalises them",
        ),
    }

    step: Annotated[Positive, "size of the adversarial step, in units of the model's inputs"] = 0.4
    epochs: ForgetEpochs = 10
    lr: LearningRate = 1e-3
    weight_decay: WeightDecay = 0.0
    schedule: Schedule = "constant"
    norm: BatchNorm = "train"

    def __call__(self, task: Task) -> nn.Module:
        nearest = self.labels(task).to(task.engine.fabric.device)

        def loss(part: LossInputs) -> Tensor:
            return cross_entropy(part.outputs.logits, nearest[part.batch.positions])

        phase = Phase(
            "forget", (task.forget,), loss, optimizer_of(self), self.batch_size, norm=self.norm
        )
        return task.fit(task.student(), [phase], epochs=self.epochs)

    def labels(self, task: Task) -> Tensor:
        """The nearest incorrect class [N_f] of each forget sample.

        Raises:
            Refused: No second class is retained, or inputs are no real-valued tensor.
        """
        gone = torch.zeros(task.num_classes, dtype=torch.bool)
        gone[list(task.forgotten_classes)] = True
        needed = 1 if gone[torch.as_tensor(task.forget.labels())].all() else 2
        if task.num_classes - len(task.forgotten_classes) < needed:
            raise Refused("boundary_shrink needs a second class that is retained")
        engine, model = task.engine, task.engine.placed(task.teacher())
        found = []
        for batch in task.forget.batches(self.batch_size):
            batch = engine.fabric.to_device(batch)
            inputs = real_valued(batch.inputs, self.name, why="to move along their gradient")
            with torch.no_grad():
                moved = self.perturbed(model, engine.formatted(inputs), batch.labels)
                logits = logits_of(called_with(model, moved))
            own = nn.functional.one_hot(batch.labels, task.num_classes).bool()
            found.append(logits.masked_fill(own | gone.to(own.device), -torch.inf).argmax(1).cpu())
            engine.meter.count(trained=len(batch.labels), forwarded=len(batch.labels))
        return torch.cat(found)

    def perturbed(self, model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        """X + step · sign(∇_x CE(f(x), y)), of the shape of the inputs."""
        inputs = inputs.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(
                cross_entropy(logits_of(called_with(model, inputs)), labels).sum(), inputs
            )
        return (inputs + self.step * gradient.sign()).detach()
