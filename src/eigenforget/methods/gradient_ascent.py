"""Gradient ascent on the forget set: the simplest way to undo a training."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import nn

from eigenforget.core.fields import Count
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import BatchNorm, BatchSize, Clip, LearningRate, SGDFields
from eigenforget.methods.published import CIFAR10, RESNET18, PublishedRun
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import Phase, Schedule, WeightDecay


@configured
class GradientAscent(SGDFields, Method):
    """Minimise −CE on the forget set.

    Nothing protects the retain set, so the model stays useful only if the steps are few and small.
    As −CE has no lower bound, the default is 25 steps, whatever the number of forget samples.
    Batches hold forget samples only, so norm="train" moves batch-norm statistics towards them;
    norm="frozen" normalises with the original's.
    """

    name: ClassVar = "gradient_ascent"
    source: ClassVar = (
        "Golatkar, Achille, Soatto, arXiv 1911.04933 (negative gradient); Thudi et al., arXiv "
        "2109.13398; gradient clipping is our addition"
    )
    needs: ClassVar = ("forget", "labels")
    passes: ClassVar = "trained: epochs × steps_per_epoch × batch_size"
    search_space: ClassVar = {"lr": Range(1e-4, 0.1)}
    recipes: ClassVar = {
        "cifar10-resnet18-scissorhands": PublishedRun(
            dict(
                epochs=5,
                lr=1e-4,
                momentum=0.9,
                nesterov=False,
                weight_decay=5e-4,
                schedule="constant",
                batch_size=256,
                steps_per_epoch=None,
                clip=0.0,
                norm="train",
            ),
            RESNET18,
            CIFAR10,
            "10 % random samples",
            "JingWu321/Scissorhands, Classification/sh/main_0.1_cifar10.sh, 73ae065",
        ),
        "cifar10-resnet18-delete": PublishedRun(
            dict(
                epochs=20,
                lr=1e-5,
                momentum=0.9,
                nesterov=False,
                weight_decay=0.0,
                schedule="constant",
                batch_size=128,
                steps_per_epoch=None,
                clip=0.0,
                norm="train",
            ),
            RESNET18,
            CIFAR10,
            "one class",
            "shaaaaron/DELETE, scripts.sh, 049eb0c",
        ),
    }

    epochs: Annotated[Count, "number of epochs"] = 5
    steps_per_epoch: Annotated[
        Count | None, "steps of one epoch, in fresh random order; None is one pass"
    ] = 5
    lr: LearningRate = 5e-3
    weight_decay: WeightDecay = 0.0
    schedule: Schedule = "constant"
    clip: Clip = 1.0
    batch_size: BatchSize = 64
    norm: BatchNorm = "train"

    def __call__(self, task: Task) -> nn.Module:
        phase = Phase(
            "forget",
            (task.forget,),
            lambda part: -cross_entropy(part.outputs.logits, part.batch.labels),
            optimizer_of(self),
            batch_size=self.batch_size,
            norm=self.norm,
            steps_per_epoch=self.steps_per_epoch,
        )
        return task.fit(task.student(), [phase], epochs=self.epochs)
