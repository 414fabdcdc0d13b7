"""Relabelling, distillation and control methods against their own formulas, written out again by
hand in float64.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.core.spec import as_json, from_json, parse, spell
from eigenforget.data.sources import DatasetSource, JoinedSource, TensorSource
from eigenforget.methods.base import Task
from eigenforget.methods.boundary_expand import BoundaryExpand, _with_shadow
from eigenforget.methods.boundary_shrink import BoundaryShrink
from eigenforget.methods.cmf import CMF, ClassMeanHead, class_means
from eigenforget.methods.collapse import Collapse
from eigenforget.methods.delete import DELETE
from eigenforget.methods.finetune import Finetune
from eigenforget.methods.head_distill import HeadDistill
from eigenforget.methods.identity import Identity
from eigenforget.methods.lotus import LoTUS, smoothed_target
from eigenforget.methods.random_label import RandomLabel
from eigenforget.methods.unsir import UNSIR
from eigenforget.models import checkpoint
from eigenforget.models.features import find_head
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import Optimizer, Phase

SEED = 3
Loss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


def accuracy(task: Task, model: nn.Module, source: TensorSource) -> float:
    hits = sum(
        int((o.logits.argmax(1) == b.labels).sum()) for b, o in task.engine.forward(model, source)
    )
    return hits / len(source)


def equal_weights(found: nn.Module, hand: nn.Module, start: nn.Module) -> None:
    moved = 0.0
    for a, b, c in zip(found.parameters(), hand.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)  # losses are float32 in the engine
        moved = max(moved, (a - c).detach().abs().max().item())
    assert moved > 1e-3, "the weights must have moved, or the comparison shows nothing"


def trained_by_hand(
    task: Task, loss: Loss, *, phase: str, epochs: int, batch_size: int, sgd: dict[str, float]
) -> nn.Module:
    """Nesterov SGD over the forget data; loss(model, x, y, positions)."""
    hand = copy.deepcopy(task.model)
    step = torch.optim.SGD(hand.parameters(), nesterov=True, **sgd)  # type: ignore[arg-type]
    for cycle in range(epochs):
        for batch in task.forget.batches(batch_size, seeds.generator(SEED, "order", phase, cycle)):
            step.zero_grad()
            loss(hand, batch.inputs, batch.labels, batch.positions).backward()
            step.step()
    return hand


def differing(found: nn.Module, original: nn.Module) -> set[str]:
    mine, theirs = found.state_dict(), original.state_dict()
    assert list(mine) == list(theirs)
    return {name for name in mine if not torch.equal(mine[name], theirs[name])}


# ----------------------------------------------------------------------------------------------
# delete


def test_delete_is_the_published_kl_on_forget_data(small: Task) -> None:
    """Target with the true logit at −1e10, KL summed over classes in a loop, mean over the batch."""
    method = DELETE(epochs=2, lr=0.1, momentum=0.9, weight_decay=0.01, batch_size=4)

    def loss(model: nn.Module, x: Tensor, y: Tensor, positions: Tensor) -> Tensor:
        teacher = small.model(x).detach().clone()
        teacher[torch.arange(len(y)), y] = -1e10
        q = torch.as_tensor(softmax(teacher.numpy(), axis=1))
        p = torch.softmax(model(x), 1)
        rows = []
        for i in range(len(y)):
            rows.append(
                sum(q[i, c] * torch.log(q[i, c] / p[i, c]) for c in range(4) if q[i, c] > 0)
            )
        return torch.stack(rows).mean()  # type: ignore[arg-type]

    sgd = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    hand = trained_by_hand(small, loss, phase="forget", epochs=2, batch_size=4, sgd=sgd)
    equal_weights(method(replace(small, retain=None)), hand, small.model)


@pytest.mark.parametrize("method", [DELETE, BoundaryShrink, BoundaryExpand])
def test_frozen_norm_keeps_every_statistic(method: type, task: Task) -> None:
    moved = differing(method(epochs=1, norm="train")(task), task.model)
    kept = differing(method(epochs=1, norm="frozen")(task), task.model)
    statistics = {name for name in moved if "running" in name or "num_batches" in name}
    assert statistics and not kept & statistics
    assert {n for n in kept if n.endswith("weight")} == {n for n in moved if n.endswith("weight")}


def test_delete_forgets_and_keeps(task: Task) -> None:
    result = DELETE()(replace(task, retain=None))
    assert accuracy(task, result, task.forget) < 0.1 and accuracy(task, result, task.retain) > 0.97  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------- boundary
# shrink


def input_gradient(model: nn.Module, x: np.ndarray, label: int) -> np.ndarray:
    """∇_x CE of tanh network with the chain rule by hand: W1ᵀ ((1 − h²) ∘ W2ᵀ (p − e_y))."""
    w1, b1, w2, b2 = (p.detach().numpy() for p in model.parameters())
    h = np.tanh(w1 @ x + b1)
    error = softmax(w2 @ h + b2)
    error[label] -= 1
    return w1.T @ ((1 - h**2) * (w2.T @ error))


def logits_by_hand(model: nn.Module, x: np.ndarray) -> np.ndarray:
    w1, b1, w2, b2 = (p.detach().numpy() for p in model.parameters())
    return w2 @ np.tanh(w1 @ x + b1) + b2


def nearest_by_hand(task: Task, step: float, gone: tuple[int, ...]) -> list[int]:
    found = []
    for x, y in zip(task.forget.inputs.numpy(), task.forget.labels(), strict=True):  # type: ignore[attr-defined]
        moved = x + step * np.sign(input_gradient(task.model, x, int(y)))
        scores = logits_by_hand(task.model, moved)
        found.append(
            max((c for c in range(4) if c != y and c not in gone), key=lambda c: scores[c])
        )
    return found


def test_boundary_shrink_labels_are_the_best_wrong_class_after_the_step(small: Task) -> None:
    step = 1.5
    want = nearest_by_hand(small, step, (2,))
    assert BoundaryShrink(step=step, batch_size=4).labels(small).tolist() == want
    assert want != nearest_by_hand(small, 1e-9, (2,)) and want != nearest_by_hand(
        small, -step, (2,)
    ), "the step must matter"
    mixed = replace(
        small, forget=TensorSource(small.retain.inputs, small.retain.targets), forgotten_classes=()
    )  # type: ignore[union-attr]
    for size in (
        step,
        1e-6,
    ):  # the tiny step leaves many samples on their own side, where the runner-up counts
        want = nearest_by_hand(mixed, size, ())
        found = BoundaryShrink(step=size).labels(mixed)
        assert (
            found.tolist() == want
            and set(want) == {0, 1, 2, 3}
            and not (found == mixed.forget.targets).any()
        )  # type: ignore[attr-defined]


def test_boundary_shrink_trains_towards_these_labels(small: Task) -> None:
    method = BoundaryShrink(step=1.5, epochs=2, lr=0.1, weight_decay=0.01, batch_size=4)
    labels = torch.tensor(nearest_by_hand(small, 1.5, (2,)))

    def loss(model: nn.Module, x: Tensor, y: Tensor, positions: Tensor) -> Tensor:
        log_p = torch.log(torch.softmax(model(x), 1))
        return -torch.stack([log_p[i, labels[p]] for i, p in enumerate(positions.tolist())]).mean()

    sgd = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    hand = trained_by_hand(small, loss, phase="forget", epochs=2, batch_size=4, sgd=sgd)
    equal_weights(method(replace(small, retain=None)), hand, small.model)


def test_boundary_shrink_refusals(small: Task) -> None:
    whole = TensorSource(torch.zeros(4, 6, dtype=torch.long), torch.full((4,), 2))
    with pytest.raises(Refused, match="real-valued"):
        BoundaryShrink().labels(replace(small, forget=whole))
    with pytest.raises(Refused, match="second class"):
        BoundaryShrink().labels(replace(small, forget=small.retain, forgotten_classes=(1, 2, 3)))  # type: ignore[arg-type]
    assert BoundaryShrink().labels(replace(small, forgotten_classes=(1, 2, 3))).tolist() == [0] * 10


# ------------------------------------------------------------------------------------- boundary
# expand


@pytest.mark.parametrize("bias", [True, False])
def test_boundary_expand_trains_a_shadow_class_and_cuts_it_off(small: Task, bias: bool) -> None:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4, bias=bias)).double()
    task = replace(small, model=model)
    result = BoundaryExpand(epochs=2, lr=0.1, weight_decay=0.01, batch_size=4)(
        replace(task, retain=None)
    )
    wide = copy.deepcopy(model)
    wide[2] = _with_shadow(model[2], seeds.generator(SEED, "shadow"))  # type: ignore[arg-type]

    def loss(model: nn.Module, x: Tensor, y: Tensor, positions: Tensor) -> Tensor:
        logits = model(x)
        assert logits.shape[1] == 5
        return (logits.exp().sum(1).log() - logits[:, 4]).mean()

    sgd = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    hand = trained_by_hand(
        replace(task, model=wide), loss, phase="forget", epochs=2, batch_size=4, sgd=sgd
    )
    cut = copy.deepcopy(model)
    cut[0].load_state_dict(hand[0].state_dict())  # type: ignore[index]
    cut[2].load_state_dict({k: v[:4] for k, v in hand[2].state_dict().items()})  # type: ignore[index]
    equal_weights(result, cut, model)
    assert type(result[2]) is nn.Linear and result[2].out_features == 4  # type: ignore[index]
    assert [(k, v.shape) for k, v in result.state_dict().items()] == [
        (k, v.shape) for k, v in model.state_dict().items()
    ]


def test_widened_head_copies_the_rows_and_starts_the_last_as_linear_does() -> None:
    head = nn.Linear(100, 3).double()
    before = torch.random.get_rng_state()
    wide = _with_shadow(head, torch.Generator().manual_seed(0))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(wide.weight[:3], head.weight) and torch.equal(wide.bias[:3], head.bias)
    row = wide.weight[3].detach()
    assert (
        0.08 < row.abs().max() <= 0.1
        and row.min() < -0.08
        and row.std() == pytest.approx(0.1 / math.sqrt(3), rel=0.2)
    )
    assert wide.weight.requires_grad and wide.weight.dtype == torch.float64


def test_exchanged_heads_must_be_plain(small: Task) -> None:
    class Own(nn.Linear):
        pass

    for model in (nn.Sequential(nn.Flatten(), Own(6, 4)).double(), nn.Linear(6, 4).double()):
        for method in (BoundaryExpand(), CMF()):
            with pytest.raises(Refused, match=f"{method.name} needs a plain nn.Linear head"):
                method(replace(small, model=model))


# -----------------------------------------------------------------------------------------------
# unsir


def test_unsir_noise_is_adam_on_minus_ce_plus_penalty(small: Task) -> None:
    """Three Adam steps from the published start, every gradient by hand."""
    n, lam = 6, 0.1
    method = UNSIR(noise_samples=n, noise_steps=3, noise_lr=0.1, noise_penalty=lam)
    found = method.noise(small, 2)
    start = torch.randn(n, 6, generator=seeds.generator(SEED, "unsir", 2)).double().numpy()
    x, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for t in range(1, 4):
        gradient = np.stack(
            [-input_gradient(small.model, row, 2) / n + lam * 2 * row / n for row in x]
        )
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        x = x - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(found.inputs.numpy(), x, rtol=1e-4, atol=1e-5)
    assert found.targets.tolist() == [2] * n and not found.inputs.requires_grad
    dropping = nn.Sequential(*small.model[:2], nn.Dropout(0.5), small.model[2])  # type: ignore[index,misc]
    assert torch.equal(method.noise(replace(small, model=dropping), 2).inputs, found.inputs), (
        "the model stays in eval mode"
    )
    far = UNSIR(noise_samples=n, noise_steps=40, noise_penalty=0.001).noise(small, 2).inputs.numpy()
    errors = [
        np.mean([-log_softmax(logits_by_hand(small.model, r))[2] for r in rows])
        for rows in (start, far)
    ]
    assert errors[1] > errors[0] + 0.4, "the noise maximises the error of its class"


def test_unsir_impairs_on_noise_and_retain_then_repairs(small: Task) -> None:
    method = UNSIR(
        noise_samples=4,
        noise_steps=3,
        repeats=3,
        retain_per_class=5,
        impair_lr=0.02,
        repair_lr=0.01,
        repair_epochs=2,
        batch_size=8,
    )
    result = method(
        replace(small, forget=TensorSource(torch.zeros(1, 6).double(), torch.tensor([2])))
    )
    sample, noise = method.sample(small), method.noise(small, 2)
    assert sorted(sample.labels().tolist()) == [0] * 5 + [1] * 5 + [3] * 5
    seen = JoinedSource((sample, noise.subset(np.tile(np.arange(4), 3))))
    hand = copy.deepcopy(small.model)
    impair, repair = (torch.optim.Adam(hand.parameters(), lr=lr) for lr in (0.02, 0.01))
    order = seeds.generator(SEED, "order", "repair", 0)
    plan = [(impair, list(seen.batches(8, seeds.generator(SEED, "order", "impair", 0))))]
    plan.append((repair, [b for _ in range(2) for b in sample.batches(8, order)]))
    assert (
        sum(len(b.labels) for b in plan[0][1]) == 27
        and sum(int((b.labels == 2).sum()) for b in plan[0][1]) == 12
    )
    for step, batches in plan:
        for batch in batches:
            step.zero_grad()
            nn.functional.cross_entropy(hand(batch.inputs), batch.labels).backward()
            step.step()
    equal_weights(result, hand, small.model)


def test_unsir_forgets_and_refuses(task: Task, small: Task) -> None:
    result = UNSIR()(task)
    assert accuracy(task, result, task.forget) < 0.3 and accuracy(task, result, task.retain) > 0.9  # type: ignore[arg-type]
    with pytest.raises(Refused, match="forgotten as a whole"):
        UNSIR()(replace(small, forgotten_classes=()))
    whole = TensorSource(torch.zeros(8, 6, dtype=torch.long), torch.arange(8) % 2)
    with pytest.raises(Refused, match="real-valued"):
        UNSIR()(replace(small, retain=whole))


# -----------------------------------------------------------------------------------------------
# lotus


def test_lotus_target_formula() -> None:
    rng = np.random.default_rng(0)
    logits, gumbel = rng.normal(size=(6, 4)) * 3, rng.gumbel(size=(6, 4))
    forget = np.array([True, False, True, True, False, False])
    found = smoothed_target(
        torch.as_tensor(logits),
        torch.as_tensor(gumbel),
        forget=torch.as_tensor(forget),
        temperature=2.5,
    )
    for i in range(6):
        noisy = logits[i] + gumbel[i]
        want = softmax(noisy / 2.5) if forget[i] else np.eye(4)[int(np.argmax(noisy))]
        np.testing.assert_allclose(found[i].numpy(), want, atol=1e-12)


def test_lotus_is_its_algorithm_written_out(small: Task) -> None:
    """Two epochs: accuracy, temperature, Gumbel noise, mixed batches and AdamW by hand."""
    method = LoTUS(
        epochs=2,
        lr=0.01,
        weight_decay=0.1,
        alpha=1.7,
        target_accuracy=0.05,
        retain_share=0.5,
        batch_size=7,
    )
    model = copy.deepcopy(small.model)
    with torch.no_grad():
        model[2].bias[2] += 0.7  # type: ignore[index]
    task = replace(small, model=model)
    result = method(task)
    sample = task.sample(small.retain, 15, "lotus")  # type: ignore[arg-type]
    assert len(sample) == 15 == len(small.retain) // 2  # type: ignore[arg-type]
    mixed, hand = JoinedSource((small.forget, sample)), copy.deepcopy(model)
    step = torch.optim.AdamW(hand.parameters(), lr=0.01, weight_decay=0.1)
    uniform, temperatures = seeds.generator(SEED, "gumbel"), []
    for cycle in range(2):
        hits = sum(
            int(np.argmax(logits_by_hand(hand, x)) == 2) for x in small.forget.inputs.numpy()
        )  # type: ignore[attr-defined,misc]
        temperatures.append(math.exp(1.7 * (hits / 10 - 0.05)))
        for batch in mixed.batches(7, seeds.generator(SEED, "order", "lotus", cycle)):
            noise = (
                -torch.log(torch.empty(len(batch.labels), 4).exponential_(generator=uniform))
                .double()
                .numpy()
            )
            targets = []
            for t, g, y in zip(
                model(batch.inputs).detach().numpy(), noise, batch.labels.tolist(), strict=True
            ):
                targets.append(
                    softmax((t + g) / temperatures[-1]) if y == 2 else np.eye(4)[np.argmax(t + g)]
                )
            step.zero_grad()
            (
                -(torch.as_tensor(np.stack(targets)) * torch.log_softmax(hand(batch.inputs), 1))
                .sum(1)
                .mean()
            ).backward()
            step.step()
    assert temperatures[0] > 1.5
    equal_weights(result, hand, model)


def test_lotus_hard_targets_are_draws_from_the_softmax() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0]]).expand(40000, 3)
    gumbel = -torch.empty(40000, 3).exponential_(generator=torch.Generator().manual_seed(0)).log()
    drawn = smoothed_target(
        logits, gumbel, forget=torch.zeros(40000, dtype=torch.bool), temperature=9.0
    ).mean(0)
    np.testing.assert_allclose(
        drawn.numpy(), softmax([2.0, 0.0, -1.0]), atol=0.0125
    )  # 5 standard deviations


def test_lotus_stops_at_its_target(task: Task, small: Task) -> None:
    rows: list[object] = []
    model = copy.deepcopy(small.model)
    with torch.no_grad():
        model[2].bias[2] -= 100.0  # type: ignore[index]
    below = replace(small, model=model, log=rows.append)
    result = LoTUS(target_accuracy=0.01)(below)
    assert (
        not rows and not differing(result, model) and not any(m.training for m in result.modules())
    )
    assert all(p.grad is None for p in result.parameters())
    LoTUS(target_accuracy=0.005, epochs=2)(below)
    assert len(rows) == 2, "a gap of −0.005 does not stop it"
    with pytest.raises(Refused, match="target_accuracy"):
        LoTUS()(replace(task, forgotten_classes=()))


def test_lotus_lowers_confidence_on_forget_data_only(task: Task) -> None:
    result = LoTUS(epochs=3)(task)
    entropies = {}
    for name, model in (("before", task.model), ("after", result)):
        for side, source in (("forget", task.forget), ("retain", task.retain)):
            p = torch.cat([o.logits.softmax(1) for _, o in task.engine.forward(model, source)])  # type: ignore[arg-type]
            entropies[name, side] = float(-(p * p.clamp_min(1e-30).log()).sum(1).mean())
    assert entropies["after", "forget"] > entropies["before", "forget"] + 0.5
    assert entropies["after", "retain"] < entropies["before", "retain"] + 0.2


def test_joined_sources_are_one_source() -> None:
    first = TensorSource(torch.arange(5.0).unsqueeze(1), torch.arange(5))
    pairs = [(torch.tensor([float(i)]), i) for i in range(5, 12)]
    both = JoinedSource((first, DatasetSource(pairs)))  # type: ignore[arg-type]
    assert len(both) == 12 and both.labels().tolist() == list(range(12))
    for generator in (None, torch.Generator().manual_seed(0)):
        seen = list(both.batches(5, generator))
        for batch in seen:
            assert (
                batch.inputs.squeeze(1).long().tolist()
                == batch.labels.tolist()
                == batch.positions.tolist()
            )
        order = torch.cat([b.positions for b in seen]).tolist()
        assert sorted(order) == list(range(12)) and [len(b.labels) for b in seen] == [5, 5, 2]
        assert (order == list(range(12))) == (generator is None)
    shuffled = [b.positions.tolist() for b in both.batches(5, torch.Generator().manual_seed(0))]
    assert any(min(b) < 5 <= max(b) for b in shuffled), "batches mix the sources"
    assert both.subset(np.array([1, 7, 11])).labels().tolist() == [1, 7, 11]
    assert [len(b.labels) for b in both.batches(11, torch.Generator().manual_seed(0))] == [11], (
        "no training batch of one"
    )


# ---------------------------------------------------------------------------------------- head
# distill


def test_head_distill_moves_the_head_and_not_one_other_bit(task: Task) -> None:
    result = HeadDistill()(task)
    assert differing(result, task.model) == {"fc.weight", "fc.bias"}
    for source in (task.forget, task.retain):
        pairs = zip(
            task.engine.forward(result, source),
            task.engine.forward(task.model, source),
            strict=True,
        )  # type: ignore[arg-type]
        assert all(torch.equal(a.features, b.features) for (_, a), (_, b) in pairs)
    assert accuracy(task, result, task.forget) == 0 and accuracy(task, result, task.retain) > 0.98  # type: ignore[arg-type]


def test_head_distill_is_kl_to_the_masked_original(small: Task) -> None:
    result = HeadDistill(epochs=2, lr=0.2, batch_size=8)(small)
    hand = copy.deepcopy(small.model)
    mixed = JoinedSource((small.forget, small.retain))  # type: ignore[arg-type]
    step = torch.optim.SGD(hand[2].parameters(), lr=0.2, momentum=0.9, nesterov=True)  # type: ignore[index]
    count = 0
    for cycle in range(2):
        for batch in mixed.batches(8, seeds.generator(SEED, "order", "distil", cycle)):
            cut = small.model(batch.inputs).detach().numpy()
            cut[:, 2] = -np.inf
            q = torch.as_tensor(softmax(cut, axis=1))
            step.param_groups[0]["lr"] = 0.2 * 0.5 * (1 + math.cos(math.pi * count / 10))
            step.zero_grad()
            (-(q * torch.log_softmax(hand(batch.inputs), 1)).sum(1).mean()).backward()
            step.step()
            count += 1
    assert count == 10
    equal_weights(result, hand, small.model)
    assert differing(result, small.model) == {"2.weight", "2.bias"}
    with pytest.raises(Refused, match="forgotten as a whole"):
        HeadDistill()(replace(small, forgotten_classes=()))


# -------------------------------------------------------------------------------------------------
# cmf


def means_by_hand(
    features: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    z = np.stack([f / np.linalg.norm(f) for f in features])
    mu = z.sum(0) / len(z)
    rows = []
    for c in range(classes):
        centre = z[labels == c].mean(0) - mu
        rows.append(centre / np.linalg.norm(centre))
    return np.stack(rows), mu


def test_cmf_head_is_its_formula(small: Task) -> None:
    sources = (small.retain, small.forget)
    x = np.concatenate([s.inputs.numpy() for s in sources])  # type: ignore[union-attr]
    y = np.concatenate([s.labels() for s in sources])  # type: ignore[union-attr]
    features = small.model[:2](torch.as_tensor(x)).detach().numpy()  # type: ignore[index]
    weight, mu = means_by_hand(features, y, 4)
    found = class_means(small.engine, small.model, sources, 5)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.weight[:4].numpy(), weight, atol=1e-6)
    np.testing.assert_allclose(found.mean.numpy(), mu, atol=1e-6)
    assert not found.weight[4].any(), "a class without samples"
    head = ClassMeanHead(small.model[2], temperature=0.5)  # type: ignore[index]
    assert not list(head.parameters()) and list(head.state_dict()) == ["weight", "bias", "mean"]
    head.weight.copy_(torch.as_tensor(weight))
    head.mean.copy_(torch.as_tensor(mu))
    for f, logits in zip(features, head(torch.as_tensor(features)).numpy(), strict=True):
        centred = f / np.linalg.norm(f) - mu
        np.testing.assert_allclose(
            logits, [centred @ w / np.linalg.norm(centred) / 0.5 for w in weight], atol=1e-12
        )


def test_cmf_recomputes_the_head_before_every_cycle_and_at_the_end(small: Task) -> None:
    """Two cycles of fine-tuning: the encoder moves under a constant head, which follows from true
    labels in between.
    """
    result = CMF(
        inner=Finetune(epochs=2, lr=0.3, batch_size=8, schedule="constant", weight_decay=0.01)
    )(small)
    sources = (small.retain, small.forget)
    x = torch.cat([s.inputs for s in sources])  # type: ignore[union-attr]
    y = np.concatenate([s.labels() for s in sources])  # type: ignore[union-attr]
    encoder = copy.deepcopy(small.model[:2])  # type: ignore[index]
    step = torch.optim.SGD(
        encoder.parameters(), lr=0.3, momentum=0.9, nesterov=True, weight_decay=0.01
    )

    def head() -> list[Tensor]:
        return [torch.as_tensor(a) for a in means_by_hand(encoder(x).detach().numpy(), y, 4)]

    def logits(inputs: Tensor, weight: Tensor, mu: Tensor) -> Tensor:
        z = encoder(inputs)
        z = z / z.norm(dim=1, keepdim=True) - mu
        return z / z.norm(dim=1, keepdim=True) @ weight.T

    heads = []
    for cycle in range(2):
        heads.append(head())
        for batch in small.retain.batches(8, seeds.generator(SEED, "order", "recover", cycle)):  # type: ignore[union-attr]
            step.zero_grad()
            nn.functional.cross_entropy(logits(batch.inputs, *heads[-1]), batch.labels).backward()
            step.step()
    assert (heads[0][0] - heads[1][0]).abs().max() > 0.01
    equal_weights(result[0], encoder[0], small.model[0])  # type: ignore[index]
    weight, mu = head()
    torch.testing.assert_close(result[2].weight, weight, rtol=1e-4, atol=1e-6)  # type: ignore[index]
    torch.testing.assert_close(result[2].mean, mu, rtol=1e-4, atol=1e-6)  # type: ignore[index]
    torch.testing.assert_close(result(x), logits(x, weight, mu), rtol=1e-4, atol=1e-5)


def test_cmf_wraps_any_method_and_its_result_can_be_loaded_again(
    task: Task, tmp_path: object
) -> None:
    before = checkpoint.model_digest(task.model)
    for inner in (
        RandomLabel(epochs=1),
        DELETE(epochs=1),
        UNSIR(noise_steps=2, repeats=1, retain_per_class=20, repair_epochs=1),
    ):
        method = CMF(inner=inner)
        result = method(task)
        mine, theirs = result.state_dict(), task.model.state_dict()
        assert set(mine) - set(theirs) == {f"fc.{name}" for name in CMF.adds} and set(
            theirs
        ) <= set(mine)
        assert (
            isinstance(find_head(result)[1], ClassMeanHead)
            and checkpoint.model_digest(task.model) == before
        )
        assert {n for n, _ in result.named_parameters()} == {
            n for n in dict(task.model.named_parameters()) if "fc." not in n
        }
        checkpoint.save_checkpoint(result, f"{tmp_path}/{inner.name}.safetensors", {})
        again = method.adapt(task.model)
        checkpoint.load_into(
            again, checkpoint.load_checkpoint(f"{tmp_path}/{inner.name}.safetensors")
        )
        inputs = task.forget.inputs  # type: ignore[attr-defined]
        assert (
            torch.equal(again.eval()(inputs), result(inputs))
            and result(inputs).abs().max() <= 1 + 1e-5
        )
        assert inner.name != "unsir" or accuracy(task, result, task.retain) > 0.8  # type: ignore[arg-type]


class _Elsewhere(nn.Module):
    """A model that a method trains beside the student."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 4).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _TrainsElsewhere:
    name: ClassVar[str] = "trains_elsewhere"
    needs: ClassVar[tuple[str, ...]] = ("retain",)
    role: ClassVar[str] = "unlearned"

    def __call__(self, task: Task) -> nn.Module:
        other = _Elsewhere()
        phase = Phase(
            "other",
            (task.forget,),
            lambda part: cross_entropy(part.outputs.logits, part.batch.labels),
            Optimizer(),
        )
        before = other.head.weight.detach().clone()
        task.engine.fit(other, [phase], epochs=2, seed=0)
        assert not torch.equal(other.head.weight, before)
        return task.student()


