"""`msg` against its own steps, written out again by hand."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from eigenforget.core import seeds
from eigenforget.core.errors import Refused
from eigenforget.methods.base import Task
from eigenforget.methods.msg import MSG, convolution_weights
from tests.numerics.method_toys import SEED, batches, changed, equal_states


def mean_loss_gradients(model: nn.Module, source: object) -> dict[str, np.ndarray]:
    inputs, labels = source.inputs, source.targets  # type: ignore[attr-defined]
    loss = nn.functional.cross_entropy(model(inputs), labels)
    names, weights = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, weights)
    return {name: g.numpy() for name, g in zip(names, found, strict=True)}


def test_msg_redraws_the_weights_on_which_both_sets_agree_most(convolutions: Task) -> None:
    method, student = MSG(share=0.4), convolutions.student()
    drawn = method.redrawn(convolutions, student)
    assert set(drawn) == {"0.weight", "3.weight"} == set(convolution_weights(student))
    retain = convolutions.at_most(convolutions.needs_retain(""), 10, "msg", "retain")
    of_retain, of_forget = (
        mean_loss_gradients(convolutions.model, source) for source in (retain, convolutions.forget)
    )
    for name, new in drawn.items():
        gap = np.abs(of_retain[name] - of_forget[name])
        assert int(new.sum()) == round(0.4 * gap.size)
        assert gap[new.numpy()].max() <= gap[~new.numpy()].min()
        now, before = student.get_parameter(name), convolutions.model.get_parameter(name)
        assert torch.equal(now[~new], before[~new]) and not (now[new] == before[new]).any()
    assert changed(student, convolutions.model) == set(drawn)


def test_new_weights_are_kaiming_normal_over_the_outputs(convolutions: Task) -> None:
    wide = copy.deepcopy(convolutions.model)
    wide[3] = nn.Conv2d(3, 4, 2).double()  # type: ignore[index,operator]
    generator = seeds.generator(SEED, "msg")
    method, student = MSG(share=1.0), copy.deepcopy(wide)
    method.redrawn(replace(convolutions, model=wide), student)
    for name in ("0.weight", "3.weight"):
        weight = student.get_parameter(name)
        deviation = (2 / (weight.shape[0] * weight.shape[2] * weight.shape[3])) ** 0.5
        expected = deviation * torch.randn(weight.shape, generator=generator)
        torch.testing.assert_close(weight, expected.double(), rtol=1e-5, atol=1e-6)


def test_msg_trains_new_weights_in_full_and_the_others_slowly(convolutions: Task) -> None:
    method = MSG(
        epochs=2, batch_size=8, lr=0.05, slow=0.25, nesterov=False, weight_decay=0.01,
        schedule="constant",
    )  # fmt: skip
    result, hand = method(convolutions), convolutions.student()
    drawn = method.redrawn(convolutions, hand)
    sgd = torch.optim.SGD(hand.train().parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    for epoch in range(2):
        for batch in batches(convolutions.retain, 8, "recover", epoch):
            sgd.zero_grad()
            nn.functional.cross_entropy(hand(batch.inputs), batch.labels).backward()
            for name, new in drawn.items():
                gradient = hand.get_parameter(name).grad
                assert gradient is not None
                gradient[~new] *= 0.25
            sgd.step()
    equal_states(result, hand, convolutions.model)


def test_msg_needs_a_convolution_that_is_free(small: Task) -> None:
    with pytest.raises(Refused, match="msg draws weights of convolutions anew"):
        MSG()(small)
