"""Memorisation of training samples, estimated from models trained on random subsets of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.data.sources import Source
from eigenforget.experiments.experiment import Experiment
from eigenforget.models.heads import check_label_range
from eigenforget.models.precision import widened
from eigenforget.requests import model_scores, subsampled_memorisation
from eigenforget.training.engine import Engine
from eigenforget.training.log import Watch
from eigenforget.training.recipe import fit_recipe


@dataclass(frozen=True, kw_only=True)
class Subsampling:
    """On what the models are trained from which memorisation is estimated.

    Attributes:
        models: memorisation: how many models are trained
        share: memorisation: share of the training samples that each is trained on
    """

    models: int = 20
    share: float = 0.7

    @property
    def inside(self) -> int:
        """How many of the models are trained with a given sample."""
        return round(self.share * self.models) if 0 < self.share < 1 else 0

    def check(self) -> None:
        """Checks that each sample is left out by some models and not by others.

        Raises:
            EigenforgetError: There are fewer than 2 models or more than 100,000, or none is trained
                with a sample, or none without it.
        """
        if self.models > 100_000:
            raise EigenforgetError(f"at most 100,000 models can be trained, got {self.models}")
        if self.models < 2 or not 0 < self.inside < self.models:
            raise EigenforgetError(
                f"models={self.models} and share={self.share:g} do not work: each sample needs "
                "models that were trained with it and models that were not (at least 2 models, "
                "and a share between 0 and 1)"
            )


def memorisation_of(
    experiment: Experiment, subsampling: Subsampling, *, seed: int, watch: Watch
) -> np.ndarray:
    """Memorisation [N] of the training samples, see `requests.subsampled_memorisation`.

    Where a sample has an exact copy among the training samples, a model that lacks one of the two
    has mostly seen the other, so neither counts as memorised.
    """
    subsampling.check()
    whole, layer, engine = experiment.data.train, experiment.layer, experiment.engine
    included = subsets(len(whole), subsampling, seed=seed)
    found = np.empty(included.shape)
    for number, rows in enumerate(included):
        own = seeds.derive(seed, "memorisation", number) % 2**31
        title = f"memorisation: model {number + 1} of {len(included)}"
        model = experiment.new_model(own)
        fit_recipe(
            model,
            whole.subset(np.flatnonzero(rows)),
            experiment.recipe,
            engine=engine,
            seed=own,
            layer=layer,
            log=watch(title, experiment.recipe.epochs),
        )
        losses = model_scores(sample_logits(model, whole, engine, layer), whole.labels(), "loss")
        found[number] = np.exp(-losses)  # the probability of the label
    return subsampled_memorisation(found, included)


def subsets(n: int, subsampling: Subsampling, *, seed: int) -> np.ndarray:
    """Bools [models, n]: which samples each model is trained with.

    Each sample is in equally many subsets, drawn for it alone. Deviation from subsets of one size:
    every sample gets equally many models on both sides, and the sizes vary a little.
    """
    rng = np.random.default_rng(seeds.derive(seed, "memorisation", "subsets"))
    ranks = rng.random((subsampling.models, n)).argsort(axis=0).argsort(axis=0)
    return ranks < subsampling.inside


def sample_logits(
    model: nn.Module, source: Source, engine: Engine, layer: str | None
) -> np.ndarray:
    """Logits [N, C] of all samples, in their order.

    Raises:
        EigenforgetError: A label is outside of the head, or there is no linear head and no layer.
    """
    rows = [
        outputs.logits.cpu() for _, outputs in engine.forward(widened(model), source, layer=layer)
    ]
    logits = torch.cat(rows).numpy()
    check_label_range(source.labels(), logits.shape[1])
    return logits
