"""Both linear probes against slow references of the same convex problem, their parts, their draws
and their refusals.
"""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest, norm, t
from sklearn.linear_model import LogisticRegression
from torch import nn

from eigenforget.core import seeds, spec
from eigenforget.core.errors import EigenforgetError
from eigenforget.evaluation.audits.linear_probe import (
    FewLabelProbe,
    LinearProbe,
    ProbeSamples,
    averaged,
    few_of_each_class,
    fit_alike,
    stratified_subset,
)
from eigenforget.evaluation.evidence import Evidence, PartOutputs
from eigenforget.evaluation.multinomial import Settings
from eigenforget.evaluation.standardiser import standardiser

CENTRES = np.random.default_rng(9).normal(size=(4, 5))


def part(n, classes, seed, noise=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, n)
    features = (CENTRES[labels] + noise * rng.normal(size=(n, 5))).astype(np.float32)
    return PartOutputs(np.zeros((n, 4)), features, labels, np.arange(n))


def evidence(parts, forgotten=(1,)):
    return Evidence(nn.Identity(), parts, 4, forgotten)


def class_parts():
    return {
        "forget": part(90, [1], 0),
        "retain": part(240, [0, 2, 3], 1),
        "test_forget": part(150, [1], 2),
        "test_retain": part(200, [0, 2, 3], 3),
    }


def unit_of(retain):
    """Mean and root mean square of the centred features of a part."""
    rows = retain.features.astype(np.float64)
    return rows.mean(0), np.sqrt(np.square(rows - rows.mean(0)).mean())


def slow_probe(features, labels, tests, unit, c=1.0):
    """Minimise the penalised multinomial loss directly (BFGS on an own objective), then count right
    answers.
    """
    features = features.astype(np.float64)
    mean, std = unit
    x = np.c_[(features - mean) / std, np.ones(len(features))]
    classes = np.unique(labels)
    hot = labels[:, None] == classes

    def objective(flat):
        w = flat.reshape(x.shape[1], len(classes))
        loss = -(log_softmax(x @ w, axis=1) * hot).sum() + 0.5 / c * (w[:-1] ** 2).sum()
        gradient = x.T @ (softmax(x @ w, axis=1) - hot)
        gradient[:-1] += w[:-1] / c
        return loss / len(x), gradient.ravel() / len(x)

    start = np.zeros(x.shape[1] * len(classes))
    w = minimize(
        objective, start, jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 5000}
    ).x
    w = w.reshape(x.shape[1], -1)
    answers = [
        classes[(np.c_[(t.features - mean) / std, np.ones(len(t.labels))] @ w).argmax(1)]
        for t in tests
    ]
    return [np.mean(a == t.labels) for a, t in zip(answers, tests, strict=True)]


@pytest.mark.parametrize("c", [1.0, 0.01])
def test_class_requests_fit_on_all_training_samples_and_score_held_out_ones(c):
    parts = class_parts()
    scores = LinearProbe(c=c)(evidence(parts), seed=0)
    both = [
        np.concatenate([a, b])
        for a, b in zip(parts["forget"][1:3], parts["retain"][1:3], strict=True)
    ]
    expected = slow_probe(
        *both, [parts["test_forget"], parts["test_retain"]], unit_of(parts["retain"]), c
    )
    assert [s.name for s in scores] == ["lp_forget", "lp_retain"]
    assert [s.value for s in scores] == pytest.approx(expected, abs=1e-12)
    assert 0.3 < scores[0].value < 0.95
    interval = binomtest(round(scores[0].value * 150), 150).proportion_ci(method="wilson")
    np.testing.assert_allclose(
        (scores[0].low, scores[0].high), (interval.low, interval.high), atol=1e-12
    )
    assert [(s.better, s.trace) for s in scores] == [("reference", "above"), ("higher", "")]
    assert all(s.unit == "share" and s.range == (0.0, 1.0) for s in scores)


def test_other_requests_fit_on_retained_samples_and_score_the_forgotten_training_samples():
    sizes = {"forget": 80, "retain": 200, "test_retain": 90}
    parts = {name: part(n, [0, 1, 2, 3], i) for i, (name, n) in enumerate(sizes.items())}
    scores = LinearProbe()(evidence(parts, forgotten=()), seed=0)
    expected = slow_probe(
        *parts["retain"][1:3], [parts["forget"], parts["test_retain"]], unit_of(parts["retain"])
    )
    assert [s.value for s in scores] == pytest.approx(expected, abs=1e-12)
    # With the forgotten labels scrambled the fit is the same: they are scored, never fitted.
    parts["forget"] = parts["forget"]._replace(labels=(parts["forget"].labels + 1) % 4)
    again = LinearProbe()(evidence(parts, forgotten=()), seed=0)
    assert again[1] == scores[1] and again[0].value < scores[0].value


