"""Nearest class mean against scikit-learn's NearestCentroid, closed cases, shards, classes without
a mean.
"""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Batch, Outputs
from eigenforget.evaluation.metrics.accuracy import wilson_interval
from eigenforget.evaluation.metrics.class_means import (
    NearestClassMean,
    means_coincide,
    nearest_mean,
)
from eigenforget.evaluation.metrics.panel import MetricContext

WIDTH, CLASSES = 6, 5


def samples(n, classes, seed, spread=1.5):
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(99))
    labels = torch.tensor(classes)[torch.randint(len(classes), (n,), generator=g)]
    return centres[labels] + spread * torch.randn(n, WIDTH, generator=g), labels


def feed(metric, part, features, labels):
    metric.update(
        part,
        Batch(None, labels, torch.arange(len(labels))),
        Outputs(torch.zeros(len(labels), CLASSES), features),
    )


def made(parts, forgotten, classes=CLASSES, width=WIDTH):
    metric = NearestClassMean.create(MetricContext(width, classes, forgotten, 2, 0))
    for part, (features, labels) in parts.items():
        feed(metric, part, features, labels)
    return metric


def by_class():
    return {
        "forget": samples(50, (1,), 0),
        "retain": samples(150, (0, 2, 3, 4), 1),
        "test_forget": samples(40, (1,), 2),
        "test_retain": samples(90, (0, 2, 3, 4), 3),
    }


def at_random():
    everything = tuple(range(CLASSES))
    return {
        "forget": samples(40, everything, 0),
        "retain": samples(120, everything, 1),
        "test_retain": samples(90, everything, 3),
    }


def joined(*parts):
    return [torch.cat(column).numpy() for column in zip(*parts, strict=True)]


def test_class_forgetting_uses_means_of_all_training_samples():
    parts = by_class()
    forget, retain = made(parts, (1,)).scores()
    reference = NearestCentroid().fit(*joined(parts["forget"], parts["retain"]))
    for score, part in ((forget, "test_forget"), (retain, "test_retain")):
        features, labels = (t.numpy() for t in parts[part])
        assert score.value == reference.score(features, labels)
        assert 0.1 < score.value < 0.95
        hits = round(score.value * len(labels))
        assert (score.low, score.high) == tuple(wilson_interval(successes=hits, trials=len(labels)))
    assert (forget.name, forget.better, forget.trace, forget.unit) == (
        "ncm_forget",
        "reference",
        "above",
        "share",
    )
    assert (retain.name, retain.better, retain.trace, retain.range) == (
        "ncm_retain",
        "higher",
        "",
        (0.0, 1.0),
    )


def test_random_forgetting_scores_forget_samples_by_means_of_retain_alone():
    parts = at_random()
    forget, retain = made(parts, ()).scores()
    reference = NearestCentroid().fit(*joined(parts["retain"]))
    assert forget.value == reference.score(*joined(parts["forget"]))
    assert retain.value == reference.score(*joined(parts["test_retain"]))
    every = NearestCentroid().fit(*joined(parts["forget"], parts["retain"]))
    assert forget.value != every.score(*joined(parts["forget"]))


def test_separated_classes_are_all_found_and_a_class_moved_onto_another_is_not():
    corners = 10 * torch.eye(3)
    labels = torch.arange(30) % 3

    def run(of_forget):
        moved = corners.clone()
        moved[1] = of_forget
        parts = {
            "forget": (moved[labels[labels == 1]], labels[labels == 1]),
            "retain": (moved[labels[labels != 1]], labels[labels != 1]),
            "test_forget": (moved[labels[labels == 1]], labels[labels == 1]),
            "test_retain": (moved[labels[labels != 1]], labels[labels != 1]),
        }
        return [s.value for s in made(parts, (1,), classes=3, width=3).scores()]

    assert run(corners[1]) == [1.0, 1.0]
    assert run(corners[0]) == [0.0, 1.0]  # equally near class 0, which comes first
    assert run(corners[2]) == [1.0, 0.5]


