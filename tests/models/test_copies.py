"""Copies of modules that hold more than parameters."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.models.checkpoint import model_digest
from eigenforget.models.copies import (
    cut_graphs,
    dense_gradients,
    duplicated,
    is_changed_by_use,
    keeps_graphs,
    unchanged_by_passes,
    uncut,
)
from tests.models.module_toys import (
    INPUTS,
    Embedded,
    Locked,
    Remembering,
    net,
    of_inference_mode,
    pruned,
    spectral_normed,
    weight_normed,
)

HOLDING = pytest.mark.parametrize("make", [pruned, weight_normed, spectral_normed, Remembering])


@HOLDING
def test_what_hangs_on_a_graph_is_cut_in_copies_and_after_each_pass(make: Any) -> None:
    model = make().eval()
    outputs = model(INPUTS)
    assert keeps_graphs(model) and is_changed_by_use(model)
    made = cut_graphs(duplicated(model))
    assert model_digest(made) == model_digest(model) and keeps_graphs(model)
    trained = made(INPUTS)
    trained.sum().backward()
    assert torch.equal(trained, outputs) and not keeps_graphs(made)
    assert any(p.grad is not None for p in made.parameters())
    other = copy.deepcopy(made)
    uncut(other)
    assert not any(m._forward_hooks for m in other.modules())
    assert torch.equal(other(INPUTS), outputs) and keeps_graphs(other)


@HOLDING
def test_a_pass_leaves_no_trace(make: Any) -> None:
    model = make().train()
    model[0].eval() if isinstance(model, nn.Sequential) else model.net.eval()
    before = [dict(vars(m)) for m in model.modules()]
    inner = dict(getattr(model, "seen", {}))
    with unchanged_by_passes(model):
        model.eval()(INPUTS)
    after = [vars(m) for m in model.modules()]
    for was, now in zip(before, after, strict=True):
        assert list(was) == list(now) and all(now[key] is value for key, value in was.items())
    assert getattr(model, "seen", {}) == inner


def test_sparse_gradients_become_dense() -> None:
    model = Embedded(sparse=True)
    assert is_changed_by_use(model) and dense_gradients(model) == ("signs",)
    model(INPUTS).sum().backward()
    assert model.signs.weight.grad is not None and not model.signs.weight.grad.is_sparse
    assert dense_gradients(model) == () and not is_changed_by_use(model)


def test_what_use_would_change_or_break() -> None:
    compiled = net()
    compiled.compile(backend="eager")
    for model in (compiled, of_inference_mode(), Embedded(max_norm=0.1)):
        assert is_changed_by_use(model)
    made = duplicated(of_inference_mode())
    assert not any(torch.is_inference(p) for p in made.parameters())
    assert duplicated(compiled)._compiled_call_impl is None


def test_what_cannot_be_copied_is_one_line() -> None:
    with pytest.raises(EigenforgetError, match=r"^the model cannot be copied: .*lock"):
        duplicated(Locked())
