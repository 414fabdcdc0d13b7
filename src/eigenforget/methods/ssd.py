"""Selective synaptic dampening: shrink the weights that matter most to the forget set."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from eigenforget.core.errors import Refused
from eigenforget.core.fields import Count, Positive
from eigenforget.core.spec import configured
from eigenforget.data.sources import JoinedSource, Source
from eigenforget.methods.base import Method, Range, Task
from eigenforget.methods.fields import GradientChunk
from eigenforget.methods.published import CIFAR20, RESNET18, PublishedRun
from eigenforget.training.gradients import (
    Weights,
    fisher_diagonal,
    sample_cross_entropy,
    sensitivity,
)


@configured
class DampeningFields:
    """The fields of a method that dampens weights by their importance."""

    alpha: Annotated[
        Positive | None, "dampen where I_f > alpha · I_D; None takes the adaptive percentile"
    ] = None
    dampening: Annotated[Positive, "λ, factor of I_D / I_f; smaller dampens more"] = 1.0
    estimator: Annotated[
        Literal["sample", "batch"], "gradients of single samples, or of batch means as published"
    ] = "sample"
    batch_size: Annotated[Count, "samples per gradient of estimator='batch'"] = 64
    importance_samples: Annotated[
        Count | None, "samples, drawn at random, per importance on each side; None takes all"
    ] = None
    chunk: GradientChunk = None


@configured
class SSD(DampeningFields, Method):
    """θ ← min(λ I_D / I_f, 1) · θ wherever I_f > α I_D. No training; buffers stay as they are.

    I_f is the diagonal of the empirical Fisher information on the forget set, I_D that on forget
    and retain set together. estimator="sample" is the formula: means of squared gradients of
    samples. Since I_D contains I_f, no ratio I_f / I_D then exceeds N / N_f. An `alpha` of N / N_f
    or more could change nothing, and is refused. For a forget set drawn at random, almost every
    ratio is near 1. estimator="batch" is what the authors' code computes, and what the published
    alpha = 10 is for: means of squared gradients of batch means. It has no such bound, and is
    faster.

    alpha=None takes the percentile 100 − ln(1 + 100 N_f / N) of all ratios, as ASSD does.
    """

    name: ClassVar = "ssd"
    source: ClassVar = (
        "Foster, Schoepf, Brintrup: Fast Machine Unlearning Without Retraining Through Selective "
        "Synaptic Dampening, arXiv 2308.07707; alpha=None: Schoepf, Foster, Brintrup (ASSD), "
        "arXiv 2402.10098, percentile as in the authors' code. estimator='sample' follows the "
        "formula, 'batch' the authors' code, which squares batch means"
    )
    needs: ClassVar = ("forget", "retain", "labels", "per-sample gradients")
    passes: ClassVar = (
        "trained: forget + retain, or importance_samples of each; twice forget + retain with "
        "estimator='batch'"
    )
    search_space: ClassVar = {"dampening": Range(0.05, 2.0)}
    recipes: ClassVar = {
        "cifar20-resnet18-ssd": PublishedRun(
            dict(
                alpha=10.0,
                dampening=1.0,
                estimator="batch",
                batch_size=64,
            ),
            RESNET18,
            CIFAR20,
            "one class",
            "if-loops/selective-synaptic-dampening, src/forget_full_class_main.py, cdfdc0e",
        ),
    }

    def __call__(self, task: Task) -> nn.Module:
        return dampened(task, self, partial(squared_gradients, task, self))


def squared_gradients(task: Task, method: Any, model: nn.Module, source: Source) -> Weights:
    """Mean squared gradients of the cross-entropy: of samples, or of batch means as published.

    Args:
        task: Says where to compute.
        method: Has the fields estimator, batch_size and chunk.
        model: The model; it stays as it is.
        source: The samples.
    """
    if method.estimator == "sample":
        return fisher_diagonal(task.engine, model, source, chunk=method.chunk)
    return sensitivity(
        task.engine,
        model,
        source,
        loss=sample_cross_entropy,
        power=2,
        batch_size=method.batch_size,
    )


class Importances(NamedTuple):
    """How much each weight matters to the forget set, and to all data."""

    forget: Weights
    all: Weights


def dampened(
    task: Task, method: Any, importance: Callable[[nn.Module, Source], Weights]
) -> nn.Module:
    """The original with the weights dampened that matter to the forget set above all.

    Args:
        task: What to forget.
        method: Has the `DampeningFields` and a name.
        importance: (model, source) -> the importance of each weight to that data.

    Raises:
        Refused: No weight is selected at the method's own alpha.
    """
    retain = task.needs_retain(method.name)
    student, count = task.student(), len(task.forget)
    total = count + len(retain)
    if method.estimator == "sample" and method.alpha is not None and method.alpha >= total / count:
        raise Refused(
            f"{method.name}(alpha={method.alpha}) can change no weight: single-sample ratios "
            f"I_f / I_D are at most N / N_f = {total / count:.4g}; take a smaller alpha, "
            "alpha=None, or estimator='batch', which the published alpha is for"
        )
    found = _importances(task, method, student, retain, importance)
    check_some_matter(found, method.name)
    alpha = method.alpha or adaptive_alpha(found.forget, found.all, count / total)
    if method.alpha is not None and not any(
        bool((found.forget[name] > alpha * value).any()) for name, value in found.all.items()
    ):
        largest = float(importance_ratios(found).max(initial=0.0))
        raise Refused(
            f"{method.name}(alpha={method.alpha}) changes no weight: the largest ratio I_f / I_D "
            f"is {largest:.4g}; take a smaller alpha, or alpha=None"
        )
    dampen(student, found, alpha=alpha, dampening=method.dampening)
    return student.eval()


def dampen(model: nn.Module, found: Importances, *, alpha: float, dampening: float) -> None:
    """Multiply each weight with I_f > alpha · I_D by min(dampening · I_D / I_f, 1), in place."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in found.all:
                of_forget, of_all = found.forget[name], found.all[name]
                factor = (dampening * of_all / of_forget).clamp(max=1.0)
                weight.mul_(torch.where(of_forget > alpha * of_all, factor, 1.0))


