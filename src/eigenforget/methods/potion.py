"""Potion: dampen ever more weights until the model no longer has the labels of known poison."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from torch import Tensor, nn

from eigenforget.core.errors import Refused
from eigenforget.core.fields import Count, Positive, UnitInterval
from eigenforget.core.spec import configured
from eigenforget.data.sources import Source
from eigenforget.methods.base import Method, Range, Task
from eigenforget.methods.fields import GradientChunk
from eigenforget.methods.published import CIFAR10, RESNET9, PublishedRun
from eigenforget.methods.ssd import Importances, alpha_of, dampen, importance_ratios
from eigenforget.training.gradients import Weights, sensitivity

_FINER = 25.0
"""The authors' search begins at this part of the forget set's share of the data (main.py)."""
_GROWTH = 1.1
"""And grows it by this factor (methods.py, STEP_MULT)."""


@configured
class Potion(Method):
    """SSD with outlier-resistant importances, and a search for how much to dampen.

    The forget set holds the known part of the poisoned data; the rest of them is in the retain set.
    The importance of a weight is the mean of |∂‖f‖₂|, with f the logits. It is not squared, so that
    single samples count for less, and uses no labels. Weights with I_f / I_r above the percentile
    100 − ln(1 + 100 s) are multiplied by I_r / I_f, at most 1. s starts at N_f / (25 N) and grows
    by a tenth from one try to the next. Each try begins from the original. The search ends when the
    accuracy on the forget set is at most the share `keep` of the original's: an attack is
    neutralised when its labels are gone. No training; buffers stay as they are.

    estimator="batch" takes the gradient of the mean over a batch, as the authors' code does.
    """

    name: ClassVar = "potion"
    source: ClassVar = (
        "Schoepf, Foster, Brintrup: Potion: Towards Poison Unlearning, arXiv 2406.09173, XLF with "
        "PTN search, as in the authors' code (I_r is of the retain set there, not of all data); "
        "deviation: single samples by default"
    )
    needs: ClassVar = ("forget", "retain", "labels", "per-sample gradients")
    passes: ClassVar = "trained: forget + retain; forward: (1 + tries) × forget"
    search_space: ClassVar = {"keep": Range(0.05, 0.75)}
    recipes: ClassVar = {
        "cifar10-resnet9-potion": PublishedRun(
            dict(keep=0.2, tries=500, dampening=1.0, estimator="batch", batch_size=512),
            RESNET9,
            CIFAR10,
            "1 to 1,000 of 100, 500 or 1,000 poisoned samples",
            "if-loops/towards_poison_unlearning, CIFAR_ptn_runs.sh and src/methods.py, b654285",
            "the script runs eight values of keep, and this is one of them",
        ),
    }

    keep: Annotated[
        UnitInterval, "share of the original's accuracy on the forget set at which to stop"
    ] = 0.2
    tries: Annotated[Count, "tries of the search at most"] = 500
    dampening: Annotated[Positive, "factor of I_r / I_f; smaller dampens more"] = 1.0
    estimator: Annotated[
        Literal["sample", "batch"], "gradients of single samples, or of batch means as published"
    ] = "sample"
    batch_size: Annotated[Count, "samples per gradient of estimator='batch'"] = 64
    chunk: GradientChunk = None

    def __call__(self, task: Task) -> nn.Module:
        retain, student = task.needs_retain(self.name), task.student()
        found = Importances(*(self._importance(task, s) for s in (task.forget, retain)))
        ratios = importance_ratios(found)
        goal = self.keep * float(task.correct(student, task.forget).mean())
        share = len(task.forget) / (len(task.forget) + len(retain)) / _FINER
        for _ in range(self.tries):
            student = task.student()
            dampen(student, found, alpha=alpha_of(ratios, share), dampening=self.dampening)
            if float(task.correct(student, task.forget).mean()) <= goal:
                return student.eval()
            share *= _GROWTH
        raise Refused(
            f"{self.name} did not bring the accuracy on the forget set down to {goal:.3g} in "
            f"{self.tries} tries; raise keep, or lower dampening"
        )

    def _importance(self, task: Task, source: Source) -> Weights:
        return sensitivity(
            task.engine,
            task.student(),
            source,
            loss=output_norm,
            power=1,
            batch_size=self.batch_size if self.estimator == "batch" else None,
            chunk=self.chunk,
        )


def output_norm(logits: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG001 (a loss has labels)
    """‖logits‖₂ [B], which needs no labels."""
    return logits.square().sum(1).sqrt()
