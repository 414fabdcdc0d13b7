"""Accuracies against counting by hand, Wilson's interval against scipy, sharding, and what is
refused.
"""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Batch, Outputs
from eigenforget.evaluation.metrics.accuracy import (
    PARTS,
    Accuracies,
    interval_of_share,
    wilson_interval,
)
from eigenforget.evaluation.metrics.panel import no_samples


def samples(n, seed=0, classes=4):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=g)
    return torch.randn(n, classes, generator=g) + torch.eye(classes)[labels], labels


def feed(metric, part, logits, labels, rows=None):
    rows = torch.arange(len(labels)) if rows is None else rows
    metric.update(
        part, Batch(None, labels[rows], rows), Outputs(logits[rows], torch.zeros(len(rows), 0))
    )


def by_name(metric):
    return {s.name: s for s in metric.scores()}


def test_each_part_is_counted_apart_with_its_interval_and_direction():
    metric = Accuracies()
    for seed, part in enumerate(PARTS):
        feed(metric, part, *samples(20 + 7 * seed, seed))
    found = by_name(metric)
    assert list(found) == [
        "forget_accuracy",
        "retain_accuracy",
        "test_forget_accuracy",
        "test_retain_accuracy",
    ]
    for seed, part in enumerate(PARTS):
        logits, labels = samples(20 + 7 * seed, seed)
        n = len(labels)
        right = sum(
            int(np.argmax(row)) == y for row, y in zip(logits.numpy(), labels.tolist(), strict=True)
        )
        score = found[f"{part}_accuracy"]
        assert 0 < right < n and score.value == right / n
        interval = binomtest(right, n).proportion_ci(method="wilson")
        np.testing.assert_allclose(
            (score.low, score.high), (interval.low, interval.high), atol=1e-12
        )
        assert score.better == ("reference" if "forget" in part else "higher")
        assert (score.unit, score.range) == ("share", (0.0, 1.0))


def test_a_part_never_seen_has_a_reason_and_no_number():
    metric = Accuracies()
    feed(metric, "retain", *samples(10))
    found = by_name(metric)
    assert found["retain_accuracy"].value is not None
    for part in ("forget", "test_forget", "test_retain"):
        assert found[f"{part}_accuracy"].value is None
        assert found[f"{part}_accuracy"].reason == no_samples(part)


def test_shuffles_batches_and_shards_give_the_one_pass_result():
    logits, labels = samples(101)
    whole = Accuracies()
    feed(whole, "forget", logits, labels)
    shards = [Accuracies() for _ in range(3)]
    order = torch.randperm(101, generator=torch.Generator().manual_seed(1))
    for i, rows in enumerate(order.split(9)):
        feed(shards[i % 2], "forget", logits, labels, rows)
    shards[2].merge_state(shards[0])  # the third shard saw nothing
    shards[2].merge_state(shards[1])
    assert torch.equal(shards[2].seen, whole.seen)
    feed(shards[2], "retain", logits, labels, torch.arange(0))
    assert shards[2].scores() == whole.scores()


def test_of_equal_logits_the_first_counts():
    metric = Accuracies()
    feed(metric, "forget", torch.zeros(4, 3), torch.tensor([0, 0, 0, 2]))
    assert by_name(metric)["forget_accuracy"].value == 0.75


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 12), (10, 10), (3, 7), (5000, 10000)])
def test_wilson_is_scipys_and_holds_its_share(k, n):
    low, high = wilson_interval(successes=k, trials=n)
    expected = binomtest(k, n).proportion_ci(method="wilson")
    np.testing.assert_allclose((low, high), (expected.low, expected.high), atol=1e-12)
    assert 0 <= low <= k / n <= high <= 1


def test_a_share_with_an_error_has_wilsons_interval_of_as_many_trials_as_that_is_worth():
    found = interval_of_share(0.3, error=np.sqrt(0.21 / 80), trials=9)
    assert found == pytest.approx(wilson_interval(successes=24, trials=80))
    assert interval_of_share(1.0, error=0.0, trials=40) == wilson_interval(successes=40, trials=40)
    assert interval_of_share(0.5, error=0.0, trials=9, most=20) == pytest.approx(
        wilson_interval(successes=10, trials=20)
    )
    low, high = interval_of_share(0.3, error=5.0, trials=9)  # worth less than one trial
    assert 0 <= low < 0.3 < high <= 1


@pytest.mark.parametrize(("k", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_of_no_share_is_an_error(k, n):
    with pytest.raises(EigenforgetError, match="trials >= 1"):
        wilson_interval(successes=k, trials=n)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.full((2, 3), torch.nan), [0, 1], "part forget.*NaN"),
        (torch.zeros(2, 3), [0, 3], "label 3 has no logit.*0 … 2"),
        (torch.zeros(2, 3), [-1, 0], "label -1 has no logit"),
        (torch.zeros(3, 3), [0, 1], r"\[3, 3\] and \[2\]"),
    ],
)
def test_wrong_batches_are_errors(logits, labels, message):
    batch = Batch(None, torch.tensor(labels), torch.arange(2))
    with pytest.raises(EigenforgetError, match=message):
        Accuracies().update("forget", batch, Outputs(logits, torch.zeros(2, 0)))