def _importances(
    task: Task,
    method: Any,
    model: nn.Module,
    retain: Source,
    importance: Callable[[nn.Module, Source], Weights],
) -> Importances:
    """Those of samples add up; those of batches are computed from both sides together."""

    def of(source: Source, side: str) -> Weights:
        return importance(model, task.at_most(source, method.importance_samples, method.name, side))

    of_forget = of(task.forget, "forget")
    if method.estimator == "batch":
        return Importances(of_forget, of(JoinedSource((retain, task.forget)), "all"))
    of_retain = of(retain, "retain")
    n_forget, n = len(task.forget), len(task.forget) + len(retain)
    return Importances(
        of_forget,
        {k: (n_forget * v + (n - n_forget) * of_retain[k]) / n for k, v in of_forget.items()},
    )


def check_some_matter(found: Importances, method: str) -> None:
    """Checks that some weight matters at all.

    Raises:
        Refused: None does; `method` is named.
    """
    if not any(bool((value > 0).any()) for value in found.all.values()):
        raise Refused(
            f"{method}: no weight matters, since the model is so sure of every sample that all "
            "gradients are zero; take a method that does not weigh gradients, such as muda()"
        )


def importance_ratios(found: Importances) -> np.ndarray:
    """I_f / I_D [n] of all weights with I_D > 0, in float64."""
    pairs = ((found.forget[k], v) for k, v in found.all.items())
    return np.concatenate([(f / v)[v > 0].double().cpu().numpy() for f, v in pairs])


def adaptive_alpha(of_forget: Weights, of_all: Weights, share: float) -> float:
    """The 100 − ln(1 + 100 · share) percentile of I_f / I_D over all weights with I_D > 0.

    Args:
        of_forget: I_f by name.
        of_all: I_D by name.
        share: N_f / N.
    """
    return alpha_of(importance_ratios(Importances(of_forget, of_all)), share)


def alpha_of(ratios: np.ndarray, share: float) -> float:
    """The 100 − ln(1 + 100 · share) percentile of the ratios, at least the smallest of them."""
    return float(np.percentile(ratios, max(0.0, 100 - math.log1p(100 * share))))
