"""masked, ssd, fisher_forgetting, influence, esc and esc_t, each against its own formula written
out again by hand.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.core.spec import as_json, configured, from_json, parse, spell
from eigenforget.data.sources import TensorSource
from eigenforget.evaluation.evaluate import evaluate
from eigenforget.methods import METHODS, Finetune, HeadMask, RandomLabel
from eigenforget.methods.base import Task
from eigenforget.methods.cmf import CMF
from eigenforget.methods.esc import ESC
from eigenforget.methods.esc_t import ESCT
from eigenforget.methods.fisher_forgetting import FisherForgetting
from eigenforget.methods.influence import Influence, conjugate_gradients
from eigenforget.methods.masked import Masked, top_share
from eigenforget.methods.ssd import SSD, adaptive_alpha
from eigenforget.training.engine import Engine
from eigenforget.training.gradients import mean_gradient
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import Optimizer, Phase


def engine64() -> Engine:
    return Engine(device="cpu", precision="64-true")


def rows(source: Any) -> list[tuple[Tensor, int]]:
    return [(x, int(y)) for x, y in zip(source.inputs, source.targets, strict=True)]


def loss_gradient(model: nn.Module, x: Tensor, label: int) -> list[Tensor]:
    return list(
        torch.autograd.grad(-torch.log_softmax(model(x), -1)[label], list(model.parameters()))
    )


def same(mine: nn.Module, theirs: nn.Module, tolerance: float = 1e-10) -> None:
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# --- masked
# ------------------------------------------------------------------------------------------------------


def numpy_mask(task: Task, keep_top: float) -> list[np.ndarray]:
    """Entries above the (1 − keep_top) quantile of |mean forget gradient| over all weights."""
    singles = [loss_gradient(task.model, x, y) for x, y in rows(task.forget)]
    mean = [
        np.abs(np.mean([s[i].numpy() for s in singles], axis=0)) for i in range(len(singles[0]))
    ]
    threshold = np.quantile(np.concatenate([g.ravel() for g in mean]), 1 - keep_top)
    return [g > threshold for g in mean]


def held_finetune(task: Task, masks: list[np.ndarray], method: Finetune) -> nn.Module:
    """Nesterov SGD on the retained data, entry by entry, where fixed entries are set back after
    every step.
    """
    hand, free = copy.deepcopy(task.model), [torch.as_tensor(m) for m in masks]
    velocity = [torch.zeros_like(p) for p in hand.parameters()]
    for cycle in range(method.epochs):
        generator = seeds.generator(task.seed, "order", "recover", cycle)
        for batch in task.retain.batches(method.batch_size, generator):  # type: ignore[union-attr]
            loss = nn.functional.cross_entropy(hand(batch.inputs), batch.labels)
            grads = torch.autograd.grad(loss, list(hand.parameters()))
            with torch.no_grad():
                for p, v, g, m, o in zip(
                    hand.parameters(), velocity, grads, free, task.model.parameters(), strict=True
                ):
                    g = g + method.weight_decay * p
                    v.mul_(method.momentum).add_(g)
                    p.copy_(torch.where(m, p - method.lr * (g + method.momentum * v), o))
    return hand


@pytest.mark.parametrize("keep_top", [0.1, 0.47, 0.8])
def test_masked_equals_sgd_with_fixed_entries_written_out(small: Task, keep_top: float) -> None:
    inner = Finetune(epochs=2, batch_size=7, lr=0.3, schedule="constant", weight_decay=0.2)
    result = Masked(inner=inner, keep_top=keep_top)(small)
    masks = numpy_mask(small, keep_top)
    same(result, held_finetune(small, masks, inner), 1e-5)  # losses are float32 in the engine
    for a, o, m in zip(result.parameters(), small.model.parameters(), masks, strict=True):
        still, mask = (a == o).detach().numpy(), torch.as_tensor(m)
        np.testing.assert_array_equal(still, ~m), "exactly the masked entries moved"
        assert torch.equal(a[~mask], o[~mask])
    assert sum(m.sum() for m in masks) == round(keep_top * sum(m.size for m in masks))


def test_masked_at_one_is_the_inner_method_and_counts_its_samples(small: Task) -> None:
    inner = Finetune(epochs=2, batch_size=7, lr=0.3)
    plain, masked = (
        inner(small),
        Masked(inner=inner, keep_top=1.0)(replace(small, engine=(meter := engine64()))),
    )
    for a, b in zip(plain.parameters(), masked.parameters(), strict=True):
        assert torch.equal(a, b)
    # Batches of 7 of 30 rows: four of 7 and one of 2; the mask adds one pass over the 10 forget
    # rows.
    assert meter.meter.trained == 2 * 30 + 10


def test_salun_on_a_network_with_batch_normalisation(task: Task) -> None:
    result = Masked(inner=RandomLabel(epochs=2, lr=0.05), keep_top=0.5)(task)
    chosen = top_share(mean_gradient(task.engine, task.student(), task.forget), 0.5)
    total = sum(m.numel() for m in chosen.values())
    assert sum(int(m.sum()) for m in chosen.values()) == round(0.5 * total)
    moved, original = 0, dict(task.model.named_parameters())
    for name, weight in result.named_parameters():
        differs = weight != original[name]
        assert not (differs & ~chosen[name]).any(), f"a fixed entry of {name} moved"
        moved += int(differs.sum())
    assert moved > 0.95 * 0.5 * total
    buffers = dict(task.model.named_buffers())
    assert any(not torch.equal(b, buffers[k]) for k, b in result.named_buffers()), (
        "statistics are no weights"
    )


@configured
class Wild:
    """Starts from zeroed weights, and trains with AdamW, clipping and a probe of its own beside the
    model.
    """

    name: ClassVar[str] = "wild"
    source: ClassVar[str] = "test"
    needs: ClassVar[tuple[str, ...]] = ("forget",)
    guarantee: ClassVar[str] = "empirical"
    role: ClassVar[str] = "unlearned"
    seen: ClassVar[list[list[Tensor]]] = []

    def __call__(self, task: Task) -> nn.Module:
        student = task.student()
        with torch.no_grad():
            for p in student.parameters():
                p.zero_()

        def loss(part: Any) -> Tensor:
            self.seen.append([p.detach().clone() for p in student.parameters()])
            return cross_entropy(part.outputs.logits, part.batch.labels)

        adam = Optimizer(kind="adamw", lr=0.1, weight_decay=0.5, clip=0.1)
        task.engine.fit(
            student, [Phase("a", (task.forget,), loss, adam, 5)], epochs=2, seed=task.seed
        )
        probe = nn.Sequential(nn.Linear(6, 4)).double()
        before = copy.deepcopy(probe)
        phase = Phase(
            "b", (task.forget,), lambda p: cross_entropy(p.outputs.logits, p.batch.labels), adam, 5
        )
        task.engine.fit(probe, [phase], epochs=1, seed=task.seed)
        assert all(
            (a != b).all() for a, b in zip(probe.parameters(), before.parameters(), strict=True)
        )
        return student


def test_masked_holds_at_every_step_whatever_the_inner_method_does(small: Task) -> None:
    Wild.seen.clear()
    result = Masked(inner=Wild(), keep_top=0.3)(small)
    masks = [torch.as_tensor(m) for m in numpy_mask(small, 0.3)]
    assert len(Wild.seen) == 4
    for weights in (*Wild.seen, list(result.parameters())):
        for weight, o, m in zip(weights, small.model.parameters(), masks, strict=True):
            assert torch.equal(weight[~m], o[~m])
    assert all((w[m] == 0).all() for w, m in zip(Wild.seen[0], masks, strict=True))


def test_masks_nest_and_hold_methods_that_do_not_train(small: Task) -> None:
    few, many = numpy_mask(small, 0.2), numpy_mask(small, 0.7)
    nested = Masked(inner=Masked(inner=Finetune(lr=0.3), keep_top=0.2), keep_top=0.7)(small)
    assert all((a <= b).all() for a, b in zip(few, many, strict=True))
    for a, o, m in zip(nested.parameters(), small.model.parameters(), few, strict=True):
        np.testing.assert_array_equal((a != o).detach().numpy(), m)
    noisy = Masked(inner=FisherForgetting(), keep_top=0.2)(small)
    plain = FisherForgetting()(small)
    for a, b, o, m in zip(
        noisy.parameters(), plain.parameters(), small.model.parameters(), few, strict=True
    ):
        assert torch.equal(a, torch.where(torch.as_tensor(m), b, o))


def test_top_share_is_exact_with_ties() -> None:
    gradient = {
        "a": torch.tensor([[0.0, -3.0], [0.0, 0.0]]),
        "b": torch.tensor([0.0, 1.0, 0.0, 0.0]),
    }
    assert top_share(gradient, 0.25)["a"].tolist() == [[False, True], [False, False]]
    assert top_share(gradient, 0.25)["b"].tolist() == [False, True, False, False]
    assert top_share(gradient, 0.5)["a"].tolist() == [[True, True], [True, False]], (
        "ties go to the earlier entry"
    )
    assert [
        int(top_share(gradient, s)["a"].sum() + top_share(gradient, s)["b"].sum())
        for s in (1e-9, 1.0)
    ] == [1, 8]


def test_masked_is_one_spec(small: Task) -> None:
    choices = [k for k in METHODS if k is not Masked] + [Masked]
    text = "masked(inner=random_label(lr=0.01, epochs=3), keep_top=0.3)"
    value = parse(text, choices, "method")
    assert value == Masked(inner=RandomLabel(lr=0.01, epochs=3), keep_top=0.3)
    assert (
        parse(spell(value), choices, "method")
        == value
        == from_json(as_json(value), choices, "method")
    )
    assert spell(value) == "masked(inner=random_label(epochs=3, lr=0.01), keep_top=0.3)"
    assert spell(Masked()) == "masked()" and parse("masked", choices, "method") == Masked(
        inner=RandomLabel()
    )
    deep = Masked(inner=Masked(inner=Finetune(), keep_top=0.1))
    assert (
        parse(spell(deep), choices, "method") == deep == from_json(as_json(deep), choices, "method")
    )
    for wrong in ("head_mask()", "3", "'finetune'"):
        with pytest.raises(EigenforgetError, match=r"inner: .*(a method is needed|is a control)"):
            parse(f"masked(inner={wrong})", choices, "method")
    with pytest.raises(ValueError, match="a method is needed"):
        Masked(inner=Finetune)
    with pytest.raises(ValueError, match="is a control"):
        Masked(inner=HeadMask())


def test_masked_needs_what_its_inner_method_needs(small: Task) -> None:
    bare = replace(small, retain=None)
    with pytest.raises(Refused, match="masked needs retain data"):
        Masked()(bare)
    with pytest.raises(Refused, match="masked needs retain data"):
        Masked(inner=Masked(inner=Finetune()))(replace(bare))
    assert isinstance(Masked(inner=ESC())(bare), nn.Module)


# --- ssd
# ---------------------------------------------------------------------------------------------------------


def importance(model: nn.Module, data: list[tuple[Tensor, int]]) -> list[np.ndarray]:
    singles = [[g.numpy() ** 2 for g in loss_gradient(model, x, y)] for x, y in data]
    return [np.mean([s[i] for s in singles], axis=0) for i in range(len(singles[0]))]


def ssd_by_hand(task: Task, alpha: float, dampening: float) -> list[np.ndarray]:
    of_forget = importance(task.model, rows(task.forget))
    of_all = importance(task.model, rows(task.forget) + rows(task.retain))
    found = []
    for p, f, d in zip(task.model.parameters(), of_forget, of_all, strict=True):
        new = p.detach().numpy().copy()
        for at in np.ndindex(new.shape):
            if f[at] > alpha * d[at]:
                new[at] *= min(dampening * d[at] / f[at], 1.0)
        found.append(new)
    return found


@pytest.mark.parametrize(("alpha", "dampening"), [(1.0, 1.0), (1.3, 0.4), (0.7, 3.0)])
def test_ssd_equals_the_formula_weight_by_weight(
    small: Task, alpha: float, dampening: float
) -> None:
    result = SSD(alpha=alpha, dampening=dampening)(small)
    expected = ssd_by_hand(small, alpha, dampening)
    for a, b in zip(result.parameters(), expected, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b, rtol=1e-12)
    kept = [
        float((torch.as_tensor(b) == o).double().mean())
        for b, o in zip(expected, small.model.parameters(), strict=True)
    ]
    assert 0.05 < np.mean(kept) < 0.95


def test_ssd_ignores_batches_and_order_and_does_nothing_at_a_huge_alpha(small: Task) -> None:
    reference = SSD(alpha=1.2)(small)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0)).numpy()
    mixed = replace(
        small, forget=small.forget.subset(order[order < 10]), retain=small.retain.subset(order)
    )  # type: ignore[union-attr]
    for chunk, which in ((1, small), (7, mixed), (1000, mixed)):
        same(SSD(alpha=1.2, chunk=chunk)(which), reference, 1e-12)
    # I_D ≥ (N_f / N) I_f, so no ratio exceeds N / N_f = 4.
    for alpha in (4.0 + 1e-9, 1e9):
        untouched = SSD(alpha=alpha)(small)
        assert all(
            torch.equal(a, b)
            for a, b in zip(untouched.parameters(), small.model.parameters(), strict=True)
        )


def test_ssd_adaptive_alpha_is_the_percentile_of_all_ratios(small: Task) -> None:
    of_forget = importance(small.model, rows(small.forget))
    of_all = importance(small.model, rows(small.forget) + rows(small.retain))
    ratios = np.concatenate([(f / d).ravel() for f, d in zip(of_forget, of_all, strict=True)])
    alpha = float(np.percentile(ratios, 100 - math.log(1 + 100 * 10 / 40)))
    same(SSD()(small), SSD(alpha=alpha)(small), 1e-12)
    moved = sum(
        int((a != b).sum())
        for a, b in zip(SSD()(small).parameters(), small.model.parameters(), strict=True)
    )
    assert moved == int((ratios > alpha).sum()) and 1 <= moved <= math.ceil(0.0326 * len(ratios))
    assert (
        adaptive_alpha(
            {"a": torch.tensor([1.0, 5.0, 7.0])}, {"a": torch.tensor([1.0, 2.5, 0.0])}, 0.0
        )
        == 2.0
    )


def test_ssd_caps_its_samples_and_forgets_a_class(task: Task) -> None:
    result = SSD(importance_samples=60)(replace(task, engine=(meter := Engine(device="cpu"))))
    assert meter.meter.trained == 120
    same(SSD(importance_samples=10**6)(task), SSD()(task), 0.0)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(result.parameters(), SSD()(task).parameters(), strict=True)
    )
    found = evaluate(
        {"ssd": SSD(alpha=2.5)(task)}, forget=task.forget, retain=task.retain, test=task.retain
    ).measured["ssd"]
    assert found.value("forget_accuracy") < 0.5 and found.value("retain_accuracy") > 0.9  # type: ignore[operator]
    statistics = dict(task.model.named_buffers())
    assert all(torch.equal(b, statistics[k]) for k, b in result.named_buffers())


# --- fisher_forgetting
# -------------------------------------------------------------------------------------------


def model_fisher(task: Task) -> list[np.ndarray]:
    total = [np.zeros(p.shape) for p in task.model.parameters()]
    data = rows(task.retain)
    for x, _ in data:
        p = torch.softmax(task.model(x), -1).detach().numpy()
        for label in range(task.num_classes):
            for t, g in zip(total, loss_gradient(task.model, x, label), strict=True):
                t += p[label] * g.numpy() ** 2 / len(data)
    return total


def test_fisher_forgetting_published_code_by_hand(small: Task) -> None:
    result = FisherForgetting(alpha=1e-3, limit=30.0)(small)
    generator = seeds.generator(3, "fisher_forgetting", "noise")
    for i, (new, old, f) in enumerate(
        zip(result.parameters(), small.model.parameters(), model_fisher(small), strict=True)
    ):
        in_head = i >= 2
        variance = 1e-3 * np.minimum(1 / (f + 1e-8), 3.0 if in_head else 30.0)
        if f.ndim == 2:
            variance = np.repeat(variance.mean(1, keepdims=True), f.shape[1], axis=1)
        center = old.detach().numpy().copy()
        if in_head:
            center[2], variance[2] = 0.0, 1e-4
        if in_head or f.ndim == 1:
            variance = variance * 10
        noise = torch.randn(f.shape, generator=generator, dtype=torch.float64).numpy()
        np.testing.assert_allclose(
            new.detach().numpy(), center + np.sqrt(variance) * noise, rtol=1e-9
        )


def test_fisher_forgetting_paper_variance_minimises_its_lagrangian(small: Task) -> None:
    alpha, fisher = 0.02, model_fisher(small)
    method = FisherForgetting(alpha=alpha, form="paper", limit=1e9)
    for f in fisher:
        variance = method.variance(torch.as_tensor(f), in_head=False).numpy()
        for at in list(np.ndindex(f.shape))[:4]:
            cost = lambda log_v, f=f[at]: (
                0.5 * (f * math.exp(log_v[0]) + alpha**2 * math.exp(-log_v[0]))
            )  # noqa: E731
            best = minimize(cost, [0.0], method="BFGS", options={"gtol": 1e-10})
            assert math.exp(best.x[0]) == pytest.approx(variance[at], rel=1e-3)
    result = method(small)
    generator = seeds.generator(3, "fisher_forgetting", "noise")
    for new, old, f in zip(result.parameters(), small.model.parameters(), fisher, strict=True):
        noise = torch.randn(f.shape, generator=generator, dtype=torch.float64).numpy()
        want = old.detach().numpy() + np.sqrt(alpha) * (f + 1e-8) ** -0.25 * noise
        np.testing.assert_allclose(new.detach().numpy(), want, rtol=1e-9)
    limited = FisherForgetting(alpha=alpha, form="paper", limit=2.0).variance(
        torch.tensor([1e-9, 1.0]), in_head=False
    )
    np.testing.assert_allclose(limited.numpy(), [2 * alpha, alpha], rtol=1e-6)


def test_fisher_forgetting_depends_on_its_seed_and_on_retained_inputs_only(small: Task) -> None:
    method = FisherForgetting(alpha=1e-3)
    other_forget = replace(
        small, forget=TensorSource(small.forget.inputs * 9, small.forget.targets)
    )  # type: ignore[attr-defined]
    same(method(small), method(other_forget), 0.0)
    relabelled = replace(
        small, retain=TensorSource(small.retain.inputs, (small.retain.targets + 1) % 4)
    )  # type: ignore[union-attr]
    same(method(small), method(relabelled), 0.0)
    different = method(replace(small, seed=4))
    assert all(
        (a != b).all()
        for a, b in zip(method(small).parameters(), different.parameters(), strict=True)
    )
    at_random = method(replace(small, forgotten_classes=()))
    row = at_random[2].weight[2] - method(small)[2].weight[2]  # type: ignore[index]
    assert row.abs().max() > 0.05, "without a forgotten class no head row is replaced"


# --- influence
# ---------------------------------------------------------------------------------------------------

L2 = 0.05


def logistic(x: Tensor, y: Tensor, start: nn.Module) -> nn.Module:
    """The optimum of mean cross-entropy + L2 ‖θ‖² / 2 by Newton's method with dense Hessians."""
    model = copy.deepcopy(start)
    for _ in range(30):
        gradient, hessian = dense_derivatives(model, x, y)
        flat = nn.utils.parameters_to_vector(model.parameters()).detach()
        nn.utils.vector_to_parameters(
            flat - torch.linalg.solve(hessian, gradient), model.parameters()
        )
    assert gradient.norm() < 1e-12
    return model


