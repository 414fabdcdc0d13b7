"""`jit` against its own formula, written out again by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eigenforget.core import seeds
from eigenforget.methods.base import Task
from eigenforget.methods.jit import JiT, noised, ratio
from tests.numerics.method_toys import SEED, batches, equal_weights


def test_the_ratio_is_of_two_norms_and_0_without_noise() -> None:
    g = torch.Generator().manual_seed(0)
    f, moved = torch.randn(4, 3, generator=g), torch.randn(4, 3, generator=g)
    x, noisy = torch.randn(4, 2, 5, generator=g), torch.randn(4, 2, 5, generator=g)
    moved[1], noisy[2] = f[1], x[2]
    found = ratio(f.requires_grad_(True), moved, x, noisy)
    expected = [
        np.linalg.norm(a - b) / np.linalg.norm((c - d).ravel())
        for a, b, c, d in zip(*(t.detach().numpy() for t in (f, moved, x, noisy)), strict=True)
        if (c != d).any()
    ]
    expected.insert(2, 0.0)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5, atol=1e-7)
    found.sum().backward()
    assert torch.isfinite(f.grad).all() and (f.grad[1:3] == 0).all()  # type: ignore[union-attr,index]


def test_noise_is_clamped_to_the_range_of_the_batch() -> None:
    x = torch.rand(50, 8)
    noisy = noised(x, 10.0, torch.Generator().manual_seed(0))
    assert noisy.min() == x.min() and noisy.max() == x.max()


@pytest.mark.parametrize("adds_up", [False, True])
def test_jit_is_its_algorithm_written_out(adds_up: bool, shallow: Task) -> None:
    method = JiT(epochs=2, lr=0.01, batch_size=4, sigma=0.3, noises=3, adds_up=adds_up)
    hand, noise = shallow.student(), seeds.generator(SEED, "jit")
    for epoch in range(2):
        for batch in batches(shallow.forget, 4, "forget", epoch):
            x, total = batch.inputs, 0.0
            out = hand(x)
            for _ in range(3):
                xi = 0.3 * torch.randn(x.shape, generator=noise)
                moved = torch.minimum(torch.maximum(x + xi.double(), x.min()), x.max())
                for i in range(len(x)):
                    change = out[i] - hand(moved[i]).detach()
                    total = total + change.norm() / (x[i] - moved[i]).norm() / 3
            if not adds_up:
                hand.zero_grad()
            total.backward()  # type: ignore[attr-defined]
            with torch.no_grad():
                for p in hand.parameters():
                    p -= 0.01 * p.grad
    equal_weights(method(shallow), hand, shallow.model)
