"""`engram` against its own formula, written out again by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eigenforget.core.errors import Refused
from eigenforget.data.sources import TensorSource
from eigenforget.methods.base import Task
from eigenforget.methods.engram import Engram, layer_inputs
from tests.numerics.method_toys import close_weights, task_of


def inputs_of(source: Any) -> np.ndarray:
    return source.inputs.numpy()


def edited(weight: np.ndarray, forget: np.ndarray, every: np.ndarray, alpha: float) -> np.ndarray:
    """W − α W Σ_f Σ⁺ with the sums written as sums of outer products."""
    of_forget = sum(np.outer(x, x) for x in forget)
    total = sum(np.outer(x, x) for x in every)
    return weight - alpha * weight @ of_forget @ np.linalg.pinv(total)


def with_one(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, np.ones((len(rows), 1))], 1)


@pytest.mark.parametrize("bias", [True, False])
def test_engram_equals_the_formula_layer_by_layer(bias: bool, small: Task) -> None:
    result = Engram(alpha=0.7, bias=bias)(small)
    w1, b1, w2, b2 = (p.detach().numpy() for p in small.model.parameters())
    sides = [inputs_of(small.forget), inputs_of(small.retain)]
    layers = [(w1, b1, sides), (w2, b2, [np.tanh(x @ w1.T + b1) for x in sides])]
    found = list(result.parameters())
    for (weight, shift, (forget, retain)), (w, b) in zip(
        layers, (found[:2], found[2:]), strict=True
    ):
        every = np.concatenate([forget, retain])
        if bias:
            both = np.concatenate([weight, shift[:, None]], 1)
            new = edited(both, with_one(forget), with_one(every), 0.7)
            new, moved = new[:, :-1], new[:, -1]
        else:
            new, moved = edited(weight, forget, every, 0.7), shift
        np.testing.assert_allclose(w.detach().numpy(), new, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(b.detach().numpy(), moved, rtol=1e-8, atol=1e-10)


CONVOLUTIONS = [
    nn.Conv2d(4, 6, 3, stride=2, padding=1),
    nn.Conv2d(4, 6, (2, 3), dilation=(1, 2), padding="same"),
    nn.Conv2d(4, 6, 3, groups=2, padding=(0, 2), padding_mode="circular"),
    nn.Conv2d(4, 4, 3, groups=4, padding="valid", bias=False),
    nn.Conv1d(4, 6, 3, padding=1, padding_mode="reflect"),
    nn.Conv1d(4, 6, 4, stride=3, groups=2, dilation=2),
    nn.Linear(5, 3),
]


@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=repr)
@pytest.mark.parametrize("one", [True, False])
def test_a_layer_is_its_weights_times_what_we_take_for_its_inputs(layer: Any, one: bool) -> None:
    shape = (2, 3, 5) if isinstance(layer, nn.Linear) else (3, 4, *[9, 7][: layer.weight.ndim - 2])
    given = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if one and layer.bias is None:
        return
    rows = layer_inputs(layer, given, one=one)
    weight = layer.weight.reshape(rows.shape[0], -1, rows.shape[-1] - one)
    if one:
        weight = torch.cat([weight, layer.bias.reshape(rows.shape[0], -1, 1)], 2)
    out = (rows @ weight.mT).movedim(0, 1).flatten(1)  # [positions, outputs]
    expected = layer(given)
    if not one and layer.bias is not None:
        expected = expected - (
            layer.bias
            if isinstance(layer, nn.Linear)
            else layer.bias.view(-1, *[1] * (given.ndim - 2))
        )
    if not isinstance(layer, nn.Linear):
        expected = expected.movedim(1, -1)
    torch.testing.assert_close(out, expected.reshape(-1, out.shape[1]), rtol=1e-4, atol=1e-5)


def test_engram_takes_orthogonal_inputs_away_and_leaves_the_others() -> None:
    """A theorem: where no retain input has a part along the forget inputs, α = 1 is exact."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 3, bias=False)).double()
    x = torch.randn(40, 6, dtype=torch.float64)
    forget, retain = x[:10].clone(), x[10:].clone()
    forget[:, 2:], retain[:, :2] = 0, 0
    task = task_of(
        model,
        TensorSource(forget, torch.full((10,), 2)),
        TensorSource(retain, torch.arange(30) % 2),
    )
    result = Engram()(replace(task, num_classes=3))
    with torch.no_grad():
        assert result(forget).abs().max() < 1e-9
        torch.testing.assert_close(result(retain), model(retain))


def test_the_edit_of_several_classes_is_the_sum_of_their_edits(convolutions: Task) -> None:
    """Over ten classes at once by linearity: Σ_f of the union is the sum, Σ stays."""
    retain = convolutions.retain
    assert retain is not None
    inputs, labels = (
        torch.cat([getattr(s, name) for s in (convolutions.forget, retain)])
        for name in ("inputs", "targets")
    )

    def change(*classes: int) -> list[Tensor]:
        gone = torch.isin(labels, torch.tensor(classes))
        sides = [TensorSource(inputs[at], labels[at]) for at in (gone, ~gone)]
        task = replace(convolutions, forget=sides[0], retain=sides[1], forgotten_classes=classes)
        pairs = zip(Engram()(task).parameters(), task.model.parameters(), strict=True)
        return [(new - old).detach() for new, old in pairs]

    for both, one, two in zip(change(1, 2), change(1), change(2), strict=True):
        torch.testing.assert_close(both, one + two, rtol=1e-6, atol=1e-9)


def test_the_cutoff_drops_directions_that_the_inputs_hardly_have(small: Task) -> None:
    """A direction of weight 1e-5 in the inputs, 1e-10 in Σ: float64 inverts it, float32 does not."""
    thin = small.forget.inputs.clone()
    thin[:, 5] = 1e-5 * thin[:, 4].roll(1)
    kept = small.retain.inputs.clone()  # type: ignore[union-attr]
    kept[:, 5] = 1e-5 * kept[:, 4].roll(3)
    task = replace(
        small,
        forget=TensorSource(thin, small.forget.targets),
        retain=TensorSource(kept, small.retain.targets),  # type: ignore[union-attr]
    )
    sizes = {
        cutoff: float((Engram(cutoff=cutoff)(task)[0].weight - small.model[0].weight).abs().max())  # type: ignore[index]
        for cutoff in ("float32", "float64")
    }
    assert sizes["float64"] > 3 * sizes["float32"]


def test_frozen_layers_stay_and_samples_of_the_retain_set_stand_for_all(small: Task) -> None:
    small.model[0].weight.requires_grad_(False)  # type: ignore[index]
    result = Engram()(small)
    assert torch.equal(result[0].weight, small.model[0].weight)  # type: ignore[index]
    assert not torch.equal(result[2].weight, small.model[2].weight)  # type: ignore[index]
    close_weights(Engram(retain_samples=10**6)(small), result, 0.0)
    few = Engram(retain_samples=10)(small)
    assert 0 < float((few[2].weight - result[2].weight).abs().max()) < 1  # type: ignore[index]


def test_a_model_without_such_layers_is_refused(small: Task) -> None:
    frozen = small.student().requires_grad_(False)
    frozen.append(nn.LayerNorm(4, dtype=torch.float64))  # type: ignore[operator]
    with pytest.raises(Refused, match="engram needs linear or convolution layers"):
        Engram()(replace(small, model=frozen))
