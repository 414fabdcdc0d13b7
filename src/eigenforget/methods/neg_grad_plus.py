"""NegGrad+: descent on the retain set and ascent on the forget set in the same step."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import Tensor, nn

from eigenforget.core.fields import TwoOrMore, UpTo1
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import Clip, LearningRate, RetainEpochs
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import LossInputs, Momentum, Phase, Schedule, WeightDecay


@configured
class NegGradPlus(Method):
    """Minimise α · mean CE(retain batch) − (1 − α) · mean CE(forget batch).

    An epoch is one pass over the retain set; the forget set starts again where it runs out. Both
    batches pass through the model on their own, the retain batch first. α has to be near 1, as the
    ascent term has no lower bound.
    """

    name: ClassVar = "neg_grad_plus"
    source: ClassVar = (
        "Kurmanji et al.: Towards Unbounded Machine Unlearning, arXiv 2302.09880 (baseline "
        "NegGrad+); gradient clipping and momentum are our additions"
    )
    needs: ClassVar = ("forget", "retain", "labels")
    passes: ClassVar = "trained: epochs × 2 × retain"
    search_space: ClassVar = {"lr": Range(1e-3, 0.2)}

    epochs: RetainEpochs = 5
    alpha: Annotated[UpTo1, "weight of the retain set; the forget set has 1 − alpha"] = 0.95
    lr: LearningRate = 0.02
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 5e-4
    schedule: Schedule = "cosine"
    clip: Clip = 1.0
    batch_size: Annotated[TwoOrMore, "samples per step of each of the two batches"] = 128

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)

        def loss(retained: LossInputs, forget: LossInputs) -> Tensor:
            descent = cross_entropy(retained.outputs.logits, retained.batch.labels).mean()
            ascent = cross_entropy(forget.outputs.logits, forget.batch.labels).mean()
            return self.alpha * descent - (1 - self.alpha) * ascent

        phase = Phase(
            "retain and forget", (retain, task.forget), loss, optimizer_of(self), self.batch_size
        )
        return task.fit(task.student(), [phase], epochs=self.epochs)
