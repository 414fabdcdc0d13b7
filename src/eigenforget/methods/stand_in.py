"""A stand-in for a model that never saw the forget set.

It is the original with its later layers reinitialised and trained on some retain samples. To these
layers the forget set is unseen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.core.types import Outputs
from eigenforget.data.sources import Source
from eigenforget.methods.base import Task
from eigenforget.methods.cf_k import LAYERS, draw_anew, last_layers
from eigenforget.methods.retained import total_variance
from eigenforget.training.losses import cross_entropy, kl_to_target, soft_target
from eigenforget.training.phases import LossInputs, Optimizer, Phase

Guide = Callable[[LossInputs], Tensor]
"""A loss per sample [B] of one source."""


@dataclass(frozen=True)
class StandIn:
    """How a stand-in is made.

    Its loss is CE + KL(p_0 ‖ p) + ‖f − f_0‖² / Var f_0 on the retain samples, with p_0 and f_0 the
    original's softmax and features and Var f_0 the trace of their covariance.

    Attributes:
        method: The method that asks for it, in messages; its weights follow from it and the seed.
        redrawn: Share of the convolutions and linear layers reinitialised, from the end; 1: all.
        epochs: Passes over the samples.
        batch_size: Samples per step.
        optimizer: How its weights move. Without batch norm it needs a limit of the gradient norm.
        steps: Steps of a pass that starts again where the samples run out; None: one pass.
    """

    method: str
    redrawn: float
    epochs: int
    batch_size: int
    optimizer: Optimizer
    steps: int | None = None

    def train(self, task: Task, sample: Source, names: Container[str] | None = None) -> nn.Module:
        """The stand-in, trained on these retain samples. What is frozen is not drawn.

        Args:
            task: Has the original.
            sample: The retain samples.
            names: The modules to reinitialise, in place of the share `redrawn`.

        Raises:
            Refused: There is no layer to draw.
        """
        model = task.student().cpu()
        layers = (
            self.drawn(model)
            if names is None
            else {name: module for name, module in model.named_modules() if name in names}
        )
        trains = draw_anew(
            model,
            layers,
            seed=seeds.derive(task.seed, self.method),
            method=self.method,
            without_reset="own scale",
        )
        if not trains:
            raise Refused(
                f"{self.method} needs a layer that is not frozen among the last {len(layers)} "
                "modules, to reinitialise it"
            )
        original = outputs_of(task, task.teacher(), sample)
        phase = Phase(
            "stand-in",
            (sample,),
            towards(original, labels=1.0, logits=1.0, features=1.0),
            self.optimizer,
            batch_size=self.batch_size,
            norm="trained",
            trains=trains.__contains__,
            steps_per_epoch=self.steps,
        )
        return task.fit(model, [phase], epochs=self.epochs, look=None)  # nobody asks about it

    def drawn(self, model: nn.Module) -> dict[str, nn.Module]:
        """The modules to draw anew, by name: from the first layer of that share on; at 1 all."""
        if self.redrawn == 1:
            return dict(model.named_modules())
        count = sum(isinstance(module, LAYERS) for module in model.modules())
        if count == 0:
            raise Refused(
                f"{self.method} reinitialises convolutions and linear layers, and this model has "
                "none; redrawn=1 reinitialises everything"
            )
        return last_layers(model, math.ceil(round(self.redrawn * count, 9)), self.method)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Log p_y − log(1 − p_y) per sample [B], of logits [B, C] and labels [B].

    It is the label's logit minus the log-sum-exp of the others.
    """
    own = labels.unsqueeze(1)
    return logits.gather(1, own).squeeze(1) - logits.scatter(1, own, -math.inf).logsumexp(1)


def towards(original: Outputs, *, labels: float, logits: float, features: float) -> Guide:
    """A loss: the weighted distance [B] from the labels and from the original's outputs.

    Args:
        original: Outputs of the original for all samples, found by the position of a sample.
        labels: Weight of the cross-entropy.
        logits: Weight of KL(p_0 ‖ p).
        features: Weight of the squared error of the features over their variance.
    """
    variance = total_variance(original.features)
    targets = soft_target(original.logits, 1.0)

    def loss(part: LossInputs) -> Tensor:
        rows = part.batch.positions
        error = (part.outputs.features - original.features[rows]).square().sum(1) / variance
        found = labels * cross_entropy(part.outputs.logits, part.batch.labels) + features * error
        return found + logits * kl_to_target(targets[rows], part.outputs.logits)

    return loss


def outputs_of(task: Task, model: nn.Module, source: Source) -> Outputs:
    """Logits [N, C] and features [N, D] of all samples in order."""
    found = [outputs for _, outputs in task.engine.forward(model, source, layer=task.layer)]
    return Outputs(torch.cat([o.logits for o in found]), torch.cat([o.features for o in found]))
