"""Random changes of training images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eigenforget.core import seeds, spec
from eigenforget.data import AUGMENTS
from eigenforget.data.augment import Crop, FlipCrop, NoAugment
from tests.data.toys import refusal


def slow_flip_crop(inputs: np.ndarray, padding: int, draws: list[np.ndarray]) -> np.ndarray:
    """One sample, channel and pixel at a time."""
    out = np.zeros_like(inputs)
    count, channels, height, width = inputs.shape
    for b in range(count):
        down, right = draws[0][b] - padding, draws[1][b] - padding
        for c in range(channels):
            for i in range(height):
                for j in range(width):
                    y, x = i + down, (width - 1 - j if draws[2][b] else j) + right
                    if 0 <= y < height and 0 <= x < width:
                        out[b, c, i, j] = inputs[b, c, y, x]
    return out


@pytest.mark.parametrize(("height", "width", "padding"), [(8, 8, 2), (5, 7, 4), (6, 4, 0)])
def test_flip_crop_is_the_per_sample_loop(height, width, padding):
    inputs = torch.randn(
        40, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    before = inputs.clone()
    moved = FlipCrop(padding=padding)(inputs, seeds.generator(1, "augment"))
    same = seeds.generator(1, "augment")
    draws = [
        torch.randint(high, (40,), generator=same).numpy()
        for high in (2 * padding + 1, 2 * padding + 1, 2)
    ]
    np.testing.assert_array_equal(moved.numpy(), slow_flip_crop(inputs.numpy(), padding, draws))
    assert torch.equal(inputs, before) and 0 < draws[2].sum() < 40
    assert len(set(draws[0])) == len(set(draws[1])) == 2 * padding + 1


def test_crop_shifts_and_never_flips():
    inputs = torch.arange(50 * 64, dtype=torch.float64).view(50, 1, 8, 8)
    moved = Crop(padding=2)(inputs, seeds.generator(3, "augment"))
    same = seeds.generator(3, "augment")
    draws = [torch.randint(5, (50,), generator=same).numpy() for _ in range(2)]
    np.testing.assert_array_equal(
        moved.numpy(), slow_flip_crop(inputs.numpy(), 2, [*draws, np.zeros(50, int)])
    )


def test_augments_depend_on_the_generator_given_alone():
    inputs = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    for kind in (FlipCrop(padding=2), Crop()):
        one, two, other = (kind(inputs, seeds.generator(n, "augment")) for n in (0, 0, 1))
        assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(state, torch.get_rng_state())
    assert NoAugment()(inputs, seeds.generator(0)) is inputs
    laid_out = inputs.to(memory_format=torch.channels_last)
    assert torch.equal(Crop()(laid_out, seeds.generator(0)), Crop()(inputs, seeds.generator(0)))


def test_augment_specs_and_refusals():
    assert [
        spec.parse(name, AUGMENTS, "augment") for name in ("none", "flip_crop", "crop(padding=3)")
    ] == [
        NoAugment(),
        FlipCrop(padding=4),
        Crop(padding=3),
    ]
    flip = spec.parse("flip_crop", AUGMENTS, "augment")
    assert "needs images [B, C, H, W], got [4, 9]" in refusal(
        lambda: flip(torch.ones(4, 9), seeds.generator(0))
    )
    assert "padding=4 can move a whole 4×9 image" in refusal(
        lambda: flip(torch.ones(2, 1, 4, 9), seeds.generator(0))
    )
