"""MUDA: dimensional alignment and self-distillation, with recovery on the retain set."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from eigenforget.alignment import (
    Centering,
    Form,
    Moments,
    default_k,
    dimensional_alignment_loss,
    leading,
    merge,
    moments,
)
from eigenforget.core import notices
from eigenforget.core.errors import Refused
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
from eigenforget.core.types import Outputs
from eigenforget.data.sources import Source, unaugmented
from eigenforget.methods.base import InnerMethodOrNone, Method, Range, Task, optimizer_of
from eigenforget.methods.cf_k import owned
from eigenforget.methods.finetune import Finetune
from eigenforget.methods.fitted_probe import FittedProbe
from eigenforget.methods.later_layers import behind_a_cut, later_layers, whole_look
from eigenforget.methods.retained import feature_error
from eigenforget.methods.stand_in import StandIn, margin, outputs_of
from eigenforget.methods.unseen_distill import UnseenDistill
from eigenforget.models.heads import linear_head
from eigenforget.training.losses import (
    MaskedTarget,
    cross_entropy,
    kl_to_target,
    masked_true_class_target,
    soft_target,
)
from eigenforget.training.phases import LossInputs, Optimizer, Phase, ScheduleName

_ROUNDING = 1e-10
"""Share of the energy that is rounding: float32 keeps 7 digits, and this is 5 of them, squared."""

_PROBE_EVERY, _PROBE_ROWS, _PROBE_DECAY = 5, 2048, 1e-3
"""Steps between two fits of the probe, features that it is fitted on, and its L2 penalty. A probe
on few features is noise: with 256 of them the prototypes of a digit fell by 0.8 and 0.9 standard
errors more."""

Target = Callable[[Tensor, Tensor], Tensor]
"""(logits of the original [B, C], labels [B]) -> q [B, C]."""

_STAND_IN_BATCH, _STAND_IN_CLIP = 32, 5.0
"""Its batch size, and its gradient-norm limit, that of `UnseenDistill`: a model without batch norm
needs one. In batches of 128 a few hundred samples make too few steps: after 8 of them a stand-in
on CIFAR-10 was as sure of the forgotten class as of all others."""

_ONE_SIDE = 0.5
"""Features lie on one side of the origin where x · μ / ‖μ‖² has a smaller standard deviation around
its mean of 1. It is 0.14 to 0.18 in small_resnet and 2.2 in vit_tiny, where the forget set was at
−4 and replaced rows won."""

_LEARNS = 1 / 5
"""Share of the data from which on a stand-in learns enough with all of its layers reinitialised."""

_LEAST_BATCH, _MOST_BATCH, _LEAST_STEPS = 16, 128, 10
_SAMPLES_PER_ROW, _PASSES = 1280, 1 / 18
"""The cost of joint steps follows the size of the data: a batch has a 1280th of the training data,
and an alternation takes an eighteenth of it from either side, as far as the bounds above allow."""

_LEAST_KNOWN = 2048
"""Samples of either side, at least, of which the original's outputs are computed: 20 for each of
100 class means."""

_OF_STAND_IN = 1 / 3
"""Share of the stand-in's logits in the target. With a half, the target lay further from what
retrained models say of classes 3 and 5 of CIFAR-10 and of CIFAR-100, and no nearer elsewhere."""

_SHARPEST = 16.0
"""Largest factor on the logits in the target."""


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
    take, and on at least 2,048. With joint=False a forget phase and a recover phase alternate, as
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
        "removes the rest, the recovery also distils the original's retained "
        "logits and features, only later layers train, head rows of forgotten classes are "
        "replaced, and single samples are left to unseen_distill"
    )
    needs: ClassVar = ("forget", "retain", "labels")
    passes: ClassVar = (
        "trained: stand_in_epochs × stand_in_samples, twice that where only later layers are "
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
        "joint steps that see an eighteenth of the training data, at least 10",
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
        "most retain samples that the stand-in is trained on, twice as many where only its later "
        "layers are reinitialised; 0 makes no stand-in: b is 0, and q comes from the original's "
        "logits alone",
    ] = 512
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
    forget_lr: Annotated[Positive, "learning rate of the forget phase and of joint steps"] = 1.2e-3
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
        "samples of either side per step; None is a 1280th of the training data, from 16 to 128",
    ] = None
    norm: Annotated[
        Literal["train", "frozen"],
        "batch-norm statistics in the forget phase and in joint steps: updated, or kept",
    ] = "frozen"
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
        if other is not None and not _taken_now(task):
            if task.retain is not None:
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
        redraws = self.redraw_head and _redraws(task, student)
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
        if names is not None and self.norm == "frozen" and not self.refresh:
            sides = (plain.forget, plain.needs_retain(self.name))
            trained, near, (forget, kept) = behind_a_cut(plain, student, names.__contains__, *sides)
            near = replace(near, forget=forget, retain=kept)
        original = near.teacher()
        known = _Known(
            *(
                _Side(source, outputs_of(near, original, source))
                for source in (near.forget, near.needs_retain(self.name))
            )
        )
        seen = moments(known.retained.outputs.features)
        basis = _Basis(self, task, retain) if self.w_da > 0 else None
        if basis is not None:
            basis.take(seen)
        answers = None
        if self.has_stand_in and _taken_now(task):
            learns = later is None or self.stand_in_samples >= _LEARNS * _samples(task)
            answers = unseen(self, plain) if learns else unseen(self, near, later)
        phase = Phase(
            "forget",
            (known.forget.source, known.retained.source),
            _JointLoss(self, task, basis, known, batch_size, answers),
            optimizer_of(self, kind=self.optimizer, lr=self.forget_lr),
            batch_size,
            prepare=basis.refresh if basis is not None and self.refresh else None,
            norm=self.norm,
            trains=None if names is None else names.__contains__,
            steps_per_epoch=steps,
            as_one=self.norm == "frozen",  # frozen statistics treat each sample alone
        )
        look = whole_look(task.look, student)
        task.fit(trained, [phase], epochs=self.alternations, look=look)
        if redraws:
            _redraw(task, student, seen, self.margin)
        return student.eval()

    def _in_turn(
        self,
        task: Task,
        student: nn.Module,
        retain: Source | None,
        later: Mapping[str, nn.Module] | None,
        redraws: bool,
    ) -> nn.Module:
        """A forget phase and a recover phase alternate."""
        basis = None if retain is None else _Basis(self, task, retain)
        forget = Phase(
            "forget",
            (task.forget,),
            _ForgetLoss(self, task, basis),
            optimizer_of(self, kind=self.optimizer, lr=self.forget_lr),
            batch_size=self.batch_size or default_batch_size(task),
            teachers=(task.teacher(),),
            prepare=None if basis is None else basis.refresh,
            norm=self.norm,
            trains=None if later is None else owned(student, later).__contains__,
            steps_per_epoch=self.steps,
        )
        phases = [forget]
        if retain is not None and self.recovers:
            phases.append(self._recover(task, retain, forget))
        result = task.fit(student, phases, epochs=self.alternations)
        if redraws and basis is not None and basis.retained is not None:
            _redraw(task, result, basis.retained, self.margin)
        return result

    def _later(self, task: Task, model: nn.Module) -> dict[str, nn.Module] | None:
        """The modules that train, by name; None: all."""
        return None if task.layer is not None else later_layers(model, self.trained, self.name)

    def _recover(self, task: Task, retain: Source, forget: Phase) -> Phase:
        """The phase that alternates with the forget phase."""
        return Phase(
            "recover",
            (retain,),
            _RecoverLoss(self, task),
            optimizer_of(self, kind=self.optimizer, lr=self.recover_lr),
            batch_size=min(forget.batch_size, len(retain)),
            teachers=forget.teachers if self.w_logits > 0 or self.w_features > 0 else (),
            trains=forget.trains,
            steps_per_epoch=math.ceil(self.recover_ratio * forget.steps()),
        )


def default_batch_size(task: Task) -> int:
    """A 1280th of the training data, from 16 to 128 in steps of 16."""
    rows = round(_samples(task) / _SAMPLES_PER_ROW / _LEAST_BATCH) * _LEAST_BATCH
    return min(max(rows, _LEAST_BATCH), _MOST_BATCH)


def default_steps(task: Task, batch_size: int) -> int:
    """Joint steps of one alternation: an eighteenth of the training data, at least 10."""
    return max(_LEAST_STEPS, round(_PASSES * _samples(task) / batch_size))


def _samples(task: Task) -> int:
    """Samples of the training data, as far as the task knows.

    It may have been given a part of the retain set. Where whole classes are forgotten, the others
    count as large as these.
    """
    seen = len(task.forget) + (0 if task.retain is None else len(task.retain))
    gone = _taken_now(task)
    if not gone:
        return seen
    classes = len(gone | set(task.retained_classes))
    return max(seen, round(len(task.forget) * classes / len(gone)))


def _taken_now(task: Task) -> set[int]:
    """The classes that this request takes as a whole, without those of earlier ones."""
    return set(task.forgotten_classes) & set(task.forget.labels().tolist())


class _Side(NamedTuple):
    """Samples of one side, and the original's outputs on all of them in order."""

    source: Source
    outputs: Outputs

    def of(self, part: LossInputs) -> Outputs:
        """The original's outputs on a batch."""
        logits, features = self.outputs.logits, self.outputs.features
        rows = part.batch.positions.to(features.device)
        return Outputs(logits[rows], features[rows])

    @property
    def labels(self) -> Tensor:
        """[N], where the outputs are."""
        return torch.as_tensor(self.source.labels()).to(self.outputs.features.device)


