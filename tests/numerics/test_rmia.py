"""RMIA against a double loop over samples and population, a planted leak, and models that never saw
the samples.
"""

import dataclasses
import math

import numpy as np
import pytest
from scipy.special import softmax

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import parse
from eigenforget.evaluation.audits.rmia import RMIA
from eigenforget.evaluation.evidence import PartOutputs
from eigenforget.evaluation.metrics.attacks import tpr_interval
from tests.numerics.shadows import evidence_of, random_labels, random_seen, trained

NAMES = ["rmia_auc", "rmia_tpr_1", "rmia_tpr_01"]
BY_CLASS = {"forget": 40, "retain": 20, "test_forget": 110, "test_retain": 70}


def class_evidence(count=2, labels=None, **made):
    mixed = np.where(np.arange(40) % 4 == 0, 2, 1)
    labels = labels or {
        **random_labels(0, BY_CLASS),
        "forget": mixed,
        "test_forget": np.full(110, 1),
    }
    model = random_seen(1, BY_CLASS, labels=labels, shift=1.0, **made)
    oracles = [random_seen(10 + i, BY_CLASS, labels=labels, **made) for i in range(count)]
    return evidence_of(model, oracles=oracles, gone=(1,))


def probability(rows, i):
    return softmax(rows.logits[i].astype(np.float64))[rows.labels[i]]


def slow_scores(evidence, part, rows, population, audit):
    """(share of wins over the population, a subset of test_retain; ratio, where it breaks ties) as
    in the paper.
    """

    def ratio(part, i):
        out = sum(probability(oracle[part], i) for oracle in evidence.oracles) / len(
            evidence.oracles
        )
        return probability(evidence.parts[part], i) / (0.5 * ((1 + audit.a) * out + 1 - audit.a))

    def share(x: float) -> float:
        return sum(x / ratio("test_retain", z) >= audit.gamma for z in population) / len(population)

    ratios = [ratio(part, i) for i in rows]
    return [(share(x), x if audit.ties == "ratio" else 0.0) for x in ratios]


def slow_auc(members, others):
    return sum(1.0 if x > y else 0.5 if x == y else 0.0 for x in members for y in others) / (
        len(members) * len(others)
    )


@pytest.mark.parametrize("ties", ["ratio", "half"])
@pytest.mark.parametrize(("a", "gamma", "count"), [(0.3, 2.0, 2), (0.0, 1.0, 1), (1.0, 1.5, 3)])
def test_class_forgetting_is_the_double_loop(a, gamma, count, ties):
    evidence, audit = class_evidence(count), RMIA(a=a, gamma=gamma, ties=ties)
    found = audit(evidence, seed=0)
    kept = np.flatnonzero(
        evidence.parts["forget"].labels == 1
    )  # members of other classes have no non-members to stand beside
    members = slow_scores(evidence, "forget", kept, range(70), audit)
    others = slow_scores(evidence, "test_forget", range(110), range(70), audit)
    assert [s.name for s in found] == NAMES and len(kept) == 30
    assert found[0].value == pytest.approx(slow_auc(members, others), abs=1e-12)
    second = sorted(others)[-2]
    assert found[1].value == np.mean([m > second for m in members]), "1 of 110 non-members may pass"
    order = {score: float(i) for i, score in enumerate(sorted({*members, *others}))}
    interval = tpr_interval(
        **{
            side: np.array([order[s] for s in rows])
            for side, rows in (("members", members), ("others", others))
        },
        fpr=0.01,
    )
    assert (found[1].low, found[1].high) == interval
    assert (
        found[2].value is None
        and "1000 non-members (test samples of forgotten classes)" in found[2].reason
    )


def test_random_forgetting_uses_every_held_out_sample_on_both_sides():
    sizes = {"forget": 40, "retain": 20, "test_retain": 61}
    labels = random_labels(0, sizes)
    model, oracles = (
        random_seen(1, sizes, labels=labels, shift=1.0),
        [random_seen(10, sizes, labels=labels)],
    )
    evidence = evidence_of(model, oracles=oracles)
    members = slow_scores(evidence, "forget", range(40), range(61), RMIA())
    others = slow_scores(evidence, "test_retain", range(61), range(61), RMIA())
    assert RMIA()(evidence, 0)[0].value == pytest.approx(slow_auc(members, others), abs=1e-12)
    assert RMIA()(evidence, 0) == RMIA()(evidence, 3), "nothing is drawn"


def test_samples_that_nobody_saw_are_at_chance():
    found = []
    for draw in range(40):
        sizes = {"forget": 60, "retain": 20, "test_retain": 61}
        labels = random_labels(draw, sizes)
        model = random_seen(1000 + draw, sizes, labels=labels)
        oracles = [random_seen(2000 + draw, sizes, labels=labels)]
        found.append(RMIA(gamma=1.2)(evidence_of(model, oracles=oracles), 0)[0].value)
    assert np.mean(found) == pytest.approx(0.5, abs=3 * np.std(found) / np.sqrt(40))


