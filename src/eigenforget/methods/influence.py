"""Influence unlearning: one Newton step towards the optimum of the retain set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from eigenforget.core.errors import Refused
from eigenforget.core.fields import Between01, Count, NonNegative, Positive
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Range, Task
from eigenforget.training.gradients import (
    as_vector,
    curvature_product,
    in_shape,
    mean_gradient,
)


@configured
class Influence(Method):
    """θ ← θ + scale · (H + λI)⁻¹ Σ_forget ∇ℓ_i / N_r, by conjugate gradients on curvature products.

    H is the curvature of the mean loss of the retain set, ℓ_i the cross-entropy plus weight_decay ·
    ‖θ‖² / 2, and λ = weight_decay + damping. Where θ minimises a convex loss over all data and
    damping is 0, this is Newton's step on the retain loss, with an error of second order in N_f /
    N. A network meets neither condition. It fits its data almost exactly, so the forget gradients
    are near 0 and damping decides the step. Only weights move; batch-norm statistics stay.
    """

    name: ClassVar = "influence"
    source: ClassVar = (
        "Koh, Liang: Understanding Black-box Predictions via Influence Functions, arXiv "
        "1703.04730; as a removal step: Guo et al., arXiv 1911.03030, without its noise and "
        "hence without its certificate. Deviations: damping; Gauss-Newton curvature by default, "
        "since the Hessian of a network is not positive"
    )
    needs: ClassVar = ("forget", "retain", "labels")
    passes: ClassVar = "trained: forget + iterations × hessian_samples (curvature products)"
    search_space: ClassVar = {"damping": Range(1e-05, 0.1), "scale": Range(0.1, 30.0)}

    damping: Annotated[NonNegative, "added to the curvature's diagonal"] = 1e-4
    weight_decay: Annotated[NonNegative, "L2 penalty that the original was trained with"] = 5e-4
    scale: Annotated[Positive, "factor of the step"] = 1.0
    curvature: Annotated[
        Literal["gauss_newton", "hessian"],
        "'hessian' needs damping above its most negative eigenvalue",
    ] = "gauss_newton"
    iterations: Annotated[
        Count, "conjugate-gradient steps at most; each is a pass over the samples"
    ] = 20
    tolerance: Annotated[Between01, "stop at this residual, relative to the right-hand side"] = 1e-3
    hessian_samples: Annotated[
        Count | None, "retain samples, drawn at random, that H comes from; None takes all"
    ] = 2000

    def __call__(self, task: Task) -> nn.Module:
        retain = task.needs_retain(self.name)
        student = task.student()
        gradient = mean_gradient(task.engine, student, task.forget)
        trained = {k: p.detach() for k, p in student.named_parameters() if k in gradient}
        share = len(task.forget) / len(retain)
        target = as_vector(
            {k: share * (g + self.weight_decay * trained[k]) for k, g in gradient.items()}
        )
        retain = task.at_most(retain, self.hessian_samples, self.name)

        def curve(vector: Tensor) -> Tensor:
            product = curvature_product(
                task.engine, student, retain, in_shape(vector, trained), kind=self.curvature
            )
            return as_vector(product) + (self.weight_decay + self.damping) * vector

        step = conjugate_gradients(
            curve, target, iterations=self.iterations, tolerance=self.tolerance
        )
        with torch.no_grad():
            for name, moved in in_shape(self.scale * step, trained).items():
                student.get_parameter(name).add_(moved)
        return student.eval()


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], target: Tensor, *, iterations: int, tolerance: float
) -> Tensor:
    """Solve A x = target for a symmetric and positive A.

    Args:
        product: v -> A v.
        target: The right-hand side [n].
        iterations: Number of steps, at most.
        tolerance: Stop where the residual is this small, relative to the right-hand side.

    Raises:
        Refused: vᵀ A v ≤ 0 shows that A is not positive.
    """
    x, residual = torch.zeros_like(target), target.clone()
    direction, energy = residual.clone(), residual @ residual
    goal = tolerance**2 * energy
    for _ in range(iterations):
        if energy <= goal:
            break
        image = product(direction)
        along = direction @ image
        if not along > 0:
            curvature = float(along / (direction @ direction))
            raise Refused(
                f"influence met a direction of curvature {curvature:.3g}; raise damping by more "
                "than that"
            )
        length = energy / along
        x, residual = x + length * direction, residual - length * image
        energy, before = residual @ residual, energy
        direction = residual + (energy / before) * direction
    return x
