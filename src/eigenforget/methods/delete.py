"""DELETE: distil the forget set towards the original's own opinion without the true class."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import BatchNorm, ForgetEpochs, LearningRate, SGDFields
from eigenforget.methods.published import CIFAR10, RESNET18, TINY_IMAGENET, PublishedRun
from eigenforget.training.losses import kl_to_target, masked_true_class_target
from eigenforget.training.phases import LossInputs, Phase, Schedule, WeightDecay


@configured
class DELETE(SGDFields, Method):
    """Minimise KL(q ‖ p_θ) on the forget set alone.

    q is the frozen original's softmax with each sample's true class left out.
    """

    name: ClassVar = "delete"
    source: ClassVar = (
        "Zhou et al.: Decoupled Distillation to Erase, CVPR 2025, arXiv 2503.23751; the true "
        "class's logit is −∞ instead of −1e10 (the same softmax)"
    )
    needs: ClassVar = ("forget", "labels")
    passes: ClassVar = "trained: epochs × forget; forward: epochs × forget"
    search_space: ClassVar = {"lr": Range(1e-4, 0.05)}
    recipes: ClassVar = {
        "cifar10-resnet18-delete": PublishedRun(
            dict(
                epochs=20,
                lr=1e-3,
                momentum=0.9,
                nesterov=False,
                weight_decay=0.0,
                schedule="constant",
                batch_size=128,
                norm="train",
            ),
            RESNET18,
            CIFAR10,
            "one class",
            "shaaaaron/DELETE, scripts.sh, 049eb0c",
            "config/cifar10_resnet18.yaml has lr 1e-4, which the script overrides",
        ),
        "tinyimagenet-resnet18-delete": PublishedRun(
            dict(
                epochs=20,
                lr=5e-5,
                momentum=0.9,
                nesterov=False,
                weight_decay=0.0,
                schedule="constant",
                batch_size=64,
                norm="train",
            ),
            RESNET18,
            TINY_IMAGENET,
            "one class",
            "shaaaaron/DELETE, config/tiny_imagenet_resnet18.yaml, 60018a1",
        ),
    }

    epochs: ForgetEpochs = 10
    lr: LearningRate = 2e-3
    weight_decay: WeightDecay = 0.0
    schedule: Schedule = "constant"
    norm: BatchNorm = "train"

    def __call__(self, task: Task) -> nn.Module:
        def loss(part: LossInputs) -> Tensor:
            target = masked_true_class_target(part.teachers[0].logits, part.batch.labels)
            return kl_to_target(target, part.outputs.logits)

        phase = Phase(
            "forget",
            (task.forget,),
            loss,
            optimizer_of(self),
            self.batch_size,
            teachers=(task.teacher(),),
            norm=self.norm,
        )
        return task.fit(task.student(), [phase], epochs=self.epochs)
