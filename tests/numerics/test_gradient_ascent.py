"""`gradient_ascent` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
from dataclasses import replace

from eigenforget.core import seeds
from eigenforget.methods.base import Task
from eigenforget.methods.gradient_ascent import GradientAscent
from tests.numerics.method_toys import Sgd, ce, changed, equal_states


def test_gradient_ascent_climbs_the_forget_loss(shallow: Task) -> None:
    method = GradientAscent(
        epochs=2, steps_per_epoch=3, batch_size=5, lr=0.05, clip=0.3, weight_decay=0.01
    )
    hand = copy.deepcopy(shallow.model)
    sgd = Sgd(hand)
    for cycle in range(2):
        order = seeds.generator(3, "order", "forget", cycle)
        passes = [*shallow.forget.batches(5, order), *shallow.forget.batches(5, order)]
        for batch in passes[:3]:
            sgd.step(-ce(hand, batch), lr=0.05, decay=0.01, clip=0.3)
    result = method(replace(shallow, retain=None))
    equal_states(result, hand, shallow.model)
    whole = next(iter(shallow.forget.batches(10)))
    assert ce(result, whole) > ce(shallow.model, whole)


def test_gradient_ascent_with_frozen_norms_keeps_statistics(convolutions: Task) -> None:
    moved = changed(GradientAscent(norm="train")(convolutions), convolutions.model)
    kept = changed(GradientAscent(norm="frozen")(convolutions), convolutions.model)
    assert {"1.running_mean", "1.num_batches_tracked"} <= moved
    assert not any("running" in name or "tracked" in name for name in kept) and "0.weight" in kept
