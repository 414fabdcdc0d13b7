"""Certified removal: a Newton step on a linear head that was trained with a random perturbation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.core.fields import Between01, Count, Positive
from eigenforget.core.spec import configured
from eigenforget.data.sources import Source
from eigenforget.methods.base import Method, Range, Task
from eigenforget.models.heads import linear_head
from eigenforget.record import RecordError, read_salt

CERTIFICATE = "eigenforget_certificate"
"""The attribute of a result that holds what is guaranteed, for its record."""

GAMMA = 1 / (6 * math.sqrt(3))
"""The largest slope of p (1 − p), the second derivative of the logistic loss: at p = ½ ± 1/√12."""

ASSUMPTIONS = (
    "The features do not depend on the forget set: the layers before the head were trained without "
    "it. Otherwise the guarantee is about the head alone.",
    "Whoever inspects the head does not know the noise: it follows from the seed of the run, and "
    "from the file `secret` where one is given.",
    "The bound is that of this run's noise, as in the paper's experiments; the theorem asks for "
    "one that holds whatever the noise.",
    "Pseudo-random numbers in float64 stand for Gaussian ones.",
    "Later removals from the same head add up: this certificate counts the present one.",
)
"""Under which the certificate holds."""


class Minimum(NamedTuple):
    """Weights of one-against-the-rest classifiers.

    Attributes:
        weights: [D, C].
        residual: Norm of the gradient of the objective there, over all classes.
    """

    weights: Tensor
    residual: float


class Removal(NamedTuple):
    """Weights after the Newton step.

    Attributes:
        weights: [D, C].
        bound: Upper bound of the gradient norm of the retain set's objective there.
    """

    weights: Tensor
    bound: float


@configured
class CertifiedHead(Method):
    """Retrain the head in a way that removal can be certified for, then remove the forget set.

    The features x of forget and retain set, with a constant 1 for the bias, are fixed. For each
    class k the perturbed objective

        L_k(w; D) = Σ_D [log(1 + exp(−t w·x)) + l2 ‖w‖² / 2] + b_k · w,  t = ±1,  b_k ~ N(0, noise²)

    is minimised over all data, and then one Newton step for all forget samples at once is taken
    towards the minimum for the retain set D′: w⁻ = w − H⁻¹ ∇L_k(w; D′) with the Hessian H there.
    What is left of the gradient has the norm

        ‖∇L_k(w⁻; D′)‖ ≤ γ ‖X′‖₂ max |X′ s| ‖X′ s‖₂,  s = H⁻¹ ∇L_k(w; D′),  γ = 1 / (6 √3)

    and β is the norm of these bounds over the classes. With c = √(2 ln(1.5 / delta)), w⁻ is (ε,
    delta)-indistinguishable from the weights that retraining on D′ in the same way gives, for ε = c
    β / noise. Where that ε exceeds `epsilon`, the method refuses. The attribute
    `eigenforget_certificate` of the result, and `certificate` of the record, say which bound was
    reached.

    All other layers stay as they are. The given head was trained without a perturbation, so the
    perturbed one is trained here. That costs passes over features only.
    """

    name: ClassVar = "certified_head"
    source: ClassVar = (
        "Guo, Goldstein, Hannun, van der Maaten: Certified Data Removal from Machine Learning "
        "Models, ICML 2020, arXiv 1911.03030, theorem 3 and corollary 1 (one-against-the-rest "
        "logistic regression); deviations: the sharp γ in the place of ¼; max |X′ s| in the place "
        "of ‖s‖, so that features need no norm below 1; the step is from the whole gradient, so "
        "that the bound counts what the fit left; one bound over all classes together"
    )
    needs: ClassVar = ("forget", "retain", "labels", "a linear head")
    passes: ClassVar = "forward: forget + retain; the head is fitted on their features"
    guarantee: ClassVar = (
        "certified: (epsilon, delta) removal from the head, given features that do not depend on "
        "the forget set; the record has the bound and the assumptions"
    )
    search_space: ClassVar = {"l2": Range(1e-4, 1.0), "noise": Range(0.1, 100.0)}

    l2: Annotated[Positive, "L2 penalty per sample"] = 0.1
    noise: Annotated[Positive, "standard deviation of the perturbation b"] = 10.0
    epsilon: Annotated[Positive, "largest ε that is accepted"] = 1.0
    delta: Annotated[Between01, "δ of the certificate"] = 1e-5
    secret: Annotated[
        str, "file that the noise is drawn from beside the seed, as keygen --salt makes one"
    ] = ""
    steps: Annotated[Count, "Newton steps of the fit, at most"] = 100

    def __call__(self, task: Task) -> nn.Module:
        retain, student = task.needs_retain(self.name), task.student()
        _, head = linear_head(student, self.name, changes=("weight", "bias"))
        sides = [self._rows(task, student, head, source) for source in (task.forget, retain)]
        labels = torch.cat([labels for _, labels in sides])
        rows = torch.cat([x for x, _ in sides])
        objective = Objective(
            rows, one_against_rest(labels, task.num_classes), self.perturbation(rows, task)
        )
        fitted = objective.minimum(self.l2, self.steps)
        kept = objective.without(len(task.forget))
        removal = kept.removed(fitted.weights, self.l2)
        reached = math.sqrt(2 * math.log(1.5 / self.delta)) * removal.bound / self.noise
        if reached > self.epsilon:
            raise Refused(
                f"{self.name} reaches ε = {reached:.3g} at δ = {self.delta:g}, above "
                f"epsilon={self.epsilon:g}; raise l2 (or noise), accept a larger epsilon, "
                "remove fewer samples, or retrain"
            )
        with torch.no_grad():
            weights = removal.weights.T.to(head.weight)
            head.weight.copy_(weights[:, : head.in_features])
            if head.bias is not None:
                head.bias.copy_(weights[:, -1])
        setattr(student, CERTIFICATE, self._certificate(task, reached, removal, fitted))
        return student.eval()

    def _rows(
        self, task: Task, model: nn.Module, head: nn.Linear, source: Source
    ) -> tuple[Tensor, Tensor]:
        """Features [N, D], with a last entry of 1 where the head has a bias, and labels [N]."""
        found = [(o.features, b.labels) for b, o in task.engine.forward(model, source)]
        rows, labels = (torch.cat(column) for column in zip(*found, strict=True))
        rows, labels = rows.double().cpu(), labels.cpu()
        one = torch.ones(len(rows), int(head.bias is not None), dtype=rows.dtype)
        return torch.cat([rows, one], 1), labels

    def perturbation(self, rows: Tensor, task: Task) -> Tensor:
        """The perturbation [D, C]."""
        key: list[str | int] = [self.name]
        if self.secret:
            try:
                key.append(hashlib.sha256(read_salt(self.secret)).hexdigest())
            except RecordError as error:
                raise Refused(f"{self.name}: secret: {error}") from None
        generator = seeds.generator(task.seed, *key)
        shape = rows.shape[1], task.num_classes
        return self.noise * torch.randn(shape, generator=generator, dtype=torch.float64)

    def _certificate(
        self, task: Task, reached: float, removal: Removal, fitted: Minimum
    ) -> dict[str, Any]:
        return {
            "epsilon": reached,
            "delta": self.delta,
            "residual_bound": removal.bound,
            "noise": self.noise,
            "fit_residual": fitted.residual,
            "removed": len(task.forget),
            "of": "the linear head, given its features",
            "noise_from": "seed and secret" if self.secret else "seed",
            "assumptions": list(ASSUMPTIONS),
        }


def certificate_of(model: nn.Module) -> dict[str, Any]:
    """The entry of a job with what is guaranteed of a result; none without a certificate."""
    found = getattr(model, CERTIFICATE, None)
    return {"certificate": dict(found)} if isinstance(found, Mapping) else {}


def one_against_rest(labels: Tensor, num_classes: int) -> Tensor:
    """Targets [N, C]: 1 for a sample's own class and −1 for the others."""
    return 2.0 * nn.functional.one_hot(labels, num_classes).double() - 1


