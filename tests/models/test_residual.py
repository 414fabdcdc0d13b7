"""Residual networks against re-derivations in float64."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from eigenforget.core import spec
from eigenforget.models import MODELS
from eigenforget.models.residual import BasicBlock


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


def numpy_conv(inputs: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """Cross-correlation with zero padding of half the kernel, [C, H, W] -> [K, H', W'], one output
    value at a time.
    """
    edge = weight.shape[2] // 2
    padded = np.pad(inputs, ((0, 0), (edge, edge), (edge, edge)))
    height, width = (-(-side // stride) for side in inputs.shape[1:])
    out = np.empty((len(weight), height, width))
    for k in range(len(weight)):
        for i in range(height):
            for j in range(width):
                window = padded[
                    :,
                    i * stride : i * stride + weight.shape[2],
                    j * stride : j * stride + weight.shape[3],
                ]
                out[k, i, j] = (window * weight[k]).sum()
    return out


def numpy_norm(inputs: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    scale = state[f"{name}.weight"] / np.sqrt(state[f"{name}.running_var"] + 1e-5)
    shift = state[f"{name}.bias"] - scale * state[f"{name}.running_mean"]
    return inputs * scale[:, None, None] + shift[:, None, None]


@pytest.mark.parametrize(
    ("before", "after", "stride"), [(3, 3, 1), (3, 5, 1), (3, 6, 2), (4, 4, 2)]
)
def test_basic_block_is_the_numpy_formula(before, after, stride):
    block = randomise(BasicBlock(before=before, after=after, stride=stride)).eval()
    inputs = noise(2, before, 5, 6)
    state = {name: tensor.numpy() for name, tensor in block.state_dict().items()}
    assert (block.downsample is None) == (before == after and stride == 1)
    for sample, found in zip(inputs.numpy(), block(inputs).detach().numpy(), strict=True):
        hidden = np.maximum(
            numpy_norm(numpy_conv(sample, state["conv1.weight"], stride), state, "bn1"), 0
        )
        hidden = numpy_norm(numpy_conv(hidden, state["conv2.weight"], 1), state, "bn2")
        shortcut = sample
        if block.downsample is not None:
            shortcut = numpy_norm(
                numpy_conv(sample, state["downsample.0.weight"], stride), state, "downsample.1"
            )
        np.testing.assert_allclose(found, np.maximum(hidden + shortcut, 0), rtol=1e-10, atol=1e-10)


def resnet_by_hand(
    state: dict[str, torch.Tensor],
    inputs: torch.Tensor,
    *,
    stem: tuple[int, bool],
    stages: int,
    blocks: int,
):
    """The published network from its weights alone, with torchvision's names."""

    def norm(x, name):
        return functional.batch_norm(
            x,
            state[f"{name}.running_mean"],
            state[f"{name}.running_var"],
            state[f"{name}.weight"],
            state[f"{name}.bias"],
        )

    stride, pool = stem
    kernel = state["conv1.weight"]
    x = norm(
        functional.conv2d(inputs, kernel, stride=stride, padding=kernel.shape[2] // 2), "bn1"
    ).relu()
    x = functional.max_pool2d(x, 3, 2, 1) if pool else x
    for stage in range(1, stages + 1):
        for block in range(blocks):
            name, step = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = norm(
                functional.conv2d(x, state[f"{name}.conv1.weight"], stride=step, padding=1),
                f"{name}.bn1",
            ).relu()
            y = norm(functional.conv2d(y, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if step == 2:
                x = norm(
                    functional.conv2d(x, state[f"{name}.downsample.0.weight"], stride=2),
                    f"{name}.downsample.1",
                )
            x = (x + y).relu()
    return functional.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize(
    ("text", "stem", "stages", "blocks"),
    [
        ("resnet18", (1, False), 4, 2),
        ('resnet18(stem="imagenet")', (2, True), 4, 2),
        ("small_resnet(width=6, stem_stride=2)", (2, False), 3, 1),
        ("small_resnet(width=6, blocks=2)", (1, False), 3, 2),
    ],
)
def test_residual_networks_are_the_published_ones(text, stem, stages, blocks):
    model = randomise(build(text)).eval()
    inputs = noise(2, 3, 32, 32)
    with torch.no_grad():
        expected = resnet_by_hand(
            model.state_dict(), inputs, stem=stem, stages=stages, blocks=blocks
        )
        torch.testing.assert_close(model(inputs), expected, rtol=1e-9, atol=1e-9)


def test_convolutions_start_from_hes_distribution():
    weight = build("resnet18").get_parameter("layer3.0.conv1.weight")
    assert weight.std().item() == pytest.approx(sqrt(2 / (256 * 9)), rel=0.01)
