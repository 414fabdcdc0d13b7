"""Losses against numpy / scipy references in float64, gradients by finite differences, extremes and
errors.
"""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr, softmax
from scipy.stats import entropy as scipy_entropy

from eigenforget.core.errors import EigenforgetError
from eigenforget.training import losses

B, C = 7, 5


@pytest.fixture
def logits():
    return torch.randn(B, C, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3


@pytest.fixture
def other():
    return torch.randn(B, C, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3


LABELS = torch.tensor([0, 4, 2, 2, 1, 3, 0])
FORGOTTEN = torch.tensor([1, 3])


def same(found, expected):
    assert found.shape == torch.Size(np.shape(expected))
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12, atol=1e-14)


def test_cross_entropy_is_the_negative_log_of_the_softmax(logits):
    p = softmax(logits.numpy(), axis=1)
    same(
        losses.cross_entropy(logits, LABELS),
        [-math.log(p[i, y]) for i, y in enumerate(LABELS.tolist())],
    )


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_smoothed_cross_entropy_is_the_mean_over_the_smoothed_target(logits, smoothing):
    q = (1 - smoothing) * np.eye(logits.shape[1])[LABELS.numpy()] + smoothing / logits.shape[1]
    same(
        losses.cross_entropy(logits, LABELS, smoothing),
        -(q * np.log(softmax(logits.numpy(), axis=1))).sum(1),
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("count", [1, 2, 37, 128])
def test_mean_cross_entropy_has_the_gradient_of_the_mean_to_the_bit(count, smoothing):
    generator = torch.Generator().manual_seed(count)
    logits = torch.randn(count, C, generator=generator) * 3
    labels = torch.randint(0, C, (count,), generator=generator)
    one, each = (logits.clone().requires_grad_() for _ in range(2))
    found = losses.mean_cross_entropy(one, labels, smoothing)
    expected = losses.cross_entropy(each, labels, smoothing).mean()
    found.backward()
    expected.backward()
    assert torch.equal(one.grad, each.grad)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_entropy_is_scipys(logits):
    same(losses.entropy(logits), scipy_entropy(softmax(logits.numpy(), axis=1), axis=1))


def test_entropy_of_equal_logits_is_log_c():
    same(losses.entropy(torch.full((2, C), -1e4, dtype=torch.float64)), [math.log(C)] * 2)


def test_the_masked_target_is_the_softmax_over_the_other_classes(logits):
    expected = np.zeros((B, C))
    expected[:, [0, 2, 4]] = softmax(logits.numpy()[:, [0, 2, 4]], axis=1)
    found = losses.MaskedTarget(FORGOTTEN)(logits)
    same(found, expected)
    assert (found[:, FORGOTTEN] == 0).all()


def test_masked_true_class_target_masks_each_samples_own_class(logits):
    expected = np.zeros((B, C))
    for i, y in enumerate(LABELS.tolist()):
        rest = [c for c in range(C) if c != y]
        expected[i, rest] = softmax(logits.numpy()[i, rest])
    same(losses.masked_true_class_target(logits, LABELS), expected)


def test_soft_target_divides_by_the_temperature(logits):
    same(losses.soft_target(logits, 2.5), softmax(logits.numpy() / 2.5, axis=1))


def test_targets_leave_the_logits_as_they_were(logits):
    before = logits.clone()
    losses.MaskedTarget(FORGOTTEN)(logits)
    losses.masked_true_class_target(logits, LABELS)
    assert torch.equal(logits, before)


def test_kl_to_target_is_rel_entr_with_exact_zeros(logits, other):
    q = losses.MaskedTarget(FORGOTTEN)(other)
    same(
        losses.kl_to_target(q, logits),
        rel_entr(q.numpy(), softmax(logits.numpy(), axis=1)).sum(axis=1),
    )


def test_kl_to_a_one_hot_target_is_the_cross_entropy(logits):
    one_hot = torch.nn.functional.one_hot(LABELS, C).double()
    same(losses.kl_to_target(one_hot, logits), losses.cross_entropy(logits, LABELS))


@pytest.mark.parametrize("low", [-1e4, -math.inf])
def test_kl_to_target_where_the_student_has_already_masked_the_class(low):
    logits = torch.tensor([[low, 1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([[0.0, 0.25, 0.75]], dtype=torch.float64)
    p = softmax([1.0, 2.0])
    value = losses.kl_to_target(q, logits)
    same(value, [0.25 * math.log(0.25 / p[0]) + 0.75 * math.log(0.75 / p[1])])
    value.sum().backward()
    np.testing.assert_allclose(logits.grad, [[0, p[0] - 0.25, p[1] - 0.75]], atol=1e-12)


def test_the_gradient_of_kl_to_target_is_student_minus_target_and_none_for_the_target(
    logits, other
):
    logits.requires_grad_()
    other.requires_grad_()
    losses.kl_to_target(losses.MaskedTarget(FORGOTTEN)(other), logits).sum().backward()
    q = losses.MaskedTarget(FORGOTTEN)(other.detach())
    np.testing.assert_allclose(logits.grad, (logits.detach().softmax(1) - q).numpy(), atol=1e-12)
    assert other.grad is None


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kl_between_is_teacher_against_student_times_t_squared(logits, other, temperature):
    t, s = (softmax(x.numpy() / temperature, axis=1) for x in (logits, other))
    same(losses.kl_between(logits, other, temperature), rel_entr(t, s).sum(axis=1) * temperature**2)


def test_js_divergence_is_scipys_distance_squared(logits, other):
    p, q = (softmax(x.numpy(), axis=1) for x in (logits, other))
    same(losses.js_divergence(logits, other), jensenshannon(p, q, axis=1) ** 2)


def test_js_divergence_is_symmetric_and_reaches_its_bounds_exactly(logits, other):
    same(losses.js_divergence(logits, other), losses.js_divergence(other, logits))
    left = torch.tensor([[1e4, -1e4, -1e4]], dtype=torch.float64)
    same(losses.js_divergence(left, left.flip(1)), [math.log(2)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_never_pushes_a_divergence_past_its_bounds(dtype):
    g = torch.Generator().manual_seed(3)
    p = torch.randn(4000, 10, dtype=dtype, generator=g) * 4
    near = p + 1e-5 * torch.randn(4000, 10, dtype=dtype, generator=g)
    far = p * 100
    for q in (p, near, far, -far):
        js = losses.js_divergence(p, q)
        assert js.min() >= 0 and js.max() <= math.log(2)
        assert losses.kl_between(p, q, 2.0).min() >= 0
        assert losses.kl_to_target(p.softmax(1), q).min() >= 0


def test_the_gradient_survives_where_rounding_set_the_value_to_zero():
    g = torch.Generator().manual_seed(3)
    target = (torch.randn(4000, 10, generator=g) * 4).requires_grad_(False)
    student = (target + 1e-5 * torch.randn(4000, 10, generator=g)).requires_grad_()
    value = losses.kl_to_target(target.softmax(1), student)
    value.sum().backward()
    zero = value == 0
    assert zero.sum() > 10
    expected = (student.detach().double().softmax(1) - target.double().softmax(1))[zero]
    assert (student.grad[zero].double() - expected).abs().max() < 5e-7
    assert student.grad[zero].abs().max() > 1e-6


SECOND = torch.randn(B, C, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
UNARY = {
    "cross_entropy": lambda x: losses.cross_entropy(x, LABELS),
    "entropy": losses.entropy,
    "masked_target": lambda x: losses.MaskedTarget(FORGOTTEN)(x),
    "masked_true_class_target": lambda x: losses.masked_true_class_target(x, LABELS),
    "soft_target": lambda x: losses.soft_target(x, 2.0),
    "kl_to_target": lambda x: losses.kl_to_target(losses.MaskedTarget(FORGOTTEN)(SECOND), x),
    "kl_between teacher": lambda x: losses.kl_between(x, SECOND, 2.0),
    "kl_between student": lambda x: losses.kl_between(SECOND, x, 2.0),
    "js p": lambda x: losses.js_divergence(x, SECOND),
    "js q": lambda x: losses.js_divergence(SECOND, x),
}


@pytest.mark.parametrize("name", UNARY)
def test_gradcheck(name, logits):
    assert torch.autograd.gradcheck(UNARY[name], (logits.requires_grad_(),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", UNARY)
def test_values_and_gradients_are_finite_at_extreme_logits(name, dtype, monkeypatch):
    g = torch.Generator().manual_seed(4)
    rows = torch.where(torch.rand(B, C, generator=g) < 0.5, 1e4, -1e4).to(dtype)
    rows[0], rows[1] = 1e4, -1e4
    monkeypatch.setitem(globals(), "SECOND", -rows.flip(1))
    rows.requires_grad_()
    value = UNARY[name](rows)
    assert value.dtype == dtype and value.isfinite().all()
    (value * torch.rand(value.shape, generator=g)).sum().backward()
    assert rows.grad.isfinite().all()


def test_cross_entropy_at_extreme_logits_is_the_margin():
    rows = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], dtype=torch.float64)
    same(losses.cross_entropy(rows, torch.tensor([1, 1])), [2e4, 0.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: losses.MaskedTarget(torch.arange(C))(x), "masks all 5 classes"),
        (lambda x: losses.MaskedTarget(torch.tensor([5]))(x), r"0 … 4, got 5"),
        (lambda x: losses.MaskedTarget(torch.tensor([-1]))(x), r"0 … 4, got -1"),
        (lambda x: losses.MaskedTarget(torch.tensor([], dtype=torch.long))(x), "non-empty"),
        (lambda x: losses.MaskedTarget(torch.tensor([1.0]))(x), "integer"),
        (
            lambda x: losses.masked_true_class_target(x[:, :1], torch.zeros(B, dtype=torch.long)),
            "at least 2 classes",
        ),
        (lambda x: losses.cross_entropy(x, torch.full((B,), -100)), r"0 … 4, got -100"),
        (lambda x: losses.cross_entropy(x, LABELS[:3]), "7 integers"),
        (lambda x: losses.cross_entropy(x[0], LABELS), r"\[B, C\], got torch.float64 \[5\]"),
        (lambda x: losses.entropy(x.long()), "float tensor"),
        (lambda x: losses.soft_target(x, 0.0), "above 0, got 0.0"),
        (lambda x: losses.kl_between(x, x, math.nan), "above 0, got nan"),
        (lambda x: losses.kl_between(x, x[:1], 1.0), "same shape"),
        (lambda x: losses.js_divergence(x, x[:, :4]), "same shape"),
        (lambda x: losses.kl_to_target(x.softmax(1)[:1], x), "same shape"),
    ],
)
def test_wrong_input_is_one_clear_line(call, message, logits):
    with pytest.raises(EigenforgetError, match=message) as error:
        call(logits)
    assert "\n" not in str(error.value)
