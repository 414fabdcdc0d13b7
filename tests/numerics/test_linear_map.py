"""The attack by a linear map: the map to features under a head is the map to logits."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from eigenforget.evaluation.audits.linear_map import LinearMap, least_squares, with_ones
from eigenforget.evaluation.evidence import PartOutputs
from tests.numerics.shadows import evidence_of

SIZES = {"forget": 50, "retain": 200, "test_retain": 80}


def world(noise=0.0):
    """An original with a head, and a model whose features are the original's, mapped and blurred."""
    rng = np.random.default_rng(0)
    head, offset, mixing = rng.normal(size=(6, 4)), rng.normal(size=4), rng.normal(size=(6, 6))
    original, model = {}, {}
    for part, n in SIZES.items():
        features = rng.normal(size=(n, 6))
        logits = features @ head + offset
        labels = logits.argmax(axis=1)
        blurred = features @ mixing + 2.0 + noise * rng.normal(size=(n, 6))
        original[part] = PartOutputs(logits, features, labels, np.arange(n))
        model[part] = PartOutputs(np.zeros((n, 4)), blurred, labels, np.arange(n))
    return dataclasses.replace(evidence_of(model), original=original), head, offset


@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_the_map_to_the_features_under_the_head_is_the_map_to_the_logits(noise):
    found, head, offset = world(noise)
    retain = found.parts["retain"].features
    by_features = LinearRegression().fit(retain, found.original["retain"].features)
    scores = LinearMap()(found, seed=0)
    for score, part in zip(scores, ("forget", "test_retain"), strict=True):
        rows = found.parts[part]
        answers = (by_features.predict(rows.features) @ head + offset).argmax(axis=1)
        assert score.value == np.mean(answers == rows.labels)
    assert (scores[0].value == 1.0) == (noise == 0.0)


def test_features_that_lost_the_class_bring_nothing_back():
    found, _, _ = world()
    flat = found.parts["forget"]._replace(features=np.full((50, 6), 2.0))
    lost = dataclasses.replace(found, parts={**found.parts, "forget": flat})
    assert LinearMap()(lost, seed=0)[0].value < 0.6


def test_the_smallest_of_several_solutions_is_taken():
    rng = np.random.default_rng(1)
    inputs, targets = rng.normal(size=(5, 9)), rng.normal(size=(5, 2))
    slopes = least_squares(inputs, targets)
    assert np.allclose(slopes, np.linalg.pinv(with_ones(inputs)) @ targets)
