"""Selective synaptic dampening: shrink the weights that matter most to the forget set."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from eigenforget.core.fields import Count, Positive
from eigenforget.core.spec import configured
from eigenforget.data.sources import Source
from eigenforget.methods.base import Method, Range, Task
from eigenforget.methods.fields import GradientChunk
from eigenforget.training.gradients import Weights, fisher_diagonal


@configured
class SSD(Method):
    """θ ← min(λ I_D / I_f, 1) · θ wherever I_f > α I_D. No training; buffers stay as they are.

    I_f and I_D are diagonals of the empirical Fisher information (means of squared per-sample
    gradients) on the forget set and on forget and retain set together. Since I_D contains I_f, no
    ratio I_f / I_D exceeds N / N_f: an `alpha` above that changes nothing, and for a forget set
    drawn at random almost every ratio is near 1. alpha=None chooses it as ASSD does, as the 100 −
    ln(1 + 100 N_f / N) percentile of all ratios.
    """

    name: ClassVar = "ssd"
    source: ClassVar = (
        "Foster, Schoepf, Brintrup: Fast Machine Unlearning Without Retraining Through Selective "
        "Synaptic Dampening, arXiv 2308.07707; alpha=None: Schoepf, Foster, Brintrup (ASSD), "
        "arXiv 2402.10098, percentile as in the authors' code. Deviation: gradients are squared "
        "per sample, as the formula says; the authors' code squares batch means, so that its "
        "alpha = 10 is not ours"
    )
    needs: ClassVar = ("forget", "retain", "labels", "per-sample gradients")
    passes: ClassVar = (
        "trained: forget + retain, or importance_samples of each (per-sample gradients)"
    )
    search_space: ClassVar = {"dampening": Range(0.05, 2.0)}

    alpha: Annotated[
        Positive | None, "dampen where I_f > alpha · I_D; None takes the adaptive percentile"
    ] = None
    dampening: Annotated[Positive, "λ, factor of I_D / I_f; smaller dampens more"] = 1.0
    importance_samples: Annotated[
        Count | None, "samples, drawn at random, per importance on each side; None takes all"
    ] = None
    chunk: GradientChunk = 32

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        student = task.student()
        n_forget, n = len(task.forget), len(task.forget) + len(retain)
        of_forget = self._importance(task, student, task.forget, "forget")
        of_retain = self._importance(task, student, retain, "retain")
        of_all = {
            k: (n_forget * v + (n - n_forget) * of_retain[k]) / n for k, v in of_forget.items()
        }
        alpha = self.alpha or adaptive_alpha(of_forget, of_all, n_forget / n)
        with torch.no_grad():
            for name, weight in student.named_parameters():
                if name in of_all:
                    weight.mul_(_factor(of_forget[name], of_all[name], alpha, self.dampening))
        return student.eval()

    def _importance(self, task: Task, model: nn.Module, source: Source, side: str) -> Weights:
        sample = task.at_most(source, self.importance_samples, self.name, side)
        return fisher_diagonal(task.engine, model, sample, chunk=self.chunk)


def adaptive_alpha(of_forget: Weights, of_all: Weights, share: float) -> float:
    """The 100 − ln(1 + 100 · share) percentile of I_f / I_D over all weights with I_D > 0.

    Args:
        of_forget: I_f by name.
        of_all: I_D by name.
        share: N_f / N.
    """
    ratios = [(of_forget[k] / v)[v > 0].double().cpu().numpy() for k, v in of_all.items()]
    return float(np.percentile(np.concatenate(ratios), 100 - math.log1p(100 * share)))


def _factor(of_forget: Tensor, of_all: Tensor, alpha: float, dampening: float) -> Tensor:
    chosen = of_forget > alpha * of_all
    return torch.where(chosen, (dampening * of_all / of_forget).clamp(max=1.0), 1.0)
