"""Types of the hyper-parameters that many methods share; others are in `training.phases`."""

from __future__ import annotations

from typing import Annotated, Literal

from eigenforget.core.fields import Count, NonNegative, Positive, TwoOrMore
from eigenforget.core.spec import configured
from eigenforget.training.phases import Drops, Momentum, Nesterov, Schedule, WeightDecay

LearningRate = Annotated[Positive, "SGD learning rate"]
Clip = Annotated[NonNegative, "gradient-norm limit, 0 for none"]
BatchSize = Annotated[TwoOrMore, "samples per step"]
ForgetEpochs = Annotated[Count, "passes over the forget set"]
RetainEpochs = Annotated[Count, "passes over the retain set"]
BatchNorm = Annotated[
    Literal["train", "frozen"], "batch-norm statistics: updated, or kept as they are"
]
GradientChunk = Annotated[
    Count | None, "per-sample gradients held in memory at once; None takes what 256 MiB hold"
]


@configured
class SGDFields:
    """The fields of a method that trains with SGD.

    A method with other defaults names a field again. Baselines are published with plain momentum,
    which is nesterov=False.
    """

    epochs: RetainEpochs
    lr: LearningRate
    momentum: Momentum = 0.9
    nesterov: Nesterov = True
    weight_decay: WeightDecay = 5e-4
    schedule: Schedule = "cosine"
    drops: Drops = ()
    batch_size: BatchSize = 128
