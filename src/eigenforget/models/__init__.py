"""Classifiers by name: each spec's build(num_classes, input_shape, seed) gives a module whose last layer is one
nn.Linear head.

Adding one is a file and a line in MODELS.
"""

from __future__ import annotations

from eigenforget.models.mlp import Mlp
from eigenforget.models.resnet18 import Resnet18
from eigenforget.models.small_resnet import SmallResnet
from eigenforget.models.vit_tiny import VitTiny

MODELS: list[type] = [Mlp, SmallResnet, Resnet18, VitTiny]

__all__ = ["MODELS"]
