"""Ten canaries among 144 forget samples: the mean points the wrong way, single samples do not."""

import numpy as np
import pytest
from scipy.special import softmax

from eigenforget.evaluation.audits.rmia import RMIA
from eigenforget.evaluation.audits.sample_gaps import SampleGaps
from eigenforget.evaluation.metrics.attacks import AttackScores, auc_score
from tests.numerics.shadows import evidence_of, random_labels, random_seen

SIZES = {"forget": 144, "retain": 300, "test_retain": 300}
CANARIES = 10


def planted():
    """A model that memorised ten wrong labels and is less sure of the other forget samples."""
    labels = random_labels(0, SIZES)
    oracles = [random_seen(10 + i, SIZES, labels=labels, scale=0.7, shift=4.0) for i in range(4)]
    model = random_seen(1, SIZES, labels=labels, scale=0.7, shift=4.0)
    for seen in (*oracles, model):
        logits = seen["forget"].logits.copy()
        logits[np.arange(CANARIES), labels["forget"][:CANARIES]] += 4.0 if seen is model else -8.0
        if seen is model:
            logits[CANARIES:] *= 0.8
        seen["forget"] = seen["forget"]._replace(logits=logits)
    return model, oracles


def phi(rows):
    p = softmax(rows.logits.astype(np.float64), axis=1)[np.arange(len(rows.labels)), rows.labels]
    return np.log(p) - np.log1p(-p)


def test_the_scores_are_those_of_a_loop_over_samples():
    model, oracles = planted()
    share, gap = SampleGaps(top=0.9)(evidence_of(model, oracles=oracles), seed=0)
    forget = model["forget"]
    counted = []
    for i, label in enumerate(forget.labels):
        wrong = [o["forget"].logits[i].argmax() != label for o in oracles]
        counted.append(np.mean(wrong) if forget.logits[i].argmax() == label else 0.0)
    assert share.value == pytest.approx(np.mean(counted), abs=1e-12)
    gaps = sorted(phi(forget) - np.mean([phi(o["forget"]) for o in oracles], axis=0))
    assert gap.value == pytest.approx(gaps[int(np.floor(0.9 * 143))], abs=1e-9)


def test_the_few_samples_show_where_the_mean_points_the_wrong_way():
    model, oracles = planted()
    mine = evidence_of(model, oracles=oracles)
    losses = [
        np.log(softmax(model[p].logits, axis=1)[np.arange(len(model[p].labels)), model[p].labels])
        for p in ("forget", "test_retain")
    ]
    assert auc_score("x_auc", AttackScores(*losses)).value < 0.5
    share, gap = SampleGaps()(mine, seed=0)
    null_share, null_gap = SampleGaps()(evidence_of(oracles[0], oracles=oracles[1:]), seed=0)
    assert share.value >= CANARIES / 144 > 2 * null_share.value
    assert gap.value > null_gap.value + 5
    assert RMIA()(mine, seed=0)[1].value >= CANARIES / 144 - 0.01


def test_too_few_samples_or_no_retrained_model_are_reasons():
    model, oracles = planted()
    assert "got 0" in SampleGaps()(evidence_of(model), seed=0)[0].reason
    few = {
        p: r._replace(**{c: getattr(r, c)[:15] for c in r._fields[:4]}) for p, r in model.items()
    }
    beside = [
        {p: r._replace(**{c: getattr(r, c)[:15] for c in r._fields[:4]}) for p, r in o.items()}
        for o in oracles
    ]
    share, gap = SampleGaps()(evidence_of(few, oracles=beside), seed=0)
    assert share.value is not None and gap.value is None and "needs 20" in gap.reason