class Objective:
    """Σ [log(1 + exp(−t w·x)) + l2 ‖w‖² / 2] + b · w of each class, in float64.

    Args:
        rows: Features [N, D].
        targets: ±1 [N, C].
        noise: The perturbation b [D, C].
    """

    def __init__(self, rows: Tensor, targets: Tensor, noise: Tensor) -> None:
        self.rows, self.targets, self.noise = rows, targets, noise

    def without(self, first: int) -> Objective:
        """The same without the first samples."""
        return Objective(self.rows[first:], self.targets[first:], self.noise)

    def value(self, weights: Tensor, l2: float) -> Tensor:
        """The objective [C]."""
        losses = nn.functional.softplus(-self.targets * (self.rows @ weights)).sum(0)
        penalty = len(self.rows) * l2 / 2 * weights.square().sum(0)
        return losses + penalty + (self.noise * weights).sum(0)

    def gradient(self, weights: Tensor, l2: float) -> Tensor:
        """Its gradient [D, C]."""
        pulls = -self.targets * torch.sigmoid(-self.targets * (self.rows @ weights))
        return self.rows.T @ pulls + len(self.rows) * l2 * weights + self.noise

    def newton(self, weights: Tensor, l2: float) -> Tensor:
        """H⁻¹ times the gradient [D, C], class by class."""
        p = torch.sigmoid(self.rows @ weights)
        curve, gradient = p * (1 - p), self.gradient(weights, l2)
        ridge = len(self.rows) * l2 * torch.eye(self.rows.shape[1], dtype=self.rows.dtype)
        steps = [
            torch.linalg.solve(self.rows.T @ (self.rows * curve[:, k : k + 1]) + ridge, column)
            for k, column in enumerate(gradient.T)
        ]
        return torch.stack(steps, 1)

    def minimum(self, l2: float, steps: int) -> Minimum:
        """The weights where the gradient is as small as float64 has it, by damped Newton steps."""
        weights = torch.zeros_like(self.noise)
        for _ in range(steps):
            step, before = self.newton(weights, l2), self.value(weights, l2)
            length = torch.ones_like(before)
            for _ in range(30):  # halved until no class rises: a full step may overshoot at first
                rises = self.value(weights - length * step, l2) > before + 1e-12 * before.abs()
                length = torch.where(rises, length / 2, length)
                if not rises.any():
                    break
            weights = weights - length * step
            if step.norm() <= 1e-10 * (1 + weights.norm()):
                break
        return Minimum(weights, float(self.gradient(weights, l2).norm()))

    def removed(self, weights: Tensor, l2: float) -> Removal:
        """One Newton step towards the minimum of this objective, with the bound of what is left."""
        step = self.newton(weights, l2)
        moved = self.rows @ step
        spread = torch.linalg.eigvalsh(self.rows.T @ self.rows).clamp_min(0).max().sqrt()
        bounds = GAMMA * spread * moved.abs().amax(0) * moved.norm(dim=0)
        return Removal(weights - step, float(bounds.norm()))
