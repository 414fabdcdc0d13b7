"""`rum` against its own formula, written out again by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.core.spec import parse, spell
from eigenforget.data.sources import JoinedSource
from eigenforget.methods import METHODS, RUM, Finetune, GradientAscent, HeadMask, RandomLabel
from eigenforget.methods.base import Task
from eigenforget.methods.rum import symmetric_divergence
from eigenforget.models import checkpoint
from tests.numerics.method_toys import logits_by_hand, source


def by_loss(task: Task) -> np.ndarray:
    logits = np.stack([logits_by_hand(task.model, x) for x in task.forget.inputs.numpy()])  # type: ignore[attr-defined]
    return -log_softmax(logits, axis=1)[np.arange(len(logits)), task.forget.labels()]


def test_parts_are_unlearned_one_after_the_other_from_the_least_memorised(shallow: Task) -> None:
    low, medium, high = (
        GradientAscent(epochs=1, lr=0.01),
        Finetune(epochs=1, lr=0.02),
        RandomLabel(epochs=1, lr=0.03),
    )
    task = replace(shallow, forgotten_classes=())
    result = RUM(low=low, medium=medium, high=high)(task)
    order = np.argsort(by_loss(task))
    parts = [order[:4], order[4:7], order[7:]]
    subsets = [task.forget.subset(np.sort(rows)) for rows in parts]
    raw = [task.forget.subset(rows) for rows in parts]
    assert task.retain is not None
    model = task.model
    for number, method in enumerate((low, medium, high)):
        later = raw[number + 1 :]
        retain = JoinedSource((task.retain, *later)) if later else task.retain
        model = method(replace(task, model=model, forget=subsets[number], retain=retain))
    assert checkpoint.model_digest(result) == checkpoint.model_digest(model)


def test_none_leaves_a_part_alone(shallow: Task) -> None:
    method = RandomLabel(epochs=1, lr=0.03)
    task = replace(shallow, forgotten_classes=())
    result = RUM(medium=None, high=method)(task)
    rows = np.sort(np.argsort(by_loss(task))[7:])
    alone = method(replace(task, forget=task.forget.subset(rows)))
    assert checkpoint.model_digest(result) == checkpoint.model_digest(alone)
    with pytest.raises(EigenforgetError, match="nothing would be unlearned"):
        RUM(medium=None, high=None)
    with pytest.raises(EigenforgetError, match="rum: low"):
        RUM(low=HeadMask())


def test_the_divergence_is_symmetric() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(5, 4, generator=g, dtype=torch.float64) for _ in range(2))
    p, q = softmax(a.numpy(), 1), softmax(b.numpy(), 1)
    expected = ((p - q) * (np.log(p) - np.log(q))).sum(1) / 2
    np.testing.assert_allclose(symmetric_divergence(a, b), expected, rtol=1e-12)
    np.testing.assert_allclose(symmetric_divergence(b, a), expected, rtol=1e-12)


def test_heldout_takes_what_a_copy_loses_on_unseen_samples(shallow: Task) -> None:
    method = RUM(proxy="heldout", heldout_epochs=2, heldout_lr=0.05)
    unseen = source(20, (0, 1, 2, 3), 7)
    found = method.memorisation(replace(shallow, unseen=unseen))
    tuned = Finetune(epochs=2, lr=0.05, nesterov=False, schedule="constant")
    copy = tuned(replace(shallow, retain=unseen))
    # Finetune orders its batches by another name; one batch holds all 20 samples either way.
    rows = shallow.forget.inputs.numpy()  # type: ignore[attr-defined]
    p, q = (
        softmax(np.stack([logits_by_hand(model, x) for x in rows]), axis=1)
        for model in (shallow.model, copy)
    )
    expected = ((p - q) * (np.log(p) - np.log(q))).sum(1) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-9)
    with pytest.raises(Refused, match=r"rum needs samples that the model never saw: --unseen 0\.1"):
        method(shallow)


def test_log_rows_and_spec_are_those_of_its_parts() -> None:
    text = "rum(low=finetune(epochs=2), medium=None, proxy='heldout')"
    method = METHODS.parse(text)
    assert method.log_rows == 5 + 2 + method.high.log_rows
    assert parse(spell(method), METHODS, "method") == method
