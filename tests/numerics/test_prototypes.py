"""The prototype attack against a plain loop over draws, classes and samples; its seeds, bounds and
refusals.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from eigenforget.core import seeds, spec
from eigenforget.core.errors import EigenforgetError
from eigenforget.evaluation.audits.prototypes import Prototypes, unit_rows
from eigenforget.evaluation.evidence import Evidence, PartOutputs

CENTRES = np.random.default_rng(2).normal(size=(5, 6))


def part(n, classes, seed, noise=1.2):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.resize(classes, n))
    features = (CENTRES[labels] + noise * rng.normal(size=(n, 6))).astype(np.float32)
    return PartOutputs(np.zeros((n, 5)), features, labels, np.arange(n))


def class_parts(gone=(1, 4), kept=(0, 2, 3)):
    return {
        "forget": part(50, gone, 0),
        "retain": part(90, kept, 1),
        "test_forget": part(60, gone, 2),
        "test_retain": part(80, kept, 3),
    }


def evidence(parts, forgotten=(1, 4)):
    return Evidence(nn.Identity(), parts, 5, forgotten)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(
        sum(x * x for x in a) * sum(y * y for y in b)
    )


def slow(parts, forgotten, seed, shots, draws):
    """Accuracy of each draw on each test part, one sample at a time."""
    found = {"test_forget": [], "test_retain": []}
    centre = parts["retain"].features.astype(np.float64).mean(0)
    for draw in range(draws):
        rng, means = seeds.generator(seed, "prototypes", draw), {}
        for label in range(5):
            rows = parts["forget" if label in forgotten else "retain"]
            own = [
                f
                for f, y in zip(
                    (rows.features.astype(np.float64) - centre).tolist(), rows.labels, strict=True
                )
                if y == label
            ]
            chosen = [own[i] for i in torch.randperm(len(own), generator=rng).tolist()[:shots]]
            means[label] = [sum(column) / shots for column in zip(*chosen, strict=True)]
        for name, shares in found.items():
            rows = parts[name]
            answers = [
                max(means, key=lambda c: cosine(f, means[c]))
                for f in (rows.features.astype(np.float64) - centre).tolist()
            ]
            shares.append(np.mean(np.array(answers) == rows.labels))
    return found


@pytest.mark.parametrize(("shots", "draws"), [(10, 4), (1, 3), (3, 2)])
def test_the_attack_is_the_plain_loop(shots, draws):
    parts = class_parts()
    scores = Prototypes(shots=shots, draws=draws)(evidence(parts), seed=7)
    expected = slow(parts, (1, 4), 7, shots, draws)
    assert [s.name for s in scores] == ["prototype_forget", "prototype_retain"]
    assert [s.value for s in scores] == pytest.approx(
        [np.mean(v) for v in expected.values()], abs=1e-12
    )
    assert [(s.better, s.trace, s.unit, s.range) for s in scores] == [
        ("reference", "above", "share", (0.0, 1.0)),
        ("higher", "", "share", (0.0, 1.0)),
    ]
    assert all(0 <= s.low < s.value < s.high <= 1 for s in scores)


def test_same_seed_same_bits_and_scale_shift_and_rotation_play_no_part():
    parts = class_parts()
    scores = Prototypes()(evidence(parts), 0)
    assert scores == Prototypes()(evidence(parts), 0) != Prototypes()(evidence(parts), 1)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6))).Q
    moved = {
        k: p._replace(features=0.01 * p.features.astype(np.float64) @ turn + np.arange(6))
        for k, p in parts.items()
    }
    assert Prototypes()(evidence(moved), 0) == scores
    tiny = {
        k: p._replace(features=p.features.astype(np.float64) * 2.0**-700) for k, p in parts.items()
    }
    assert Prototypes()(evidence(tiny), 0) == scores  # squares of these would vanish


def test_more_shots_bring_back_what_is_there_and_nothing_else():
    parts = class_parts()
    few, many = (Prototypes(shots=n)(evidence(parts), 0)[0].value for n in (1, 25))
    assert many > few + 0.07 and many > 0.6
    noise = np.random.default_rng(5)
    blind = {
        k: p._replace(features=noise.normal(size=(len(p.labels), 6))) for k, p in parts.items()
    }
    assert Prototypes()(evidence(blind), 0)[0].value == pytest.approx(
        0.2, abs=0.12
    )  # one of five classes


def test_of_a_mixed_request_only_whole_classes_get_forget_prototypes():
    parts = class_parts(gone=(1,), kept=(0, 2, 3, 4))
    alone = Prototypes()(evidence(parts, (1,)), 0)
    more = part(20, [0], 9)
    forget = parts["forget"]
    mixed = forget._replace(
        features=np.r_[forget.features, more.features], labels=np.r_[forget.labels, more.labels]
    )
    assert Prototypes()(evidence({**parts, "forget": mixed}, (1,)), 0) == alone


def test_features_without_direction_count_as_wrong():
    parts = class_parts()
    whole = Prototypes()(evidence(parts), 0)[1].value
    features = np.r_[parts["test_retain"].features, np.zeros((80, 6), dtype=np.float32)]
    labels = np.r_[
        parts["test_retain"].labels, np.zeros(80, dtype=int)
    ]  # the first class, which a tie would name
    rows = parts["test_retain"]._replace(features=features, labels=labels)
    assert Prototypes()(evidence({**parts, "test_retain": rows}), 0)[1].value == pytest.approx(
        whole / 2, abs=1e-12
    )


def test_unit_rows_have_length_one_at_any_scale():
    rows = np.array([[3.0, 4.0], [3e-320, 4e-320], [3e300, 4e300], [0.0, 0.0]])
    np.testing.assert_allclose(
        unit_rows(rows), [[0.6, 0.8], [0.6, 0.8], [0.6, 0.8], [0, 0]], rtol=1e-3
    )
    np.testing.assert_allclose(unit_rows(rows)[[0, 2]], [[0.6, 0.8]] * 2, rtol=1e-15)


def test_what_cannot_be_attacked_says_why():
    parts = class_parts()

    def reasons(parts, forgotten=(1, 4), **settings):
        scores = Prototypes(**settings)(evidence(parts, forgotten), 0)
        assert all(s.value is None for s in scores)
        return scores[0].reason

    assert reasons(parts, ()) == "needs a class that is forgotten as a whole"
    assert reasons(parts, shots=26) == "a prototype needs 26 training samples of class 1, got 25"
    assert reasons({k: p for k, p in parts.items() if k != "retain"}).endswith(
        "there are no samples of the retain set"
    )
    constant = {k: p._replace(features=np.full_like(p.features, 0.1)) for k, p in parts.items()}
    assert "constant" in reasons(constant)
    dead = parts["forget"].features.copy()
    dead[parts["forget"].labels == 4] = 0
    own = parts["retain"]
    mirrored = PartOutputs(
        *(np.concatenate([c, -c if i == 1 else c]) for i, c in enumerate(own[:4]))
    )
    assert "prototype of class 4 has length zero" in reasons(
        {**parts, "forget": parts["forget"]._replace(features=dead), "retain": mirrored}
    )
    alone = {**parts, "retain": part(30, [0], 1), "test_retain": part(30, [0], 3)}
    assert "2 retained classes" in reasons(alone)


def test_a_missing_test_part_leaves_the_other_score():
    parts = class_parts()
    expected = Prototypes()(evidence(parts), 0)
    del parts["test_forget"]
    forget, retain = Prototypes()(evidence(parts), 0)
    assert (
        forget.reason == "no class is forgotten as a whole, or none that has test samples"
        and retain == expected[1]
    )


@pytest.mark.parametrize("name", ["forget", "retain", "test_forget", "test_retain"])
def test_features_that_are_not_finite_are_an_error(name):
    parts = class_parts()
    broken = parts[name].features.copy()
    broken[3, 1] = np.inf
    with pytest.raises(
        EigenforgetError,
        match=f"part {name}: the model's features are not finite; the prototype attack",
    ):
        Prototypes()(evidence({**parts, name: parts[name]._replace(features=broken)}), 0)


def test_the_spec_spells_it():
    assert spec.parse("prototypes(shots=5)", [Prototypes], "audit") == Prototypes(shots=5)
    assert all(row[3] for row in spec.describe(Prototypes))
    with pytest.raises(EigenforgetError, match="greater than or equal to 2"):
        spec.parse("prototypes(draws=1)", [Prototypes], "audit")
