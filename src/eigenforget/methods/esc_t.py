"""ESC-T: ESC with a trained mask on the forget directions."""

from __future__ import annotations

import copy
from typing import Annotated, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from eigenforget.core import notices
from eigenforget.core.fields import Between01, Count, Positive, TwoOrMore
from eigenforget.core.spec import configured
from eigenforget.data.sources import TensorSource
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.esc import fold, forget_directions
from eigenforget.methods.published import ALL_CNN, CIFAR10, PublishedRun
from eigenforget.models.features import find_head
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import LossInputs, Phase


@configured
class ESCT(Method):
    """Learn a mask M [D, R] in [0, 1] on U, the directions of the forget features; fold it in.

    The head sees P f with P = V Vᵀ + (I − U Uᵀ) and V = U ∘ M. M starts at 1 and takes projected
    SGD steps on the forget samples that are still classified correctly, as long as there are any.
    At the end entries above `threshold` become 1 and the others 0. loss="paper" is −log(1 − p_y),
    which is bounded below; "code" is log p_y, which is not. All weights before the head are the
    original's, and so are the features that enter it. A mask whose entries all stay above
    `threshold` changes no answer, which is a warning.
    """

    name: ClassVar = "esc_t"
    source: ClassVar = (
        "Lee et al.: ESC, Erasing Space Concept for Knowledge Deletion, CVPR 2025, arXiv "
        "2504.02199 (ESC-T), projecting with V Vᵀ as the authors' code does. Deviations: as in "
        "esc; the mask trains on the features of a plain pass without augmentation"
    )
    needs: ClassVar = ("forget", "labels", "a linear head on the features")
    guarantee: ClassVar = (
        "none: plug-in; original weights still present; features before the head are the original's"
    )
    passes: ClassVar = "forward: forget; trained: epochs × forget through the head only"
    search_space: ClassVar = {"lr": Range(1e-3, 1.0)}
    recipes: ClassVar = {
        "cifar10-allcnn-esc": PublishedRun(
            dict(
                lr=1e-3,
                epochs=50,
                batch_size=64,
                threshold=0.7,
                loss="code",
            ),
            ALL_CNN,
            CIFAR10,
            "one class",
            "KU-VGI/ESC, README.md and unlearn.py, 29c66b8",
        ),
    }

    epochs: Annotated[Count, "passes over the forget features"] = 50
    lr: Annotated[Positive, "SGD step of the mask"] = 0.1
    loss: Annotated[
        Literal["paper", "code"], "−log(1 − p_y), or the negated cross-entropy log p_y"
    ] = "paper"
    threshold: Annotated[Between01, "mask entries up to this become 0, the others 1"] = 0.7
    batch_size: Annotated[TwoOrMore, "forget samples per step"] = 64

    def __call__(self, task: Task) -> nn.Module:
        student = task.student()
        space, rows = forget_directions(task, student, self.name)
        plug = _MaskedHead(find_head(student)[1], space.vectors)
        labels = torch.as_tensor(task.forget.labels()).to(rows.device)
        source = TensorSource(rows.to(plug.mask.dtype), labels)
        phase = Phase(
            "mask",
            (source,),
            self._loss,
            optimizer_of(self, momentum=0.0, weight_decay=0.0),
            self.batch_size,
            on_gradients=lambda model: _stay_in_unit_interval(model, self.lr),
            trains=lambda name: name == "mask",
        )
        task.fit(plug, [phase], epochs=self.epochs, layer=None)
        trained = plug.mask.detach()
        least = float(trained.min())
        if self.threshold < least < 1:  # at 1 no forget sample was right, and nothing is to do
            notices.warn(
                f"{self.name} changes no answer: after {self.epochs} epochs the smallest entry of "
                f"its mask is {least:.3g}, above the threshold of {self.threshold:g}; take a "
                "larger lr or more epochs"
            )
        mask = (trained > self.threshold).to(space.vectors)
        fold(student, masked_projection(space.vectors, mask))
        return student.eval()

    def _loss(self, part: LossInputs) -> Tensor:
        logits, labels = part.outputs.logits, part.batch.labels
        hit = logits.detach().argmax(1) == labels
        if self.loss == "code":
            value = -cross_entropy(logits, labels)
        else:
            others = logits.scatter(1, labels.unsqueeze(1), float("-inf"))
            value = logits.logsumexp(1) - others.logsumexp(1)
        # Mean over the samples still classified correctly, 0 when there are none.
        return torch.where(hit, value, 0.0).sum() / hit.sum().clamp(min=1)


class _MaskedHead(nn.Module):
    """Features [B, D] -> logits [B, C] through P and a copy of the head."""

    def __init__(self, head: nn.Linear, directions: Tensor) -> None:
        super().__init__()
        self.head = copy.deepcopy(head)
        self.register_buffer("directions", directions.to(head.weight))
        self.mask = nn.Parameter(torch.ones_like(directions, dtype=head.weight.dtype))

    def forward(self, features: Tensor) -> Tensor:
        projected = features @ masked_projection(self.get_buffer("directions"), self.mask)
        return cast("Tensor", self.head(projected))


def masked_projection(u: Tensor, mask: Tensor) -> Tensor:
    """P = V Vᵀ + (I − U Uᵀ) [D, D] with V = U ∘ M; the identity at M = 1."""
    v = u * mask
    return v @ v.T + torch.eye(len(u), dtype=u.dtype, device=u.device) - u @ u.T


def _stay_in_unit_interval(model: nn.Module, lr: float) -> None:
    """Shorten gradients so that the step of plain SGD ends inside [0, 1]: projected SGD."""
    mask = model.get_parameter("mask")
    assert mask.grad is not None  # runs after backward
    mask.grad = torch.minimum(
        torch.maximum(mask.grad, (mask.detach() - 1) / lr), mask.detach() / lr
    )
