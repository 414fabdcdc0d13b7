"""Fisher forgetting: noise on every weight, the less the more the retain set depends on it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.fields import Count, Positive
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task
from eigenforget.methods.fields import GradientChunk
from eigenforget.methods.published import ALL_CNN, CIFAR10, PublishedRun
from eigenforget.models.heads import head_if_any
from eigenforget.training.gradients import fisher_diagonal

_FLOOR = 1e-8
_ROW_VARIANCE = 1e-4
_BOOST = 10.0


@configured
class FisherForgetting(Method):
    """θ ← θ + n with n ~ N(0, Σ) and Σ diagonal, from F, the Fisher diagonal of the retain set.

    form="paper": Σ = alpha · F^(−1/2). It minimises tr(F Σ) / 2 + (alpha² / 2) tr(Σ⁻¹). The first
    term is the retain loss that the noise costs, the second what can still be read of the forget
    set (alpha² = λ σ_h² of the paper).

    form="code", which benchmarks run: Σ = alpha · F⁻¹, at most alpha · `limit` (a tenth of that in
    the head), averaged over input channels, and then multiplied by ten in the head and in all
    vectors (biases, normalisation). Head rows of classes that are gone as a whole become noise of
    variance 1e-3. For a model without a linear head, the rules for the head do not apply.

    Both use F + 1e-8 in place of F, and take the expectation over the model's own labels.
    """

    name: ClassVar = "fisher_forgetting"
    source: ClassVar = (
        "Golatkar, Achille, Soatto: Eternal Sunshine of the Spotless Net, arXiv 1911.04933, "
        "Fisher forgetting; form='code' as in its published code, except that the head is found "
        "by position and not by its number of rows, and that F may be sampled"
    )
    needs: ClassVar = ("retain", "per-sample gradients")
    passes: ClassVar = "trained: importance_samples of retain (per-sample gradients)"
    search_space: ClassVar = {"alpha": Range(1e-09, 1e-05)}
    recipes: ClassVar = {
        "cifar10-allcnn-scrub": PublishedRun(
            dict(
                alpha=1e-7,
                form="code",
                limit=1e3,
                importance_samples=None,
            ),
            ALL_CNN,
            CIFAR10,
            "one class",
            "meghdadk/SCRUB, large_scale_unlearning.ipynb, 98ffb11",
        ),
    }

    alpha: Annotated[Positive, "scale of the noise's variance"] = 1e-6
    form: Annotated[Literal["paper", "code"], "formula of the variance; see above"] = "code"
    limit: Annotated[Positive, "largest variance / alpha, before form='code' boosts it"] = 1e3
    importance_samples: Annotated[
        Count | None, "retain samples, drawn at random, that F is computed from; None takes all"
    ] = 5000
    chunk: GradientChunk = None

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        student = task.student()
        retain = task.at_most(retain, self.importance_samples, self.name, "samples")
        fisher = fisher_diagonal(task.engine, student, retain, labels="model", chunk=self.chunk)
        found = head_if_any(student)
        rows = found is not None and found[1].out_features > 1  # one for each class
        head = {id(p) for p in found[1].parameters()} if found and rows else set()
        generator = seeds.generator(task.seed, self.name, "noise")
        with torch.no_grad():
            for name, weight in student.named_parameters():
                if name in fisher:
                    variance = self.variance(fisher[name], in_head=id(weight) in head)
                    if self.form == "code" and id(weight) in head:
                        variance[list(task.forgotten_classes)] = _BOOST * _ROW_VARIANCE
                        weight[list(task.forgotten_classes)] = 0.0
                    noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
                    weight.add_(variance.sqrt() * noise.to(weight))
        return student.eval()

    def variance(self, fisher: Tensor, *, in_head: bool) -> Tensor:
        """Σ of one parameter, of the shape of its F."""
        if self.form == "paper":
            return self.alpha * (fisher + _FLOOR).rsqrt().clamp(max=self.limit)
        limit = self.limit / 10 if in_head else self.limit
        value = self.alpha * (fisher + _FLOOR).reciprocal().clamp(max=limit)
        if value.ndim > 1:
            value = value.mean(1, keepdim=True).expand_as(value).clone()
        return value * _BOOST if in_head or value.ndim == 1 else value
