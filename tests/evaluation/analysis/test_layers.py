"""Layers that are found where none is named."""

from __future__ import annotations

import torch
from torch import nn

from eigenforget.evaluation.analysis import earlier_layers
from eigenforget.models.vit_tiny import VitTiny
from tests import toys


def test_layers_are_found_where_none_is_named() -> None:
    images = toys.TensorSource(torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 3]))
    vit = VitTiny(dim=16, depth=5, heads=2, patch=4).build(
        num_classes=4, input_shape=(1, 8, 8), seed=0
    )
    assert earlier_layers(vit, images, engine=toys.ENGINE) == ("blocks.0", "blocks.2", "blocks.4")
    assert earlier_layers(toys.net(), toys.source([0, 1]), engine=toys.ENGINE) == ("0", "2")
    assert earlier_layers(toys.net(), toys.source([0, 1]), engine=toys.ENGINE, layer="2") == ("0",)
    assert (
        earlier_layers(nn.Sequential(nn.Linear(8, 4)), toys.source([0, 1]), engine=toys.ENGINE)
        == ()
    )
