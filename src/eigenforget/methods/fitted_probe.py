"""A linear probe that is fitted again and again while a model trains."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from eigenforget.training.phases import LossInputs


class FittedProbe:
    """Multinomial logistic regression on remembered features [N, D], standardised.

    It is a constant between two fits.

    Args:
        classes: The number of classes C.
        batches: How many batches are remembered; the oldest go first.
        decay: L2 penalty of the weights on the mean loss.
        every: Steps from one fit in `step` to the next.
        iterations: L-BFGS iterations of one fit, at most.
    """

    def __init__(
        self, classes: int, *, batches: int, decay: float, every: int = 1, iterations: int = 15
    ) -> None:
        self._classes, self._decay, self._iterations = classes, decay, iterations
        self._every, self._steps = every, 0
        self._features: deque[Tensor] = deque(maxlen=batches)
        self._labels: deque[Tensor] = deque(maxlen=batches)
        self._weights: Tensor | None = None
        self.mean = self.scale = torch.empty(0)

    def remember(self, features: Tensor, labels: Tensor) -> None:
        """Keep a batch of features [B, D] with its labels [B]."""
        self._features.append(features.detach())
        self._labels.append(labels)

    def step(self, forget: LossInputs, retained: LossInputs) -> Tensor:
        """Logits of the forget batch, after both batches of a training step are remembered."""
        for part in (forget, retained):
            self.remember(part.outputs.features, part.batch.labels)
        if self._steps % self._every == 0:
            self.fit()
        self._steps += 1
        return self(forget.outputs.features)

    def fit(self) -> None:
        """Minimise mean cross-entropy + decay · ‖A‖², starting from the last fit."""
        rows, labels = torch.cat(list(self._features)), torch.cat(list(self._labels))
        self.mean, self.scale = rows.mean(0), rows.std(0, correction=0).clamp_min(1e-4)
        inputs = pad((rows - self.mean) / self.scale, (0, 1), value=1.0)
        start = (
            rows.new_zeros(self._classes, inputs.shape[1])
            if self._weights is None
            else self._weights
        )
        weights = start.clone().requires_grad_()
        solver = torch.optim.LBFGS(
            [weights], max_iter=self._iterations, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            value = cross_entropy(inputs @ weights.T, labels)
            value = value + self._decay * weights[:, :-1].square().sum()
            (weights.grad,) = torch.autograd.grad(value, weights)
            return value

        solver.step(closure)  # type: ignore[no-untyped-call]
        self._weights = weights.detach()

    def __call__(self, features: Tensor) -> Tensor:
        """Logits [B, C]; gradients flow into the features alone."""
        assert self._weights is not None  # fit() comes first
        slope, offset = self._weights[:, :-1], self._weights[:, -1]
        return ((features - self.mean) / self.scale) @ slope.T + offset
