"""Whether the original's weights are found wherever they are hidden, and nothing else is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from eigenforget.models.unchanged import unchanged_weights
from eigenforget.models.weights_by_content import found_by_content


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 4)
    )


class Holder(nn.Module):
    """A model that keeps another tensor beside it."""

    def __init__(self, live: nn.Module, kept: Tensor, *, as_buffer: bool = False) -> None:
        super().__init__()
        self.live = live
        if as_buffer:
            self.register_buffer("kept", kept)
        else:
            self.kept = nn.Parameter(kept)


def noisy(model: nn.Module, size: float) -> nn.Module:
    other = copy.deepcopy(model)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(size * torch.randn(p.shape, generator=g))
    return other


def scaled(model: nn.Sequential) -> nn.Module:
    """The hidden units have scales of their own, and the head another one."""
    other = copy.deepcopy(model)
    by = torch.linspace(0.5, 3, 24)[:, None]
    with torch.no_grad():
        other[2].weight.mul_(by)  # type: ignore[operator]
        other[4].weight.div_(-2.0)  # type: ignore[operator]
    return other


def flattened(model: nn.Module) -> Tensor:
    return torch.cat([torch.randn(77), *(p.detach().flatten() for p in model.parameters())])


def test_the_original_is_found_by_content() -> None:
    before, fresh = network(), network(7)
    for after, expected in (
        (copy.deepcopy(before), 1.0),
        (noisy(before, 1e-6), 1.0),
        (nn.ModuleDict({"other": nn.ModuleDict({"name": copy.deepcopy(before)})}), 1.0),
        (scaled(before), 0.96),  # not the bias of the scaled units, a run of which has many scales
        (copy.deepcopy(before).half(), 1.0),
        (nn.ModuleList([fresh, copy.deepcopy(before)]), 1.0),
        (Holder(network(7), flattened(before), as_buffer=True), 1.0),
        (Holder(network(7), -0.3 * flattened(before)), 1.0),
        (fresh, 0.0),
        (noisy(before, 1e-2), 0.0),
        (nn.ModuleList([network(7), network(8)]), 0.0),
    ):
        assert found_by_content(before, after=after) == pytest.approx(expected, abs=0.05), after


def test_a_layer_inside_a_larger_tensor_is_found() -> None:
    before = network()
    inside = torch.randn(40, 60)
    inside[5:37, 30:50] = before[0].weight.detach()  # type: ignore[operator]
    part = found_by_content(before, after=Holder(network(7), inside))
    assert part is not None and 0.1 < part < 0.5


def test_further_numbers_are_counted_and_shared_ones_once() -> None:
    before = network()
    two = nn.ModuleList([before, copy.deepcopy(before)])
    assert unchanged_weights(before, after=two)["unchanged_weights"] == {
        "share": 0.0,
        "buffers": None,
        "by_content": 1.0,
        "more": 1.0,
    }
    twice = nn.ModuleList([before, before])
    assert unchanged_weights(before, after=twice)["unchanged_weights"]["more"] == 0
    assert unchanged_weights(before, after=before[0])["unchanged_weights"]["more"] == 0
    assert unchanged_weights(copy.deepcopy(before).requires_grad_(False), after=before) == {}
    assert found_by_content(nn.Linear(3, 2), after=nn.Linear(3, 2)) is None, "too small to tell"
