"""`masked` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.core.spec import as_json, configured, from_json, parse, spell
from eigenforget.methods import METHODS, Finetune, HeadMask, RandomLabel
from eigenforget.methods.base import Task
from eigenforget.methods.cmf import CMF
from eigenforget.methods.esc import ESC
from eigenforget.methods.fisher_forgetting import FisherForgetting
from eigenforget.methods.masked import Masked, top_share
from eigenforget.training.gradients import mean_gradient
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import Optimizer, Phase
from tests.numerics.method_toys import close_weights, engine64, loss_gradient, rows


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
    close_weights(
        result, held_finetune(small, masks, inner), 1e-5
    )  # losses are float32 in the engine
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


def test_masked_refuses_methods_that_replace_weights() -> None:
    with pytest.raises(ValueError, match=r"write cmf\(inner=masked"):
        Masked(inner=CMF())
