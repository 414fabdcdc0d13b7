"""NegGrad+: descent on the retain set and ascent on the forget set in the same step."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import Tensor, nn

from eigenforget.core.fields import TwoOrMore, UpTo1
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import Clip, LearningRate, RetainEpochs, SGDFields
from eigenforget.methods.published import CIFAR10, RESNET18, PublishedRun
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import LossInputs, Phase


@configured
class NegGradPlus(SGDFields, Method):
    """Minimise α · mean CE(retain batch) − (1 − α) · mean CE(forget batch).

    An epoch is one pass over the retain set; the forget set starts again when it runs out. The two
    batches pass through the model separately, the retain batch first. The ascent term has no lower
    bound, so α has to be near 1.
    """

    name: ClassVar = "neg_grad_plus"
    source: ClassVar = (
        "Kurmanji et al.: Towards Unbounded Machine Unlearning, arXiv 2302.09880 (baseline "
        "NegGrad+); gradient clipping and momentum are our additions"
    )
    needs: ClassVar = ("forget", "retain", "labels")
    passes: ClassVar = "trained: epochs × retain × (1 + forget_batch_size / batch_size)"
    search_space: ClassVar = {"lr": Range(1e-3, 0.2)}
    recipes: ClassVar = {
        "cifar10-resnet18-scrub": PublishedRun(
            dict(
                epochs=5,
                lr=0.01,
                momentum=0.0,
                nesterov=False,
                weight_decay=0.0,
                schedule="constant",
                batch_size=32,
                alpha=0.9999,
                clip=0.0,
                forget_batch_size=16,
            ),
            RESNET18,
            CIFAR10,
            "100 samples of one class",
            "meghdadk/SCRUB, MIA_experiments.ipynb, 98ffb11",
        ),
    }

    epochs: RetainEpochs = 5
    alpha: Annotated[UpTo1, "weight of the retain set; the forget set has 1 − alpha"] = 0.95
    lr: LearningRate = 0.02
    clip: Clip = 1.0
    batch_size: Annotated[TwoOrMore, "retain samples per step"] = 128
    forget_batch_size: Annotated[
        TwoOrMore | None, "forget samples per step; None takes batch_size"
    ] = None

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)

        def loss(retained: LossInputs, forget: LossInputs) -> Tensor:
            descent = cross_entropy(retained.outputs.logits, retained.batch.labels).mean()
            ascent = cross_entropy(forget.outputs.logits, forget.batch.labels).mean()
            return self.alpha * descent - (1 - self.alpha) * ascent

        phase = Phase(
            "retain and forget",
            (retain, task.forget),
            loss,
            optimizer_of(self),
            self.batch_size,
            other_batch_size=self.forget_batch_size,
        )
        return task.fit(task.student(), [phase], epochs=self.epochs)
