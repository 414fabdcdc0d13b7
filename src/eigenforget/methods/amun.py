"""AMUN: fine-tune on the nearest adversarial example of each forget sample."""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from eigenforget.core import notices
from eigenforget.core.errors import Refused
from eigenforget.core.fields import Count, Positive
from eigenforget.core.spec import configured
from eigenforget.data.sources import JoinedSource, Source, TensorSource
from eigenforget.methods.base import Method, Range, Task, optimizer_of, real_valued
from eigenforget.methods.fields import LearningRate, SGDFields
from eigenforget.methods.published import CIFAR10, RESNET18, PublishedRun
from eigenforget.models.features import called_with, logits_of
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import Phase
from eigenforget.training.recipe import supervised


class Adversarial(NamedTuple):
    """Adversarial examples.

    Attributes:
        inputs: [N, ...].
        labels: The wrong label of each [N].
        found: Whether there is one at all [N].
    """

    inputs: Tensor
    labels: Tensor
    found: Tensor


@configured
class AMUN(SGDFields, Method):
    """Fine-tune on retain set, forget set and adversarial examples of the forget set, mixed.

    The adversarial example of a forget sample is found by projected gradient ascent on the
    cross-entropy of the frozen original, in eval mode. It is the first point that the original
    assigns to another class. The search takes `steps` steps of a tenth of the radius along the
    gradient, in an L2 ball around the sample. The radius starts at `radius` and doubles, up to
    `doublings` times, until the class changes. The label of the example is that other class. The
    model agrees with this label already, so the decision boundary moves only close to the sample.
    Without a retain set, the model trains on the other two.
    """

    name: ClassVar = "amun"
    source: ClassVar = (
        "Ebrahimpour-Boroojeny, Sundaram, Chandrasekaran: AMUN: Adversarial Machine UNlearning, "
        "arXiv 2503.00917, algorithm 1, as in the authors' code; deviations: examples are not "
        "clipped, as the range of the inputs is not known; never a forgotten class as label"
    )
    needs: ClassVar = ("forget", "labels", "real-valued inputs", "a retain set where there is one")
    passes: ClassVar = (
        "trained: gradients of inputs, up to steps × (1 + doublings) × forget, then "
        "epochs × (retain + 2 × forget)"
    )
    search_space: ClassVar = {"lr": Range(1e-4, 0.1)}
    recipes: ClassVar = {
        "cifar10-resnet18-amun": PublishedRun(
            dict(
                epochs=10,
                lr=0.01,
                momentum=0.9,
                nesterov=False,
                weight_decay=5e-4,
                schedule="constant",
                drops=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
                batch_size=128,
                radius=0.04,
                steps=50,
                forget_samples=True,
            ),
            RESNET18,
            CIFAR10,
            "10 % random samples",
            "Ali-E/AMUN, README.md and adversarial_unlearn.py, 9e341a9",
            "inputs lie in [0, 1] there and are not normalised",
        ),
    }

    epochs: Annotated[Count, "passes over all that is trained on"] = 5
    lr: LearningRate = 0.01
    radius: Annotated[Positive, "first L2 radius of the search, in units of the inputs"] = 0.04
    steps: Annotated[Count, "steps in each ball"] = 50
    doublings: Annotated[Count, "how often the radius doubles at most"] = 20
    forget_samples: Annotated[
        bool, "also train on the forget samples with their own labels; False leaves them out"
    ] = True

    def __call__(self, task: Task) -> nn.Module:
        found = self.examples(task)
        missing = int((~found.found).sum())
        if missing == len(found.found):
            raise Refused(
                f"{self.name} found no adversarial example of any forget sample within "
                f"{self.radius * 2**self.doublings:.3g}; raise doublings or radius"
            )
        if missing:
            notices.warn(
                f"{self.name}: {missing} of {len(found.found)} forget samples have no adversarial "
                "example within the largest radius; they are trained on without one"
            )
        parts: list[Source] = [TensorSource(found.inputs[found.found], found.labels[found.found])]
        if self.forget_samples:
            parts.insert(0, task.forget)
        if task.retain is not None:
            parts.insert(0, task.retain)
        mixed = JoinedSource(tuple(parts))
        phase = Phase("adversarial", (mixed,), supervised, optimizer_of(self), self.batch_size)
        return task.fit(task.student(), [phase], epochs=self.epochs)

    def examples(self, task: Task) -> Adversarial:
        """The adversarial example of each forget sample, on the processor.

        Raises:
            Refused: Inputs are no real-valued tensor, or no second class is retained.
        """
        model, found = task.engine.placed(task.teacher()), []
        if len(task.forgotten_classes) >= task.num_classes:
            raise Refused(f"{self.name} needs a class that is retained")
        for batch in task.forget.batches(self.batch_size):
            batch = task.engine.fabric.to_device(batch)
            inputs = real_valued(batch.inputs, self.name, why="to move along their gradient")
            search = _Search(task, model, inputs, batch.labels)
            for doubling in range(self.doublings + 1):
                if not search.run(self.radius * 2**doubling, self.steps):
                    break
            found.append(search.result())
        return Adversarial(*(torch.cat(column).cpu() for column in zip(*found, strict=True)))


class _Search:
    """The ascent of the samples of a batch that are still classified as their label says."""

    def __init__(self, task: Task, model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
        self._task, self._model, self._origin, self._labels = task, model, inputs, labels
        self._moved = inputs.detach().clone()
        self._classes = labels.clone()
        gone = torch.zeros(task.num_classes, dtype=torch.bool)
        gone[list(task.forgotten_classes)] = True
        own = nn.functional.one_hot(labels, task.num_classes).bool()
        self._barred = gone.to(labels.device) & ~own

    def run(self, radius: float, steps: int) -> int:
        """Search within this radius; how many samples are left."""
        for step in range(steps + 1):  # the last pass only looks
            rows = (self._classes == self._labels).nonzero().squeeze(1)
            if not len(rows):
                return 0
            gradient = self._look(rows)
            left = self._classes[rows] == self._labels[rows]
            if step == steps:
                return int(left.sum())
            self._step(rows[left], gradient[left], radius)
        return 0

    def result(self) -> Adversarial:
        """What was found."""
        return Adversarial(self._moved, self._classes, self._classes != self._labels)

    def _look(self, rows: Tensor) -> Tensor:
        """Note the classes of these samples where they are; the gradient there [n, ...]."""
        inputs = self._moved[rows].requires_grad_(True)
        with torch.enable_grad():
            formatted = self._task.engine.formatted(inputs)
            logits = logits_of(called_with(self._model, formatted))
            loss = cross_entropy(logits, self._labels[rows]).sum()
            (gradient,) = torch.autograd.grad(loss, inputs)
        self._task.engine.meter.count(trained=len(rows))
        self._classes[rows] = logits.masked_fill(self._barred[rows], -torch.inf).argmax(1)
        return gradient

    def _step(self, rows: Tensor, gradient: Tensor, radius: float) -> None:
        """A tenth of the radius along the gradient, then back into the ball."""
        length = gradient.flatten(1).norm(dim=1).clamp_min(1e-10)
        moved = self._moved[rows] + radius / 10 * gradient / _beside(length, gradient)
        away = moved - self._origin[rows]
        shrink = (radius / away.flatten(1).norm(dim=1).clamp_min(1e-10)).clamp(max=1)
        self._moved[rows] = self._origin[rows] + away * _beside(shrink, away)


def _beside(values: Tensor, like: Tensor) -> Tensor:
    """Values [B] in a shape that multiplies like [B, ...]."""
    return values.view(-1, *[1] * (like.ndim - 1))
