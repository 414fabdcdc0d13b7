"""NoT: negate the weights of a layer, then fine-tune on the retain set."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import nn

from eigenforget.core.errors import Refused
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import LearningRate, RetainEpochs, SGDFields
from eigenforget.models.features import find_layer
from eigenforget.models.initialisation import WEIGHTED
from eigenforget.training.phases import Phase
from eigenforget.training.recipe import supervised


@configured
class NoT(SGDFields, Method):
    """Multiply the parameters of the chosen layers by −1, then fine-tune on the retain set.

    A negated layer gives exactly the negative of its former output, to which later layers are not
    fitted. Buffers stay as they are. The forget set is not used.

    There is no recipe: neither code of the authors nor the settings of their centralised runs could
    be read.
    """

    name: ClassVar = "not_"
    source: ClassVar = (
        "Khalil et al.: NoT: Federated Unlearning via Weight Negation, CVPR 2025, arXiv "
        "2503.05657, in the centralised setting; deviations: the bias is negated too, and by "
        "default the first convolution or linear layer that is not frozen is taken"
    )
    needs: ClassVar = ("retain", "labels")
    passes: ClassVar = "trained: epochs × retain"
    search_space: ClassVar = {"lr": Range(1e-3, 0.2)}

    layers: Annotated[
        tuple[str, ...],
        "names of the layers to negate, a tuple; () is the first that is not frozen",
    ] = ()
    epochs: RetainEpochs = 5
    lr: LearningRate = 0.05

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        phase = Phase("recover", (retain,), supervised, optimizer_of(self), self.batch_size)
        return task.fit(self.negated(task), [phase], epochs=self.epochs)

    def negated(self, task: Task) -> nn.Module:
        """A copy of the original with the chosen layers negated, before fine-tuning."""
        student = task.student()
        chosen: dict[int, nn.Parameter] = {}
        for name in self.layers or (_first_layer(student),):
            own = list(find_layer(student, name).parameters(recurse=False))
            if not own:
                raise Refused(
                    f"not_ negates parameters, and layer {name!r} owns none; name a convolution or "
                    "linear layer"
                )
            if not all(parameter.requires_grad for parameter in own):
                raise Refused(
                    f"not_ negates parameters, and those of layer {name!r} are frozen "
                    "(requires_grad is False)"
                )
            chosen |= {id(parameter): parameter for parameter in own}
        with torch.no_grad():
            for parameter in chosen.values():
                parameter.neg_()
        return student


def _first_layer(model: nn.Module) -> str:
    for name, module in model.named_modules():
        layer = isinstance(module, WEIGHTED)
        if layer and all(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            return str(name)
    raise Refused(
        f"not_ found no convolution and no linear layer that is not frozen in "
        f"{type(model).__name__}; name the layers to negate"
    )
