"""`boundary_expand` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.methods.base import Task
from eigenforget.methods.boundary_expand import BoundaryExpand, _with_shadow
from eigenforget.methods.cmf import CMF
from tests.numerics.method_toys import SEED, equal_weights, trained_by_hand


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
