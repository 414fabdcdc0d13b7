"""`l1_sparse` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from eigenforget.methods.base import Task
from eigenforget.methods.l1_sparse import L1Sparse
from tests.numerics.method_toys import Forbidden, Sgd, batches, ce, equal_states


def test_l1_sparse_adds_a_penalty_that_falls_linearly(shallow: Task) -> None:
    method = L1Sparse(
        epochs=4,
        plain_epochs=1,
        gamma=0.06,
        batch_size=8,
        lr=0.05,
        schedule="constant",
        weight_decay=0.01,
    )
    hand = copy.deepcopy(shallow.model)
    sgd = Sgd(hand)
    for cycle, gamma in enumerate([0.06, 0.04, 0.02, 0.0]):
        assert method.weight(cycle) == pytest.approx(gamma)
        for batch in batches(shallow.retain, 8, "recover", cycle):
            size = sum(w.abs() for p in hand.parameters() for w in p.flatten())
            sgd.step(ce(hand, batch) + gamma * size, lr=0.05, decay=0.01)  # type: ignore[arg-type]
    equal_states(method(replace(shallow, forget=Forbidden())), hand, shallow.model)


def test_l1_sparse_schedules() -> None:
    total, gamma = 5, 3e-4
    doubled = L1Sparse(epochs=total, gamma=2 * gamma)
    assert [doubled.weight(t) for t in range(total)] == pytest.approx(
        [(2 - 2 * t / total) * gamma for t in range(total)]
    )
    constant = L1Sparse(epochs=3, plain_epochs=1, gamma=0.5, penalty="constant")
    assert [constant.weight(t) for t in range(3)] == [0.5, 0.5, 0.0]
    with pytest.raises(ValueError, match="plain_epochs=2 must be below epochs=2"):
        L1Sparse(epochs=2, plain_epochs=2)


def test_l1_sparse_makes_weights_small(shallow: Task) -> None:
    norms = [
        sum(
            p.abs().sum().item()
            for p in L1Sparse(gamma=gamma, penalty="constant", batch_size=8)(shallow).parameters()
        )
        for gamma in (0.0, 0.2)
    ]
    assert norms[1] < 0.6 * norms[0]
