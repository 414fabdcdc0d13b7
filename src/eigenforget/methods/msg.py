"""MSG: redraw the convolution weights on which both sets agree, then fine-tune slowly."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.core.fields import UnitInterval, UpTo1
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import BatchSize, LearningRate, RetainEpochs, SGDFields
from eigenforget.training.gradients import Weights, mean_gradient
from eigenforget.training.phases import Phase, Schedule
from eigenforget.training.recipe import supervised


@configured
class MSG(SGDFields, Method):
    """Redraw the `share` of each convolution with the least |∇ L_r − ∇ L_f|, then train on retain.

    L_f is the mean cross-entropy of the forget set, and L_r that of as many retain samples. New
    weights are Kaiming normal (fan out). During fine-tuning they have their full gradient; the
    gradient of the other convolution weights is multiplied by `slow`. Normalisation, biases and
    linear layers train as usual.

    There is no recipe: the settings that Deep Unlearn searched for each data set are not in its
    code.
    """

    name: ClassVar = "msg"
    source: ClassVar = (
        "second of the NeurIPS 2023 unlearning challenge, as in Cadet et al.: Deep Unlearn, arXiv "
        "2410.01276 (Masked Small Gradients), whose default settings are ours; deviations: means "
        "over samples in eval mode, not sums over batches; a bias keeps its value; the rate moves "
        "with each step, not with each epoch; momentum is Nesterov's by default"
    )
    needs: ClassVar = ("forget", "retain", "labels", "convolutions")
    passes: ClassVar = "trained: 2 × forget (gradients) + epochs × retain"
    search_space: ClassVar = {"lr": Range(1e-4, 0.2), "share": Range(0.05, 0.9)}

    share: Annotated[UpTo1, "share of each convolution's weights that is drawn anew"] = 0.3
    slow: Annotated[UnitInterval, "factor on the gradient of the convolution weights that stay"] = (
        0.1
    )
    epochs: RetainEpochs = 5
    lr: LearningRate = 1e-3
    schedule: Schedule = "triangle"
    batch_size: BatchSize = 64

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        student = task.engine.placed(task.student())
        drawn = self.redrawn(task, student)
        factors = {name: torch.where(new, 1.0, self.slow) for name, new in drawn.items()}

        def slow_down(model: nn.Module) -> None:
            for name, factor in factors.items():
                gradient = model.get_parameter(name).grad
                if gradient is not None:
                    gradient.mul_(factor)

        phase = Phase(
            "recover",
            (retain,),
            supervised,
            optimizer_of(self),
            self.batch_size,
            on_gradients=slow_down,
        )
        return task.fit(student, [phase], epochs=self.epochs)

    def redrawn(self, task: Task, student: nn.Module) -> Weights:
        """Draw weights of the student anew, in place; where, by the name of the weight.

        Raises:
            Refused: It has no convolution that is not frozen.
        """
        retain = task.needs_retain(self.name)
        names = convolution_weights(student)
        if not names:
            raise Refused(
                f"msg draws weights of convolutions anew, and {type(student).__name__} has none "
                "that is not frozen"
            )
        sample = task.at_most(retain, len(task.forget), self.name, "retain")
        of_forget = mean_gradient(task.engine, student, task.forget)
        of_retain = mean_gradient(task.engine, student, sample)
        generator = seeds.generator(task.seed, self.name)
        drawn = {n: _least((of_retain[n] - of_forget[n]).abs(), self.share) for n in names}
        with torch.no_grad():
            for name, new in drawn.items():
                weight = student.get_parameter(name)
                fresh = torch.empty(weight.shape)
                nn.init.kaiming_normal_(
                    fresh, mode="fan_out", nonlinearity="relu", generator=generator
                )
                weight.copy_(torch.where(new, fresh.to(weight), weight))
        return drawn


def convolution_weights(model: nn.Module) -> list[str]:
    """Names of the weights of convolutions that are not frozen."""
    own = {
        id(weight)
        for module in model.modules()
        if isinstance(module, nn.modules.conv._ConvNd)  # noqa: SLF001 (no public base class)
        for name, weight in module.named_parameters(recurse=False)
        if name == "weight" and weight.requires_grad
    }
    return [name for name, weight in model.named_parameters() if id(weight) in own]


def _least(values: Tensor, share: float) -> Tensor:
    """True at the round(share · n) least of n values; ties go to the earlier one."""
    chosen = torch.zeros(values.numel(), dtype=torch.bool, device=values.device)
    order = values.flatten().sort(stable=True).indices
    chosen[order[: round(share * values.numel())]] = True
    return chosen.view_as(values)
