"""MUDA: dimensional alignment and self-distillation, with recovery on the retain set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from torch import nn

from eigenforget.alignment import (
    Centering,
    Form,
    moments,
)
from eigenforget.core import notices
from eigenforget.core.errors import Refused, naming
from eigenforget.core.fields import (
    Below1,
    Count,
    NonNegative,
    Positive,
    TwoOrMore,
    UpTo1,
    WholeNumber,
)
from eigenforget.core.spec import configured
from eigenforget.data.sources import Source, unaugmented
from eigenforget.methods.alignment_basis import AlignmentBasis
from eigenforget.methods.base import InnerMethodOrNone, Method, Range, Task, optimizer_of
from eigenforget.methods.cf_k import owned
from eigenforget.methods.finetune import Finetune
from eigenforget.methods.later_layers import behind_a_cut, later_layers, whole_look
from eigenforget.methods.muda_losses import (
    ForgetLoss,
    JointLoss,
    KnownSides,
    RecoverLoss,
    taken_now,
)
from eigenforget.methods.replaced_rows import can_replace_rows, replace_rows
from eigenforget.methods.stand_in_answers import StandInAnswers, stand_in_answers
from eigenforget.methods.unseen_distill import UnseenDistill
from eigenforget.training.phases import Phase, ScheduleName

_LEARNS = 1 / 5
"""Share of the data from which on a stand-in learns enough with all of its layers reinitialised."""

_LEAST_BATCH, _MOST_BATCH, _LEAST_STEPS, _MOST_STEPS = 32, 128, 10, 32
_SAMPLES_PER_ROW, _PASSES = 640, 1 / 18
"""The cost of joint steps follows the size of the data: a batch has a 640th of the training data,
and an alternation takes an eighteenth of it from either side, as far as the bounds above allow."""

_LEAST_KNOWN = 2048
"""Samples of either side, at least, of which the original's outputs are computed: 20 for each of
100 class means."""


@configured
class MUDA(Method):
    """Forget by dimensional alignment and self-distillation, and recover on the retain set.

    Let q be the target (see `target`), f_θ the features, f_0 those of the frozen original, and
    Var f_0 the trace of their covariance over the batch:

        forget    w_da · L_DA + w_sd · KL(q ‖ p_θ) + w_probe · (−b log p_c − (1 − b) log(1 − p_c))
        recover   w_labels · CE + w_logits · KL(q ‖ p_θ) + w_features · ‖f_θ − f_0‖² / Var f_0

    L_DA is minus the share of the forget features' energy in span(U) ("energy"), or −DA_k²
    ("frobenius"). U holds the leading k eigenvectors of the retain features, detached.

    p_c is the probability that a linear probe gives to the sample's class. The probe is refitted
    every few steps, with the true labels, on the features of the last steps. It takes part only in
    joint steps, and only if whole classes are forgotten. The alignment moves features into the
    directions of the retained classes; the probe removes from them what a linear classifier could
    still read, and no more than retraining would remove.

    A stand-in shows how a model that never saw a class answers on its samples. It is the original
    with the layers that train reinitialised, trained on a few retain samples (with all layers
    reinitialised where these are at least a fifth of the training data). b is the mean probability
    that a probe on the stand-in's features gives to the class on samples of it that the probe was
    not fitted on, or p_c where that is smaller, so that nothing is pulled up. On the forget set, q
    mixes one third of the stand-in's logits with two thirds of the original's. The mixture is
    multiplied by the factor at which the mean confidence of q on the forget set, relative to that
    on the retain set, is that of the stand-in.

    By default every step takes a batch of each side and minimises the sum of both losses. U and the
    original's outputs are computed once, without augmentation, as are the activations before the
    layers that train. They are computed on as many samples of either side as half of the steps
    take, and on at least 2,048. Batch norms that train normalise both sides by the retained
    samples of the step, so that no part of what is forgotten rests on statistics that later
    training would take anew. With joint=False a forget phase and a recover phase alternate, as
    in the paper, each with its own optimizer; `refresh` then recomputes U from the current model.
    `muda(recipe="paper")` is the literal reading of the paper.

    Only the later layers train (`trained`), since they hold what is specific to a class. A backward
    pass through them alone takes a fraction of the time. The earlier layers stay bit for bit as
    they are, and keep what they know.

    If whole classes are forgotten, their rows of the head are replaced at the end by the mean row
    of the retained classes, lowered by `margin` along the mean retained feature. A model that never
    saw a class learns such a row: its bias hardly moves, and its weights point away from all
    features. On CIFAR-100 we compared the rows themselves, and how fast such models relearn. If
    features lie around the origin, no such direction exists, and the bias is lowered.

    If no class is forgotten as a whole, forget features align with retained ones both before and
    after retraining, so alignment has nothing to move. Such requests go to the method `samples`.

    An alternation has `steps` forget or joint steps. A recover phase has recover_ratio times as
    many steps, rounded up in every alternation; recover_ratio = 0 leaves it out.
    """

    name: ClassVar = "muda"
    source: ClassVar = (
        "Seo, Kim, Han: Revisiting Machine Unlearning with Dimensional Alignment, arXiv "
        "2407.17710. Recipe 'paper' has L_DA = −DA² and alternating phases as there; its "
        "self-distillation target, k, weights and schedule are our choices. By default both "
        "losses share each step, L_DA is the energy form on centred features, a fitted probe "
        "removes what it still finds of the class, the recovery also distils the original's "
        "retained logits and features, only later layers train, head rows of forgotten classes are "
        "replaced, and single samples are left to unseen_distill"
    )
    needs: ClassVar = ("forget", "retain", "labels")
    passes: ClassVar = (
        "trained: stand_in_epochs × the stand-in's samples, twice that where only later layers are "
        "reinitialised, + alternations × steps × batch_size × 2, later layers; forward: half of "
        "the second of these, at least 4,096, + its forget samples and 2,048 for the stand-in; "
        "with joint=False, alternations × (1 + recover_ratio) × forget trained, and as much "
        "forward; single samples: what `samples` takes"
    )
    search_space: ClassVar = {
        "forget_lr": Range(5e-4, 3e-3),
        "w_da": Range(1.0, 30.0),
        "w_probe": Range(1.0, 12.0),
    }
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            "alternations": 10,
            "steps": None,
            "joint": False,
            "trained": 1.0,
            "w_da": 1.0,
            "w_sd": 1.0,
            "w_probe": 0.0,
            "w_labels": 1.0,
            "w_logits": 0.0,
            "w_features": 0.0,
            "centering": "none",
            "form": "frobenius",
            "refresh": 1,
            "basis_samples": 5000,
            "batch_size": 128,
            "optimizer": "sgd",
            "forget_lr": 0.05,
            "recover_lr": 0.05,
            "redraw_head": False,
            "samples": None,
        }
    }

    alternations: Annotated[
        Count, "number of forget phases, each followed by a recover phase, or of joint passes"
    ] = 4
    steps: Annotated[
        Count | None,
        "forget or joint steps of one alternation; None takes one pass over the forget set, or "
        "joint steps that see an eighteenth of the training data, from 10 to 32",
    ] = None
    joint: Annotated[
        bool, "each step takes a batch of each side and minimises the sum of both losses"
    ] = True
    trained: Annotated[
        UpTo1,
        "share of the convolutions and linear layers before the head that train with it, counted "
        "from the end, at least one layer; 1 means all. If a feature layer is named, all train",
    ] = 0.33
    w_da: Annotated[NonNegative, "weight of L_DA, which lies in [−1, 0]"] = 3.0
    w_sd: Annotated[NonNegative, "weight of the self-distillation of the forget set, in nats"] = 7.5
    w_probe: Annotated[
        NonNegative, "weight of the probe's cross-entropy with b, in nats; joint steps only"
    ] = 6.0
    stand_in_samples: Annotated[
        WholeNumber,
        "retain samples that the stand-in is trained on, at least, seen twice as often where only "
        "its later layers are reinitialised; 0 makes no stand-in: b is 0, and q comes from the "
        "original's logits alone",
    ] = 512
    stand_in_share: Annotated[
        Below1, "number of retain samples that it is trained on over that of the training data"
    ] = 0.04
    stand_in_epochs: Annotated[Count, "passes of the stand-in over its samples"] = 2
    w_labels: Annotated[NonNegative, "weight of the retained labels' cross-entropy, in nats"] = 3.0
    w_logits: Annotated[NonNegative, "weight of the retained logits' distillation, in nats"] = 10.0
    w_features: Annotated[
        NonNegative, "weight of the retained features' squared error over their variance"
    ] = 20.0
    k: Annotated[
        Count | None,
        "directions of U; None takes the number of retained classes, or half the feature width if "
        "that is smaller",
    ] = None
    centering: Annotated[Centering, "'each' subtracts each side's own mean"] = "each"
    form: Annotated[
        Form, "L_DA: −DA_k² ('frobenius'), or minus the share of the energy in span(U) ('energy')"
    ] = "energy"
    refresh: Annotated[
        Count | None, "alternations between two computations of U; None computes it once"
    ] = None
    basis_samples: Annotated[
        Count,
        "retain samples that U is computed from, a fresh draw each time, unless joint steps "
        "compute it once",
    ] = 1000
    target: Annotated[
        Literal["auto", "masked", "masked_label", "self", "self_soft"],
        "q of the forget set: 'masked' sets the logits of the forgotten classes to −∞; "
        "'masked_label' that of each sample's own label, which is right where labels are wrong, "
        "as in a backdoor; 'self' is the original's own softmax and 'self_soft' that at "
        "`temperature`, which keep its decisions; 'auto' is masked when whole classes are "
        "forgotten, else self_soft",
    ] = "auto"
    temperature: Annotated[Positive, "softening of the 'self_soft' target"] = 2.0
    optimizer: Annotated[Literal["sgd", "adamw"], "optimizer of both phases"] = "adamw"
    forget_lr: Annotated[Positive, "learning rate of the forget phase and of joint steps"] = 1.5e-3
    recover_lr: Annotated[Positive, "learning rate of the recover phase"] = 1.2e-3
    momentum: Annotated[Below1, "SGD momentum of both phases"] = 0.9
    weight_decay: Annotated[NonNegative, "of both phases: L2 penalty, decoupled in AdamW"] = 5e-4
    schedule: Annotated[ScheduleName, "schedule of both learning rates"] = "cosine"
    clip: Annotated[NonNegative, "gradient-norm limit of both phases, 0 for none"] = 1.0
    recover_ratio: Annotated[
        NonNegative, "recover steps per forget step if phases alternate; 0 for none"
    ] = 1.0
    batch_size: Annotated[
        TwoOrMore | None,
        "samples of either side per step; None is a 640th of the training data, from 32 to 128",
    ] = None
    norm: Annotated[
        Literal["retained", "train", "frozen"],
        "batch norms of what trains, in joint steps and forget phases: 'retained' normalises both "
        "sides of a joint step by the retained samples, and is 'frozen' in forget phases; 'train' "
        "normalises each batch by itself; 'frozen' keeps the original's statistics",
    ] = "retained"
    samples: Annotated[
        InnerMethodOrNone,
        "method that takes over where no class is forgotten as a whole and target='auto', since "
        "alignment says nothing there; None: muda itself, as always without retained data",
    ] = UnseenDistill(
        redrawn=0.65,
        stand_in_samples=1500,
        stand_in_share=0.16,
        stand_in_batch=32,
        sharpness=1.0,
        trained=0.6,
        epochs=6,
        batch_size=64,
        least_steps=64,
        lr=0.1,
        w_target=2.0,
        w_margin=1.0,
        instead=Finetune(epochs=1),
    )
    redraw_head: Annotated[
        bool, "at the end, replace the head's rows of classes that are forgotten as a whole"
    ] = True
    margin: Annotated[
        NonNegative, "how far the logits of replaced rows lie below the mean of the retained ones"
    ] = 5.0

    @property
    def optimises(self) -> tuple[str, ...]:
        """Dimensional alignment and a probe's accuracy, where they are part of the loss."""
        found = ("da", "da_energy")[: 1 if self.form == "frobenius" else 2] if self.w_da else ()
        return (*found, *(("lp_forget", "lp_few_forget") if self.w_probe else ()))

    @property
    def for_samples(self) -> Method | None:
        """The method `samples`, unless a target is chosen."""
        return self.samples if self.target == "auto" else None

    @property
    def log_rows(self) -> int:
        """Number of log rows where classes are forgotten.

        One per forget, recover or joint phase, and one per epoch of the stand-in.
        """
        return (self.stand_in_epochs if self.has_stand_in else 0) + self.alternations * (
            2 if not self.joint and self.recovers else 1
        )

    @property
    def has_stand_in(self) -> bool:
        """Whether a stand-in is made where classes are forgotten."""
        has_targets = self.w_probe > 0 or self.w_sd > 0
        return self.joint and self.recovers and has_targets and self.stand_in_samples != 0

    @property
    def recovers(self) -> bool:
        """Whether the retain set is trained on."""
        weighs = self.w_labels > 0 or self.w_logits > 0 or self.w_features > 0
        return weighs and (self.joint or self.recover_ratio > 0)

    def __call__(self, task: Task) -> nn.Module:
        other = self.for_samples
        if other is not None and not taken_now(task):
            if task.retain is not None:
                with naming("muda"):
                    return other(task)
            notices.warn(
                f"muda leaves single samples to {other.name}, which needs retained data; without "
                "such data, muda distils the original's own softened predictions and forgets little"
            )
        if not (self.w_da or self.w_sd or self.w_probe):
            raise Refused("muda needs w_da, w_sd or w_probe above 0")
        if self.w_probe and not self.joint:
            raise Refused("muda fits its probe in joint steps: joint=False goes with w_probe=0")
        student = task.student()
        later = self._later(task, student)
        redraws = self.redraw_head and can_replace_rows(task, student)
        uses_retain = self.w_da > 0 or self.recovers or redraws
        retain = task.needs_retain(self.name) if uses_retain else None
        if retain is not None and len(retain) < 2:
            raise Refused(
                "muda needs two retained samples or more: one has no directions and no variance"
            )
        if self.joint and retain is not None:
            return self._jointly(task, student, retain, later, redraws)
        return self._in_turn(task, student, retain, later, redraws)

    def _jointly(
        self,
        task: Task,
        student: nn.Module,
        retain: Source,
        later: Mapping[str, nn.Module] | None,
        redraws: bool,
    ) -> nn.Module:
        """Every step takes a batch of each side."""
        names = None if later is None else owned(student, later)
        batch_size = self.batch_size or default_batch_size(task)
        steps = self.steps or default_steps(task, batch_size)
        rows = max(math.ceil(self.alternations * steps * batch_size / 2), _LEAST_KNOWN)
        plain = near = replace(
            task,
            forget=task.at_most(unaugmented(task.forget), rows, "joint steps", "forget"),
            retain=task.at_most(unaugmented(retain), rows, "joint steps", "retain"),
        )
        trained = student
        if names is not None and self.norm != "train" and not self.refresh:
            sides = (plain.forget, plain.needs_retain(self.name))
            trained, near, (forget, kept) = behind_a_cut(plain, student, names.__contains__, *sides)
            near = replace(near, forget=forget, retain=kept)
        known = KnownSides.of(near, near.needs_retain(self.name))
        seen = moments(known.retained.outputs.features)
        basis = AlignmentBasis(self, task, retain) if self.w_da > 0 else None
        if basis is not None:
            basis.take(seen)
        answers = self._answers(task, plain, near, later)
        phase = Phase(
            "forget",
            (known.forget.source, known.retained.source),
            JointLoss(self, task, basis, known, batch_size, answers),
            optimizer_of(self, kind=self.optimizer, lr=self.forget_lr),
            batch_size,
            prepare=basis.refresh if basis is not None and self.refresh else None,
            norm="trained" if self.norm == "retained" else self.norm,
            trains=None if names is None else names.__contains__,
            steps_per_epoch=steps,
            as_one=self.norm != "train",
            normalised_by_last=self.norm == "retained",
        )
        look = whole_look(task.look, student)
        task.fit(trained, [phase], epochs=self.alternations, look=look)
        if redraws:
            replace_rows(task, student, seen, self.margin)
        return student.eval()

    def _answers(
        self, task: Task, plain: Task, near: Task, later: Mapping[str, nn.Module] | None
    ) -> StandInAnswers | None:
        """What a stand-in answers: one of all layers where it has the data to learn them."""
        if not (self.has_stand_in and taken_now(task)):
            return None
        seen, known = _samples(task), len(plain.needs_retain(self.name))
        learnt = max(self.stand_in_samples, min(math.ceil(self.stand_in_share * seen), known))
        if later is None or learnt >= _LEARNS * seen:
            return stand_in_answers(self, plain, learnt)
        return stand_in_answers(self, near, learnt, later)

    def _in_turn(
        self,
        task: Task,
        student: nn.Module,
        retain: Source | None,
        later: Mapping[str, nn.Module] | None,
        redraws: bool,
    ) -> nn.Module:
        """A forget phase and a recover phase alternate."""
        basis = None if retain is None else AlignmentBasis(self, task, retain)
        forget = Phase(
            "forget",
            (task.forget,),
            ForgetLoss(self, task, basis),
            optimizer_of(self, kind=self.optimizer, lr=self.forget_lr),
            batch_size=self.batch_size or default_batch_size(task),
            teachers=(task.teacher(),),
            prepare=None if basis is None else basis.refresh,
            norm="frozen" if self.norm == "retained" else self.norm,
            trains=None if later is None else owned(student, later).__contains__,
            steps_per_epoch=self.steps,
        )
        phases = [forget]
        if retain is not None and self.recovers:
            phases.append(self._recover(task, retain, forget))
        result = task.fit(student, phases, epochs=self.alternations)
        if redraws and basis is not None and basis.retained is not None:
            replace_rows(task, result, basis.retained, self.margin)
        return result

    def _later(self, task: Task, model: nn.Module) -> dict[str, nn.Module] | None:
        """The modules that train, by name; None: all."""
        return None if task.layer is not None else later_layers(model, self.trained, self.name)

    def _recover(self, task: Task, retain: Source, forget: Phase) -> Phase:
        """The phase that alternates with the forget phase."""
        return Phase(
            "recover",
            (retain,),
            RecoverLoss(self, task),
            optimizer_of(self, kind=self.optimizer, lr=self.recover_lr),
            batch_size=min(forget.batch_size, len(retain)),
            teachers=forget.teachers if self.w_logits > 0 or self.w_features > 0 else (),
            trains=forget.trains,
            steps_per_epoch=math.ceil(self.recover_ratio * forget.steps()),
        )


def default_batch_size(task: Task) -> int:
    """A 640th of the training data, from 32 to 128 in steps of 32."""
    rows = round(_samples(task) / _SAMPLES_PER_ROW / _LEAST_BATCH) * _LEAST_BATCH
    return min(max(rows, _LEAST_BATCH), _MOST_BATCH)


def default_steps(task: Task, batch_size: int) -> int:
    """Joint steps of one alternation: an eighteenth of the training data, from 10 to 32."""
    return min(max(_LEAST_STEPS, round(_PASSES * _samples(task) / batch_size)), _MOST_STEPS)


def _samples(task: Task) -> int:
    """Samples of the training data, as far as the task knows.

    It may have been given a part of the retain set. Where whole classes are forgotten, the others
    count as large as these.
    """
    seen = len(task.forget) + (0 if task.retain is None else len(task.retain))
    gone = taken_now(task)
    if not gone:
        return seen
    classes = len(gone | set(task.retained_classes))
    return max(seen, round(len(task.forget) * classes / len(gone)))
