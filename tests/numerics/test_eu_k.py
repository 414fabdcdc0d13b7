"""`eu_k` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from eigenforget.core import seeds
from eigenforget.methods.base import Task
from eigenforget.methods.eu_k import EUk
from eigenforget.models import checkpoint
from tests.numerics.method_toys import TAIL_SETTINGS, Forbidden, changed, equal_states, tail_by_hand


def test_eu_k_retrains_the_last_layers_from_new_weights(convolutions: Task) -> None:
    result, start = (
        EUk(k=2, **TAIL_SETTINGS)(replace(convolutions, forget=Forbidden())),
        copy.deepcopy(convolutions.model),
    )
    torch.manual_seed(seeds.derive(3, "eu_k"))
    for index in (7, 4, 3):
        start[index].reset_parameters()  # type: ignore[index]
    assert start[4].running_mean.abs().max() == 0 and start[4].num_batches_tracked == 0  # type: ignore[index]
    equal_states(result, tail_by_hand(convolutions, start), start)
    assert changed(result, convolutions.model) == {
        name for name in result.state_dict() if int(name[0]) >= 3
    }


def test_eu_k_owes_nothing_to_the_layers_it_retrains(convolutions: Task) -> None:
    other = copy.deepcopy(convolutions.model)
    with torch.no_grad():
        for name, tensor in other.state_dict().items():
            if int(name[0]) >= 3:
                tensor.fill_(7)
    method = EUk(k=2, **TAIL_SETTINGS)
    assert checkpoint.model_digest(
        method(replace(convolutions, model=other))
    ) == checkpoint.model_digest(method(convolutions))


def test_eu_k_trains_while_cf_k_keeps_what_the_frozen_layers_know(task: Task) -> None:
    """On digits: retraining the last layers forgets the class's outputs, and the retained classes
    stay.
    """
    result = EUk()(task)
    with torch.no_grad():
        hits = [
            (result(s.inputs).argmax(1) == s.targets).double().mean().item()
            for s in (task.forget, task.retain)
        ]  # type: ignore[union-attr]
    assert hits[0] < 0.05 and hits[1] > 0.97
