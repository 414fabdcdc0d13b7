"""Types of the hyper-parameters that many methods share; others are in `training.phases`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

LearningRate = Annotated[float, Field(gt=0, description="SGD learning rate")]
Clip = Annotated[float, Field(ge=0, description="gradient-norm limit, 0 for none")]
BatchSize = Annotated[int, Field(ge=2, description="samples per step")]
ForgetEpochs = Annotated[int, Field(ge=1, description="passes over the forget set")]
RetainEpochs = Annotated[int, Field(ge=1, description="passes over the retain set")]
BatchNorm = Annotated[
    Literal["train", "frozen"],
    Field(description="batch-norm statistics: updated, or kept as they are"),
]
GradientChunk = Annotated[
    int, Field(ge=1, description="per-sample gradients held in memory at once")
]
