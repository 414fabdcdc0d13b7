"""Rounded weights against torch's own quantiser, and a class that rounding brings back."""

import copy
import dataclasses

import torch
from torch import nn

from eigenforget.evaluation.audits.quantised import QuantisedWeights, round_weights
from tests.toys import ENGINE, GONE, evidence, net, world


def test_the_weights_are_those_of_torch_and_the_rest_stays():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(8, 5))
    before = copy.deepcopy(model)
    round_weights(model, 8)
    for index in (0, 3):
        weight = before[index].weight.detach()
        scale = weight.flatten(1).abs().amax(dim=1) / 127
        expected = torch.fake_quantize_per_channel_affine(
            weight, scale, torch.zeros(len(weight), dtype=torch.int32), 0, -127, 127
        )
        assert torch.allclose(model[index].weight, expected, atol=1e-6)
        assert torch.equal(model[index].bias, before[index].bias)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            model[1].state_dict().values(), before[1].state_dict().values(), strict=True
        )
    )


def test_more_bits_change_less_and_an_empty_channel_stays_0():
    errors = []
    for bits in (2, 4, 8, 16):
        layer = nn.Linear(6, 3)
        torch.manual_seed(0)
        nn.init.normal_(layer.weight)
        layer.weight.data[1] = 0.0
        before = layer.weight.detach().clone()
        round_weights(layer, bits)
        assert not layer.weight[1].any()
        errors.append(float((layer.weight.detach() - before).abs().max()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-4 < errors[0]


def test_a_change_below_the_steps_of_8_bits_is_undone():
    """The original with a small change of the last weights; rounding gives the original's answers."""
    found = evidence(world())
    rounded = copy.deepcopy(found.model)
    round_weights(rounded, 8)
    hidden = copy.deepcopy(rounded)
    head = hidden[4].weight
    with torch.no_grad():
        step = head.abs().amax(dim=1, keepdim=True) / 127
        inner = head.abs() < 0.99 * head.abs().amax(dim=1, keepdim=True)
        head += torch.where(inner, -0.4 * step * head[2].sign(), torch.zeros_like(head))
    of_hidden = QuantisedWeights()(dataclasses.replace(found, model=hidden), seed=0)
    of_rounded = QuantisedWeights(bits=16)(dataclasses.replace(found, model=rounded), seed=0)
    assert [s.value for s in of_hidden] == [s.value for s in of_rounded]
    assert of_hidden[0].value > 0.8 and found.forgotten_classes == GONE


def test_the_model_stays_as_it_is():
    model = net()
    before = copy.deepcopy(model.state_dict())
    QuantisedWeights(bits=3)(
        dataclasses.replace(evidence(world()), model=model, engine=ENGINE), seed=0
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
