"""`scrub` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.data.sources import Source
from eigenforget.methods.base import Task
from eigenforget.methods.scrub import SCRUB, _hold_out
from eigenforget.models import checkpoint
from tests.numerics.method_toys import (
    Sgd,
    batches,
    ce,
    changed,
    equal_states,
    kl,
    source,
    task_of,
    watched,
)


@pytest.fixture
def fitted() -> Task:
    """The same model, trained until it classifies all 30 forget and 30 retained samples."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    task, sgd = task_of(model, source(30, (2,), 1), source(30, (0, 1, 3), 2)), Sgd(model)
    inputs, labels = (
        torch.cat([getattr(s, name) for s in (task.forget, task.retain)])
        for name in ("inputs", "targets")
    )
    for _ in range(150):
        sgd.step(nn.functional.cross_entropy(model(inputs), labels), lr=0.1)
    return task


SCRUB_SETTINGS: dict[str, Any] = {
    "alpha": 0.4,
    "gamma": 0.8,
    "temperature": 2.0,
    "lr": 0.05,
    "batch_size": 8,
    "forget_batch_size": 5,
    "clip": 0.7,
    "weight_decay": 0.01,
    "schedule": "constant",
}


def scrub_by_hand(
    task: Task,
    epochs: int,
    msteps: int,
    schedule: str,
    *,
    alone_lr: float = 0.05,
    one: bool = False,
) -> nn.Module:
    hand, teacher, t = copy.deepcopy(task.model), task.model, 2.0

    def divergence(x: Tensor) -> Tensor:
        return t * t * kl(torch.softmax(teacher(x).detach() / t, 1), hand(x) / t)

    def obey(batch: Any) -> Tensor:
        return 0.4 * divergence(batch.inputs) + 0.8 * ce(hand, batch)

    up, down, alone = Sgd(hand), Sgd(hand), Sgd(hand)
    if one:
        down = up
    for cycle in range(msteps):
        for batch in batches(task.forget, 5, "forget", cycle):
            up.step(-divergence(batch.inputs), lr=0.05, decay=0.01, clip=0.7)
        for batch in batches(task.retain, 8, "recover", cycle):
            down.step(obey(batch), lr=0.05, decay=0.01, clip=0.7)
    done, steps = 0, (epochs - msteps) * 4
    for cycle in range(epochs - msteps):
        for batch in batches(
            task.retain, 8, "recover", cycle, seeds.derive(3, "scrub", "min epochs alone")
        ):
            factor = 0.5 * (1 + math.cos(math.pi * done / steps)) if schedule == "cosine" else 1.0
            alone.step(obey(batch), lr=alone_lr * factor, decay=0.01, clip=0.7)
            done += 1
    return hand


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_scrub_takes_max_and_min_steps_and_then_min_steps_alone(
    schedule: str, shallow: Task
) -> None:
    """Against the algorithm written out: a max and a min epoch, twice, and one more min epoch; in
    this order in the log.
    """
    rows: list[Any] = []
    seen = watched(replace(shallow, log=rows.append))
    result = SCRUB(epochs=3, msteps=2, **{**SCRUB_SETTINGS, "schedule": schedule})(seen)
    equal_states(result, scrub_by_hand(shallow, 3, 2, schedule), shallow.model)
    order = [(row["epoch"], row["phase"]) for row in rows]
    assert order == [(0, "forget"), (0, "recover"), (1, "forget"), (1, "recover"), (2, "recover")]
    (teacher,) = seen.__dict__["lent"]
    assert checkpoint.model_digest(teacher) == checkpoint.model_digest(shallow.model), (
        "the teacher never moves"
    )
    assert changed(result, shallow.model) == set(shallow.model.state_dict()), "the student does"


def test_scrub_may_share_one_momentum_and_slow_down_at_the_end(shallow: Task) -> None:
    method = SCRUB(epochs=3, msteps=2, one_optimizer=True, alone_lr=0.005, **SCRUB_SETTINGS)
    hand = scrub_by_hand(shallow, 3, 2, "constant", alone_lr=0.005, one=True)
    equal_states(method(shallow), hand, shallow.model)


def test_scrub_max_steps_part_student_and_teacher_on_the_forget_data_only(fitted: Task) -> None:
    result = SCRUB(epochs=5, msteps=3, **SCRUB_SETTINGS)(fitted)
    with torch.no_grad():
        parts = [
            (s.inputs, torch.softmax(fitted.model(s.inputs), 1))
            for s in (fitted.forget, fitted.retain)
        ]  # type: ignore[union-attr]
        apart, together = (float(kl(target, result(x))) for x, target in parts)
    assert apart > 3 * together


REWIND: dict[str, Any] = {
    **SCRUB_SETTINGS,
    "gamma": 1.0,
    "alpha": 0.5,
    "clip": 0.0,
    "forget_batch_size": 15,
}