class _Known(NamedTuple):
    """Both sides of joint steps."""

    forget: _Side
    retained: _Side


class _ForgetLoss:
    """w_da · L_DA + w_sd · KL(q ‖ p) of a forget batch."""

    def __init__(self, method: MUDA, task: Task, basis: _Basis | None) -> None:
        self._method, self.target = method, self_distillation_target(method, task)
        self._basis = basis if method.w_da > 0 else None

    def __call__(self, part: LossInputs) -> Tensor:
        """Values per sample [B]."""
        return self.towards(self.target(part.teachers[0].logits, part.batch.labels), part)

    def towards(self, q: Tensor, part: LossInputs) -> Tensor:
        """The same for a target [B, C] that is known."""
        loss = self._method.w_sd * kl_to_target(q, part.outputs.logits)
        if self._basis is not None:
            loss = loss + self._method.w_da * self._basis.loss(part.outputs.features)
        return loss


class _RecoverLoss:
    """The loss of a retain batch: its labels, and the original's logits and features of it."""

    def __init__(self, method: MUDA, task: Task) -> None:
        gone = torch.tensor(task.forgotten_classes, dtype=torch.long)
        self._method = method
        self._target = MaskedTarget(gone) if len(gone) else lambda logits: soft_target(logits, 1.0)

    def __call__(self, part: LossInputs) -> Tensor:
        """Values per sample [B]; the original is the teacher, if there is one."""
        return self.beside(part, part.teachers[0] if part.teachers else None)

    def beside(self, part: LossInputs, before: Outputs | None) -> Tensor:
        """The same with the original's outputs; None where neither is distilled."""
        m, logits = self._method, part.outputs.logits
        loss = m.w_labels * cross_entropy(logits, part.batch.labels)
        if before is None:
            return loss
        if m.w_logits > 0:
            loss = loss + m.w_logits * kl_to_target(self._target(before.logits), logits)
        if m.w_features > 0:
            loss = loss + m.w_features * feature_error(part.outputs.features, before.features)
        return loss


