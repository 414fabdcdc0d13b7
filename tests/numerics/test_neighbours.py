"""The neighbouring classes by hand, and their accuracy by counting."""

import dataclasses

import numpy as np
from scipy.special import softmax

from eigenforget.evaluation.audits.neighbours import NeighbourAccuracy, neighbours_of
from tests.numerics.shadows import evidence_of, random_labels, random_seen

SIZES = {"forget": 30, "retain": 50, "test_retain": 90}


def evidence():
    labels = {**random_labels(0, SIZES), "forget": np.full(30, 2)}
    labels["test_retain"][labels["test_retain"] == 2] = 0
    original = random_seen(1, SIZES, labels=labels, scale=0.5)
    tilted = original["forget"].logits + np.array([0.0, 3.0, 6.0, 1.0], np.float32)
    original["forget"] = original["forget"]._replace(logits=tilted)
    model = random_seen(2, SIZES, labels=labels, shift=2.0)
    return dataclasses.replace(evidence_of(model, gone=(2,)), original=original)


def test_neighbours_are_the_classes_the_original_names_and_their_accuracy_is_counted():
    found = evidence()
    shares = softmax(found.original["forget"].logits, axis=1).mean(axis=0)
    assert neighbours_of(found.original, (2,), 2) == [1, 3] and shares[1] > shares[3] > shares[0]
    for count, near in ((1, [1]), (2, [1, 3]), (9, [1, 3, 0])):
        (score,) = NeighbourAccuracy(classes=count)(found, seed=0)
        rows = found.parts["test_retain"]
        hits = [a.argmax() == y for a, y in zip(rows.logits, rows.labels, strict=True) if y in near]
        assert score.value == sum(hits) / len(hits)
        assert score.better == "higher" and score.low <= score.value <= score.high


def test_without_a_class_or_an_original_there_is_a_reason():
    found = evidence()
    for changed in ({"forgotten_classes": ()}, {"original": None}, {"forgotten_classes": (3,)}):
        (score,) = NeighbourAccuracy()(dataclasses.replace(found, **changed), seed=0)
        assert score.value is None and score.reason
