"""The subspace of the retained features that MUDA aligns forget features with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from eigenforget.alignment import (
    Moments,
    default_k,
    dimensional_alignment_loss,
    leading,
    merge,
    moments,
)
from eigenforget.data.sources import Source
from eigenforget.methods.base import Task

_ROUNDING = 1e-10
"""Share of the energy that is rounding: float32 keeps 7 digits, and this is 5 of them, squared."""


class AlignmentBasis:
    """U, L_DA against it, and the moments of the features that it was computed from."""

    def __init__(self, method: Any, task: Task, retain: Source) -> None:
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
            k = method.k or min(default_k(self._classes, width=width), max(rank, 1))
            self.vectors = leading(space, k, samples=int(retained.samples))

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
