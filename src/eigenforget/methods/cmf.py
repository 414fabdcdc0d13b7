"""CMF: a head made of class-mean features, which cannot drift away from the features while another
method unlearns.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, cast

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from eigenforget.core.spec import configured
from eigenforget.data.sources import Source
from eigenforget.methods.base import Method, Task, inner_method
from eigenforget.methods.random_label import RandomLabel
from eigenforget.models.features import find_head
from eigenforget.models.heads import plain_head, replace_module
from eigenforget.training.engine import Engine
from eigenforget.training.phases import Phase


@configured
class CMF:
    """Run another method on the model with its head replaced by a class-mean-feature head.

    With z = f / ‖f‖, μ its mean over all training data and W_c = norm(mean_c z − μ): logits =
    norm(z − μ) · W_cᵀ / temperature. W and μ come from forget and retained data with their true
    labels: before the first epoch, after each cycle of the inner method and at the end. They are
    constants in between. The result has one more state entry, μ, and needs `adapt` before it is
    loaded.
    """

    name: ClassVar[str] = "cmf"
    source: ClassVar[str] = (
        "class-mean-feature head, arXiv 2604.08271; an epoch there is a cycle of the inner method's phases here; a temperature "
        "other than 1 is ours"
    )
    needs: ClassVar[tuple[str, ...]] = (
        "forget",
        "retain",
        "labels",
        "a linear head",
        "what the inner method needs",
    )
    guarantee: ClassVar[str] = "empirical"
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    passes: ClassVar[str] = (
        "forward: (inner's cycles + 1) × (forget + retain), and what inner costs"
    )
    adds: ClassVar[tuple[str, ...]] = ("mean",)
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "cifar10-resnet18": {
            "inner": RandomLabel(epochs=3, lr=2e-3, batch_size=128),
            "temperature": 1.0,
        },
    }

    inner: Annotated[
        Any,
        AfterValidator(inner_method),
        Field(description="the method that unlearns, such as random_label()"),
    ] = RandomLabel()
    temperature: Annotated[
        float,
        Field(gt=0, description="divides the cosines; at 1, as published, logits lie in [−1, 1]"),
    ] = 1.0

    def __call__(self, task: Task) -> nn.Module:
        sources = (task.needs_retain(self.name), task.forget)

        def refresh(model: nn.Module) -> None:
            refresh_head(task.engine, model, sources)

        model = task.engine.placed(self.adapt(task.model))
        refresh(model)
        engine = _Refreshing(task.engine, type(model), refresh)
        result = cast(Method, self.inner)(replace(task, model=model, engine=cast(Engine, engine)))
        refresh(result)
        return result.eval()

    def adapt(self, model: nn.Module) -> nn.Module:
        """A copy of the model with a class-mean head that is still empty. Errors: Refused where the
        head is no plain nn.Linear of its own.
        """
        adapted = copy.deepcopy(model)
        name, head = plain_head(adapted, self.name)
        replace_module(adapted, name, ClassMeanHead(head, self.temperature))
        return adapted


class ClassMeanHead(nn.Linear):
    """weight W [C, D], bias [C] (zero, where the replaced head had one) and mean μ [D], buffers
    that no optimizer moves.
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


class _Refreshing:
    """An engine that refreshes the head before each cycle but the first, when it trains a model of
    the given type.
    """

    def __init__(
        self, engine: Engine, kind: type[nn.Module], refresh: Callable[[nn.Module], None]
    ) -> None:
        self._engine, self._kind, self._refresh = engine, kind, refresh

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def fit(self, model: nn.Module, phases: Sequence[Phase], **settings: Any) -> nn.Module:
        if type(model) is not self._kind:
            return self._engine.fit(model, phases, **settings)
        first = phases[0]

        def prepare(model: nn.Module, cycle: int) -> None:
            if cycle > 0:
                self._refresh(model)
            if first.prepare is not None:
                first.prepare(model, cycle)

        return self._engine.fit(model, [replace(first, prepare=prepare), *phases[1:]], **settings)
