"""A multilayer perceptron on flattened inputs."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Annotated, ClassVar

from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.fields import LayerWidth
from eigenforget.core.spec import configured
from eigenforget.models.building import check_classes, initial_weights


@configured
class Mlp:
    """Linear layers with ReLU between them. Feature width: hidden[-1].

    hidden=() is multinomial logistic regression.
    """

    name: ClassVar[str] = "mlp"
    hidden: Annotated[tuple[LayerWidth, ...], "widths of the hidden layers, a tuple: (128,)"] = (
        256,
        128,
    )

    def build(self, num_classes: int, input_shape: tuple[int, ...], *, seed: int) -> nn.Sequential:
        """A model from inputs [B, *input_shape] to logits [B, num_classes]."""
        check_classes(self.name, num_classes)
        if not input_shape or min(input_shape) < 1:
            raise EigenforgetError(
                f"mlp needs inputs that are not empty, got shape {tuple(input_shape)}"
            )
        layers: list[nn.Module] = [nn.Flatten()]
        with initial_weights(seed):
            for before, after in pairwise((prod(input_shape), *self.hidden)):
                layers += [nn.Linear(before, after), nn.ReLU()]
            layers.append(
                nn.Linear(self.hidden[-1] if self.hidden else prod(input_shape), num_classes)
            )
        return nn.Sequential(*layers)