class _JointLoss:
    """The loss of a joint step, with the probe that it fits on the way."""

    def __init__(
        self,
        method: MUDA,
        task: Task,
        basis: _Basis | None,
        known: _Known,
        batch_size: int,
        answers: StandInAnswers | None,
    ) -> None:
        self._method, self._retained = method, known.retained
        self._forget, self._recover = _ForgetLoss(method, task, basis), _RecoverLoss(method, task)
        gone = _taken_now(task)
        self._probes = method.w_probe > 0 and len(gone) > 0
        self._unseen = answers
        self._targets = self._made(known.forget, known.retained)
        self._probe = FittedProbe(
            task.num_classes,
            batches=math.ceil(_PROBE_ROWS / batch_size),
            decay=_PROBE_DECAY,
            every=_PROBE_EVERY,
        )
        if self._probes:
            self._remember(known, batch_size)

    def _remember(self, known: _Known, batch_size: int) -> None:
        """Fill the probe's memory with features of the original."""
        for side in known:
            rows = min(_PROBE_ROWS // 2, len(side.labels))
            for first in range(0, rows, batch_size):
                part = slice(first, min(first + batch_size, rows))
                self._probe.remember(side.outputs.features[part], side.labels[part])

    def _made(self, asked: _Side, held: _Side) -> Tensor:
        """Targets [N, C] of the forget samples.

        With a stand-in they are made of its logits and the original's, and are as sure of the
        forget set, beside retained samples, as the stand-in, unless they are to be the original's.
        """
        answers, target, logits = self._unseen, self._forget.target, asked.outputs.logits
        if answers is None or self._method.target in ("self", "self_soft"):
            return target(logits, asked.labels)
        mixed = torch.lerp(logits, answers.logits, _OF_STAND_IN)

        def at(factor: float) -> Tensor:
            return target(mixed * factor, asked.labels)

        goal = answers.ratio * confidence(target(held.outputs.logits, held.labels))
        return at(sharpness(lambda factor: confidence(at(factor)), goal))

    def __call__(self, forget: LossInputs, retained: LossInputs) -> Tensor:
        """A scalar."""
        method, labels = self._method, forget.batch.labels
        q = self._targets[forget.batch.positions.to(self._targets.device)]
        loss = self._forget.towards(q, forget)
        if self._probes:
            found = margin(self._probe.step(forget, retained), labels)
            sure = torch.zeros_like(found)
            if self._unseen is not None:
                now = found.detach().sigmoid()
                sure = torch.minimum(self._unseen.probed.to(now)[labels], now)
            left = binary_cross_entropy_with_logits(found, sure, reduction="none")
            loss = loss + method.w_probe * left
        before = self._retained.of(retained)
        return loss.mean() + self._recover.beside(retained, before).mean()


class StandInAnswers(NamedTuple):
    """How a model that never saw the forgotten classes answers about them.

    Attributes:
        logits: Its logits on the forget set [N, C].
        probed: How sure a probe of its features may be of each class [C].
        ratio: Its mean confidence on the forget set, over that on retain samples.
    """

    logits: Tensor
    probed: Tensor
    ratio: float


def confidence(probabilities: Tensor) -> float:
    """Mean of the largest probability of each row of [N, C]."""
    return float(probabilities.amax(1).mean())


def sharpness(confidence_at: Callable[[float], float], goal: float) -> float:
    """The factor on logits, from 1 to 16, at which the mean confidence is nearest to the goal.

    Args:
        confidence_at: The mean confidence at a factor; it does not fall.
        goal: The mean confidence that is wanted.
    """
    low, high = 1.0, _SHARPEST
    if confidence_at(low) >= goal:
        return low
    for _ in range(20):  # halves 15 to 1.5e-5
        middle = (low + high) / 2
        low, high = (middle, high) if confidence_at(middle) < goal else (low, middle)
    return high


def unseen(method: MUDA, task: Task, layers: Container[str] | None = None) -> StandInAnswers | None:
    """What a stand-in says of the forgotten classes.

    It is the original with these layers, or all, reinitialised and trained on a few retain samples.
    Probes are fitted on every other row of its features, and asked about the others. None where
    there is nothing to draw.
    """
    retain = task.needs_retain(method.name)
    optimizer = Optimizer(schedule="onecycle", clip=_STAND_IN_CLIP)
    steps = math.ceil(method.stand_in_samples / _STAND_IN_BATCH) * (1 if layers is None else 2)
    made = StandIn(method.name, 1.0, method.stand_in_epochs, _STAND_IN_BATCH, optimizer, steps)
    sample = task.sample(retain, method.stand_in_samples, "stand-in")
    try:
        stand_in = made.train(task, sample, layers)
    except Refused as error:
        notices.warn(f"{error}; without a stand-in, muda removes all that its probe finds")
        return None
    rows = [task.sample(of, _PROBE_ROWS // 2, "stand-in's probe") for of in (task.forget, retain)]
    outputs = [outputs_of(task, stand_in, of) for of in rows]
    features = [of.features for of in outputs]
    masked = MaskedTarget(torch.tensor(task.forgotten_classes))
    forget, retained = (confidence(masked(of.logits)) for of in outputs)
    labels = [torch.as_tensor(of.labels()).to(features[0].device) for of in rows]
    total, seen = (features[0].new_zeros(task.num_classes) for _ in range(2))
    for half in (0, 1):
        probe = FittedProbe(task.num_classes, batches=len(rows), decay=_PROBE_DECAY)
        for part, own in zip(features, labels, strict=True):
            probe.remember(part[half::2], own[half::2])
        probe.fit()
        asked, own = features[0][1 - half :: 2], labels[0][1 - half :: 2]
        sure = probe(asked).softmax(1).gather(1, own.unsqueeze(1)).squeeze(1)
        total, seen = total.index_add(0, own, sure), seen.index_add(0, own, torch.ones_like(sure))
    logits = outputs_of(task, stand_in, task.forget).logits
    return StandInAnswers(logits, total / seen.clamp_min(1), forget / retained)


class _Basis:
    """U, L_DA against it, and the moments of the features that it was computed from."""

    def __init__(self, method: MUDA, task: Task, retain: Source) -> None:
        self._method, self._task, self._retain = method, task, retain
        # Counted before the training: reading labels may draw from the random numbers of a dataset.
        self._classes = len(task.retained_classes)
        self.vectors = torch.empty(0)
        self.retained: Moments | None = None

    def refresh(self, model: nn.Module, epoch: int) -> None:
        """Compute U from a fresh sample of the retain set through the model as it stands.

        It is kept until `refresh` alternations are over.
        """
        method = self._method
        if epoch % (method.refresh or method.alternations):
            return
        count = min(len(self._retain), method.basis_samples)
        sample = self._task.sample(self._retain, count, "basis", epoch)
        total: Moments | None = None
        for _, outputs in self._task.engine.forward(model, sample, layer=self._task.layer):
            part = moments(outputs.features)
            total = part if total is None else merge(total, part)
        assert total is not None  # a Source is never empty
        self.take(total)

    def take(self, retained: Moments) -> None:
        """Compute U from the moments of retain features."""
        method, self.retained = self._method, retained
        if method.w_da > 0:
            space = retained.space(method.centering)
            width, rank = space.vectors.shape
            k = method.k or min(default_k(self._classes, width), max(rank, 1))
            self.vectors = leading(space, k, int(retained.samples))

    def loss(self, features: Tensor) -> Tensor:
        """L_DA of a forget batch [B, D]; under centering "each" minus its own mean.

        Rows that differ by rounding alone have no directions: they count as equal.
        """
        rows = features
        if self._method.centering == "each":
            centred = features - features.mean(0)
            differ = centred.square().sum() > _ROUNDING * features.square().sum()
            rows = torch.where(differ, centred, torch.zeros_like(centred))
        return dimensional_alignment_loss(rows, self.vectors, form=self._method.form)


def _redraws(task: Task, student: nn.Module) -> bool:
    """Whether there are rows of the head to be replaced: those of classes that are gone.

    A model whose head cannot be changed keeps them, with a warning.
    """
    if not task.forgotten_classes or task.layer is not None:
        return False
    try:
        linear_head(student, "muda", changes=("weight", "bias"))
    except Refused as error:
        notices.warn(f"{error}; muda leaves its rows of the forgotten classes as they are")
        return False
    return bool(set(task.retained_classes) - set(task.forgotten_classes))


@torch.no_grad()
def _redraw(task: Task, model: nn.Module, retained: Moments, margin: float) -> None:
    """Draw the head's rows of the forgotten classes anew.

    They are the mean retained row − margin · μ / ‖μ‖², μ [D] the mean feature, with the mean
    retained bias. At μ their logits lie `margin` below the mean logit. Where features lie around
    the origin (after layer normalisation, for example), the weights would lower some logits and
    raise others; there the bias is lowered.
    """
    _, head = linear_head(model, "muda", changes=("weight", "bias"))
    gone = list(task.forgotten_classes)
    kept = [c for c in task.retained_classes if c not in gone]
    centre = retained.mean.to(head.weight)
    squared = centre.square().sum().clamp_min(torch.finfo(centre.dtype).tiny)
    variance = centre @ (retained.scatter.to(centre) @ centre) / int(retained.samples)
    one_side = bool(variance.sqrt() < _ONE_SIDE * squared) or head.bias is None
    head.weight[gone] = head.weight[kept].mean(0) - (margin * centre / squared if one_side else 0.0)
    if head.bias is not None:
        head.bias[gone] = head.bias[kept].mean() - (0.0 if one_side else margin)


def self_distillation_target(method: MUDA, task: Task) -> Target:
    """(logits of the original, labels) -> q.

    Classes that earlier requests took have no place in q, which would bring them back.
    """
    kind = method.target
    now = _taken_now(task)
    earlier = torch.tensor([c for c in task.forgotten_classes if c not in now], dtype=torch.long)
    if kind == "auto":
        kind = "masked" if now else "self_soft"
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
        masked = MaskedTarget(torch.tensor(task.forgotten_classes))
        return lambda logits, _: masked(logits)
    scale = 1.0 if kind == "self" else method.temperature
    if len(earlier):
        without = MaskedTarget(earlier)
        return lambda logits, _: without(logits / scale)
    return lambda logits, _: soft_target(logits, scale)
