"""Search of the samples that an unlearning method forgets least."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.memorisation import sample_logits
from eigenforget.methods import METHODS
from eigenforget.methods.base import Method
from eigenforget.requests import model_scores
from eigenforget.requests.ranked import smallest
from eigenforget.requests.splitting import sides
from eigenforget.training.log import Watch


@dataclass(frozen=True, kw_only=True)
class WorstCaseSearch:
    """How the search for samples that are hard to forget works.

    The defaults are no published setting. They keep a search on a few thousand samples to some
    minutes: each set is unlearned once, and a later set may only be harder.

    Attributes:
        method: worst_case: the unlearning method whose hardest samples are searched for
        n: worst_case: how many samples are forgotten together
        sets: worst_case: how many sets are tried after a random one
    """

    method: str = "finetune(epochs=1)"
    n: int = 100
    sets: int = 5

    def parsed(self, samples: int | None = None) -> Method:
        """The method, after a check of the numbers.

        Args:
            samples: Number of training samples; None where the data are not loaded yet.

        Raises:
            EigenforgetError: The method is unknown, there is no set, or n is no number below that
                of the training samples.
        """
        if not 1 <= self.sets <= 10_000:
            raise EigenforgetError(f"sets must be from 1 to 10,000, got {self.sets}")
        if self.n < 1 or (samples is not None and self.n >= samples):
            of = "" if samples is None else f" of {samples}"
            raise EigenforgetError(
                f"n={self.n} samples cannot be forgotten{of}: one at least, and not all"
            )
        method: Method = METHODS.parse(self.method)
        return method


def worst_case_of(
    experiment: Experiment, model: nn.Module, search: WorstCaseSearch, *, seed: int, watch: Watch
) -> np.ndarray:
    """Scores [N] of the training samples; the n highest are the hardest set that was found.

    The loss of a sample after it was unlearned says how well it was forgotten, so the worst set has
    the lowest mean loss on itself. The search is over both levels in turn. A set
    is unlearned from the given model. The loss of every training sample under the result is added
    to its sum over the sets so far. The n samples with the smallest sum are the next set (dual
    averaging on the weights of the set). The first set is a seeded draw. Of the later sets, the one
    with the lowest mean loss on itself wins, and the scores are minus the mean losses that chose
    it.

    Source: worst-case forget sets as a bilevel problem, Fan et al. (arXiv 2403.07362). Deviations:
    averaged in place of projected steps, and any method in place of signed gradient steps.

    Args:
        experiment: Data, engine and layer.
        model: The model before unlearning; it stays as it is.
        search: Method, size and number of sets.
        seed: Of the first set and of the method.
        watch: Shows progress.

    Raises:
        EigenforgetError: The numbers do not fit, or the method refuses or diverges.
    """
    index, labels = experiment.data.train_index, experiment.data.train.labels()
    method = search.parsed(len(index))
    draw = np.random.default_rng(seeds.derive(seed, "worst_case"))
    keys, total = draw.random(len(index)), np.zeros(len(index))
    best, hardest = keys, np.inf
    for number in range(search.sets + 1):
        chosen = smallest(keys, index.ids, search.n)
        log = watch(f"worst case: set {number + 1} of {search.sets + 1}", method.log_rows)
        unlearned = _without(experiment, chosen).unlearn(model, method, seed=seed, log=log).model
        logits = sample_logits(
            unlearned, experiment.data.train, experiment.engine, experiment.layer
        )
        losses = model_scores(logits, labels, "loss")
        if number and losses[chosen].mean() < hardest:
            best, hardest = keys, float(losses[chosen].mean())
        total += losses
        keys = total / (number + 1)
    return -best


def _without(experiment: Experiment, chosen: np.ndarray) -> Experiment:
    """The experiment that forgets these samples."""
    index = experiment.data.train_index
    flags = np.zeros(len(index), dtype=bool)
    flags[chosen] = True
    known = sides("worst_case", index, flags)
    return replace(experiment, loaded=experiment.data, known_split=known)