def test_of_equally_near_means_the_first_counts_whatever_the_rounding():
    third = 1 / 3
    means = np.array([[third, 0.0], [-third, 0.0], [third * (1 + 1e-16), 5e-17]])
    features = np.array([[0.0, 1.0], [1e-17, -2.0], [-1e-17, 4.0], [1.0, 0.0], [-1.0, 0.0]])
    assert nearest_mean(features, means=means).tolist() == [0, 0, 0, 0, 1]
    assert nearest_mean(features[[3]] + 1e-9, means=means + 1e-9).tolist() == [0]


@pytest.mark.parametrize("build", [by_class, at_random])
def test_shuffles_batches_and_shards_give_the_one_pass_result(build):
    parts = build()
    forgotten = (1,) if "test_forget" in parts else ()
    shards = [made({}, forgotten) for _ in range(3)]
    for part, (features, labels) in reversed(parts.items()):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(4))
        for i, rows in enumerate(order.split(7)):
            feed(shards[(i * i) % 3], part, features[rows], labels[rows])
    shards[0].merge_state(shards[1])
    shards[0].merge_state(shards[2])
    assert shards[0].scores() == made(parts, forgotten).scores()


def test_missing_parts_and_classes_are_named():
    parts = by_class()
    without = {p: v for p, v in parts.items() if p != "test_forget"}
    forget, retain = made(without, (1,)).scores()
    assert (
        forget.reason == "no class is forgotten as a whole, or none that has test samples"
        and retain.value is not None
    )
    without = {p: v for p, v in parts.items() if p != "forget"}
    for score in made(without, (1,)).scores():
        assert (
            score.value is None
            and score.reason
            == "no sample of class 1 in the forget set and the retain set to take a mean of"
        )
    kept = at_random()
    labels = kept["retain"][1]
    kept["retain"] = tuple(column[(labels != 3) & (labels != 4)] for column in kept["retain"])
    assert [s.reason for s in made(kept, ()).scores()] == [
        "no sample of class 3, 4 in the retain set to take a mean of"
    ] * 2
    assert [s.value for s in made({}, ()).scores()] == [None, None]
    assert [(s.better, s.trace) for s in made({}, ()).scores()] == [
        ("reference", "above"),
        ("higher", ""),
    ]


def test_a_class_that_nobody_has_is_no_candidate():
    parts = by_class()
    assert made(parts, (1,), classes=CLASSES + 4).scores() == made(parts, (1,)).scores()


def test_constant_features_are_not_applicable():
    parts = {
        part: (torch.full_like(features, 0.1), labels)
        for part, (features, labels) in by_class().items()
    }
    for score in made(parts, (1,)).scores():
        assert score.value is None and score.reason == "the feature means of all 5 classes coincide"
    assert means_coincide(np.zeros((3, 2))) and not means_coincide(
        np.array([[1e-9, 0.0], [0.0, 0.0]])
    )


def test_later_changes_of_the_features_do_not_reach_the_metric():
    parts = at_random()
    metric, before = made(parts, ()), made(parts, ()).scores()
    for features, _ in parts.values():
        features.zero_()
    assert metric.scores() == before


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (
            torch.full((2, WIDTH), torch.inf),
            [0, 1],
            "part retain: the model's features are not finite",
        ),
        (
            torch.zeros(2, WIDTH + 1),
            [0, 1],
            r"part retain: features must be \[B, 6\], got \[2, 7\]",
        ),
        (torch.zeros(2, WIDTH), [0, CLASSES], "part retain: label 5 is not one of 0 … 4"),
        (torch.zeros(2, WIDTH), [-1, 0], "label -1 is not one of"),
    ],
)
def test_wrong_batches_are_errors(features, labels, message):
    with pytest.raises(EigenforgetError, match=message):
        feed(made({}, ()), "retain", features, torch.tensor(labels))
