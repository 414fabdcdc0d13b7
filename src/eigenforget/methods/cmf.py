"""CMF: a head of class-mean features, which follows the features while another method unlearns."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, NamedTuple, cast

import torch
from pydantic import AfterValidator
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from eigenforget.core.fields import Positive
from eigenforget.core.spec import configured
from eigenforget.data.sources import Source
from eigenforget.methods.base import Method, Range, Task, inner_method
from eigenforget.methods.published import CIFAR10, RESNET18, PublishedRun
from eigenforget.methods.random_label import RandomLabel
from eigenforget.models.features import find_head
from eigenforget.models.heads import plain_head, replace_module
from eigenforget.training.engine import Engine
from eigenforget.training.phases import Phase


def _published(lr: float, request: str) -> PublishedRun:
    """The runs of the authors' script, which differ in the learning rate."""
    inner = RandomLabel(
        epochs=4,
        lr=lr,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        schedule="constant",
        batch_size=128,
        clip=1.0,
        redraw="batch",
        candidates="others",
        retain_steps="mixed",
        one_optimizer=False,
    )
    return PublishedRun(
        dict(inner=inner, temperature=1.0),
        RESNET18,
        CIFAR10,
        request,
        "ycgao1/CMF_Unlearning, script/run/run_resnet_18_CMF_unlearning.sh, e6e94af",
    )


@configured
class CMF(Method):
    """Run another method on the model with its head replaced by a class-mean-feature head.

    With z = f / ‖f‖, μ the mean of z over all training data and W_c = norm(mean_c z − μ), logits
    are norm(z − μ) · W_cᵀ / temperature. W and μ are computed from forget and retain set with their
    true labels: before the first epoch, after each epoch of the inner method, and at the end. In
    between they are constant. The result has one more state entry, μ. A model needs `adapt` before
    it can load such a result.
    """

    name: ClassVar = "cmf"
    source: ClassVar = (
        "class-mean-feature head, arXiv 2604.08271; an epoch there is an epoch of all the inner "
        "method's phases here; a temperature other than 1 is ours"
    )
    needs: ClassVar = ("forget", "retain", "labels", "a linear head", "what the inner method needs")
    passes: ClassVar = "forward: (inner's epochs + 1) × (forget + retain), and what inner costs"
    search_space: ClassVar = {"inner.lr": Range(1e-3, 0.2)}
    adds: ClassVar = ("mean",)
    recipes: ClassVar = {
        "cifar10-resnet18-cmf": _published(1e-4, "one class"),
        "cifar10-resnet18-cmf-three": _published(2e-3, "three classes"),
    }

    inner: Annotated[
        Any, AfterValidator(inner_method), "the method that unlearns, such as random_label()"
    ] = RandomLabel()
    temperature: Annotated[
        Positive, "divides the cosines; at 1, as published, logits lie in [−1, 1]"
    ] = 1.0

    def __call__(self, task: Task) -> nn.Module:
        sources = (task.needs_retain(self.name), task.forget)
        model = task.engine.placed(self.adapt(task.model))
        refresh_head(task.engine, model, sources)

        def refreshing(trained: nn.Module, phases: Sequence[Phase]) -> Sequence[Phase]:
            if type(trained) is not type(model):  # such as a noise that is learnt
                return phases
            first = phases[0]

            def prepare(model: nn.Module, epoch: int) -> bool | None:
                if epoch > 0:
                    refresh_head(task.engine, model, sources)
                return None if first.prepare is None else first.prepare(model, epoch)

            return [replace(first, prepare=prepare), *phases[1:]]

        inner = cast("Method", self.inner)
        result = inner(replace(task, model=model, engine=task.engine.changing(refreshing)))
        refresh_head(task.engine, result, sources)
        return result.eval()

    def adapt(self, model: nn.Module) -> nn.Module:
        """A copy of the model with a class-mean head that is still empty.

        Raises:
            Refused: The head is no plain nn.Linear of its own.
        """
        adapted = copy.deepcopy(model)
        name, head = plain_head(adapted, self.name)
        replace_module(adapted, name, module=ClassMeanHead(head, self.temperature))
        return adapted


class ClassMeanHead(nn.Linear):
    """A head whose weight W [C, D], bias [C] and mean μ [D] are buffers that no optimizer moves.

    The bias is zero, where the replaced head had one.
    """

    mean: Tensor

    def __init__(self, head: nn.Linear, temperature: float) -> None:
        super().__init__(head.in_features, head.out_features, bias=False, device="meta")
        self.temperature = temperature
        del self.weight, self.bias
        self.register_buffer("weight", torch.zeros_like(head.weight, requires_grad=False))
        self.register_buffer(
            "bias", None if head.bias is None else torch.zeros_like(head.bias, requires_grad=False)
        )
        self.register_buffer("mean", head.weight.new_zeros(head.in_features))

    def forward(self, input: Tensor) -> Tensor:
        """Features [B, D] -> logits [B, C]."""
        centred = normalize(normalize(input, dim=-1) - self.mean, dim=-1)
        return linear(centred, self.weight, self.bias) / self.temperature


class ClassMeans(NamedTuple):
    """Weight W [C, D], with zeros for a class without samples, and mean μ [D]."""

    weight: Tensor
    mean: Tensor


def class_means(
    engine: Engine, model: nn.Module, sources: Sequence[Source], num_classes: int
) -> ClassMeans:
    """W and μ from the head's inputs in eval mode, summed in float64."""
    width = find_head(model)[1].in_features
    device = engine.fabric.device
    sums = torch.zeros(num_classes, width, dtype=torch.float64, device=device)
    counts = torch.zeros(num_classes, dtype=torch.float64, device=device)
    for source in sources:
        for batch, outputs in engine.forward(model, source):
            sums.index_add_(0, batch.labels, normalize(outputs.features.double(), dim=1))
            counts.index_add_(0, batch.labels, torch.ones_like(batch.labels, dtype=torch.float64))
    mean = sums.sum(0) / counts.sum()
    centres = sums / counts.clamp_min(1).unsqueeze(1) - mean
    return ClassMeans(normalize(centres, dim=1) * (counts > 0).unsqueeze(1), mean)


def refresh_head(engine: Engine, model: nn.Module, sources: Sequence[Source]) -> None:
    """Set the class-mean head of the model from the model's own features."""
    _, head = find_head(model)
    found = class_means(engine, model, sources, head.out_features)
    with torch.no_grad():
        head.weight.copy_(found.weight)
        cast(ClassMeanHead, head).mean.copy_(found.mean)
