"""Penalised multinomial regression: the one optimum of each of several problems, in one fit."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

_SWITCH = 3.0
"""Times the tolerance: up to here steps are taken in float32, where they cost a third. Its gradient
is known to about 1e-6."""
_CURVATURE = 0.01
"""Mean of p (1 − p) that the change of variables takes for granted. It decides the number of steps
only; on features of trained networks, values of 0.005 to 0.05 take about as many."""
_RIDGE = 1e-6
"""Share of the trace that keeps the factor of float32 moments positive."""
_SAMPLED = 4096
"""Least rows whose second moments change the variables; with four times the width more is noise."""
_MEMORY = 10
"""Earlier steps that L-BFGS keeps. 40 take a few steps less, and more time for each."""


class Settings(NamedTuple):
    """How a regression is fitted.

    Attributes:
        c: Inverse strength of the penalty.
        max_iter: Most iterations.
        tolerance: Largest gradient entry at convergence.
    """

    c: float
    max_iter: int
    tolerance: float


class _Optimum(Exception):  # noqa: N818 (no error: these weights are the optimum)
    """The gradient is small enough."""


def joint_optimum(inputs: np.ndarray, members: np.ndarray, settings: Settings) -> np.ndarray | None:
    """Weights [R, D + 1, C] of R penalised multinomial regressions, the last row the intercepts.

    Each minimises its mean log loss plus ‖weights‖² / (2 c n), as scikit-learn does; intercepts are
    free. L-BFGS begins in float32 and ends in float64, in variables in which the second moments of
    the inputs are the identity. Both change how many steps it takes and what a step costs, and not
    what the optimum is: all gradients are held to the tolerance in float64.

    None where they did not converge.

    Args:
        inputs: [R, n, D] in float64.
        members: 1 where a sample is of a class, else 0, [R, n, C].
        settings: Penalty and convergence, as in scikit-learn.
    """
    try:
        problem = _Problem(inputs, members, settings)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        return None  # the inputs are so large that their moments have no factor
    flat, left = np.zeros(math.prod(problem.shape)), settings.max_iter
    options = {
        "gtol": 0.0,  # of the changed variables; the problem itself judges the gradient
        "ftol": 64 * np.finfo(float).eps,
        "maxcor": _MEMORY,
    }
    try:
        while left > 0:
            limits = {"maxiter": left, "maxfun": 10 * settings.max_iter}
            found = minimize(
                problem, flat, jac=True, method="L-BFGS-B", options={**options, **limits}
            )
            if problem.exact:
                return problem.weights(found.x) if found.success else None
            problem.sharpen()  # float32 cannot tell the next steps apart
            flat, left = found.x, left - found.nit
    except _Optimum:
        return problem.reached
    return None


class _Problem:
    """Loss and gradient of the changed variables V [R, C, D + 1], for which W = V L⁻¹.

    L Lᵀ is an estimate of the Hessian of one class: its curvature times the second moments of the
    inputs, and the penalty.
    """

    def __init__(self, inputs: np.ndarray, members: np.ndarray, settings: Settings) -> None:
        count, n, width = inputs.shape
        self.n, self.tolerance = n, settings.tolerance
        self.shape = (count, members.shape[2], width + 1)
        # With two classes scikit-learn fits one weight vector, the difference of ours.
        self.penalty = (2.0 if self.shape[1] == 2 else 1.0) / (settings.c * n)
        self.whole = torch.from_numpy(np.ascontiguousarray(inputs.transpose(0, 2, 1)))
        self.labels = torch.from_numpy(members.argmax(axis=2))[:, None]
        self.inverse = self._inverse_factor()
        self.inputs = self.whole.float()
        self.reached: np.ndarray | None = None

    @property
    def exact(self) -> bool:
        """Whether all is computed in float64."""
        return self.inputs is self.whole

    def sharpen(self) -> None:
        """Goes on in float64."""
        self.inputs = self.whole

    def weights(self, flat: np.ndarray) -> np.ndarray:
        """The weights [R, D + 1, C] of these variables."""
        changed = torch.from_numpy(flat).view(self.shape) @ self.inverse
        return np.ascontiguousarray(changed.transpose(1, 2).numpy())

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        """Loss and gradient.

        Raises:
            _Optimum: The gradient is within the tolerance.
        """
        weights = torch.from_numpy(flat).view(self.shape) @ self.inverse
        loss, gradient = self._loss_and_gradient(weights)
        largest = float(gradient.abs().max())
        if self.exact and largest <= self.tolerance:
            self.reached = self.weights(flat)
            raise _Optimum
        if not self.exact and largest <= _SWITCH * self.tolerance:
            self.sharpen()
            return self(flat)
        return loss, (gradient @ self.inverse.transpose(1, 2)).numpy().ravel()

    def _loss_and_gradient(self, weights: Tensor) -> tuple[float, Tensor]:
        """Of the weights [R, C, D + 1] themselves, sums in float64."""
        own = weights.to(self.inputs.dtype)
        logits = torch.baddbmm(own[:, :, -1:], own[:, :, :-1], self.inputs)
        logs = torch.log_softmax(logits, dim=1)
        loss = -float(logs.gather(1, self.labels).sum(dtype=torch.float64)) / self.n
        errors = logs.exp_()
        errors.scatter_add_(1, self.labels, torch.full_like(errors[:, :1], -1.0)).div_(self.n)
        gradient = torch.empty_like(weights)
        gradient[:, :, :-1] = errors @ self.inputs.transpose(1, 2)
        gradient[:, :, -1] = errors.sum(dim=2, dtype=torch.float64)
        slopes = weights[:, :, :-1]
        gradient[:, :, :-1] += self.penalty * slopes
        return loss + self.penalty / 2 * float(slopes.square().sum()), gradient

    def _inverse_factor(self) -> Tensor:
        """L⁻¹ [R, D + 1, D + 1], lower triangular."""
        count, _, size = self.shape
        stride = max(1, self.n // max(_SAMPLED, 4 * size))
        rows = torch.ones(count, size, len(range(0, self.n, stride)))
        rows[:, :-1] = self.whole[:, :, ::stride]
        hessian = (rows @ rows.transpose(1, 2)).double() * (_CURVATURE / rows.shape[2])
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        ridge = _RIDGE * diagonal.sum(dim=1, keepdim=True)
        diagonal += ridge
        diagonal[:, :-1] += self.penalty
        factor = torch.linalg.cholesky(hessian)
        one = torch.eye(size, dtype=torch.float64).expand(count, size, size)
        found: Tensor = torch.linalg.solve_triangular(factor, one, upper=False)
        return found
