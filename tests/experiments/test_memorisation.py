"""Memorisation by subsampling: an estimator with a known answer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.data.sources import TensorSource
from eigenforget.experiments import memorisation
from eigenforget.experiments.memorisation import (
    Subsampling,
    memorisation_of,
    sample_logits,
    subsets,
)
from eigenforget.training.engine import Engine
from eigenforget.training.log import unwatched
from eigenforget.training.recipe import Recipe


def test_every_sample_is_in_as_many_subsets_and_each_is_drawn_for_itself() -> None:
    found = subsets(4000, Subsampling(models=10), seed=3)
    assert found.shape == (10, 4000) and found.dtype == bool and (found.sum(axis=0) == 7).all()
    assert np.abs(found.mean(axis=1) - 0.7).max() < 4 * math.sqrt(0.21 / 4000)
    # Two samples meet as often as independent draws would: (7/10)² of all models.
    together = (found[:, :2000] & found[:, 2000:]).mean()
    assert abs(together - 0.49) < 4 * math.sqrt(0.49 * 0.51 / 20000)
    assert np.array_equal(
        found, subsets(4000, Subsampling(models=10), seed=3)
    ) and not np.array_equal(found, subsets(4000, Subsampling(models=10), seed=4))


@pytest.mark.parametrize(
    ("models", "share"),
    [(1, 0.5), (0, 0.5), (-3, 0.5), (20, 0.0), (20, 1.0), (20, 0.01), (20, 0.99), (20, math.nan)],
)
def test_a_design_without_models_on_both_sides_is_refused(models: int, share: float) -> None:
    with pytest.raises(
        EigenforgetError,
        match=f"^models={models} and share={share:g} do not work: each sample needs models",
    ):
        Subsampling(models=models, share=share).check()


class Counts(nn.Module):
    """p(y | x) is the share of label y among the training samples with this x, and uniform where
    there is none.
    """

    def __init__(self, points: int, classes: int) -> None:
        super().__init__()
        self.counts = nn.Parameter(torch.zeros(points, classes))

    def forward(self, x: Tensor) -> Tensor:
        rows = self.counts[x.long().flatten()]
        total = rows.sum(1, keepdim=True)
        # exp(−60) stands for a probability of 0.
        return torch.where(
            total > 0, (rows / total.clamp_min(1)).clamp_min(1e-26).log(), torch.zeros_like(rows)
        )


class Toy:
    """As much of an Experiment as memorisation asks for."""

    def __init__(self, points: Tensor, labels: Tensor) -> None:
        self.points, self.classes = int(points.max()) + 1, int(labels.max()) + 1
        self.data: Any = type(
            "Data", (), {"train": TensorSource(points[:, None].float(), labels)}
        )()
        self.recipe, self.engine, self.layer = Recipe(epochs=1), Engine(device="cpu"), "counts"

    def new_model(self, seed: int) -> nn.Module:
        return Counts(self.points, self.classes)


def counted(model: Any, source: Any, *args: Any, **settings: Any) -> None:
    with torch.no_grad():
        for x, y in zip(source.inputs[:, 0].long().tolist(), source.targets.tolist(), strict=True):
            model.counts[x, y] += 1


def test_memorisation_of_a_classifier_that_counts_is_the_known_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Alone at its point: 1 − 1/C. Mislabelled among ten others: about 1/n. Typical: nothing."""
    points = torch.tensor([0] * 12 + [1] * 11 + [2, 3, 4])
    labels = torch.tensor([0] * 11 + [1] + [1] * 11 + [0, 1, 2])
    monkeypatch.setattr(memorisation, "fit_recipe", counted)
    monkeypatch.setattr(
        memorisation,
        "sample_logits",
        lambda model, source, engine, layer: model(source.inputs).detach().numpy(),
    )
    toy: Any = Toy(points, labels)
    found = memorisation_of(toy, Subsampling(models=400, share=0.5), seed=1, watch=unwatched)
    assert found[23:].tolist() == pytest.approx([2 / 3] * 3, abs=1e-6), (
        "seen: 1, unseen: one of three classes"
    )
    assert found[12:23].tolist() == pytest.approx([0.0] * 11, abs=0.02), (
        "the others at its point have its label"
    )
    # Brute force: the mislabelled one among k of 11 others has p = 1/(k+1) when it is seen and 0
    # when not.
    share = sum(math.comb(11, k) / 2**11 / (k + 1) for k in range(12))
    assert found[11] == pytest.approx(share, abs=0.02)
    again = memorisation_of(toy, Subsampling(models=400, share=0.5), seed=1, watch=unwatched)
    assert np.array_equal(found, again)


def test_models_are_trained_on_their_subsets_with_seeds_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained: list[tuple[list[float], int]] = []

    def spy(model: Any, source: Any, recipe: Any, *, seed: int, **settings: Any) -> None:
        trained.append((source.inputs[:, 0].tolist(), seed))

    shown: list[tuple[str, int]] = []
    monkeypatch.setattr(memorisation, "fit_recipe", spy)
    monkeypatch.setattr(
        memorisation, "sample_logits", lambda model, source, engine, layer: np.zeros((10, 2))
    )
    toy: Any = Toy(torch.arange(10), torch.arange(10) % 2)
    watch: Any = lambda title, total: shown.append((title, total))
    assert (
        memorisation_of(toy, Subsampling(models=4, share=0.5), seed=2, watch=watch).tolist()
        == [0.0] * 10
    )
    included = subsets(10, Subsampling(models=4, share=0.5), seed=2)
    assert [rows for rows, _ in trained] == [np.flatnonzero(row).tolist() for row in included]
    assert len({seed for _, seed in trained}) == 4
    assert shown == [(f"memorisation: model {i} of 4", 1) for i in (1, 2, 3, 4)]


def test_half_precision_and_labels_outside_the_head() -> None:
    model, engine = nn.Linear(4, 3).half(), Engine(device="cpu")
    found = sample_logits(
        model, TensorSource(torch.eye(4), torch.tensor([0, 1, 2, 0])), engine, None
    )
    expected = (model.weight.float() @ torch.eye(4)).T + model.bias.float()
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-6)
    with pytest.raises(EigenforgetError, match="label 3 is outside the model's head of 3 outputs"):
        sample_logits(model, TensorSource(torch.eye(4), torch.tensor([0, 1, 3, 0])), engine, None)
