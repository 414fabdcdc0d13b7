"""All-CNN against the published table of layers, from its weights alone."""

from __future__ import annotations

import torch
from torch.nn import functional

from eigenforget.models import MODELS
from tests.models.test_residual import noise, randomise

LAYERS = [
    (96, 3, 1),
    (96, 3, 1),
    (192, 3, 2),
    *[(192, 3, 1)] * 2,
    (192, 3, 2),
    (192, 3, 1),
    (192, 1, 1),
]
"""Channels, kernel and stride of each convolution: All-CNN-C up to its first of 1×1."""


def test_all_cnn_is_the_published_network():
    model = randomise(
        MODELS.parse("all_cnn()").build(num_classes=10, input_shape=(3, 32, 32), seed=0)
    ).eval()
    state, inputs = model.state_dict(), noise(2, 3, 32, 32)
    x = inputs
    for number, (channels, kernel, stride) in enumerate(LAYERS):
        weight = state[f"features.{number}.0.weight"]
        assert weight.shape == (channels, x.shape[1], kernel, kernel)
        x = functional.conv2d(x, weight, stride=stride, padding=kernel // 2)
        norm = (
            state[f"features.{number}.1.{key}"]
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        x = functional.batch_norm(x, *norm).relu()
    assert x.shape == (2, 192, 8, 8)
    expected = functional.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])
    with torch.no_grad():
        torch.testing.assert_close(model(inputs), expected, rtol=1e-9, atol=1e-9)
