"""DELETE: distil the forget data towards the original's own opinion without the true class."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from eigenforget.core.spec import configured
from eigenforget.methods.base import Task
from eigenforget.training.losses import kl_to_target, masked_true_class_target
from eigenforget.training.phases import LossInputs, Momentum, Optimizer, Phase, WeightDecay


@configured
class Delete:
    """Minimise KL(q ‖ p_θ) on the forget data alone; q is the frozen original's softmax with each
    sample's true class left out.
    """

    name: ClassVar[str] = "delete"
    source: ClassVar[str] = (
        "Zhou et al.: Decoupled Distillation to Erase, CVPR 2025, arXiv 2503.23751; the true class's logit is −∞ instead of −1e10 "
        "(the same softmax), momentum is Nesterov's; recipes: the configuration files of its public code, whose script for "
        "CIFAR-10 sets lr to 1e-3 instead"
    )
    needs: ClassVar[tuple[str, ...]] = ("forget", "labels")
    guarantee: ClassVar[str] = "empirical"
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    passes: ClassVar[str] = "trained: epochs × forget; forward: epochs × forget"
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "cifar10-resnet18": {
            "epochs": 20,
            "lr": 1e-4,
            "momentum": 0.9,
            "weight_decay": 0.0,
            "batch_size": 128,
        },
        "tinyimagenet-resnet18": {
            "epochs": 20,
            "lr": 5e-5,
            "momentum": 0.9,
            "weight_decay": 0.0,
            "batch_size": 64,
        },
    }

    epochs: Annotated[int, Field(ge=1, description="passes over the forget data")] = 10
    lr: Annotated[float, Field(gt=0, description="SGD learning rate")] = 2e-3
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 0.0
    batch_size: Annotated[int, Field(ge=2, description="samples per step")] = 128
    norm: Annotated[
        Literal["train", "frozen"],
        Field(description="batch-norm statistics: updated on the forget data, or kept as they are"),
    ] = "train"

    def __call__(self, task: Task) -> nn.Module:
        def loss(part: LossInputs) -> Tensor:
            target = masked_true_class_target(part.teachers[0].logits, part.batch.labels)
            return kl_to_target(target, part.outputs.logits)

        optimizer = Optimizer(lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        phase = Phase(
            "forget",
            (task.forget,),
            loss,
            optimizer,
            self.batch_size,
            teachers=(task.teacher(),),
            norm=self.norm,
        )
        return task.fit(task.student(), [phase], epochs=self.epochs)
