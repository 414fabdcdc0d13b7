"""The search of a set that is hard to forget, where the answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eigenforget.core.errors import EigenforgetError
from eigenforget.data.digits import Digits
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.memorisation import sample_logits
from eigenforget.experiments.worst_case import WorstCaseSearch, worst_case_of
from eigenforget.methods import METHODS
from eigenforget.models.mlp import Mlp
from eigenforget.requests import AtRandom, model_scores
from eigenforget.requests.splitting import sides
from eigenforget.training.engine import Engine
from eigenforget.training.log import unwatched
from eigenforget.training.recipe import Recipe


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    engine = Engine(device="cpu")
    return Experiment(Digits(), Mlp(hidden=(16,)), Recipe(epochs=4), AtRandom(), engine)


def losses_of(experiment: Experiment, model: object) -> np.ndarray:
    train = experiment.data.train
    logits = sample_logits(model, train, experiment.engine, None)  # type: ignore[arg-type]
    return model_scores(logits, train.labels(), "loss")


def test_a_method_that_changes_nothing_is_worst_on_the_samples_the_model_knows_best(
    experiment: Experiment,
) -> None:
    model = experiment.train(seed=0).model
    search = WorstCaseSearch(method="identity()", n=30, sets=1)
    found = worst_case_of(experiment, model, search, seed=0, watch=unwatched)
    assert np.allclose(found, -losses_of(experiment, model), atol=1e-12)


def test_the_set_is_harder_for_the_method_than_drawn_ones(experiment: Experiment) -> None:
    model, method = experiment.train(seed=0).model, "gradient_ascent(epochs=1, lr=0.01)"
    search = WorstCaseSearch(method=method, n=60, sets=3)
    scores = worst_case_of(experiment, model, search, seed=0, watch=unwatched)
    assert np.array_equal(scores, worst_case_of(experiment, model, search, seed=0, watch=unwatched))
    count = len(scores)
    draw = np.random.default_rng(0)
    sets = [np.argsort(-scores, kind="stable")[:60], *(draw.permutation(count)[:60] for _ in "abc")]
    left = []
    for chosen in sets:
        flags = np.isin(np.arange(count), chosen)
        split = sides("x", experiment.data.train_index, flags)
        own = replace(experiment, loaded=experiment.data, known_split=split)
        made = own.unlearn(model, METHODS.parse(method), seed=0).model
        left.append(losses_of(experiment, made)[chosen].mean())
    assert left[0] < 0.5 * min(left[1:])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sets": 0}, "sets must be from 1"),
        ({"n": 0}, "n=0 samples cannot be forgotten of 50"),
        ({"n": 50}, "n=50 samples cannot be forgotten of 50"),
        ({"n": 9, "method": "nothing()"}, "nothing"),
    ],
)
def test_a_search_that_cannot_run_is_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(EigenforgetError, match=words):
        WorstCaseSearch(**fields).parsed(50)  # type: ignore[arg-type]