def test_cmf_leaves_other_models_that_the_inner_method_trains_alone(small: Task) -> None:
    result = CMF(inner=_TrainsElsewhere())(small)
    assert {
        n for n in differing(result, CMF().adapt(small.model)) if not n.startswith("2.")
    } == set()


def test_cmf_is_spelled_with_its_inner_method() -> None:
    kinds: list[type] = [CMF, Finetune, RandomLabel]
    value = parse("cmf(inner=finetune(epochs=3), temperature=0.1)", kinds, "method")
    assert (
        value == CMF(inner=Finetune(epochs=3), temperature=0.1)
        and parse(spell(value), kinds, "method") == value
    )
    assert from_json(as_json(value), kinds, "method") == value and spell(CMF()) == "cmf()"
    for text, message in (
        ("cmf(inner=3)", "a method is needed"),
        ("cmf(inner=identity())", "identity is a control"),
    ):
        with pytest.raises(EigenforgetError, match=message):
            parse(text, [*kinds, Identity], "method")


# --------------------------------------------------------------------------------------------
# controls


def test_identity_is_the_original_bit_for_bit(task: Task) -> None:
    training = copy.deepcopy(task.model).train()
    result = Identity()(replace(task, model=training, retain=None))
    assert training.training and not differing(result, training) and result is not training
    assert (
        result is not task.model
        and not differing(result, task.model)
        and not any(m.training for m in result.modules())
    )
    assert not {p.data_ptr() for p in result.parameters()} & {
        p.data_ptr() for p in task.model.parameters()
    }


def test_collapse_ruins_the_model_and_stays_finite(task: Task) -> None:
    result = Collapse()(replace(task, retain=None))
    assert all(torch.isfinite(v).all() for v in result.state_dict().values())
    assert all(torch.isfinite(o.logits).all() for _, o in task.engine.forward(result, task.forget))
    assert accuracy(task, result, task.forget) <= 0.1 and accuracy(task, result, task.retain) < 0.3  # type: ignore[arg-type]


def test_collapse_is_clipped_ascent(small: Task) -> None:
    result = Collapse(steps=1, lr=0.5, momentum=0.0, clip=0.25, batch_size=10)(small)
    x, y = small.forget.inputs, small.forget.targets  # type: ignore[attr-defined]
    found = torch.autograd.grad(
        nn.functional.cross_entropy(small.model(x), y), list(small.model.parameters())
    )
    norm = math.sqrt(sum(float(g.square().sum()) for g in found))
    assert norm > 0.25
    for a, b, g in zip(result.parameters(), small.model.parameters(), found, strict=True):
        torch.testing.assert_close(a, b + 0.5 * 0.25 / norm * g, rtol=1e-4, atol=1e-6)