def test_probes_do_not_depend_on_scale_shift_or_rotation():
    parts = class_parts()
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5))).Q
    wide = {k: p._replace(features=p.features.astype(np.float64)) for k, p in parts.items()}
    for scale in (0.01, 1e3):
        moved = {
            k: p._replace(features=scale * p.features @ turn + np.arange(5))
            for k, p in wide.items()
        }
        for probe in (LinearProbe(), FewLabelProbe()):
            pairs = zip(probe(evidence(moved), 0), probe(evidence(wide), 0), strict=True)
            for score, same in pairs:
                # A sample on the border may change sides, by the rounding of a processor.
                assert score.name == same.name
                assert score.value == pytest.approx(same.value, abs=1e-3)


def test_a_feature_constant_in_training_is_ignored_when_it_varies_later():
    parts = class_parts()
    expected = [s.value for s in LinearProbe(c=5 / 6)(evidence(parts), 0)]
    more = {}
    for name, p in parts.items():
        extra = np.full((len(p.labels), 1), 0.1, dtype=np.float32)
        if name.startswith("test"):
            extra += 100 * np.arange(len(extra), dtype=np.float32)[:, None]
        more[name] = p._replace(features=np.c_[p.features, extra])
    # A sixth dimension makes the mean square smaller, and the penalty weaker by as much.
    assert [s.value for s in LinearProbe()(evidence(more), 0)] == pytest.approx(expected, abs=0.02)


def test_the_subset_is_stratified_seeded_and_keeps_small_classes():
    labels = np.repeat([0, 1, 2, 3], [500, 300, 198, 2])
    rows = stratified_subset(labels, 100, seed=1)
    assert len(rows) == len(set(rows)) == 100 and (np.diff(rows) > 0).all()
    counts = np.bincount(labels[rows], minlength=4)
    assert counts[3] == 1 and np.abs(counts - [50, 30, 19.8, 1]).max() <= 1
    assert np.array_equal(rows, stratified_subset(labels, 100, seed=1))
    assert not np.array_equal(rows, stratified_subset(labels, 100, seed=2))
    assert np.array_equal(stratified_subset(labels, 1000, seed=1), np.arange(1000))


def test_within_a_class_every_sample_is_drawn_equally_often():
    labels = np.arange(40) // 20
    drawn = np.zeros(40)
    for seed in range(600):
        drawn[stratified_subset(labels, 9, seed=seed)] += 1
    assert abs(drawn[:20].sum() - 2700) < 4.5 * np.sqrt(
        600 * 0.25
    )  # the odd ninth sample favours no class
    assert np.abs(drawn - 600 * 9 / 40).max() < 4.5 * np.sqrt(600 * 9 / 40 * 31 / 40)


def test_a_larger_training_set_is_fitted_on_its_subset():
    parts = class_parts()
    small = LinearProbe(max_train=100)(evidence(parts), seed=3)
    features, labels = (
        np.concatenate([a, b])
        for a, b in zip(parts["forget"][1:3], parts["retain"][1:3], strict=True)
    )
    rows = stratified_subset(labels, 100, seed=3)
    expected = slow_probe(
        features[rows],
        labels[rows],
        [parts["test_forget"], parts["test_retain"]],
        unit_of(parts["retain"]),
    )
    assert [s.value for s in small] == pytest.approx(expected, abs=1e-12)


def test_features_without_any_information_give_the_largest_class():
    parts = {k: p._replace(features=np.ones_like(p.features)) for k, p in class_parts().items()}
    lp_forget, lp_retain = LinearProbe()(evidence(parts), 0)
    largest = np.bincount(np.r_[parts["forget"].labels, parts["retain"].labels]).argmax()
    assert lp_forget.value == float(largest == 1)
    assert lp_retain.value == np.mean(parts["test_retain"].labels == largest)


def test_a_probe_that_does_not_converge_has_no_score():
    for score in LinearProbe(max_iter=2)(evidence(class_parts()), 0):
        assert score.value is None and "did not converge in 2 iterations" in score.reason


@pytest.mark.parametrize(
    ("absent", "values", "reason"),
    [
        ("forget", [False, False], "there are no samples of the forget set"),
        ("retain", [False, False], "there are no samples of the retain set"),
        (
            "test_forget",
            [False, True],
            "no class is forgotten as a whole, or none that has test samples",
        ),
        ("test_retain", [True, False], "there are no test samples of retained classes"),
    ],
)
def test_missing_parts_are_named(absent, values, reason):
    parts = class_parts()
    empty = {**parts, absent: PartOutputs(*(column[:0] for column in parts[absent][:4]))}
    del parts[absent]
    for given in (parts, empty):
        scores = LinearProbe()(evidence(given), 0)
        assert [s.value is not None for s in scores] == values
        assert reason in scores[values.index(False)].reason


