"""Unseen distillation: forget samples get the answers of layers trained without them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from eigenforget.core import notices
from eigenforget.core.errors import Refused
from eigenforget.core.fields import Below1, Count, NonNegative, Positive, TwoOrMore, UpTo1
from eigenforget.core.spec import configured, spell
from eigenforget.data.sources import Source, steps_in_epoch, unaugmented
from eigenforget.methods.base import InnerMethodOrNone, Method, Range, Task, optimizer_of
from eigenforget.methods.cf_k import owned
from eigenforget.methods.fields import BatchNorm, Clip, LearningRate, SGDFields
from eigenforget.methods.gentle import gently
from eigenforget.methods.later_layers import behind_a_cut, later_layers, whole_look
from eigenforget.methods.stand_in import StandIn, margin, outputs_of, towards
from eigenforget.training.losses import kl_to_target, soft_target
from eigenforget.training.phases import LossInputs, Phase

_LEAST_EPOCHS, _LEAST_STEPS = 6, 80
"""A stand-in that takes fewer steps stays unsure: with 18 of them, on few samples of which models
know unseen ones as well, the result took 3 % of the forget set for another class."""

_NEARLY, _MEMORISED, _MOSTLY = 0.9, 0.95, 0.7
"""Shares that tell whether there is little to forget (see `_little`). The accuracy of a stand-in is
0.99 of the original's on digits, and 0.53 to 0.67 of it on 10,000 and 20,000 CIFAR-10 images that a
network memorised (accuracy 0.99 and more). The stand-in has an accuracy of 0.75 on 20,000 images on
which a better network has 0.86, and models that never saw them 0.80; the answers of such a stand-in
would do harm."""

_LEAST_KNOWN = 4096
"""Retained samples, if the steps have places for them, whose targets are computed. With 2,048 a
hundredth of 10,000 images lost 0.4 points more of test accuracy, and 5 points more of the forget
set (means of three training seeds)."""

_LEAST_BATCH, _RETAINED_STEPS = 16, 128
"""Batch norms of fewer samples are noise; steps that small retained sets are cut into."""


@configured
class UnseenDistill(SGDFields, Method):
    """Make the model treat forget samples like unseen ones, and preserve its answers on the others.

    1. A stand-in: the original with its later layers (`redrawn`) reinitialised and trained on
       `stand_in_samples` retain samples, the earlier layers frozen. Its loss on them is CE +
       KL(p_0 ‖ p) + ‖f − f_0‖² / Var f_0, with p_0 and f_0 the original's softmax and features and
       Var f_0 the trace of their covariance. Its later layers have not seen the forget set.
    2. The result: the original, trained on a forget and a retain batch in every step. With z the
       stand-in's logits · `sharpness`, q = softmax(z), and m the margin log p_y − log(1 − p_y),

           forget   w_target · KL(q ‖ p_θ) + w_margin · |m(p_θ) − m(q)|
           retain   w_labels · CE + w_logits · KL(p_0 ‖ p_θ) + w_features · ‖f_θ − f_0‖² / Var f_0

       The gradient of the margin does not fade where p_y and q_y are both near 1, as that of KL
       does. Both terms also pull up what lies too low, so nothing is driven below the stand-in's
       answers.

    With `trained` below 1 the earlier layers stay as they are, batch norms with their statistics,
    and nothing is augmented. Their activations are computed once where the stand-in keeps these
    layers, too.

    All targets are computed once, without augmentation, for as many retain samples as the steps
    take, or half as many beyond 4,096 with `trained` below 1. What is registered before the first
    reinitialised layer (embeddings, an input normalisation) stays in the stand-in, except with
    redrawn = 1. Frozen tensors always stay, and a weight that a reinitialised layer shares with an
    earlier one is reinitialised and trained. A forgotten class also gets the stand-in's logits,
    which were learned without that class; methods for classes do that better.

    The defaults suit a random forget set, an overfitted model and a large retain set. The stand-in
    knows what its earlier layers hold of the forget set; with more layers reinitialised it knows
    less of everything. If the original hardly overfits, there is little to forget, and the defaults
    cost two points of accuracy; redrawn = 0.4, epochs = 2, lr = 0.03 cost one point, at a twentieth
    of retraining. If the forget set is of one kind (a fine class, a patient), choose norm =
    "frozen", since its batches would move the batch-norm statistics away from those of all other
    data. With frozen statistics, a random forget set is forgotten less well.
    """

    name: ClassVar = "unseen_distill"
    source: ClassVar = (
        "ours; re-initialised last layers are EU-k's (Goel et al., arXiv 2201.06640), used as a "
        "teacher here; that the target is unseen accuracy and not less: Ascent Fails to Forget, "
        "arXiv 2509.26427"
    )
    needs: ClassVar = (
        "forget",
        "retain",
        "labels",
        "reset_parameters() where later modules have buffers",
    )
    passes: ClassVar = (
        "trained: stand_in_epochs × the stand-in's samples, later layers, then epochs × 2 × forget "
        "(more of few samples with least_steps; later layers with trained below 1); "
        "forward: forget + retained samples of both"
    )
    search_space: ClassVar = {"lr": Range(1e-3, 0.2), "w_margin": Range(0.1, 2.0)}

    redrawn: Annotated[
        UpTo1, "share of convolutions and linear layers reinitialised, from the end; 1: all"
    ] = 0.7
    stand_in_samples: Annotated[
        TwoOrMore, "most retain samples that the stand-in is trained on"
    ] = 3000
    stand_in_share: Annotated[
        Below1, "share of the retain samples that it is trained on, where that is more samples"
    ] = 0.0
    stand_in_epochs: Annotated[
        Count | None,
        "passes over them; None is 6, or 3 with a stand_in_batch, or as many more as 80 steps take",
    ] = None
    stand_in_lr: Annotated[Positive, "peak SGD learning rate of the stand-in, one-cycle"] = 0.1
    stand_in_clip: Annotated[
        NonNegative, "its gradient-norm limit, 0 for none; without batch norm it needs one"
    ] = 5.0
    sharpness: Annotated[
        Positive, "factor on the stand-in's logits, which are less sure than a full training's"
    ] = 1.5
    stand_in_batch: Annotated[
        TwoOrMore | None, "samples per step of the stand-in; None: batch_size"
    ] = None
    trained: Annotated[
        UpTo1,
        "share of the convolutions and linear layers before the head that train with it in step 2, "
        "from the end; 1: all",
    ] = 1.0
    instead: Annotated[
        InnerMethodOrNone,
        "method that takes over where there is little to forget: on the forget set the stand-in's "
        "accuracy is at least nine tenths of the original's, or seven tenths where the original's "
        "is below 95 %; None: none",
    ] = None
    epochs: Annotated[
        Count, "passes over the forget set, with as many retain samples beside it"
    ] = 20
    lr: LearningRate = 0.1
    w_target: Annotated[
        NonNegative, "weight of the forget set's divergence from the stand-in, in nats"
    ] = 1.0
    w_margin: Annotated[NonNegative, "weight of the forget set's distance in margin"] = 0.5
    w_labels: Annotated[NonNegative, "weight of the retained labels' cross-entropy"] = 3.0
    w_logits: Annotated[NonNegative, "weight of the retained logits' distillation, in nats"] = 1.0
    w_features: Annotated[
        NonNegative, "weight of the retained features' squared error over their variance"
    ] = 1.0
    clip: Clip = 1.0
    batch_size: Annotated[TwoOrMore, "samples of either side per step"] = 128
    least_steps: Annotated[
        Count,
        "fewest steps in all: a small forget set is passed over more often, in batches of 16 or "
        "more, beside a 128th of the retained samples, if that is less than batch_size",
    ] = 1
    norm: BatchNorm = "train"

    @property
    def log_rows(self) -> int:
        """Number of log rows: one per epoch of the stand-in and of the result."""
        return (self.stand_in_epochs or self._least_epochs) + self.epochs

    @property
    def _least_epochs(self) -> int:
        return _LEAST_EPOCHS if self.stand_in_batch is None else _LEAST_EPOCHS // 2

    def __call__(self, task: Task) -> nn.Module:
        retain = self._checked_retain(task)
        asked, held, epochs = self._passes(len(task.forget), len(retain))
        steps = steps_in_epoch(len(task.forget), batch_size=asked)
        student, forget = task.student(), task.forget
        later = None if task.layer is not None else later_layers(student, self.trained, self.name)
        names = None if later is None else owned(student, later)
        learnt = max(self.stand_in_samples, math.ceil(self.stand_in_share * len(retain)))
        places = epochs * steps * held
        known = places if names is None else max(math.ceil(places / 2), min(places, _LEAST_KNOWN))
        sample, kept = (
            task.sample(retain, count, self.name, "retain") for count in (learnt, known)
        )
        part, near = student, task
        if names is not None:
            moves = names | owned(student, self._stand_in(len(sample)).drawn(student))
            sides = (unaugmented(of) for of in (forget, sample, kept))
            part, near, (forget, sample, kept) = behind_a_cut(
                task, student, moves.__contains__, *sides
            )
        said = outputs_of(near, self.stand_in(near, sample), forget).logits
        if self.instead is not None and _little(near, said, forget):
            return _with_little(task, self.instead)
        phase = Phase(
            "forget",
            (kept, forget),
            self._loss(near, kept, said * self.sharpness),
            optimizer_of(self),
            held,
            other_batch_size=asked,
            norm="trained" if names is not None and self.norm == "train" else self.norm,
            trains=None if names is None else names.__contains__,
            steps_per_epoch=steps,
        )
        task.fit(part, [phase], epochs=epochs, look=whole_look(task.look, student))
        return student.eval()

    def _checked_retain(self, task: Task) -> Source:
        retain = task.needs_retain(self.name)
        if self.w_target == 0 and self.w_margin == 0:
            raise Refused(f"{self.name} needs w_target or w_margin above 0")
        if len(retain) < 2:
            raise Refused(
                f"{self.name} needs two retained samples or more: errors of features are in units "
                "of their variance"
            )
        return retain

    def _loss(
        self, task: Task, kept: Source, answers: Tensor
    ) -> Callable[[LossInputs, LossInputs], Tensor]:
        """The loss of a step, for the stand-in's logits [N, C] of the forget set."""
        guide = towards(
            outputs_of(task, task.teacher(), kept),
            labels=self.w_labels,
            logits=self.w_logits,
            features=self.w_features,
        )

        def loss(retained: LossInputs, forget: LossInputs) -> Tensor:
            logits, labels = forget.outputs.logits, forget.batch.labels
            target = answers[forget.batch.positions]
            distance = (margin(logits, labels) - margin(target, labels)).abs()
            found = self.w_target * kl_to_target(soft_target(target, 1.0), logits)
            return (found + self.w_margin * distance).mean() + guide(retained).mean()

        return loss

    def _passes(self, forget: int, retained: int) -> tuple[int, int, int]:
        """Samples of a batch of either side, and passes over so many forget samples."""
        if self.least_steps == 1:
            return self.batch_size, self.batch_size, self.epochs
        asked = min(self.batch_size, max(self.epochs * forget // self.least_steps, _LEAST_BATCH))
        held = min(self.batch_size, max(asked, retained // _RETAINED_STEPS))
        least = math.ceil(self.least_steps / steps_in_epoch(forget, batch_size=asked))
        return asked, held, max(self.epochs, least)

    def stand_in(self, task: Task, sample: Source) -> nn.Module:
        """The original with its later layers reinitialised and trained on these retain samples."""
        return self._stand_in(len(sample)).train(task, sample)

    def _stand_in(self, samples: int) -> StandIn:
        batch_size = self.stand_in_batch or self.batch_size
        steps = steps_in_epoch(samples, batch_size=batch_size)
        return StandIn(
            self.name,
            redrawn=self.redrawn,
            epochs=self.stand_in_epochs or max(self._least_epochs, math.ceil(_LEAST_STEPS / steps)),
            batch_size=batch_size,
            optimizer=optimizer_of(
                self, lr=self.stand_in_lr, schedule="onecycle", clip=self.stand_in_clip
            ),
        )


def _with_little(task: Task, other: Method) -> nn.Module:
    """The result of the method that takes over where little is to be forgotten."""
    notices.warn(
        "there is little to forget: a model that never saw these samples classifies nearly as many "
        f"of them correctly as this one; {spell(other)} runs in the place of distillation"
    )
    return gently(task, other)


def _little(task: Task, said: Tensor, forget: Source) -> bool:
    """Whether models that never saw the forget samples classify nearly as many of them correctly.

    The accuracy of the stand-in, whose logits [N, C] these are, is a lower bound: it was trained on
    less. So it is enough if it comes near that of the original; less near, if that is not nearly 1.
    """
    labels = torch.as_tensor(forget.labels()).to(said.device)
    own = outputs_of(task, task.teacher(), forget).logits
    seen, unseen = ((logits.argmax(1) == labels).float().mean() for logits in (own, said))
    return bool(unseen >= (_NEARLY if seen >= _MEMORISED else _MOSTLY) * seen)
