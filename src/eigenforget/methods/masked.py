"""masked: run any method while only the weights that matter most to the forget loss may move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, cast

import torch
from pydantic import AfterValidator
from torch import nn

from eigenforget.core.fields import UpTo1
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task, inner_method, wants_retain
from eigenforget.methods.published import CIFAR10, RESNET18, PublishedRun
from eigenforget.methods.random_label import RandomLabel
from eigenforget.training.gradients import Weights, mean_gradient
from eigenforget.training.phases import Phase


def _maskable(value: Any) -> Any:
    if getattr(inner_method(value), "adds", ()):
        raise ValueError(
            f"{value.name} replaces weights that a mask is made for; write "
            f"{value.name}(inner=masked(…)) instead"
        )
    return value


@configured
class Masked(Method):
    """Run `inner` while only the most salient weights may move.

    The mask m is 1 where |∇ L_forget(θ_o)| is in the top `keep_top` share; m ∘ θ is free and (1 −
    m) ∘ θ is fixed. masked(inner=random_label(), keep_top=0.5) is SalUn. All trainable weights
    share one threshold; ties go to the earlier weight, so that the share is exact. Fixed weights
    are put back before training and after every step, whatever momentum and weight decay did, and
    end bit for bit as in the original. Buffers (batch-norm statistics) are not weights: they move
    as `inner` moves them. A gradient-norm limit of `inner` sees the gradient of all weights.
    """

    name: ClassVar = "masked"
    source: ClassVar = (
        "Fan et al.: SalUn, arXiv 2310.12508, weight saliency with a global threshold, for any "
        "inner method; gradient of the mean cross-entropy in eval mode"
    )
    needs: ClassVar = ("forget", "labels", "retain data where inner needs them", "what inner needs")
    passes: ClassVar = "trained: forget (mask) + what inner trains"
    search_space: ClassVar = {"inner.lr": Range(1e-3, 0.2)}
    recipes: ClassVar = {
        "cifar10-resnet18-salun": PublishedRun(
            dict(
                inner=RandomLabel(
                    epochs=10,
                    lr=0.013,
                    momentum=0.9,
                    nesterov=False,
                    weight_decay=5e-4,
                    schedule="constant",
                    batch_size=256,
                    clip=0.0,
                    redraw="batch",
                    candidates="all",
                    retain_steps="after",
                    one_optimizer=True,
                ),
                keep_top=0.5,
            ),
            RESNET18,
            CIFAR10,
            "10 % random samples",
            "OPTML-Group/Unlearn-Saliency, Classification/README.md, a6e89fd",
            "the mask is of the gradient over all forget samples, not summed over batch means",
        ),
    }

    inner: Annotated[
        Any, AfterValidator(_maskable), "the method to run, such as random_label(lr=0.01)"
    ] = RandomLabel()
    keep_top: Annotated[UpTo1, "share of all trainable weights that may move"] = 0.5

    def __call__(self, task: Task) -> nn.Module:
        inner = cast("Method", self.inner)
        if wants_retain(inner):
            task.needs_retain(self.name)
        original = task.student()
        mask = top_share(mean_gradient(task.engine, original, task.forget), self.keep_top)
        weights = {name: p.detach() for name, p in original.named_parameters() if name in mask}
        fixed = _FixedWeights(weights, mask)
        result = inner(replace(task, engine=task.engine.changing(fixed.change)))
        fixed.put_back(result)
        return result


def top_share(gradient: Weights, share: float) -> Weights:
    """The mask by name: True on the largest round(share · n) of all n entries, at least on one."""
    sizes = torch.cat([g.abs().flatten() for g in gradient.values()])
    count = max(1, round(share * len(sizes)))
    chosen = torch.zeros_like(sizes, dtype=torch.bool)
    chosen[sizes.sort(descending=True, stable=True).indices[:count]] = True
    parts = torch.split(chosen, [g.numel() for g in gradient.values()])
    return {name: part.view_as(g) for (name, g), part in zip(gradient.items(), parts, strict=True)}


@dataclass(frozen=True)
class _FixedWeights:
    """The original's weights, and where they may move."""

    original: Weights
    mask: Weights

    def put_back(self, model: nn.Module) -> None:
        """Give every fixed weight the original's value.

        A model of other weights, such as a noise that is learnt, is left alone.
        """
        weights = dict(model.named_parameters())
        if any(
            name not in weights or weights[name].shape != value.shape
            for name, value in self.original.items()
        ):
            return
        with torch.no_grad():
            for name, value in self.original.items():
                weight = weights[name]
                mask = self.mask[name].to(weight.device)
                weight.copy_(torch.where(mask, weight, value.to(weight.device)))

    def change(self, model: nn.Module, phases: Sequence[Phase]) -> list[Phase]:
        """Put the fixed weights back now, and after every step of these phases."""
        self.put_back(model)
        return [replace(phase, after_step=self._after(phase.after_step)) for phase in phases]

    def _after(self, first: Callable[[nn.Module], None] | None) -> Callable[[nn.Module], None]:
        def after_step(model: nn.Module) -> None:
            if first is not None:
                first(model)
            self.put_back(model)

        return after_step
