"""MUDA: dimensional alignment and self-distillation, alternating with recovery."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from eigenforget.alignment import (
    Centering,
    Form,
    default_k,
    dimensional_alignment_loss,
    leading,
    merge,
    moments,
)
from eigenforget.core.errors import Refused
from eigenforget.core.fields import Below1, Count, NonNegative, Positive
from eigenforget.core.spec import configured
from eigenforget.data.sources import Source
from eigenforget.methods.base import Method, Range, Task, optimizer_of
from eigenforget.methods.fields import BatchSize
from eigenforget.training.losses import (
    MaskedTarget,
    kl_to_target,
    masked_true_class_target,
    soft_target,
)
from eigenforget.training.phases import LossInputs, Phase, ScheduleName
from eigenforget.training.recipe import supervised


@configured
class MUDA(Method):
    """Unlearning by dimensional alignment.

    Every alternation runs a forget phase, which minimises L = w_da · L_DA + w_sd · L_SD on the
    forget set, and then a recover phase, which minimises the cross-entropy of the retain set.

        L_DA = −DA_k² against U, the leading k eigenvectors of the retain features, detached and
               computed anew at the start of every alternation (every `refresh` of them)
        L_SD = KL(q ‖ p_θ) with q made of the frozen original's logits

    The paper leaves k, centering, weights, target and schedule open: they are fields here. Each
    phase keeps its own optimizer over all alternations.

    A forget phase is one pass over the forget set, or `steps` batches of it. Every alternation
    draws its batches anew: with fewer steps than a pass, some samples come up again before others
    were seen. A recover phase has recover_ratio × the steps of the forget phase, rounded up in
    every alternation: with steps = 1 every ratio up to 1 is one step. recover_ratio = 0 leaves it
    out; the retain set then serves U only, and where w_da = 0 too, none is needed.
    """

    name: ClassVar = "muda"
    source: ClassVar = (
        "Seo, Kim, Han: Revisiting Machine Unlearning with Dimensional Alignment, arXiv "
        "2407.17710; L_DA = −DA² as there, the self-distillation target, k, weights and schedule "
        "are our choices"
    )
    needs: ClassVar = ("forget", "retain", "labels")
    passes: ClassVar = (
        "trained: alternations × (1 + recover_ratio) × forget; forward: alternations × (forget + "
        "basis_samples / refresh); with steps, steps × batch_size stands for forget"
    )
    search_space: ClassVar = {
        "forget_lr": Range(0.01, 0.2),
        "recover_lr": Range(0.01, 0.2),
        "w_da": Range(0.1, 10.0),
    }

    alternations: Annotated[Count, "number of forget phases, each followed by a recover phase"] = 10
    w_da: Annotated[NonNegative, "weight of L_DA, which lies in [−1, 0]"] = 1.0
    w_sd: Annotated[NonNegative, "weight of L_SD, in nats"] = 1.0
    k: Annotated[
        Count | None,
        "directions of U; None is the number of retained classes, or half of the "
        "feature width where that is no larger",
    ] = None
    centering: Annotated[Centering, "'each' subtracts each side's own mean"] = "none"
    target: Annotated[
        Literal["auto", "masked", "masked_label", "self", "self_soft"],
        "q: 'masked' puts the forgotten classes at −∞; 'masked_label' each "
        "sample's own label, which is right where labels are wrong, as in a backdoor; 'self' "
        "is the original's own softmax and 'self_soft' that at `temperature`, which keep its "
        "decisions; 'auto' is masked when whole classes are forgotten, else self_soft",
    ] = "auto"
    temperature: Annotated[Positive, "softening of the 'self_soft' target"] = 2.0
    forget_lr: Annotated[Positive, "SGD learning rate of the forget phase"] = 0.05
    recover_lr: Annotated[Positive, "SGD learning rate of the recover phase"] = 0.05
    momentum: Annotated[Below1, "SGD momentum of both phases"] = 0.9
    weight_decay: Annotated[NonNegative, "L2 penalty of both phases"] = 5e-4
    schedule: Annotated[ScheduleName, "schedule of both learning rates"] = "cosine"
    clip: Annotated[NonNegative, "gradient-norm limit of both phases, 0 for none"] = 1.0
    recover_ratio: Annotated[
        NonNegative, "recover steps per forget step, rounded up in each alternation; 0 for none"
    ] = 1.0
    basis_samples: Annotated[Count, "retain samples, drawn anew, that U is computed from"] = 5000
    batch_size: BatchSize = 128
    norm: Annotated[
        Literal["train", "frozen"],
        "batch-norm statistics in the forget phase: updated, or kept as they are",
    ] = "frozen"
    form: Annotated[
        Form, "L_DA: −DA_k² ('frobenius'), or minus the share of the energy in span(U) ('energy')"
    ] = "frobenius"
    refresh: Annotated[Count, "alternations from one computation of U to the next"] = 1
    steps: Annotated[
        Count | None, "forget steps of one alternation; None is one pass over the forget set"
    ] = None

    @property
    def optimises(self) -> tuple[str, ...]:
        """Dimensional alignment, where it is part of the loss."""
        if self.w_da == 0:
            return ()
        return ("da",) if self.form == "frobenius" else ("da", "da_energy")

    @property
    def log_rows(self) -> int:
        """Number of log rows: one per forget and per recover phase."""
        return self.alternations * (2 if self.recover_ratio > 0 else 1)

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name) if self.w_da > 0 or self.recover_ratio > 0 else None
        target = self._target(task)
        if self.w_da == 0 and self.w_sd == 0:
            raise Refused("muda needs w_da or w_sd above 0")
        basis = None if self.w_da == 0 or retain is None else _Basis(self, task, retain)

        def forget_loss(part: LossInputs) -> Tensor:
            q = target(part.teachers[0].logits, part.batch.labels)
            loss = self.w_sd * kl_to_target(q, part.outputs.logits)
            if basis is not None:
                loss = loss + self.w_da * basis.loss(part.outputs.features)
            return loss

        forget = Phase(
            "forget",
            (task.forget,),
            forget_loss,
            optimizer_of(self, lr=self.forget_lr),
            batch_size=self.batch_size,
            teachers=(task.teacher(),),
            prepare=None if basis is None else basis.refresh,
            norm=self.norm,
            steps_per_epoch=self.steps,
        )
        phases = [forget]
        if retain is not None and self.recover_ratio > 0:
            recover = Phase(
                "recover",
                (retain,),
                supervised,
                optimizer_of(self, lr=self.recover_lr),
                batch_size=min(self.batch_size, len(retain)),
                steps_per_epoch=math.ceil(self.recover_ratio * forget.steps()),
            )
            phases.append(recover)
        return task.fit(task.student(), phases, epochs=self.alternations)

    def _target(self, task: Task) -> Any:
        """(logits of the original, labels) -> q.

        Classes that earlier requests took have no place in q, which would bring them back.
        """
        kind = self.target
        gone, here = torch.tensor(task.forgotten_classes), set(task.forget.labels().tolist())
        earlier = torch.tensor(
            [c for c in task.forgotten_classes if c not in here], dtype=torch.long
        )
        if kind == "auto":
            kind = "masked" if len(earlier) < len(gone) else "self_soft"
        if kind == "masked_label":
            return lambda logits, labels: masked_true_class_target(
                logits.index_fill(1, earlier.to(logits.device), -math.inf), labels
            )
        if kind == "masked":
            if not task.forgotten_classes:
                raise Refused(
                    'muda(target="masked") needs a class that is forgotten as a whole; use '
                    'target="self_soft", or "masked_label"'
                )
            masked = MaskedTarget(gone)
            return lambda logits, _: masked(logits)
        scale = 1.0 if kind == "self" else self.temperature
        if len(earlier):
            without = MaskedTarget(earlier)
            return lambda logits, _: without(logits / scale)
        return lambda logits, _: soft_target(logits, scale)


class _Basis:
    """U, and L_DA against it."""

    def __init__(self, method: MUDA, task: Task, retain: Source) -> None:
        self._method, self._task, self._retain = method, task, retain
        # Counted before the training: reading labels may draw from the random numbers of a dataset.
        self._classes = len(task.retained_classes)
        self.vectors = torch.empty(0)

    def refresh(self, model: nn.Module, epoch: int) -> None:
        """Compute U from a fresh sample of the retain set through the model as it stands.

        It is kept until `refresh` alternations are over.
        """
        if epoch % self._method.refresh:
            return
        count = min(len(self._retain), self._method.basis_samples)
        sample = self._task.sample(self._retain, count, "basis", epoch)
        total = None
        for _, outputs in self._task.engine.forward(model, sample, layer=self._task.layer):
            part = moments(outputs.features)
            total = part if total is None else merge(total, part)
        assert total is not None  # a Source is never empty
        space = total.space(self._method.centering)
        k = self._method.k or default_k(self._classes, space.vectors.shape[0])
        self.vectors = leading(space, k, count)

    def loss(self, features: Tensor) -> Tensor:
        """L_DA of a forget batch [B, D]; under centering "each" less its own mean."""
        rows = features - features.mean(0) if self._method.centering == "each" else features
        return dimensional_alignment_loss(rows, self.vectors, form=self._method.form)
