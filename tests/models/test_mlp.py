"""The multilayer perceptron against its formula."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from eigenforget.core import spec
from eigenforget.models import MODELS


def build(
    text: str, *, classes: int = 10, shape: tuple[int, ...] = (3, 32, 32), seed: int = 0
) -> nn.Module:
    return spec.parse(text, MODELS, "model").build(
        num_classes=classes, input_shape=shape, seed=seed
    )


def randomise(model: nn.Module) -> nn.Module:
    """float64, every parameter and running statistic away from its initial 0 or 1."""
    generator = torch.Generator().manual_seed(5)
    model = model.double()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.copy_(noise.abs() + 0.5 if "running_var" in name else tensor + 0.1 * noise)
    return model


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def test_mlp_is_the_numpy_formula():
    model = randomise(build("mlp(hidden=(6, 5))", classes=3, shape=(2, 2, 2)))
    inputs = noise(4, 2, 2, 2)
    (a, b), (c, d), (e, f) = [
        (m.weight.detach().numpy(), m.bias.detach().numpy())
        for m in model
        if isinstance(m, nn.Linear)
    ]
    hidden = np.maximum(np.maximum(inputs.numpy().reshape(4, 8) @ a.T + b, 0) @ c.T + d, 0)
    np.testing.assert_allclose(model(inputs).detach().numpy(), hidden @ e.T + f, rtol=1e-12)
