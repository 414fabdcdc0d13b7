"""NoT: negate the weights of a layer, then fine-tune on the retained data."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from eigenforget.core.errors import Refused
from eigenforget.core.spec import configured
from eigenforget.methods.base import Task
from eigenforget.models.features import find_layer
from eigenforget.training.phases import Momentum, Optimizer, Phase, Schedule, WeightDecay
from eigenforget.training.recipe import supervised


@configured
class NoT:
    """Multiply all parameters (weight and bias) of the chosen layers by −1 and fine-tune the whole
    model on the retained data.

    The negated layer gives exactly the negative of its output, which later layers are not fitted
    to; buffers stay as they are. The forget data is not used.
    """

    name: ClassVar[str] = "not_"
    source: ClassVar[str] = (
        "Khalil et al.: NoT: Federated Unlearning via Weight Negation, CVPR 2025, arXiv 2503.05657, in the centralised "
        "setting; deviations: the bias is negated too, and by default the first convolution or linear layer that is not frozen is taken"
    )
    needs: ClassVar[tuple[str, ...]] = ("retain", "labels")
    guarantee: ClassVar[str] = "empirical"
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    passes: ClassVar[str] = "trained: epochs × retain"

    layers: Annotated[
        tuple[str, ...],
        Field(
            description="names of the layers to negate, a tuple; () is the first that is not frozen"
        ),
    ] = ()
    epochs: Annotated[int, Field(ge=1, description="passes over the retained data")] = 5
    lr: Annotated[float, Field(gt=0, description="SGD learning rate")] = 0.05
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 5e-4
    schedule: Schedule = "cosine"
    batch_size: Annotated[int, Field(ge=2, description="samples per step")] = 128

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        optimizer = Optimizer(
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
        )
        phase = Phase("recover", (retain,), supervised, optimizer, self.batch_size)
        return task.fit(self.negated(task), [phase], epochs=self.epochs)

    def negated(self, task: Task) -> nn.Module:
        """A copy of the original with the chosen layers negated, before fine-tuning."""
        student = task.student()
        chosen: dict[int, nn.Parameter] = {}
        for name in self.layers or (_first_layer(student),):
            own = list(find_layer(student, name).parameters(recurse=False))
            if not own:
                raise Refused(
                    f"not_ negates parameters, and layer {name!r} owns none; name a convolution or linear layer"
                )
            if not all(parameter.requires_grad for parameter in own):
                raise Refused(
                    f"not_ negates parameters, and those of layer {name!r} are frozen (requires_grad is False)"
                )
            chosen |= {id(parameter): parameter for parameter in own}
        with torch.no_grad():
            for parameter in chosen.values():
                parameter.neg_()
        return student


def _first_layer(model: nn.Module) -> str:
    for name, module in model.named_modules():
        layer = isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))
        if layer and all(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            return name
    raise Refused(
        f"not_ found no convolution and no linear layer that is not frozen in {type(model).__name__}; name the layers to negate"
    )