def test_one_class_has_no_probe():
    parts = {
        "forget": part(20, [2], 0),
        "retain": part(20, [2], 1),
        "test_retain": part(20, [2], 2),
    }
    assert "1 class, 2" in LinearProbe()(evidence(parts, forgotten=()), 0)[0].reason


def test_features_that_are_not_finite_are_an_error():
    parts = class_parts()
    for name in ("retain", "test_retain"):
        broken = parts[name].features.copy()
        broken[3, 1] = np.nan
        with pytest.raises(
            EigenforgetError, match=f"part {name}: the model's features are not finite"
        ):
            LinearProbe()(evidence({**parts, name: parts[name]._replace(features=broken)}), 0)


def test_the_spec_spells_the_probe():
    probe = spec.parse("linear_probe(c=0.5, max_train=5000)", [LinearProbe], "audit")
    assert probe == LinearProbe(c=0.5, max_train=5000)
    assert all(row[3] for row in spec.describe(LinearProbe))
    assert all(row[3] for row in spec.describe(FewLabelProbe))
    with pytest.raises(EigenforgetError, match="greater than 0"):
        spec.parse("linear_probe(c=0.0)", [LinearProbe], "audit")


def slow_draws(parts, sources, targets, seed, fraction, draws):
    """An explicit loop over draws and classes: right [draws, N] for each target."""
    mean, scale = unit_of(parts["retain"])
    features = np.concatenate([parts[s].features for s in sources]).astype(np.float64)
    labels = np.concatenate([parts[s].labels for s in sources])
    right = [[] for _ in targets]
    for draw in range(draws):
        rng, rows = seeds.generator(seed, "few_label_probe", draw), []
        for label in sorted(set(labels.tolist())):
            own = [i for i, other in enumerate(labels) if other == label]
            order = torch.randperm(len(own), generator=rng).tolist()
            rows += [own[i] for i in order[: max(2, round(fraction * len(own)))]]
        model = LogisticRegression(tol=1e-8, max_iter=10_000).fit(
            (features[rows] - mean) / scale, labels[rows]
        )
        for side, target in zip(right, targets, strict=True):
            side.append(
                model.predict((parts[target].features.astype(np.float64) - mean) / scale)
                == parts[target].labels
            )
    return [np.array(side) for side in right]


@pytest.mark.parametrize(
    ("fraction", "draws", "gone"), [(0.02, 5, (1,)), (0.1, 3, (1,)), (0.02, 5, ())]
)
def test_few_labels_are_the_mean_over_an_explicit_loop_of_draws(fraction, draws, gone):
    parts = (
        class_parts()
        if gone
        else {
            k: part(90, [0, 1, 2, 3], i) for i, k in enumerate(("forget", "retain", "test_retain"))
        }
    )
    scores = FewLabelProbe(share=fraction, draws=draws)(evidence(parts, gone), seed=4)
    sources, target = (("forget", "retain"), "test_forget") if gone else (("retain",), "forget")
    slow = slow_draws(parts, sources, (target, "test_retain"), 4, fraction, draws)
    assert [s.name for s in scores] == ["lp_few_forget", "lp_few_retain"]
    assert [s.value for s in scores] == pytest.approx([r.mean() for r in slow], abs=1e-12)
    assert [(s.better, s.trace) for s in scores] == [("reference", "above"), ("higher", "")]
    for score, right in zip(scores, slow, strict=True):
        assert len(set(right.mean(1))) > 1
        wilson = binomtest(round(score.value * 10**6), 10**6).proportion_ci(method="wilson")
        assert score.low < wilson.low < score.value < wilson.high < score.high
    assert scores == FewLabelProbe(share=fraction, draws=draws)(evidence(parts, gone), seed=4)
    assert scores != FewLabelProbe(share=fraction, draws=draws)(evidence(parts, gone), seed=5)


def test_draws_go_on_until_their_mean_is_known():
    parts, asked = class_parts(), []

    def counted(draws):
        asked.append(draws)
        return FewLabelProbe(draws=draws)(evidence(parts), 0)

    noisy, more = counted(30), counted(60)
    assert noisy[0].value != more[0].value, "two labels a class are not known after 30 draws"
    means = [FewLabelProbe()(evidence(parts), seed)[0].value for seed in range(12)]
    assert np.std(means, ddof=1) < 0.035
    sure = {
        k: part(len(p.labels), np.unique(p.labels), i, 0.05)
        for i, (k, p) in enumerate(parts.items())
    }
    few, all_of_them = (FewLabelProbe(draws=n)(evidence(sure), 0) for n in (5, 30))
    assert few == all_of_them and few[0].value == 1.0


