"""resnet9 against the formula, from its weights alone."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from eigenforget.core.errors import EigenforgetError
from eigenforget.models import MODELS
from tests.models.test_residual import noise, randomise


def by_hand(state: dict[str, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    kernels = [tensor for name, tensor in state.items() if tensor.ndim == 4]
    norms = [name.removesuffix(".running_mean") for name in state if name.endswith("running_mean")]
    assert len(kernels) == len(norms) == 8

    def block(x: torch.Tensor, number: int, *, pool: bool = False) -> torch.Tensor:
        x = functional.conv2d(x, kernels[number], padding=1)
        x = functional.max_pool2d(x, 2) if pool else x
        mean, var, scale, shift = (
            state[f"{norms[number]}.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, var, scale, shift).relu()

    x = block(block(inputs, 0, pool=True), 1)
    x = block(x + block(block(x, 2), 3), 4, pool=True)
    x = block(x, 5, pool=True)
    x = x + block(block(x, 6), 7)
    return functional.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


def test_it_is_the_formula() -> None:
    model = MODELS.parse("resnet9(width=5)").build(num_classes=7, input_shape=(3, 24, 16), seed=0)
    model = randomise(model).eval()
    inputs = noise(2, 3, 24, 16)
    with torch.no_grad():
        expected = by_hand(model.state_dict(), inputs)
        torch.testing.assert_close(model(inputs), expected, rtol=1e-9, atol=1e-9)


def test_width_sets_channels_and_features() -> None:
    model = MODELS.parse("resnet9").build(num_classes=10, input_shape=(3, 32, 32), seed=0)
    kernels = [tuple(p.shape[:2]) for p in model.parameters() if p.ndim == 4]
    assert kernels == [
        (32, 3),
        (64, 32),
        (64, 64),
        (64, 64),
        (128, 64),
        (256, 128),
        (256, 256),
        (256, 256),
    ]
    assert model.fc.weight.shape == (10, 256)


def test_images_below_eight_pixels_are_refused() -> None:
    with pytest.raises(EigenforgetError, match="8×8 pixels, got 7×9"):
        MODELS.parse("resnet9").build(num_classes=10, input_shape=(3, 7, 9), seed=0)
    model = MODELS.parse("resnet9(width=1)").build(num_classes=10, input_shape=(3, 8, 8), seed=0)
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 10)
