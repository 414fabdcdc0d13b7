"""UAM: take the gradients of any training at weights that are worse for the forget set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, cast

import torch
from pydantic import AfterValidator
from torch import nn

from eigenforget.core import seeds
from eigenforget.core.fields import Positive
from eigenforget.core.spec import configured
from eigenforget.data.sources import Source
from eigenforget.methods.base import Method, Range, Task, same_tensors, wants_retain
from eigenforget.methods.fields import BatchSize
from eigenforget.methods.finetune import Finetune
from eigenforget.training.gradients import Weights, mean_gradient
from eigenforget.training.phases import Phase


@configured
class UAM(Method):
    """Run `inner`, with the gradient of each of its steps taken at w + ρ ∇L_f / ‖∇L_f‖.

    L_f is the mean cross-entropy of a forget batch at the weights w. Then w is put back, and the
    optimizer of `inner` moves it along that gradient. uam(inner=finetune()) solves
    min_w L_r(w + ε) with ε = argmax L_f(w + ε) over ‖ε‖ ≤ ρ, to first order: it moves w to where
    the retain loss is low and the forget loss high. Models other than the original that `inner`
    trains on its way are trained as usual.

    There is no recipe: the authors' code leaves ρ and the number of epochs of their runs open.
    """

    name: ClassVar = "uam"
    source: ClassVar = (
        "Kim, Kim, Chae, Yoon: Unlearning-Aware Minimization, NeurIPS 2025, as in torchunlearn's "
        "UAM; deviations: for any inner method; the ascent is computed in eval mode (there on "
        "forget and retain batch together, in train mode)"
    )
    needs: ClassVar = ("forget", "labels", "retain data where inner needs them", "what inner needs")
    passes: ClassVar = "trained: what inner trains, and batch_size per step of it"
    search_space: ClassVar = {"inner.lr": Range(1e-4, 0.2), "rho": Range(1e-3, 10.0)}

    inner: Annotated[
        Any, AfterValidator(same_tensors), "the method to run, such as finetune(lr=0.01)"
    ] = Finetune()
    rho: Annotated[Positive, "length of the ascent in the space of all weights"] = 0.1
    batch_size: BatchSize = 128

    def __call__(self, task: Task) -> nn.Module:
        inner = cast("Method", self.inner)
        if wants_retain(inner):
            task.needs_retain(self.name)
        weights = _trainable(task.model)

        def change(model: nn.Module, phases: Sequence[Phase]) -> Sequence[Phase]:
            if _trainable(model) != weights:
                return phases
            ascent = _Ascent(task, model, self)
            return [ascent.around(phase) for phase in phases]

        return inner(replace(task, engine=task.engine.changing(change)))


class _Ascent:
    """Moves the weights of a model up the forget loss, and back."""

    def __init__(self, task: Task, model: nn.Module, method: UAM) -> None:
        self._task, self._model, self._rho = task, model, method.rho
        order = seeds.generator(task.seed, method.name)
        self._batches = _endless(task.forget, method.batch_size, order)
        self._before: Weights = {}

    def around(self, phase: Phase) -> Phase:
        """The phase with the gradient of each step taken further up."""
        steps = math.ceil(phase.steps() / self._task.engine.accumulate)
        done = 0

        def prepare(model: nn.Module, epoch: int) -> bool | None:
            nonlocal done
            goes_on = None if phase.prepare is None else phase.prepare(model, epoch)
            if goes_on is not False:
                done = 0
                self.up()
            return goes_on

        def after_step(model: nn.Module) -> None:
            nonlocal done
            done += 1
            if phase.after_step is not None:
                phase.after_step(model)
            if done < steps:  # an epoch ends at the weights themselves
                self.up()

        return replace(
            phase,
            prepare=prepare,
            on_gradients=self._back_before(phase.on_gradients),
            after_step=after_step,
        )

    def up(self) -> None:
        """Move every weight along the normalised gradient of the next forget batch."""
        gradient = mean_gradient(self._task.engine, self._model, next(self._batches))
        length = torch.stack([value.norm() for value in gradient.values()]).norm()
        self._before = {name: self._model.get_parameter(name).detach().clone() for name in gradient}
        with torch.no_grad():
            for name, value in gradient.items():
                self._model.get_parameter(name).add_(self._rho / (length + 1e-16) * value)

    def _back_before(self, then: Callable[[nn.Module], None] | None) -> Callable[[nn.Module], None]:
        def on_gradients(model: nn.Module) -> None:
            with torch.no_grad():
                for name, value in self._before.items():
                    model.get_parameter(name).copy_(value)
            if then is not None:
                then(model)

        return on_gradients


def _trainable(model: nn.Module) -> dict[str, torch.Size]:
    """The shape of each weight that is trained, by its name."""
    return {name: p.shape for name, p in model.named_parameters() if p.requires_grad}


def _endless(source: Source, size: int, order: torch.Generator) -> Iterator[Source]:
    """Parts of the source in fresh random order, again where it runs out."""
    while True:
        for rows in torch.split(torch.randperm(len(source), generator=order), size):
            yield source.subset(rows.numpy())