def test_a_planted_leak_is_found_in_a_model_that_forgot_nothing():
    oracles = [trained(seed, with_canaries=False) for seed in (1, 2, 3)]
    evidence = evidence_of(trained(11, with_canaries=True), oracles=oracles)
    auc, tpr, _ = RMIA(ties="ratio")(evidence, seed=0)
    assert auc.value >= 0.9 and auc.low > 0.85
    published = RMIA()(evidence, seed=0)
    assert published[0].value >= 0.9 and published[1].value == 0.0 < tpr.value, (
        "members tie with the best non-members"
    )


@pytest.mark.parametrize("target", [1, 2, 3, 4])
def test_a_retrained_model_is_not_told_from_retrained_ones(target):
    oracles = [trained(seed, with_canaries=False) for seed in (1, 2, 3, 4) if seed != target]
    auc = RMIA()(evidence_of(trained(target, with_canaries=False), oracles=oracles), seed=0)[0]
    assert auc.low < 0.5 < auc.high


def test_where_model_and_oracles_agree_nothing_stands_out():
    evidence = class_evidence()
    same = dataclasses.replace(evidence, oracles=(evidence.parts,))
    for ties in ("ratio", "half"):
        auc, tpr, _ = RMIA(a=1.0, ties=ties)(same, seed=0)
        assert (auc.value, tpr.value) == (0.5, 0.0), "all ratios are 1, so all are tied"


def test_logits_of_ten_thousand_do_not_overflow():
    evidence = class_evidence(scale=1e4)
    assert all(np.isfinite(s.value) for s in RMIA()(evidence, seed=0)[:2])
    # A sure model against oracles that are sure of another class: the largest ratio there is, 2
    # / (1 − a).
    rows = {
        part: PartOutputs(np.zeros((n, 2)), np.zeros((n, 1)), np.zeros(n, int), np.arange(n))
        for part, n in BY_CLASS.items()
    }
    sure = {
        part: r._replace(logits=np.tile([1e4, -1e4], (len(r.labels), 1)))
        for part, r in rows.items()
    }
    against = {
        part: r._replace(logits=np.tile([-1e4, 1e4], (len(r.labels), 1)))
        for part, r in rows.items()
    }
    found = RMIA()._log_ratio(sure, [against], "forget")
    np.testing.assert_allclose(found, math.log(2 / 0.7), rtol=1e-12)


def test_the_order_of_the_oracles_does_not_matter():
    evidence = class_evidence(3)
    other = dataclasses.replace(evidence, oracles=evidence.oracles[::-1])
    for mine, theirs in zip(RMIA()(evidence, 0), RMIA()(other, 0), strict=True):
        assert (
            mine.value == pytest.approx(theirs.value, abs=1e-12)
            if mine.value is not None
            else theirs.value is None
        )


def test_not_applicable_says_what_is_missing():
    evidence = class_evidence()
    alone = RMIA()(dataclasses.replace(evidence, oracles=()), seed=0)
    assert [s.reason for s in alone] == ["needs 1 retrained model, got 0"] * 3 and [
        s.name for s in alone
    ] == NAMES
    for gone, message in (
        ("forget", "there are no samples of the forget set"),
        ("test_forget", "no class is forgotten as a whole, or none that has test samples"),
    ):
        parts = {part: rows for part, rows in evidence.parts.items() if part != gone}
        found = RMIA()(dataclasses.replace(evidence, parts=parts), seed=0)
        assert [s.reason for s in found] == [message] * 3
    few = {"forget": 40, "retain": 20, "test_retain": 8}
    labels = random_labels(0, few)
    small = evidence_of(
        random_seen(1, few, labels=labels), oracles=[random_seen(2, few, labels=labels)]
    )
    assert (
        RMIA()(small, seed=0)[0].reason
        == "needs 10 test samples of retained classes as the population z, got 8"
    )
    labels = {
        **random_labels(0, BY_CLASS),
        "forget": np.full(40, 2),
        "test_forget": np.full(110, 1),
    }
    assert "got 0 and 110" in RMIA()(class_evidence(labels=labels), seed=0)[0].reason


def test_logits_that_are_not_finite_are_an_error():
    evidence = class_evidence()
    evidence.oracles[0]["test_forget"].logits[3, 0] = np.inf
    with pytest.raises(EigenforgetError, match="part test_forget: a logit is not finite"):
        RMIA()(evidence, seed=0)


def test_settings_are_checked():
    assert parse("rmia(a=1.0)", [RMIA], "audit") == RMIA(a=1.0)
    for wrong in ("rmia(a=1.5)", "rmia(gamma=0.5)", "rmia(ties='none')"):
        with pytest.raises(EigenforgetError):
            parse(wrong, [RMIA], "audit")