def test_scrub_rewinds_to_the_latest_epoch_nearest_to_the_reference(fitted: Task) -> None:
    """With a constant schedule, the state after epoch e of a run is the end of a run of e
    epochs.
    """
    ends = [SCRUB(epochs=e, msteps=min(e, 3), **REWIND)(fitted) for e in range(1, 7)]
    errors = [forget_error(model, fitted.forget) for model in ends]
    assert 2 < len(set(errors)) < 6, f"the test needs several errors and a tie, got {errors}"
    for target in (*errors, 0.05, 1.0):
        result = SCRUB(epochs=6, msteps=3, rewind=True, target_error=target, **REWIND)(fitted)
        gaps = [abs(e - target) for e in errors]
        latest = max(i for i, gap in enumerate(gaps) if gap == min(gaps))
        assert checkpoint.model_digest(result) == checkpoint.model_digest(ends[latest])
        assert not result.training


def test_scrub_never_rewinds_to_the_original(fitted: Task) -> None:
    """The original has the reference error exactly, every state after an epoch is further away: the
    first one is returned.
    """
    settings = {**REWIND, "lr": 0.2, "forget_batch_size": 5}
    first = SCRUB(epochs=1, msteps=1, **settings)(fitted)
    assert forget_error(fitted.model, fitted.forget) == 0 < forget_error(first, fitted.forget)
    result = SCRUB(epochs=3, msteps=3, rewind=True, target_error=0.0, **settings)(fitted)
    assert checkpoint.model_digest(result) == checkpoint.model_digest(first)


def forget_error(model: nn.Module, data: Source) -> float:
    batch = next(iter(data.batches(len(data))))
    with torch.no_grad():
        return sum(
            int(model(x[None]).argmax()) != int(y)
            for x, y in zip(batch.inputs, batch.labels, strict=True)
        ) / len(data)


def test_scrub_measures_its_reference_on_retained_samples_like_the_forget_data(
    fitted: Task,
) -> None:
    forget, retain = source(12, (0, 0, 1), 5), source(60, (0, 1, 3), 6)
    task = replace(fitted, forget=forget, retain=retain, forgotten_classes=())
    rest, held = _hold_out(retain, task, 0.25)
    labels = held.source.labels()
    assert np.bincount(labels, minlength=4).tolist() == [5, 5, 0, 0]
    assert [held.weights[labels == c].sum() for c in (0, 1)] == pytest.approx([8 / 12, 4 / 12])
    joined = torch.cat([rest.inputs, held.source.inputs])  # type: ignore[attr-defined]
    assert len(joined) == 60 and len({tuple(row.tolist()) for row in joined}) == 60, (
        "held-out samples are kept out"
    )
    final = SCRUB(epochs=6, msteps=3, **REWIND)(replace(task, retain=rest))
    with torch.no_grad():
        wrong = final(held.source.inputs).argmax(1) != held.source.targets  # type: ignore[attr-defined]
    reference = sum(
        share * float(wrong[labels == c].double().mean()) for c, share in ((0, 8 / 12), (1, 4 / 12))
    )
    given = SCRUB(epochs=6, msteps=3, rewind=True, target_error=reference, **REWIND)(
        replace(task, retain=rest)
    )
    measured = SCRUB(epochs=6, msteps=3, rewind=True, held_out=0.25, **REWIND)(task)
    assert 0 < reference < 1 and checkpoint.model_digest(given) != checkpoint.model_digest(final), (
        "the test needs a rewind that matters"
    )
    assert checkpoint.model_digest(measured) == checkpoint.model_digest(given)


def test_scrub_measures_its_reference_on_unseen_samples_weighted_as_the_forget_set(
    fitted: Task,
) -> None:
    """The retain set is left whole; each class counts as much as in the forget set."""
    forget, unseen = source(12, (0, 0, 1), 7), source(20, (0, 1, 2, 3), 8)
    task = replace(fitted, forget=forget, unseen=unseen)
    final = SCRUB(epochs=6, msteps=3, **REWIND)(task)
    with torch.no_grad():
        wrong = (final(unseen.inputs).argmax(1) != unseen.targets).double()  # type: ignore[attr-defined]
    labels = unseen.labels()
    reference = sum(
        share * float(wrong[labels == c].mean()) for c, share in ((0, 8 / 12), (1, 4 / 12))
    )
    given, measured = (
        SCRUB(epochs=6, msteps=3, rewind=True, target_error=error, **REWIND)(task)
        for error in (reference, None)
    )
    assert checkpoint.model_digest(given) != checkpoint.model_digest(final), (
        "the test needs a rewind that matters"
    )
    assert checkpoint.model_digest(measured) == checkpoint.model_digest(given)
    with pytest.raises(Refused, match=r"class 0 has 0 unseen samples and 1 are needed"):
        SCRUB(rewind=True)(replace(task, unseen=source(20, (1, 2, 3), 6)))


def test_scrub_refuses_what_it_cannot_do(shallow: Task) -> None:
    with pytest.raises(
        Refused, match=r"class 2 has 0 retain samples.*unseen samples.*or target_error"
    ):
        SCRUB(rewind=True)(shallow)
    with pytest.raises(ValueError, match="msteps=4 must not exceed epochs=3"):
        SCRUB(epochs=3, msteps=4)
