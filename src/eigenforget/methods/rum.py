"""RUM: divide the forget set by memorisation, and unlearn each part in the way that suits it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pydantic
import torch
from torch import Tensor, nn

from eigenforget.core.errors import Refused
from eigenforget.core.fields import Count, Positive
from eigenforget.core.spec import configured
from eigenforget.data.sources import JoinedSource, Source
from eigenforget.methods.base import InnerMethodOrNone, Method, Range, Task, wants_retain
from eigenforget.methods.finetune import Finetune
from eigenforget.methods.masked import Masked
from eigenforget.methods.neg_grad_plus import NegGradPlus
from eigenforget.methods.published import CIFAR10, RESNET18, PublishedRun
from eigenforget.training.losses import cross_entropy, kl_to_target
from eigenforget.training.phases import Optimizer, Phase
from eigenforget.training.recipe import supervised

_AUTHORS: dict[str, Any] = dict(
    momentum=0.9,
    nesterov=False,
    weight_decay=5e-4,
    schedule="constant",
    clip=0.0,
    batch_size=256,
    forget_batch_size=256,
)
"""What the three parts of the authors' run have in common."""


@configured
class RUM(Method):
    """Unlearn the third of the forget set that is memorised least with `low`, then the others.

    The parts are unlearned in the order `low`, `medium`, `high`, each from the model that the part
    before left, and with the parts that come later among the retain samples. None leaves a part
    alone: samples that are hardly memorised leave nothing to forget, and unlearning them does harm.
    Memorisation is estimated by a proxy. "loss" takes the original's cross-entropy, since a model
    memorises what is hard to learn. "heldout" takes the symmetric Kullback-Leibler divergence
    between the predictions of the original and of a copy fine-tuned on unseen samples, since what
    is memorised is lost first.
    """

    name: ClassVar = "rum"
    source: ClassVar = (
        "Zhao, Kurmanji, Barbulescu, Triantafillou, Triantafillou: What makes unlearning hard and "
        "what to do about it, arXiv 2406.01257; proxies: Zhao, Triantafillou, arXiv 2410.16516; "
        "deviations: memorisation is estimated (there from many models, or over a training), and "
        "the forget set is divided into thirds (there drawn from low, medium and high)"
    )
    needs: ClassVar = (
        "forget",
        "labels",
        "retain data where a part needs them",
        "what the parts need",
        "unseen samples with proxy='heldout'",
    )
    passes: ClassVar = (
        "what the parts train; forward: forget, and 2 × forget + trained: heldout_epochs × unseen "
        "with proxy='heldout'"
    )
    search_space: ClassVar = {"medium.lr": Range(1e-4, 0.2)}
    recipes: ClassVar = {
        "cifar10-resnet18-rum": PublishedRun(
            dict(
                low=NegGradPlus(epochs=5, lr=0.01, alpha=0.99, **_AUTHORS),
                medium=NegGradPlus(epochs=5, lr=0.01, alpha=0.97, **_AUTHORS),
                high=NegGradPlus(epochs=10, lr=0.001, alpha=0.97, **_AUTHORS),
            ),
            RESNET18,
            CIFAR10,
            "3,000 samples, 1,000 each of low, medium and high memorisation",
            "kairanzhao/RUM, main_rum_proxy.py and arg_parser.py, f593c9d",
            "proxy= is a choice of its command, and ours is loss",
        ),
    }

    low: Annotated[InnerMethodOrNone, "method of the least memorised; None: nothing"] = None
    medium: Annotated[InnerMethodOrNone, "method of the middle third"] = Finetune()
    high: Annotated[InnerMethodOrNone, "method of the most memorised"] = Masked()
    proxy: Annotated[
        Literal["loss", "heldout"], "what memorisation is estimated from: see above"
    ] = "loss"
    heldout_epochs: Annotated[Count, "passes of the copy over the unseen samples"] = 5
    heldout_lr: Annotated[Positive, "its SGD learning rate"] = 0.01

    @pydantic.model_validator(mode="after")
    def _some_part_is_unlearned(self) -> Self:
        if not any(self._methods):
            raise ValueError("low, medium and high are None: nothing would be unlearned")
        return self

    @property
    def log_rows(self) -> int:
        """Number of log rows: those of the parts, and of the copy where one is made."""
        copy = self.heldout_epochs if self.proxy == "heldout" else 0
        return copy + sum(method.log_rows for method in self._methods if method is not None)

    @property
    def _methods(self) -> tuple[Method | None, ...]:
        return self.low, self.medium, self.high

    def __call__(self, task: Task) -> nn.Module:
        used = [method for method in self._methods if method is not None]
        if any(map(wants_retain, used)):
            task.needs_retain(self.name)
        if len(task.forget) < 3:
            raise Refused(f"{self.name} divides the forget set into thirds: it needs 3 samples")
        parts = np.array_split(np.argsort(self.memorisation(task), kind="stable"), 3)
        model = task.student()
        for number, method in enumerate(self._methods):
            if method is None:
                continue
            later = [task.forget.subset(rows) for rows in parts[number + 1 :]]
            retain: Source | None = task.retain
            if retain is not None and later:
                retain = JoinedSource((retain, *later))
            forget = task.forget.subset(np.sort(parts[number]))
            model = method(replace(task, model=model, forget=forget, retain=retain))
        return model.eval()

    def memorisation(self, task: Task) -> np.ndarray:
        """The estimate [N_f] of each forget sample; only its order counts."""
        teacher = task.teacher()
        if self.proxy == "loss":
            return np.concatenate(
                [
                    cross_entropy(outputs.logits, batch.labels).double().cpu().numpy()
                    for batch, outputs in task.engine.forward(
                        teacher, task.forget, layer=task.layer
                    )
                ]
            )
        copy = task.fit(
            task.student(),
            [
                Phase(
                    "held out",
                    (task.needs_unseen(self.name),),
                    supervised,
                    Optimizer(lr=self.heldout_lr, nesterov=False),
                )
            ],
            epochs=self.heldout_epochs,
        )
        return symmetric_divergence(_logits(task, teacher), _logits(task, copy)).cpu().numpy()


def symmetric_divergence(one: Tensor, other: Tensor) -> Tensor:
    """½ KL(p ‖ q) + ½ KL(q ‖ p) per sample [B] of the softmax of two logits [B, C]."""
    return (kl_to_target(one.softmax(1), other) + kl_to_target(other.softmax(1), one)) / 2


def _logits(task: Task, model: nn.Module) -> Tensor:
    """Logits [N_f, C] of the forget set, in float64."""
    passes = task.engine.forward(model, task.forget, layer=task.layer)
    return torch.cat([outputs.logits.double() for _, outputs in passes])
