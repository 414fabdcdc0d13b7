"""What moves weights in a step: Lightning Fabric's wrappers, or plain torch where these do nothing.

In 32-true on one device Fabric's wrappers only look at what passes through them. For a network of
64 units that is a fifth of the time of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn
from torch.optim import Optimizer

if TYPE_CHECKING:  # it takes as long to load as torch
    from lightning_fabric import Fabric


class Updater(NamedTuple):
    """A model and its optimizers, ready for steps.

    Attributes:
        called: What is called in the model's place.
        optimizers: The optimizers, in order.
        backward: Takes the loss of a batch.
        unscale: Makes the gradients of an optimizer true ones; those of float16 are scaled up.
    """

    called: nn.Module
    optimizers: Sequence[Optimizer]
    backward: Callable[[Tensor], None]
    unscale: Callable[[Optimizer], None]


def set_up(fabric: Fabric, called: nn.Module, optimizers: Sequence[Optimizer]) -> Updater:
    """The model and its optimizers on the device of a Fabric of one device.

    Args:
        fabric: Where and in which precision to compute.
        called: The model, on this device, or its compiled form.
        optimizers: The optimizers over its parameters.
    """
    from lightning_fabric.plugins.precision import Precision
    from lightning_fabric.strategies.single_device import SingleDeviceStrategy

    precision = fabric.strategy.precision
    if type(precision) is Precision and type(fabric.strategy) is SingleDeviceStrategy:
        return Updater(called, optimizers, Tensor.backward, lambda _: None)
    wrapped, *ready = fabric.setup(called, *optimizers)
    return Updater(
        wrapped,
        ready,
        fabric.backward,
        lambda optimizer: precision.unscale_gradients(optimizer.optimizer),  # type: ignore[attr-defined]
    )
