"""Noise on the inputs: its size, and the accuracy of a classifier for which it is known."""

import dataclasses

import numpy as np
import torch
from scipy.stats import kstest
from torch import nn

from eigenforget.data.sources import TensorSource
from eigenforget.evaluation.audits.residual_knowledge import (
    NoisySource,
    ResidualKnowledge,
    input_range,
)
from eigenforget.evaluation.evidence import Evidence
from eigenforget.training.engine import Engine

ENGINE = Engine(device="cpu")


class Sign(nn.Module):
    """Two classes by the sign of the first input."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(1, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))
            self.head.bias.zero_()

    def forward(self, inputs):
        return self.head(inputs[:, :1])


def evidence(at, n=2000):
    """Inputs at a distance `at` from the border, in a range of 2."""
    inputs = torch.full((n, 2), at)
    inputs[:, 1] = torch.linspace(-1, 1, n)
    source = TensorSource(inputs, torch.ones(n, dtype=torch.long))
    return Evidence(Sign().eval(), {}, 2, (), sources={"forget": source}, engine=ENGINE)


def test_the_noise_is_uniform_in_its_range_and_the_samples_stay():
    source = TensorSource(torch.zeros(500, 3), torch.arange(500) % 2)
    before = source.inputs.clone()
    rows = torch.cat([b.inputs for b in NoisySource(source, 0.25, 0, 1).batches(128)])
    assert kstest(rows.flatten().numpy(), "uniform", (-0.25, 0.5)).pvalue > 1e-3
    assert torch.equal(source.inputs, before)
    again = torch.cat([b.inputs for b in NoisySource(source, 0.25, 0, 2).batches(128)])
    assert not torch.equal(rows, again)


def test_the_share_is_the_probability_of_the_interval():
    # x + u, u uniform in ±0.1 · 2: right with probability (0.1 + 0.2) / 0.4.
    found = evidence(0.1)
    assert input_range(found.sources["forget"]) == 2.0
    (score,) = ResidualKnowledge(radius=0.1, draws=4)(found, seed=0)
    assert abs(score.value - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 8000)
    assert score.low <= 0.75 <= score.high
    (near,) = ResidualKnowledge(radius=0.04, draws=2)(found, seed=0)
    assert near.value == 1.0


def test_tokens_have_no_range_to_change():
    found = evidence(0.1)
    tokens = TensorSource(torch.zeros(20, 2, dtype=torch.long), torch.ones(20, dtype=torch.long))
    (score,) = ResidualKnowledge()(dataclasses.replace(found, sources={"forget": tokens}), seed=0)
    assert score.value is None and "floating-point" in score.reason