def dense_derivatives(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    sizes = [(k, p.shape) for k, p in model.named_parameters()]
    start = nn.utils.parameters_to_vector(model.parameters()).detach()

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([s.numel() for _, s in sizes])
        weights = {k: part.view(s) for (k, s), part in zip(sizes, parts, strict=True)}
        logits = torch.func.functional_call(model, weights, (x,))
        return nn.functional.cross_entropy(logits, y) + L2 / 2 * flat.square().sum()

    found = torch.autograd.functional
    return found.jacobian(loss, start), found.hessian(loss, start)


@pytest.fixture
def convex() -> Task:
    """Logistic regression at the optimum of 300 samples of which 6, drawn at random, are to be
    forgotten.
    """
    g = torch.Generator().manual_seed(7)
    y = torch.arange(300) % 3
    x = torch.randn(300, 4, generator=g, dtype=torch.float64) + nn.functional.one_hot(y, 4) * 1.5
    torch.manual_seed(0)
    model = logistic(x, y, nn.Sequential(nn.Linear(4, 3)).double())
    forget, retain = TensorSource(x[:6], y[:6]), TensorSource(x[6:], y[6:])
    return Task(model=model, forget=forget, retain=retain, engine=engine64(), seed=0, num_classes=3)


@pytest.mark.parametrize("curvature", ["gauss_newton", "hessian"])
@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_influence_equals_the_dense_solve(convex: Task, curvature: Any, damping: float) -> None:
    method = Influence(
        damping=damping,
        weight_decay=L2,
        curvature=curvature,
        iterations=200,
        tolerance=1e-12,
        hessian_samples=None,
        scale=0.7,
    )
    retain: Any = convex.retain
    gradient, hessian = dense_derivatives(convex.model, retain.inputs, retain.targets)
    of_forget, _ = dense_derivatives(convex.model, convex.forget.inputs, convex.forget.targets)  # type: ignore[attr-defined]
    damped = hessian + damping * torch.eye(len(hessian), dtype=torch.float64)
    start = nn.utils.parameters_to_vector(convex.model.parameters()).detach()
    # At the optimum of all data the forget gradient is minus the retain gradient, so both write the
    # same Newton step.
    torch.testing.assert_close(6 * of_forget, -294 * gradient, rtol=1e-8, atol=1e-10)
    expected = start + 0.7 * torch.linalg.solve(damped, 6 * of_forget / 294)
    moved = nn.utils.parameters_to_vector(method(convex).parameters()).detach()
    torch.testing.assert_close(moved, expected, rtol=1e-9, atol=1e-10)
    assert (moved - start).norm() > 1e-3


def test_one_influence_step_lands_near_the_retrained_optimum(convex: Task) -> None:
    retain: Any = convex.retain
    retrained = nn.utils.parameters_to_vector(
        logistic(retain.inputs, retain.targets, convex.model).parameters()
    )
    start = nn.utils.parameters_to_vector(convex.model.parameters())
    method = Influence(damping=0.0, weight_decay=L2, iterations=100, tolerance=1e-10)
    moved = nn.utils.parameters_to_vector(method(convex).parameters())
    assert (moved - retrained).norm() < (start - retrained).norm() / 50


def test_conjugate_gradients_against_numpy() -> None:
    root = np.random.default_rng(0).normal(size=(9, 9))
    matrix, b = torch.as_tensor(root @ root.T + np.eye(9)), torch.as_tensor(np.arange(9.0))
    x = conjugate_gradients(lambda v: matrix @ v, b, iterations=50, tolerance=1e-12)
    np.testing.assert_allclose(x.numpy(), np.linalg.solve(matrix.numpy(), b.numpy()), rtol=1e-8)
    loose = conjugate_gradients(lambda v: matrix @ v, b, iterations=50, tolerance=0.3)
    assert 1e-6 < (matrix @ loose - b).norm() <= 0.3 * b.norm()
    calls: list[int] = []
    one = conjugate_gradients(
        lambda v: calls.append(1) or matrix @ v, b, iterations=1, tolerance=1e-12
    )  # type: ignore[func-returns-value]
    torch.testing.assert_close(one, b * (b @ b) / (b @ matrix @ b))
    assert len(calls) == 1
    assert not conjugate_gradients(
        lambda v: matrix @ v, torch.zeros(9).double(), iterations=5, tolerance=0.1
    ).any()
    with pytest.raises(Refused, match="curvature -2; raise damping"):
        conjugate_gradients(lambda v: -2 * v, b, iterations=5, tolerance=0.1)


def test_influence_on_a_network(small: Task, task: Task) -> None:
    with pytest.raises(Refused, match="raise damping"):
        Influence(
            curvature="hessian", damping=0.0, weight_decay=0.0, iterations=100, tolerance=1e-9
        )(small)
    method = Influence(hessian_samples=200, iterations=8)
    result = method(replace(task, engine=(meter := Engine(device="cpu"))))
    assert meter.meter.trained <= len(task.forget) + 8 * 200
    found = evaluate(
        {"influence": result}, forget=task.forget, retain=task.retain, test=task.retain
    ).measured["influence"]
    assert found.value("forget_accuracy") < 0.6 and found.value("retain_accuracy") > 0.97  # type: ignore[operator]


# --- esc and esc_t
# -----------------------------------------------------------------------------------------------


def wide_task(forget_rows: int) -> Task:
    """A net with 12 features before its head, in float64."""
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3)).double()
    x = torch.randn(
        forget_rows + 20, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    with torch.no_grad():
        y = model(x).argmax(1)
    forget, retain = (
        TensorSource(x[:forget_rows], y[:forget_rows]),
        TensorSource(x[forget_rows:], y[forget_rows:]),
    )
    return Task(model=model, forget=forget, retain=retain, engine=engine64(), seed=0, num_classes=3)


@pytest.mark.parametrize(
    ("forget_rows", "percent", "k"), [(40, 1.5, 1), (40, 25.0, 3), (5, 25.0, 3), (2, 99.0, 2)]
)
def test_esc_equals_the_projection_by_numpy(forget_rows: int, percent: float, k: int) -> None:
    task = wide_task(forget_rows)
    result = ESC(drop_percent=percent)(replace(task, retain=None))
    features = task.model[:2](task.forget.inputs).detach().numpy()  # type: ignore[attr-defined, index]
    u = np.linalg.svd(features.T)[0][:, :k]
    p = np.eye(12) - u @ u.T
    np.testing.assert_allclose(p @ p, p, atol=1e-12)
    old, new = task.model[2], result[2]  # type: ignore[index]
    # Features come out of the engine in float32, hence the tolerances.
    np.testing.assert_allclose(
        new.weight.detach().numpy(), old.weight.detach().numpy() @ p, atol=1e-6
    )
    for direction in u.T:
        logits = new(torch.as_tensor(37.0 * direction))
        torch.testing.assert_close(logits, old.bias, rtol=1e-5, atol=1e-5)
    rest = torch.as_tensor(p @ np.arange(12.0))
    torch.testing.assert_close(new(rest), old(rest), rtol=1e-5, atol=1e-5)
    changed = [
        name
        for name, v in result.state_dict().items()
        if not torch.equal(v, task.model.state_dict()[name])
    ]
    assert changed == ["2.weight"]


def test_esc_folds_a_projection_that_is_idempotent_and_symmetric() -> None:
    task = wide_task(30)
    with torch.no_grad():
        wide = nn.Sequential(*task.model[:2], nn.Linear(12, 12)).double()  # type: ignore[index]
        wide[2].weight.copy_(torch.eye(12))
    p = ESC(drop_percent=20.0)(replace(task, model=wide, num_classes=12))[2].weight.detach()  # type: ignore[index]
    torch.testing.assert_close(p @ p, p, rtol=0, atol=1e-12)
    torch.testing.assert_close(p, p.T, rtol=0, atol=1e-12)
    assert torch.linalg.matrix_rank(p, atol=1e-8) == 10
    again = ESC(drop_percent=20.0)(replace(task, model=wide, num_classes=12))
    torch.testing.assert_close(again[2].weight, p)  # type: ignore[index]


def test_esc_leaves_features_alone_and_says_so(task: Task) -> None:
    results = {"esc": ESC()(task), "esc_t": ESCT()(task)}
    found = evaluate(
        {"original": task.model, **results},
        forget=task.forget,
        retain=task.retain,
        test=task.retain,
    ).measured
    for name in results:
        assert found[name].value("forget_accuracy") < 0.1  # type: ignore[operator]
        assert found[name].value("retain_accuracy") > 0.95  # type: ignore[operator]
        for feature_score in ("da", "nmi", "cluster_f1"):
            assert found[name].value(feature_score) == found["original"].value(feature_score)
    for kind in (ESC, ESCT):
        assert "original weights still present" in kind.guarantee and "the original's" in (
            kind.__doc__ or ""
        )


class Tokens(nn.Module):
    """A head on every token, averaged afterwards: what it reads is not one vector per sample."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.view(-1, 2, 3)).mean(1)


@pytest.mark.parametrize("kind", [ESC, ESCT])
def test_esc_refuses_heads_that_do_not_read_one_vector(kind: Callable[[], Any]) -> None:
    task = replace(wide_task(5), model=Tokens().double())
    with pytest.raises(
        Refused, match=r"esc(_t)? needs one feature vector .* head, got 6 values for 3 inputs"
    ):
        kind()(task)


def esc_t_by_hand(task: Task, method: ESCT) -> tuple[Tensor, Tensor]:
    """The mask after projected SGD, and U, by explicit loops over samples."""
    with torch.no_grad():
        features = task.model[:2](task.forget.inputs).float().double()  # type: ignore[attr-defined, index]
    u = torch.as_tensor(np.linalg.svd(features.numpy().T, full_matrices=False)[0])
    head, mask = task.model[2], torch.ones_like(u)  # type: ignore[index]
    source = TensorSource(features, task.forget.targets)  # type: ignore[attr-defined]
    for cycle in range(method.epochs):
        for batch in source.batches(
            method.batch_size, seeds.generator(task.seed, "order", "mask", cycle)
        ):
            mask = mask.detach().requires_grad_()
            v = u * mask
            kept = torch.eye(len(u), dtype=torch.float64) - u @ u.T
            terms = []
            for f, y in zip(batch.inputs, batch.labels, strict=True):
                logits = head.weight.detach() @ (v @ (v.T @ f) + kept @ f) + head.bias.detach()
                if logits.argmax() == y:
                    p = torch.softmax(logits, 0)[y]
                    terms.append(-torch.log(1 - p) if method.loss == "paper" else torch.log(p))
            if terms:
                (gradient,) = torch.autograd.grad(torch.stack(terms).mean(), mask)
                mask = (mask - method.lr * gradient).clamp(0, 1)
    return mask.detach(), u


@pytest.mark.parametrize("loss", ["paper", "code"])
@pytest.mark.parametrize("forget_rows", [25, 8])
def test_esc_t_equals_projected_sgd_written_out(loss: Any, forget_rows: int) -> None:
    task = wide_task(forget_rows)
    method = ESCT(epochs=6, lr=6.0, loss=loss, batch_size=7, threshold=0.6)
    result = method(replace(task, retain=None))
    mask, u = esc_t_by_hand(task, method)
    assert (mask - 0.6).abs().min() > 1e-4, (
        "no entry is so near the threshold that rounding decides"
    )
    assert (mask == 0).any() and (mask == 1).any() and ((mask > 0) & (mask < 1)).any()
    v = u * (mask > 0.6)
    old = task.model[2].weight.detach()  # type: ignore[index]
    expected = old @ (v @ v.T + torch.eye(12, dtype=torch.float64) - u @ u.T)
    torch.testing.assert_close(result[2].weight.detach(), expected, rtol=1e-4, atol=1e-5)  # type: ignore[index]
    changed = [
        name
        for name, w in result.state_dict().items()
        if not torch.equal(w, task.model.state_dict()[name])
    ]
    assert changed == ["2.weight"] and (expected - old).abs().max() > 0.05


def test_esc_t_stands_still_where_nothing_is_classified_correctly() -> None:
    task = wide_task(25)
    wrong = TensorSource(task.forget.inputs, (task.forget.targets + 1) % 3)  # type: ignore[attr-defined]
    for loss in ("paper", "code"):
        result = ESCT(lr=100.0, loss=loss)(replace(task, forget=wrong))  # type: ignore[arg-type]
        torch.testing.assert_close(result[2].weight, task.model[2].weight, rtol=1e-12, atol=1e-12)  # type: ignore[index]


def test_masked_refuses_methods_that_replace_weights() -> None:
    with pytest.raises(ValueError, match=r"write cmf\(inner=masked"):
        Masked(inner=CMF())