@pytest.mark.parametrize(("n", "width", "classes"), [(12, 40, 3), (60, 4, 3), (14, 30, 2)])
def test_probes_fitted_together_are_scikit_learns_one_by_one(n, width, classes):
    rng = np.random.default_rng(n)
    labels = np.arange(5 * n) % classes
    features = rng.normal(size=(5 * n, width)) + np.eye(classes, width)[labels]
    unit = standardiser(features)
    samples = ProbeSamples(features, labels, ("forget", "test_retain"), unit)
    draws = [np.arange(r * n, (r + 1) * n) for r in range(5)]
    settings = Settings(0.7, 5000, 1e-9)
    found = fit_alike(samples, draws, settings)
    for rows, probe in zip(draws, found, strict=True):
        alone = LogisticRegression(C=0.7, tol=1e-9, max_iter=5000)
        alone.fit(unit(features[rows]), labels[rows])
        scores = unit(features) @ probe.classifier.weights + probe.classifier.bias
        if classes == 2:
            scores = scores[:, 1] - scores[:, 0]
        np.testing.assert_allclose(
            scores - scores.mean(-1, keepdims=classes > 2) if classes > 2 else scores,
            alone.decision_function(unit(features)),
            atol=2e-5,
        )


def test_all_labels_in_every_draw_are_the_linear_probe():
    parts = class_parts()
    few, full = (
        FewLabelProbe(share=1.0, draws=2)(evidence(parts), 0),
        LinearProbe()(evidence(parts), 0),
    )
    for a, b in zip(few, full, strict=True):
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), abs=1e-12)


def test_the_interval_adds_the_spread_of_draws_to_that_of_samples():
    right = np.random.default_rng(3).random((4, 50)) < np.array([0.5, 0.6, 0.7, 0.9])[:, None]
    score = averaged("x", right, "higher")
    p, z, n = right.mean(), norm.ppf(0.975), 50
    centre, half = (
        (p + z**2 / 2 / n) / (1 + z**2 / n),
        z * np.sqrt(p * (1 - p) / n + z**2 / 4 / n**2) / (1 + z**2 / n),
    )
    spread = t.ppf(0.975, 3) * right.mean(1).std(ddof=1) / 2
    assert score.low == pytest.approx(p - np.sqrt((p - centre + half) ** 2 + spread**2), abs=1e-12)
    assert score.high == pytest.approx(
        min(1.0, p + np.sqrt((centre + half - p) ** 2 + spread**2)), abs=1e-12
    )
    sure = averaged("x", np.ones((3, 40), dtype=bool), "reference")
    assert (
        sure.value == sure.high == 1.0 and 0.9 < sure.low < 0.95
    )  # no spread at all is no certainty
    alone = averaged("x", right[:1], "higher")
    interval = binomtest(int(right[0].sum()), 50).proportion_ci(method="wilson")
    np.testing.assert_allclose((alone.low, alone.high), (interval.low, interval.high), atol=1e-12)


def test_the_interval_covers_new_draws_and_new_samples():
    rng, covered = np.random.default_rng(8), 0
    for _ in range(400):
        latent = (
            0.5
            + 0.4 * rng.normal(size=(5, 1))
            + rng.normal(size=(1, 60))
            + 0.5 * rng.normal(size=(5, 60))
        )
        score = averaged("x", latent > 0, "higher")
        covered += score.low <= norm.cdf(0.5 / np.sqrt(0.16 + 1 + 0.25)) <= score.high
    assert covered >= 0.93 * 400


def test_few_of_each_class_are_at_least_two_and_each_equally_likely():
    labels = np.repeat([0, 1, 2], [50, 10, 2])
    drawn = np.zeros(62)
    for draw in range(500):
        rows = few_of_each_class(labels, 0.1, seeds.generator(0, draw))
        assert np.bincount(labels[rows]).tolist() == [5, 2, 2] and (np.diff(rows) > 0).all()
        drawn[rows] += 1
    assert (drawn[60:] == 500).all()
    assert np.abs(drawn[:50] - 50).max() < 4.5 * np.sqrt(500 * 0.1 * 0.9)


def test_few_labels_say_why_they_have_no_score():
    parts = class_parts()
    lonely = {**parts, "forget": PartOutputs(*(column[:1] for column in parts["forget"][:4]))}
    assert (
        "needs 2 training samples of each class, got 1 of class 1"
        in FewLabelProbe()(evidence(lonely), 0)[0].reason
    )
    assert (
        "in 1 iterations" in (stopped := FewLabelProbe(max_iter=1)(evidence(parts), 0)[1].reason)
        and "draws 1 to 5 of 30" in stopped
    )
    del parts["test_forget"]
    assert [s.reason for s in FewLabelProbe()(evidence(parts), 0)] == [
        "no class is forgotten as a whole, or none that has test samples",
        "",
    ]
    del parts["retain"]
    assert all(
        "there are no samples of the retain set" in s.reason
        for s in FewLabelProbe()(evidence(parts), 0)
    )
