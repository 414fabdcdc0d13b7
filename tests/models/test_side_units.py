"""Units beside the layers of a model."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from eigenforget.core.errors import Refused
from eigenforget.models.side_units import Masks, SideUnits, inner_layers


def units_of(model: nn.Module, capacity: float = 1.0) -> SideUnits:
    return SideUnits(model, capacity=capacity, seed=0, method="toy")


def test_units_add_a_masked_hidden_layer_to_a_convolution() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 4, 3, stride=2, padding=1, dilation=1)
    model = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)).double()
    side, x = units_of(model, 1.5), torch.randn(5, 2, 6, 6, dtype=torch.float64)
    assert side.names == ["0"] and side.sizes == [6]
    mask = torch.rand(5, 6) < 0.5
    with side.beside(model, mask):
        found = model(x)
    (a, a0), (b,) = (list(m[0].parameters()) for m in (side.into, side.back))
    hidden = conv2d(x, a, a0, stride=2, padding=1).relu() * mask[:, :, None, None]
    wide = layer(x) + torch.einsum("ok,bkhw->bohw", b[:, :, 0, 0], hidden)
    torch.testing.assert_close(found, model[3](wide.relu().flatten(1)))
    torch.testing.assert_close(model(x), model[3](layer(x).relu().flatten(1)), rtol=0, atol=0)


def test_a_mask_covers_all_places_of_a_sample() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Flatten(), nn.Linear(12, 2))
    side, x = units_of(model), torch.randn(5, 4, 2)
    mask = torch.zeros(5, 3, dtype=torch.bool)
    mask[0] = True
    with side.beside(model, mask):
        found = model(x)
    plain = model(x)
    assert not torch.equal(found[0], plain[0]) and torch.equal(found[1:], plain[1:])


def test_rows_that_are_no_samples_are_refused() -> None:
    model = nn.Sequential(nn.Flatten(0, 1), nn.Linear(2, 3), nn.Unflatten(0, (5, 4)))
    model.append(nn.Flatten()).append(nn.Linear(12, 2))
    side = units_of(model)
    with side.beside(model, torch.ones(5, 3, dtype=torch.bool)), pytest.raises(Refused, match="20"):
        model(torch.randn(5, 4, 2))


def test_the_head_has_no_units() -> None:
    assert list(inner_layers(nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 3, 1)))) == ["0"]
    assert not inner_layers(nn.Linear(2, 3))


def test_masks_are_shared_by_the_first_samples_and_drawn_for_each_other() -> None:
    masks = Masks(50, shared=7, others=2000, share=0.2, seed=3)
    first, others = masks.of(torch.arange(7)), masks.of(torch.arange(7, 2007))
    assert (first == first[0]).all() and len(others.unique(dim=0)) == 2000
    # 100,000 draws: the standard deviation of their mean is 0.0013.
    assert abs(others.double().mean() - 0.2) < 0.006
    assert torch.equal(masks.of(torch.tensor([2006, 3])), torch.stack([others[-1], first[0]]))
