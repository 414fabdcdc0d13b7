"""MODELS: the classifiers by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from eigenforget.core.registry import Registry, from_function
from eigenforget.models.all_cnn import AllCnn
from eigenforget.models.building import initial_weights
from eigenforget.models.huggingface import HuggingFace
from eigenforget.models.mlp import Mlp
from eigenforget.models.module import Module
from eigenforget.models.resnet9 import Resnet9
from eigenforget.models.resnet18 import Resnet18
from eigenforget.models.small_resnet import SmallResnet
from eigenforget.models.text import TextMlp, TextTransformer
from eigenforget.models.timm_model import Timm
from eigenforget.models.torchvision_model import Torchvision
from eigenforget.models.vit_tiny import VitTiny


def _of_function(function: Callable[..., nn.Module]) -> type:
    """A model whose build() calls function(num_classes, input_shape, seed, *, fields)."""

    @functools.wraps(function)
    def build(
        num_classes: int, input_shape: tuple[int, ...], seed: int, **fields: Any
    ) -> nn.Module:
        with initial_weights(seed):
            return function(num_classes, input_shape, seed, **fields)

    return from_function(build, call="build", given=("num_classes", "input_shape", "seed"))


MODELS: Registry[type] = Registry(
    "model",
    "eigenforget.models",
    [
        Mlp,
        SmallResnet,
        Resnet9,
        Resnet18,
        AllCnn,
        VitTiny,
        TextMlp,
        TextTransformer,
        Module,
        Torchvision,
        Timm,
        HuggingFace,
    ],
    requires=("name", "build"),
    wrap=_of_function,
)
