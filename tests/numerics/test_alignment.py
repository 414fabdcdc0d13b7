"""Dimensional alignment against explicit numpy loops, and the theorems it has to obey. All in
float64.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from eigenforget.alignment import (
    Centering,
    Form,
    alignment_curve,
    alignment_influence,
    alignment_of_rows,
    default_k,
    dimensional_alignment_loss,
    eigenspace,
    eigenspace_of_rows,
    empty_moments,
    leading,
    merge,
    moments,
)
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Batch, Outputs
from eigenforget.evaluation.metrics import DimensionalAlignment, PanelAlignment

FORMS: tuple[Form, ...] = ("frobenius", "energy")
CENTERINGS = ("none", "each")


def rows(n: int, d: int, seed: int, spread: float = 0.6) -> Tensor:
    """Skewed, non-centred features with a decaying spectrum, as networks make them."""
    g = torch.Generator().manual_seed(seed)
    scale = torch.exp(-spread * torch.arange(d, dtype=torch.float64))
    mix, _ = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64))
    return (torch.randn(n, d, generator=g, dtype=torch.float64) * scale) @ mix + 0.3


def reference(forget: np.ndarray, retain: np.ndarray, k: int, form: str, centering: str) -> float:
    """The definition by explicit loops over samples, with U from numpy's singular value
    decomposition.
    """
    if centering == "each":
        forget, retain = forget - forget.mean(0), retain - retain.mean(0)
    d = forget.shape[1]
    gram = np.zeros((d, d))
    for x in forget:
        gram += np.outer(x, x)
    u = np.linalg.svd(retain.T)[0][:, :k]
    if form == "energy":
        return float(
            sum(u[:, j] @ gram @ u[:, j] for j in range(k)) / sum(gram[i, i] for i in range(d))
        )
    projected = gram @ u @ u.T
    return float(
        np.sqrt(sum(v * v for v in projected.flat)) / np.sqrt(sum(v * v for v in gram.flat))
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("centering", CENTERINGS)
def test_curve_equals_the_loops_at_every_k(form: str, centering: str) -> None:
    forget, retain = rows(13, 7, 0), rows(29, 7, 1)
    curve = alignment_curve(moments(forget), moments(retain), form=form, centering=centering)
    expected = [reference(forget.numpy(), retain.numpy(), k, form, centering) for k in range(1, 7)]
    np.testing.assert_allclose(curve.numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("centering", CENTERINGS)
@pytest.mark.parametrize(("n", "d"), [(9, 31), (40, 6)])
def test_rows_equal_the_loops_on_both_sides_of_the_gram_trick(
    form: str, centering: str, n: int, d: int
) -> None:
    forget, retain = rows(n, d, 2, 0.1), rows(n + 3, d, 3, 0.1)
    for k in (1, 3, 5):
        got = alignment_of_rows(forget, retain=retain, k=k, form=form, centering=centering)
        assert got.item() == pytest.approx(
            reference(forget.numpy(), retain.numpy(), k, form, centering), rel=1e-9
        )


def test_gram_trick_gives_the_same_eigenspace() -> None:
    features = rows(8, 20, 4, 0.1)
    wide, dense = eigenspace_of_rows(features), eigenspace(features.T @ features)
    assert wide.vectors.shape == (20, 8)
    torch.testing.assert_close(wide.values, dense.values)
    torch.testing.assert_close(wide.vectors.T @ wide.vectors, torch.eye(8, dtype=torch.float64))
    torch.testing.assert_close(wide.vectors @ wide.vectors.T, dense.vectors @ dense.vectors.T)


@pytest.mark.parametrize("centering", CENTERINGS)
@pytest.mark.parametrize("form", FORMS)
def test_few_rows_in_a_wide_space_give_the_curve_of_the_whole_matrix(
    form: Form, centering: Centering
) -> None:
    """Eigenvalues over five powers of ten, through the range of rank N and through all of D."""
    forget, retain = moments(rows(15, 90, 5, 0.05)), moments(rows(24, 90, 6, 0.25))
    space, dense = retain.space(centering), eigenspace(retain.gram(centering))
    assert 3 * int(retain.samples) < retain.width and space.values.shape == dense.values.shape
    np.testing.assert_allclose(space.values, dense.values, rtol=0, atol=1e-14 * dense.values[0])
    inner = space.vectors.T @ space.vectors
    torch.testing.assert_close(inner, torch.eye(len(inner), dtype=torch.float64))
    curve = alignment_curve(forget, retain, form=form, centering=centering)
    loops = rows(15, 90, 5, 0.05).numpy(), rows(24, 90, 6, 0.25).numpy()
    for k in (1, 5, len(curve)):
        expected = reference(*loops, k, form, centering)
        assert float(curve[k - 1]) == pytest.approx(expected, abs=1e-10)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(2, 30), st.integers(2, 30))
def test_bounds_and_monotony(seed: int, d: int, n_f: int, n_r: int) -> None:
    forget, retain = moments(rows(n_f, d, seed)), moments(rows(n_r, d, seed + 1))
    for form in FORMS:
        curve = alignment_curve(forget, retain, form=form)
        assert ((curve >= 0) & (curve <= 1)).all()
        assert (curve.diff() >= -1e-12).all()


def test_invariance_under_rotation_scale_and_order() -> None:
    forget, retain = rows(12, 6, 5), rows(30, 6, 6)
    turn, _ = torch.linalg.qr(
        torch.randn(6, 6, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    )
    shuffled = forget[torch.randperm(12, generator=torch.Generator().manual_seed(8))]
    for form in FORMS:
        for centering in CENTERINGS:
            base = alignment_curve(moments(forget), moments(retain), form=form, centering=centering)
            for f, r in (
                (forget @ turn, retain @ turn),
                (forget * 1e3, retain * 1e-3),
                (shuffled, retain.flip(0)),
            ):
                torch.testing.assert_close(
                    alignment_curve(moments(f), moments(r), form=form, centering=centering), base
                )


def test_one_inside_the_span_and_zero_when_orthogonal() -> None:
    basis, _ = torch.linalg.qr(
        torch.randn(8, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    )
    g = torch.Generator().manual_seed(10)
    retain = torch.randn(40, 3, generator=g, dtype=torch.float64) @ basis[:, :3].T
    inside = torch.randn(15, 3, generator=g, dtype=torch.float64) @ basis[:, :3].T
    outside = torch.randn(15, 4, generator=g, dtype=torch.float64) @ basis[:, 3:7].T
    for form in FORMS:
        assert alignment_curve(moments(inside), moments(retain), form=form)[
            2
        ].item() == pytest.approx(1.0, abs=1e-10)
        assert alignment_curve(moments(outside), moments(retain), form=form)[
            2
        ].item() == pytest.approx(0.0, abs=1e-7)
    assert alignment_curve(moments(inside), moments(retain)).shape == (3,), (
        "beyond the rank the curve is not defined"
    )


def test_centred_moments_survive_a_huge_mean() -> None:
    features = rows(50, 5, 11)
    shifted = merge(moments(features[:20] + 1e6), moments(features[20:] + 1e6))
    torch.testing.assert_close(
        shifted.gram("each"), moments(features).gram("each"), rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_any_sharding_gives_the_one_pass_result(shards: int) -> None:
    features = rows(41, 6, 12)
    order = torch.randperm(41, generator=torch.Generator().manual_seed(shards))
    total = empty_moments(6)
    for shard in features[order].tensor_split(shards):
        total = merge(total, moments(shard))
    whole = moments(features)
    for name in ("samples", "mean", "scatter"):
        torch.testing.assert_close(
            getattr(total, name), getattr(whole, name), rtol=1e-12, atol=1e-13
        )


def test_merge_changes_neither_input() -> None:
    a, b = moments(rows(5, 3, 13)), moments(rows(6, 3, 14))
    before = [t.clone() for t in (*a, *b)]
    merge(a, b)
    assert all(torch.equal(x, y) for x, y in zip(before, (*a, *b), strict=True))


@pytest.mark.parametrize(("b", "d", "k"), [(4, 9, 3), (12, 5, 2)])
def test_loss_is_minus_the_squared_alignment(b: int, d: int, k: int) -> None:
    forget, retain = rows(b, d, 15, 0.1), rows(30, d, 16, 0.1)
    loss = dimensional_alignment_loss(forget, leading(eigenspace_of_rows(retain), k, samples=30))
    assert loss.item() == pytest.approx(
        -(reference(forget.numpy(), retain.numpy(), k, "frobenius", "none") ** 2), rel=1e-10
    )


@pytest.mark.parametrize(("b", "d", "k"), [(4, 9, 3), (12, 5, 2)])
def test_energy_loss_is_minus_the_energy_in_the_eigenspace(b: int, d: int, k: int) -> None:
    forget, retain = rows(b, d, 15, 0.1), rows(30, d, 16, 0.1)
    loss = dimensional_alignment_loss(
        forget, leading(eigenspace_of_rows(retain), k, samples=30), form="energy"
    )
    assert loss.item() == pytest.approx(
        -reference(forget.numpy(), retain.numpy(), k, "energy", "none"), rel=1e-10
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("b", "d"), [(4, 7), (9, 5)])
def test_loss_gradient(b: int, d: int, form: Form) -> None:
    basis = leading(eigenspace_of_rows(rows(20, d, 17)), 2, samples=20)
    features = rows(b, d, 18).requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda f: dimensional_alignment_loss(f, basis, form=form), (features,)
    )
    basis = basis.clone().requires_grad_(True)
    dimensional_alignment_loss(features, basis, form=form).backward()
    assert basis.grad is None, "the eigenspace is never moved"


@pytest.mark.parametrize("form", FORMS)
def test_loss_is_finite_for_extreme_features(form: Form) -> None:
    basis = torch.eye(6, 2)
    for scale in (1e-20, 1e-30, 1e15, 1e30):
        features = (
            torch.rand(5, 6, generator=torch.Generator().manual_seed(0)) * scale
        ).requires_grad_(True)
        loss = dimensional_alignment_loss(features, basis, form=form)
        loss.backward()
        assert (
            -1 <= loss.item() < 0
            and features.grad is not None
            and torch.isfinite(features.grad).all()
        )


@pytest.mark.parametrize("form", FORMS)
def test_the_influence_of_forget_samples_gives_the_spread_of_resamples(form: Form) -> None:
    forget, retain, k = rows(200, 6, 30), rows(300, 6, 31), 2
    basis = leading(moments(retain).space(), k, samples=300)
    found = alignment_influence(forget, moments(forget), basis, form=form)
    assert float(found.sum()) == pytest.approx(0, abs=1e-12)
    g = torch.Generator().manual_seed(0)
    drawn = [
        float(
            alignment_of_rows(
                forget[torch.randint(200, (200,), generator=g)], retain=retain, k=k, form=form
            )
        )
        for _ in range(400)
    ]
    assert float(found.square().sum().sqrt()) == pytest.approx(np.std(drawn), rel=0.15)


def test_alignment_has_an_interval_however_it_is_sharded() -> None:
    forget, retain = rows(40, 6, 32), rows(90, 6, 33)
    one, *shards = (PanelAlignment(6, 2) for _ in range(4))
    for part, features in (("forget", forget), ("retain", retain)):
        for i, chosen in enumerate([features, *features.split(len(features) // 3 + 1)]):
            batch = Batch(None, torch.zeros(len(chosen)), torch.arange(len(chosen)))
            metric = one if i == 0 else shards[i - 1]
            metric.update(part, batch, Outputs(torch.zeros(len(chosen), 2), chosen))  # type: ignore[arg-type]
    shards[0].merge_state(shards[1])
    shards[0].merge_state(shards[2])
    for score, sharded in zip(one.scores(), shards[0].scores(), strict=True):
        ends = score.low, score.value, score.high
        assert None not in ends and ends[0] < ends[1] < ends[2]  # type: ignore[operator]
        assert ends == pytest.approx((sharded.low, sharded.value, sharded.high), abs=1e-12)


def test_scores_and_curves_decompose_each_matrix_once_and_see_new_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []
    real = torch.linalg.eigh

    def counted(matrix: Tensor) -> object:
        made.append(len(matrix))
        return real(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", counted)
    rows = torch.randn(60, 6, generator=torch.Generator().manual_seed(0)) + 1
    metric = PanelAlignment(6, 2)

    def add(own: Tensor) -> None:
        for part, side in (("forget", own[::3]), ("retain", own[1::3])):
            labels = torch.zeros(len(side), dtype=torch.long)
            batch = Batch(side, labels, torch.arange(len(side)))
            metric.update(part, batch, Outputs(torch.zeros(len(side), 2), side))

    add(rows[:30])
    metric.measure()
    metric.series()
    assert len(made) == 3  # forget; retain as it is, and centred
    add(rows[30:])
    forget, retain = metric.sides()
    curve = alignment_curve(forget, retain)
    assert metric.measure()[0].value == float(curve[1])
    assert metric.series()["da_curve"]["k"][-1] == len(curve)


def test_moments_leave_the_features_as_they_are() -> None:
    for dtype in (torch.float32, torch.float64):
        rows = torch.randn(9, 4, dtype=dtype)
        before = rows.clone()
        found = moments(rows)
        assert torch.equal(rows, before)
        centred = before.double() - before.double().mean(0)
        assert torch.equal(found.scatter, centred.T @ centred)


def test_metric_equals_the_loops_for_any_batching_and_merging() -> None:
    forget, retain = rows(17, 6, 19), rows(25, 6, 20)
    features = torch.cat([forget, retain])
    side = torch.arange(42) < 17
    order = torch.randperm(42, generator=torch.Generator().manual_seed(21))
    one, two = DimensionalAlignment(6), DimensionalAlignment(6)
    for metric, part in ((one, order[:10]), (one, order[10:23]), (two, order[23:])):
        metric.update(features[part], side[part])
    one.merge_state(two)
    expected = [
        reference(forget.numpy(), retain.numpy(), k, "frobenius", "none") for k in range(1, 6)
    ]
    np.testing.assert_allclose(one.compute().numpy(), expected, rtol=1e-10)
    np.testing.assert_allclose(
        one.curve("energy", "each").numpy(),
        [reference(forget.numpy(), retain.numpy(), k, "energy", "each") for k in range(1, 6)],
        rtol=1e-9,
    )
    one.reset()
    with pytest.raises(EigenforgetError, match="needs forget features"):
        one.compute()


BAD = [
    (lambda: leading(eigenspace(torch.eye(4)), 4, samples=9), "k = 4 must be from 1 to 3"),
    (lambda: leading(eigenspace(torch.eye(4)), 0, samples=9), "k = 0 must be"),
    (lambda: leading(eigenspace(torch.eye(4)), 3, samples=2), "at least 3 retain samples, got 2"),
    (
        lambda: leading(eigenspace(torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0]))), 3, samples=9),
        "span only 2 dimensions",
    ),
    (lambda: moments(torch.zeros(0, 3)), "N ≥ 1"),
    (lambda: moments(torch.tensor([[1.0, float("nan")], [1.0, 1.0]])), "rows 0"),
    (
        lambda: alignment_curve(moments(torch.zeros(3, 4)), moments(torch.rand(5, 4))),
        "all forget features are zero",
    ),
    (
        lambda: alignment_curve(moments(torch.rand(3, 4)), moments(torch.zeros(5, 4))),
        "all features are zero",
    ),
    (lambda: alignment_curve(empty_moments(4), moments(torch.rand(5, 4))), "needs forget features"),
    (lambda: merge(empty_moments(4), empty_moments(5)), "width 4 and 5"),
    (lambda: dimensional_alignment_loss(torch.rand(3, 4), torch.rand(5, 2)), "do not fit"),
    (
        lambda: dimensional_alignment_loss(torch.rand(3, 4), torch.rand(5, 2), form="energy"),
        "do not fit",
    ),
    (
        lambda: DimensionalAlignment(4).update(torch.rand(2, 5), torch.tensor([True, False])),
        r"\[B, 4\]",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_wrong_input_is_one_line_that_names_the_value(call: object, message: str) -> None:
    with pytest.raises(EigenforgetError, match=message) as caught:
        call()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_where_classes_outnumber_dimensions_half_of_them_are_taken() -> None:
    """In all D directions DA would be 1 whatever the features; below D the number of classes
    stands.
    """
    assert [default_k(classes, width=64) for classes in (1, 9, 63, 64, 99, 1000)] == [
        1,
        9,
        63,
        32,
        32,
        32,
    ]
    assert [
        default_k(classes, width=width) for classes, width in ((1, 2), (5, 2), (5, 3), (9, 5))
    ] == [
        1,
        1,
        1,
        2,
    ]
